//! The routes that come with interfaces and addresses (`proto kernel`).
//!
//! They are a pure function of an interface and its addresses. Whoever changes either compares the
//! set before with the set after and applies the difference, so that a connected route which the
//! administrator has deleted does not come back by an unrelated change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::values::{
    Address, AddressFlags, Interface, LinkFlags, Prefix, Route, RouteKind, Scope, protocol, table,
};

/// Priority of the kernel's own IPv6 routes.
const METRIC_V6: u32 = 256;

/// What the routes of an interface depend on beside its addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conditions {
    /// IPv6 forwarding: the anycast address of the subnet's routers is answered.
    pub(crate) router: bool,
    /// IPv6 is enabled on the interface.
    pub(crate) ipv6: bool,
}

/// The routes of an interface with these addresses (all of this interface).
pub(crate) fn routes(link: &Interface, addresses: &[Address], on: Conditions) -> Vec<Route> {
    let mut routes = Vec::new();
    for address in addresses {
        match address.ip() {
            IpAddr::V4(ip) => ipv4(link, address, ip, addresses, &mut routes),
            IpAddr::V6(_) => ipv6(link, address, on, &mut routes),
        }
    }
    if on.ipv6 && link.is_up() && !link.is_loopback() && link.flags.contains(LinkFlags::MULTICAST) {
        let all = Prefix::new(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8);
        routes.push(Route {
            kind: RouteKind::Multicast,
            table: table::LOCAL,
            metric: METRIC_V6,
            ..kernel(link, all)
        });
    }
    let mut unique: Vec<Route> = Vec::with_capacity(routes.len());
    for route in routes {
        if !unique.contains(&route) {
            unique.push(route);
        }
    }
    unique
}

fn kernel(link: &Interface, destination: Prefix) -> Route {
    Route { protocol: protocol::KERNEL, oif: Some(link.index), ..Route::new(destination) }
}

fn ipv4(
    link: &Interface,
    address: &Address,
    ip: Ipv4Addr,
    all: &[Address],
    routes: &mut Vec<Route>,
) {
    let secondary = address.flags.contains(AddressFlags::SECONDARY);
    let source = if secondary { primary_of(address, all) } else { address.ip() };
    let local = |destination| Route {
        kind: RouteKind::Local,
        table: table::LOCAL,
        scope: Scope::HOST,
        prefsrc: Some(source),
        ..kernel(link, destination)
    };
    let broadcast = |to: Ipv4Addr| Route {
        kind: RouteKind::Broadcast,
        table: table::LOCAL,
        scope: Scope::LINK,
        prefsrc: Some(source),
        ..kernel(link, Prefix::host(to.into()))
    };
    routes.push(local(Prefix::host(ip.into())));
    if link.is_loopback() && !address.prefix.is_host() {
        // Linux makes it when `lo` goes up, and keeps it when it goes down.
        routes.push(local(address.network()));
    }
    if !link.is_up() {
        return;
    }
    if let Some(to) = address.broadcast.filter(|to| !to.is_broadcast() && !to.is_unspecified()) {
        routes.push(broadcast(to));
    }
    let network = address.network();
    let trivial = network.is_host() && network.ip == address.ip();
    let zero = matches!(network.ip, IpAddr::V4(net) if net.octets()[0] == 0);
    if zero || secondary || trivial {
        return;
    }
    if !address.flags.contains(AddressFlags::NOPREFIXROUTE) && !link.is_loopback() {
        routes.push(Route {
            scope: Scope::LINK,
            prefsrc: Some(source),
            metric: address.metric,
            ..kernel(link, network)
        });
    }
    if network.length < 31
        && let IpAddr::V4(last) = network.last()
    {
        routes.push(broadcast(last));
    }
}

fn primary_of(address: &Address, all: &[Address]) -> IpAddr {
    all.iter()
        .find(|other| {
            !other.flags.contains(AddressFlags::SECONDARY) && other.network() == address.network()
        })
        .map_or(address.ip(), Address::ip)
}

fn ipv6(link: &Interface, address: &Address, on: Conditions, routes: &mut Vec<Route>) {
    if !link.is_up() || !on.ipv6 {
        return;
    }
    let local = Route { table: table::LOCAL, ..kernel(link, Prefix::host(address.ip())) };
    routes.push(Route { kind: RouteKind::Local, ..local.clone() });
    if link.is_loopback() && address.prefix.is_host() {
        return;
    }
    let metric = if address.metric == 0 { METRIC_V6 } else { address.metric };
    // The network of an advertised address is another matter: routers tell whether it is on the link.
    let brings = !address.flags.contains(AddressFlags::NOPREFIXROUTE);
    if brings && address.proto != super::autoconf::BY_ROUTER {
        routes.push(Route { metric, ..kernel(link, address.prefix.network()) });
    }
    if let Some(peer) = address.peer {
        routes.push(Route { metric, ..kernel(link, Prefix::host(peer)) });
    }
    if on.router && !link.is_loopback() && address.prefix.length < 127 {
        let destination = Prefix::host(address.prefix.network().ip);
        routes.push(Route { kind: RouteKind::Anycast, destination, ..local });
    }
}

#[cfg(test)]
mod tests {
    use umvu_abi::IfIndex;

    use super::*;

    fn link(up: bool) -> Interface {
        let mut link = Interface::ethernet(IfIndex(2), "vde0", "vde", [2, 0, 0, 0, 0, 1]);
        link.flags.set(LinkFlags::UP, up);
        link
    }

    fn shown(link: &Interface, addresses: &[Address], on: Conditions) -> Vec<String> {
        routes(link, addresses, on)
            .iter()
            .map(|r| format!("{:?} {} {} {:?}", r.kind, r.destination, r.table, r.prefsrc))
            .collect()
    }

    const HOST: Conditions = Conditions { router: false, ipv6: true };

    fn v4(text: &str, length: u8) -> Address {
        Address::new(IfIndex(2), text.parse().expect("an ip"), length)
    }

    #[test]
    fn an_address_brings_its_network_and_broadcast() {
        let off = Conditions { router: false, ipv6: false };
        let got = shown(&link(true), &[v4("10.0.0.1", 24)], off);
        let wanted = [
            "Local 10.0.0.1/32 255 Some(10.0.0.1)",
            "Unicast 10.0.0.0/24 254 Some(10.0.0.1)",
            "Broadcast 10.0.0.255/32 255 Some(10.0.0.1)",
        ];
        assert_eq!(got, wanted);
        assert_eq!(shown(&link(false), &[v4("10.0.0.1", 24)], off), wanted[..1]);
    }

    #[test]
    fn host_addresses_bring_no_network() {
        let got = shown(&link(true), &[v4("10.0.0.1", 32)], HOST);
        assert_eq!(got, ["Local 10.0.0.1/32 255 Some(10.0.0.1)", "Multicast ff00::/8 255 None"]);
    }

    #[test]
    fn routers_answer_for_the_anycast_address_of_the_subnet() {
        let address = Address::new(IfIndex(2), "fd00::1".parse().expect("an ip"), 64);
        let router = Conditions { router: true, ipv6: true };
        let got = shown(&link(true), &[address], router);
        assert!(got.contains(&"Anycast fd00::/128 255 None".to_owned()), "{got:?}");
        assert!(got.contains(&"Unicast fd00::/64 254 None".to_owned()), "{got:?}");
    }
}
