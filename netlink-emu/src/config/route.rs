//! Routes: what both families share of adding, removing and flushing.

use umvu_abi::{Errno, IfIndex};

use super::NetConfig;
use crate::{
    host::Failure,
    text,
    values::{Change, NextHop, Prefix, Route, RouteKind, RouteMode, Scope, table},
};

impl NetConfig {
    /// Adds, replaces or appends a route. Gateways on the link find their interface here.
    /// Errors: see [`HostNet::add_route`](crate::HostNet::add_route).
    pub fn add_route(&mut self, route: &Route, mode: RouteMode) -> Result<(), Failure> {
        let mut route = route.clone();
        if route.table == 0 {
            route.table = table::MAIN;
        }
        if route.is_ipv4() { self.add_route4(route, mode) } else { self.add_route6(route, mode) }
    }

    /// Removes the first route that matches, see
    /// [`HostNet::del_route`](crate::HostNet::del_route). Errors: `ESRCH`.
    pub fn del_route(&mut self, wanted: &Route) -> Result<(), Failure> {
        let mut destination = wanted.destination.network();
        if wanted.is_ipv4() {
            if destination != wanted.destination {
                return Err(text::ROUTE_PREFIX_BITS);
            }
        } else {
            destination.ip = destination.network().ip;
        }
        let table = if wanted.table == 0 { table::MAIN } else { wanted.table };
        if !self.fib.has_table(destination.ip, table) && table != table::MAIN {
            return Err(text::ROUTE_TABLE_MISSING);
        }
        let routes = self.fib.exact(&destination, table);
        let at = routes.iter().position(|held| is_match(held, wanted)).ok_or(Errno::ESRCH)?;
        let removed = self.fib.exact_mut(&destination, table).remove(at);
        self.fib.tidy_at(&destination, table);
        self.note(Change::RouteRemoved(removed));
        Ok(())
    }

    /// Puts a route that comes with an interface or address, unless it is there.
    pub(super) fn put_route(&mut self, route: Route) {
        let held = self.fib.exact_mut(&route.destination, route.table);
        if !held.contains(&route) {
            let at = held.partition_point(|other| rank(other) <= rank(&route));
            held.insert(at, route.clone());
            self.note(Change::Route(route));
        }
    }

    /// Removes a route that went with an interface or address, if it is there.
    pub(super) fn drop_route(&mut self, route: &Route) {
        let held = self.fib.exact_mut(&route.destination, route.table);
        if let Some(at) = held.iter().position(|other| other == route) {
            let removed = held.remove(at);
            self.note(Change::RouteRemoved(removed));
        }
        self.fib.tidy_at(&route.destination, route.table);
    }

    /// Removes routes.
    pub(super) fn flush_routes(&mut self, gone: impl FnMut(&Route) -> bool) {
        for route in self.fib.remove(gone) {
            self.note(Change::RouteRemoved(route));
        }
    }

    /// Removes the routes of an interface that went down: those that it brought, `before`, as far
    /// as they do not stay, and all others that use it.
    pub(super) fn follow_down(&mut self, index: IfIndex, before: &[Route]) {
        let after = self.derived(index);
        let gone = |route: &Route| {
            let stays = after.contains(route)
                || (route.is_ipv4() && (route.kind == RouteKind::Local || route.kind.is_reject()));
            (route.uses(index) || before.contains(route)) && !stays
        };
        for route in self.fib.remove(gone) {
            self.note(if route.is_ipv4() {
                Change::RouteFlushed(route)
            } else {
                Change::RouteRemoved(route)
            });
        }
    }

    /// Removes the routes that router advertisements made, or whatever `gone` picks; for the
    /// stack's own use.
    pub fn retain_routes(&mut self, mut keep: impl FnMut(&Route) -> bool) {
        self.flush_routes(|route| !keep(route));
    }

    /// Inserts a checked route at its place among `held` of the same destination and table.
    pub(super) fn insert_checked(&mut self, route: Route, mode: RouteMode) -> Result<(), Failure> {
        let place = (route.destination, route.table);
        let held = self.fib.exact_mut(&place.0, place.1);
        let peer = |other: &Route| rank(other) == rank(&route);
        let result: Result<Option<Change>, Failure> = match held.iter().position(peer) {
            Some(_) if mode.exclusive => Err(Errno::EEXIST.into()),
            Some(first) if mode.replace => {
                if held[first] == route {
                    Ok(None)
                } else if held.contains(&route) {
                    Err(Errno::EEXIST.into())
                } else {
                    held[first].clone_from(&route);
                    Ok(Some(Change::RouteReplaced(route)))
                }
            }
            Some(first) => {
                if held.contains(&route) {
                    Err(Errno::EEXIST.into())
                } else if !mode.create {
                    Err(Errno::ENOENT.into())
                } else {
                    let last = held.partition_point(|other| rank(other) <= rank(&route));
                    held.insert(if mode.append { last } else { first }, route.clone());
                    Ok(Some(Change::Route(route)))
                }
            }
            None if !mode.create => Err(Errno::ENOENT.into()),
            None => {
                let at = held.partition_point(|other| rank(other) <= rank(&route));
                held.insert(at, route.clone());
                Ok(Some(Change::Route(route)))
            }
        };
        self.fib.tidy_at(&place.0, place.1);
        if let Some(change) = result? {
            self.note(change);
        }
        Ok(())
    }

    /// The interface of a way, checked to exist. Errors: `ENODEV`.
    pub(super) fn check_device(&self, oif: Option<IfIndex>) -> Result<(), Failure> {
        match oif {
            Some(index) if self.link(index).is_none() => Err(Errno::ENODEV.into()),
            _ => Ok(()),
        }
    }
}

/// The order among routes to one network: a special type of service first, then by priority.
fn rank(route: &Route) -> (std::cmp::Reverse<u8>, u32) {
    (std::cmp::Reverse(route.tos), route.metric)
}

/// Whether a route is the one that a deletion names; what the deletion leaves out matches all.
fn is_match(held: &Route, wanted: &Route) -> bool {
    fn given<T: PartialEq>(held: Option<&T>, wanted: Option<&T>) -> bool {
        wanted.is_none() || held == wanted
    }
    let ways = |route: &Route| -> Vec<NextHop> {
        route.nexthops.iter().map(|hop| NextHop { weight: 0, ..*hop }).collect()
    };
    let hop_fits = |gateway: Option<&_>, oif: Option<&_>| {
        given(gateway, wanted.gateway.as_ref()) && given(oif, wanted.oif.as_ref())
    };
    let any_hop = if held.nexthops.is_empty() {
        hop_fits(held.gateway.as_ref(), held.oif.as_ref())
    } else {
        held.nexthops.iter().any(|hop| hop_fits(hop.gateway.as_ref(), hop.oif.as_ref()))
    };
    let same_ways = wanted.nexthops.is_empty()
        || ways(wanted).iter().zip(ways(held)).all(|(wanted, held)| {
            given(held.gateway.as_ref(), wanted.gateway.as_ref())
                && given(held.oif.as_ref(), wanted.oif.as_ref())
        }) && wanted.nexthops.len() == held.nexthops.len();
    // RTN_UNSPEC arrives as unicast; the kernel then takes any kind, `ip route del` relies on it.
    let any_kind = wanted.kind == RouteKind::Unicast;
    (any_kind || held.kind == wanted.kind)
        && (held.is_ipv4() && held.tos == wanted.tos || !held.is_ipv4())
        && (wanted.scope == Scope::NOWHERE || !held.is_ipv4() || held.scope == wanted.scope)
        && (wanted.protocol == 0 || held.protocol == wanted.protocol)
        && (wanted.metric == 0 || held.metric == wanted.metric)
        && given(held.prefsrc.as_ref(), wanted.prefsrc.as_ref())
        && any_hop
        && same_ways
}

/// The destination of `ip route add`: none of the bits behind the prefix.
pub(super) fn is_network(destination: &Prefix) -> bool {
    destination.network() == *destination
}
