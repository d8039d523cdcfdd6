//! Routes as `RTM_NEWROUTE` messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{DefaultNla, Nla as _};
use netlink_packet_route::{
    AddressFamily,
    route::{
        RouteAddress, RouteAttribute as A, RouteFlags, RouteMessage, RouteMetric, RouteNextHop,
        RouteNextHopFlags, RoutePreference, RouteProtocol, RouteScope, RouteType, RouteVia,
    },
};
use umvu_abi::IfIndex;

use super::body;
use crate::{
    netlink::Body,
    values::{Metrics, NextHop, Route, RouteAnswer, RouteKind},
};

const RTNH_F_ONLINK: u32 = 4;
const RTNH_F_LINKDOWN: u32 = 16;
/// `RTM_F_CLONED` and the `RTCF_*` flags that say what a way is.
const CLONED: u32 = 0x200;
const RTCF_BROADCAST: u32 = 0x1000_0000;
const RTCF_MULTICAST: u32 = 0x2000_0000;
const RTCF_LOCAL: u32 = 0x8000_0000;

/// Interfaces that are up and have no carrier: their routes are marked.
pub(super) type Dark = Vec<IfIndex>;

/// Encodes a route.
pub(super) fn encode(kind: u16, route: &Route, dark: &Dark) -> Body {
    body(kind, &message(route, dark))
}

fn message(route: &Route, dark: &Dark) -> RouteMessage {
    let ipv4 = route.is_ipv4();
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = if ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    header.destination_prefix_length = route.destination.length;
    header.tos = route.tos;
    // Larger numbers are in RTA_TABLE only (RT_TABLE_COMPAT).
    header.table = u8::try_from(route.table).unwrap_or(252);
    header.protocol = RouteProtocol::from(route.protocol);
    header.scope = RouteScope::from(route.scope.0);
    header.kind = RouteType::from(route.kind.number());
    let mut flags = if route.onlink { RTNH_F_ONLINK } else { 0 };
    if route.oif.is_some_and(|oif| dark.contains(&oif)) {
        flags |= RTNH_F_LINKDOWN;
    }
    header.flags = RouteFlags::from_bits_retain(flags);

    let attributes = &mut message.attributes;
    attributes.push(A::Table(route.table));
    if route.destination.length > 0 {
        attributes.push(A::Destination(route.destination.ip.into()));
    }
    if route.metric != 0 || !ipv4 {
        attributes.push(A::Priority(route.metric));
    }
    attributes.extend(metrics(&route.metrics));
    attributes.extend(route.prefsrc.map(|source| A::PrefSource(source.into())));
    if route.nexthops.is_empty() {
        attributes.extend(gateway(route.gateway, ipv4));
        attributes.extend(route.oif.map(|oif| A::Oif(oif.0)));
    } else {
        let hops = route.nexthops.iter().map(|hop| next_hop(hop, ipv4, dark)).collect();
        attributes.push(A::MultiPath(hops));
    }
    if !ipv4 {
        let expires = route.expires.map_or(0, |seconds| seconds.saturating_mul(100));
        attributes.push(cache_info(expires));
        attributes.push(A::Preference(RoutePreference::from(route.preference)));
    }
    message
}

/// `RTA_CACHEINFO` with `struct rta_cacheinfo`: of which a stack only knows when
/// the route expires.
fn cache_info(expires: u32) -> A {
    const CACHEINFO: u16 = 12;
    let fields = [0, 0, expires, 0, 0, 0, 0, 0];
    let bytes = fields.iter().flat_map(|field: &u32| field.to_ne_bytes()).collect();
    A::Other(DefaultNla::new(CACHEINFO, bytes))
}

fn gateway(gateway: Option<IpAddr>, ipv4: bool) -> Option<A> {
    gateway.map(|gateway| match gateway {
        IpAddr::V6(router) if ipv4 => A::Via(RouteVia::Inet6(router)),
        _ => A::Gateway(gateway.into()),
    })
}

fn next_hop(hop: &NextHop, ipv4: bool, dark: &Dark) -> RouteNextHop {
    let mut way = RouteNextHop::default();
    way.hops = hop.weight.saturating_sub(1);
    way.interface_index = hop.oif.map_or(0, |oif| oif.0);
    way.flags.set(RouteNextHopFlags::Onlink, hop.onlink);
    way.flags.set(RouteNextHopFlags::Linkdown, hop.oif.is_some_and(|oif| dark.contains(&oif)));
    way.attributes.extend(gateway(hop.gateway, ipv4));
    way
}

fn metrics(metrics: &Metrics) -> Option<A> {
    let given = [
        (metrics.lock, RouteMetric::Lock(metrics.lock)),
        (metrics.mtu, RouteMetric::Mtu(metrics.mtu)),
        (metrics.window, RouteMetric::Window(metrics.window)),
        (metrics.rtt, RouteMetric::Rtt(metrics.rtt)),
        (metrics.rttvar, RouteMetric::RttVar(metrics.rttvar)),
        (metrics.ssthresh, RouteMetric::SsThresh(metrics.ssthresh)),
        (metrics.cwnd, RouteMetric::Cwnd(metrics.cwnd)),
        (metrics.advmss, RouteMetric::Advmss(metrics.advmss)),
        (metrics.reordering, RouteMetric::Reordering(metrics.reordering)),
        (metrics.hoplimit, RouteMetric::Hoplimit(metrics.hoplimit)),
        (metrics.initcwnd, RouteMetric::InitCwnd(metrics.initcwnd)),
        (metrics.features, RouteMetric::Features(metrics.features)),
        (metrics.rto_min, RouteMetric::RtoMin(metrics.rto_min)),
        (metrics.initrwnd, RouteMetric::InitRwnd(metrics.initrwnd)),
        (metrics.quickack, RouteMetric::QuickAck(metrics.quickack)),
    ];
    let list: Vec<RouteMetric> =
        given.into_iter().filter(|(value, _)| *value != 0).map(|(_, metric)| metric).collect();
    (!list.is_empty()).then_some(A::Metrics(list))
}

/// The order of `RTA_*` attributes in answers: table, destination, source, and so on.
const ANSWER_V4: [u16; 9] = [15, 1, 2, 4, 7, 5, 8, 16, 25];
const ANSWER_V6: [u16; 9] = [15, 1, 2, 3, 7, 8, 6, 5, 4];

/// Encodes the answer to `ip route get`.
pub(super) fn encode_answer(answer: &RouteAnswer) -> Body {
    let route = &answer.route;
    let mut message = message(route, &Dark::new());
    if answer.fib_match {
        return body(libc::RTM_NEWROUTE, &message);
    }
    if route.is_ipv4() {
        let kind = match route.kind {
            RouteKind::Local => RTCF_LOCAL,
            RouteKind::Broadcast => RTCF_LOCAL | RTCF_BROADCAST,
            RouteKind::Multicast => RTCF_MULTICAST,
            _ => 0,
        };
        message.header.flags = RouteFlags::from_bits_retain(CLONED | kind);
        message.attributes.push(A::Uid(0));
        message.attributes.push(cache_info(0));
        message.attributes.retain(|attribute| !matches!(attribute, A::Priority(_)));
    }
    let source = match (answer.source, route.is_ipv4()) {
        (None, true) => None,
        (None, false) => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        (given, _) => given,
    };
    if let Some(source) = source {
        message.header.source_prefix_length = crate::values::prefix::width(source);
        message.attributes.push(A::Source(source.into()));
    }
    if answer.mark != 0 {
        message.attributes.push(A::Mark(answer.mark));
    }
    message.attributes.extend(answer.iif.map(|iif| A::Iif(iif.0)));
    if route.destination.length > 0 && route.destination.ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
        message.attributes.push(A::Destination(RouteAddress::from(route.destination.ip)));
    }
    let order = if route.is_ipv4() { &ANSWER_V4 } else { &ANSWER_V6 };
    message.attributes.sort_by_key(|attribute| {
        order.iter().position(|kind| *kind == attribute.kind()).unwrap_or(order.len())
    });
    body(libc::RTM_NEWROUTE, &message)
}
