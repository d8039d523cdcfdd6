//! [`Stream`]: the end of a guest's connection on this host: a socket, or a command.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollEvent, EpollFlags},
        socket::{MsgFlags, recv, send},
    },
    unistd::{read, write},
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::cmd;

/// What a connection leads to.
#[derive(Debug)]
pub(super) enum Stream {
    Socket(Socket),
    Command { output: OwnedFd, input: Option<OwnedFd>, _process: cmd::Process },
}

impl Stream {
    /// Begins to connect to an address of this host's network.
    pub(super) fn connect(to: SocketAddr) -> io::Result<Self> {
        let socket = new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        begin(&socket, &to.into())?;
        Ok(Self::Socket(socket))
    }

    /// Connects to a listening socket of this host.
    pub(super) fn unix(path: &Path) -> io::Result<Self> {
        let socket = new(Domain::UNIX, Type::STREAM, None)?;
        begin(&socket, &SockAddr::unix(path)?)?;
        Ok(Self::Socket(socket))
    }

    /// Starts a command, whose standard streams it is.
    pub(super) fn command(command: &str) -> io::Result<Self> {
        let cmd::Started { process, input, output } = cmd::start(command)?;
        Ok(Self::Command { output, input: Some(input), _process: process })
    }

    /// Takes over a connection that somebody made.
    pub(super) fn accepted(socket: Socket) -> Self {
        // The guest's segments are as small as it wants them.
        let _ = socket.set_tcp_nodelay(true);
        Self::Socket(socket)
    }

    /// Has the kernel tell changes under a token.
    pub(super) fn watch(&self, epoll: &Epoll, token: u64) -> nix::Result<()> {
        let edges = EpollFlags::EPOLLET | EpollFlags::EPOLLRDHUP;
        let (read, write) = (EpollFlags::EPOLLIN, EpollFlags::EPOLLOUT);
        match self {
            Self::Socket(socket) => epoll.add(socket, EpollEvent::new(edges | read | write, token)),
            Self::Command { output, input, .. } => {
                epoll.add(output, EpollEvent::new(edges | read, token))?;
                match input {
                    Some(input) => epoll.add(input, EpollEvent::new(edges | write, token)),
                    None => Ok(()),
                }
            }
        }
    }

    /// Why connecting failed, if it did.
    pub(super) fn error(&self) -> Option<Errno> {
        let Self::Socket(socket) = self else { return None };
        let error = socket.take_error().ok().flatten()?;
        error.raw_os_error().map(Errno::from_raw)
    }

    /// Reads without waiting.
    pub(super) fn read(&self, into: &mut [u8]) -> nix::Result<usize> {
        match self {
            Self::Socket(socket) => recv(socket.as_raw_fd(), into, MsgFlags::MSG_DONTWAIT),
            Self::Command { output, .. } => read(output, into),
        }
    }

    /// Writes without waiting.
    pub(super) fn write(&self, from: &[u8]) -> nix::Result<usize> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match self {
            Self::Socket(socket) => send(socket.as_raw_fd(), from, flags),
            Self::Command { input: Some(input), .. } => write(input, from),
            Self::Command { input: None, .. } => Err(Errno::EPIPE),
        }
    }

    /// Tells the other end that nothing more comes.
    pub(super) fn finish(&mut self) {
        match self {
            // One that is gone does not mind.
            Self::Socket(socket) => drop(socket.shutdown(std::net::Shutdown::Write)),
            Self::Command { input, .. } => drop(input.take()),
        }
    }

    /// Breaks the connection.
    pub(super) fn reset(self) {
        if let Self::Socket(socket) = &self {
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
    }
}

/// Makes a socket that does not block.
pub(super) fn new(domain: Domain, kind: Type, protocol: Option<Protocol>) -> io::Result<Socket> {
    Socket::new(domain, kind.nonblocking().cloexec(), protocol)
}

fn begin(socket: &Socket, to: &SockAddr) -> io::Result<()> {
    match socket.connect(to) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        result => result,
    }
}
