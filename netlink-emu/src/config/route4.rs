//! IPv4 routes: what Linux demands of a new one (`fib_create_info`).

use std::net::IpAddr;

use umvu_abi::{Errno, IfIndex};

use super::{NetConfig, route::is_network};
use crate::{
    host::Failure,
    text,
    values::{Interface, LinkFlags, Route, RouteKind, RouteMode, Scope, table},
};

impl NetConfig {
    pub(super) fn add_route4(&mut self, mut route: Route, mode: RouteMode) -> Result<(), Failure> {
        if !is_network(&route.destination) {
            return Err(text::ROUTE_PREFIX_BITS);
        }
        if route.scope > Scope::HOST || route.scope < smallest_scope(route.kind) {
            return Err(text::ROUTE_SCOPE);
        }
        if route.kind.is_reject() {
            if route.gateway.is_some() || route.oif.is_some() || !route.nexthops.is_empty() {
                return Err(text::ROUTE_REJECT_WITH_HOP);
            }
        } else if route.scope == Scope::HOST {
            self.check_host_route(&route)?;
        } else if route.nexthops.is_empty() {
            let (scope, table) = (route.scope, route.table);
            let oif = self.check_hop4(route.gateway, route.oif, route.onlink, (scope, table))?;
            route.oif = Some(oif);
        } else {
            let (scope, table) = (route.scope, route.table);
            for hop in &mut route.nexthops {
                let oif = self.check_hop4(hop.gateway, hop.oif, hop.onlink, (scope, table))?;
                hop.oif = Some(oif);
            }
        }
        if let Some(source) = route.prefsrc
            && !self.is_source4(source)
            && !(route.kind == RouteKind::Local && route.destination.contains(source))
        {
            return Err(text::ROUTE_PREFSRC);
        }
        self.insert_checked(route, mode)
    }

    fn check_host_route(&self, route: &Route) -> Result<(), Failure> {
        if !route.nexthops.is_empty() {
            return Err(text::ROUTE_HOST_MULTIPATH);
        }
        if route.gateway.is_some() {
            return Err(text::ROUTE_HOST_GATEWAY);
        }
        self.check_device(route.oif)?;
        if route.oif.is_none() { Err(Errno::ENODEV.into()) } else { Ok(()) }
    }

    /// Checks one way and finds its interface.
    fn check_hop4(
        &self,
        gateway: Option<IpAddr>,
        oif: Option<IfIndex>,
        onlink: bool,
        (scope, table): (Scope, u32),
    ) -> Result<IfIndex, Failure> {
        let device = match oif {
            Some(index) => Some(self.link(index).ok_or(Errno::ENODEV)?),
            None => None,
        };
        let Some(gateway) = gateway else {
            let device = device.ok_or(Errno::ENODEV)?;
            let up = device.is_up();
            return if up { Ok(device.index) } else { Err(text::NEXTHOP_DEVICE_DOWN) };
        };
        if gateway.is_ipv6() {
            // RFC 5549: an IPv6 router for IPv4 packets, found on its link.
            return device.map(|device| device.index).ok_or(text::GATEWAY_NO_DEVICE_V6);
        }
        if scope >= Scope::LINK {
            return Err(text::NEXTHOP_SCOPE);
        }
        if onlink {
            return self.check_onlink(gateway, device);
        }
        let found = self.find_gateway(gateway, oif, table).ok_or(text::NEXTHOP_INVALID_GATEWAY)?;
        if !matches!(found.kind, RouteKind::Unicast | RouteKind::Local) {
            return Err(text::NEXTHOP_BAD_GATEWAY);
        }
        let index = found.oif.ok_or(text::NEXTHOP_BAD_GATEWAY)?;
        match self.link(index) {
            Some(link) if link.is_up() => Ok(index),
            _ => Err(Errno::ENETDOWN.into()),
        }
    }

    fn check_onlink(
        &self,
        gateway: IpAddr,
        device: Option<&Interface>,
    ) -> Result<IfIndex, Failure> {
        let device = device.ok_or(text::NEXTHOP_ONLINK_DEVICE)?;
        if !device.is_up() {
            return Err(text::NEXTHOP_DEVICE_DOWN_V6);
        }
        if self.address_kind(gateway) != RouteKind::Unicast {
            return Err(text::NEXTHOP_BAD_GATEWAY);
        }
        Ok(device.index)
    }

    /// The connected route to a gateway. The link-local broadcast and a destination that needs
    /// another gateway do not count.
    fn find_gateway(&self, gateway: IpAddr, oif: Option<IfIndex>, table: u32) -> Option<&Route> {
        let fits = |route: &Route| {
            route.scope >= Scope::LINK
                && (oif.is_none() || route.kind.is_reject() || oif.is_some_and(|i| route.uses(i)))
        };
        let tables = [table, table::LOCAL, table::MAIN, table::DEFAULT];
        tables.into_iter().find_map(|table| self.fib.find(gateway, table, fits))
    }

    /// Whether an address may be a preferred source: one of this host's.
    pub(super) fn is_source4(&self, ip: IpAddr) -> bool {
        self.address_kind(ip) == RouteKind::Local
    }

    /// What an address is to this host (`inet_addr_type`): Local, Broadcast, Anycast, Multicast or
    /// else Unicast. Cheap enough to ask for each packet.
    #[must_use]
    pub fn address_kind(&self, ip: IpAddr) -> RouteKind {
        if ip.is_multicast() {
            return RouteKind::Multicast;
        }
        if matches!(ip, IpAddr::V4(v4) if v4.is_broadcast() || v4.is_unspecified()) {
            return RouteKind::Broadcast;
        }
        self.fib.find(ip, table::LOCAL, |_| true).map_or(RouteKind::Unicast, |route| route.kind)
    }

    /// Whether an address is this host's. Cheap enough to ask for each packet.
    #[must_use]
    pub fn is_local(&self, ip: IpAddr) -> bool {
        matches!(self.address_kind(ip), RouteKind::Local | RouteKind::Anycast)
    }

    /// Whether packets to `ip` that come in by an interface are broadcasts there.
    #[must_use]
    pub fn is_broadcast_on(&self, ip: IpAddr, index: IfIndex) -> bool {
        let IpAddr::V4(v4) = ip else { return false };
        let on_link = |route: &Route| route.oif == Some(index);
        v4.is_broadcast()
            || self
                .fib
                .find(ip, table::LOCAL, on_link)
                .is_some_and(|route| route.kind == RouteKind::Broadcast)
    }

    /// Whether an interface takes part in broadcasts and multicasts.
    #[must_use]
    pub fn is_multicast_link(&self, index: IfIndex) -> bool {
        self.link(index)
            .is_some_and(|link| link.is_up() && link.flags.contains(LinkFlags::MULTICAST))
    }
}

/// The widest scope that a kind of route may have.
fn smallest_scope(kind: RouteKind) -> Scope {
    match kind {
        RouteKind::Local => Scope::HOST,
        RouteKind::Broadcast | RouteKind::Anycast => Scope::LINK,
        _ => Scope::UNIVERSE,
    }
}
