//! Datagram sockets: UDP, ping, raw, packet. One record for all; what differs lies in a file each.

pub(crate) mod bind;
pub(crate) mod cork;
mod device;
pub(crate) mod errors;
pub(crate) mod filter;
mod group_device;
pub(crate) mod groups;
pub(crate) mod options;
pub(crate) mod packet;
pub(crate) mod ping;
pub(crate) mod queue;
pub(crate) mod raw;
pub(crate) mod send;
pub(crate) mod socket;
pub(crate) mod udp;
pub(crate) mod udplite;

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use umvu_abi::{
    Errno,
    net::{Datagram, QueuedError, SocketEvents},
    sockaddr::SOCK_PACKET,
};

use self::packet::{Capture, PacketBinding, ring::Ring};
use super::{
    hash::Map,
    ports::{Host, Ports},
    slab::{Id, Slab},
    sockopt::{Class, Options},
};
use crate::bpf::Program;

pub(crate) type DgramId = Id<Dgram>;

/// A datagram socket.
pub(crate) struct Dgram {
    /// What kind it is.
    pub(crate) class: Class,
    /// `AF_*`.
    pub(crate) family: u16,
    /// Told of changes.
    pub(crate) events: Arc<dyn SocketEvents>,
    /// Its options.
    pub(crate) options: Options,
    /// The addresses and the port (the identifier of a ping socket) it is bound to.
    pub(crate) bound: Option<(Host, u16)>,
    /// The port was not named by bind(2): it goes when the socket's association is dissolved.
    pub(crate) automatic: bool,
    /// The default destination, and the only one it receives from.
    pub(crate) peer: Option<SocketAddr>,
    /// The source address that connect(2) chose.
    pub(crate) source: Option<IpAddr>,
    /// What a packet socket is bound to, and what else it has.
    pub(crate) packet: PacketBinding,
    pub(crate) capture: Capture,
    /// What decides which packets the socket takes, and how much of each.
    pub(crate) filter: Option<Program>,
    /// The datagram that further sends are to complete.
    pub(crate) cork: Option<cork::Cork>,
    /// Received datagrams and their bytes.
    pub(crate) queue: VecDeque<Datagram>,
    pub(crate) queued: usize,
    /// The pending error.
    pub(crate) error: Option<Errno>,
    /// The error queue (IP_RECVERR).
    pub(crate) errors: VecDeque<QueuedError>,
    /// The groups it has joined.
    pub(crate) groups: Vec<groups::Member>,
    /// The interface of IP_MULTICAST_IF, 0 for none.
    group_device: u32,
    /// Which directions shutdown(2) closed.
    pub(crate) shut_read: bool,
    pub(crate) shut_write: bool,
    /// Datagrams lost because the queue was full.
    pub(crate) drops: u64,
}

impl std::fmt::Debug for Dgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dgram").field("class", &self.class).finish_non_exhaustive()
    }
}

impl Dgram {
    /// Makes an unbound socket.
    pub(crate) fn new(
        class: Class,
        family: u16,
        events: Arc<dyn SocketEvents>,
        options: Options,
    ) -> Self {
        Self {
            class,
            family,
            events,
            options,
            bound: None,
            automatic: false,
            peer: None,
            source: None,
            packet: PacketBinding::default(),
            capture: Capture::default(),
            filter: None,
            cork: None,
            queue: VecDeque::new(),
            queued: 0,
            error: None,
            errors: VecDeque::new(),
            groups: Vec::new(),
            group_device: 0,
            shut_read: false,
            shut_write: false,
            drops: 0,
        }
    }

    /// Whether a packet socket has frames without the link's header (SOCK_DGRAM).
    pub(crate) fn is_cooked(&self) -> bool {
        self.options.int(libc::SOL_SOCKET, libc::SO_TYPE) == libc::SOCK_DGRAM
    }

    /// Whether the addresses of a packet socket are names of interfaces (SOCK_PACKET).
    pub(crate) fn names_devices(&self) -> bool {
        self.options.int(libc::SOL_SOCKET, libc::SO_TYPE) == SOCK_PACKET
    }

    /// The port, 0 when unbound.
    pub(crate) fn port(&self) -> u16 {
        self.bound.map_or(0, |(_, port)| port)
    }
}

/// The datagram part of a stack.
#[derive(Debug, Default)]
pub(crate) struct Dgrams {
    /// All sockets.
    pub(crate) socks: Slab<Dgram>,
    /// The bytes that wait in all of them.
    pub(crate) queued: usize,
    /// Who has which port of UDP, of UDP-Lite.
    udp: UdpPorts,
    udplite: UdpPorts,
    /// Ping sockets by family (true: IPv6) and identifier.
    pub(crate) pings: Map<(bool, u16), DgramId>,
    /// Raw sockets.
    pub(crate) raws: Vec<DgramId>,
    /// Packet sockets.
    pub(crate) taps: Vec<DgramId>,
    /// Frames in the queues of links that packet sockets have sent: the link, the place there.
    pub(crate) sent: Vec<(usize, usize, DgramId)>,
    /// How many sockets joined a group on a link.
    pub(crate) groups: Map<(usize, IpAddr), usize>,
}

/// The ports of UDP or of UDP-Lite.
#[derive(Debug, Default)]
pub(crate) struct UdpPorts {
    /// The sockets of a port.
    pub(crate) socks: Map<u16, Vec<DgramId>>,
    /// Who may have it, too.
    pub(crate) ports: Ports,
}

impl Dgrams {
    /// The ports of a class: UDP's, if it is not UDP-Lite.
    pub(crate) fn udp(&self, class: Class) -> &UdpPorts {
        if class == Class::UdpLite { &self.udplite } else { &self.udp }
    }

    /// The same, to change them.
    pub(crate) fn udp_mut(&mut self, class: Class) -> &mut UdpPorts {
        if class == Class::UdpLite { &mut self.udplite } else { &mut self.udp }
    }

    /// The rings of all packet sockets.
    pub(crate) fn rings(&self) -> impl Iterator<Item = &Ring> {
        let socks = self.taps.iter().filter_map(|id| self.socks.get(*id));
        socks.filter_map(|sock| sock.capture.ring.as_deref())
    }
}
