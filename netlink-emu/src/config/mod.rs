//! The model of a stack's configuration, with Linux's rules.
//!
//! [`NetConfig`] is pure data: interfaces, addresses, routes, neighbours and sysctls. Every
//! mutation answers with the kernel's error number and sentence, and leaves [`Change`]s that the
//! owner takes ([`NetConfig::take_changes`]) to notify listeners and to follow with its data plane.
//! [`NetConfig::lookup`] is cheap enough to run for each packet. Time is an argument
//! ([`NetConfig::set_now`]).
//!
//! A stack keeps a `NetConfig` under its own lock and implements [`ConfigHost`].

mod address;
mod autoconf;
mod derived;
mod fib;
mod host;
mod layers;
mod link;
mod lookup;
mod neighbour;
mod qdisc;
mod query;
mod route;
mod route4;
mod route6;
mod route_end;
mod rules;
mod source;
mod sysctl;
mod sysctl_names;
mod tunnel;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use umvu_abi::IfIndex;

use crate::values::{Address, Change, Interface, Neighbour, Route};

pub use host::ConfigHost;
pub use layers::MAX_NESTING;
pub use lookup::{Flow, Hop, HopKind};
pub use rules::RuleWish;
pub use tunnel::TunnelPlan;

use address::Expiry;
use derived::Conditions;
use fib::Fib;
use qdisc::Qdiscs;
use route_end::RouteEnds;
use rules::Rules;
use sysctl::Sysctls;

/// The configuration of a stack.
#[derive(Debug)]
pub struct NetConfig {
    /// In order of their index; `lo` is the first.
    links: Vec<Interface>,
    /// Per family and interface in the order of a listing.
    addresses: Vec<(Address, Expiry)>,
    fib: Fib,
    route_ends: RouteEnds,
    rules: Rules,
    neighbours: Vec<Neighbour>,
    qdiscs: Qdiscs,
    sysctls: Sysctls,
    /// Milliseconds since the stack started.
    now: u64,
    /// The largest index ever given.
    last_index: u32,
    changes: Vec<Change>,
    generation: u64,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl NetConfig {
    /// Makes the configuration of a fresh stack: `lo`, down, nothing else.
    #[must_use]
    pub fn new() -> Self {
        Self {
            links: vec![Interface::loopback()],
            addresses: Vec::new(),
            fib: Fib::default(),
            route_ends: RouteEnds::default(),
            rules: Rules::default(),
            neighbours: Vec::new(),
            qdiscs: Qdiscs::default(),
            sysctls: Sysctls::new(),
            now: 0,
            last_index: 1,
            changes: Vec::new(),
            generation: 1,
        }
    }

    /// Sets the clock, in milliseconds since the stack started, and ends what has expired.
    pub fn set_now(&mut self, now: u64) {
        self.now = now.max(self.now);
        self.expire_addresses();
        self.expire_routes();
    }

    /// The clock, in milliseconds since the stack started.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// When [`Self::set_now`] has something to do next, on its clock.
    #[must_use]
    pub fn due(&self) -> Option<u64> {
        [self.address_due(), self.route_due()].into_iter().flatten().min()
    }

    /// Takes what has happened since the last call.
    #[must_use = "listeners and the data plane have to follow the changes"]
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Changes with everything that [`Self::lookup`] depends on; for caches of its answers.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The interfaces, in order of their index.
    #[must_use]
    pub fn links(&self) -> &[Interface] {
        &self.links
    }

    /// An interface.
    #[must_use]
    pub fn link(&self, index: IfIndex) -> Option<&Interface> {
        let at = self.links.binary_search_by_key(&index, |link| link.index).ok()?;
        self.links.get(at)
    }

    /// An interface by its name or an alternative name.
    #[must_use]
    pub fn link_named(&self, name: &str) -> Option<&Interface> {
        self.links.iter().find(|link| link.is_named(name))
    }

    fn link_mut(&mut self, index: IfIndex) -> Option<&mut Interface> {
        let at = self.links.binary_search_by_key(&index, |link| link.index).ok()?;
        self.links.get_mut(at)
    }

    /// The addresses, as [`HostNet::addresses`](crate::HostNet::addresses) lists them.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        self.addresses.iter().map(|held| self.shown(held)).collect()
    }

    /// The addresses of an interface, without looking at lifetimes.
    pub fn addresses_of(&self, index: IfIndex) -> impl Iterator<Item = &Address> {
        self.addresses.iter().map(|(address, _)| address).filter(move |a| a.interface == index)
    }

    /// The interface that has an address.
    #[must_use]
    pub fn owner_of(&self, ip: IpAddr) -> Option<IfIndex> {
        self.addresses.iter().find(|(held, _)| held.ip() == ip).map(|(held, _)| held.interface)
    }

    /// The routes, as the kernel lists them.
    #[must_use]
    pub fn routes(&self) -> Vec<Route> {
        let shown = |route| self.shown_route(route);
        self.fib.list().into_iter().map(shown).collect()
    }

    fn note(&mut self, change: Change) {
        let is_news = matches!(
            change,
            Change::Neighbour(_)
                | Change::NeighbourRemoved(_)
                | Change::RouterOption(..)
                | Change::Qdisc(_)
                | Change::QdiscRemoved(_)
        );
        if !is_news {
            self.generation += 1;
        }
        self.route_ends.follow(&change);
        self.changes.push(change);
    }

    fn conditions(&self, link: &Interface) -> Conditions {
        Conditions {
            router: self.sysctls.interface_flag(true, &link.name, "forwarding"),
            ipv6: self.has_ipv6(link),
        }
    }

    /// Whether IPv6 works on an interface: not disabled, and an MTU that IPv6 can live with.
    fn has_ipv6(&self, link: &Interface) -> bool {
        link.mtu >= 1280 && !self.sysctls.interface_flag(true, &link.name, "disable_ipv6")
    }

    /// The routes that an interface and its addresses now bring.
    fn derived(&self, index: IfIndex) -> Vec<Route> {
        let Some(link) = self.link(index) else { return Vec::new() };
        let addresses: Vec<Address> = self.addresses_of(index).cloned().collect();
        derived::routes(link, &addresses, self.conditions(link))
    }

    /// Makes the table follow a change of an interface: `before` is [`Self::derived`] before it.
    fn follow(&mut self, index: IfIndex, before: &[Route]) {
        let after = self.derived(index);
        for route in before.iter().filter(|route| !after.contains(route)) {
            self.drop_route(route);
        }
        for route in after.into_iter().filter(|route| !before.contains(route)) {
            self.put_route(route);
        }
    }
}
