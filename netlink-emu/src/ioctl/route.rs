//! `SIOCADDRT` and `SIOCDELRT`: `struct rtentry` and `struct in6_rtmsg`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use umvu_abi::{Errno, IfIndex};

use super::{
    address::mask_length,
    ifreq::{read_sockaddr, text},
};
use crate::{
    host::HostNet,
    values::{Prefix, Route, RouteKind, RouteMode, Scope, protocol},
};

/// The sizes of `struct rtentry` and `struct in6_rtmsg`.
const RTENTRY: usize = 120;
const IN6_RTMSG: usize = 80;
/// `RTF_*`.
const GATEWAY: u32 = 0x2;
const HOST: u32 = 0x4;
const MTU: u32 = 0x40;
const WINDOW: u32 = 0x80;
const REJECT: u32 = 0x200;

pub(super) fn change(host: &dyn HostNet, add: bool, argument: &[u8]) -> Result<i32, Errno> {
    let mut route = if argument.len() == IN6_RTMSG {
        ipv6(argument)?
    } else if argument.len() >= RTENTRY {
        ipv4(host, argument)?
    } else {
        return Err(Errno::EINVAL);
    };
    if add {
        let mode = if route.is_ipv4() { RouteMode::PREPEND } else { RouteMode::ADD };
        host.add_route(&route, mode)?;
    } else {
        route.protocol = protocol::UNSPEC;
        if route.is_ipv4() {
            route.scope = Scope::NOWHERE;
        }
        host.del_route(&route)?;
    }
    Ok(0)
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn short(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_ne_bytes)
}

fn ipv4(host: &dyn HostNet, rt: &[u8]) -> Result<Route, Errno> {
    let flags = u32::from(short(rt, 56));
    let destination = read_sockaddr(&rt[8..24]).ok_or(Errno::EAFNOSUPPORT)?;
    let length = if flags & HOST != 0 {
        32
    } else {
        // A family of 0 is tolerated when the mask is all zero, as old programs send it.
        let mask = read_sockaddr(&rt[40..56]).unwrap_or(Ipv4Addr::UNSPECIFIED);
        mask_length(mask)?
    };
    let prefix = Prefix::new(destination.into(), length);
    if prefix.network() != prefix {
        return Err(Errno::EINVAL);
    }
    let mut route = Route::new(prefix);
    // rt_metric counts from 1.
    route.metric = u32::from(short(rt, 80)).saturating_sub(1);
    if flags & REJECT != 0 {
        route.kind = RouteKind::Unreachable;
        route.scope = Scope::HOST;
        return Ok(Route { scope: Scope::UNIVERSE, ..route });
    }
    if let Some(name) = rt.get(RTENTRY..).filter(|name| !name.is_empty()) {
        let name = text(name)?;
        let name = name.split_once(':').map_or(name, |(name, _)| name);
        let link = host.interfaces().into_iter().find(|link| link.is_named(name));
        route.oif = Some(link.ok_or(Errno::ENODEV)?.index);
    }
    let gateway = read_sockaddr(&rt[24..40]).filter(|ip| !ip.is_unspecified());
    if flags & GATEWAY != 0 {
        route.gateway = Some(gateway.ok_or(Errno::EINVAL)?.into());
    } else {
        route.scope = Scope::LINK;
    }
    if flags & MTU != 0 {
        route.metrics.mtu = number(rt, 96);
    }
    if flags & WINDOW != 0 {
        route.metrics.window = number(rt, 104);
    }
    Ok(route)
}

fn ipv6(rt: &[u8]) -> Result<Route, Errno> {
    let ip = |at: usize| -> Result<IpAddr, Errno> {
        let octets: [u8; 16] =
            rt.get(at..at + 16).and_then(|b| b.try_into().ok()).ok_or(Errno::EINVAL)?;
        Ok(Ipv6Addr::from(octets).into())
    };
    let length = u8::try_from(short(rt, 52)).ok().filter(|length| *length <= 128);
    let mut route = Route::new(Prefix::new(ip(0)?, length.ok_or(Errno::EINVAL)?));
    let flags = number(rt, 72);
    let index = number(rt, 76);
    route.metric = number(rt, 56);
    route.oif = (index != 0).then_some(IfIndex(index));
    if flags & GATEWAY != 0 {
        route.gateway = Some(ip(32)?);
    }
    if flags & REJECT != 0 {
        route.kind = RouteKind::Unreachable;
    }
    Ok(route)
}
