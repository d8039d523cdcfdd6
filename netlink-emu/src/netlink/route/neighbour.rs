//! `RTM_*NEIGH`: neighbours listed, asked for, set, removed.

use std::net::IpAddr;

use umvu_abi::{Errno, IfIndex};

use super::{family, neighbour_encode::encode, strict};
use crate::{
    host::{Failure, HostNet},
    netlink::{
        Answer, Filtered,
        attributes::{Attributes, field},
        message::Request,
    },
    text,
    values::{Neighbour, NeighbourFlags, NeighbourState, RouteMode},
};

/// The size of `struct ndmsg`.
const FIXED: usize = 12;
const NDA_PROTOCOL: u16 = 12;

pub(super) fn get(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    let attributes = Attributes::after(request.payload, FIXED);
    let proxies = field::<1>(request.payload, 10)[0] & NeighbourFlags::PROXY.bits() != 0;
    let header_index = u32::from_ne_bytes(field(request.payload, 4));
    if !request.is_dump() {
        let (index, ip) = target(request, &attributes)?;
        let mut all = host.neighbours().into_iter();
        let found = all.find(|held| held.interface == index && held.ip == ip);
        let body = encode(libc::RTM_NEWNEIGH, &found.ok_or(Errno::ENOENT)?);
        return Ok(Answer::Messages(vec![body]));
    }
    let Ok(family) = family(request.payload) else { return Ok(Answer::nothing()) };
    strict::neighbours(request)?;
    let master = attributes.u32(libc::NDA_MASTER)?.is_some_and(|master| master != 0);
    if proxies || master {
        return Ok(Answer::nothing());
    }
    let index = attributes.u32(libc::NDA_IFINDEX)?.unwrap_or(header_index);
    let neighbours = host.neighbours().into_iter().filter(move |held| {
        family.is_none_or(|ipv6| held.ip.is_ipv6() == ipv6)
            && (index == 0 || held.interface.0 == index)
    });
    let mut neighbours: Vec<Neighbour> = neighbours.collect();
    neighbours.sort_by_key(|held| held.ip.is_ipv6());
    let bodies = neighbours.into_iter().map(|held| encode(libc::RTM_NEWNEIGH, &held));
    Ok(Answer::Dump { bodies: Box::new(bodies), filtered: Filtered::entries_if(index != 0) })
}

pub(super) fn new(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    let attributes = Attributes::after(request.payload, FIXED);
    let (interface, ip) = target(request, &attributes)?;
    let flags = NeighbourFlags::from_bits_retain(field::<1>(request.payload, 10)[0]);
    if flags.intersects(NeighbourFlags::PROXY) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let number = u16::from_ne_bytes(field(request.payload, 8));
    let mac = match attributes.bytes(libc::NDA_LLADDR) {
        Some(bytes) => Some(bytes.try_into().map_err(|_| text::NEIGHBOUR_BAD_MAC)?),
        None => None,
    };
    let neighbour = Neighbour {
        interface,
        ip,
        mac,
        state: NeighbourState::from_number(number).unwrap_or(NeighbourState::Permanent),
        flags: flags & (NeighbourFlags::ROUTER | NeighbourFlags::USE),
        probes: 0,
        protocol: attributes.u8(NDA_PROTOCOL)?.unwrap_or(0),
        ages: [0; 3],
    };
    let mode = RouteMode {
        create: request.has(libc::NLM_F_CREATE),
        exclusive: request.has(libc::NLM_F_EXCL),
        replace: request.has(libc::NLM_F_REPLACE),
        append: false,
    };
    host.add_neighbour(&neighbour, mode)?;
    Ok(Answer::Done)
}

pub(super) fn del(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    let attributes = Attributes::after(request.payload, FIXED);
    let (interface, ip) = target(request, &attributes)?;
    host.del_neighbour(interface, ip)?;
    Ok(Answer::Done)
}

/// The interface and address that a request names.
fn target(
    request: &Request<'_>,
    attributes: &Attributes<'_>,
) -> Result<(IfIndex, IpAddr), Failure> {
    if request.payload.len() < FIXED {
        return Err(Errno::EINVAL.into());
    }
    let Some(bytes) = attributes.bytes(libc::NDA_DST) else {
        return Err(text::NEIGHBOUR_NO_ADDRESS);
    };
    let ipv6 = match family(request.payload) {
        Ok(Some(ipv6)) => ipv6,
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    let ip = crate::netlink::attributes::ip(bytes)
        .ok()
        .filter(|ip| ip.is_ipv6() == ipv6)
        .ok_or(text::NEIGHBOUR_BAD_ADDRESS)?;
    let index = IfIndex(u32::from_ne_bytes(field(request.payload, 4)));
    if index.0 == 0 {
        return Err(Errno::EINVAL.into());
    }
    Ok((index, ip))
}
