//! Packet sockets: frames as they are on a link (packet(7)).
//!
//! [`tap`] shows frames to them, [`ring`] is the memory that a guest may want them in, [`send`] and
//! [`options`] are what the names say.

mod options;
pub(crate) mod ring;
mod send;
pub(crate) mod tap;

use umvu_abi::sockaddr::LinkAddr;

use self::ring::{Ring, Version};
use super::super::{
    link::{Kind, Link},
    neighbour::Mac,
};

/// `ETH_P_ALL`.
const ETH_P_ALL: u16 = 3;

/// What a packet socket is bound to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PacketBinding {
    /// The EtherType; 0 receives nothing, 3 (`ETH_P_ALL`) everything.
    pub(crate) protocol: u16,
    /// The interface index, 0 for all.
    pub(crate) ifindex: u32,
}

/// What a packet socket has that others have not.
#[derive(Debug, Default)]
pub(crate) struct Capture {
    /// The version of the ring's headers.
    version: Version,
    /// Room before each frame in the ring.
    reserve: u32,
    /// The ring, when it has one: frames go there and not into the queue.
    pub(crate) ring: Option<Box<Ring>>,
    /// Frames taken in and lost since the statistics were asked for.
    received: u32,
    lost: u32,
    /// What the socket wants to hear, as `PACKET_ADD_MEMBERSHIP` tells: interface, kind, address.
    memberships: Vec<(u32, u16, Vec<u8>)>,
}

impl Capture {
    /// An interface is gone.
    pub(crate) fn leave(&mut self, ifindex: u32) {
        self.memberships.retain(|(index, ..)| *index != ifindex);
    }
}

/// The name of a frame's other end.
pub(crate) fn link_addr(link: &Link, protocol: u16, mac: Mac, pkttype: u8) -> LinkAddr {
    let [a, b, c, d, e, f] = mac;
    LinkAddr {
        protocol,
        ifindex: link.index,
        // ARPHRD_LOOPBACK, ARPHRD_ETHER, ARPHRD_NONE.
        hatype: match link.kind {
            Kind::Loopback => 772,
            Kind::Ethernet => 1,
            Kind::Tunnel => 65_534,
        },
        pkttype,
        halen: if link.kind == Kind::Tunnel { 0 } else { 6 },
        addr: [a, b, c, d, e, f, 0, 0],
    }
}
