//! The rules of the model, as a real kernel (6.18) showed them.

use std::net::IpAddr;

use umvu_abi::{Errno, IfIndex};

use super::{Flow, HopKind, NetConfig};
use crate::{
    host::Failure,
    text,
    values::{
        Address, AddressFlags, Change, Interface, LinkChange, LinkFlags, NewLink, NextHop, Prefix,
        Route, RouteKind, RouteMode, RouteQuery, Scope, table,
    },
};

const VDE: IfIndex = IfIndex(2);
const MAC: [u8; 6] = [0x7e, 0x76, 0xc0, 0xd7, 0x3b, 0x37];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').expect("a slash");
    Prefix { ip: ip(address), length: length.parse().expect("a length") }
}

fn fresh() -> NetConfig {
    let mut config = NetConfig::new();
    config.insert_link(Interface::ethernet(VDE, "vde0", "vde", MAC)).expect("a new link");
    config
}

/// A stack with `vde0` up and an address of each family.
fn ready() -> NetConfig {
    let mut config = fresh();
    config.set_link(IfIndex(1), &LinkChange::admin(true)).expect("lo");
    config.set_link(VDE, &LinkChange::admin(true)).expect("vde0");
    add(&mut config, "10.0.0.1/24").expect("a new address");
    add(&mut config, "fc00::1/64").expect("a new address");
    let _ = config.take_changes();
    config
}

fn address(text: &str) -> Address {
    let prefix = prefix(text);
    Address::new(VDE, prefix.ip, prefix.length)
}

fn add(config: &mut NetConfig, text: &str) -> Result<(), Failure> {
    config.add_address(&address(text), RouteMode::ADD)
}

/// `ip route add DESTINATION via GATEWAY`, or `dev vde0` when the gateway is empty.
fn route(destination: &str, gateway: &str) -> Route {
    let destination = prefix(destination);
    let mut route = Route { destination, ..Route::new(destination) };
    if gateway.is_empty() {
        route.oif = Some(VDE);
        route.scope = Scope::LINK;
    } else {
        route.gateway = Some(ip(gateway));
    }
    route
}

fn add_route(config: &mut NetConfig, destination: &str, gateway: &str) -> Result<(), Failure> {
    config.add_route(&route(destination, gateway), RouteMode::ADD)
}

fn shown(config: &NetConfig, wanted: u32) -> Vec<String> {
    let routes = config.routes().into_iter().filter(|route| route.table == wanted);
    routes.map(|route| route.destination.to_string()).collect()
}

#[test]
fn a_fresh_stack_is_down_and_empty() {
    let config = fresh();
    assert!(config.links().iter().all(|link| !link.is_up()));
    assert!(config.addresses().is_empty());
    assert!(config.routes().is_empty());
    assert_eq!(config.lookup(&Flow::to(ip("127.0.0.1"))), Err(Errno::ENETUNREACH));
}

#[test]
fn lo_gets_its_addresses_when_it_goes_up() {
    let mut config = fresh();
    config.set_link(IfIndex(1), &LinkChange::admin(true)).expect("lo");
    let ips: Vec<String> = config.addresses().iter().map(|a| a.prefix.to_string()).collect();
    assert_eq!(ips, ["127.0.0.1/8", "::1/128"]);
    let routes = ["127.0.0.0/8", "127.0.0.1/32", "127.255.255.255/32", "::1/128"];
    let mut held = shown(&config, table::LOCAL);
    held.sort();
    let mut wanted = routes.map(str::to_owned).to_vec();
    wanted.sort();
    assert_eq!(held, wanted);
    assert_eq!(shown(&config, table::MAIN), Vec::<String>::new());
    config.set_link(IfIndex(1), &LinkChange::admin(false)).expect("lo");
    let ips: Vec<String> = config.addresses().iter().map(|a| a.prefix.to_string()).collect();
    assert_eq!(ips, ["127.0.0.1/8"]);
    assert_eq!(
        shown(&config, table::LOCAL),
        ["127.0.0.1/32", "127.0.0.0/8"].map(str::to_owned).into_iter().rev().collect::<Vec<_>>()
    );
}

#[test]
fn going_up_makes_a_link_local_address_and_going_down_drops_ipv6() {
    let mut config = ready();
    let ips: Vec<String> =
        config.addresses_of(VDE).map(|address| address.prefix.to_string()).collect();
    assert_eq!(ips, ["10.0.0.1/24", "fc00::1/64", "fe80::7c76:c0ff:fed7:3b37/64"]);
    assert_eq!(shown(&config, table::MAIN), ["10.0.0.0/24", "fc00::/64", "fe80::/64"]);
    config.set_link(VDE, &LinkChange::admin(false)).expect("vde0");
    assert!(config.addresses_of(VDE).all(|address| address.ip().is_ipv4()));
    assert_eq!(shown(&config, table::MAIN), Vec::<String>::new());
    config.set_link(VDE, &LinkChange::admin(true)).expect("vde0");
    assert_eq!(shown(&config, table::MAIN), ["10.0.0.0/24", "fe80::/64"]);
}

#[test]
fn an_address_of_the_same_network_is_secondary_and_goes_with_the_primary() {
    let mut config = ready();
    add(&mut config, "10.0.0.5/24").expect("a secondary");
    add(&mut config, "10.9.0.1/24").expect("another network");
    let order: Vec<String> = config
        .addresses_of(VDE)
        .filter(|address| address.ip().is_ipv4())
        .map(|address| address.ip().to_string())
        .collect();
    assert_eq!(order, ["10.0.0.1", "10.9.0.1", "10.0.0.5"]);
    let local = config.routes().into_iter().find(|r| r.destination == prefix("10.0.0.5/32"));
    assert_eq!(local.and_then(|route| route.prefsrc), Some(ip("10.0.0.1")));
    config.del_address(&address("10.0.0.1/24")).expect("the primary");
    assert_eq!(config.addresses_of(VDE).filter(|a| a.ip().is_ipv4()).count(), 1);
}

#[test]
fn a_secondary_is_promoted_when_asked_for() {
    let mut config = ready();
    add(&mut config, "10.0.0.5/24").expect("a secondary");
    config.set_sysctl("ipv4.conf.vde0.promote_secondaries", "1").expect("a knob");
    config.del_address(&address("10.0.0.1/24")).expect("the primary");
    let left = config.addresses_of(VDE).next().cloned().expect("the promoted one");
    assert_eq!((left.ip(), left.flags), (ip("10.0.0.5"), AddressFlags::PERMANENT));
    assert!(shown(&config, table::MAIN).contains(&"10.0.0.0/24".to_owned()));
}

#[test]
fn addresses_are_refused_in_the_words_of_linux() {
    let mut config = ready();
    assert_eq!(add(&mut config, "10.0.0.1/24"), Err(text::ADDRESS_EXISTS_V4));
    assert_eq!(add(&mut config, "fc00::1/64"), Err(text::ADDRESS_EXISTS_V6));
    assert_eq!(config.del_address(&address("10.0.0.9/24")), Err(text::ADDRESS_MISSING_V4));
    assert_eq!(config.del_address(&address("fc00::9/64")), Err(text::ADDRESS_MISSING_V6));
    let lost = Address::new(IfIndex(9), ip("1.1.1.1"), 8);
    assert_eq!(config.add_address(&lost, RouteMode::ADD), Err(text::ADDRESS_DEVICE_MISSING_V4));
    assert_eq!(add(&mut config, "ff02::1/64"), Err(text::ADDRESS_CANNOT_ASSIGN));
}

#[test]
fn addresses_expire() {
    let mut config = ready();
    let mut passing = address("10.5.0.1/24");
    (passing.valid, passing.preferred) = (10, 5);
    config.add_address(&passing, RouteMode::ADD).expect("a new address");
    assert_eq!(config.due(), Some(5000));
    config.set_now(6000);
    let held = |config: &NetConfig| {
        config.addresses().into_iter().find(|address| address.ip() == ip("10.5.0.1"))
    };
    let seen = held(&config).expect("still valid");
    assert_eq!((seen.valid, seen.preferred), (4, 0));
    assert!(seen.flags.contains(AddressFlags::DEPRECATED));
    assert!(!seen.flags.contains(AddressFlags::PERMANENT));
    config.set_now(10_000);
    assert_eq!(held(&config), None);
    assert!(!shown(&config, table::MAIN).contains(&"10.5.0.0/24".to_owned()));
}

#[test]
fn routes_are_refused_in_the_words_of_linux() {
    let mut config = ready();
    let refused = |config: &mut NetConfig, to: &str, via: &str| {
        add_route(config, to, via).expect_err("a bad route")
    };
    let config = &mut config;
    assert_eq!(refused(config, "10.0.0.0/8", "1.2.3.4"), text::NEXTHOP_INVALID_GATEWAY);
    assert_eq!(refused(config, "10.66.0.1/16", "10.0.0.7"), text::ROUTE_PREFIX_BITS);
    assert_eq!(refused(config, "fd66::/16", "fc00::1"), text::GATEWAY_IS_LOCAL);
    assert_eq!(refused(config, "fd66::/16", "2001:5::1"), Errno::EHOSTUNREACH.into());
    assert_eq!(refused(config, "fd66::/16", "fe80::1"), text::GATEWAY_NO_DEVICE_V6);
    let sourced = Route { prefsrc: Some(ip("9.9.9.9")), ..route("1.2.4.0/24", "10.0.0.3") };
    assert_eq!(config.add_route(&sourced, RouteMode::ADD), Err(text::ROUTE_PREFSRC));
    let sourced = Route { prefsrc: Some(ip("fc99::1")), ..route("fd68::/16", "fc00::3") };
    assert_eq!(config.add_route(&sourced, RouteMode::ADD), Err(text::ROUTE_SOURCE_V6));
    assert_eq!(config.del_route(&route("10.55.0.0/16", "")), Err(Errno::ESRCH.into()));
    config.set_link(VDE, &LinkChange::admin(false)).expect("vde0");
    assert_eq!(refused(config, "0.0.0.0/0", ""), text::NEXTHOP_DEVICE_DOWN);
    assert_eq!(refused(config, "::/0", ""), text::NEXTHOP_DEVICE_DOWN_V6);
}

#[test]
fn route_modes_are_those_of_linux() {
    let mut config = ready();
    add_route(&mut config, "0.0.0.0/0", "10.0.0.77").expect("a default route");
    let again = add_route(&mut config, "0.0.0.0/0", "10.0.0.78");
    assert_eq!(again, Err(Errno::EEXIST.into()));
    let other = route("0.0.0.0/0", "10.0.0.78");
    config.add_route(&other, RouteMode::REPLACE).expect("a replacement");
    config.add_route(&route("0.0.0.0/0", "10.0.0.79"), RouteMode::APPEND).expect("another");
    let gateways: Vec<_> = config
        .routes()
        .into_iter()
        .filter(|route| route.destination.length == 0)
        .filter_map(|route| route.gateway)
        .collect();
    assert_eq!(gateways, [ip("10.0.0.78"), ip("10.0.0.79")]);
    let missing = route("10.67.0.0/16", "10.0.0.78");
    assert_eq!(config.add_route(&missing, RouteMode::CHANGE), Err(Errno::ENOENT.into()));
    let named = Route { scope: Scope::NOWHERE, protocol: 0, ..route("0.0.0.0/0", "10.0.0.79") };
    config.del_route(&named).expect("the second one");
    let hop = config.lookup(&Flow::to(ip("8.8.8.8"))).expect("a route");
    assert_eq!(hop.gateway, Some(ip("10.0.0.78")));
}

#[test]
fn lookups_answer_as_ip_route_get() {
    let mut config = ready();
    add_route(&mut config, "0.0.0.0/0", "10.0.0.77").expect("a default route");
    add_route(&mut config, "10.7.0.0/16", "").expect("a link route");
    let black = Route { kind: RouteKind::Blackhole, ..Route::new(prefix("10.8.0.0/16")) };
    config.add_route(&black, RouteMode::ADD).expect("a blackhole");
    let look = |to: &str| config.lookup(&Flow::to(ip(to)));
    let far = look("8.8.8.8").expect("a way");
    assert_eq!(
        (far.oif, far.gateway, far.source),
        (VDE, Some(ip("10.0.0.77")), Some(ip("10.0.0.1")))
    );
    assert_eq!(far.mtu, 1500);
    assert_eq!(look("10.7.1.1").expect("a way").gateway, None);
    assert_eq!(look("10.8.1.1"), Err(Errno::EINVAL));
    let own = look("10.0.0.1").expect("a way");
    assert_eq!((own.oif, own.kind, own.source), (IfIndex(1), HopKind::Local, Some(ip("10.0.0.1"))));
    assert_eq!(look("127.5.5.5").expect("a way").source, Some(ip("127.0.0.1")));
    assert_eq!(look("10.0.0.255").expect("a way").kind, HopKind::Broadcast);
    assert_eq!(look("224.0.0.5").expect("a way").kind, HopKind::Multicast);
    assert_eq!(look("ff02::1").expect("a way").kind, HopKind::Multicast);
    assert_eq!(look("fe80::1").expect("a way").source, Some(ip("fe80::7c76:c0ff:fed7:3b37")));
    assert_eq!(look("fc00::9").expect("a way").source, Some(ip("fc00::1")));
    assert_eq!(look("2001::1"), Err(Errno::ENETUNREACH));
    assert!(config.is_local(ip("fc00::1")) && !config.is_local(ip("10.0.0.2")));
    assert!(config.is_broadcast_on(ip("10.0.0.255"), VDE));
    assert!(!config.is_broadcast_on(ip("10.0.0.255"), IfIndex(1)));
}

#[test]
fn a_large_table_is_quick() {
    let mut config = ready();
    for number in 0..20_000u32 {
        let network = Prefix::new(IpAddr::V4((0x2000_0000 + (number << 8)).into()), 24);
        let route = Route { gateway: Some(ip("10.0.0.2")), ..Route::new(network) };
        config.add_route(&route, RouteMode::ADD).expect("a new route");
    }
    let found = (0..20_000u32).filter(|number| {
        let to = IpAddr::V4((0x2000_0007 + (number << 8)).into());
        config.lookup(&Flow::to(to).from(ip("10.0.0.1"))).is_ok()
    });
    assert_eq!(found.count(), 20_000);
    assert_eq!(config.routes().len(), config.take_changes().len() + 12);
}

#[test]
fn a_bound_interface_needs_no_route() {
    let mut config = fresh();
    config.set_link(VDE, &LinkChange::admin(true)).expect("vde0");
    let hop = config.lookup(&Flow::to(ip("255.255.255.255")).by(VDE)).expect("a way");
    assert_eq!((hop.oif, hop.kind, hop.source), (VDE, HopKind::Broadcast, None));
    assert_eq!(config.lookup(&Flow::to(ip("255.255.255.255"))), Err(Errno::ENETUNREACH));
}

#[test]
fn route_get_refuses_a_foreign_source() {
    let mut config = ready();
    add_route(&mut config, "0.0.0.0/0", "10.0.0.77").expect("a default route");
    let mut query = RouteQuery::to(ip("8.8.8.8"));
    query.source = Some(ip("1.1.1.1"));
    assert_eq!(config.route_get(&query), Err(Errno::ENETUNREACH.into()));
    query.source = Some(ip("10.0.0.1"));
    let answer = config.route_get(&query).expect("a way");
    assert_eq!(answer.route.gateway, Some(ip("10.0.0.77")));
    assert_eq!(answer.route.prefsrc, None);
}

#[test]
fn several_ways_share_the_flows() {
    let mut config = ready();
    let way =
        |text: &str, weight| NextHop { gateway: Some(ip(text)), oif: None, weight, onlink: false };
    let nexthops = vec![way("10.0.0.2", 2), way("10.0.0.3", 1)];
    let both = Route { nexthops, ..Route::new(prefix("5.5.6.0/24")) };
    config.add_route(&both, RouteMode::ADD).expect("a multipath route");
    let mut counts = [0, 0];
    for last in 0..=255 {
        let hop = config.lookup(&Flow::to(IpAddr::from([5, 5, 6, last]))).expect("a way");
        counts[usize::from(hop.gateway == Some(ip("10.0.0.3")))] += 1;
    }
    assert!(counts[0] > 130 && counts[1] > 50, "{counts:?}");
}

#[test]
fn changes_tell_what_happened() {
    let mut config = fresh();
    let _ = config.take_changes();
    add(&mut config, "10.0.0.1/24").expect("a new address");
    let changes = config.take_changes();
    assert!(matches!(&changes[..], [Change::Address(_), Change::Route(route)]
        if route.kind == RouteKind::Local));
    config.set_link(VDE, &LinkChange::admin(true)).expect("vde0");
    let changes = config.take_changes();
    assert!(matches!(&changes[0], Change::Link(link) if link.flags.contains(LinkFlags::UP)));
    let connected = |change: &Change| {
        matches!(change, Change::Route(route)
        if route.destination == prefix("10.0.0.0/24"))
    };
    assert!(changes.iter().any(connected));
    assert_eq!(config.take_changes(), []);
}

#[test]
fn going_down_is_told_as_the_kernel_tells_it() {
    let mut config = ready();
    add_route(&mut config, "0.0.0.0/0", "10.0.0.77").expect("a default route");
    let _ = config.take_changes();
    config.set_link(VDE, &LinkChange::admin(false)).expect("vde0");
    let told: Vec<&str> = config
        .take_changes()
        .iter()
        .map(|change| match change {
            Change::Link(_) => "link",
            Change::RouteFlushed(route) if route.is_ipv4() => "flushed",
            Change::RouteRemoved(route) if !route.is_ipv4() => "route",
            Change::AddressRemoved(address) if address.ip().is_ipv6() => "address",
            other => panic!("{other:?}"),
        })
        .collect();
    let count = |word| told.iter().filter(|told| **told == word).count();
    assert_eq!([count("link"), count("flushed"), count("route"), count("address")], [1, 3, 5, 2]);
    let order = |word| told.iter().position(|told| *told == word);
    assert!(order("link") < order("route") && order("route") < order("address"), "{told:?}");
}

#[test]
fn a_deleted_connected_route_stays_deleted() {
    let mut config = ready();
    let named = Route { protocol: 0, ..route("10.0.0.0/24", "") };
    config.del_route(&named).expect("the connected route");
    add(&mut config, "10.3.0.1/24").expect("another address");
    assert!(!shown(&config, table::MAIN).contains(&"10.0.0.0/24".to_owned()));
}

#[test]
fn links_are_named_and_counted_as_on_linux() {
    let mut config = ready();
    let plan = |config: &mut NetConfig, name: Option<&str>| {
        let properties = LinkChange { name: name.map(str::to_owned), ..LinkChange::default() };
        config.plan_link(&NewLink { kind: "vde".to_owned(), properties, ..NewLink::default() })
    };
    assert_eq!(plan(&mut config, None), Ok(("vde1".to_owned(), IfIndex(3))));
    assert_eq!(plan(&mut config, Some("vde0")), Err(Errno::EEXIST.into()));
    assert_eq!(plan(&mut config, Some("a/b")), Err(Errno::EINVAL.into()));
    assert_eq!(plan(&mut config, Some("sixteen-bytes-xx")), Err(Errno::EINVAL.into()));
    let change = |mtu| LinkChange { mtu: Some(mtu), ..LinkChange::default() };
    assert_eq!(config.set_link(VDE, &change(10)), Err(text::LINK_MTU_SMALL));
    assert_eq!(config.set_link(VDE, &change(100_000)), Err(text::LINK_MTU_LARGE));
    config.set_link(VDE, &change(1000)).expect("too small for IPv6");
    assert!(config.addresses_of(VDE).all(|address| address.ip().is_ipv4()));
    config.set_link(VDE, &change(1500)).expect("large enough");
    assert!(config.addresses_of(VDE).any(|address| address.ip().is_ipv6()));
    assert_eq!(config.remove_link(IfIndex(1)), Err(Errno::EOPNOTSUPP.into()));
    config.remove_link(VDE).expect("a removable link");
    // The one that was planned above is nobody else's.
    assert_eq!(config.next_index(), IfIndex(4));
}

#[test]
fn forwarding_is_one_knob_in_three_places() {
    let mut config = ready();
    assert!(!config.forwards(false));
    config.set_sysctl("ipv4.ip_forward", "1\n").expect("a knob");
    assert!(config.forwards(false) && !config.forwards(true));
    assert_eq!(config.sysctl("ipv4.conf.vde0.forwarding"), Some("1"));
    config.set_sysctl("ipv6.conf.all.forwarding", "1").expect("a knob");
    assert_eq!(config.address_kind(ip("fc00::")), RouteKind::Anycast);
    assert_eq!(config.set_sysctl("ipv4.ip_forward", "x"), Err(Errno::EINVAL));
    // As Linux 6.18 takes them: any base, words beyond the last, none for those that stay.
    for (value, held) in [("0x10", "16"), ("010", "8"), ("1 2", "1"), ("", "1"), (" 64\n", "64")] {
        config.set_sysctl("ipv4.ip_default_ttl", value).expect("a number");
        assert_eq!(config.sysctl("ipv4.ip_default_ttl"), Some(held), "{value:?}");
    }
    for value in ["\n", "64x", "64,65", "--1", "0x-1", "300", "99999999999"] {
        assert_eq!(
            config.set_sysctl("ipv4.ip_default_ttl", value),
            Err(Errno::EINVAL),
            "{value:?}"
        );
    }
    config.set_sysctl("ipv4.tcp_rmem", "5000").expect("the first of three");
    assert_eq!(config.sysctl("ipv4.tcp_rmem"), Some("5000\t131072\t6291456"));
    assert_eq!(config.set_sysctl("ipv4.ip_local_port_range", "300"), Err(Errno::EINVAL));
    assert_eq!(config.set_sysctl("ipv4.tcp_congestion_control", "none"), Err(Errno::ENOENT));
    config.set_sysctl("ipv4.tcp_congestion_control", "reno").expect("a known one");
    assert_eq!(config.set_sysctl("ipv4.nothing", "1"), Err(Errno::ENOENT));
    config.set_sysctl("ipv6.conf.vde0.disable_ipv6", "1").expect("a knob");
    assert!(config.addresses_of(VDE).all(|address| address.ip().is_ipv4()));
    assert_eq!(add(&mut config, "fc00::2/64"), Err(text::IPV6_DISABLED));
}

#[test]
fn the_mtu_of_ipv6_follows_that_of_the_interface() {
    let mut config = fresh();
    let mtu = |config: &NetConfig, name: &str| {
        config.sysctl_number(&format!("ipv6.conf.{name}.mtu")).unwrap_or_default()
    };
    assert_eq!(
        [mtu(&config, "lo"), mtu(&config, "vde0"), mtu(&config, "default")],
        [65536, 1500, 1280]
    );
    let larger = LinkChange { mtu: Some(9000), ..LinkChange::default() };
    config.set_link(IfIndex(2), &larger).expect("set");
    assert_eq!(mtu(&config, "vde0"), 9000);
}
