//! Bridges: what passes between the ports of one (IEEE 802.1D, without spanning tree).
//!
//! A frame that comes to a port is the bridge's: it goes to the port behind which its receiver was
//! last heard of, to all others when nobody knows, and up into the stack when it is for this host
//! or for a group. What the stack sends by the bridge goes the same way down.

use std::collections::BTreeMap;

use netlink_emu::{
    Failure,
    values::{self, Layer, Origin, RouteMode, Station},
};
use umvu_abi::{Errno, IfIndex};
use vdeplug::mac_table::{Key, MacTable, address_at, is_group};

use super::{
    dgram::packet::tap::{Sight, Way},
    inner::Inner,
    link::Under,
    neighbour::Mac,
    wire::Frame,
};

/// How many stations a bridge learns of.
const STATIONS: usize = 4096;
/// Group addresses that stay on a link: 01:80:c2:00:00:0x (IEEE 802.1D, 7.12.6).
const RESERVED: [u8; 5] = [0x01, 0x80, 0xc2, 0x00, 0x00];

/// What a bridge knows.
#[derive(Debug)]
pub(crate) struct Bridge {
    /// Stations heard of, and the index of the interface behind which.
    learned: MacTable<u32>,
    /// Stations that somebody named.
    named: BTreeMap<Mac, (u32, Origin)>,
    /// The properties that it follows.
    settings: values::Bridge,
}

impl Bridge {
    /// Makes one that knows nobody.
    pub(crate) fn new(settings: values::Bridge, seed: u64) -> Self {
        let learned = MacTable::new(STATIONS, lifetime(settings), Some(seed));
        Self { learned, named: BTreeMap::new(), settings }
    }

    /// Follows a change of its properties.
    pub(crate) fn follow(&mut self, settings: values::Bridge, seed: u64) {
        if settings.flushes == self.settings.flushes {
            self.learned.set_times(lifetime(settings), 0);
        } else {
            self.learned = MacTable::new(STATIONS, lifetime(settings), Some(seed));
        }
        self.settings = settings;
    }

    /// Forgets what is behind a port.
    pub(crate) fn forget_port(&mut self, port: u32) {
        self.learned.forget(port);
        self.named.retain(|_, (behind, _)| *behind != port);
    }

    fn port_of(&mut self, mac: Mac, now: u32) -> Option<(u32, Origin)> {
        if let Some(named) = self.named.get(&mac) {
            return Some(*named);
        }
        let port = self.learned.lookup(Key::new(mac, 0)?, now)?;
        Some((port, Origin::Learned))
    }
}

/// How long a station stays known, in seconds.
fn lifetime(settings: values::Bridge) -> u32 {
    settings.ageing_time.div_ceil(100)
}

impl Inner {
    fn seconds(&self) -> u32 {
        u32::try_from(self.now.secs() & i64::from(u32::MAX)).unwrap_or_default()
    }

    fn bridge_at(&mut self, at: usize) -> Option<&mut Bridge> {
        match &mut self.links.get_mut(at)?.under {
            Under::Bridge(bridge) => Some(bridge),
            _ => None,
        }
    }

    /// Takes a frame that came to a port of a bridge.
    pub(crate) fn bridge_input(&mut self, bridge: usize, port: usize, frame: Frame) {
        let (Some(own), Some(entry)) = (self.links.get(bridge), self.links.get(port)) else {
            return;
        };
        let from = address_at(&frame.bytes, 6);
        if !own.up || is_group(from) {
            return;
        }
        let (own_mac, port_index) = (own.mac, entry.index);
        let to = address_at(&frame.bytes, 0);
        let now = self.seconds();
        let is_local = to == own_mac || self.is_port_mac(bridge, to);
        let forged = from == own_mac || self.is_port_mac(bridge, from);
        let Some(table) = self.bridge_at(bridge) else { return };
        if let Some(key) = Key::new(from, 0)
            && !forged
            && !table.named.contains_key(&from)
        {
            table.learned.learn(key, port_index, now);
        }
        let known = table.port_of(to, now);
        if to[..5] == RESERVED && to[5] & 0xf0 == 0 && to[5] != 0 {
            return self.frame_arrives(bridge, frame, false);
        }
        match known {
            _ if is_local => self.frame_arrives(bridge, frame, true),
            Some((_, Origin::Local)) => self.frame_arrives(bridge, frame, true),
            Some((behind, _)) => {
                self.sight(bridge, &frame);
                if behind != port_index
                    && let Some(to) = self.link_at(behind)
                {
                    self.queue_below(to, frame);
                }
            }
            None => {
                self.flood(bridge, Some(port), &frame);
                if is_group(to) {
                    self.frame_arrives(bridge, frame, false);
                } else {
                    self.sight(bridge, &frame);
                }
            }
        }
    }

    /// Shows a frame that only passes by to the packet sockets of the bridge.
    fn sight(&mut self, bridge: usize, frame: &Frame) {
        let unsummed = frame.offload.checksum_pending;
        self.tap(bridge, &Sight { frame: &frame.bytes, way: Way::In, unsummed });
    }

    /// Sends what the stack has queued on a bridge to its ports.
    pub(crate) fn bridge_output(&mut self, bridge: usize) {
        let now = self.seconds();
        let Some(link) = self.links.get_mut(bridge) else { return };
        let frames = std::mem::take(&mut link.queue);
        for frame in frames {
            let link = &mut self.links[bridge];
            link.counters.sent.0 += 1;
            link.counters.sent.1 += frame.bytes.len() as u64;
            let to = address_at(&frame.bytes, 0);
            let known = self.bridge_at(bridge).and_then(|table| table.port_of(to, now));
            match known.and_then(|(behind, _)| self.link_at(behind)) {
                Some(port) => self.queue_below(port, frame),
                None => self.flood(bridge, None, &frame),
            }
        }
    }

    /// Sends a frame to all ports but the one that it came from.
    fn flood(&mut self, bridge: usize, from: Option<usize>, frame: &Frame) {
        for port in 0..self.links.len() {
            if self.links[port].master == Some(bridge) && Some(port) != from {
                self.queue_below(port, frame.clone());
            }
        }
    }

    /// Whether an address is that of a port of a bridge.
    fn is_port_mac(&self, bridge: usize, mac: Mac) -> bool {
        self.links.iter().any(|link| link.master == Some(bridge) && link.mac == mac)
    }

    /// Forgets the stations behind a port that has no carrier, or is none any more.
    pub(crate) fn forget_port(&mut self, bridge: usize, port: u32) {
        if let Some(bridge) = self.bridge_at(bridge) {
            bridge.forget_port(port);
        }
    }

    /// What the bridges know.
    pub(crate) fn stations(&self) -> Vec<Station> {
        let now = self.seconds();
        let mut stations = Vec::new();
        for (at, link) in self.links.iter().enumerate() {
            let Under::Bridge(bridge) = &link.under else { continue };
            let station = |mac, port, origin, age| Station {
                mac,
                port: IfIndex(port),
                bridge: IfIndex(link.index),
                origin,
                age,
            };
            let ports = self.links.iter().filter(|port| port.master == Some(at));
            let own = ports.chain([link]).map(|one| station(one.mac, one.index, Origin::Local, 0));
            let named =
                bridge.named.iter().map(|(mac, (port, origin))| station(*mac, *port, *origin, 0));
            let learned = bridge
                .learned
                .known(now)
                .map(|known| station(known.key.parts().0, known.value, Origin::Learned, known.age));
            let mut of_bridge: Vec<Station> = own.chain(named).chain(learned).collect();
            of_bridge.sort_by_key(|station| station.port);
            stations.extend(of_bridge);
        }
        stations
    }

    /// Names a station. Errors: `EEXIST`, `ENOENT`, `EINVAL` when its port is none of the bridge's.
    pub(crate) fn add_station(&mut self, wanted: &Station, mode: RouteMode) -> Result<(), Failure> {
        let now = self.seconds();
        let at = self.link_at(wanted.bridge.0).ok_or(Errno::ENODEV)?;
        let port = self.link_at(wanted.port.0).ok_or(Errno::ENODEV)?;
        if port != at && self.links[port].master != Some(at) {
            return Err(Errno::EINVAL.into());
        }
        let key = Key::new(wanted.mac, 0).ok_or(Errno::EINVAL)?;
        let bridge = self.bridge_at(at).ok_or(Errno::EINVAL)?;
        let exists = bridge.port_of(wanted.mac, now).is_some();
        if exists && mode.exclusive {
            return Err(Errno::EEXIST.into());
        }
        if !exists && !mode.create {
            return Err(Errno::ENOENT.into());
        }
        if wanted.origin == Origin::Learned {
            bridge.named.remove(&wanted.mac);
            bridge.learned.learn(key, wanted.port.0, now);
        } else {
            bridge.named.insert(wanted.mac, (wanted.port.0, wanted.origin));
        }
        Ok(())
    }

    /// Forgets a station behind a port. Errors: `ENOENT`, `ENODEV`, `EINVAL`.
    pub(crate) fn del_station(&mut self, port: u32, mac: Mac) -> Result<(), Failure> {
        let now = self.seconds();
        let at = self.link_at(port).ok_or(Errno::ENODEV)?;
        let at = self.links[at].master.unwrap_or(at);
        let bridge = self.bridge_at(at).ok_or(Errno::EINVAL)?;
        if bridge.port_of(mac, now).is_none_or(|(behind, _)| behind != port) {
            return Err(Errno::ENOENT.into());
        }
        bridge.named.remove(&mac);
        if let Some(key) = Key::new(mac, 0) {
            bridge.learned.remove(key);
        }
        Ok(())
    }
}

/// Makes what is under a new link.
pub(crate) fn under(inner: &mut Inner, layer: Layer) -> Under {
    match layer {
        Layer::Device | Layer::Tunnel(_) => Under::Wire,
        Layer::Pair(peer) => inner.link_at(peer.0).map_or(Under::Wire, Under::Pair),
        Layer::Vlan(vlan) => match inner.link_at(vlan.lower.0) {
            Some(lower) => Under::Vlan { lower, id: vlan.id, protocol: vlan.protocol },
            None => Under::Wire,
        },
        Layer::Bridge(settings) => Under::Bridge(Box::new(Bridge::new(settings, inner.rng.next()))),
    }
}
