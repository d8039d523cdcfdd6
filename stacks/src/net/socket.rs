//! A socket of any family on any stack, with calls that wait.

use std::{
    fmt, io,
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use umvu_abi::{
    Errno, SockAddr,
    net::{NetStack, NewSocket, SendControl, Shutdown, SocketSpec},
};

use super::{
    bell::{Bell, Watcher},
    datagram::Datagrams,
    endpoint::{Endpoint, Interest, Readiness, Received, Take},
    halt::Halt,
    kernel::Kernel,
    stack::Stack,
    stream::Stream,
};

/// A socket as socket(2) makes it: of any address family, type and protocol that its stack serves.
///
/// Calls wait like those of the kernel, unless [`set_nonblocking`](Self::set_nonblocking) or a
/// timeout says otherwise; any number of threads may wait for one socket. A clone is another
/// handle of the same socket; the last one closes it. Errors are those of the system calls, by
/// their numbers ([`io::Error::raw_os_error`]), and `ENETDOWN` once the stack was stopped.
///
/// For TCP and UDP there are [`TcpStream`](super::TcpStream), [`TcpListener`](super::TcpListener)
/// and [`UdpSocket`](super::UdpSocket); this type is for what they do not offer: ping, raw and
/// packet sockets, netlink, options, control messages, readiness.
///
/// ```
/// use umvu_stacks::net::{SockAddr, Socket, Stack};
///
/// // The netlink socket of a stack that has nothing but `lo`.
/// let stack = Stack::open("smoltcp", "")?;
/// let socket = Socket::open(&stack, libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
/// socket.bind(&SockAddr::Netlink { pid: 0, groups: 0 })?;
/// assert!(matches!(socket.local_addr()?, SockAddr::Netlink { pid: 1.., .. }));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Socket {
    core: Arc<Core>,
}

struct Core {
    end: Box<dyn Endpoint>,
    spec: SocketSpec,
    halt: Halt,
    nonblocking: AtomicBool,
    read_timeout: Mutex<Option<Duration>>,
    write_timeout: Mutex<Option<Duration>>,
    /// Keeps the stack alive; dropped after the socket.
    stack: Option<Stack>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("spec", &self.core.spec)
            .field("local", &self.core.end.local())
            .finish_non_exhaustive()
    }
}

/// How long a call may wait.
#[derive(Debug, Clone, Copy)]
enum Patience {
    /// Not at all.
    None,
    /// Until the instant, or for ever.
    Until(Option<Instant>),
}

impl Socket {
    /// Makes a socket. Errors: `EAFNOSUPPORT`, `ESOCKTNOSUPPORT`, `EPROTONOSUPPORT`, as socket(2).
    pub fn open(stack: &Stack, domain: i32, kind: i32, protocol: i32) -> io::Result<Self> {
        let spec = SocketSpec { domain, kind, protocol };
        let end = make(stack.net_stack(), &spec, stack.halt())?;
        Ok(Self::assemble(end, spec, stack.halt().clone(), Some(stack.clone())))
    }

    /// Makes a socket of a bare stack, which the caller keeps running; `halt` ends all waits.
    /// Errors: as [`open`](Self::open).
    pub fn on(stack: &dyn NetStack, spec: SocketSpec, halt: &Halt) -> io::Result<Self> {
        Ok(Self::assemble(make(stack, &spec, halt)?, spec, halt.clone(), None))
    }

    fn assemble(
        end: Box<dyn Endpoint>,
        spec: SocketSpec,
        halt: Halt,
        stack: Option<Stack>,
    ) -> Self {
        let core = Core {
            end,
            spec,
            halt,
            nonblocking: AtomicBool::new(false),
            read_timeout: Mutex::new(None),
            write_timeout: Mutex::new(None),
            stack,
        };
        Self { core: Arc::new(core) }
    }

    pub(super) fn halt(&self) -> &Halt {
        &self.core.halt
    }

    fn end(&self) -> &dyn Endpoint {
        &*self.core.end
    }

    /// Tries until it works, or until patience is at its end: `EAGAIN`.
    fn attempt<T>(
        &self,
        interest: Interest,
        patience: Patience,
        mut call: impl FnMut(&dyn Endpoint) -> Result<T, Errno>,
    ) -> io::Result<T> {
        loop {
            if self.core.halt.is_stopped() {
                return Err(Errno::ENETDOWN.into());
            }
            let mark = self.end().mark();
            let result = match &self.core.stack {
                Some(stack) => stack.on_behalf(|| call(self.end())),
                None => call(self.end()),
            };
            match (result, patience) {
                (Err(Errno::EAGAIN), Patience::Until(deadline)) => {
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        return Err(Errno::EAGAIN.into());
                    }
                    self.end().wait(mark, interest, deadline)?;
                }
                (Err(Errno::EINTR), _) => {}
                (result, _) => return result.map_err(io::Error::from),
            }
        }
    }

    fn patience(&self, timeout: &Mutex<Option<Duration>>) -> Patience {
        if self.core.nonblocking.load(Ordering::Relaxed) {
            return Patience::None;
        }
        Patience::Until(timeout.lock().and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    fn to_read(&self) -> Patience {
        self.patience(&self.core.read_timeout)
    }

    fn to_write(&self) -> Patience {
        self.patience(&self.core.write_timeout)
    }

    /// What it was made as.
    #[must_use]
    pub fn spec(&self) -> SocketSpec {
        self.core.spec
    }

    /// bind(2). Errors: `EADDRINUSE`, `EADDRNOTAVAIL`, `EINVAL`.
    pub fn bind(&self, addr: &SockAddr) -> io::Result<()> {
        self.end().bind(addr).map_err(io::Error::from)
    }

    /// connect(2): waits for a TCP connection; sets the default destination of other sockets,
    /// which [`SockAddr::Unspec`] takes away. Errors: `ECONNREFUSED`, `ETIMEDOUT`, `ENETUNREACH`,
    /// `EHOSTUNREACH`; `EINPROGRESS` when the connection is under way and the socket is
    /// non-blocking or its write timeout has passed.
    pub fn connect(&self, addr: &SockAddr) -> io::Result<()> {
        self.connect_within(addr, self.to_write(), Errno::EINPROGRESS)
    }

    /// connect(2) that gives up: `ETIMEDOUT` when the connection does not stand in time.
    pub fn connect_timeout(&self, addr: &SockAddr, timeout: Duration) -> io::Result<()> {
        let patience = Patience::Until(Instant::now().checked_add(timeout));
        self.connect_within(addr, patience, Errno::ETIMEDOUT)
    }

    fn connect_within(&self, addr: &SockAddr, patience: Patience, late: Errno) -> io::Result<()> {
        match self.attempt(Interest::Write, Patience::None, |end| end.connect(addr)) {
            Err(error) if Errno::from_io(&error) == Errno::EINPROGRESS => {}
            other => return other,
        }
        let done = self.attempt(Interest::Write, patience, |end| end.connected());
        done.map_err(|error| if is(&error, Errno::EAGAIN) { late.into() } else { error })
    }

    /// listen(2). Errors: `EOPNOTSUPP` when it is no stream, `EADDRINUSE`, `EINVAL`.
    pub fn listen(&self, backlog: u32) -> io::Result<()> {
        self.end().listen(backlog).map_err(io::Error::from)
    }

    /// accept(2): waits for a connection; gives it with the peer's address. Errors: `EINVAL` when
    /// the socket does not listen, or no longer; `EAGAIN` when it would wait.
    pub fn accept(&self) -> io::Result<(Self, SockAddr)> {
        let (end, peer) = self.attempt(Interest::Read, self.to_read(), |end| end.accept())?;
        let (spec, halt) = (self.core.spec, self.core.halt.clone());
        Ok((Self::assemble(end, spec, halt, self.core.stack.clone()), peer))
    }

    /// recv(2): waits for data; 0 from a stream is its end.
    /// Errors: `EAGAIN` when it would wait, or when the read timeout has passed; `ECONNRESET`,
    /// `ECONNREFUSED`, `ENOTCONN`.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer).map(|received| received.length)
    }

    /// recvfrom(2): as [`recv`](Self::recv), with the sender of the datagram.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SockAddr)> {
        self.receive(buffer).map(|received| (received.length, received.meta.source))
    }

    /// recvmsg(2): as [`recv`](Self::recv), with all that is known of the datagram.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.receive_within(buffer, self.to_read(), Take::Remove)
    }

    /// recvmsg(2) that waits until `deadline` at most, whatever the timeouts are: then `EAGAIN`.
    pub fn receive_until(&self, buffer: &mut [u8], deadline: Instant) -> io::Result<Received> {
        self.receive_within(buffer, Patience::Until(Some(deadline)), Take::Remove)
    }

    /// recvmsg(2) that leaves the data in the queue (`MSG_PEEK`).
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.receive_within(buffer, self.to_read(), Take::Peek)
    }

    fn receive_within(
        &self,
        buffer: &mut [u8],
        patience: Patience,
        take: Take,
    ) -> io::Result<Received> {
        self.attempt(Interest::Read, patience, |end| end.receive(buffer, take))
    }

    /// send(2): gives how many bytes were taken: all of a datagram, of a stream what there was
    /// room for. Errors: `EPIPE` (no signal is sent), `EDESTADDRREQ`, `EMSGSIZE`, `EAGAIN`.
    pub fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.send_message(data, None, &SendControl::default())
    }

    /// sendto(2). Errors: `ENETUNREACH`, `EHOSTUNREACH`, `EMSGSIZE`, `EACCES` (broadcast).
    pub fn send_to(&self, data: &[u8], to: &SockAddr) -> io::Result<usize> {
        self.send_message(data, Some(to), &SendControl::default())
    }

    /// sendmsg(2): as [`send_to`](Self::send_to), with what `control` says about the datagram.
    pub fn send_message(
        &self,
        data: &[u8],
        to: Option<&SockAddr>,
        control: &SendControl,
    ) -> io::Result<usize> {
        self.attempt(Interest::Write, self.to_write(), |end| end.send(data, to, control))
    }

    /// shutdown(2). A listener that is shut down for reading listens no longer: who waits in
    /// [`accept`](Self::accept) gets `EINVAL`. Errors: `ENOTCONN`.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.end().shutdown(how).map_err(io::Error::from)
    }

    /// getsockname(2).
    pub fn local_addr(&self) -> io::Result<SockAddr> {
        self.end().local().map_err(io::Error::from)
    }

    /// getpeername(2). Errors: `ENOTCONN`.
    pub fn peer_addr(&self) -> io::Result<SockAddr> {
        self.end().peer().map_err(io::Error::from)
    }

    /// setsockopt(2), with the value as in C. The timeouts of socket(7) are those of
    /// [`set_read_timeout`](Self::set_read_timeout). Errors: `ENOPROTOOPT`, `EINVAL`, `EDOM`.
    pub fn set_option(&self, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
        if level == libc::SOL_SOCKET
            && let Some(timeout) = self.timeout(name)
        {
            *timeout.lock() = parse_timeval(value)?;
            return Ok(());
        }
        self.end().set_option(level, name, value).map_err(io::Error::from)
    }

    /// setsockopt(2) with an `int`.
    pub fn set_int_option(&self, level: i32, name: i32, value: i32) -> io::Result<()> {
        self.set_option(level, name, &value.to_ne_bytes())
    }

    /// getsockopt(2): the value as in C. Errors: `ENOPROTOOPT`.
    pub fn option(&self, level: i32, name: i32) -> io::Result<Vec<u8>> {
        self.option_given(level, name, &[])
    }

    /// getsockopt(2) for the options that read the buffer, which holds `given`.
    pub fn option_given(&self, level: i32, name: i32, given: &[u8]) -> io::Result<Vec<u8>> {
        if level == libc::SOL_SOCKET {
            if let Some(timeout) = self.timeout(name) {
                return Ok(timeval(*timeout.lock()));
            }
            if name == libc::SO_ERROR {
                let errno = self.end().take_error()?.map_or(0, |errno| errno.0);
                return Ok(errno.to_ne_bytes().to_vec());
            }
        }
        self.end().option(level, name, given).map_err(io::Error::from)
    }

    /// getsockopt(2) of an `int`. Errors: `EINVAL` when the option is something else.
    pub fn int_option(&self, level: i32, name: i32) -> io::Result<i32> {
        let value = self.option(level, name)?;
        value.first_chunk().map(|int| i32::from_ne_bytes(*int)).ok_or_else(|| Errno::EINVAL.into())
    }

    fn timeout(&self, name: i32) -> Option<&Mutex<Option<Duration>>> {
        match name {
            libc::SO_RCVTIMEO => Some(&self.core.read_timeout),
            libc::SO_SNDTIMEO => Some(&self.core.write_timeout),
            _ => None,
        }
    }

    /// An ioctl(2) of an emulated socket: `FIONREAD`, `SIOCOUTQ`, or one of netdevice(7), with the
    /// structure as in C. Errors: `ENOTTY` when there is none such, or when the kernel has the
    /// socket (see [`fd`](Self::fd)).
    pub fn ioctl(&self, request: u32, argument: &mut Vec<u8>) -> io::Result<i32> {
        match (self.end().ioctl(request, argument), &self.core.stack) {
            (Err(Errno::ENOTTY), Some(stack)) if self.fd().is_none() => {
                stack.net_stack().interface_ioctl(request, argument).map_err(io::Error::from)
            }
            (result, _) => result.map_err(io::Error::from),
        }
    }

    /// Takes the pending error, as `SO_ERROR` does.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.end().take_error()?.map(io::Error::from))
    }

    /// Has calls fail with `EAGAIN` rather than wait, or wait again.
    pub fn set_nonblocking(&self, nonblocking: bool) {
        self.core.nonblocking.store(nonblocking, Ordering::Relaxed);
    }

    /// Whether calls fail rather than wait.
    #[must_use]
    pub fn is_nonblocking(&self) -> bool {
        self.core.nonblocking.load(Ordering::Relaxed)
    }

    /// How long a receive or an accept waits; None is for ever (`SO_RCVTIMEO`).
    /// Errors: `EINVAL` for a timeout of zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        *self.core.read_timeout.lock() = nonzero(timeout)?;
        Ok(())
    }

    /// What [`set_read_timeout`](Self::set_read_timeout) has set.
    #[must_use]
    pub fn read_timeout(&self) -> Option<Duration> {
        *self.core.read_timeout.lock()
    }

    /// How long a send or a connect waits; None is for ever (`SO_SNDTIMEO`).
    /// Errors: `EINVAL` for a timeout of zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        *self.core.write_timeout.lock() = nonzero(timeout)?;
        Ok(())
    }

    /// What [`set_write_timeout`](Self::set_write_timeout) has set.
    #[must_use]
    pub fn write_timeout(&self) -> Option<Duration> {
        *self.core.write_timeout.lock()
    }

    /// Has datagrams come with destination, interface, TTL and traffic class
    /// ([`Received::meta`]): sets the options of ip(7) or ipv6(7) that ask for them.
    pub fn set_details(&self) -> io::Result<()> {
        let (level, names) = match self.core.spec.domain {
            libc::AF_INET => (libc::SOL_IP, [libc::IP_PKTINFO, libc::IP_RECVTTL, libc::IP_RECVTOS]),
            libc::AF_INET6 => (
                libc::SOL_IPV6,
                [libc::IPV6_RECVPKTINFO, libc::IPV6_RECVHOPLIMIT, libc::IPV6_RECVTCLASS],
            ),
            _ => return Ok(()),
        };
        names.into_iter().try_for_each(|name| self.set_int_option(level, name, 1))
    }

    /// Binds the socket to an interface (`SO_BINDTODEVICE`). Errors: `ENODEV`.
    pub fn bind_device(&self, interface: &str) -> io::Result<()> {
        let name = [interface.as_bytes(), &[0]].concat();
        self.set_option(libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &name)
    }

    /// What can be done now without waiting.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.end().readiness()
    }

    /// Waits until something can be done; what poll(2) would tell. After the timeout, nothing can.
    pub fn wait(&self, interest: Interest, timeout: Option<Duration>) -> io::Result<Readiness> {
        let patience = Patience::Until(timeout.and_then(|time| Instant::now().checked_add(time)));
        let found = self.attempt(interest, patience, |end| {
            Some(end.readiness()).filter(|ready| ready.satisfies(interest)).ok_or(Errno::EAGAIN)
        });
        match found {
            Err(error) if is(&error, Errno::EAGAIN) => Ok(Readiness::default()),
            other => other,
        }
    }

    /// Has a function called whenever [`readiness`](Self::readiness) may have changed. It is called
    /// with locks of the stack held, on any thread: it may take note, and wake somebody, but must
    /// call no socket. False when the socket is the kernel's: then [`fd`](Self::fd) can be polled.
    pub fn watch(&self, watcher: Watcher) -> bool {
        self.end().watch(watcher)
    }

    /// Ends what [`watch`](Self::watch) began.
    pub fn unwatch(&self, watcher: &Watcher) {
        self.end().unwatch(watcher);
    }

    /// The descriptor, if the socket is one of the kernel's (which is non-blocking).
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.end().fd()
    }
}

/// Makes the socket and joins it to its bell.
fn make(stack: &dyn NetStack, spec: &SocketSpec, halt: &Halt) -> Result<Box<dyn Endpoint>, Errno> {
    if halt.is_stopped() {
        return Err(Errno::ENETDOWN);
    }
    let bell = Arc::new(Bell::default());
    Ok(match stack.socket(spec, Arc::clone(&bell) as _)? {
        NewSocket::Kernel(fd) => Box::new(Kernel::new(fd, spec.kind, halt.clone())?),
        NewSocket::Stream(socket) => Box::new(Stream::new(socket, bell, halt.clone())),
        NewSocket::Datagram(socket) => Box::new(Datagrams::new(socket, bell, halt)),
    })
}

/// Whether an error is `errno`.
fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.0)
}

fn nonzero(timeout: Option<Duration>) -> io::Result<Option<Duration>> {
    match timeout {
        Some(Duration::ZERO) => Err(Errno::EINVAL.into()),
        other => Ok(other),
    }
}

/// Reads a `struct timeval`, in which zero stands for ever. Errors: `EINVAL`, `EDOM`.
fn parse_timeval(value: &[u8]) -> Result<Option<Duration>, Errno> {
    let field = |at: usize| {
        value.get(at..at + 8).and_then(|field| field.try_into().ok()).map(i64::from_ne_bytes)
    };
    let (seconds, micros) = field(0).zip(field(8)).ok_or(Errno::EINVAL)?;
    let micros = u32::try_from(micros).ok().filter(|micros| *micros < 1_000_000);
    let micros = micros.ok_or(Errno::EDOM)?;
    // A negative time is none at all: the call gives up at once.
    let Ok(seconds) = u64::try_from(seconds) else { return Ok(Some(Duration::from_nanos(1))) };
    Ok(Some(Duration::new(seconds, micros * 1000)).filter(|timeout| !timeout.is_zero()))
}

fn timeval(timeout: Option<Duration>) -> Vec<u8> {
    let timeout = timeout.unwrap_or_default();
    let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
    let micros = i64::from(timeout.subsec_micros());
    [seconds.to_ne_bytes(), micros.to_ne_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_kernel_reads_them() {
        for timeout in [None, Some(Duration::from_micros(1)), Some(Duration::new(3, 500_000_000))] {
            assert_eq!(parse_timeval(&timeval(timeout)), Ok(timeout));
        }
        assert_eq!(parse_timeval(&[0; 15]), Err(Errno::EINVAL));
        let late = [0_i64.to_ne_bytes(), 1_000_000_i64.to_ne_bytes()].concat();
        assert_eq!(parse_timeval(&late), Err(Errno::EDOM));
    }
}
