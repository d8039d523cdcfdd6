//! Datagram sockets: UDP, ping, raw, packet. One record for all; what differs lies in a file each.

pub(crate) mod bind;
mod device;
pub(crate) mod errors;
pub(crate) mod groups;
pub(crate) mod options;
pub(crate) mod packet;
pub(crate) mod ping;
pub(crate) mod queue;
pub(crate) mod raw;
pub(crate) mod send;
pub(crate) mod socket;
pub(crate) mod udp;

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use umvu_abi::{
    Errno,
    net::{Datagram, QueuedError, SocketEvents},
};

use super::{
    hash::Map,
    ports::{Host, Ports},
    slab::{Id, Slab},
    sockopt::{Class, Options},
};

pub(crate) type DgramId = Id<Dgram>;

/// What a packet socket is bound to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PacketBinding {
    /// The EtherType; 0 receives nothing, 3 (`ETH_P_ALL`) everything.
    pub(crate) protocol: u16,
    /// The interface index, 0 for all.
    pub(crate) ifindex: u32,
}

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
    /// The default destination, and the only one it receives from.
    pub(crate) peer: Option<SocketAddr>,
    /// The source address that connect(2) chose.
    pub(crate) source: Option<IpAddr>,
    /// What a packet socket is bound to.
    pub(crate) packet: PacketBinding,
    /// Received datagrams and their bytes.
    pub(crate) queue: VecDeque<Datagram>,
    pub(crate) queued: usize,
    /// The pending error.
    pub(crate) error: Option<Errno>,
    /// The error queue (IP_RECVERR).
    pub(crate) errors: VecDeque<QueuedError>,
    /// The groups it has joined, and on which link.
    pub(crate) groups: Vec<(IpAddr, usize)>,
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
            peer: None,
            source: None,
            packet: PacketBinding::default(),
            queue: VecDeque::new(),
            queued: 0,
            error: None,
            errors: VecDeque::new(),
            groups: Vec::new(),
            shut_read: false,
            shut_write: false,
            drops: 0,
        }
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
    /// UDP sockets by local port.
    pub(crate) udp: Map<u16, Vec<DgramId>>,
    /// The ports of UDP.
    pub(crate) ports: Ports,
    /// Ping sockets by family (true: IPv6) and identifier.
    pub(crate) pings: Map<(bool, u16), DgramId>,
    /// Raw sockets.
    pub(crate) raws: Vec<DgramId>,
    /// Packet sockets.
    pub(crate) taps: Vec<DgramId>,
    /// How many sockets joined a group on a link.
    pub(crate) groups: Map<(usize, IpAddr), usize>,
}
