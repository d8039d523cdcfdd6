//! Interfaces that stand on others: what may be put together, and who follows whom.
//!
//! A VLAN goes up and down with the interface below it and has its carrier; a bridge has a carrier
//! while one of its ports does, and takes the lowest hardware address and the smallest MTU of them
//! unless it was given its own (`net/8021q/vlan.c`, `net/bridge/br_if.c`).

use umvu_abi::{Errno, IfIndex};

use super::NetConfig;
use crate::{
    host::Failure,
    text,
    values::{Interface, Layer, LinkChange},
};

/// How deep interfaces may stand on each other (`MAX_NEST_DEV`).
pub const MAX_NESTING: usize = 8;

impl NetConfig {
    /// The bridge that has `index` as a port.
    fn bridge_of(&self, port: &Interface) -> Option<IfIndex> {
        port.master.filter(|master| self.link(*master).is_some())
    }

    /// The ports of a bridge, in order of their index.
    pub fn ports_of(&self, bridge: IfIndex) -> impl Iterator<Item = &Interface> {
        self.links.iter().filter(move |link| link.master == Some(bridge))
    }

    /// The VLANs that stand on an interface.
    fn vlans_on(&self, lower: IfIndex) -> Vec<Interface> {
        self.links.iter().filter(|link| link.layer.lower() == Some(lower)).cloned().collect()
    }

    /// Checks what a new interface is to stand on. Errors: `ENODEV`, `EOPNOTSUPP`, `EEXIST`,
    /// `ERANGE` (MTU), `EMLINK`.
    pub(super) fn check_layer(&self, link: &Interface) -> Result<(), Failure> {
        let Layer::Vlan(vlan) = link.layer else { return Ok(()) };
        let lower = self.link(vlan.lower).ok_or(text::LINK_LOWER_UNKNOWN)?;
        if lower.kind.hardware_type() != 1 {
            return Err(text::VLAN_REFUSED);
        }
        if self.links.iter().any(|other| other.layer == link.layer) {
            return Err(text::VLAN_EXISTS);
        }
        if link.mtu > lower.mtu {
            return Err(Errno::ERANGE.into());
        }
        if self.depth(lower.index) + 1 >= MAX_NESTING {
            return Err(Errno::EMLINK.into());
        }
        Ok(())
    }

    /// How many interfaces are below one.
    fn depth(&self, index: IfIndex) -> usize {
        let Some(link) = self.link(index) else { return 0 };
        match link.layer {
            Layer::Device | Layer::Pair(_) | Layer::Tunnel(_) => 0,
            Layer::Vlan(vlan) => 1 + self.depth(vlan.lower),
            Layer::Bridge(_) => {
                1 + self.ports_of(index).map(|port| self.depth(port.index)).max().unwrap_or(0)
            }
        }
    }

    /// Whether `index` stands on `below`, directly or not.
    fn stands_on(&self, index: IfIndex, below: IfIndex) -> bool {
        let Some(link) = self.link(index) else { return false };
        index == below
            || match link.layer {
                Layer::Device | Layer::Pair(_) | Layer::Tunnel(_) => false,
                Layer::Vlan(vlan) => self.stands_on(vlan.lower, below),
                Layer::Bridge(_) => {
                    self.ports_of(index).any(|port| self.stands_on(port.index, below))
                }
            }
    }

    /// Checks a change for what it means to the interfaces above and below. Errors: `ENETDOWN` (a
    /// VLAN without what is below it), `ERANGE` (its MTU), `EINVAL`, `ELOOP`, `EOPNOTSUPP`, `EBUSY`,
    /// `EMLINK` (of a port).
    pub(super) fn check_stack(&self, link: &Interface, change: &LinkChange) -> Result<(), Failure> {
        let rises = (change.flags & change.flags_mask).contains(crate::values::LinkFlags::UP);
        if let Some(lower) = link.layer.lower().and_then(|lower| self.link(lower)) {
            if rises && !link.is_up() && !lower.is_up() {
                return Err(Errno::ENETDOWN.into());
            }
            if change.mtu.is_some_and(|mtu| mtu > lower.mtu) {
                return Err(Errno::ERANGE.into());
            }
        }
        let Some(master) = change.master.filter(|master| master.0 != 0) else { return Ok(()) };
        let bridge = self.link(master).ok_or(Errno::EINVAL)?;
        if !bridge.layer.is_bridge() {
            return Err(Errno::EOPNOTSUPP.into());
        }
        if link.kind.hardware_type() != 1 {
            return Err(Errno::EINVAL.into());
        }
        if link.layer.is_bridge() {
            return Err(text::LINK_BRIDGE_IN_BRIDGE);
        }
        if self.stands_on(link.index, master) {
            return Err(Errno::EBUSY.into());
        }
        if self.depth(link.index) + 1 >= MAX_NESTING {
            return Err(Errno::EMLINK.into());
        }
        Ok(())
    }

    /// Takes away what stands on an interface that goes: its VLANs; its ports are free.
    pub(super) fn clear_layers(&mut self, index: IfIndex) -> Result<(), Failure> {
        for vlan in self.vlans_on(index) {
            self.remove_link(vlan.index)?;
        }
        let ports: Vec<IfIndex> = self.ports_of(index).map(|port| port.index).collect();
        for port in ports {
            let free = LinkChange { master: Some(IfIndex(0)), ..LinkChange::default() };
            self.set_link(port, &free)?;
        }
        Ok(())
    }

    /// Has the interfaces above follow a change. Errors: none that [`Self::set_link`] would not
    /// have for them.
    pub(super) fn follow_layers(
        &mut self,
        before: &Interface,
        now: &Interface,
    ) -> Result<(), Failure> {
        for vlan in self.vlans_on(now.index) {
            let mut change = LinkChange::default();
            if before.is_up() != now.is_up() && vlan.is_up() != now.is_up() {
                change = LinkChange::admin(now.is_up());
            }
            if before.mac != now.mac && vlan.mac == before.mac {
                change.mac = Some(now.mac);
            }
            if vlan.mtu > now.mtu {
                change.mtu = Some(now.mtu);
            }
            if change != LinkChange::default() {
                self.set_link(vlan.index, &change)?;
            }
        }
        if before.is_up() != now.is_up() {
            self.follow_pair(now.index);
        }
        self.follow_carrier(now);
        if before.master != now.master {
            self.follow_ports(before.master);
        }
        if now.layer.is_bridge() {
            self.follow_ports(Some(now.index));
        }
        self.follow_ports(self.bridge_of(now));
        Ok(())
    }

    /// Makes two interfaces the ends of a cable, which has no carrier yet.
    pub(super) fn pair(&mut self, one: IfIndex, other: IfIndex) {
        for (end, peer) in [(one, other), (other, one)] {
            if let Some(link) = self.link_mut(end) {
                link.layer = Layer::Pair(peer);
            }
        }
    }

    /// Gives both ends of a cable a carrier while both are up.
    fn follow_pair(&mut self, end: IfIndex) {
        let Some(peer) = self.link(end).and_then(|link| link.layer.peer()) else { return };
        let is_up = |index| self.link(index).is_some_and(Interface::is_up);
        let carrier = is_up(end) && is_up(peer);
        self.set_carrier(end, carrier);
        self.set_carrier(peer, carrier);
    }

    /// Gives the VLANs of an interface its carrier, and the bridge that it is a port of.
    pub(super) fn follow_carrier(&mut self, link: &Interface) {
        for vlan in self.vlans_on(link.index) {
            self.set_carrier(vlan.index, link.carrier);
        }
        self.follow_ports(self.bridge_of(link));
    }

    /// Makes a bridge what its ports say.
    pub(super) fn follow_ports(&mut self, bridge: Option<IfIndex>) {
        let Some(link) = bridge.and_then(|bridge| self.link(bridge)).cloned() else { return };
        let Layer::Bridge(own) = link.layer else { return };
        let carrier = self.ports_of(link.index).any(Interface::is_running);
        let mac = self.ports_of(link.index).map(|port| port.mac).min();
        let mtu = self.ports_of(link.index).map(|port| port.mtu).min();
        let change = LinkChange {
            mac: mac.filter(|mac| !own.has_mac && *mac != link.mac),
            mtu: mtu.filter(|mtu| !own.has_mtu && *mtu != link.mtu),
            ..LinkChange::default()
        };
        // An MTU that its VLANs cannot have: it keeps its own.
        let _ = self.alter_link(link.index, &change, false);
        self.set_carrier(link.index, carrier);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::{Bridge, Vlan};

    fn add(config: &mut NetConfig, index: u32, layer: Layer) -> Result<(), Failure> {
        let mac = [2, 0, 0, 0, 0, u8::try_from(index).expect("small")];
        let mut link = Interface::ethernet(IfIndex(index), &format!("if{index}"), "", mac);
        link.layer = layer;
        config.insert_link(link)
    }

    fn vlan(lower: u32, id: u16) -> Layer {
        Layer::Vlan(Vlan { lower: IfIndex(lower), id, protocol: 0x8100 })
    }

    fn join(config: &mut NetConfig, port: u32, bridge: u32) -> Result<(), Failure> {
        let change = LinkChange { master: Some(IfIndex(bridge)), ..LinkChange::default() };
        config.set_link(IfIndex(port), &change)
    }

    #[test]
    fn a_vlan_follows_what_is_below() {
        let mut config = NetConfig::default();
        add(&mut config, 2, Layer::Device).expect("a device");
        add(&mut config, 3, vlan(2, 7)).expect("a VLAN");
        assert_eq!(add(&mut config, 4, vlan(2, 7)), Err(text::VLAN_EXISTS));
        assert_eq!(add(&mut config, 4, vlan(1, 7)), Err(text::VLAN_REFUSED));
        let up = LinkChange::admin(true);
        assert_eq!(config.set_link(IfIndex(3), &up), Err(Errno::ENETDOWN.into()));
        config.set_link(IfIndex(2), &up).expect("it exists");
        let look = |config: &NetConfig| {
            let vlan = config.link(IfIndex(3)).expect("it exists");
            (vlan.is_up(), vlan.carrier, vlan.mtu)
        };
        assert_eq!(look(&config), (true, true, 1500));
        config.set_carrier(IfIndex(2), false);
        let smaller = LinkChange { mtu: Some(1000), ..LinkChange::default() };
        config.set_link(IfIndex(2), &smaller).expect("it exists");
        assert_eq!(look(&config), (true, false, 1000));
        config.set_link(IfIndex(2), &LinkChange::admin(false)).expect("it exists");
        assert!(!look(&config).0);
        config.remove_link(IfIndex(2)).expect("it exists");
        assert_eq!(config.link(IfIndex(3)), None);
    }

    #[test]
    fn a_bridge_is_what_its_ports_are() {
        let mut config = NetConfig::default();
        add(&mut config, 9, Layer::Bridge(Bridge::default())).expect("a bridge");
        for port in [2, 3] {
            add(&mut config, port, Layer::Device).expect("a device");
            join(&mut config, port, 9).expect("a port");
            config.set_link(IfIndex(port), &LinkChange::admin(true)).expect("it exists");
        }
        let look = |config: &NetConfig| {
            let bridge = config.link(IfIndex(9)).expect("it exists");
            (bridge.carrier, bridge.mac[5], bridge.mtu)
        };
        assert_eq!(look(&config), (true, 2, 1500));
        let smaller = LinkChange { mtu: Some(1000), ..LinkChange::default() };
        config.set_link(IfIndex(3), &smaller).expect("it exists");
        config.remove_link(IfIndex(2)).expect("it exists");
        assert_eq!(look(&config), (true, 3, 1000));
        let given = LinkChange { mac: Some([2, 0, 0, 0, 0, 99]), ..LinkChange::default() };
        config.set_link(IfIndex(9), &given).expect("it exists");
        assert_eq!(look(&config), (true, 99, 1000));
        config.set_link(IfIndex(3), &LinkChange::admin(false)).expect("it exists");
        assert_eq!(look(&config), (false, 99, 1000));
    }

    #[test]
    fn a_cable_has_a_carrier_while_both_ends_are_up() {
        let mut config = NetConfig::default();
        for (index, peer) in [(2, 3), (3, 2)] {
            let pair = Layer::Pair(IfIndex(peer));
            add(&mut config, index, pair).expect("an end");
            config.set_carrier(IfIndex(index), false);
        }
        let look = |config: &NetConfig| {
            [2, 3].map(|index| config.link(IfIndex(index)).is_some_and(|link| link.carrier))
        };
        config.set_link(IfIndex(2), &LinkChange::admin(true)).expect("it exists");
        assert_eq!(look(&config), [false, false]);
        config.set_link(IfIndex(3), &LinkChange::admin(true)).expect("it exists");
        assert_eq!(look(&config), [true, true]);
        config.set_link(IfIndex(2), &LinkChange::admin(false)).expect("it exists");
        assert_eq!(look(&config), [false, false]);
        config.remove_link(IfIndex(3)).expect("it exists");
        assert_eq!(config.links().len(), 1);
    }

    #[test]
    fn no_interface_stands_on_itself() {
        let mut config = NetConfig::default();
        add(&mut config, 2, Layer::Bridge(Bridge::default())).expect("a bridge");
        add(&mut config, 3, vlan(2, 1)).expect("a VLAN of the bridge");
        assert_eq!(join(&mut config, 3, 2), Err(Errno::EBUSY.into()));
        add(&mut config, 4, Layer::Bridge(Bridge::default())).expect("a bridge");
        join(&mut config, 3, 4).expect("a port");
        add(&mut config, 5, vlan(4, 1)).expect("a VLAN of the other bridge");
        assert_eq!(join(&mut config, 5, 2), Err(Errno::EBUSY.into()));
        // As deep as it goes.
        for (id, lower) in (6..40).zip(5..) {
            if let Err(failure) = add(&mut config, id, vlan(lower, 1)) {
                assert_eq!(failure, Errno::EMLINK.into());
                return;
            }
        }
        panic!("there is no end");
    }
}
