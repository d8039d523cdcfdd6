//! Sockets of a stack as `/proc/net/{tcp,udp,...}` and `ss` show them.

use super::TcpDetails;
use std::net::{IpAddr, SocketAddr};

use umvu_abi::IfIndex;

/// A table of sockets; each covers both families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SocketTable {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// `SOCK_RAW` on AF_INET and AF_INET6; the protocol is the local port.
    Raw,
    /// Ping sockets (`SOCK_DGRAM` with ICMP); the identifier is the local port.
    Icmp,
}

/// `TCP_*` states; other sockets are `Established` when connected and `Close` otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TcpState {
    /// 1.
    Established,
    /// 2.
    SynSent,
    /// 3.
    SynRecv,
    /// 4.
    FinWait1,
    /// 5.
    FinWait2,
    /// 6.
    TimeWait,
    /// 7, also the state of unconnected datagram sockets.
    Close,
    /// 8.
    CloseWait,
    /// 9.
    LastAck,
    /// 10.
    Listen,
    /// 11.
    Closing,
}

impl TcpState {
    /// The `TCP_*` number, 1 to 11.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Established => 1,
            Self::SynSent => 2,
            Self::SynRecv => 3,
            Self::FinWait1 => 4,
            Self::FinWait2 => 5,
            Self::TimeWait => 6,
            Self::Close => 7,
            Self::CloseWait => 8,
            Self::LastAck => 9,
            Self::Listen => 10,
            Self::Closing => 11,
        }
    }
}

/// The timer that a TCP socket waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SocketTimer {
    /// 0 none, 1 retransmit, 2 keepalive, 3 TIME-WAIT, 4 zero-window probe.
    pub kind: u8,
    /// Milliseconds until it fires.
    pub expires: u32,
    /// How often it fired in vain.
    pub retransmits: u8,
}

/// A socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketRow {
    /// Whether it is an AF_INET6 socket.
    pub ipv6: bool,
    /// The local end. For an AF_INET6 socket with an IPv4 connection the addresses are IPv4 here;
    /// they are shown mapped.
    pub local: SocketAddr,
    /// The remote end, unspecified when there is none.
    pub remote: SocketAddr,
    /// The state.
    pub state: TcpState,
    /// Bytes not acknowledged; of a listener the backlog.
    pub send_queue: u32,
    /// Bytes not read; of a listener the connections not accepted.
    pub receive_queue: u32,
    /// The timer, of TCP sockets.
    pub timer: SocketTimer,
    /// The owner.
    pub uid: u32,
    /// The inode that `/proc/PID/fd` shows for it, 0 if nobody holds it.
    pub inode: u64,
    /// The interface it is bound to.
    pub interface: Option<IfIndex>,
    /// Whether an AF_INET6 socket is IPv6 only.
    pub v6only: bool,
    /// Datagrams dropped.
    pub drops: u64,
    /// A number that identifies it in the stack (`SO_COOKIE`).
    pub cookie: u64,
    /// TCP details.
    pub tcp: Option<Box<TcpDetails>>,
}

/// A packet socket, for `/proc/net/packet`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PacketRow {
    /// `SOCK_RAW` 3 or `SOCK_DGRAM` 2.
    pub kind: i32,
    /// The EtherType.
    pub protocol: u16,
    /// The interface, 0 for all.
    pub interface: IfIndex,
    /// Bytes queued.
    pub receive_queue: u32,
    /// The owner.
    pub uid: u32,
    /// The inode.
    pub inode: u64,
}

/// A multicast group that an interface listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Membership {
    /// The interface.
    pub interface: IfIndex,
    /// The group.
    pub group: IpAddr,
    /// How many users it has.
    pub users: u32,
}
