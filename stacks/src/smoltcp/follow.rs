//! The data plane follows the configuration: links go up and down, addresses are announced.

use std::{net::IpAddr, sync::Arc};

use netlink_emu::values::{Change, Handle, Interface, InterfaceKind, Layer, Qdisc};
use umvu_abi::{Errno, IfIndex};

use super::{
    bridge,
    inner::Inner,
    link::{Kind, Link, Under},
    qdisc::Scheduler,
    wire::Transport,
};

impl Inner {
    /// Sets the clock of the configuration.
    pub(crate) fn tell_time(&mut self) {
        let millis = u64::try_from(self.now.total_millis()).unwrap_or(0);
        self.net.config.set_now(millis);
    }

    /// Takes the changes of the configuration, follows them, and returns them for listeners.
    pub(crate) fn follow(&mut self) -> Vec<Change> {
        let changes = self.net.config.take_changes();
        if self.net.refresh() {
            self.generation = self.net.config.generation();
        }
        for change in &changes {
            match change {
                Change::Link(link) => self.link_changed(link),
                Change::LinkRemoved(link) => self.link_removed(link.index.0),
                Change::Address(address) => {
                    if let Some(link) = self.link_at(address.interface.0) {
                        self.announce(link, address.ip());
                    }
                }
                Change::Qdisc(qdisc) | Change::QdiscRemoved(qdisc) => {
                    self.follow_qdiscs(qdisc.interface);
                }
                _ => {}
            }
        }
        changes
    }

    fn link_changed(&mut self, interface: &Interface) {
        let Some(at) = self.link_at(interface.index.0) else { return };
        let (seed, now) = (self.rng.next(), self.now);
        let Some(link) = self.links.get_mut(at) else { return };
        let mtu = usize::try_from(interface.mtu).unwrap_or(1500);
        if link.mtu != mtu {
            link.set_mtu(mtu, seed, now);
        }
        let rises = interface.is_running() && !link.running;
        let falls = !interface.is_up() && link.up;
        if link.mac != interface.mac || link.up != interface.is_up() {
            link.neighbours.clear();
        }
        let (was_running, master) = (link.running, link.master);
        link.mac = interface.mac;
        link.up = interface.is_up();
        link.running = interface.is_running();
        if let (Under::Bridge(bridge), Layer::Bridge(settings)) = (&mut link.under, interface.layer)
        {
            bridge.follow(settings, seed);
        }
        let now_master = interface.master.and_then(|master| self.link_at(master.0));
        self.links[at].master = now_master;
        if let Some(bridge) = master
            && (now_master != master || was_running && !interface.is_running())
        {
            self.forget_port(bridge, interface.index.0);
        }
        let Some(link) = self.links.get_mut(at) else { return };
        if falls {
            if let Some(scheduler) = &mut link.scheduler {
                scheduler.reset();
            }
            link.solicit = None;
            self.device_down(interface.index.0);
        }
        if rises {
            let own: Vec<IpAddr> =
                self.net.config.addresses_of(interface.index).map(|address| address.ip()).collect();
            for ip in own {
                self.announce(at, ip);
            }
            self.look_for_routers(at);
        }
    }

    /// Gives a link the disciplines that the configuration says.
    fn follow_qdiscs(&mut self, interface: IfIndex) {
        let Some(at) = self.link_at(interface.0) else { return };
        let wanted = self.net.config.qdiscs(Some(interface));
        let Some(link) = self.links.get_mut(at) else { return };
        let given: Vec<Qdisc> = wanted.into_iter().filter(|q| !is_own(q)).collect();
        let mut seeds = |qdisc: &Qdisc| self.seeds.of(qdisc);
        let scheduler = Scheduler::follow(link.scheduler.take(), &given, &mut seeds);
        link.set_scheduler(scheduler);
    }

    fn link_removed(&mut self, index: u32) {
        let Some(at) = self.link_at(index) else { return };
        if let Some(link) = self.links.get_mut(at) {
            // Its place stays, for the next one: others are known by theirs.
            link.index = 0;
            (link.up, link.running) = (false, false);
            link.transport = None;
            link.queue = Vec::new();
            link.scheduler = None;
            link.solicit = None;
            link.under = Under::Wire;
            link.neighbours.clear();
            if let Some(bridge) = link.master.take() {
                self.forget_port(bridge, index);
            }
        }
        self.device_gone(index, at);
    }

    /// Tells the neighbours about an address of ours.
    fn announce(&mut self, at: usize, ip: IpAddr) {
        let Some(link) = self.links.get(at) else { return };
        if link.kind != Kind::Ethernet || !link.up {
            return;
        }
        match ip {
            IpAddr::V4(ip) => self.announce_v4(at, ip),
            IpAddr::V6(ip) => self.announce_v6(at, ip),
        }
    }

    /// Adds the data plane of an interface that the configuration is about to take in.
    pub(crate) fn add_link(
        &mut self,
        index: u32,
        kind: Kind,
        mac: super::neighbour::Mac,
        mtu: usize,
        transport: Option<Arc<dyn Transport>>,
    ) {
        let (seed, now) = (self.rng.next(), self.now);
        let link = Link::wired(index, kind, mac, mtu, transport, seed, now);
        match self.links.iter_mut().find(|link| link.index == 0) {
            Some(free) => *free = link,
            None => self.links.push(link),
        }
    }

    /// Adds the data plane of an interface that the configuration has. Errors: `ENODEV` when it has
    /// it no more, `ENETDOWN` when the stack has ended.
    pub(crate) fn plug(
        &mut self,
        index: IfIndex,
        transport: Option<Arc<dyn Transport>>,
    ) -> Result<(), Errno> {
        if self.stopped {
            return Err(Errno::ENETDOWN);
        }
        let interface = self.net.config.link(index).cloned().ok_or(Errno::ENODEV)?;
        let mtu = usize::try_from(interface.mtu).unwrap_or(1500);
        let kind = match interface.kind {
            InterfaceKind::Loopback => Kind::Loopback,
            InterfaceKind::Ethernet { .. } => Kind::Ethernet,
            InterfaceKind::PointToPoint { .. } => Kind::Tunnel,
        };
        self.add_link(index.0, kind, interface.mac, mtu, transport);
        let under = bridge::under(self, interface.layer);
        if let Some(at) = self.link_at(index.0) {
            // The other end of a cable may have been there first.
            if let Under::Pair(peer) = under {
                self.links[peer].under = Under::Pair(at);
            }
            self.links[at].under = under;
        }
        self.link_changed(&interface);
        Ok(())
    }
}

/// Whether it is what an interface has by itself.
fn is_own(qdisc: &Qdisc) -> bool {
    (qdisc.handle, qdisc.parent) == (Handle::NONE, Handle::ROOT)
}
