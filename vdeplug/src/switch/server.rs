//! [`Server`]: the control directory of a switch, where other processes join.
//!
//! One thread per switch waits on an epoll instance for new clients, their requests, their frames
//! and room for their backlog. A client is a stream (open while it is joined) and a datagram
//! socket `fdN` in the directory, connected to the socket that the client named in its request;
//! a plug of this library has shared memory too (`shared/`).
//! See `vde/wire.rs` for the bytes.

use std::{
    collections::HashMap,
    fs::{self, Permissions},
    io::{self, IoSlice, Read, Write},
    mem,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::PermissionsExt,
            net::{UnixDatagram, UnixListener, UnixStream},
        },
    },
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        eventfd::{EfdFlags, EventFd},
        signal::SigSet,
        socket::{ControlMessage, MsgFlags, getsockopt, sendmsg, setsockopt, sockopt},
    },
    unistd::{Gid, Uid, chown},
};

use crate::{
    frame::Frame,
    intake::Intake,
    outlet::Outlet,
    shared::{self, End, Line, memory::Memory},
    switch::{
        fabric::{Fabric, Run, Slot},
        layout::{Endpoint, Guest},
        port::Port,
    },
    vde::{
        handshake::{BoundPath, is_transient},
        wire::{LONGEST_REQUEST, Malformed, Request, encode_address},
    },
};

const LISTENER: u64 = 0;
const STOP: u64 = 1;
/// Clients that may be about to ask; when there are more, the one that came first has to go.
const MOST_ASKING: usize = 64;
/// Clients of one switch; more are turned away.
const MOST_CLIENTS: usize = 2048;
/// Frames that are read from one client before the others have their turn.
const TURN: usize = 256;
/// Room for bursts towards a client; the system may grant less.
const SEND_BUFFER: usize = 1 << 20;
/// The pause after a failure that waiting may cure, such as a lack of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Who may join.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access {
    pub(crate) mode: u32,
    pub(crate) group: Option<Gid>,
}

impl Access {
    /// Sets the permissions of a socket in the file system.
    pub(crate) fn apply(self, path: &std::path::Path) -> io::Result<()> {
        if self.group.is_some() {
            chown(path, None, self.group)?;
        }
        fs::set_permissions(path, Permissions::from_mode(self.mode))
    }
}

/// The thread that serves clients; dropping it makes them leave.
#[derive(Debug)]
pub(crate) struct Server {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts to serve the clients of `fabric` that come to `listener` in `directory`.
    pub(crate) fn start(
        fabric: Arc<Fabric>,
        listener: UnixListener,
        directory: PathBuf,
        access: Access,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        epoll.add(&*stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        let worker = Worker {
            fabric,
            listener,
            directory,
            access,
            epoll,
            stop: Arc::clone(&stop),
            clients: HashMap::new(),
            next: 0,
            runs: Vec::new(),
            frames: Vec::new(),
            moved: 0,
            unfinished: Vec::new(),
        };
        let thread = thread::Builder::new().name("vde-switch".into()).spawn(|| worker.run())?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = self.stop.write(1).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| stopped) {
            let _ = thread.join();
        }
    }
}

struct Worker {
    fabric: Arc<Fabric>,
    listener: UnixListener,
    directory: PathBuf,
    access: Access,
    epoll: Arc<Epoll>,
    /// Kept open until the thread ends.
    stop: Arc<EventFd>,
    clients: HashMap<u64, Client>,
    next: u64,
    runs: Vec<Run>,
    /// What came from a client; empty between turns.
    frames: Vec<Frame>,
    /// How many frames came in this round.
    moved: usize,
    /// Tokens of clients who have more for us, of which nothing else will tell.
    unfinished: Vec<u64>,
}

struct Client {
    stream: UnixStream,
    stage: Stage,
}

enum Stage {
    /// So much of the request has come.
    Asking(Vec<u8>),
    Joined(Joined),
}

struct Joined {
    slot: Slot,
    port: Arc<Port>,
    _path: BoundPath,
}

/// The client is to be forgotten.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl Worker {
    fn run(mut self) {
        // Signals are the business of the program's own threads.
        let _ = SigSet::all().thread_block();
        let mut events = [EpollEvent::empty(); 64];
        let mut intake = Intake::new();
        loop {
            let idle = self.unfinished.is_empty();
            let timeout = if idle { EpollTimeout::NONE } else { EpollTimeout::ZERO };
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "the switch no longer serves other processes");
                    break;
                }
            };
            for event in &events[..count] {
                match event.data() {
                    LISTENER => self.accept(),
                    STOP => return self.close(),
                    token => self.serve(token, event.events(), &mut intake),
                }
            }
            for token in mem::take(&mut self.unfinished) {
                self.serve(token, EpollFlags::EPOLLIN, &mut intake);
            }
            // The clients whose queues are full or empty run first: then a round moves more frames,
            // and each of them costs less.
            if mem::take(&mut self.moved) > 0 {
                thread::yield_now();
            }
        }
        self.close();
    }

    fn close(mut self) {
        let ids: Vec<_> = self.clients.keys().copied().collect();
        ids.into_iter().for_each(|id| self.forget(id));
        drop(self.stop);
    }

    fn accept(&mut self) {
        let accepted = match self.listener.accept() {
            Ok((stream, _)) => stream.set_nonblocking(true).map(|()| stream),
            Err(error) if is_transient(&error) => return,
            Err(error) => Err(error),
        };
        self.make_room();
        if self.clients.len() >= MOST_CLIENTS {
            return;
        }
        let watched = accepted.and_then(|stream| {
            self.next += 1;
            let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
            self.epoll.add(&stream, EpollEvent::new(interest, stream_token(self.next)))?;
            Ok(stream)
        });
        match watched {
            Ok(stream) => {
                let stage = Stage::Asking(Vec::new());
                self.clients.insert(self.next, Client { stream, stage });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                thread::sleep(PAUSE);
            }
        }
    }

    /// Lets go of a client that has not asked, when there are many: anybody may connect.
    fn make_room(&mut self) {
        let asking = |client: &Client| matches!(client.stage, Stage::Asking(_));
        let waiting = || self.clients.iter().filter(|(_, client)| asking(client));
        if waiting().count() < MOST_ASKING {
            return;
        }
        if let Some(oldest) = waiting().map(|(id, _)| *id).min() {
            self.forget(oldest);
        }
    }

    fn serve(&mut self, token: u64, events: EpollFlags, intake: &mut Intake) {
        let id = token / 2;
        let Self { clients, frames, runs, moved, unfinished, .. } = self;
        // An earlier event of the same round may have removed the client.
        let Some(client) = clients.get_mut(&id) else { return };
        let done = match &mut client.stage {
            Stage::Joined(joined) if token == data_token(id) => {
                let received = match joined.port.line() {
                    Some(line) => {
                        line.receive(TURN, &mut |frame| frames.push(frame)).map_err(|_| Gone)
                    }
                    None => transfer(joined, events, intake, frames).map(|()| 0),
                };
                if received == Ok(TURN) && !unfinished.contains(&token) {
                    unfinished.push(token);
                }
                *moved += frames.len();
                self.fabric.forward(joined.slot, frames, runs, &joined.port.drops);
                received.map(drop)
            }
            Stage::Joined(_) => discard(&mut client.stream),
            Stage::Asking(request) => match read_request(&mut client.stream, request) {
                Ok(None) => Ok(()),
                Ok(Some(request)) => self.join(id, &request).map_err(|error| {
                    tracing::warn!(client = request.description, %error, "cannot admit a client");
                    Gone
                }),
                Err(Gone) => Err(Gone),
            },
        };
        if let Err(Gone) = done {
            self.forget(id);
        }
    }

    fn join(&mut self, id: u64, request: &Request) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(&id) else { return Ok(()) };
        let guest = guest(&client.stream, id, request)?;
        let bridge = self.fabric.bridge();
        let number = bridge.map(|bridge| bridge.layout.read().choose(&guest)).transpose()?;
        let path = self.directory.join(match number {
            Some(number) => format!("{number:03}.{id}"),
            None => format!("fd{id}"),
        });
        let reply = encode_address(&path).ok_or(Errno::ENAMETOOLONG)?;
        // A former owner of the directory may have died without removing its sockets.
        let _ = fs::remove_file(&path);
        let data = UnixDatagram::bind(&path)?;
        let path = BoundPath(path);
        self.access.apply(&path.0)?;
        data.connect(&request.address)?;
        data.set_nonblocking(true)?;
        let _ = setsockopt(&data, sockopt::SndBuf, &SEND_BUFFER);
        let (port, memory) = port(data.into(), (Arc::clone(&self.epoll), id), request.shared)?;
        let port = Arc::new(port);
        let slot = self.fabric.admit(Arc::clone(&port), number.unwrap_or_default(), guest);
        client.stage = Stage::Joined(Joined { slot, port, _path: path });
        answer(&client.stream, &reply, memory)?;
        tracing::debug!(client = request.description, slot, "a client joined the switch");
        Ok(())
    }

    fn forget(&mut self, id: u64) {
        if let Some(client) = self.clients.remove(&id) {
            let _ = self.epoll.delete(&client.stream);
            if let Stage::Joined(joined) = client.stage {
                self.fabric.detach(joined.slot);
            }
        }
    }
}

/// Makes the port of a client, with memory to share if it asked for that.
fn port(
    data: OwnedFd,
    (epoll, id): (Arc<Epoll>, u64),
    shared: bool,
) -> io::Result<(Port, Option<OwnedFd>)> {
    let memory = if shared { Memory::create(shared::WORDS).map(Some) } else { Ok(None) };
    let memory = memory.unwrap_or_else(|error| {
        tracing::warn!(%error, "no memory to share with a client");
        None
    });
    let token = data_token(id);
    match memory {
        Some((memory, file)) => {
            let line = Line::new(data, (epoll, token), Arc::new(memory), End::Switch)?;
            Ok((Port::shared(line), Some(file)))
        }
        None => Ok((Port::remote(Outlet::new(data, epoll, token)?), None)),
    }
}

/// Sends the reply to a request. The descriptor goes with its first byte, so that it is ours no
/// more when the client has the last.
fn answer(mut stream: &UnixStream, reply: &[u8], memory: Option<OwnedFd>) -> io::Result<()> {
    let Some(memory) = memory else { return stream.write_all(reply) };
    let numbers = [memory.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&numbers)];
    let (first, rest) = reply.split_at(1);
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(first)], &control, flags, None)?;
    drop(memory);
    stream.write_all(rest)
}

/// Who asks: the request, and what the system knows about its sender.
fn guest(stream: &UnixStream, id: u64, request: &Request) -> io::Result<Guest> {
    let peer = getsockopt(stream, sockopt::PeerCredentials)?;
    let endpoint = Endpoint {
        slot: 0,
        id,
        module: "unix prog",
        description: request.description.clone(),
        user: Uid::from_raw(peer.uid()),
        stream: Some(stream.try_clone()?),
    };
    let group = Gid::from_raw(peer.gid());
    Ok(Guest { port: request.port, endpoint, group })
}

fn stream_token(id: u64) -> u64 {
    id * 2
}

fn data_token(id: u64) -> u64 {
    id * 2 + 1
}

/// Reads on; the request, once it is whole. At most twice the longest request is held.
pub(crate) fn read_request(
    stream: &mut UnixStream,
    request: &mut Vec<u8>,
) -> Result<Option<Request>, Gone> {
    let mut bytes = [0; LONGEST_REQUEST];
    match stream.read(&mut bytes) {
        Ok(0) => return Err(Gone),
        Ok(count) => request.extend_from_slice(&bytes[..count]),
        Err(error) if is_transient(&error) => return Ok(None),
        Err(_) => return Err(Gone),
    }
    match Request::decode(request) {
        Ok(request) => Ok(Some(request)),
        Err(Malformed::Short) if request.len() < LONGEST_REQUEST => Ok(None),
        Err(Malformed::Short | Malformed::Foreign) => Err(Gone),
    }
}

/// Reads what nobody expects; the end of the stream is the end of the client.
fn discard(stream: &mut UnixStream) -> Result<(), Gone> {
    match stream.read(&mut [0; 256]) {
        Ok(0) => Err(Gone),
        Ok(_) => Ok(()),
        Err(error) if is_transient(&error) => Ok(()),
        Err(_) => Err(Gone),
    }
}

/// Sends what waits for a client and reads what it sends, as far as it is ready.
fn transfer(
    joined: &Joined,
    events: EpollFlags,
    intake: &mut Intake,
    frames: &mut Vec<Frame>,
) -> Result<(), Gone> {
    let drops = &joined.port.drops;
    let Some(outlet) = joined.port.outlet() else { return Err(Gone) };
    if events.contains(EpollFlags::EPOLLOUT) {
        outlet.flush(drops);
    }
    if events == EpollFlags::EPOLLOUT {
        return Ok(());
    }
    intake.receive(outlet.socket(), TURN, drops, frames).map_err(|_| Gone)
}
