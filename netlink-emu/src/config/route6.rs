//! IPv6 routes: what Linux demands of a new one (`ip6_route_info_create`).

use std::net::{IpAddr, Ipv6Addr};

use umvu_abi::{Errno, IfIndex};

use super::NetConfig;
use crate::{
    host::Failure,
    text,
    values::{FOREVER, Route, RouteKind, RouteMode, Scope, table},
};

/// The priority of routes that a program gives none (`IP6_RT_PRIO_USER`).
const USER_METRIC: u32 = 1024;

impl NetConfig {
    pub(super) fn add_route6(&mut self, mut route: Route, mode: RouteMode) -> Result<(), Failure> {
        route.destination = route.destination.network();
        route.scope = Scope::UNIVERSE;
        if route.metric == 0 {
            route.metric = USER_METRIC;
        }
        self.check_device(route.oif)?;
        if route.kind.is_reject() {
            route.gateway = None;
            route.oif = self.links.first().map(|lo| lo.index);
        } else if route.nexthops.is_empty() {
            let oif = self.check_hop6(route.gateway, route.oif, route.onlink)?;
            route.oif = Some(oif);
        } else {
            for hop in &mut route.nexthops {
                hop.oif = Some(self.check_hop6(hop.gateway, hop.oif, hop.onlink)?);
            }
        }
        if let Some(source) = route.prefsrc
            && self.owner_of(source).is_none()
        {
            return Err(text::ROUTE_SOURCE_V6);
        }
        let ends = route.expires.take();
        self.insert_checked(route.clone(), mode)?;
        self.end_route_in(&route, ends.unwrap_or(FOREVER));
        Ok(())
    }

    fn check_hop6(
        &self,
        gateway: Option<IpAddr>,
        oif: Option<IfIndex>,
        onlink: bool,
    ) -> Result<IfIndex, Failure> {
        if let Some(index) = oif {
            self.check_device(Some(index))?;
        }
        if onlink {
            let link = oif.and_then(|index| self.link(index)).ok_or(text::NEXTHOP_ONLINK_DEVICE)?;
            if !link.is_up() {
                return Err(text::NEXTHOP_DEVICE_DOWN_V6);
            }
        }
        let index = match gateway {
            Some(IpAddr::V6(gateway)) => self.check_gateway6(gateway, oif, onlink)?,
            Some(IpAddr::V4(_)) => return Err(text::GATEWAY_INVALID_V6),
            None => oif.ok_or(Errno::ENODEV)?,
        };
        let link = self.link(index).ok_or(Errno::ENODEV)?;
        if !self.has_ipv6(link) {
            return Err(text::NEXTHOP_IPV6_DISABLED);
        }
        if !link.is_up() {
            return Err(text::NEXTHOP_DEVICE_DOWN_V6);
        }
        Ok(index)
    }

    fn check_gateway6(
        &self,
        gateway: Ipv6Addr,
        oif: Option<IfIndex>,
        onlink: bool,
    ) -> Result<IfIndex, Failure> {
        let is_own = self.addresses.iter().any(|(held, _)| {
            let elsewhere = gateway.is_unicast_link_local() && Some(held.interface) != oif;
            held.ip() == IpAddr::V6(gateway) && !elsewhere
        });
        if is_own {
            return Err(text::GATEWAY_IS_LOCAL);
        }
        if gateway.is_multicast() || gateway.is_unspecified() || gateway.is_loopback() {
            return Err(text::GATEWAY_INVALID_V6);
        }
        if gateway.is_unicast_link_local() || onlink {
            return self.check_egress(oif);
        }
        let fits = |route: &Route| oif.is_none() || oif.is_some_and(|index| route.uses(index));
        let found = [table::LOCAL, table::MAIN]
            .into_iter()
            .find_map(|table| self.fib.find(gateway.into(), table, fits))
            .filter(|route| route.kind == RouteKind::Unicast && route.gateway.is_none())
            .ok_or(Errno::EHOSTUNREACH)?;
        self.check_egress(oif.or(found.oif))
    }

    fn check_egress(&self, oif: Option<IfIndex>) -> Result<IfIndex, Failure> {
        let link = oif.and_then(|index| self.link(index)).ok_or(text::GATEWAY_NO_DEVICE_V6)?;
        if link.is_loopback() {
            return Err(text::ROUTE_OIF_LOOPBACK);
        }
        Ok(link.index)
    }
}
