//! What an address means to a guest, and what of this host it leads to.
//!
//! The policy: a guest reaches what this user reaches, except the loopback of this host. No address
//! that a guest can write leads there; only the router's does, if `allow_host_loopback` is given,
//! and services that were asked for by name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{ndp, options::Config};

/// What an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The router.
    Host,
    /// The name server.
    Resolver,
    /// A service of this network.
    Service,
    /// A guest, or nobody.
    Inside,
    /// Many.
    Group,
    /// In the network of this host.
    Outside,
    /// Nowhere that a packet may go.
    Forbidden,
}

impl Config {
    /// Tells what an address is.
    pub(super) fn place(&self, ip: IpAddr) -> Place {
        match ip {
            IpAddr::V4(ip) => self.place_v4(ip),
            IpAddr::V6(ip) => self.place_v6(ip),
        }
    }

    fn place_v4(&self, ip: Ipv4Addr) -> Place {
        let Some(v4) = &self.v4 else { return Place::Forbidden };
        if ip == v4.host {
            Place::Host
        } else if ip == v4.dns {
            Place::Resolver
        } else if self.is_service(ip.into()) {
            Place::Service
        } else if ip.is_broadcast() || ip.is_multicast() || ip == v4.net.broadcast() {
            Place::Group
        } else if v4.net.contains(&ip) {
            Place::Inside
        } else if ip.octets()[0] == 0 || ip.is_loopback() || ip.octets()[0] >= 240 {
            // To connect to 0.0.0.0 is to connect to the loopback (ip(7)).
            Place::Forbidden
        } else {
            Place::Outside
        }
    }

    fn place_v6(&self, ip: Ipv6Addr) -> Place {
        let Some(v6) = &self.v6 else { return Place::Forbidden };
        if ip == v6.host || ip == ndp::link_local(v6.host) {
            Place::Host
        } else if ip == v6.dns || ip == ndp::link_local(v6.dns) {
            Place::Resolver
        } else if self.is_service(ip.into()) {
            Place::Service
        } else if ip.is_multicast() {
            Place::Group
        } else if v6.net.contains(&ip) || ip.is_unicast_link_local() {
            Place::Inside
        } else if is_disguised(ip) {
            Place::Forbidden
        } else {
            Place::Outside
        }
    }

    fn is_service(&self, ip: IpAddr) -> bool {
        self.services.iter().any(|service| service.at.ip() == ip)
    }

    /// The router's address of a family.
    pub(super) fn router(&self, like: IpAddr) -> Option<IpAddr> {
        match like {
            IpAddr::V4(_) => self.v4.map(|v4| v4.host.into()),
            IpAddr::V6(_) => self.v6.map(|v6| v6.host.into()),
        }
    }
}

/// Whether an IPv6 address is unspecified, the loopback, or an IPv4 address of any kind (`::/96`,
/// `::ffff:0:0/96`): a socket would take these for what they stand for.
fn is_disguised(ip: Ipv6Addr) -> bool {
    matches!(ip.segments(), [0, 0, 0, 0, 0, 0 | 0xffff, _, _])
}

/// The loopback of a family.
pub(super) fn loopback(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_leads_to_the_loopback() {
        let vnl = "slirp:///allow_host_loopback/cmdfwd=80:cat".parse().expect("a locator");
        let config = Config::of(&vnl).expect("a configuration");
        let place = |text: &str| config.place(text.parse().expect("literal"));
        for text in [
            "127.0.0.1",
            "127.1.2.3",
            "0.0.0.0",
            "0.1.2.3",
            "255.0.0.1",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:0.0.0.0",
            "::127.0.0.1",
        ] {
            assert_eq!(place(text), Place::Forbidden, "{text}");
        }
        for (text, expected) in [
            ("10.0.2.2", Place::Host),
            ("fe80::2", Place::Host),
            ("fd00::2", Place::Host),
            ("10.0.2.3", Place::Resolver),
            ("10.0.2.4", Place::Service),
            ("10.0.2.9", Place::Inside),
            ("10.0.2.255", Place::Group),
            ("255.255.255.255", Place::Group),
            ("ff02::1", Place::Group),
            ("fe80::9", Place::Inside),
            ("192.0.2.1", Place::Outside),
            ("2001:db8::1", Place::Outside),
        ] {
            assert_eq!(place(text), expected, "{text}");
        }
    }
}
