//! UDP on a stack, with the calls of [`std::net`].

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use super::{
    address::{Address, domain, internet},
    socket::Socket,
    stack::Stack,
    tcp,
};

/// A UDP socket; see [`std::net::UdpSocket`].
///
/// ```
/// use umvu_stacks::net::{Stack, UdpSocket};
///
/// let stack = Stack::open("smoltcp", "null://,ip=10.0.0.1/24")?;
/// let one = UdpSocket::bind(&stack, "10.0.0.1:0")?;
/// let other = UdpSocket::bind(&stack, "10.0.0.1:53")?;
/// one.send_to(b"question", other.local_addr()?)?;
/// let mut buffer = [0; 100];
/// let (length, from) = other.recv_from(&mut buffer)?;
/// assert_eq!((&buffer[..length], from), (b"question".as_slice(), one.local_addr()?));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
}

impl UdpSocket {
    /// Binds to an address of the stack; port 0 takes a free one.
    /// Errors: `EADDRINUSE`, `EADDRNOTAVAIL`.
    pub fn bind(stack: &Stack, addr: impl Address) -> io::Result<Self> {
        let addr = addr.to_address()?;
        let socket = Socket::open(stack, domain(&addr), libc::SOCK_DGRAM, 0)?;
        socket.bind(&addr.into())?;
        Ok(Self { socket })
    }

    /// Waits for a datagram; gives its length and its sender. What does not fit `buffer` is lost.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (length, source) = self.socket.recv_from(buffer)?;
        Ok((length, internet(source)?))
    }

    /// As [`recv_from`](Self::recv_from), and leaves the datagram in the queue.
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let received = self.socket.peek(buffer)?;
        Ok((received.length, internet(received.meta.source)?))
    }

    /// Sends a datagram. Errors: `EMSGSIZE`, `ENETUNREACH`, `EACCES` (broadcast).
    pub fn send_to(&self, data: &[u8], addr: impl Address) -> io::Result<usize> {
        self.socket.send_to(data, &addr.to_address()?.into())
    }

    /// Sets the one address to send to and to hear of.
    pub fn connect(&self, addr: impl Address) -> io::Result<()> {
        self.socket.connect(&addr.to_address()?.into())
    }

    /// Sends a datagram to the connected address. Errors: `EDESTADDRREQ`, `ECONNREFUSED` when
    /// nobody had the port last time.
    pub fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.socket.send(data)
    }

    /// Waits for a datagram. Errors: `ECONNREFUSED` when nobody has the connected port.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(buffer)
    }

    /// As [`recv`](Self::recv), and leaves the datagram in the queue.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.peek(buffer).map(|received| received.length)
    }

    /// The connected address. Errors: `ENOTCONN`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        internet(self.socket.peer_addr()?)
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        internet(self.socket.local_addr()?)
    }

    /// Makes another handle of the same socket, which shares its timeouts.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.clone() })
    }

    /// Allows to send to broadcast addresses (`SO_BROADCAST`).
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.socket.set_int_option(libc::SOL_SOCKET, libc::SO_BROADCAST, broadcast.into())
    }

    /// Whether broadcast addresses can be sent to.
    pub fn broadcast(&self) -> io::Result<bool> {
        Ok(self.socket.int_option(libc::SOL_SOCKET, libc::SO_BROADCAST)? != 0)
    }

    /// Joins a multicast group at the interface that has an address, or at the default one.
    /// Errors: `ENODEV`, `EADDRINUSE`, `EINVAL`.
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.membership_v4(libc::IP_ADD_MEMBERSHIP, group, interface)
    }

    /// Leaves a group again. Errors: `EADDRNOTAVAIL`.
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.membership_v4(libc::IP_DROP_MEMBERSHIP, group, interface)
    }

    fn membership_v4(&self, name: i32, group: &Ipv4Addr, own: &Ipv4Addr) -> io::Result<()> {
        self.socket.set_option(libc::SOL_IP, name, &[group.octets(), own.octets()].concat())
    }

    /// Joins a multicast group at the interface of an index, 0 for the default one.
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.membership_v6(libc::IPV6_ADD_MEMBERSHIP, group, interface)
    }

    /// Leaves a group again. Errors: `EADDRNOTAVAIL`.
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.membership_v6(libc::IPV6_DROP_MEMBERSHIP, group, interface)
    }

    fn membership_v6(&self, name: i32, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        let value = [group.octets().as_slice(), &interface.to_ne_bytes()].concat();
        self.socket.set_option(libc::SOL_IPV6, name, &value)
    }

    /// The TTL of the datagrams (`IP_TTL`).
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        tcp::set_ttl(&self.socket, ttl)
    }

    /// What [`set_ttl`](Self::set_ttl) has set.
    pub fn ttl(&self) -> io::Result<u32> {
        tcp::ttl(&self.socket)
    }

    /// How long a receive waits; then it fails with `EAGAIN` (`WouldBlock`).
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(timeout)
    }

    /// What [`set_read_timeout`](Self::set_read_timeout) has set.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.socket.read_timeout())
    }

    /// How long a send waits.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_write_timeout(timeout)
    }

    /// What [`set_write_timeout`](Self::set_write_timeout) has set.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.socket.write_timeout())
    }

    /// Has calls fail with `EAGAIN` rather than wait.
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
