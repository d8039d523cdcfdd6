//! The answer to `ip route get`.

use umvu_abi::{Errno, IfIndex};

use super::{Flow, HopKind, NetConfig};
use crate::{
    host::Failure,
    values::{Prefix, Route, RouteAnswer, RouteKind, RouteQuery, Scope, table},
};

impl NetConfig {
    /// Finds the way to a destination, as a program sees it. Errors: as [`Self::lookup`], `EINVAL`
    /// for a source that is not this host's.
    pub fn route_get(&self, query: &RouteQuery) -> Result<RouteAnswer, Failure> {
        let mut flow = Flow::to(query.destination).by(query.oif.unwrap_or(IfIndex(0)));
        if let Some(source) = query.source {
            flow = flow.from(source);
        }
        flow.iif = query.iif;
        flow.mark = query.mark;
        if let Some(oif) = query.oif
            && self.link(oif).is_none()
        {
            return Err(Errno::ENODEV.into());
        }
        if let Some(source) = flow.from
            && query.iif.is_none()
            && source.is_ipv4()
            && !self.is_local(source)
        {
            return Err(Errno::ENETUNREACH.into());
        }
        let matched = self.find_route(&flow).ok().flatten();
        let hop = self.lookup(&flow)?;
        let kind = match hop.kind {
            HopKind::Unicast => RouteKind::Unicast,
            HopKind::Local => RouteKind::Local,
            HopKind::Broadcast => RouteKind::Broadcast,
            HopKind::Multicast => RouteKind::Multicast,
        };
        let base = match matched {
            Some(route) => route.clone(),
            None => Route::new(Prefix::host(query.destination)),
        };
        let route = if query.fib_match && matched.is_some() {
            base
        } else {
            let ipv4 = query.destination.is_ipv4();
            Route {
                destination: Prefix::host(query.destination),
                // Until there are rules of somebody's, the kernel keeps both in one.
                table: match base.table {
                    _ if ipv4 && !query.tells_table => table::MAIN,
                    table::LOCAL if ipv4 && self.has_default_rules() => table::MAIN,
                    found => found,
                },
                protocol: if ipv4 { 0 } else { base.protocol },
                kind,
                gateway: hop.gateway,
                oif: Some(hop.oif),
                prefsrc: match flow.from {
                    Some(_) if ipv4 => None,
                    // The one that would be chosen.
                    Some(_) => self.source_for(hop.oif, query.destination, Scope::UNIVERSE),
                    None => hop.source,
                },
                nexthops: Vec::new(),
                scope: Scope::UNIVERSE,
                ..base
            }
        };
        Ok(RouteAnswer {
            route,
            iif: query.iif,
            source: query.source,
            mark: if query.destination.is_ipv4() { query.mark } else { 0 },
            fib_match: query.fib_match,
        })
    }
}
