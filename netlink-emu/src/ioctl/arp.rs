//! `SIOCSARP`, `SIOCGARP`, `SIOCDARP` (arp(7)): `struct arpreq`.

use std::net::IpAddr;

use umvu_abi::{Errno, IfIndex};

use super::{
    ifreq::{name_bytes, read_sockaddr, text},
    numbers as n,
};
use crate::{
    host::HostNet,
    values::{Neighbour, NeighbourState, RouteMode, RouteQuery},
};

/// The size of `struct arpreq`.
const LENGTH: usize = 68;
/// `ATF_*`.
const COMPLETE: i32 = 0x02;
const PERMANENT: i32 = 0x04;
const PUBLISHED: i32 = 0x08;

pub(super) fn serve(host: &dyn HostNet, request: u32, arp: &mut [u8]) -> Result<i32, Errno> {
    if arp.len() < LENGTH {
        return Err(Errno::EINVAL);
    }
    let ip = IpAddr::V4(read_sockaddr(&arp[..16]).ok_or(Errno::EPFNOSUPPORT)?);
    let flags = i32::from_ne_bytes([arp[32], arp[33], arp[34], arp[35]]);
    if flags & PUBLISHED != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let index = interface(host, text(&arp[52..LENGTH])?, ip)?;
    match request {
        n::SIOCSARP => {
            let mac = [arp[18], arp[19], arp[20], arp[21], arp[22], arp[23]];
            let mut neighbour = Neighbour::permanent(index, ip, mac);
            if flags & PERMANENT == 0 {
                neighbour.state = NeighbourState::Stale;
            }
            host.add_neighbour(&neighbour, RouteMode::REPLACE)?;
        }
        n::SIOCDARP => host.del_neighbour(index, ip)?,
        _ => {
            let found = host
                .neighbours()
                .into_iter()
                .find(|held| held.interface == index && held.ip == ip)
                .ok_or(Errno::ENXIO)?;
            get(host, &found, arp);
        }
    }
    Ok(0)
}

/// The interface of a request: the named one, or that of the way to the address.
fn interface(host: &dyn HostNet, name: &str, ip: IpAddr) -> Result<IfIndex, Errno> {
    if name.is_empty() {
        let way = host.route_get(&RouteQuery::to(ip))?;
        return way.route.oif.ok_or(Errno::EINVAL);
    }
    let link = host.interfaces().into_iter().find(|link| link.is_named(name));
    Ok(link.ok_or(Errno::ENODEV)?.index)
}

fn get(host: &dyn HostNet, found: &Neighbour, arp: &mut [u8]) {
    let mut flags = 0;
    arp[16..32].fill(0);
    if let Some(mac) = found.mac.filter(|_| found.state.is_valid()) {
        arp[16..18].copy_from_slice(&1u16.to_ne_bytes());
        arp[18..24].copy_from_slice(&mac);
        flags |= COMPLETE;
    }
    if found.state == NeighbourState::Permanent {
        flags |= PERMANENT;
    }
    arp[32..36].copy_from_slice(&i32::to_ne_bytes(flags));
    if let Some(link) = host.interfaces().iter().find(|link| link.index == found.interface) {
        arp[52..LENGTH].copy_from_slice(&name_bytes(&link.name));
    }
}
