//! Where a packet goes: asked for each packet, so it allocates nothing.

use std::net::IpAddr;

use umvu_abi::{Errno, IfIndex};

use super::NetConfig;
use crate::values::{LinkFlags, NextHop, Route, RouteKind, Scope};

/// What a route is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The destination.
    pub to: IpAddr,
    /// The source, if it is bound; it only matters for multicast and for the choice among several
    /// ways.
    pub from: Option<IpAddr>,
    /// The interface that packets must leave by (`SO_BINDTODEVICE`, a scope id).
    pub oif: Option<IfIndex>,
    /// The interface that they came by, when they are others'.
    pub iif: Option<IfIndex>,
    /// Their mark (`SO_MARK`).
    pub mark: u32,
}

impl Flow {
    /// Asks for the way to a destination.
    #[must_use]
    pub fn to(to: IpAddr) -> Self {
        Self { to, from: None, oif: None, iif: None, mark: 0 }
    }

    /// Binds the source; an unspecified address leaves it open.
    #[must_use]
    pub fn from(self, from: IpAddr) -> Self {
        Self { from: (!from.is_unspecified()).then_some(from), ..self }
    }

    /// Binds the interface; index 0 leaves it open.
    #[must_use]
    pub fn by(self, oif: IfIndex) -> Self {
        Self { oif: (oif.0 != 0).then_some(oif), ..self }
    }
}

/// What kind of receiver a packet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HopKind {
    /// Another host.
    Unicast,
    /// This host.
    Local,
    /// All on a link.
    Broadcast,
    /// A group.
    Multicast,
}

/// Where a packet goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// The interface; `lo` when the receiver is this host.
    pub oif: IfIndex,
    /// The router; None when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The source for packets that have none; None when this host has no fitting address.
    pub source: Option<IpAddr>,
    /// The path MTU as far as it is known here.
    pub mtu: u32,
    /// The kind of receiver.
    pub kind: HopKind,
}

impl Hop {
    /// The neighbour that gets the packet: the router or the destination itself.
    #[must_use]
    pub fn next(&self, to: IpAddr) -> IpAddr {
        self.gateway.unwrap_or(to)
    }
}

impl NetConfig {
    /// Finds where packets of a flow go. Errors: `ENETUNREACH`; `EHOSTUNREACH`, `EACCES` and
    /// `EINVAL` by an unreachable, prohibit or blackhole route; `ENODEV` when the interface that an
    /// IPv4 flow is bound to is gone; what a policy rule refuses packets with.
    pub fn lookup(&self, flow: &Flow) -> Result<Hop, Errno> {
        if flow.to.is_ipv4() && flow.oif.is_some_and(|oif| self.link(oif).is_none()) {
            return Err(Errno::ENODEV);
        }
        match self.find_route(flow) {
            Ok(Some(route)) => self.hop(flow, route),
            // A rule that refuses IPv4 packets is passed over where the interface is given.
            Err(errno) if flow.oif.is_none() || flow.to.is_ipv6() => Err(errno),
            _ => self.hop_off_table(flow),
        }
    }

    fn hop(&self, flow: &Flow, route: &Route) -> Result<Hop, Errno> {
        let kind = match route.kind {
            RouteKind::Blackhole => return Err(Errno::EINVAL),
            RouteKind::Unreachable => return Err(Errno::EHOSTUNREACH),
            RouteKind::Prohibit => return Err(Errno::EACCES),
            RouteKind::Throw => return Err(Errno::ENETUNREACH),
            RouteKind::Local | RouteKind::Anycast => HopKind::Local,
            RouteKind::Broadcast => HopKind::Broadcast,
            RouteKind::Multicast => HopKind::Multicast,
            RouteKind::Unicast => unicast_kind(flow.to),
        };
        if kind == HopKind::Local {
            return self.hop_to_self(flow, route);
        }
        let way = self.way(flow, route).ok_or(Errno::ENETUNREACH)?;
        let oif = way.oif.ok_or(Errno::ENETUNREACH)?;
        let link = self.link(oif).ok_or(Errno::ENETUNREACH)?;
        let gateway = if kind == HopKind::Unicast { way.gateway } else { None };
        let source = flow
            .from
            .or(route.prefsrc)
            .or_else(|| self.source_for(oif, gateway_or(gateway, flow.to), route.scope));
        let mtu = if route.metrics.mtu == 0 { link.mtu } else { route.metrics.mtu.min(link.mtu) };
        Ok(Hop { oif, gateway, source, mtu, kind })
    }

    fn hop_to_self(&self, flow: &Flow, route: &Route) -> Result<Hop, Errno> {
        let lo = self.links.first().ok_or(Errno::ENETUNREACH)?;
        let source = flow.from.or(route.prefsrc).or(Some(flow.to));
        Ok(Hop { oif: lo.index, gateway: None, source, mtu: lo.mtu, kind: HopKind::Local })
    }

    /// One way of a multipath route: always the same for one flow, in proportion to the weights.
    pub(super) fn way(&self, flow: &Flow, route: &Route) -> Option<NextHop> {
        if route.nexthops.is_empty() {
            let (gateway, oif) = (route.gateway, route.oif);
            return Some(NextHop { gateway, oif, weight: 1, onlink: route.onlink });
        }
        let usable = |hop: &&NextHop| {
            (flow.oif.is_none() || hop.oif == flow.oif)
                && hop.oif.and_then(|index| self.link(index)).is_some_and(|link| link.is_up())
        };
        let total: u64 =
            route.nexthops.iter().filter(usable).map(|hop| u64::from(hop.weight.max(1))).sum();
        let mut left = flow_hash(flow).checked_rem(total)?;
        for hop in route.nexthops.iter().filter(usable) {
            let weight = u64::from(hop.weight.max(1));
            if left < weight {
                return Some(*hop);
            }
            left -= weight;
        }
        None
    }

    /// Packets without a route: multicast and broadcast go by the bound interface or that of the
    /// source; with a bound interface every destination counts as on the link.
    fn hop_off_table(&self, flow: &Flow) -> Result<Hop, Errno> {
        let kind = unicast_kind(flow.to);
        let own = flow.from.filter(|from| kind != HopKind::Unicast && from.is_ipv4());
        let oif = flow
            .oif
            .filter(|_| flow.to.is_ipv4())
            .or_else(|| own.and_then(|ip| self.owner_of(ip)))
            .ok_or(Errno::ENETUNREACH)?;
        let link = self.link(oif).filter(|link| link.is_up()).ok_or(Errno::ENETUNREACH)?;
        let source = flow.from.or_else(|| self.source_for(oif, flow.to, Scope::LINK));
        Ok(Hop { oif, gateway: None, source, mtu: link.mtu, kind })
    }

    /// Whether an interface may send packets at all.
    #[must_use]
    pub fn is_up(&self, index: IfIndex) -> bool {
        self.link(index).is_some_and(|link| link.flags.contains(LinkFlags::UP))
    }
}

fn gateway_or(gateway: Option<IpAddr>, to: IpAddr) -> IpAddr {
    match gateway {
        // The source has to suit the destination for IPv6, the router for IPv4.
        Some(gateway) if gateway.is_ipv4() && to.is_ipv4() => gateway,
        _ => to,
    }
}

fn unicast_kind(to: IpAddr) -> HopKind {
    match to {
        _ if to.is_multicast() => HopKind::Multicast,
        IpAddr::V4(to) if to.is_broadcast() => HopKind::Broadcast,
        _ => HopKind::Unicast,
    }
}

fn flow_hash(flow: &Flow) -> u64 {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    let mixed = (bits(flow.to) ^ flow.from.map_or(0, bits).rotate_left(64))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let bytes = (mixed ^ (mixed >> 64)).to_le_bytes();
    u64::from_le_bytes(bytes[..8].try_into().expect("8 of 16 bytes"))
}
