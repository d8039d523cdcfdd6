//! A network interface of a stack: its names, its engine, its queue towards the transport.

use std::{net::IpAddr, num::NonZeroU16, sync::Arc};

use smoltcp::{iface::Interface, phy::DeviceCapabilities, time::Instant};

use super::{
    bridge::Bridge,
    device::{self, LONGEST, Segmentation},
    neighbour::{Mac, Neighbours},
    qdisc::Scheduler,
    routers::Solicit,
    wire::{Frame, Offload, Transport},
};

/// Frames that wait for a transport; beyond it flows stop producing.
pub(crate) const QUEUE: usize = 1024;

/// A packet on its way to a link: IP (or ARP) behind room for the Ethernet header.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// The buffer.
    pub(crate) bytes: Vec<u8>,
    /// The payload of each TCP segment to cut it into.
    pub(crate) segment: Option<NonZeroU16>,
    /// Whether the checksum of the payload is still to be filled in.
    pub(crate) unsummed: bool,
}

/// What a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `lo`: what is sent comes back.
    Loopback,
    /// Ethernet over a transport.
    Ethernet,
    /// IP packets to and from a program, without hardware addresses: a tun interface.
    Tunnel,
}

/// What a link stands on.
#[derive(Debug)]
pub(crate) enum Under {
    /// Its transport, or nothing.
    Wire,
    /// Another link, whose frames of a VLAN it has.
    Vlan {
        /// That link.
        lower: usize,
        /// The identifier of the VLAN.
        id: u16,
        /// The EtherType of the tag.
        protocol: u16,
    },
    /// A cable to another link.
    Pair(usize),
    /// The links that have it as their master.
    Bridge(Box<Bridge>),
}

impl Under {
    /// Whether it stands on other links.
    pub(crate) fn is_stacked(&self) -> bool {
        !matches!(self, Self::Wire)
    }

    /// Whether it is this VLAN.
    pub(crate) fn is_vlan(&self, of: usize, with: (u16, u16)) -> bool {
        matches!(*self, Self::Vlan { lower, id, protocol } if (lower, (protocol, id)) == (of, with))
    }
}

/// One interface.
pub(crate) struct Link {
    /// The interface index, from 1.
    pub(crate) index: u32,
    /// What it is.
    pub(crate) kind: Kind,
    /// The hardware address, zero for `lo`.
    pub(crate) mac: Mac,
    /// The largest IP packet.
    pub(crate) mtu: usize,
    /// Whether it is up (`IFF_UP`).
    pub(crate) up: bool,
    /// Whether it was up and had a carrier when last looked at.
    pub(crate) running: bool,
    /// Whether somebody is at the far end, as the configuration was told.
    pub(crate) carrier: bool,
    /// Where frames go.
    pub(crate) transport: Option<Arc<dyn Transport>>,
    /// Whether the transport takes frames with pending checksums and long segments.
    pub(crate) offload: bool,
    /// The TCP engine's view of the link.
    pub(crate) caps: DeviceCapabilities,
    /// The TCP engine.
    pub(crate) engine: Interface,
    /// Who answers there.
    pub(crate) neighbours: Neighbours,
    /// Frames for the transport.
    pub(crate) queue: Vec<Frame>,
    /// What they pass before; None: nothing.
    pub(crate) scheduler: Option<Scheduler>,
    /// What `/proc/net/dev` shows.
    pub(crate) counters: Counters,
    /// The search for routers.
    pub(crate) solicit: Option<Solicit>,
    /// What it stands on.
    pub(crate) under: Under,
    /// The bridge that it is a port of.
    pub(crate) master: Option<usize>,
}

/// The counters of a link.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    /// Frames and bytes in.
    pub(crate) received: (u64, u64),
    /// Frames and bytes out.
    pub(crate) sent: (u64, u64),
    /// Frames that could not be sent.
    pub(crate) dropped: u64,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("index", &self.index).field("kind", &self.kind).finish()
    }
}

impl Link {
    /// Makes the loopback interface.
    pub(crate) fn loopback(index: u32, seed: u64, now: Instant) -> Self {
        Self::new(index, Kind::Loopback, [0; 6], 65_536, None, seed, now)
    }

    /// Makes an interface on a transport; without one, frames are lost.
    pub(crate) fn wired(
        index: u32,
        kind: Kind,
        mac: Mac,
        mtu: usize,
        transport: Option<Arc<dyn Transport>>,
        seed: u64,
        now: Instant,
    ) -> Self {
        Self::new(index, kind, mac, mtu, transport, seed, now)
    }

    fn new(
        index: u32,
        kind: Kind,
        mac: Mac,
        mtu: usize,
        transport: Option<Arc<dyn Transport>>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let offload = transport.as_ref().is_none_or(|transport| transport.accepts_offload());
        let (caps, engine) = engine(mtu, seed, now);
        Self {
            index,
            kind,
            mac,
            mtu,
            up: false,
            running: false,
            carrier: transport.as_ref().is_none_or(|transport| transport.carrier()),
            transport,
            offload,
            caps,
            engine,
            neighbours: Neighbours::default(),
            queue: Vec::new(),
            scheduler: None,
            counters: Counters::default(),
            solicit: None,
            under: Under::Wire,
            master: None,
        }
    }

    /// Changes the MTU; flows under way go on with the new engine.
    pub(crate) fn set_mtu(&mut self, mtu: usize, seed: u64, now: Instant) {
        self.mtu = mtu;
        (self.caps, self.engine) = engine(mtu, seed, now);
    }

    /// Writes the Ethernet header and queues a frame for the transport.
    pub(crate) fn queue_frame(&mut self, mut packet: Outgoing, to: Mac, ethertype: u16) {
        write_ethernet(&mut packet.bytes, to, self.mac, ethertype);
        if self.queue.len() >= 4 * QUEUE {
            self.counters.dropped += 1;
            return;
        }
        self.queue.push(Frame {
            bytes: packet.bytes,
            offload: Offload { checksum_pending: packet.unsummed, segment_size: packet.segment },
        });
    }

    /// Whether it takes packets that stand for several TCP segments.
    pub(crate) fn takes_long(&self) -> bool {
        self.kind == Kind::Ethernet && self.offload
    }

    /// Whether flows should wait before they produce more.
    pub(crate) fn congested(&self) -> bool {
        self.queue.len() >= QUEUE || self.scheduler.as_ref().is_some_and(Scheduler::congested)
    }

    /// Gives it what frames pass; disciplines see frames as they are on a wire.
    pub(crate) fn set_scheduler(&mut self, scheduler: Option<Scheduler>) {
        self.scheduler = scheduler;
        let transport = self.transport.as_ref();
        self.offload = self.scheduler.is_none()
            && transport.is_none_or(|transport| transport.accepts_offload());
    }
}

/// The TCP engine: it sends no data, so it cuts none.
fn engine(mtu: usize, seed: u64, now: Instant) -> (DeviceCapabilities, Interface) {
    device::engine(mtu.min(LONGEST), Segmentation::Here, seed, now)
}

/// Writes an Ethernet header into the room in front of a packet.
pub(crate) fn write_ethernet(bytes: &mut [u8], to: Mac, from: Mac, ethertype: u16) {
    bytes[..6].copy_from_slice(&to);
    bytes[6..12].copy_from_slice(&from);
    bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
}

/// The EtherType of an IP packet.
pub(crate) fn ethertype(ip: &[u8]) -> u16 {
    if ip.first().is_some_and(|byte| byte >> 4 == 6) { 0x86dd } else { 0x0800 }
}

/// The hardware address of a multicast group (RFC 1112, RFC 2464).
pub(crate) fn multicast_mac(group: IpAddr) -> Mac {
    match group {
        IpAddr::V4(ip) => {
            let [_, b, c, d] = ip.octets();
            [0x01, 0x00, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(ip) => {
            let [.., a, b, c, d] = ip.octets();
            [0x33, 0x33, a, b, c, d]
        }
    }
}
