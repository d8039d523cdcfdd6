//! `RTM_*ADDR`: addresses listed, added, removed.

use std::net::IpAddr;

use umvu_abi::{Errno, IfIndex};

use super::{address_encode::encode, family, strict};
use crate::{
    host::{Failure, HostNet},
    netlink::{
        Answer, Filtered,
        attributes::{Attributes, field},
        message::Request,
    },
    text,
    values::{Address, AddressFlags, FOREVER, Prefix, RouteMode, Scope},
};

/// The size of `struct ifaddrmsg`.
const FIXED: usize = 8;
const IFA_RT_PRIORITY: u16 = 9;
const IFA_PROTO: u16 = 11;

pub(super) fn get(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    let family = family(request.payload).unwrap_or(None);
    let index = u32::from_ne_bytes(field(request.payload, 4));
    if request.is_dump() {
        strict::addresses(request, family)?;
        let filtered = request.strict && index != 0;
        if filtered && !host.interfaces().iter().any(|link| link.index.0 == index) {
            return Err(Errno::ENODEV.into());
        }
        let addresses = host.addresses().into_iter().filter(move |address| {
            family.is_none_or(|ipv6| address.ip().is_ipv6() == ipv6)
                && (!filtered || address.interface.0 == index)
        });
        let mut addresses: Vec<Address> = addresses.collect();
        // All of one family, then all of the other.
        addresses.sort_by_key(|address| address.ip().is_ipv6());
        let bodies = addresses.into_iter().map(|address| encode(libc::RTM_NEWADDR, &address));
        return Ok(Answer::Dump { bodies: Box::new(bodies), filtered: Filtered::all_if(filtered) });
    }
    if family != Some(true) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let attributes = Attributes::after(request.payload, FIXED);
    let wanted = own_ip(&attributes)?.ok_or(Errno::EINVAL)?;
    let found = host
        .addresses()
        .into_iter()
        .find(|held| held.ip() == wanted && (index == 0 || held.interface.0 == index))
        .ok_or(Errno::EADDRNOTAVAIL)?;
    Ok(Answer::Messages(vec![encode(libc::RTM_NEWADDR, &found)]))
}

pub(super) fn new(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    let address = decode(request)?;
    let mode = RouteMode {
        create: request.has(libc::NLM_F_CREATE) || !request.has(libc::NLM_F_REPLACE),
        exclusive: request.has(libc::NLM_F_EXCL),
        replace: request.has(libc::NLM_F_REPLACE) && !request.has(libc::NLM_F_EXCL),
        append: false,
    };
    host.add_address(&address, mode)?;
    Ok(Answer::Done)
}

pub(super) fn del(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    let mut address = decode(request)?;
    let attributes = Attributes::after(request.payload, FIXED);
    // Only what the request names has to match.
    if attributes.bytes(libc::IFA_LABEL).is_none() {
        address.label = None;
    }
    let given = attributes.ip(libc::IFA_ADDRESS)?;
    if given.is_none()
        && let Some(held) = host
            .addresses()
            .into_iter()
            .find(|held| (held.interface, held.ip()) == (address.interface, address.ip()))
    {
        // The prefix belongs to what is not given.
        address.prefix = held.prefix;
    }
    address.peer = given.filter(|_| attributes.bytes(libc::IFA_LOCAL).is_some());
    host.del_address(&address)?;
    Ok(Answer::Done)
}

/// The address itself: `IFA_LOCAL`, or `IFA_ADDRESS` where there is no peer.
fn own_ip(attributes: &Attributes<'_>) -> Result<Option<IpAddr>, Errno> {
    match attributes.ip(libc::IFA_LOCAL)? {
        Some(ip) => Ok(Some(ip)),
        None => attributes.ip(libc::IFA_ADDRESS),
    }
}

fn decode(request: &Request<'_>) -> Result<Address, Failure> {
    if request.payload.len() < FIXED {
        return Err(Errno::EINVAL.into());
    }
    let attributes = Attributes::after(request.payload, FIXED);
    let [_, length, header_flags, scope] = field::<4>(request.payload, 0);
    let ipv6 = match family(request.payload) {
        Ok(Some(ipv6)) => ipv6,
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    if length > if ipv6 { 128 } else { 32 } {
        return Err(if ipv6 { text::ADDRESS_PREFIX_V6 } else { text::ADDRESS_PREFIX_V4 });
    }
    let ip = own_ip(&attributes)?.filter(|ip| ip.is_ipv6() == ipv6);
    let ip = match ip {
        Some(ip) => ip,
        None if ipv6 => return Err(Errno::EINVAL.into()),
        None => return Err(text::ADDRESS_LOCAL_MISSING),
    };
    if !ipv6 && attributes.ip(libc::IFA_LOCAL)?.is_none() {
        return Err(text::ADDRESS_LOCAL_MISSING);
    }
    let index = IfIndex(u32::from_ne_bytes(field(request.payload, 4)));
    let mut address = Address::new(index, ip, length);
    let flags = attributes.u32(libc::IFA_FLAGS)?.unwrap_or(u32::from(header_flags));
    address.flags = AddressFlags::from_bits_retain(flags);
    address.scope = Scope(scope);
    address.peer = attributes.ip(libc::IFA_ADDRESS)?.filter(|p| *p != ip && p.is_ipv6() == ipv6);
    address.broadcast = match attributes.ip(libc::IFA_BROADCAST)? {
        Some(IpAddr::V4(ip)) => Some(ip),
        _ => None,
    };
    address.label = attributes.text(libc::IFA_LABEL)?.map(str::to_owned);
    address.metric = attributes.u32(IFA_RT_PRIORITY)?.unwrap_or(0);
    address.proto = attributes.u8(IFA_PROTO)?.unwrap_or(0);
    if let Some(cache) = attributes.bytes(libc::IFA_CACHEINFO) {
        address.preferred = u32::from_ne_bytes(field(cache, 0));
        address.valid = u32::from_ne_bytes(field(cache, 4));
    } else {
        (address.preferred, address.valid) = (FOREVER, FOREVER);
    }
    address.prefix = Prefix::new(ip, length);
    Ok(address)
}
