//! The contract of a network stack: what the core's native-socket bridge drives.
//!
//! A stack hands out either the kernel's own sockets ([`NewSocket::Kernel`]) or emulated ones. An
//! emulated socket never blocks and never waits: it answers at once, and calls its
//! [`SocketEvents`] when an answer may have changed. The bridge joins it to the AF_UNIX socket
//! that the guest holds.
//!
//! Lock order: a stack may hold its own lock while it calls [`SocketEvents::changed`]; that method
//! only queues work and takes no lock that is held while a stack is called.

use std::{fmt, io, os::fd::OwnedFd, sync::Arc};

use crate::{
    Errno, SockAddr,
    module::MountError,
    tree::Tree,
    tunnel::{Tunnel, TunnelSpec},
};

/// What kind of socket a guest asked for: the arguments of socket(2), flags removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketSpec {
    /// `AF_*`.
    pub domain: i32,
    /// `SOCK_STREAM`, `SOCK_DGRAM`, `SOCK_RAW`, ... without `SOCK_NONBLOCK` and `SOCK_CLOEXEC`.
    pub kind: i32,
    /// The protocol number, 0 for the default.
    pub protocol: i32,
}

/// Told by a stack that a socket's state, readability, writability or error may have changed.
pub trait SocketEvents: Send + Sync {
    /// Queues the socket for a look; cheap, callable with any stack lock held, from any thread.
    fn changed(&self);

    /// What the guest has read of what [`DatagramSocket::receive_charged`] gave out, in the stack's
    /// measure, since the last call; callable like [`changed`](Self::changed).
    fn reclaim(&self) -> usize {
        0
    }

    /// How many connections of a listener wait where the stack does not see them, None when no
    /// guest has the socket any more, whose last close makes no event; callable like
    /// [`changed`](Self::changed). A listener is asked before it takes a connection. Up to `room` the
    /// answer may be too high.
    fn waiting(&self, room: usize) -> Option<usize> {
        let _ = room;
        Some(0)
    }

    /// Who holds the socket; callable like [`changed`](Self::changed).
    fn holder(&self) -> Holder {
        Holder::default()
    }
}

/// Who holds a socket, as `ss -p` and `/proc/net` tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holder {
    /// The inode that `/proc/PID/fd` shows for it, 0 when nobody has it.
    pub inode: u64,
    /// The user it belongs to.
    pub uid: u32,
}

/// A socket as a stack makes it.
pub enum NewSocket {
    /// A socket of the kernel, given to the guest as it is: nothing is pumped or trapped again.
    Kernel(OwnedFd),
    /// A byte stream (TCP).
    Stream(Arc<dyn StreamSocket>),
    /// Datagrams (UDP, ICMP, RAW, PACKET, NETLINK).
    Datagram(Arc<dyn DatagramSocket>),
}

impl fmt::Debug for NewSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel(_) => "Kernel",
            Self::Stream(_) => "Stream",
            Self::Datagram(_) => "Datagram",
        })
    }
}

/// A network stack mounted at a path such as `/dev/net/lab`.
pub trait NetStack: Send + Sync + fmt::Debug {
    /// Whether sockets of this address family belong to the stack (`vustack` without `-f` takes
    /// them all).
    fn supports(&self, domain: i32) -> bool;

    /// Makes a socket. `events` is called for emulated sockets from then on.
    /// Errors: `EAFNOSUPPORT`, `ESOCKTNOSUPPORT`, `EPROTONOSUPPORT`, as socket(2).
    fn socket(&self, spec: &SocketSpec, events: Arc<dyn SocketEvents>) -> Result<NewSocket, Errno>;

    /// Serves an interface request on any socket (netdevice(7): `SIOCGIFCONF` and friends).
    /// `argument` is the `struct ifreq`, `rtentry` or `arpreq`; for `SIOCGIFCONF` it is as large as
    /// the guest's buffer, in and out. Errors: `ENOTTY` when the request is none of the stack's.
    fn interface_ioctl(&self, _request: u32, _argument: &mut Vec<u8>) -> Result<i32, Errno> {
        Err(Errno::ENOTTY)
    }

    /// `/proc/net` of the stack; None leaves the kernel's.
    fn proc_net(&self) -> Option<Arc<dyn Tree>> {
        None
    }

    /// `/proc/sys/net` of the stack; None leaves the kernel's.
    fn proc_sys_net(&self) -> Option<Arc<dyn Tree>> {
        None
    }

    /// `/sys/class/net` of the stack; None leaves the kernel's.
    fn sys_class_net(&self) -> Option<Arc<dyn Tree>> {
        None
    }

    /// What `/etc/resolv.conf` says on this stack, which then has files about names of its own
    /// (`/etc/hosts` too). None leaves those of the host.
    fn resolv_conf(&self) -> Option<ResolvConf> {
        None
    }

    /// Adds an interface on the network of a locator, for stacks that cannot be asked by netlink
    /// (`RTM_NEWLINK`); it is down. May block. Errors: `EOPNOTSUPP`, `EEXIST`, those of the network.
    fn add_interface(&self, _name: &str, _vnl: &str) -> Result<(), MountError> {
        Err(MountError::new(Errno::EOPNOTSUPP, "this stack takes no interface while it runs"))
    }

    /// Joins a program to a tun or tap interface, which is made when there is none of the name.
    /// `end` is a `SOCK_SEQPACKET` socket: each message is a packet, the program has the other end.
    /// Errors: `EOPNOTSUPP`, `EINVAL` for an interface of another kind, `EBUSY` for one that a program
    /// has, `EEXIST`, `ENFILE` when no number is free.
    fn attach_tunnel(&self, _spec: &TunnelSpec, _end: OwnedFd) -> Result<Arc<dyn Tunnel>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Ends the stack: closes its interfaces and resets its flows. Called once, at umount.
    fn stop(&self) {}

    /// How many sockets or processes still use what the stack handed out and the bridge cannot
    /// see (kernel sockets); 0 lets umount go on.
    fn users(&self) -> usize {
        0
    }
}

/// What a stack has to say about name servers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolvConf {
    /// Changes with each change of the text; 0 while nothing was ever said.
    pub generation: u64,
    /// The text of resolv.conf(5); None when there is nothing to say.
    pub text: Option<String>,
}

/// How much of a socket shutdown(2) closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// `SHUT_RD`.
    Read,
    /// `SHUT_WR`.
    Write,
    /// `SHUT_RDWR`.
    Both,
}

/// What every emulated socket answers. Defaults are what Linux says for "this one cannot".
pub trait Socket: Send + Sync {
    /// bind(2). Errors: `EADDRINUSE`, `EADDRNOTAVAIL`, `EINVAL`, `EACCES`.
    fn bind(&self, addr: &SockAddr) -> Result<(), Errno>;

    /// getsockname(2); the wildcard address and port 0 while unbound.
    fn local(&self) -> Result<SockAddr, Errno>;

    /// getpeername(2). Errors: `ENOTCONN`.
    fn peer(&self) -> Result<SockAddr, Errno> {
        Err(Errno::ENOTCONN)
    }

    /// setsockopt(2); the bridge has already mirrored what the guest's AF_UNIX socket must know
    /// (SO_RCVTIMEO, SO_SNDTIMEO, SO_TIMESTAMP, ...) and calls this too.
    /// Errors: `ENOPROTOOPT`, `EINVAL`, `EDOM`.
    fn set_option(&self, level: i32, name: i32, value: &[u8]) -> Result<(), Errno>;

    /// getsockopt(2): the whole value, before truncation to the guest's buffer. `given` is what
    /// the guest's buffer holds (some options read it). Errors: `ENOPROTOOPT`.
    fn option(&self, level: i32, name: i32, given: &[u8]) -> Result<Vec<u8>, Errno>;

    /// A socket ioctl that is not an interface request: `SIOCOUTQ`, `SIOCATMARK`, `SIOCGSTAMP`.
    /// Errors: `ENOTTY`.
    fn ioctl(&self, _request: u32, _argument: &mut Vec<u8>) -> Result<i32, Errno> {
        Err(Errno::ENOTTY)
    }

    /// Takes the pending error, as `SO_ERROR` does; the next look finds none.
    fn take_error(&self) -> Option<Errno> {
        None
    }

    /// The guest's last descriptor is gone: send what is queued, then end. The stack may go on
    /// with the flow (FIN, TIME-WAIT) after the bridge has dropped the socket.
    fn close(&self);
}

/// Where a stream stands. The bridge looks at it after each [`SocketEvents::changed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamState {
    /// Neither connected nor listening.
    Fresh,
    /// The handshake is under way.
    Connecting,
    /// connect(2) failed; the error is reported once, then the socket is fresh again.
    Refused(Errno),
    /// Accepts connections.
    Listening,
    /// Data flows. `peer_closed`: the peer's FIN was received and its data has been taken.
    Established {
        /// The reading side is at its end.
        peer_closed: bool,
    },
    /// The connection was reset or timed out: `ECONNRESET`, `ETIMEDOUT`, `EPIPE`.
    Broken(Errno),
    /// Both sides closed in order.
    Closed,
}

/// A connection that a listener hands over.
pub struct Accepted {
    /// The new socket, already established.
    pub socket: Arc<dyn StreamSocket>,
    /// The peer's address.
    pub peer: SockAddr,
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// A TCP socket (tcp(7)).
pub trait StreamSocket: Socket {
    /// Where the stream stands.
    fn state(&self) -> StreamState;

    /// Starts a connection; it is under way when this returns Ok.
    /// Errors: `EISCONN`, `EALREADY`, `ENETUNREACH`, `EADDRNOTAVAIL`, `EAFNOSUPPORT`, `EINVAL`.
    fn connect(&self, addr: &SockAddr) -> Result<(), Errno>;

    /// Accepts connections from now on (or changes the backlog). Errors: `EINVAL`, `EADDRINUSE`.
    fn listen(&self, backlog: u32) -> Result<(), Errno>;

    /// Takes one established connection off the accept queue. `events` makes the observer of the
    /// new socket before the first event can happen.
    fn accept(&self, events: &mut dyn FnMut() -> Arc<dyn SocketEvents>) -> Option<Accepted>;

    /// The bytes that `SO_SNDBUF` or `SO_RCVBUF` tells, None when the guest has not asked for any.
    fn asked_buffer(&self, option: i32) -> Option<i32> {
        let _ = option;
        None
    }

    /// Lets `fill` write into the free part of the send buffer, and queues as many bytes as it
    /// returns. `fill` is called at most twice (the buffer is a ring), and not at all when the
    /// buffer is full. Returns the bytes queued; `fill`'s error when it failed before any byte.
    fn transmit(&self, fill: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<usize>;

    /// Offers received bytes to `drain`, which returns how many it took; called while it takes all
    /// and there are more. Returns the bytes taken; `drain`'s error when it failed before any byte.
    fn receive(&self, drain: &mut dyn FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize>;

    /// Queues bytes as [`transmit`](Self::transmit) does, of which the last wait for others to fill a
    /// segment with (`MSG_MORE`).
    fn transmit_more(
        &self,
        fill: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.transmit(fill)
    }

    /// The next byte that is queued is urgent (`MSG_OOB`; RFC 9293, 3.8.5).
    fn mark_urgent(&self) {}

    /// Offers the received byte that is urgent to `drain`, when all before it has been taken:
    /// [`receive`](Self::receive) stops there. Returns the bytes taken, as that does.
    fn receive_urgent(
        &self,
        drain: &mut dyn FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let _ = drain;
        Ok(0)
    }

    /// So many of the bytes that `drain` has taken lie unread in a queue of the guest: what it does
    /// not read must not widen its window. Told now and then.
    fn note_unread(&self, bytes: usize) {
        let _ = bytes;
    }

    /// Closes the sending side once the queued bytes are sent (FIN). Errors: `ENOTCONN`.
    fn finish(&self) -> Result<(), Errno>;

    /// Drops the connection with RST, or stops listening; the socket is fresh again, even after
    /// [`Socket::close`].
    fn reset(&self);

    /// Whether there is room in the send buffer, that is, whether the bridge should read from the
    /// guest.
    fn wants_data(&self) -> bool;
}

/// What a received datagram carries beside its bytes; becomes control messages (ip(7), ipv6(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DatagramMeta {
    /// Who sent it.
    pub source: SockAddr,
    /// The destination address in the packet (IP_PKTINFO), unspecified when it has none.
    pub destination: SockAddr,
    /// The interface it came in by, 0 when it has none.
    pub ifindex: u32,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
}

/// A received datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// The bytes that recv(2) returns.
    pub data: Vec<u8>,
    /// The rest.
    pub meta: DatagramMeta,
    /// What is known about the frame, for packet sockets.
    pub packet: Option<PacketNote>,
}

/// What a packet socket can tell about a frame; becomes `struct tpacket_auxdata` (packet(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketNote {
    /// How long the frame was, with the link's header if the socket has it.
    pub length: u32,
    /// `TP_STATUS_*`, without the bits about the tag.
    pub status: u32,
    /// The 802.1Q tag that was taken off: its control information and its EtherType.
    pub vlan: Option<(u16, u16)>,
    /// Where the network's header is.
    pub network: u16,
}

/// One entry of a socket's error queue (`MSG_ERRQUEUE`, ip(7) `IP_RECVERR`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedError {
    /// The returned payload of the offending datagram.
    pub data: Vec<u8>,
    /// `ee_errno`.
    pub errno: Errno,
    /// `ee_origin`: `SO_EE_ORIGIN_LOCAL` 1, `SO_EE_ORIGIN_ICMP` 2, `SO_EE_ORIGIN_ICMP6` 3.
    pub origin: u8,
    /// `ee_type`.
    pub icmp_type: u8,
    /// `ee_code`.
    pub icmp_code: u8,
    /// `ee_info` (the path MTU for `EMSGSIZE`).
    pub info: u32,
    /// The node that reported the error (`SO_EE_OFFENDER`), unspecified when local.
    pub offender: SockAddr,
    /// Where the datagram was going.
    pub destination: SockAddr,
    /// TTL or hop limit of the report, 0 when it is local.
    pub ttl: u8,
}

/// The control messages of a sendmsg(2) that a stack understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendControl {
    /// `IP_TTL`, `IPV6_HOPLIMIT`.
    pub ttl: Option<u8>,
    /// `IP_TOS`, `IPV6_TCLASS`.
    pub tos: Option<u8>,
    /// `IP_PKTINFO`, `IPV6_PKTINFO`: the interface, 0 for any.
    pub ifindex: u32,
    /// `IP_PKTINFO`, `IPV6_PKTINFO`: the source address.
    pub source: Option<std::net::IpAddr>,
    /// `UDP_SEGMENT`: the data is that of several datagrams, so long each but the last; 0 of one.
    pub segment: u16,
    /// `SO_MARK`: the mark by which it is routed.
    pub mark: Option<u32>,
    /// `MSG_MORE`: what is sent next belongs to the same datagram.
    pub more: bool,
}

/// A datagram socket: udp(7), icmp(7), raw(7), packet(7), netlink(7).
pub trait DatagramSocket: Socket {
    /// Sets or, with `None`, dissolves the default destination.
    fn connect(&self, peer: Option<&SockAddr>) -> Result<(), Errno>;

    /// Tells which process has made the socket: netlink sockets take its number for their port when
    /// none is asked for. Returns whether another socket has it, which may be closed already.
    fn owned_by(&self, _process: u32) -> bool {
        false
    }

    /// Whether the guest may send without naming a destination although it has not connected:
    /// netlink and bound packet sockets. The bridge then keeps the guest's socket paired.
    fn always_paired(&self) -> bool {
        false
    }

    /// Sends one datagram. Errors: `EDESTADDRREQ`, `EMSGSIZE`, `ENETUNREACH`, `EACCES` (broadcast),
    /// `ENOBUFS`, and the pending error of the socket.
    fn send(
        &self,
        data: &[u8],
        to: Option<&SockAddr>,
        control: &SendControl,
    ) -> Result<usize, Errno>;

    /// Takes one received datagram; None when there is none. The stack bounds what it queues.
    fn receive(&self) -> Option<Datagram>;

    /// The same, with what it goes on to count in the socket's receive buffer until
    /// [`SocketEvents::reclaim`] gives it back; 0 by default.
    fn receive_charged(&self) -> Option<(Datagram, usize)> {
        self.receive().map(|datagram| (datagram, 0))
    }

    /// A datagram taken by [`receive`](Self::receive) found the guest's socket closed: its sender is
    /// told as for a port that nobody has.
    fn refuse(&self, _datagram: &Datagram) {}

    /// The memory that mmap(2) of the socket shows, as a file: all of it, `length` bytes.
    /// Errors: `EINVAL` for another length, `ENODEV` when there is none.
    fn memory(&self, _length: usize) -> Result<OwnedFd, Errno> {
        Err(Errno::ENODEV)
    }

    /// Whether that memory holds something the guest has not given back; None when there is none.
    fn ring_readable(&self) -> Option<bool> {
        None
    }

    /// Takes one entry of the error queue. None: `EAGAIN`.
    fn receive_error(&self) -> Option<QueuedError> {
        None
    }

    /// shutdown(2). Errors: `ENOTCONN`.
    fn shutdown(&self, _how: Shutdown) -> Result<(), Errno> {
        self.peer().map(|_| ())
    }
}
