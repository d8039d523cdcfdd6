//! `SIOCGIFADDR` and its kin: IPv4 addresses by label (`eth0`, `eth0:1`).

use std::net::{IpAddr, Ipv4Addr};

use umvu_abi::Errno;

use super::{ifreq::IfReq, numbers as n};
use crate::{
    host::HostNet,
    values::{Address, Interface, LinkFlags, Prefix, RouteMode},
};

pub(super) fn get(host: &dyn HostNet, request: u32, argument: &mut [u8]) -> Result<i32, Errno> {
    let mut ifreq = IfReq::new(argument)?;
    let link = ifreq.interface(host)?;
    let (_, held) = labelled(host, &link, ifreq.name()?).ok_or(Errno::EADDRNOTAVAIL)?;
    let value = match request {
        n::SIOCGIFADDR => v4(held.ip()),
        n::SIOCGIFDSTADDR => v4(held.peer_ip()),
        n::SIOCGIFBRDADDR => held.broadcast.unwrap_or(Ipv4Addr::UNSPECIFIED),
        _ => v4(held.prefix.mask()),
    };
    ifreq.set_ipv4(value);
    Ok(0)
}

pub(super) fn set(host: &dyn HostNet, request: u32, argument: &mut [u8]) -> Result<i32, Errno> {
    let ifreq = IfReq::new(argument)?;
    let link = ifreq.interface(host)?;
    let name = ifreq.name()?.to_owned();
    let held = labelled(host, &link, &name).map(|(_, held)| held);
    if request == n::SIOCDIFADDR {
        return remove(host, &held.ok_or(Errno::EADDRNOTAVAIL)?);
    }
    let value = ifreq.ipv4()?;
    if request == n::SIOCSIFADDR {
        if let Some(held) = &held {
            remove(host, held)?;
        }
        return if value.is_unspecified() { Ok(0) } else { add(host, &fresh(&link, &name, value)) };
    }
    let old = held.ok_or(Errno::EADDRNOTAVAIL)?;
    let mut new = old.clone();
    match request {
        n::SIOCSIFBRDADDR => new.broadcast = Some(value),
        n::SIOCSIFDSTADDR => new.peer = Some(value.into()),
        _ => {
            let length = mask_length(value)?;
            let was_default = old.broadcast == default_broadcast(&old.prefix);
            new.prefix = Prefix::new(old.ip(), length);
            if was_default && length < 31 {
                new.broadcast = default_broadcast(&new.prefix);
            }
        }
    }
    if new == old {
        return Ok(0);
    }
    remove(host, &old)?;
    add(host, &new)
}

/// The address with a label, or the first one of an interface asked for by its plain name.
fn labelled(host: &dyn HostNet, link: &Interface, name: &str) -> Option<(usize, Address)> {
    let mut held = host
        .addresses()
        .into_iter()
        .filter(|address| address.interface == link.index && address.ip().is_ipv4())
        .enumerate();
    let labels: Vec<_> = held.by_ref().collect();
    let exact = labels.iter().find(|(_, address)| address.label.as_deref() == Some(name));
    exact.or_else(|| labels.first().filter(|_| !name.contains(':'))).cloned()
}

/// An address as SIOCSIFADDR makes it: with the mask of its class.
fn fresh(link: &Interface, label: &str, ip: Ipv4Addr) -> Address {
    let length = match ip.octets()[0] {
        _ if link.flags.contains(LinkFlags::POINTOPOINT) => 32,
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    };
    let mut address = Address::new(link.index, ip.into(), length);
    address.label = Some(label.to_owned());
    address.scope = Address::default_scope(address.prefix);
    if link.flags.contains(LinkFlags::BROADCAST) {
        address.broadcast = default_broadcast(&address.prefix);
    }
    address
}

fn default_broadcast(prefix: &Prefix) -> Option<Ipv4Addr> {
    Some(v4(prefix.last())).filter(|_| prefix.length < 31)
}

fn add(host: &dyn HostNet, address: &Address) -> Result<i32, Errno> {
    host.add_address(address, RouteMode::ADD)?;
    Ok(0)
}

fn remove(host: &dyn HostNet, address: &Address) -> Result<i32, Errno> {
    host.del_address(address)?;
    Ok(0)
}

fn v4(ip: IpAddr) -> Ipv4Addr {
    match ip {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

/// The length of a netmask. Errors: `EINVAL` when its ones are not together.
pub(super) fn mask_length(mask: Ipv4Addr) -> Result<u8, Errno> {
    let bits = mask.to_bits();
    let ones = bits.leading_ones();
    if bits.count_ones() != ones {
        return Err(Errno::EINVAL);
    }
    u8::try_from(ones).map_err(|_| Errno::EINVAL)
}
