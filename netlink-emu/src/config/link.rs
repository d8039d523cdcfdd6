//! Interfaces: made, removed, changed, taken up and down.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use umvu_abi::{Errno, IfIndex};

use super::NetConfig;
use crate::{
    host::Failure,
    text,
    values::{
        Address, AddressFlags, Change, Counters, Interface, Layer, LinkChange, LinkFlags, NewLink,
        Prefix, Scope,
    },
};

/// Flags that `ip link set` may change.
const SETTABLE: LinkFlags = LinkFlags::UP
    .union(LinkFlags::DEBUG)
    .union(LinkFlags::NOTRAILERS)
    .union(LinkFlags::NOARP)
    .union(LinkFlags::PROMISC)
    .union(LinkFlags::ALLMULTI)
    .union(LinkFlags::MULTICAST)
    .union(LinkFlags::DYNAMIC);

impl NetConfig {
    /// Chooses the name and index that a new interface will have, and checks them; nobody else gets
    /// the index. Errors: `EINVAL` (bad name), `EEXIST`.
    pub fn plan_link(&mut self, link: &NewLink) -> Result<(String, IfIndex), Failure> {
        let pattern = match &link.properties.name {
            Some(name) => name.clone(),
            None => format!("{}%d", link.kind),
        };
        let name = self.free_name(&pattern)?;
        let index = link.index.unwrap_or(IfIndex(self.last_index.saturating_add(1)));
        if index.0 == 0 || index.0 > i32::MAX.unsigned_abs() {
            return Err(Errno::EINVAL.into());
        }
        if self.link(index).is_some() {
            return Err(Errno::EEXIST.into());
        }
        self.last_index = self.last_index.max(index.0);
        Ok((name, index))
    }

    /// The index that the next interface gets.
    #[must_use]
    pub fn next_index(&self) -> IfIndex {
        IfIndex(self.last_index.saturating_add(1))
    }

    /// Adds an interface that exists now; up if its flags say so. Errors: `EEXIST`, `EINVAL`.
    pub fn insert_link(&mut self, mut link: Interface) -> Result<(), Failure> {
        check_name(&link.name)?;
        if self.link(link.index).is_some() || self.link_named(&link.name).is_some() {
            return Err(Errno::EEXIST.into());
        }
        self.check_layer(&link)?;
        let up = link.is_up();
        link.flags -= LinkFlags::UP;
        let index = link.index;
        self.last_index = self.last_index.max(index.0);
        self.sysctls.add_interface(&link.name);
        self.sysctls.follow_mtu(&link.name, link.mtu);
        let at = self.links.partition_point(|other| other.index < index);
        self.links.insert(at, link.clone());
        self.note(Change::Link(link));
        if up {
            self.set_link(index, &LinkChange::admin(true))?;
        }
        Ok(())
    }

    /// Removes an interface with its addresses, routes and neighbours. Errors: `ENODEV`,
    /// `EOPNOTSUPP` for `lo`.
    pub fn remove_link(&mut self, index: IfIndex) -> Result<Interface, Failure> {
        let link = self.link(index).ok_or(Errno::ENODEV)?;
        if link.is_loopback() {
            return Err(Errno::EOPNOTSUPP.into());
        }
        self.clear_layers(index)?;
        if self.link(index).is_some_and(Interface::is_up) {
            self.set_link(index, &LinkChange::admin(false))?;
        }
        self.drop_addresses(|address| address.interface == index);
        self.flush_routes(|route| route.uses(index));
        let at = self.links.iter().position(|link| link.index == index).ok_or(Errno::ENODEV)?;
        let link = self.links.remove(at);
        self.drop_qdiscs(index);
        self.sysctls.remove_interface(&link.name);
        self.note(Change::LinkRemoved(link.clone()));
        self.follow_ports(link.master);
        // A cable goes with both its ends.
        if let Some(peer) = link.layer.peer().filter(|peer| self.link(*peer).is_some()) {
            self.remove_link(peer)?;
        }
        Ok(link)
    }

    /// Changes an interface. Errors: `ENODEV`, `EEXIST` (name), `EINVAL`, `EADDRNOTAVAIL` (hardware
    /// address); of VLANs and ports `ENETDOWN`, `ERANGE`, `ELOOP`, `EOPNOTSUPP`, `EBUSY`, `EMLINK`.
    pub fn set_link(&mut self, index: IfIndex, change: &LinkChange) -> Result<(), Failure> {
        self.alter_link(index, change, true)
    }

    /// Changes an interface; `given` when somebody has asked for it. Errors: see
    /// [`Self::set_link`].
    pub(super) fn alter_link(
        &mut self,
        index: IfIndex,
        change: &LinkChange,
        given: bool,
    ) -> Result<(), Failure> {
        let link = self.link(index).ok_or(Errno::ENODEV)?.clone();
        self.check_change(&link, change)?;
        let mut next = link.clone();
        apply(&mut next, change, given);
        if let Some(name) = change.name.as_deref().filter(|name| *name != link.name) {
            next.name = self.free_name(name)?;
            self.sysctls.rename_interface(&link.name, &next.name);
            self.rename_labels(index, &next.name);
        }
        if next == link {
            return Ok(());
        }
        if next.mtu != link.mtu {
            self.sysctls.follow_mtu(&next.name, next.mtu);
        }
        let before = self.derived(index);
        let had_ipv6 = link.is_up() && self.has_ipv6(&link);
        if let Some(slot) = self.link_mut(index) {
            slot.clone_from(&next);
        }
        self.note(Change::Link(next.clone()));
        if link.is_up() && !next.is_up() {
            self.neighbours_down(index);
            self.follow_down(index, &before);
        }
        self.switch_ipv6(&next, had_ipv6);
        if !link.is_up() && next.is_up() {
            self.loopback_ipv4(&next);
        }
        if next.is_up() {
            self.follow(index, &before);
        }
        self.follow_layers(&link, &next)
    }

    /// Tells that the carrier came or went, as the driver sees it.
    pub fn set_carrier(&mut self, index: IfIndex, carrier: bool) {
        let Some(link) = self.link_mut(index) else { return };
        if link.carrier != carrier {
            link.carrier = carrier;
            link.carrier_changes.count(carrier);
            // Once a driver has told, the kernel no longer says UNKNOWN.
            link.reports_state = true;
            let link = link.clone();
            self.note(Change::Link(link.clone()));
            self.follow_carrier(&link);
        }
    }

    /// Updates the traffic counters; no change is noted.
    pub fn set_counters(&mut self, index: IfIndex, counters: Counters) {
        if let Some(link) = self.link_mut(index) {
            link.counters = counters;
        }
    }

    /// Adds or, with `present` false, removes an alternative name. Errors: `EEXIST`, `ENOENT`,
    /// `EINVAL`.
    pub fn set_alternative_name(
        &mut self,
        index: IfIndex,
        name: &str,
        present: bool,
    ) -> Result<(), Failure> {
        let taken = self.link_named(name).is_some();
        let link = self.link_mut(index).ok_or(Errno::ENODEV)?;
        if present {
            if name.is_empty() || name.len() > 127 {
                return Err(Errno::EINVAL.into());
            }
            if taken {
                return Err(Errno::EEXIST.into());
            }
            link.alternative_names.push(name.to_owned());
        } else {
            let at = link.alternative_names.iter().position(|other| other == name);
            link.alternative_names.remove(at.ok_or(Errno::ENOENT)?);
        }
        let link = link.clone();
        self.note(Change::Link(link));
        Ok(())
    }

    fn check_change(&self, link: &Interface, change: &LinkChange) -> Result<(), Failure> {
        if let Some(mtu) = change.mtu {
            if mtu < link.mtu_range.0 {
                return Err(text::LINK_MTU_SMALL);
            }
            if mtu > i32::MAX.unsigned_abs() || (link.mtu_range.1 > 0 && mtu > link.mtu_range.1) {
                return Err(text::LINK_MTU_LARGE);
            }
        }
        if let Some(mac) = change.mac {
            if link.is_loopback() {
                return Err(Errno::EOPNOTSUPP.into());
            }
            if mac[0] & 1 != 0 || mac == [0; 6] {
                return Err(Errno::EADDRNOTAVAIL.into());
            }
        }
        self.check_stack(link, change)?;
        if change.alias.as_ref().is_some_and(|alias| alias.len() > 255) {
            return Err(Errno::EINVAL.into());
        }
        if change.carrier.is_some() && link.is_loopback() {
            return Err(Errno::EOPNOTSUPP.into());
        }
        match &change.name {
            Some(name) if *name != link.name => self.free_name(name).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Replaces a `%d` by the smallest free number, and checks the name.
    fn free_name(&self, pattern: &str) -> Result<String, Failure> {
        check_name(pattern)?;
        let Some((head, tail)) = pattern.split_once("%d") else {
            if self.link_named(pattern).is_some() {
                return Err(Errno::EEXIST.into());
            }
            return Ok(pattern.to_owned());
        };
        let mut candidates = (0..=self.links.len()).map(|number| format!("{head}{number}{tail}"));
        let free = candidates.find(|name| self.link_named(name).is_none());
        let name = free.ok_or(Errno::EEXIST)?;
        check_name(&name)?;
        Ok(name)
    }

    /// What `lo` gets when it goes up for the first time.
    fn loopback_ipv4(&mut self, link: &Interface) {
        let has_any = self.addresses_of(link.index).any(|address| address.ip().is_ipv4());
        if link.is_loopback() && !has_any {
            let mut address = Address::new(link.index, Ipv4Addr::LOCALHOST.into(), 8);
            address.scope = Scope::HOST;
            address.label = Some(link.name.clone());
            self.insert_address(address);
        }
    }

    /// Gives an interface its IPv6 addresses when IPv6 starts on it, and takes all when it ends.
    pub(super) fn switch_ipv6(&mut self, link: &Interface, had: bool) {
        let has = link.is_up() && self.has_ipv6(link);
        if had && !has {
            let keep = self.sysctls.interface_flag(true, &link.name, "keep_addr_on_down");
            self.drop_addresses(|address| {
                let kept = keep
                    && address.flags.contains(AddressFlags::PERMANENT)
                    && address.scope != Scope::LINK;
                address.interface == link.index && address.ip().is_ipv6() && !kept
            });
        }
        if !had && has {
            self.confirm_addresses(link.index);
            if let Some(own) = self.own_ipv6(link)
                && !self.addresses_of(link.index).any(|address| address.ip() == own.ip())
            {
                self.insert_address(own);
            }
        }
    }

    /// The IPv6 address that an interface makes for itself.
    fn own_ipv6(&self, link: &Interface) -> Option<Address> {
        let make = |ip: Ipv6Addr, length, scope, proto| {
            let mut address = Address::new(link.index, ip.into(), length);
            address.scope = scope;
            address.proto = proto;
            address
        };
        if link.is_loopback() {
            return Some(make(Ipv6Addr::LOCALHOST, 128, Scope::HOST, 1));
        }
        let wanted = self.sysctls.interface_value(true, &link.name, "addr_gen_mode") == Some(0);
        if !wanted || link.kind.hardware_type() != 1 {
            return None;
        }
        Some(make(link_local(link.mac), 64, Scope::LINK, 3))
    }
}

/// The link-local address made of a hardware address by EUI-64 (RFC 4291, appendix A).
#[must_use]
pub(crate) fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

fn apply(link: &mut Interface, change: &LinkChange, given: bool) {
    let mask = change.flags_mask & SETTABLE;
    link.flags = (link.flags - mask) | (change.flags & mask);
    link.activated |= link.is_up();
    link.mtu = change.mtu.unwrap_or(link.mtu);
    link.mac = change.mac.unwrap_or(link.mac);
    link.broadcast = change.broadcast.unwrap_or(link.broadcast);
    link.txqlen = change.txqlen.unwrap_or(link.txqlen);
    link.group = change.group.unwrap_or(link.group);
    if let Some(carrier) = change.carrier.filter(|carrier| *carrier != link.carrier) {
        link.carrier = carrier;
        link.carrier_changes.count(carrier);
    }
    link.token = change.token.unwrap_or(link.token);
    if let Some(master) = change.master {
        link.master = (master.0 != 0).then_some(master);
    }
    if let Layer::Bridge(bridge) = &mut link.layer {
        bridge.has_mac |= given && change.mac.is_some();
        bridge.has_mtu |= given && change.mtu.is_some();
        let layer = change.layer.unwrap_or_default();
        bridge.ageing_time = layer.ageing_time.unwrap_or(bridge.ageing_time);
        bridge.flushes = bridge.flushes.wrapping_add(u32::from(layer.flush));
    }
    if let Some(alias) = &change.alias {
        link.alias = (!alias.is_empty()).then(|| alias.clone());
    }
}

/// Checks an interface name as the kernel does. Errors: `EINVAL`.
fn check_name(name: &str) -> Result<(), Failure> {
    let bad = |byte: u8| byte == b'/' || byte == b':' || byte.is_ascii_whitespace();
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.bytes().any(bad) {
        return Err(Errno::EINVAL.into());
    }
    Ok(())
}

impl Address {
    /// Whether the other address names the same one: equal address and network.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.interface == other.interface
            && self.ip() == other.ip()
            && (self.ip().is_ipv6() || self.network() == other.network())
    }
}

/// The scope of an IPv6 address, as `ip address` shows it.
pub(super) fn scope_of(ip: IpAddr) -> Scope {
    match ip {
        IpAddr::V6(ip) if ip.is_loopback() => Scope::HOST,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Scope::LINK,
        IpAddr::V6(ip) if Prefix::new(SITE.into(), 10).contains(ip.into()) => Scope::SITE,
        _ => Scope::UNIVERSE,
    }
}

/// The former site-local network, fec0::/10.
const SITE: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0);
