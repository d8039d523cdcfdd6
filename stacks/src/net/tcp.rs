//! TCP on a stack, with the calls of [`std::net`].

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    time::Duration,
};

use umvu_abi::net::Shutdown;

use super::{
    address::{Address, domain, internet},
    socket::Socket,
    stack::Stack,
};

/// How many connections wait for [`TcpListener::accept`], as in std.
const BACKLOG: u32 = 128;

/// A TCP socket that accepts connections; see [`std::net::TcpListener`].
#[derive(Debug)]
pub struct TcpListener {
    socket: Socket,
}

impl TcpListener {
    /// Listens at an address of the stack, with `SO_REUSEADDR` as std does; port 0 takes a free
    /// one. Errors: `EADDRINUSE`, `EADDRNOTAVAIL`.
    pub fn bind(stack: &Stack, addr: impl Address) -> io::Result<Self> {
        let addr = addr.to_address()?;
        let socket = Socket::open(stack, domain(&addr), libc::SOCK_STREAM, 0)?;
        socket.set_int_option(libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self { socket })
    }

    /// Waits for a connection. Errors: `EINVAL` once it was [shut down](Self::shutdown).
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, peer) = self.socket.accept()?;
        Ok((TcpStream { socket }, internet(peer)?))
    }

    /// Accepts for ever; each item is a connection or the error of an accept.
    pub fn incoming(&self) -> impl Iterator<Item = io::Result<TcpStream>> + '_ {
        std::iter::repeat_with(|| self.accept().map(|(stream, _)| stream))
    }

    /// Listens no longer; threads in [`accept`](Self::accept) get `EINVAL`.
    pub fn shutdown(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Read)
    }

    /// The address it listens at.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        internet(self.socket.local_addr()?)
    }

    /// Makes another handle of the same socket.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.clone() })
    }

    /// Has [`accept`](Self::accept) fail with `EAGAIN` rather than wait.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.socket.set_nonblocking(nonblocking);
        Ok(())
    }

    /// The socket, for what is not offered here.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }
}

/// A TCP connection; see [`std::net::TcpStream`].
///
/// It reads and writes through a shared reference too, so that two threads can have one each way.
#[derive(Debug)]
pub struct TcpStream {
    socket: Socket,
}

impl TcpStream {
    /// Connects. Errors: `ECONNREFUSED`, `ETIMEDOUT`, `ENETUNREACH`, `EHOSTUNREACH`.
    pub fn connect(stack: &Stack, addr: impl Address) -> io::Result<Self> {
        let addr = addr.to_address()?;
        let socket = Socket::open(stack, domain(&addr), libc::SOCK_STREAM, 0)?;
        socket.connect(&addr.into())?;
        Ok(Self { socket })
    }

    /// Connects, or gives up. Errors: as [`connect`](Self::connect); `ETIMEDOUT`.
    pub fn connect_timeout(
        stack: &Stack,
        addr: impl Address,
        timeout: Duration,
    ) -> io::Result<Self> {
        let addr = addr.to_address()?;
        let socket = Socket::open(stack, domain(&addr), libc::SOCK_STREAM, 0)?;
        socket.connect_timeout(&addr.into(), timeout)?;
        Ok(Self { socket })
    }

    /// The other end's address. Errors: `ENOTCONN`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        internet(self.socket.peer_addr()?)
    }

    /// This end's address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        internet(self.socket.local_addr()?)
    }

    /// Closes the connection in one or both directions. Errors: `ENOTCONN`.
    pub fn shutdown(&self, how: std::net::Shutdown) -> io::Result<()> {
        self.socket.shutdown(match how {
            std::net::Shutdown::Read => Shutdown::Read,
            std::net::Shutdown::Write => Shutdown::Write,
            std::net::Shutdown::Both => Shutdown::Both,
        })
    }

    /// Makes another handle of the same connection, which shares its timeouts.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.clone() })
    }

    /// Reads without taking the data off the queue.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.peek(buffer).map(|received| received.length)
    }

    /// Sends small writes at once (`TCP_NODELAY`).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.socket.set_int_option(libc::SOL_TCP, libc::TCP_NODELAY, nodelay.into())
    }

    /// Whether small writes are sent at once.
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(self.socket.int_option(libc::SOL_TCP, libc::TCP_NODELAY)? != 0)
    }

    /// With zero, has the connection reset when its last handle is dropped (`SO_LINGER`).
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        let seconds = linger.map_or(0, |time| i32::try_from(time.as_secs()).unwrap_or(i32::MAX));
        let value = [i32::from(linger.is_some()).to_ne_bytes(), seconds.to_ne_bytes()].concat();
        self.socket.set_option(libc::SOL_SOCKET, libc::SO_LINGER, &value)
    }

    /// The TTL of the packets (`IP_TTL`).
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        set_ttl(&self.socket, ttl)
    }

    /// What [`set_ttl`](Self::set_ttl) has set.
    pub fn ttl(&self) -> io::Result<u32> {
        ttl(&self.socket)
    }

    /// How long a read waits; then it fails with `EAGAIN` (`WouldBlock`).
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(timeout)
    }

    /// What [`set_read_timeout`](Self::set_read_timeout) has set.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.socket.read_timeout())
    }

    /// How long a write waits for room; then it fails with `EAGAIN` (`WouldBlock`).
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_write_timeout(timeout)
    }

    /// What [`set_write_timeout`](Self::set_write_timeout) has set.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.socket.write_timeout())
    }

    /// Has reads and writes fail with `EAGAIN` rather than wait.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.socket.set_nonblocking(nonblocking);
        Ok(())
    }

    /// Takes the pending error (`SO_ERROR`).
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket.take_error()
    }

    /// The socket, for what is not offered here.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }
}

impl Read for &TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(buffer)
    }
}

impl Write for &TcpStream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.socket.send(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(buffer)
    }
}

impl Write for TcpStream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.socket.send(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The TTL or hop limit option of a socket's family.
fn ttl_option(socket: &Socket) -> (i32, i32) {
    if socket.spec().domain == libc::AF_INET6 {
        (libc::SOL_IPV6, libc::IPV6_UNICAST_HOPS)
    } else {
        (libc::SOL_IP, libc::IP_TTL)
    }
}

pub(super) fn set_ttl(socket: &Socket, ttl: u32) -> io::Result<()> {
    let (level, name) = ttl_option(socket);
    socket.set_int_option(level, name, i32::try_from(ttl).unwrap_or(i32::MAX))
}

pub(super) fn ttl(socket: &Socket) -> io::Result<u32> {
    let (level, name) = ttl_option(socket);
    socket.int_option(level, name).map(|ttl| u32::try_from(ttl).unwrap_or(0))
}
