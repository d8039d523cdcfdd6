//! What interfaces stand on: other ones (VLANs and bridges, ip-link(8)), or a program (tun and tap).

use umvu_abi::{
    IfIndex,
    tunnel::{PacketInfo, TunnelKind},
};

/// What an interface stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layer {
    /// A device of its own.
    #[default]
    Device,
    /// A VLAN of another interface (`type vlan`).
    Vlan(Vlan),
    /// Other interfaces, its ports (`type bridge`).
    Bridge(Bridge),
    /// A cable to another interface, whose index this is (`type veth`).
    Pair(IfIndex),
    /// A program that has opened `/dev/net/tun` (`type tun`).
    Tunnel(Tunnel),
}

/// A VLAN of another interface (IEEE 802.1Q).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vlan {
    /// The interface whose frames carry the tag.
    pub lower: IfIndex,
    /// The identifier, 0 to 4094.
    pub id: u16,
    /// The EtherType of the tag: 0x8100 (802.1Q) or 0x88a8 (802.1ad).
    pub protocol: u16,
}

/// A tun or tap interface (`drivers/net/tun.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tunnel {
    /// What passes.
    pub kind: TunnelKind,
    /// What is in front of it.
    pub info: PacketInfo,
    /// It stays when no program has it open.
    pub persistent: bool,
    /// Whose it is.
    pub owner: Option<u32>,
    /// Which group's it is.
    pub group: Option<u32>,
}

impl Tunnel {
    /// The flags as `TUNGETIFF` and `tun_flags` in sysfs tell them.
    #[must_use]
    pub fn flags(&self) -> u16 {
        const TUN: u16 = 0x0001;
        const TAP: u16 = 0x0002;
        const PERSIST: u16 = 0x0800;
        const NO_PI: u16 = 0x1000;
        let kind = if self.kind == TunnelKind::Tun { TUN } else { TAP };
        let info = if self.info == PacketInfo::Absent { NO_PI } else { 0 };
        kind | info | if self.persistent { PERSIST } else { 0 }
    }
}

/// A bridge (IEEE 802.1D), without spanning tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bridge {
    /// How long a station stays known, in hundredths of a second.
    pub ageing_time: u32,
    /// Whether the hardware address was given; else it is the lowest of the ports'.
    pub has_mac: bool,
    /// Whether the MTU was given; else it is the smallest of the ports'.
    pub has_mtu: bool,
    /// How often it was told to forget the stations it had learned of.
    pub flushes: u32,
}

impl Default for Bridge {
    fn default() -> Self {
        Self { ageing_time: 30_000, has_mac: false, has_mtu: false, flushes: 0 }
    }
}

impl Layer {
    /// The one interface that it stands on.
    #[must_use]
    pub fn lower(&self) -> Option<IfIndex> {
        match self {
            Self::Vlan(vlan) => Some(vlan.lower),
            Self::Device | Self::Bridge(_) | Self::Pair(_) | Self::Tunnel(_) => None,
        }
    }

    /// The interface at the other end of the cable.
    #[must_use]
    pub fn peer(&self) -> Option<IfIndex> {
        if let Self::Pair(peer) = self { Some(*peer) } else { None }
    }

    /// The interface that stands behind the `@` of its name (`IFLA_LINK`).
    #[must_use]
    pub fn link(&self) -> Option<IfIndex> {
        self.lower().or(self.peer())
    }

    /// Whether it is a bridge.
    #[must_use]
    pub fn is_bridge(&self) -> bool {
        matches!(self, Self::Bridge(_))
    }

    /// The program that it stands on, if it is one.
    #[must_use]
    pub fn tunnel(&self) -> Option<Tunnel> {
        if let Self::Tunnel(tunnel) = self { Some(*tunnel) } else { None }
    }
}

/// What `ip link set type` changes; None leaves a property as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerChange {
    /// Of a bridge: how long a station stays known, in hundredths of a second.
    pub ageing_time: Option<u32>,
    /// Of a bridge: forget the stations it has learned of.
    pub flush: bool,
}

/// A station that a bridge knows, corresponds to an entry of its forwarding database
/// (`bridge fdb`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Station {
    /// Its hardware address.
    pub mac: [u8; 6],
    /// The port it is behind, or the bridge itself.
    pub port: IfIndex,
    /// The bridge.
    pub bridge: IfIndex,
    /// How it is known.
    pub origin: Origin,
    /// Seconds since it was last heard of; 0 for one that was not learned.
    pub age: u32,
}

/// How a bridge knows a station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From a frame: it ages.
    Learned,
    /// Somebody said so (`static`).
    Static,
    /// It is this host: frames for it are taken in (`permanent`).
    Local,
}
