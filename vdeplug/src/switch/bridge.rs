//! [`Bridge`]: a switch with numbered ports and VLANs (IEEE 802.1Q), as `vde_switch` is one.
//!
//! A port has a number and any number of endpoints: the plugs in it, which are slots of the
//! [`Fabric`](super::fabric::Fabric). Frames between endpoints of one port do not pass. A port is
//! in one VLAN untagged and in any number of VLANs tagged; VLAN 0 is that of frames without a tag.
//!
//! [`layout`](super::layout) keeps ports and VLANs; here frames are forwarded, in runs, as in the
//! fabric. Locks: the layout (read), then the table, which is released before delivery.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use parking_lot::{Mutex, RwLock};

use crate::{
    frame::Frame,
    mac_table::{Key, Known, MacTable, address_at, is_group},
    switch::{
        events::{Events, Kind},
        fabric::Slot,
        layout::{Guest, Lane, Layout, NumberedPort, PortNumber, Vid},
        port::Port,
    },
    transport::{Drops, Waker},
};

/// The Ethernet type of a VLAN tag.
const TAG: [u8; 2] = [0x81, 0x00];
/// Where the tag is, and its length.
const TAG_AT: usize = 12;
const TAG_LENGTH: usize = 4;

/// The forwarding part of a switch with numbered ports.
#[derive(Debug)]
pub(crate) struct Bridge {
    pub(crate) layout: RwLock<Layout>,
    pub(crate) table: Mutex<MacTable<PortNumber>>,
    pub(crate) events: Events,
    /// Seconds since the switch was made, as of the last frame.
    now: AtomicU32,
}

/// Where the ports of the fabric are.
pub(crate) type Endpoints = [Option<Arc<Port>>];

/// What is decided for a number of consecutive frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hop {
    /// Not a frame that an Ethernet carries.
    Invalid,
    /// A VLAN that its port is not in, or an addressee where it comes from.
    Nowhere,
    To(PortNumber, Vid, Form),
    All(Vid, Form),
}

/// How a frame says its VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Untagged,
    Tagged,
}

impl Bridge {
    pub(crate) fn new(layout: Layout, table: MacTable<PortNumber>) -> Self {
        Self {
            layout: RwLock::new(layout),
            table: Mutex::new(table),
            events: Events::default(),
            now: AtomicU32::new(0),
        }
    }

    /// The time of the last frame, in seconds since the switch was made.
    pub(crate) fn now(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    /// Plugs in at a port.
    pub(crate) fn join(&self, number: PortNumber, guest: Guest) {
        let (id, description) = (guest.endpoint.id, guest.endpoint.description.clone());
        if self.layout.write().seat(number, guest) {
            self.events.tell(Kind::PortNew, || format!("{number:02}"));
        }
        self.events.tell(Kind::Joined, || format!("Port {number:02} FD {id:2}"));
        self.events
            .tell(Kind::Described, || format!("Port {number:02} FD {id:2} -> \"{description}\""));
    }

    /// Unplugs; a port that nobody is in any more is forgotten by the table.
    pub(crate) fn leave(&self, slot: Slot) {
        let mut layout = self.layout.write();
        let Some((number, endpoint)) = layout.leave(slot) else { return };
        let is_active = layout.ports.get(&number).is_some_and(NumberedPort::is_active);
        drop(layout);
        self.events.tell(Kind::Left, || format!("Port {number:02} FD {:2}", endpoint.id));
        if !is_active {
            self.events.tell(Kind::PortClosed, || format!("{number:02}"));
            self.forget(|known| known.value == number, |table| table.forget(number));
        }
    }

    /// Forgets addresses: those that `are` tells, as `how` does it.
    pub(crate) fn forget(
        &self,
        are: impl Fn(&Known<PortNumber>) -> bool,
        how: impl FnOnce(&mut MacTable<PortNumber>),
    ) {
        let mut table = self.table.lock();
        if self.events.is_watched(Kind::Forgotten) {
            for known in table.known(self.now()).filter(are) {
                self.events.tell(Kind::Forgotten, || place(known.key, known.value));
            }
        }
        how(&mut table);
    }

    /// Forwards frames that came in at `from`.
    pub(crate) fn forward(
        &self,
        from: Slot,
        frames: &mut Vec<Frame>,
        endpoints: &Endpoints,
        now: u32,
        drops: &Drops,
    ) -> Vec<Waker> {
        self.now.store(now, Ordering::Relaxed);
        let mut wakers = Vec::new();
        let layout = self.layout.read();
        let Some((number, port)) = layout.port_of(from) else {
            frames.clear();
            return wakers;
        };
        port.input.count(frames.iter().map(|frame| frame.bytes.len()));
        let mut delivery = Delivery { endpoints, wakers: &mut wakers };
        if layout.hub {
            frames.retain(|frame| {
                frame.has_valid_length() || {
                    drops.add(1);
                    false
                }
            });
            let others = layout.ports.iter().filter(|(other, _)| **other != number);
            for (_, other) in others {
                delivery.give(other, frames.iter().cloned(), None);
            }
            frames.clear();
            return wakers;
        }
        let runs = self.route(&layout, (number, port), frames, now);
        let mut rest = frames.drain(..);
        for (hop, count) in runs {
            let run = rest.by_ref().take(count);
            match hop {
                Hop::Invalid => drops.add(run.count()),
                Hop::Nowhere => drop(run.count()),
                Hop::To(target, vid, form) => match layout.lane(target, vid) {
                    Some((port, lane)) => delivery.give(port, run, change(form, lane, vid)),
                    None => run.for_each(drop),
                },
                Hop::All(vid, form) => {
                    let run: Vec<Frame> = run.collect();
                    for (_, port, lane) in layout.members(vid).filter(|(n, ..)| *n != number) {
                        delivery.give(port, run.iter().cloned(), change(form, lane, vid));
                    }
                }
            }
        }
        drop(rest);
        wakers
    }

    /// Learns the sources of the frames and decides where they go.
    fn route(
        &self,
        layout: &Layout,
        (number, port): (PortNumber, &NumberedPort),
        frames: &[Frame],
        now: u32,
    ) -> Vec<(Hop, usize)> {
        let mut runs: Vec<(Hop, usize)> = Vec::with_capacity(4);
        let mut table = self.table.lock();
        // Frames of one batch mostly belong to few conversations.
        let (mut learned, mut found) = (None, None);
        for frame in frames {
            let (vid, form) = vlan_of(&frame.bytes, port.untagged);
            let key = |offset| {
                let address = address_at(&frame.bytes, offset);
                if is_group(address) { None } else { Key::new(address, vid) }
            };
            let hop = if !frame.has_valid_length() {
                Hop::Invalid
            } else if !layout.is_member(port, number, vid) {
                Hop::Nowhere
            } else {
                let (source, destination) = (key(6), key(0));
                if source != learned
                    && let Some(key) = source
                {
                    if table.learn(key, number, now) {
                        self.events.tell(Kind::Learned, || place(key, number));
                    }
                    (learned, found) = (source, None);
                }
                match found {
                    Some((key, hop)) if key == (destination, vid, form) => hop,
                    _ => {
                        let hop = match destination.and_then(|key| table.lookup(key, now)) {
                            None => Hop::All(vid, form),
                            Some(target) if target == number => Hop::Nowhere,
                            Some(target) => Hop::To(target, vid, form),
                        };
                        found = Some(((destination, vid, form), hop));
                        hop
                    }
                }
            };
            match runs.last_mut() {
                Some((last, count)) if *last == hop => *count += 1,
                _ => runs.push((hop, 1)),
            }
        }
        runs
    }
}

/// An address and where it is, for people.
fn place(key: Key, number: PortNumber) -> String {
    let (address, vid) = key.parts();
    let [high, low] = vid.to_be_bytes();
    format!("{} VLAN {high:02x}:{low:02x} Port {number}", mac_text(address))
}

/// An address as text.
pub(crate) fn mac_text(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

/// What is to be done to the tag of frames on their way out.
#[derive(Debug, Clone, Copy)]
enum Change {
    Strip,
    Insert(Vid),
}

fn change(form: Form, lane: Lane, vid: Vid) -> Option<Change> {
    match (form, lane) {
        (Form::Untagged, Lane::Tagged) => Some(Change::Insert(vid)),
        (Form::Tagged, Lane::Untagged) => Some(Change::Strip),
        (Form::Untagged, Lane::Untagged) | (Form::Tagged, Lane::Tagged) => None,
    }
}

impl Change {
    fn apply(self, mut frame: Frame) -> Frame {
        match self {
            Self::Strip => drop(frame.bytes.drain(TAG_AT..TAG_AT + TAG_LENGTH)),
            Self::Insert(vid) => {
                let [high, low] = vid.to_be_bytes();
                let tag = [TAG[0], TAG[1], high, low];
                drop(frame.bytes.splice(TAG_AT..TAG_AT, tag));
            }
        }
        frame
    }
}

/// Delivers to the endpoints of ports.
struct Delivery<'a> {
    endpoints: &'a Endpoints,
    wakers: &'a mut Vec<Waker>,
}

impl Delivery<'_> {
    fn give(
        &mut self,
        port: &NumberedPort,
        run: impl Iterator<Item = Frame>,
        change: Option<Change>,
    ) {
        let mut ends = port
            .endpoints
            .iter()
            .filter_map(|end| self.endpoints.get(usize::try_from(end.slot).ok()?)?.as_ref());
        let Some(first) = ends.next() else { return run.for_each(drop) };
        let (mut packets, mut bytes) = (0, 0);
        let counted = run.map(|frame| {
            let frame = match change {
                Some(change) => change.apply(frame),
                None => frame,
            };
            packets += 1;
            bytes += frame.bytes.len();
            frame
        });
        match ends.next() {
            None => self.wakers.extend(first.deliver(counted)),
            Some(second) => {
                let frames: Vec<Frame> = counted.collect();
                for end in [first, second].into_iter().chain(ends) {
                    self.wakers.extend(end.deliver(frames.iter().cloned()));
                }
            }
        }
        port.output.add(packets, bytes);
    }
}

/// The VLAN of a frame: that of its tag, or else that of its port.
fn vlan_of(frame: &[u8], untagged: Vid) -> (Vid, Form) {
    match frame.get(TAG_AT..TAG_AT + TAG_LENGTH) {
        Some([a, b, high, low]) if [*a, *b] == TAG => {
            (u16::from_be_bytes([*high, *low]) & 0x0fff, Form::Tagged)
        }
        _ => (untagged, Form::Untagged),
    }
}

#[cfg(test)]
#[path = "bridge_tests.rs"]
mod tests;
