//! Routes that end: those of advertised routers and networks, and of programs that say so.

use super::NetConfig;
use crate::values::{Change, FOREVER, Route};

/// The routes that end, and when, in milliseconds on the stack's clock. The table itself holds them
/// without their time.
#[derive(Debug, Default)]
pub(super) struct RouteEnds(Vec<(Route, u64)>);

impl RouteEnds {
    /// What has become of a route concerns its end.
    pub(super) fn follow(&mut self, change: &Change) {
        let (Change::RouteRemoved(gone) | Change::RouteFlushed(gone)) = change else { return };
        self.0.retain(|(route, _)| route != gone);
    }
}

impl NetConfig {
    /// Has a route of the table end in some seconds, or, with [`FOREVER`], not.
    pub(super) fn end_route_in(&mut self, route: &Route, seconds: u32) {
        self.route_ends.0.retain(|(other, _)| other != route);
        if seconds != FOREVER {
            let end = self.now.saturating_add(u64::from(seconds) * 1000);
            self.route_ends.0.push((route.clone(), end));
        }
    }

    /// A route with the time it has left.
    pub(super) fn shown_route(&self, mut route: Route) -> Route {
        if let Some((_, end)) = self.route_ends.0.iter().find(|(held, _)| *held == route) {
            let left = end.saturating_sub(self.now) / 1000;
            route.expires = Some(u32::try_from(left).unwrap_or(FOREVER));
        }
        route
    }

    pub(super) fn expire_routes(&mut self) {
        let now = self.now;
        let gone: Vec<Route> = self
            .route_ends
            .0
            .extract_if(.., |(_, end)| *end <= now)
            .map(|(route, _)| route)
            .collect();
        for route in gone {
            // An address may have brought the same route meanwhile.
            let stays = route.oif.is_some_and(|index| self.derived(index).contains(&route));
            if !stays {
                self.drop_route(&route);
            }
        }
    }

    pub(super) fn route_due(&self) -> Option<u64> {
        self.route_ends.0.iter().map(|(_, end)| *end).min()
    }
}
