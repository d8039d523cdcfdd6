//! [`Layout`]: the ports of a [`Bridge`](super::bridge::Bridge) and the VLANs they are in.
//!
//! Plain values without locks: what a management command changes, and what forwarding reads.
//! Errors are those that `vde_switch` answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
};

use nix::{
    errno::Errno,
    unistd::{Gid, Uid, User, getgrouplist},
};

use crate::switch::fabric::Slot;

/// The number of a port, from 1.
pub(crate) type PortNumber = u16;
/// The number of a VLAN.
pub(crate) type Vid = u16;

/// The untagged VLAN of a port that takes only tagged frames.
pub(crate) const NO_VLAN: Vid = 4095;
/// The VLANs that can be created.
const VLANS: std::ops::Range<Vid> = 1..4094;
/// What a request can name, and a printed number shows.
pub(crate) const MOST_PORTS: PortNumber = 4096;

/// Packets and bytes.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    pub(crate) fn add(&self, packets: usize, bytes: usize) {
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        self.packets.fetch_add(number(packets), Ordering::Relaxed);
        self.bytes.fetch_add(number(bytes), Ordering::Relaxed);
    }

    pub(crate) fn count(&self, lengths: impl ExactSizeIterator<Item = usize>) {
        self.add(lengths.len(), lengths.sum());
    }

    /// Packets, then bytes.
    pub(crate) fn get(&self) -> (u64, u64) {
        (self.packets.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    pub(crate) fn reset(&self) {
        self.packets.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }
}

/// A plug in a port.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) slot: Slot,
    pub(crate) id: u64,
    /// What kind of plug it is: `unix prog`, `tuntap`.
    pub(crate) module: &'static str,
    pub(crate) description: String,
    pub(crate) user: Uid,
    /// Its connection, to be shut down from outside; None: a plug of this process.
    pub(crate) stream: Option<std::os::unix::net::UnixStream>,
}

/// Who wants to plug in, and where.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) port: Option<PortNumber>,
    pub(crate) endpoint: Endpoint,
    pub(crate) group: Gid,
}

/// How a port is in a VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Untagged,
    Tagged,
}

/// A port.
#[derive(Debug, Default)]
pub(crate) struct NumberedPort {
    pub(crate) untagged: Vid,
    pub(crate) endpoints: Vec<Endpoint>,
    /// Whether plugs that ask for no number may get it.
    pub(crate) allocatable: bool,
    /// Who may plug in; None: all.
    pub(crate) user: Option<Uid>,
    pub(crate) group: Option<Gid>,
    pub(crate) input: Counter,
    pub(crate) output: Counter,
}

impl NumberedPort {
    pub(crate) fn is_active(&self) -> bool {
        !self.endpoints.is_empty()
    }

    fn admits(&self, guest: &Guest) -> bool {
        let uid = guest.endpoint.user;
        uid.is_root()
            || (self.user.is_none() && self.group.is_none())
            || self.user == Some(uid)
            || self.group.is_some_and(|group| guest.group == group || groups(uid).contains(&group))
    }
}

fn groups(uid: Uid) -> Vec<Gid> {
    let user = User::from_uid(uid).ok().flatten();
    let names = user.and_then(|user| Some((std::ffi::CString::new(user.name).ok()?, user.gid)));
    names.and_then(|(name, gid)| getgrouplist(&name, gid).ok()).unwrap_or_default()
}

/// Ports and VLANs.
#[derive(Debug)]
pub(crate) struct Layout {
    /// All ports have smaller numbers.
    pub(crate) limit: PortNumber,
    pub(crate) hub: bool,
    pub(crate) ports: BTreeMap<PortNumber, NumberedPort>,
    /// The VLANs and the ports that are in them tagged.
    pub(crate) vlans: BTreeMap<Vid, BTreeSet<PortNumber>>,
    /// The port of each slot.
    seats: Vec<Option<PortNumber>>,
}

impl Layout {
    /// Makes a switch without ports, with VLAN 0.
    pub(crate) fn new(limit: PortNumber, hub: bool) -> Self {
        let vlans = BTreeMap::from([(0, BTreeSet::new())]);
        Self { limit, hub, ports: BTreeMap::new(), vlans, seats: Vec::new() }
    }

    /// Returns the port that a slot is in.
    pub(crate) fn port_of(&self, slot: Slot) -> Option<(PortNumber, &NumberedPort)> {
        let number = (*self.seats.get(usize::try_from(slot).ok()?)?)?;
        Some((number, self.ports.get(&number)?))
    }

    /// Whether a port is in a VLAN that exists.
    pub(crate) fn is_member(&self, port: &NumberedPort, number: PortNumber, vid: Vid) -> bool {
        self.vlans.get(&vid).is_some_and(|tagged| port.untagged == vid || tagged.contains(&number))
    }

    /// Returns how a port is in a VLAN.
    pub(crate) fn lane(&self, number: PortNumber, vid: Vid) -> Option<(&NumberedPort, Lane)> {
        let port = self.ports.get(&number)?;
        let lane = if port.untagged == vid { Lane::Untagged } else { Lane::Tagged };
        self.is_member(port, number, vid).then_some((port, lane))
    }

    /// Returns the ports of a VLAN, by number.
    pub(crate) fn members(
        &self,
        vid: Vid,
    ) -> impl Iterator<Item = (PortNumber, &NumberedPort, Lane)> {
        self.ports.keys().filter_map(move |number| {
            let (port, lane) = self.lane(*number, vid)?;
            Some((*number, port, lane))
        })
    }

    /// Finds the port for somebody who wants to plug in. Errors: EINVAL no such number, EACCES not
    /// for this user, ENOSPC all are taken.
    pub(crate) fn choose(&self, guest: &Guest) -> Result<PortNumber, Errno> {
        match guest.port {
            Some(number) => {
                self.check(number)?;
                let admitted = self.ports.get(&number).is_none_or(|port| port.admits(guest));
                if admitted { Ok(number) } else { Err(Errno::EACCES) }
            }
            None => {
                let free = |port: &NumberedPort| {
                    !port.is_active() && port.allocatable && port.admits(guest)
                };
                let mut numbers = 1..self.limit;
                numbers.find(|number| self.ports.get(number).is_none_or(free)).ok_or(Errno::ENOSPC)
            }
        }
    }

    /// Plugs in; returns whether the port is new.
    pub(crate) fn seat(&mut self, number: PortNumber, guest: Guest) -> bool {
        let slot = usize::try_from(guest.endpoint.slot).unwrap_or_default();
        let is_new = !self.ports.contains_key(&number);
        let new = || NumberedPort { allocatable: true, ..NumberedPort::default() };
        self.ports.entry(number).or_insert_with(new).endpoints.insert(0, guest.endpoint);
        if self.seats.len() <= slot {
            self.seats.resize(slot + 1, None);
        }
        self.seats[slot] = Some(number);
        is_new
    }

    /// Unplugs; returns the number of the port and the endpoint.
    pub(crate) fn leave(&mut self, slot: Slot) -> Option<(PortNumber, Endpoint)> {
        let number = self.seats.get_mut(usize::try_from(slot).ok()?)?.take()?;
        let endpoints = &mut self.ports.get_mut(&number)?.endpoints;
        let at = endpoints.iter().position(|end| end.slot == slot)?;
        Some((number, endpoints.remove(at)))
    }

    /// Errors: EINVAL for a number that no port can have.
    pub(crate) fn check(&self, number: PortNumber) -> Result<(), Errno> {
        if (1..self.limit).contains(&number) { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// Returns a port. Errors: EINVAL for an impossible number, ENXIO for no port.
    pub(crate) fn port_mut(&mut self, number: PortNumber) -> Result<&mut NumberedPort, Errno> {
        self.check(number)?;
        self.ports.get_mut(&number).ok_or(Errno::ENXIO)
    }

    /// Makes a port. Errors: EINVAL, EEXIST.
    pub(crate) fn create(&mut self, number: PortNumber) -> Result<(), Errno> {
        self.check(number)?;
        if self.ports.contains_key(&number) {
            return Err(Errno::EEXIST);
        }
        self.ports.insert(number, NumberedPort::default());
        Ok(())
    }

    /// Makes a port with the first free number. Errors: ENOSPC.
    pub(crate) fn create_any(&mut self) -> Result<PortNumber, Errno> {
        let free = (1..self.limit).find(|number| !self.ports.contains_key(number));
        let number = free.ok_or(Errno::ENOSPC)?;
        self.create(number).map(|()| number)
    }

    /// Removes a port. Errors: EINVAL, ENXIO, EADDRINUSE while somebody is plugged in.
    pub(crate) fn remove(&mut self, number: PortNumber) -> Result<(), Errno> {
        if self.port_mut(number)?.is_active() {
            return Err(Errno::EADDRINUSE);
        }
        self.ports.remove(&number);
        for tagged in self.vlans.values_mut() {
            tagged.remove(&number);
        }
        Ok(())
    }

    /// Changes the number of ports. Errors: EINVAL, EADDRINUSE when a port is beyond.
    pub(crate) fn set_limit(&mut self, limit: PortNumber) -> Result<(), Errno> {
        if !(1..=MOST_PORTS).contains(&limit) {
            return Err(Errno::EINVAL);
        }
        if self.ports.range(limit..).next().is_some() {
            return Err(Errno::EADDRINUSE);
        }
        self.limit = limit;
        Ok(())
    }

    /// Changes the untagged VLAN of a port. Errors: EINVAL, ENXIO.
    pub(crate) fn set_vlan(&mut self, number: PortNumber, vid: Vid) -> Result<(), Errno> {
        if vid > NO_VLAN {
            return Err(Errno::EINVAL);
        }
        self.port_mut(number)?;
        if vid != NO_VLAN {
            self.vlans.get_mut(&vid).ok_or(Errno::ENXIO)?.remove(&number);
        }
        self.port_mut(number)?.untagged = vid;
        Ok(())
    }

    /// Makes a VLAN. Errors: EINVAL, EEXIST.
    pub(crate) fn create_vlan(&mut self, vid: Vid) -> Result<(), Errno> {
        if !VLANS.contains(&vid) {
            return Err(Errno::EINVAL);
        }
        if self.vlans.contains_key(&vid) {
            return Err(Errno::EEXIST);
        }
        self.vlans.insert(vid, BTreeSet::new());
        Ok(())
    }

    /// Removes a VLAN. Errors: EINVAL for VLAN 0, ENXIO, EADDRINUSE while ports are in it.
    pub(crate) fn remove_vlan(&mut self, vid: Vid) -> Result<(), Errno> {
        let tagged = self.vlans.get(&vid).ok_or(Errno::ENXIO)?;
        if !tagged.is_empty() || self.ports.values().any(|port| port.untagged == vid) {
            return Err(Errno::EADDRINUSE);
        }
        if vid == 0 {
            return Err(Errno::EINVAL);
        }
        self.vlans.remove(&vid);
        Ok(())
    }

    /// Adds a port to a VLAN, tagged. Errors: EINVAL, ENXIO.
    pub(crate) fn add_tagged(&mut self, vid: Vid, number: PortNumber) -> Result<(), Errno> {
        let untagged = self.port_mut(number)?.untagged;
        let tagged = self.vlans.get_mut(&vid).ok_or(Errno::ENXIO)?;
        if untagged != vid {
            tagged.insert(number);
        }
        Ok(())
    }

    /// Removes a tagged port from a VLAN. Errors: EINVAL, ENXIO, EADDRINUSE when it is in it
    /// untagged.
    pub(crate) fn delete_tagged(&mut self, vid: Vid, number: PortNumber) -> Result<(), Errno> {
        self.check(number)?;
        let untagged = self.ports.get(&number).map(|port| port.untagged);
        let tagged = self.vlans.get_mut(&vid).ok_or(Errno::ENXIO)?;
        if untagged == Some(vid) {
            return Err(Errno::EADDRINUSE);
        }
        tagged.remove(&number);
        untagged.map(drop).ok_or(Errno::ENXIO)
    }
}
