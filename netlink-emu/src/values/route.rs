//! Routes: what `ip route` shows and changes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use umvu_abi::IfIndex;

use super::{Prefix, Scope};

/// `RT_TABLE_*`.
pub mod table {
    /// "default", looked up last.
    pub const DEFAULT: u32 = 253;
    /// "main".
    pub const MAIN: u32 = 254;
    /// "local": addresses of this host, broadcast and multicast.
    pub const LOCAL: u32 = 255;
}

/// `RTPROT_*`: who made a route.
pub mod protocol {
    /// Unspecified.
    pub const UNSPEC: u8 = 0;
    /// An ICMP redirect.
    pub const REDIRECT: u8 = 1;
    /// The kernel, with an address.
    pub const KERNEL: u8 = 2;
    /// The administrator at boot; `ip route add` by default.
    pub const BOOT: u8 = 3;
    /// The administrator.
    pub const STATIC: u8 = 4;
    /// A router advertisement.
    pub const RA: u8 = 9;
    /// A DHCP client.
    pub const DHCP: u8 = 16;
}

/// `RTN_*`: what becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// It goes to a gateway or straight to the destination.
    Unicast,
    /// It is for this host.
    Local,
    /// It is sent as broadcast, accepted as broadcast.
    Broadcast,
    /// It is for this host, by a broadcast-like address.
    Anycast,
    /// It is sent as multicast.
    Multicast,
    /// It is dropped in silence (`EINVAL`).
    Blackhole,
    /// Host unreachable (`EHOSTUNREACH`).
    Unreachable,
    /// Forbidden (`EACCES`).
    Prohibit,
    /// Not in this table, go on (`EAGAIN`).
    Throw,
}

impl RouteKind {
    /// The `RTN_*` number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Unicast => 1,
            Self::Local => 2,
            Self::Broadcast => 3,
            Self::Anycast => 4,
            Self::Multicast => 5,
            Self::Blackhole => 6,
            Self::Unreachable => 7,
            Self::Prohibit => 8,
            Self::Throw => 9,
        }
    }

    /// The kind of an `RTN_*` number; None for those that cannot be set.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 | 1 => Self::Unicast,
            2 => Self::Local,
            3 => Self::Broadcast,
            4 => Self::Anycast,
            5 => Self::Multicast,
            6 => Self::Blackhole,
            7 => Self::Unreachable,
            8 => Self::Prohibit,
            9 => Self::Throw,
            _ => return None,
        })
    }

    /// Whether packets get an error instead of an interface.
    #[must_use]
    pub fn is_reject(self) -> bool {
        matches!(self, Self::Blackhole | Self::Unreachable | Self::Prohibit | Self::Throw)
    }
}

/// `RTAX_*`: properties of the path; 0 is unset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Metrics {
    /// The path MTU.
    pub mtu: u32,
    /// The largest window advertised.
    pub window: u32,
    /// The advertised maximum segment size.
    pub advmss: u32,
    /// The hop limit of packets sent.
    pub hoplimit: u32,
    /// The initial congestion window.
    pub initcwnd: u32,
    /// The initial receive window.
    pub initrwnd: u32,
    /// What round trips take at first, in eighths of a millisecond.
    pub rtt: u32,
    /// How much they vary, in quarters of a millisecond.
    pub rttvar: u32,
    /// The slow start threshold.
    pub ssthresh: u32,
    /// The largest congestion window, when locked.
    pub cwnd: u32,
    /// How far segments may be reordered.
    pub reordering: u32,
    /// `RTAX_FEATURE_*`.
    pub features: u32,
    /// The shortest retransmission timeout, in milliseconds.
    pub rto_min: u32,
    /// Whether acknowledgements are never delayed.
    pub quickack: u32,
    /// `RTAX_LOCK`: metrics that may not be changed by discovery.
    pub lock: u32,
}

/// One way of a multipath route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NextHop {
    /// The router; None on the link.
    pub gateway: Option<IpAddr>,
    /// The interface.
    pub oif: Option<IfIndex>,
    /// The weight, from 1.
    pub weight: u8,
    /// `RTNH_F_ONLINK`: the gateway needs no route of its own.
    pub onlink: bool,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The destinations; length 0 is the default route.
    pub destination: Prefix,
    /// The table, see [`table`].
    pub table: u32,
    /// Who made it, see [`protocol`].
    pub protocol: u8,
    /// How far the destinations are; IPv4 only, IPv6 has [`Scope::UNIVERSE`].
    pub scope: Scope,
    /// What becomes of packets.
    pub kind: RouteKind,
    /// The next router; None on the link.
    pub gateway: Option<IpAddr>,
    /// The interface; None for reject routes.
    pub oif: Option<IfIndex>,
    /// The preferred source address.
    pub prefsrc: Option<IpAddr>,
    /// The priority: of equal prefixes the smallest wins. IPv6: 1024 by default, 256 of the kernel.
    pub metric: u32,
    /// The type of service it is for, 0 for all.
    pub tos: u8,
    /// `RTNH_F_ONLINK`: the gateway needs no route of its own.
    pub onlink: bool,
    /// Properties of the path.
    pub metrics: Metrics,
    /// IPv6 router preference: 0 medium, 1 high, 3 low.
    pub preference: u8,
    /// Seconds until it vanishes, of routes from router advertisements.
    pub expires: Option<u32>,
    /// Further ways; when not empty, `gateway` and `oif` are None.
    pub nexthops: Vec<NextHop>,
}

impl Route {
    /// Makes a unicast route of the main table as `ip route add` does: `proto boot scope global`.
    #[must_use]
    pub fn new(destination: Prefix) -> Self {
        Self {
            destination: destination.network(),
            table: table::MAIN,
            protocol: protocol::BOOT,
            scope: Scope::UNIVERSE,
            kind: RouteKind::Unicast,
            gateway: None,
            oif: None,
            prefsrc: None,
            metric: 0,
            tos: 0,
            onlink: false,
            metrics: Metrics::default(),
            preference: 0,
            expires: None,
            nexthops: Vec::new(),
        }
    }

    /// Makes the default route by a gateway.
    #[must_use]
    pub fn default_by(gateway: IpAddr) -> Self {
        let any = match gateway {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self { gateway: Some(gateway), ..Self::new(Prefix::new(any, 0)) }
    }

    /// Whether it is an IPv4 route.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.destination.ip.is_ipv4()
    }

    /// Whether packets may leave by the interface.
    #[must_use]
    pub fn uses(&self, interface: IfIndex) -> bool {
        self.oif == Some(interface) || self.nexthops.iter().any(|hop| hop.oif == Some(interface))
    }
}

/// What RTM_NEWROUTE shall do when such a route exists or does not (`NLM_F_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteMode {
    /// `NLM_F_CREATE`: make it when it does not exist.
    pub create: bool,
    /// `NLM_F_EXCL`: fail when it exists.
    pub exclusive: bool,
    /// `NLM_F_REPLACE`: replace the one that exists.
    pub replace: bool,
    /// `NLM_F_APPEND`: put it behind those that exist.
    pub append: bool,
}

impl RouteMode {
    /// `ip route add`.
    pub const ADD: Self = Self { create: true, exclusive: true, replace: false, append: false };
    /// `ip route replace`.
    pub const REPLACE: Self = Self { create: true, exclusive: false, replace: true, append: false };
    /// `ip route change`.
    pub const CHANGE: Self = Self { create: false, exclusive: false, replace: true, append: false };
    /// `ip route append`.
    pub const APPEND: Self = Self { create: true, exclusive: false, replace: false, append: true };
    /// `ip route prepend`.
    pub const PREPEND: Self =
        Self { create: true, exclusive: false, replace: false, append: false };
}

/// What `ip route get` asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteQuery {
    /// The destination.
    pub destination: IpAddr,
    /// The source, if it is bound.
    pub source: Option<IpAddr>,
    /// The interface packets must leave by.
    pub oif: Option<IfIndex>,
    /// The interface a packet came in by: asks for forwarding.
    pub iif: Option<IfIndex>,
    /// The type of service.
    pub tos: u8,
    /// The firewall mark.
    pub mark: u32,
    /// `RTM_F_LOOKUP_TABLE`: tell the table that the route was found in.
    pub tells_table: bool,
    /// `RTM_F_FIB_MATCH`: answer the matching route and not the way.
    pub fib_match: bool,
}

impl RouteQuery {
    /// Asks for the way to a destination.
    #[must_use]
    pub fn to(destination: IpAddr) -> Self {
        Self {
            destination,
            source: None,
            oif: None,
            iif: None,
            tos: 0,
            mark: 0,
            tells_table: false,
            fib_match: false,
        }
    }
}

/// What `ip route get` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteAnswer {
    /// The way: destination of host length, the table of the matching route, gateway, interface,
    /// preferred source; for a fib-match query the matching route itself.
    pub route: Route,
    /// The interface the query gave.
    pub iif: Option<IfIndex>,
    /// The source the query gave.
    pub source: Option<IpAddr>,
    /// The mark of the query.
    pub mark: u32,
    /// The answer to a fib-match query is the route itself, not a cloned entry.
    pub fib_match: bool,
}
