//! The configuration of a stack: interfaces, addresses, routes, sysctls.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkMessage},
    route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
        RouteType,
    },
};
use umvu_abi::{Errno, IfIndex};

use super::{rtnetlink::Rtnetlink, stack::Stack};

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: IfIndex,
    /// Its name.
    pub name: String,
    /// Its hardware address, if it has one.
    pub mac: Option<[u8; 6]>,
    /// The largest packet it carries, in bytes.
    pub mtu: u32,
    /// Whether it was brought up.
    pub up: bool,
    /// Whether it is joined to its network, and up (`IFF_RUNNING`).
    pub running: bool,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The interface's number.
    pub interface: IfIndex,
    /// The address.
    pub ip: IpAddr,
    /// The length of its network's prefix, in bits.
    pub prefix: u8,
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it leads: a network and the length of its prefix.
    pub destination: (IpAddr, u8),
    /// The next hop; None when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The interface; in a new route None has it found by the gateway.
    pub interface: Option<IfIndex>,
    /// The priority: of two routes to one destination that with less is taken.
    pub metric: Option<u32>,
}

impl Route {
    /// The default route by a gateway.
    #[must_use]
    pub fn default_by(gateway: IpAddr) -> Self {
        let any: IpAddr = match gateway {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Self::by((any, 0), gateway)
    }

    /// A route to a network by a gateway.
    #[must_use]
    pub fn by(destination: (IpAddr, u8), gateway: IpAddr) -> Self {
        Self { destination, gateway: Some(gateway), interface: None, metric: None }
    }
}

/// Asks a stack for its configuration and changes it, as ip(8) does.
///
/// It works on every stack that has netlink: `smoltcp`, `vdestack`, and `kernel` with the rights
/// that ip(8) needs. Errors are those of rtnetlink(7), by their numbers.
///
/// ```
/// use std::net::IpAddr;
/// use umvu_stacks::net::{Route, Stack};
///
/// let stack = Stack::open("smoltcp", "null://")?;
/// let mut config = stack.config()?;
/// let ip: IpAddr = "10.0.0.1".parse()?;
/// config.set_up("vde0", true)?;
/// config.add_address("vde0", ip, 24)?;
/// config.add_route(&Route::default_by("10.0.0.254".parse()?))?;
///
/// let link = config.link("vde0")?;
/// assert!(link.up);
/// assert!(config.addresses()?.iter().any(|own| own.ip == ip && own.interface == link.index));
/// assert!(config.routes()?.iter().any(|route| route.destination.1 == 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Config {
    netlink: Rtnetlink,
    stack: Stack,
}

impl Config {
    pub(super) fn open(stack: &Stack) -> io::Result<Self> {
        Ok(Self { netlink: Rtnetlink::open(stack)?, stack: stack.clone() })
    }

    /// The interfaces.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let rows = self.netlink.dump(Message::GetLink(LinkMessage::default()))?;
        Ok(rows.iter().filter_map(link).collect())
    }

    /// The interface of a name. Errors: `ENODEV`.
    pub fn link(&mut self, name: &str) -> io::Result<Link> {
        let found = self.links()?.into_iter().find(|link| link.name == name);
        found.ok_or_else(|| Errno::ENODEV.into())
    }

    fn change_link(&mut self, name: &str, change: impl FnOnce(&mut LinkMessage)) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = self.link(name)?.index.0;
        change(&mut message);
        self.netlink.change(Message::SetLink(message), 0)
    }

    /// Brings an interface up or down.
    pub fn set_up(&mut self, interface: &str, up: bool) -> io::Result<()> {
        self.change_link(interface, |message| {
            message.header.change_mask = LinkFlags::Up;
            message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        })
    }

    /// Sets the MTU of an interface.
    pub fn set_mtu(&mut self, interface: &str, mtu: u32) -> io::Result<()> {
        self.change_link(interface, |message| message.attributes.push(LinkAttribute::Mtu(mtu)))
    }

    /// Sets the hardware address of an interface. Errors: `EADDRNOTAVAIL` for a group's.
    pub fn set_mac(&mut self, interface: &str, mac: [u8; 6]) -> io::Result<()> {
        self.change_link(interface, |message| {
            message.attributes.push(LinkAttribute::Address(mac.to_vec()));
        })
    }

    /// Renames an interface. Errors: `EEXIST`, `EBUSY`.
    pub fn rename(&mut self, interface: &str, name: &str) -> io::Result<()> {
        self.change_link(interface, |message| {
            message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        })
    }

    /// Removes an interface.
    pub fn remove_link(&mut self, interface: &str) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = self.link(interface)?.index.0;
        self.netlink.change(Message::DelLink(message), 0)
    }

    /// The addresses of all interfaces.
    pub fn addresses(&mut self) -> io::Result<Vec<InterfaceAddress>> {
        let rows = self.netlink.dump(Message::GetAddress(AddressMessage::default()))?;
        Ok(rows.iter().filter_map(address).collect())
    }

    fn address_message(
        &mut self,
        interface: &str,
        ip: IpAddr,
        prefix: u8,
    ) -> io::Result<AddressMessage> {
        let mut message = AddressMessage::default();
        message.header.index = self.link(interface)?.index.0;
        message.header.family = family(ip);
        message.header.prefix_len = prefix;
        message.attributes.push(AddressAttribute::Local(ip));
        message.attributes.push(AddressAttribute::Address(ip));
        Ok(message)
    }

    /// Gives an interface an address, with the broadcast address of its network.
    /// Errors: `EEXIST`.
    pub fn add_address(&mut self, interface: &str, ip: IpAddr, prefix: u8) -> io::Result<()> {
        let mut message = self.address_message(interface, ip, prefix)?;
        if let IpAddr::V4(ip) = ip
            && prefix < 31
        {
            let last = ip.to_bits() | (u32::MAX >> prefix);
            message.attributes.push(AddressAttribute::Broadcast(last.into()));
        }
        self.netlink.change(Message::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Takes an address from an interface. Errors: `EADDRNOTAVAIL`.
    pub fn remove_address(&mut self, interface: &str, ip: IpAddr, prefix: u8) -> io::Result<()> {
        let message = self.address_message(interface, ip, prefix)?;
        self.netlink.change(Message::DelAddress(message), 0)
    }

    /// The routes of the main table, of both families.
    pub fn routes(&mut self) -> io::Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let rows = self.netlink.dump(Message::GetRoute(message))?;
            routes.extend(rows.iter().filter_map(route));
        }
        Ok(routes)
    }

    /// Adds a route. Errors: `EEXIST`, `ENETUNREACH` for a gateway that cannot be reached.
    pub fn add_route(&mut self, route: &Route) -> io::Result<()> {
        let mut message = route_message(route);
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = RouteType::Unicast;
        if route.gateway.is_none() && route.destination.0.is_ipv4() {
            message.header.scope = RouteScope::Link;
        }
        self.netlink.change(Message::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Removes the first route that is like `route`. Errors: `ESRCH`.
    pub fn remove_route(&mut self, route: &Route) -> io::Result<()> {
        let mut message = route_message(route);
        message.header.scope = RouteScope::NoWhere;
        self.netlink.change(Message::DelRoute(message), 0)
    }

    /// Has the stack forward packets of both families between its interfaces: it is a router.
    pub fn set_forwarding(&mut self, forwarding: bool) -> io::Result<()> {
        let value = if forwarding { "1" } else { "0" };
        self.set_sysctl("ipv4/ip_forward", value)?;
        self.set_sysctl("ipv6/conf/all/forwarding", value)
    }

    /// The value of a sysctl below `net`, for example `ipv4/ip_forward`. Errors: `ENOENT`,
    /// `ENOTSUP` when the stack keeps none of its own.
    pub fn sysctl(&self, name: &str) -> io::Result<String> {
        let tree = self.stack.net_stack().proc_sys_net().ok_or(Errno::ENOTSUP)?;
        let value = tree.read(name)?;
        Ok(String::from_utf8_lossy(&value).trim_end().to_owned())
    }

    /// Sets a sysctl below `net`. Errors: `ENOENT`, `EINVAL`, `EACCES`, `ENOTSUP`.
    pub fn set_sysctl(&mut self, name: &str, value: &str) -> io::Result<()> {
        let tree = self.stack.net_stack().proc_sys_net().ok_or(Errno::ENOTSUP)?;
        tree.write(name, value.as_bytes()).map_err(io::Error::from)
    }
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// Reads an `RTM_NEWLINK`.
fn link(row: &Message) -> Option<Link> {
    let Message::NewLink(message) = row else { return None };
    let flags = message.header.flags;
    let mut link = Link {
        index: IfIndex(message.header.index),
        name: String::new(),
        mac: None,
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Running),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            _ => {}
        }
    }
    Some(link)
}

/// Reads an `RTM_NEWADDR`: the address itself is `IFA_LOCAL` where the two differ.
fn address(row: &Message) -> Option<InterfaceAddress> {
    let Message::NewAddress(message) = row else { return None };
    let mut ip = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(local) => ip = Some(*local),
            AddressAttribute::Address(address) => ip = ip.or(Some(*address)),
            _ => {}
        }
    }
    Some(InterfaceAddress {
        interface: IfIndex(message.header.index),
        ip: ip?,
        prefix: message.header.prefix_len,
    })
}

/// Reads an `RTM_NEWROUTE`, if it is a unicast route of the main table.
fn route(row: &Message) -> Option<Route> {
    let Message::NewRoute(message) = row else { return None };
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let any: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let mut route = Route {
        destination: (any, header.destination_prefix_length),
        gateway: None,
        interface: None,
        metric: None,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => route.destination.0 = ip(to)?,
            RouteAttribute::Gateway(by) => route.gateway = ip(by),
            RouteAttribute::Oif(index) => route.interface = Some(IfIndex(*index)),
            RouteAttribute::Priority(metric) => route.metric = Some(*metric),
            _ => {}
        }
    }
    Some(route)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn route_message(route: &Route) -> RouteMessage {
    let (ip, prefix) = route.destination;
    let mut message = RouteMessage::default();
    message.header.address_family = family(ip);
    message.header.destination_prefix_length = prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    let attributes = &mut message.attributes;
    if prefix > 0 {
        attributes.push(RouteAttribute::Destination(ip.into()));
    }
    attributes.extend(route.gateway.map(|by| RouteAttribute::Gateway(by.into())));
    attributes.extend(route.interface.map(|index| RouteAttribute::Oif(index.0)));
    attributes.extend(route.metric.map(RouteAttribute::Priority));
    message
}
