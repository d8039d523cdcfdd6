//! Addresses and routes of a stack, and the question of where a packet goes.

use std::net::IpAddr;

use umvu_abi::Errno;

use super::{inner::Inner, link::Kind};

/// What kind of receiver a packet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HopKind {
    Unicast,
    Local,
    Broadcast,
    Multicast,
}

impl HopKind {
    pub(crate) fn is_unicast(self) -> bool {
        matches!(self, Self::Unicast | Self::Local)
    }
}

/// Where a packet goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) link: usize,
    pub(crate) next: IpAddr,
    pub(crate) source: IpAddr,
    pub(crate) kind: HopKind,
}

#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) ip: IpAddr,
    pub(crate) prefix: u8,
    pub(crate) link: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) destination: IpAddr,
    pub(crate) prefix: u8,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) link: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Net {
    pub(crate) addresses: Vec<Address>,
    pub(crate) routes: Vec<Route>,
    pub(crate) forward: bool,
}

impl Net {
    pub(crate) fn port_range(&self) -> (u16, u16) {
        (32_768, 60_999)
    }

    pub(crate) fn somaxconn(&self) -> usize {
        4096
    }

    pub(crate) fn forwards(&self, _v6: bool) -> bool {
        self.forward
    }
}

fn matches(ip: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (ip, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let shift = 32 - u32::from(prefix.min(32));
            (a.to_bits() ^ b.to_bits()).checked_shr(shift).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let shift = 128 - u32::from(prefix.min(128));
            (a.to_bits() ^ b.to_bits()).checked_shr(shift).unwrap_or(0) == 0
        }
        _ => false,
    }
}

impl Inner {
    pub(crate) fn is_local(&self, ip: IpAddr) -> bool {
        self.net.addresses.iter().any(|address| address.ip == ip)
            || (matches!(ip, IpAddr::V4(v4) if v4.is_loopback()) && self.links[0].up)
    }

    pub(crate) fn is_broadcast(&self, ip: IpAddr, link: usize) -> bool {
        let IpAddr::V4(v4) = ip else { return false };
        v4.is_broadcast()
            || self.net.addresses.iter().any(|address| match address.ip {
                IpAddr::V4(own) if address.link == link && address.prefix < 31 => {
                    let mask = u32::MAX >> address.prefix;
                    own.to_bits() | mask == v4.to_bits()
                }
                _ => false,
            })
    }

    pub(crate) fn may_bind(&self, ip: IpAddr) -> bool {
        self.is_local(ip)
            || ip.is_multicast()
            || (0..self.links.len()).any(|link| self.is_broadcast(ip, link))
    }

    pub(crate) fn source_for(&self, link: usize, to: IpAddr) -> Option<IpAddr> {
        let on_link = self
            .net
            .addresses
            .iter()
            .filter(|address| address.ip.is_ipv4() == to.is_ipv4() && address.link == link);
        on_link
            .clone()
            .find(|address| matches(to, address.ip, address.prefix))
            .or_else(|| on_link.clone().next())
            .map(|address| address.ip)
    }

    pub(crate) fn link_of(&self, ip: IpAddr) -> Option<usize> {
        self.net.addresses.iter().find(|address| address.ip == ip).map(|address| address.link)
    }

    pub(crate) fn route_from(&self, to: IpAddr, from: IpAddr, device: u32) -> Result<Hop, Errno> {
        self.route(to, Some(from), device)
    }

    pub(crate) fn route(
        &self,
        to: IpAddr,
        from: Option<IpAddr>,
        device: u32,
    ) -> Result<Hop, Errno> {
        let from = from.filter(|ip| !ip.is_unspecified());
        if self.is_local(to) {
            return Ok(Hop { link: 0, next: to, source: from.unwrap_or(to), kind: HopKind::Local });
        }
        let fits = |link: usize| {
            self.links
                .get(link)
                .is_some_and(|entry| entry.up && (device == 0 || entry.index == device))
        };
        let special = to.is_multicast() || (0..self.links.len()).any(|l| self.is_broadcast(to, l));
        if special {
            let link = (0..self.links.len())
                .find(|l| {
                    fits(*l) && self.is_broadcast(to, *l) && to.to_string() != "255.255.255.255"
                })
                .or_else(|| {
                    (0..self.links.len())
                        .find(|l| fits(*l) && self.links[*l].kind == Kind::Ethernet)
                })
                .ok_or(Errno::ENETUNREACH)?;
            let kind = if to.is_multicast() { HopKind::Multicast } else { HopKind::Broadcast };
            let source = from.or_else(|| self.source_for(link, to)).ok_or(Errno::ENETUNREACH)?;
            return Ok(Hop { link, next: to, source, kind });
        }
        let connected = self.net.addresses.iter().map(|address| Route {
            destination: address.ip,
            prefix: address.prefix,
            gateway: None,
            link: address.link,
        });
        let best = connected
            .chain(self.net.routes.iter().cloned())
            .filter(|route| fits(route.link) && matches(to, route.destination, route.prefix))
            .max_by_key(|route| route.prefix)
            .ok_or(Errno::ENETUNREACH)?;
        let next = best.gateway.unwrap_or(to);
        let source =
            from.or_else(|| self.source_for(best.link, next)).ok_or(Errno::EADDRNOTAVAIL)?;
        Ok(Hop { link: best.link, next, source, kind: HopKind::Unicast })
    }

    pub(crate) fn device_option(
        &self,
        level: i32,
        name: i32,
        _value: &[u8],
    ) -> Result<Option<u32>, Errno> {
        if (level, name) == (libc::SOL_SOCKET, libc::SO_BINDTODEVICE) {
            return Ok(Some(0));
        }
        Ok(None)
    }
}
