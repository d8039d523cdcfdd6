//! The bridge against a scripted stack: a guest's descriptor behaves like a TCP socket's.

use std::{
    collections::VecDeque,
    io,
    net::{TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::mpsc,
};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use umvu_abi::{
    GuestAddr, SockAddr, Tid,
    module::Mounted,
    net::{Accepted, NetStack, StreamState},
};
use umvu_tracer::api::{Action, Answer, Completer, FileIdentity, Guest, Syscall};

use super::*;
use crate::view::Ownership;

/// A stack whose one stream does what the test says.
#[derive(Clone, Default)]
struct Script {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    state: Option<StreamState>,
    /// The handshake has ended when it is asked for the second time.
    prompt: bool,
    sent: Vec<u8>,
    to_receive: VecDeque<u8>,
    finished: bool,
    reset: bool,
    closed: bool,
    events: Option<Arc<dyn SocketEvents>>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

impl Script {
    fn set(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.inner.lock();
        change(&mut inner);
        let events = inner.events.clone();
        drop(inner);
        if let Some(events) = events {
            events.changed();
        }
    }

    fn wait(&self, condition: impl Fn(&Inner) -> bool) {
        while !condition(&self.inner.lock()) {
            std::thread::yield_now();
        }
    }
}

impl NetStack for Script {
    fn supports(&self, _domain: i32) -> bool {
        true
    }

    fn socket(
        &self,
        _spec: &SocketSpec,
        events: Arc<dyn SocketEvents>,
    ) -> Result<NewSocket, Errno> {
        self.inner.lock().events = Some(events);
        Ok(NewSocket::Stream(Arc::new(self.clone())))
    }
}

impl Socket for Script {
    fn bind(&self, _addr: &SockAddr) -> Result<(), Errno> {
        Ok(())
    }

    fn local(&self) -> Result<SockAddr, Errno> {
        Ok(SockAddr::any(2))
    }

    fn set_option(&self, _level: i32, _name: i32, _value: &[u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn option(&self, _level: i32, _name: i32, _given: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::ENOPROTOOPT)
    }

    fn close(&self) {
        self.inner.lock().closed = true;
    }
}

impl StreamSocket for Script {
    fn state(&self) -> StreamState {
        let mut inner = self.inner.lock();
        let state = inner.state.unwrap_or(StreamState::Fresh);
        if inner.prompt && state == StreamState::Connecting {
            inner.state = Some(StreamState::Established { peer_closed: false });
        }
        state
    }

    fn connect(&self, _addr: &SockAddr) -> Result<(), Errno> {
        self.inner.lock().state = Some(StreamState::Connecting);
        Ok(())
    }

    fn listen(&self, _backlog: u32) -> Result<(), Errno> {
        Ok(())
    }

    fn accept(&self, _events: &mut dyn FnMut() -> Arc<dyn SocketEvents>) -> Option<Accepted> {
        None
    }

    fn transmit(&self, fill: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        let mut room = vec![0; 65536];
        let count = fill(&mut room)?;
        self.inner.lock().sent.extend_from_slice(&room[..count]);
        Ok(count)
    }

    fn receive(&self, drain: &mut dyn FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
        let mut inner = self.inner.lock();
        let data: Vec<u8> = inner.to_receive.iter().copied().collect();
        if data.is_empty() {
            return Ok(0);
        }
        let count = drain(&data)?;
        inner.to_receive.drain(..count);
        Ok(count)
    }

    fn finish(&self) -> Result<(), Errno> {
        self.inner.lock().finished = true;
        Ok(())
    }

    fn reset(&self) {
        self.inner.lock().reset = true;
    }

    fn wants_data(&self) -> bool {
        true
    }
}

/// A guest that is this very process and has one descriptor.
struct Own(Arc<Mutex<Option<OwnedFd>>>);

impl Guest for Own {
    fn tid(&self) -> Tid {
        Tid(0)
    }

    fn read(&self, _from: GuestAddr, _buffer: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::EFAULT)
    }

    fn read_some(&self, _from: GuestAddr, _buffer: &mut [u8]) -> Result<usize, Errno> {
        Err(Errno::EFAULT)
    }

    fn write(&self, _to: GuestAddr, _data: &[u8]) -> Result<(), Errno> {
        Err(Errno::EFAULT)
    }

    fn read_string(&self, _from: GuestAddr, _limit: usize) -> Result<Vec<u8>, Errno> {
        Err(Errno::EFAULT)
    }

    fn fetch_fd(&self, _fd: GuestFd) -> Result<OwnedFd, Errno> {
        Ok(self.0.lock().as_ref().ok_or(Errno::EBADF)?.try_clone()?)
    }

    fn identify_fd(&self, fd: GuestFd) -> Result<FileIdentity, Errno> {
        let copy = self.fetch_fd(fd)?;
        let stat = nix::sys::stat::fstat(&copy).map_err(unix::errno)?;
        Ok(FileIdentity { dev: stat.st_dev, ino: stat.st_ino, mode: stat.st_mode })
    }

    fn fd_link(&self, _fd: GuestFd) -> Result<Vec<u8>, Errno> {
        Err(Errno::EBADF)
    }

    fn cwd_link(&self) -> Result<Vec<u8>, Errno> {
        Err(Errno::EBADF)
    }

    fn signal(&self, _signal: i32) {}
}

struct Report(mpsc::Sender<Action>);

impl Answer for Report {
    fn answer(self: Box<Self>, action: Action) {
        let _ = self.0.send(action);
    }

    fn cancelled(&self) -> bool {
        false
    }
}

struct Bench {
    sockets: Sockets,
    script: Script,
    guest: OwnedFd,
    own: Arc<Mutex<Option<OwnedFd>>>,
    answers: mpsc::Receiver<Action>,
    call: Call,
    run_dir: RunDir,
    _reactor: Reactor,
}

impl Bench {
    fn new(nonblocking: bool) -> Self {
        let reactor = Reactor::start("test").expect("epoll works");
        let run_dir = RunDir::create().expect("a private directory");
        let sockets = Sockets::new(&reactor, &run_dir).expect("sockets");
        let script = Script::default();
        let mount = Arc::new(Mount::for_tests(
            Mounted::Stack(Arc::new(script.clone())),
            Ownership { mode: 0o777, uid: 0, gid: 0 },
        ));
        let spec = SocketSpec { domain: 2, kind: 1, protocol: 0 };
        let guest = sockets.create(&mount, spec, nonblocking, 1).expect("a socket");
        let copy = guest.try_clone().expect("a duplicate");
        let own = Arc::new(Mutex::new(Some(copy)));
        let (sender, answers) = mpsc::channel();
        let sender = Mutex::new(sender);
        let call = Call {
            syscall: Syscall { number: 0, args: [0; 6] },
            guest: Arc::new(Own(Arc::clone(&own))),
            defer: Arc::new(move || Completer::new(Box::new(Report(sender.lock().clone())))),
        };
        Self { sockets, script, guest, own, answers, call, run_dir, _reactor: reactor }
    }

    fn connect(&self) -> Action {
        self.try_connect().expect("it starts")
    }

    fn try_connect(&self) -> Result<Action, Errno> {
        let found = self.sockets.fetch(&self.call, GuestFd(0)).expect("open");
        let (one, guest) = found.expect("it is virtual");
        let Kind::Stream(stream) = &one.kind else { panic!("a stream") };
        let addr = SockAddr::any(2);
        stream.connect(&one, self.sockets.hub(), (&self.call, guest), &addr, None)
    }

    fn established(nonblocking: bool) -> Self {
        let bench = Self::new(nonblocking);
        let _ = bench.connect();
        bench.script.set(|inner| {
            inner.state = Some(StreamState::Established { peer_closed: false });
        });
        if !nonblocking {
            assert!(matches!(bench.answers.recv(), Ok(Action::Return(_))));
        }
        bench
    }
}

fn mask(fd: BorrowedFd<'_>) -> EpollFlags {
    let epoll = Epoll::new(EpollCreateFlags::empty()).expect("epoll works");
    let asked = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP;
    epoll.add(fd, EpollEvent::new(asked, 0)).expect("a pollable descriptor");
    let mut events = [EpollEvent::empty()];
    match epoll.wait(&mut events, EpollTimeout::ZERO) {
        Ok(1) => events[0].events(),
        _ => EpollFlags::empty(),
    }
}

/// Waits until the guest's descriptor polls as a real socket does in the same state.
fn becomes_like(virtual_socket: &OwnedFd, real: &impl AsFd) {
    while mask(virtual_socket.as_fd()) != mask(real.as_fd()) {
        std::thread::yield_now();
    }
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    (client, listener.accept().expect("a client waits").0)
}

#[test]
fn a_connecting_socket_polls_nothing_and_then_writable() {
    let bench = Bench::new(true);
    let Action::Return(reply) = bench.connect() else { panic!("answered at once") };
    assert_eq!(reply.result, Err(Errno::EINPROGRESS));
    assert_eq!(mask(bench.guest.as_fd()), EpollFlags::empty());
    bench.script.set(|inner| {
        inner.state = Some(StreamState::Established { peer_closed: false });
    });
    let (client, _server) = tcp_pair();
    becomes_like(&bench.guest, &client);
}

#[test]
fn a_handshake_that_ends_during_the_call_leaves_a_writable_socket() {
    let bench = Bench::new(true);
    bench.script.inner.lock().prompt = true;
    let Action::Return(reply) = bench.connect() else { panic!("answered at once") };
    assert_eq!(reply.result, Err(Errno::EINPROGRESS));
    let (client, _server) = tcp_pair();
    assert_eq!(mask(bench.guest.as_fd()), mask(client.as_fd()));
}

#[test]
fn bytes_travel_both_ways() {
    let bench = Bench::established(false);
    unix::send(&bench.guest, b"question").expect("room");
    bench.script.wait(|inner| inner.sent == b"question");
    bench.script.set(|inner| inner.to_receive.extend(b"answer"));
    let mut buffer = [0; 64];
    let count = nix::unistd::read(&bench.guest, &mut buffer).expect("data comes");
    assert_eq!(&buffer[..count], b"answer");
}

#[test]
fn the_peers_fin_shows_as_end_of_file() {
    let bench = Bench::established(true);
    bench.script.set(|inner| {
        inner.state = Some(StreamState::Established { peer_closed: true });
    });
    let (client, server) = tcp_pair();
    server.shutdown(std::net::Shutdown::Write).expect("connected");
    becomes_like(&bench.guest, &client);
}

#[test]
fn a_reset_gives_econnreset_and_then_epipe() {
    let bench = Bench::established(false);
    bench.script.set(|inner| inner.state = Some(StreamState::Broken(Errno::ECONNRESET)));
    let mut buffer = [0; 8];
    let error = nix::unistd::read(&bench.guest, &mut buffer).expect_err("reset");
    assert_eq!(error, nix::errno::Errno::ECONNRESET);
    let error = unix::send(&bench.guest, b"x").expect_err("broken");
    assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
}

#[test]
fn a_refused_connection_polls_as_tcp_does() {
    let bench = Bench::new(true);
    let _ = bench.connect();
    bench.script.set(|inner| inner.state = Some(StreamState::Refused(Errno::ECONNREFUSED)));
    let tcp = SockType::Stream;
    let family = nix::sys::socket::AddressFamily::Inet;
    let flags = nix::sys::socket::SockFlag::SOCK_NONBLOCK;
    let real = nix::sys::socket::socket(family, tcp, flags, None).expect("a socket");
    let nowhere = nix::sys::socket::SockaddrIn::new(127, 0, 0, 1, 1);
    let _ = nix::sys::socket::connect(real.as_raw_fd(), &nowhere);
    becomes_like(&bench.guest, &real);
}

#[test]
fn a_refused_socket_gets_a_fresh_end_to_connect_again() {
    let mut bench = Bench::new(true);
    let _ = bench.connect();
    bench.script.set(|inner| inner.state = Some(StreamState::Refused(Errno::ECONNREFUSED)));
    let failed = || bench.try_connect().err().filter(|errno| *errno != Errno::EALREADY);
    let said = std::iter::repeat_with(failed).find_map(|errno| errno);
    assert_eq!(said, Some(Errno::ECONNABORTED));
    // The guest may never get the first one: a signal has come.
    assert!(matches!(bench.connect(), Action::Renew(_)));
    bench.sockets.sweep();
    let Action::Renew(renewal) = bench.connect() else { panic!("another end") };
    bench.guest = renewal.fd.try_clone().expect("a duplicate");
    *bench.own.lock() = Some(renewal.fd);
    bench.sockets.sweep();
    let Action::Return(reply) = bench.connect() else { panic!("answered at once") };
    assert_eq!(reply.result, Err(Errno::EINPROGRESS));
    bench.script.set(|inner| {
        inner.state = Some(StreamState::Established { peer_closed: false });
    });
    let (client, _server) = tcp_pair();
    becomes_like(&bench.guest, &client);
}

#[test]
fn the_guests_shutdown_becomes_fin_and_its_close_ends_the_stream() {
    let Bench { sockets, script, guest, own, run_dir, _reactor, .. } = Bench::established(false);
    unix::shutdown_write(&guest);
    script.wait(|inner| inner.finished);
    drop((guest, own.lock().take()));
    script.wait(|inner| inner.closed);
    drop((sockets, run_dir));
}

#[test]
fn a_close_with_unread_data_resets() {
    let Bench { sockets, script, guest, own, run_dir, _reactor, .. } = Bench::established(false);
    script.set(|inner| inner.to_receive.extend(b"never read"));
    script.wait(|inner| inner.to_receive.is_empty());
    drop((guest, own.lock().take()));
    script.wait(|inner| inner.reset);
    drop((sockets, run_dir));
}
