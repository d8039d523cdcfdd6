//! [`Fabric`]: forwarding between the ports of one switch.
//!
//! A batch is forwarded in two steps. The first decides for every frame, under the lock of the
//! address table, and merges equal decisions to runs; the second hands each run to its port.
//! Frames are moved, only floods copy; nothing is allocated per frame.
//!
//! Locks: the table and the list of ports are never held together; a port's own lock is taken
//! under the read lock of the list. Wakers are called with no lock held.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use parking_lot::{Mutex, RwLock};

use crate::{
    frame::Frame,
    mac_table::{Key, MacTable, address_at, is_group},
    switch::{
        bridge::Bridge,
        layout::{Guest, PortNumber},
        port::Port,
    },
    transport::{Drops, Waker},
};

const VLAN_TAG: [u8; 2] = [0x81, 0x00];

/// The number of a port. Numbers of ports that left are used again.
pub(crate) type Slot = u32;

/// What is decided for a number of consecutive frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    hop: Hop,
    count: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hop {
    /// Not a frame that an Ethernet carries.
    Invalid,
    /// The addressee is where the frame comes from.
    Home,
    To(Slot),
    All,
    /// To one of the others, each in turn.
    Next,
}

/// The port of the host in a [`Policy::Multi`] or [`Policy::Bonding`], and nobody else's.
const HOST: Slot = 0;

/// Who gets a frame.
#[derive(Debug)]
pub(crate) enum Policy {
    /// Whoever has the address, as far as the table knows: a switch.
    Learn(Mutex<MacTable<Slot>>),
    /// Everybody: a hub.
    Flood,
    /// All get the frames of the host, the host those of all.
    Multi,
    /// One after the other gets a frame of the host, the host those of all.
    Bonding,
    /// Numbered ports and VLANs: a switch that is managed.
    Bridge(Bridge),
}

/// The forwarding part of a switch, or of what is less than one.
#[derive(Debug)]
pub(crate) struct Fabric {
    policy: Policy,
    ports: RwLock<Vec<Option<Arc<Port>>>>,
    /// Whose turn it is.
    turn: AtomicUsize,
    started: Instant,
}

impl Fabric {
    pub(crate) fn new(policy: Policy) -> Self {
        let started = Instant::now();
        Self { policy, ports: RwLock::default(), turn: AtomicUsize::new(0), started }
    }

    /// Adds a port. Only a plug of this process can be the host, and the first one is.
    pub(crate) fn attach(&self, port: Arc<Port>) -> Slot {
        let has_host = matches!(self.policy, Policy::Multi | Policy::Bonding);
        let first = usize::from(has_host && port.inbox().is_none());
        let mut ports = self.ports.write();
        let free = |slot: &usize| ports.get(*slot).is_none_or(Option::is_none);
        let slot = (first..=ports.len()).find(free).unwrap_or(first);
        if slot >= ports.len() {
            ports.resize(slot + 1, None);
        }
        ports[slot] = Some(port);
        Slot::try_from(slot).unwrap_or(Slot::MAX)
    }

    /// The part with numbered ports, of a switch that has it.
    pub(crate) fn bridge(&self) -> Option<&Bridge> {
        match &self.policy {
            Policy::Bridge(bridge) => Some(bridge),
            Policy::Learn(_) | Policy::Flood | Policy::Multi | Policy::Bonding => None,
        }
    }

    /// Seconds since the switch was made.
    pub(crate) fn uptime(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// Adds a port for a guest, in the numbered port that was chosen if there are such.
    pub(crate) fn admit(&self, port: Arc<Port>, number: PortNumber, mut guest: Guest) -> Slot {
        let slot = self.attach(port);
        if let Some(bridge) = self.bridge() {
            guest.endpoint.slot = slot;
            bridge.join(number, guest);
        }
        slot
    }

    /// Removes a port and all that was learned about it.
    pub(crate) fn detach(&self, slot: Slot) {
        if let Some(bridge) = self.bridge() {
            bridge.leave(slot);
        }
        if let Some(port) = self.ports.write().get_mut(index(slot)) {
            *port = None;
        }
        if let Policy::Learn(table) = &self.policy {
            table.lock().forget(slot);
        }
    }

    /// Forwards all frames, which came in at `from`; `runs` is memory to be used again.
    pub(crate) fn forward(
        &self,
        from: Slot,
        frames: &mut Vec<Frame>,
        runs: &mut Vec<Run>,
        drops: &Drops,
    ) {
        if let Some(bridge) = self.bridge() {
            let wakers = bridge.forward(from, frames, &self.ports.read(), self.uptime(), drops);
            wakers.iter().for_each(|waker| waker());
            return;
        }
        runs.clear();
        self.route(from, frames, runs);
        let mut wakers = Vec::new();
        let ports = self.ports.read();
        let mut rest = frames.drain(..);
        for &Run { hop, count } in runs.iter() {
            let run = rest.by_ref().take(count);
            match hop {
                Hop::Invalid => drops.add(run.count()),
                Hop::Home => drop(run.count()),
                Hop::To(slot) => {
                    // A port that left since the decision takes its frames with it.
                    match ports.get(index(slot)).and_then(Option::as_ref) {
                        Some(port) => wakers.extend(port.deliver(run)),
                        None => run.for_each(drop),
                    }
                }
                Hop::All => flood(&ports, from, run, &mut wakers),
                Hop::Next => deal(&ports, from, run, &self.turn, &mut wakers),
            }
        }
        drop(rest);
        drop(ports);
        for waker in wakers {
            waker();
        }
    }

    /// Learns the sources of the frames and decides where they go.
    fn route(&self, from: Slot, frames: &[Frame], runs: &mut Vec<Run>) {
        let now = self.uptime();
        let mut table = match &self.policy {
            Policy::Learn(table) => Some(table.lock()),
            Policy::Flood | Policy::Multi | Policy::Bonding | Policy::Bridge(_) => None,
        };
        let untold = match self.policy {
            Policy::Multi | Policy::Bonding if from != HOST => Hop::To(HOST),
            Policy::Bonding => Hop::Next,
            Policy::Learn(_) | Policy::Flood | Policy::Multi | Policy::Bridge(_) => Hop::All,
        };
        // Frames of one batch mostly belong to few conversations.
        let mut learned = None;
        let mut found = None;
        for frame in frames {
            let hop = match &mut table {
                _ if !frame.has_valid_length() => Hop::Invalid,
                None => untold,
                Some(table) => {
                    let Ends { source, destination } = Ends::of(&frame.bytes);
                    if source != learned
                        && let Some(key) = source
                    {
                        table.learn(key, from, now);
                        learned = source;
                        found = None;
                    }
                    match found {
                        Some((key, hop)) if key == destination => hop,
                        _ => {
                            let slot = destination.and_then(|key| table.lookup(key, now));
                            let hop = match slot {
                                None => untold,
                                Some(slot) if slot == from => Hop::Home,
                                Some(slot) => Hop::To(slot),
                            };
                            found = Some((destination, hop));
                            hop
                        }
                    }
                }
            };
            match runs.last_mut() {
                Some(run) if run.hop == hop => run.count += 1,
                _ => runs.push(Run { hop, count: 1 }),
            }
        }
    }
}

fn flood(
    ports: &[Option<Arc<Port>>],
    from: Slot,
    run: impl Iterator<Item = Frame>,
    wakers: &mut Vec<Waker>,
) {
    let frames: Vec<Frame> = run.collect();
    let others = ports.iter().enumerate().filter(|(slot, _)| *slot != index(from));
    let mut others = others.filter_map(|(_, port)| port.as_ref()).peekable();
    while let Some(port) = others.next() {
        if others.peek().is_none() {
            wakers.extend(port.deliver(frames.into_iter()));
            return;
        }
        wakers.extend(port.deliver(frames.iter().cloned()));
    }
}

/// Gives each of the others as many frames as the next, one after the other.
fn deal(
    ports: &[Option<Arc<Port>>],
    from: Slot,
    run: impl Iterator<Item = Frame>,
    turn: &AtomicUsize,
    wakers: &mut Vec<Waker>,
) {
    let others = ports.iter().enumerate().filter(|(slot, _)| *slot != index(from));
    let mut hands: Vec<_> =
        others.filter_map(|(_, port)| Some((port.as_ref()?, Vec::new()))).collect();
    for frame in run {
        if !hands.is_empty() {
            let next = turn.fetch_add(1, Ordering::Relaxed) % hands.len();
            hands[next].1.push(frame);
        }
    }
    for (port, hand) in hands {
        wakers.extend(port.deliver(hand.into_iter()));
    }
}

/// The table keys of a frame's addresses; None for those that are never in the table.
#[derive(Debug)]
struct Ends {
    source: Option<Key>,
    destination: Option<Key>,
}

impl Ends {
    fn of(frame: &[u8]) -> Self {
        let vlan = match frame.get(12..16) {
            Some([a, b, high, low]) if [*a, *b] == VLAN_TAG => {
                u16::from_be_bytes([*high, *low]) & 0x0fff
            }
            _ => 0,
        };
        let key = |offset| {
            let address = address_at(frame, offset);
            if is_group(address) { None } else { Key::new(address, vlan) }
        };
        Self { source: key(6), destination: key(0) }
    }
}

fn index(slot: Slot) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::outlet::Outlet;

    fn switch() -> Fabric {
        Fabric::new(Policy::Learn(Mutex::new(MacTable::new(256, 120, None))))
    }

    fn join(fabric: &Fabric) -> (Slot, Arc<Port>) {
        let port = Arc::new(Port::local());
        (fabric.attach(Arc::clone(&port)), port)
    }

    fn frame(to: u8, from: u8) -> Frame {
        let mut bytes = vec![0; 60];
        bytes[..6].copy_from_slice(&[if to == 255 { 0xff } else { 2 }, 0, 0, 0, 0, to]);
        bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, from]);
        Frame::from(bytes)
    }

    fn send(fabric: &Fabric, from: Slot, frames: Vec<Frame>) -> u64 {
        let drops = Drops::default();
        let mut frames = frames;
        fabric.forward(from, &mut frames, &mut Vec::new(), &drops);
        assert!(frames.is_empty());
        drops.get()
    }

    fn received(port: &Port) -> usize {
        port.inbox().expect("local").take(&mut VecDeque::new(), usize::MAX)
    }

    #[test]
    fn unknown_addresses_are_flooded_and_known_ones_are_not() {
        let fabric = switch();
        let [(a, port_a), (b, port_b), (_, port_c)] = [(); 3].map(|()| join(&fabric));
        send(&fabric, a, vec![frame(2, 1)]);
        assert_eq!([&port_a, &port_b, &port_c].map(|p| received(p)), [0, 1, 1]);
        send(&fabric, b, vec![frame(1, 2)]);
        assert_eq!([&port_a, &port_b, &port_c].map(|p| received(p)), [1, 0, 0]);
        send(&fabric, a, vec![frame(2, 1), frame(255, 1), frame(2, 1)]);
        assert_eq!([&port_a, &port_b, &port_c].map(|p| received(p)), [0, 3, 1]);
    }

    #[test]
    fn frames_for_their_own_port_go_nowhere() {
        let fabric = switch();
        let [(a, port_a), (_, port_b)] = [(); 2].map(|()| join(&fabric));
        send(&fabric, a, vec![frame(255, 1)]);
        assert_eq!(received(&port_b), 1);
        assert_eq!(send(&fabric, a, vec![frame(1, 3)]), 0);
        assert_eq!([&port_a, &port_b].map(|p| received(p)), [0, 0]);
    }

    #[test]
    fn a_moved_station_is_found_at_its_new_port_within_a_batch() {
        let fabric = switch();
        let [(a, port_a), (b, _), (c, port_c)] = [(); 3].map(|()| join(&fabric));
        send(&fabric, a, vec![frame(255, 1)]);
        send(&fabric, c, vec![frame(255, 1)]);
        assert!([&port_a, &port_c].iter().all(|p| received(p) <= 2));
        send(&fabric, b, vec![frame(1, 2)]);
        assert_eq!([&port_a, &port_c].map(|p| received(p)), [0, 1]);
    }

    #[test]
    fn a_hub_never_learns() {
        let fabric = Fabric::new(Policy::Flood);
        let [(a, _), (b, port_b), (_, port_c)] = [(); 3].map(|()| join(&fabric));
        send(&fabric, b, vec![frame(1, 2)]);
        received(&port_c);
        send(&fabric, a, vec![frame(2, 1)]);
        assert_eq!([&port_b, &port_c].map(|p| received(p)), [1, 1]);
    }

    #[test]
    fn a_host_of_many_links_is_copied_to_all_and_hears_all() {
        let fabric = Fabric::new(Policy::Multi);
        let [(host, port_host), (b, port_b), (_, port_c)] = [(); 3].map(|()| join(&fabric));
        send(&fabric, host, vec![frame(2, 1), frame(9, 1)]);
        assert_eq!([&port_host, &port_b, &port_c].map(|p| received(p)), [0, 2, 2]);
        send(&fabric, b, vec![frame(255, 2), frame(3, 2)]);
        assert_eq!([&port_host, &port_b, &port_c].map(|p| received(p)), [2, 0, 0]);
        // Without a host, frames are lost, and only the frame that is none is counted.
        fabric.detach(host);
        assert_eq!(send(&fabric, b, vec![frame(1, 2), vec![0; 9].into(), frame(1, 2)]), 1);
        assert_eq!([&port_b, &port_c].map(|p| received(p)), [0, 0]);
    }

    #[test]
    fn bonded_links_take_turns() {
        let fabric = Fabric::new(Policy::Bonding);
        let [(host, port_host), (b, port_b), (_, port_c)] = [(); 3].map(|()| join(&fabric));
        send(&fabric, host, vec![frame(2, 1); 5]);
        send(&fabric, host, vec![frame(255, 1); 3]);
        assert_eq!([&port_host, &port_b, &port_c].map(|p| received(p)), [0, 4, 4]);
        send(&fabric, b, vec![frame(255, 2), frame(3, 2)]);
        assert_eq!([&port_host, &port_b, &port_c].map(|p| received(p)), [2, 0, 0]);
        fabric.detach(b);
        send(&fabric, host, vec![frame(2, 1); 3]);
        assert_eq!(received(&port_c), 3);
        let alone = Fabric::new(Policy::Bonding);
        let (host, _) = join(&alone);
        assert_eq!(send(&alone, host, vec![frame(2, 1)]), 0);
    }

    #[test]
    fn a_client_never_is_the_host() {
        let fabric = Fabric::new(Policy::Multi);
        let epoll = nix::sys::epoll::Epoll::new(nix::sys::epoll::EpollCreateFlags::empty());
        let (socket, _other) = std::os::unix::net::UnixDatagram::pair().expect("sockets");
        let outlet = Outlet::new(socket.into(), Arc::new(epoll.expect("a descriptor")), 0);
        let client = Arc::new(Port::remote(outlet.expect("a socket")));
        assert_eq!(fabric.attach(client), 1);
        assert_eq!(join(&fabric).0, HOST);
        assert_eq!(join(&fabric).0, 2);
    }

    #[test]
    fn invalid_lengths_are_dropped_and_counted() {
        let fabric = switch();
        let [(a, _), (_, port_b)] = [(); 2].map(|()| join(&fabric));
        let runts = vec![Frame::from(vec![0xff; 13]), Frame::from(vec![0xff; 9235])];
        assert_eq!(send(&fabric, a, runts), 2);
        assert_eq!(received(&port_b), 0);
    }

    #[test]
    fn a_port_that_left_is_forgotten() {
        let fabric = switch();
        let [(a, port_a), (b, _), (_, port_c)] = [(); 3].map(|()| join(&fabric));
        send(&fabric, b, vec![frame(255, 2)]);
        fabric.detach(b);
        assert!([&port_a, &port_c].iter().all(|p| received(p) <= 2));
        send(&fabric, a, vec![frame(2, 1)]);
        assert_eq!(received(&port_c), 1);
        assert_eq!(join(&fabric).0, b, "the number is used again");
    }

    #[test]
    fn vlans_learn_apart() {
        let fabric = switch();
        let [(a, _), (b, port_b), (_, port_c)] = [(); 3].map(|()| join(&fabric));
        let tagged = |to, from, vlan| {
            let mut frame = frame(to, from);
            frame.bytes[12..16].copy_from_slice(&[0x81, 0, 0, vlan]);
            frame
        };
        send(&fabric, b, vec![tagged(255, 2, 7)]);
        received(&port_c);
        send(&fabric, a, vec![tagged(2, 1, 7), tagged(2, 1, 8)]);
        assert_eq!([&port_b, &port_c].map(|p| received(p)), [2, 1]);
    }
}
