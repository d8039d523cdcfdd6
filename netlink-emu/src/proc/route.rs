//! `/proc/net/route`, `/proc/net/ipv6_route` and what is left of the routing cache.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::files::name_of;
use crate::{
    host::HostNet,
    values::{Interface, NextHop, Route, RouteKind, protocol, table},
};

const ROUTE_HEADER: &str =
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";

/// `/proc/net/rt_cache`: always empty since the cache is gone.
pub(super) const RT_CACHE: &str = "Iface\tDestination\tGateway \tFlags\t\tRefCnt\tUse\tMetric\t\
    Source\t\tMTU\tWindow\tIRTT\tTOS\tHHRef\tHHUptod\tSpecDst                          \n";

/// `RTF_*`.
const UP: u32 = 0x1;
const GATEWAY: u32 = 0x2;
const HOST: u32 = 0x4;
const REJECT: u32 = 0x200;
const ANYCAST: u32 = 0x10_0000;
const NONEXTHOP: u32 = 0x20_0000;
const ADDED_BY_RA: u32 = 0x45_0000;
const LOCAL: u32 = 0x8000_0000;

/// The width of a line.
const WIDTH: usize = 127;

pub(super) fn route(host: &dyn HostNet) -> String {
    let links = host.interfaces();
    let mut text = format!("{ROUTE_HEADER:<WIDTH$}\n");
    for route in host.routes() {
        let unshown = matches!(route.kind, RouteKind::Broadcast | RouteKind::Multicast);
        if route.is_ipv4() && route.table == table::MAIN && !unshown {
            let line = route_line(&route, &links);
            let _ = writeln!(text, "{line:<WIDTH$}");
        }
    }
    text
}

/// The first way counts, as in the kernel.
fn first_hop(route: &Route) -> NextHop {
    route.nexthops.first().copied().unwrap_or(NextHop {
        gateway: route.gateway,
        oif: route.oif,
        weight: 1,
        onlink: false,
    })
}

fn route_line(route: &Route, links: &[Interface]) -> String {
    let hop = first_hop(route);
    let mut flags = match route.kind {
        RouteKind::Unreachable | RouteKind::Prohibit => REJECT,
        _ => 0,
    };
    let gateway = match hop.gateway {
        Some(IpAddr::V4(gateway)) => gateway,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    if hop.gateway.is_some() {
        flags |= GATEWAY;
    }
    if route.destination.is_host() {
        flags |= HOST;
    }
    let name = hop.oif.map_or("*", |oif| name_of(links, oif));
    let advmss = if route.metrics.advmss == 0 { 0 } else { route.metrics.advmss + 40 };
    format!(
        "{name}\t{:08X}\t{:08X}\t{:04X}\t0\t0\t{}\t{:08X}\t{advmss}\t{}\t0",
        raw(route.destination.ip),
        raw(gateway.into()),
        flags | UP,
        route.metric,
        raw(route.destination.mask()),
        route.metrics.window,
    )
}

/// The bytes of an IPv4 address as a number of this machine.
fn raw(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(ip) => u32::from_ne_bytes(ip.octets()),
        IpAddr::V6(_) => 0,
    }
}

pub(super) fn ipv6_route(host: &dyn HostNet) -> String {
    let links = host.interfaces();
    let mut text = String::new();
    for route in host.routes().iter().filter(|route| !route.is_ipv4()) {
        for hop in ways(route) {
            line6(&mut text, route, hop, &links);
        }
    }
    // The end of every lookup.
    let none = hex(Ipv6Addr::UNSPECIFIED.into());
    let _ =
        writeln!(text, "{none} 00 {none} 00 {none} ffffffff 00000001 00000000 00200200       lo");
    text
}

fn ways(route: &Route) -> Vec<NextHop> {
    if route.nexthops.is_empty() { vec![first_hop(route)] } else { route.nexthops.clone() }
}

fn line6(text: &mut String, route: &Route, hop: NextHop, links: &[Interface]) {
    let mut flags = match route.kind {
        RouteKind::Local => UP | LOCAL | NONEXTHOP,
        RouteKind::Anycast => UP | ANYCAST | NONEXTHOP,
        kind if kind.is_reject() => REJECT | NONEXTHOP,
        _ => UP,
    };
    if hop.gateway.is_some() {
        flags |= GATEWAY;
    }
    if route.protocol == protocol::RA {
        flags |= ADDED_BY_RA;
    }
    let none = Ipv6Addr::UNSPECIFIED.into();
    let _ = writeln!(
        text,
        "{} {:02x} {} 00 {} {:08x} {:08x} {:08x} {flags:08x} {:>8}",
        hex(route.destination.ip),
        route.destination.length,
        hex(none),
        hex(hop.gateway.unwrap_or(none)),
        route.metric,
        1,
        0,
        hop.oif.map_or("lo", |oif| name_of(links, oif)),
    );
}

/// An IPv6 address as 32 hexadecimal digits.
pub(super) fn hex(ip: IpAddr) -> String {
    match ip {
        IpAddr::V6(ip) => format!("{:032x}", ip.to_bits()),
        IpAddr::V4(ip) => format!("{:032x}", ip.to_ipv6_mapped().to_bits()),
    }
}

pub(super) fn rt6_stats(host: &dyn HostNet) -> String {
    let count = host.routes().iter().filter(|route| !route.is_ipv4()).count();
    format!("{count:04x} {count:04x} 0000 {count:04x} 0000 0000 0000\n")
}
