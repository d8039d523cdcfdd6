//! Addresses and routes of a stack, and the question of where a packet goes.
//!
//! The configuration itself is netlink-emu's [`NetConfig`]; here is what the data plane asks of it,
//! with the answers it needs for each packet kept in tables that follow every change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_emu::{
    config::{Flow, HopKind as Kind, NetConfig},
    values::{Prefix, RouteKind, Scope, table},
};
use umvu_abi::{Errno, IfIndex};

use super::{hash::Map, inner::Inner};

/// What kind of receiver a packet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HopKind {
    /// Another host.
    Unicast,
    /// This host.
    Local,
    /// All on a link.
    Broadcast,
    /// A group.
    Multicast,
}

impl HopKind {
    /// Whether there is one receiver.
    pub(crate) fn is_unicast(self) -> bool {
        matches!(self, Self::Unicast | Self::Local)
    }
}

/// Where a packet goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hop {
    /// The link, as an index into the stack's.
    pub(crate) link: usize,
    /// Whose hardware address to send it to.
    pub(crate) next: IpAddr,
    /// The source for packets that have none.
    pub(crate) source: IpAddr,
    /// The kind of receiver.
    pub(crate) kind: HopKind,
}

/// The configuration, and what is looked up in it for each packet.
#[derive(Debug, Default)]
pub(crate) struct Net {
    /// Interfaces, addresses, routes, sysctls.
    pub(crate) config: NetConfig,
    /// This host's addresses and their interfaces.
    own: Map<IpAddr, IfIndex>,
    /// Networks that are all this host's: 127.0.0.0/8.
    own_networks: Vec<Prefix>,
    /// Broadcast addresses of interfaces.
    broadcasts: Vec<(IfIndex, IpAddr)>,
    /// What the tables were made from.
    generation: u64,
}

impl Net {
    /// Brings the tables up to date; tells whether they were not.
    pub(crate) fn refresh(&mut self) -> bool {
        if self.generation == self.config.generation() {
            return false;
        }
        self.generation = self.config.generation();
        self.own.clear();
        self.own_networks.clear();
        self.broadcasts.clear();
        for address in self.config.addresses() {
            self.own.insert(address.ip(), address.interface);
        }
        for route in self.config.routes() {
            if route.table != table::LOCAL {
                continue;
            }
            match (route.kind, route.oif) {
                (RouteKind::Local, _) if !route.destination.is_host() => {
                    self.own_networks.push(route.destination);
                }
                (RouteKind::Broadcast, Some(oif)) => {
                    self.broadcasts.push((oif, route.destination.ip));
                }
                _ => {}
            }
        }
        true
    }

    /// The ports for sockets that want any (`ip_local_port_range`).
    pub(crate) fn port_range(&self) -> (u16, u16) {
        let (low, high) =
            self.config.sysctl_pair("ipv4.ip_local_port_range").unwrap_or((32_768, 60_999));
        (u16::try_from(low).unwrap_or(1).max(1), u16::try_from(high).unwrap_or(u16::MAX))
    }

    /// The longest accept queue (`somaxconn`).
    pub(crate) fn somaxconn(&self) -> usize {
        self.number("core.somaxconn").and_then(|most| usize::try_from(most).ok()).unwrap_or(4096)
    }

    /// A sysctl that is a number.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.config.sysctl_number(name)
    }

    /// Whether packets of others are passed on.
    pub(crate) fn forwards(&self, v6: bool) -> bool {
        self.config.forwards(v6)
    }
}

impl Inner {
    /// Whether an address is this host's.
    pub(crate) fn is_local(&self, ip: IpAddr) -> bool {
        self.net.own.contains_key(&ip)
            || self.net.own_networks.iter().any(|network| network.contains(ip))
    }

    /// Whether an address means all hosts of a link.
    pub(crate) fn is_broadcast(&self, ip: IpAddr, link: usize) -> bool {
        let IpAddr::V4(v4) = ip else { return false };
        let Some(entry) = self.links.get(link) else { return false };
        v4.is_broadcast() || self.net.broadcasts.contains(&(IfIndex(entry.index), ip))
    }

    /// Whether a socket may be bound to an address.
    pub(crate) fn may_bind(&self, ip: IpAddr) -> bool {
        self.is_local(ip)
            || ip.is_multicast()
            || self.net.number("ipv4.ip_nonlocal_bind") == Some(1)
            || (0..self.links.len()).any(|link| self.is_broadcast(ip, link))
    }

    /// The source address for packets of the host's own by a link.
    pub(crate) fn source_for(&self, link: usize, to: IpAddr) -> Option<IpAddr> {
        let index = self.links.get(link)?.index;
        self.net.config.source_for(IfIndex(index), to, Scope::LINK)
    }

    /// The interface that an address needs to be named with: that of a link-local one.
    pub(crate) fn scope_device(&self, ip: IpAddr, link: usize) -> u32 {
        match ip {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => {
                self.links.get(link).map_or(0, |link| link.index)
            }
            _ => 0,
        }
    }

    /// The link of an interface index.
    pub(crate) fn link_at(&self, index: u32) -> Option<usize> {
        self.links.iter().position(|link| link.index == index)
    }

    /// The link that has an address.
    pub(crate) fn link_of(&self, ip: IpAddr) -> Option<usize> {
        let index = self.net.config.owner_of(ip)?;
        self.link_at(index.0)
    }

    /// Finds where a packet with a known source goes. Errors: see [`Self::route`].
    pub(crate) fn route_from(&self, to: IpAddr, from: IpAddr, device: u32) -> Result<Hop, Errno> {
        self.route(to, Some(from), device)
    }

    /// Finds where a packet goes. Errors: `ENETUNREACH`, `EHOSTUNREACH`, `EACCES`, `EINVAL`.
    pub(crate) fn route(
        &self,
        to: IpAddr,
        from: Option<IpAddr>,
        device: u32,
    ) -> Result<Hop, Errno> {
        self.route_flow(&flow_to(to, from, device))
    }

    /// Finds where a packet goes that may have a mark, or have come by an interface. Errors: see
    /// [`Self::route`].
    pub(crate) fn route_flow(&self, flow: &Flow) -> Result<Hop, Errno> {
        let to = flow.to;
        let hop = self.net.config.lookup(flow)?;
        let kind = match hop.kind {
            Kind::Unicast => HopKind::Unicast,
            Kind::Local => HopKind::Local,
            Kind::Broadcast => HopKind::Broadcast,
            Kind::Multicast => HopKind::Multicast,
        };
        let link = match kind {
            HopKind::Local => 0,
            _ => self.link_at(hop.oif.0).ok_or(Errno::ENETUNREACH)?,
        };
        let any: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let hop = Hop { link, next: hop.next(to), source: hop.source.unwrap_or(any), kind };
        Ok(self.redirected(to, hop))
    }

    /// The interface that SO_BINDTODEVICE names, 0 for none. Errors: `ENODEV`.
    pub(crate) fn device_option(
        &self,
        level: i32,
        name: i32,
        value: &[u8],
    ) -> Result<Option<u32>, Errno> {
        if (level, name) != (libc::SOL_SOCKET, libc::SO_BINDTODEVICE) {
            return Ok(None);
        }
        let wanted = value.split(|byte| *byte == 0).next().unwrap_or_default();
        if wanted.is_empty() {
            return Ok(Some(0));
        }
        let wanted = std::str::from_utf8(wanted).map_err(|_| Errno::ENODEV)?;
        let link = self.net.config.link_named(wanted).ok_or(Errno::ENODEV)?;
        Ok(Some(link.index.0))
    }

    /// What getsockopt(2) of SO_BINDTODEVICE tells of an interface: its name and a NUL, or nothing.
    pub(crate) fn device_name(&self, index: u32) -> Vec<u8> {
        let link = self.net.config.link(IfIndex(index));
        link.map_or_else(Vec::new, |link| [link.name.as_bytes(), &[0]].concat())
    }
}

/// A flow to a destination: with a source or not, bound to an interface or, with 0, to none.
pub(crate) fn flow_to(to: IpAddr, from: Option<IpAddr>, device: u32) -> Flow {
    let flow = Flow::to(to).by(IfIndex(device));
    from.map_or(flow, |from| flow.from(from))
}

/// The same with a mark.
pub(crate) fn marked(to: IpAddr, from: Option<IpAddr>, device: u32, mark: u32) -> Flow {
    Flow { mark, ..flow_to(to, from, device) }
}
