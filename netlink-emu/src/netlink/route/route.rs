//! `RTM_*ROUTE`: routes listed, looked up, added, removed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use umvu_abi::{Errno, IfIndex};

use super::{
    byte, family,
    route_encode::{Dark, encode, encode_answer},
    strict,
};
use crate::{
    host::{Failure, HostNet},
    netlink::{
        Answer, Filtered,
        attributes::{self, Attributes, field},
        message::Request,
    },
    text,
    values::{Metrics, NextHop, Prefix, Route, RouteKind, RouteMode, RouteQuery, Scope, table},
};

/// The size of `struct rtmsg`.
const FIXED: usize = 12;
const RTA_NH_ID: u16 = 30;
const RTNH_F_ONLINK: u8 = 4;
/// `RTAX_*`, the types within `RTA_METRICS`.
mod metric {
    pub(super) const LOCK: u16 = 1;
    pub(super) const MTU: u16 = 2;
    pub(super) const WINDOW: u16 = 3;
    pub(super) const RTT: u16 = 4;
    pub(super) const RTTVAR: u16 = 5;
    pub(super) const SSTHRESH: u16 = 6;
    pub(super) const CWND: u16 = 7;
    pub(super) const ADVMSS: u16 = 8;
    pub(super) const REORDERING: u16 = 9;
    pub(super) const HOPLIMIT: u16 = 10;
    pub(super) const INITCWND: u16 = 11;
    pub(super) const FEATURES: u16 = 12;
    pub(super) const RTO_MIN: u16 = 13;
    pub(super) const INITRWND: u16 = 14;
    pub(super) const QUICKACK: u16 = 15;
}

pub(super) fn get(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    if request.is_dump() { dump(host, request) } else { look_up(host, request) }
}

fn dump(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    let attributes = Attributes::after(request.payload, FIXED);
    let Ok(family) = family(request.payload) else { return Ok(Answer::nothing()) };
    strict::routes(request)?;
    let flags = u32::from_ne_bytes(field(request.payload, 8));
    if flags & libc::RTM_F_CLONED != 0 {
        return Ok(Answer::nothing());
    }
    let [_, _, _, _, header_table, protocol, _, kind] = field::<8>(request.payload, 0);
    let strict = request.strict;
    let wanted = attributes.u32(libc::RTA_TABLE)?.unwrap_or(u32::from(header_table));
    let wanted = if strict { wanted } else { 0 };
    let (protocol, kind) = if strict { (protocol, kind) } else { (0, 0) };
    let oif = attributes.u32(libc::RTA_OIF)?.filter(|oif| strict && *oif != 0).map(IfIndex);
    let routes: Vec<Route> = host
        .routes()
        .into_iter()
        .filter(|route| family.is_none_or(|ipv6| route.is_ipv4() != ipv6))
        .collect();
    let is_standard = [0, table::MAIN, table::LOCAL, table::DEFAULT].contains(&wanted);
    if !is_standard && !routes.iter().any(|route| route.table == wanted) {
        // Of both families the kernel tells nothing about the missing table.
        return match family {
            None => Ok(Answer::nothing()),
            Some(false) => Err(text::DUMP_TABLE_MISSING_V4),
            Some(true) => Err(text::DUMP_TABLE_MISSING_V6),
        };
    }
    let dark = dark(host);
    let bodies = routes
        .into_iter()
        .filter(move |route| {
            (wanted == 0 || route.table == wanted)
                && (protocol == 0 || route.protocol == protocol)
                && (kind == 0 || route.kind.number() == kind)
                && oif.is_none_or(|oif| route.uses(oif))
        })
        .map(move |route| encode(libc::RTM_NEWROUTE, &route, &dark));
    let filtered = wanted != 0 || protocol != 0 || kind != 0 || oif.is_some();
    Ok(Answer::Dump { bodies: Box::new(bodies), filtered: Filtered::all_if(filtered) })
}

fn dark(host: &dyn HostNet) -> Dark {
    let links = host.interfaces().into_iter();
    links.filter(|link| link.is_up() && !link.carrier).map(|link| link.index).collect()
}

/// `RTM_F_LOOKUP_TABLE`.
const LOOKUP_TABLE: u32 = 0x1000;

fn look_up(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    let attributes = Attributes::after(request.payload, FIXED);
    let ipv6 = match family(request.payload) {
        Ok(Some(ipv6)) => ipv6,
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    let of_family = |ip: Option<IpAddr>| match ip {
        Some(ip) if ip.is_ipv6() != ipv6 => Err(Errno::EINVAL),
        ip => Ok(ip),
    };
    let any = if ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { Ipv4Addr::UNSPECIFIED.into() };
    let mut query = RouteQuery::to(of_family(attributes.ip(libc::RTA_DST)?)?.unwrap_or(any));
    query.source = of_family(attributes.ip(libc::RTA_SRC)?)?.filter(|ip| !ip.is_unspecified());
    query.oif = attributes.u32(libc::RTA_OIF)?.filter(|oif| *oif != 0).map(IfIndex);
    query.iif = attributes.u32(libc::RTA_IIF)?.filter(|iif| *iif != 0).map(IfIndex);
    query.mark = attributes.u32(libc::RTA_MARK)?.unwrap_or(0);
    query.tos = field::<4>(request.payload, 0)[3];
    let flags = u32::from_ne_bytes(field(request.payload, 8));
    query.tells_table = flags & LOOKUP_TABLE != 0;
    query.fib_match = flags & libc::RTM_F_FIB_MATCH != 0;
    let answer = host.route_get(&query)?;
    Ok(Answer::Messages(vec![encode_answer(&answer)]))
}

pub(super) fn new(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    let mut route = decode(request)?;
    route.kind =
        RouteKind::from_number(field::<8>(request.payload, 0)[7]).ok_or(text::ROUTE_KIND)?;
    let mode = RouteMode {
        create: request.has(libc::NLM_F_CREATE),
        exclusive: request.has(libc::NLM_F_EXCL),
        replace: request.has(libc::NLM_F_REPLACE),
        append: request.has(libc::NLM_F_APPEND),
    };
    host.add_route(&route, mode)?;
    Ok(Answer::Done)
}

pub(super) fn del(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    let mut route = decode(request)?;
    route.kind =
        RouteKind::from_number(field::<8>(request.payload, 0)[7]).ok_or(text::ROUTE_KIND)?;
    host.del_route(&route)?;
    Ok(Answer::Done)
}

fn decode(request: &Request<'_>) -> Result<Route, Failure> {
    if request.payload.len() < FIXED {
        return Err(Errno::EINVAL.into());
    }
    let attributes = Attributes::after(request.payload, FIXED);
    let [_, length, _, tos, header_table, protocol, scope, _] = field::<8>(request.payload, 0);
    let ipv6 = match family(request.payload) {
        Ok(Some(ipv6)) => ipv6,
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    if length > if ipv6 { 128 } else { 32 } {
        return Err(text::ROUTE_PREFIX_LENGTH);
    }
    if attributes.u32(RTA_NH_ID)?.is_some_and(|id| id != 0) {
        return Err(text::NEXTHOP_OBJECTS);
    }
    let destination = match attributes.bytes(libc::RTA_DST) {
        Some(bytes) => address(bytes, ipv6)?,
        None => address(&[], ipv6)?,
    };
    let mut route = Route::new(Prefix::new(destination, length));
    route.destination = Prefix::new(destination, length);
    route.table = attributes.u32(libc::RTA_TABLE)?.unwrap_or(u32::from(header_table));
    if route.table == 0 {
        route.table = table::MAIN;
    }
    route.protocol = protocol;
    route.scope = Scope(scope);
    route.tos = if ipv6 { 0 } else { tos };
    route.oif = attributes.u32(libc::RTA_OIF)?.filter(|oif| *oif != 0).map(IfIndex);
    route.metric = attributes.u32(libc::RTA_PRIORITY)?.unwrap_or(0);
    route.prefsrc = attributes.ip(libc::RTA_PREFSRC)?;
    route.gateway = gateway(&attributes)?;
    route.onlink = field::<1>(request.payload, 8)[0] & RTNH_F_ONLINK != 0;
    route.preference = attributes.u8(libc::RTA_PREF)?.unwrap_or(0);
    route.expires = attributes.u32(libc::RTA_EXPIRES)?.filter(|seconds| *seconds != 0);
    if let Some(list) = attributes.nested(libc::RTA_METRICS) {
        route.metrics = metrics(&list)?;
    }
    if let Some(bytes) = attributes.bytes(libc::RTA_MULTIPATH) {
        route.nexthops = next_hops(bytes)?;
        if let [only] = route.nexthops[..] {
            (route.gateway, route.oif, route.onlink) = (only.gateway, only.oif, only.onlink);
            route.nexthops.clear();
        }
    }
    Ok(route)
}

/// A destination: of IPv4 and IPv6 bytes that are cut off count as zero.
fn address(bytes: &[u8], ipv6: bool) -> Result<IpAddr, Errno> {
    let width = if ipv6 { 16 } else { 4 };
    if bytes.len() > width {
        return Err(Errno::EINVAL);
    }
    let mut whole = bytes.to_vec();
    whole.resize(width, 0);
    attributes::ip(&whole)
}

fn gateway(attributes: &Attributes<'_>) -> Result<Option<IpAddr>, Errno> {
    if let Some(ip) = attributes.ip(libc::RTA_GATEWAY)? {
        return Ok(Some(ip).filter(|ip| !ip.is_unspecified()));
    }
    let Some(via) = attributes.bytes(libc::RTA_VIA) else { return Ok(None) };
    let family = u16::from_ne_bytes(field(via, 0));
    let ip = attributes::ip(via.get(2..).unwrap_or_default())?;
    if i32::from(family) != if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } {
        return Err(Errno::EINVAL);
    }
    Ok(Some(ip))
}

fn metrics(list: &Attributes<'_>) -> Result<Metrics, Errno> {
    let value = |kind| list.u32(kind).map(Option::unwrap_or_default);
    Ok(Metrics {
        mtu: value(metric::MTU)?,
        window: value(metric::WINDOW)?,
        advmss: value(metric::ADVMSS)?,
        hoplimit: value(metric::HOPLIMIT)?,
        initcwnd: value(metric::INITCWND)?,
        initrwnd: value(metric::INITRWND)?,
        rtt: value(metric::RTT)?,
        rttvar: value(metric::RTTVAR)?,
        ssthresh: value(metric::SSTHRESH)?,
        cwnd: value(metric::CWND)?,
        reordering: value(metric::REORDERING)?,
        features: value(metric::FEATURES)?,
        rto_min: value(metric::RTO_MIN)?,
        quickack: value(metric::QUICKACK)?,
        lock: value(metric::LOCK)?,
    })
}

/// The ways of a multipath route: `struct rtnexthop` with attributes each.
fn next_hops(mut bytes: &[u8]) -> Result<Vec<NextHop>, Errno> {
    const HEADER: usize = 8;
    let mut hops = Vec::new();
    while !bytes.is_empty() {
        let length = usize::from(u16::from_ne_bytes(field(bytes, 0)));
        let hop = bytes.get(..length).filter(|hop| hop.len() >= HEADER).ok_or(Errno::EINVAL)?;
        let [flags, hops_field] = field::<2>(hop, 2);
        let oif = u32::from_ne_bytes(field(hop, 4));
        hops.push(NextHop {
            gateway: gateway(&Attributes::after(hop, HEADER))?,
            oif: (oif != 0).then_some(IfIndex(oif)),
            weight: hops_field.saturating_add(1),
            onlink: flags & RTNH_F_ONLINK != 0,
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(hops)
}

/// `AF_INET` and `AF_INET6` as a header has them.
#[must_use]
pub(super) fn family_byte(ipv6: bool) -> u8 {
    byte(if ipv6 { libc::AF_INET6 } else { libc::AF_INET })
}
