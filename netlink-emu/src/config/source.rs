//! Which of its addresses this host speaks from (RFC 1122; RFC 6724 for IPv6).

use std::net::{IpAddr, Ipv6Addr};

use umvu_abi::IfIndex;

use super::{NetConfig, link::scope_of};
use crate::values::{Address, AddressFlags, Scope};

impl NetConfig {
    /// Chooses a source address for packets to `to` that leave by an interface. `scope` is that of
    /// the route: addresses that reach less far do not serve.
    #[must_use]
    pub fn source_for(&self, oif: IfIndex, to: IpAddr, scope: Scope) -> Option<IpAddr> {
        match to {
            IpAddr::V4(_) => self.source4(oif, to, scope),
            IpAddr::V6(to) => self.source6(oif, to),
        }
    }

    fn source4(&self, oif: IfIndex, to: IpAddr, scope: Scope) -> Option<IpAddr> {
        let serves = |address: &&Address| {
            address.ip().is_ipv4()
                && !address.flags.contains(AddressFlags::SECONDARY)
                && address.scope <= scope
        };
        let on_link = || self.addresses_of(oif).filter(serves);
        let elsewhere = || {
            let all = self.addresses.iter().map(|(address, _)| address);
            all.filter(|address| {
                address.ip().is_ipv4()
                    && !address.flags.contains(AddressFlags::SECONDARY)
                    && address.scope <= scope
                    && address.scope != Scope::LINK
            })
        };
        on_link()
            .find(|address| address.network().contains(to))
            .or_else(|| on_link().next())
            .or_else(|| elsewhere().next())
            .map(Address::ip)
    }

    fn source6(&self, oif: IfIndex, to: Ipv6Addr) -> Option<IpAddr> {
        let near = to.is_unicast_link_local() || to.is_multicast();
        self.addresses
            .iter()
            .map(|(address, _)| address)
            .filter(|address| {
                let broken = AddressFlags::TENTATIVE | AddressFlags::DADFAILED;
                !address.flags.intersects(broken) && (!near || address.interface == oif)
            })
            .filter_map(|address| match address.ip() {
                IpAddr::V6(ip) => Some((rank6(ip, address, oif, to), ip)),
                IpAddr::V4(_) => None,
            })
            // Of equals the first wins, as in the kernel.
            .rev()
            .max_by_key(|(rank, _)| *rank)
            .map(|(_, ip)| ip.into())
    }
}

/// The rules of RFC 6724, section 5, that apply to a single host, first the most important one.
type Rank = (bool, (bool, std::cmp::Reverse<u8>, u8), bool, bool, bool, u32);

fn rank6(ip: Ipv6Addr, address: &Address, oif: IfIndex, to: Ipv6Addr) -> Rank {
    let (own, wanted) = (reach(ip), reach(to));
    // Rule 2: the smallest scope that is large enough, or else the largest.
    let scope = if own >= wanted {
        (true, std::cmp::Reverse(own), 0)
    } else {
        (false, std::cmp::Reverse(0), own)
    };
    (
        ip == to,
        scope,
        !address.flags.contains(AddressFlags::DEPRECATED),
        address.interface == oif,
        label(ip) == label(to),
        (ip.to_bits() ^ to.to_bits()).leading_zeros().min(address.prefix.length.into()),
    )
}

/// The scope of an address, growing with its reach (RFC 4291, section 2.7).
fn reach(ip: Ipv6Addr) -> u8 {
    if ip.is_multicast() {
        return ip.octets()[1] & 0x0f;
    }
    match scope_of(ip.into()) {
        Scope::HOST | Scope::LINK => 2,
        Scope::SITE => 5,
        _ => 14,
    }
}

/// The default label of an address (RFC 6724, section 2.1).
fn label(ip: Ipv6Addr) -> u8 {
    let first = ip.segments()[0];
    match first {
        _ if ip.is_loopback() => 0,
        _ if ip.to_ipv4_mapped().is_some() => 4,
        0x2002 => 2,
        0x2001 if ip.segments()[1] == 0 => 5,
        0xfc00..=0xfdff => 13,
        0xfec0..=0xfeff => 11,
        0x3ffe => 12,
        _ => 1,
    }
}
