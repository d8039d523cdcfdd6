//! Interfaces: what `ip link` shows and changes.

use std::net::Ipv6Addr;

use bitflags::bitflags;
use umvu_abi::{IfIndex, tunnel::TunnelKind};

use super::{Layer, LayerChange, Tunnel};

bitflags! {
    /// The `IFF_*` flags an administrator sets or that belong to the kind of the interface.
    /// `IFF_RUNNING` and `IFF_LOWER_UP` are derived ([`Interface::all_flags`]).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct LinkFlags: u32 {
        /// `IFF_UP`: administratively up.
        const UP = 0x1;
        /// `IFF_BROADCAST`.
        const BROADCAST = 0x2;
        /// `IFF_DEBUG`.
        const DEBUG = 0x4;
        /// `IFF_LOOPBACK`.
        const LOOPBACK = 0x8;
        /// `IFF_POINTOPOINT`.
        const POINTOPOINT = 0x10;
        /// `IFF_NOTRAILERS`.
        const NOTRAILERS = 0x20;
        /// `IFF_RUNNING`: derived from the carrier.
        const RUNNING = 0x40;
        /// `IFF_NOARP`.
        const NOARP = 0x80;
        /// `IFF_PROMISC`.
        const PROMISC = 0x100;
        /// `IFF_ALLMULTI`.
        const ALLMULTI = 0x200;
        /// `IFF_MULTICAST`.
        const MULTICAST = 0x1000;
        /// `IFF_DYNAMIC`.
        const DYNAMIC = 0x8000;
        /// `IFF_LOWER_UP`: derived from the carrier.
        const LOWER_UP = 0x1_0000;
        const _ = !0;
    }
}

/// What an interface is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum InterfaceKind {
    /// `lo`.
    Loopback,
    /// An Ethernet interface; `kind` is the `IFLA_INFO_KIND` ("vde", "dummy", "tun"), empty for a
    /// plain device.
    Ethernet {
        /// The name that `ip link add type` uses.
        kind: String,
    },
    /// A point-to-point interface without link-layer addresses (`ARPHRD_NONE`).
    PointToPoint {
        /// The name that `ip link add type` uses.
        kind: String,
    },
}

impl InterfaceKind {
    /// The `ARPHRD_*` number: 772, 1 or 65534.
    #[must_use]
    pub fn hardware_type(&self) -> u16 {
        match self {
            Self::Loopback => 772,
            Self::Ethernet { .. } => 1,
            Self::PointToPoint { .. } => 65_534,
        }
    }

    /// The `IFLA_INFO_KIND`, if the interface has one.
    #[must_use]
    pub fn info_kind(&self) -> Option<&str> {
        match self {
            Self::Loopback => None,
            Self::Ethernet { kind } | Self::PointToPoint { kind } => {
                (!kind.is_empty()).then_some(kind.as_str())
            }
        }
    }
}

/// `IF_OPER_*` (RFC 2863), as `ip link` shows it after `state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OperState {
    /// The driver does not say.
    Unknown,
    /// Not up, or no carrier.
    Down,
    /// The interface that it stands on has no carrier.
    LowerLayerDown,
    /// Up, with carrier.
    Up,
}

impl OperState {
    /// The `IF_OPER_*` number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Down => 2,
            Self::LowerLayerDown => 3,
            Self::Up => 6,
        }
    }

    /// The word in `/sys/class/net/IF/operstate`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Down => "down",
            Self::LowerLayerDown => "lowerlayerdown",
            Self::Up => "up",
        }
    }
}

/// Traffic counters, corresponds to `struct rtnl_link_stats64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Counters {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Bad packets received.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets received and dropped.
    pub rx_dropped: u64,
    /// Packets dropped instead of sent.
    pub tx_dropped: u64,
    /// Multicast packets received.
    pub multicast: u64,
    /// Packets received and meant for no protocol.
    pub rx_nohandler: u64,
}

/// An interface of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its index; `lo` is 1.
    pub index: IfIndex,
    /// Its name, 1 to 15 bytes.
    pub name: String,
    /// What it is.
    pub kind: InterfaceKind,
    /// The hardware address.
    pub mac: [u8; 6],
    /// The hardware broadcast address.
    pub broadcast: [u8; 6],
    /// The maximum transmission unit, in bytes.
    pub mtu: u32,
    /// The smallest and largest MTU that may be set; 0 as the largest means no limit.
    pub mtu_range: (u32, u32),
    /// Flags but the derived ones.
    pub flags: LinkFlags,
    /// Whether the driver has carrier.
    pub carrier: bool,
    /// How often the carrier came and went.
    pub carrier_changes: CarrierChanges,
    /// Whether the driver reports its operational state: `state UP` instead of `UNKNOWN`.
    pub reports_state: bool,
    /// The length of the transmit queue, in packets.
    pub txqlen: u32,
    /// The queueing discipline that it has by itself when up: `noqueue`, `pfifo_fast`.
    pub qdisc: &'static str,
    /// The one that it has been given.
    pub root_qdisc: Option<&'static str>,
    /// Whether it was ever up: `qdisc noop` until then.
    pub activated: bool,
    /// The group number, 0 is `default`.
    pub group: u32,
    /// `ip link set alias`.
    pub alias: Option<String>,
    /// `ip link property add altname`.
    pub alternative_names: Vec<String>,
    /// Traffic counters.
    pub counters: Counters,
    /// The virtual network locator of a "vde" interface.
    pub vnl: Option<String>,
    /// What it stands on.
    pub layer: Layer,
    /// The bridge that it is a port of.
    pub master: Option<IfIndex>,
    /// The interface identifier of advertised IPv6 addresses (`ip token`), unspecified for none.
    pub token: Ipv6Addr,
}

/// How often a carrier came and went (`carrier_up_count` and `carrier_down_count`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CarrierChanges {
    /// It came.
    pub up: u32,
    /// It went.
    pub down: u32,
}

impl CarrierChanges {
    /// Notes a change.
    pub fn count(&mut self, carrier: bool) {
        let counter = if carrier { &mut self.up } else { &mut self.down };
        *counter = counter.wrapping_add(1);
    }
}

impl Interface {
    /// Makes `lo` as a new network namespace has it: index 1, down, without addresses.
    #[must_use]
    pub fn loopback() -> Self {
        Self {
            index: IfIndex(1),
            name: "lo".to_owned(),
            kind: InterfaceKind::Loopback,
            mac: [0; 6],
            broadcast: [0; 6],
            mtu: 65_536,
            mtu_range: (0, 0),
            flags: LinkFlags::LOOPBACK,
            carrier: true,
            carrier_changes: CarrierChanges::default(),
            reports_state: false,
            txqlen: 1000,
            qdisc: "noqueue",
            root_qdisc: None,
            activated: false,
            group: 0,
            alias: None,
            alternative_names: Vec::new(),
            counters: Counters::default(),
            vnl: None,
            layer: Layer::Device,
            master: None,
            token: Ipv6Addr::UNSPECIFIED,
        }
    }

    /// Makes an Ethernet interface as a driver registers it: MTU 1500, down, with carrier.
    #[must_use]
    pub fn ethernet(index: IfIndex, name: &str, kind: &str, mac: [u8; 6]) -> Self {
        Self {
            index,
            name: name.to_owned(),
            kind: InterfaceKind::Ethernet { kind: kind.to_owned() },
            mac,
            broadcast: [0xff; 6],
            mtu: 1500,
            mtu_range: (68, 65_535),
            flags: LinkFlags::BROADCAST | LinkFlags::MULTICAST,
            qdisc: "pfifo_fast",
            ..Self::loopback()
        }
    }

    /// Makes a tun or tap interface as its driver registers it; `mac` is a tap's.
    #[must_use]
    pub fn tunnel(index: IfIndex, name: &str, tunnel: Tunnel, mac: [u8; 6]) -> Self {
        let ethernet = Self::ethernet(index, name, "tun", mac);
        let layer = Layer::Tunnel(tunnel);
        let made = Self { layer, txqlen: 500, mtu_range: (68, 65_521), ..ethernet };
        match tunnel.kind {
            TunnelKind::Tap => made,
            TunnelKind::Tun => Self {
                kind: InterfaceKind::PointToPoint { kind: "tun".to_owned() },
                mac: [0; 6],
                flags: LinkFlags::POINTOPOINT | LinkFlags::NOARP | LinkFlags::MULTICAST,
                ..made
            },
        }
    }

    /// Whether it is administratively up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.flags.contains(LinkFlags::UP)
    }

    /// Whether packets can pass: up, with carrier.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.is_up() && self.carrier
    }

    /// Whether it is `lo`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.flags.contains(LinkFlags::LOOPBACK)
    }

    /// The flags as programs see them, with `IFF_RUNNING` and `IFF_LOWER_UP`.
    #[must_use]
    pub fn all_flags(&self) -> LinkFlags {
        let derived = LinkFlags::RUNNING | LinkFlags::LOWER_UP;
        if self.is_running() { self.flags | derived } else { self.flags - derived }
    }

    /// The operational state.
    #[must_use]
    pub fn oper_state(&self) -> OperState {
        match (self.is_up(), self.carrier, self.reports_state) {
            (true, false, _) if self.layer.link().is_some() => OperState::LowerLayerDown,
            (false, ..) | (true, false, _) => OperState::Down,
            (true, true, false) => OperState::Unknown,
            (true, true, true) => OperState::Up,
        }
    }

    /// The queueing discipline that `ip link` shows.
    #[must_use]
    pub fn shown_qdisc(&self) -> &str {
        self.root_qdisc.unwrap_or(if self.activated { self.qdisc } else { "noop" })
    }

    /// Whether one of its names is `name`.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.alternative_names.iter().any(|other| other == name)
    }
}

/// What `ip link set` changes; None leaves a property as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkChange {
    /// The flags to change.
    pub flags_mask: LinkFlags,
    /// Their new values.
    pub flags: LinkFlags,
    /// A new name.
    pub name: Option<String>,
    /// A new MTU.
    pub mtu: Option<u32>,
    /// A new hardware address.
    pub mac: Option<[u8; 6]>,
    /// A new hardware broadcast address.
    pub broadcast: Option<[u8; 6]>,
    /// A new length of the transmit queue.
    pub txqlen: Option<u32>,
    /// A new group.
    pub group: Option<u32>,
    /// A new alias; the empty one removes it.
    pub alias: Option<String>,
    /// A new carrier state, for drivers that can (`ip link set carrier`).
    pub carrier: Option<bool>,
    /// A new interface identifier for advertised IPv6 addresses.
    pub token: Option<Ipv6Addr>,
    /// The bridge that it becomes a port of; index 0 for none.
    pub master: Option<IfIndex>,
    /// New properties of what it stands on.
    pub layer: Option<LayerChange>,
}

impl LinkChange {
    /// The change that takes an interface up or down.
    #[must_use]
    pub fn admin(up: bool) -> Self {
        let flags = if up { LinkFlags::UP } else { LinkFlags::empty() };
        Self { flags_mask: LinkFlags::UP, flags, ..Self::default() }
    }
}

/// What `ip link add` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewLink {
    /// The `IFLA_INFO_KIND`: "vde", "dummy", ...
    pub kind: String,
    /// The locator of a "vde" interface (`IFLA_VDE_VNL`); None for the stack's default.
    pub vnl: Option<String>,
    /// What the interface is to stand on.
    pub layer: Layer,
    /// The other end of a "veth" interface; None makes it by default.
    pub peer: Option<Box<NewLink>>,
    /// The wanted index; None for the next free one.
    pub index: Option<IfIndex>,
    /// Name, MTU, addresses and flags; without a name the kind and a number make one.
    pub properties: LinkChange,
}
