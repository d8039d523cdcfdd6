//! The state of a stack, under one lock, and its turns.
//!
//! Whoever takes the lock does its part (a call of a guest, a burst of frames, a timer) and then
//! *settles*: packets to this host are delivered, connections that became dirty send, frames go to
//! their transports. All of it is bounded; what is left over is done in the next turn.

use std::collections::VecDeque;

use smoltcp::time::Instant;

use super::{
    device::Produced,
    dgram::Dgrams,
    link::{Link, Outgoing},
    net::Net,
    reassembly::Reassembly,
    rng::Rng,
    tcp::Tcp,
    wire::Frame,
};

/// Packets and turns of connections per settling.
const SETTLE: usize = 512;
/// Frames taken from one transport per turn.
const BURST: usize = 256;

/// Everything a stack knows.
#[derive(Debug)]
pub(crate) struct Inner {
    /// The time of this turn.
    pub(crate) now: Instant,
    /// Random numbers.
    pub(crate) rng: Rng,
    /// Addresses and routes.
    pub(crate) net: Net,
    /// Changes with every change of addresses, routes and links.
    pub(crate) generation: u64,
    /// The interfaces; `lo` is the first.
    pub(crate) links: Vec<Link>,
    /// Packets of this host to itself, and the link they seem to come from.
    pub(crate) looped: VecDeque<(usize, Outgoing)>,
    /// Packets that a neighbour's silence made undeliverable.
    pub(crate) lost: Vec<Outgoing>,
    /// Fragments of packets to this host.
    pub(crate) reassembly: Reassembly,
    /// TCP.
    pub(crate) tcp: Tcp,
    /// Datagram sockets.
    pub(crate) dgrams: Dgrams,
    /// What the engine just produced; empty between uses, kept for its memory.
    pub(crate) produced: Vec<Produced>,
    /// Frames just received; empty between uses.
    arrived: VecDeque<Frame>,
    /// ICMP errors sent in the current second, and when it began.
    pub(crate) complaints: (Instant, u32),
    /// More to do at once.
    pub(crate) again: bool,
    /// The stack has ended.
    pub(crate) stopped: bool,
}

impl Inner {
    /// Makes a stack with `lo` only.
    pub(crate) fn new(seed: u64, now: Instant) -> Self {
        let mut rng = Rng::new(seed);
        let lo = Link::loopback(1, rng.next(), now);
        Self {
            now,
            rng,
            net: Net::default(),
            generation: 1,
            links: vec![lo],
            looped: VecDeque::new(),
            lost: Vec::new(),
            reassembly: Reassembly::default(),
            tcp: Tcp::default(),
            dgrams: Dgrams::default(),
            produced: Vec::new(),
            arrived: VecDeque::new(),
            complaints: (now, 0),
            again: false,
            stopped: false,
        }
    }

    /// Takes what the transports have and does what time demands.
    pub(crate) fn turn(&mut self) {
        for index in 0..self.links.len() {
            self.drain(index);
        }
        self.expire();
    }

    fn drain(&mut self, index: usize) {
        let Some(link) = self.links.get(index) else { return };
        let Some(transport) = link.transport.clone() else { return };
        let mut arrived = std::mem::take(&mut self.arrived);
        match transport.receive(&mut arrived, BURST) {
            Ok(count) => self.again |= count >= BURST,
            Err(error) => tracing::debug!(link = index, %error, "cannot receive"),
        }
        for frame in arrived.drain(..) {
            self.frame_input(index, frame);
        }
        self.arrived = arrived;
    }

    fn expire(&mut self) {
        self.expire_flows();
        self.expire_neighbours();
        self.reassembly.expire(self.now);
    }

    /// Delivers, sends and flushes until nothing is left or the turn is long enough.
    pub(crate) fn settle(&mut self) {
        let mut left = SETTLE;
        while left > 0 {
            left -= 1;
            if let Some((link, packet)) = self.looped.pop_front() {
                self.loop_input(link, packet);
            } else if let Some(id) = self.tcp.dirty.pop_front() {
                self.flow_turn(id);
            } else if !self.lost.is_empty() {
                let lost = std::mem::take(&mut self.lost);
                for packet in lost {
                    self.undeliverable(packet);
                }
            } else {
                break;
            }
        }
        self.again |= left == 0;
        self.flush();
    }

    fn flush(&mut self) {
        if !self.dgrams.taps.is_empty() {
            self.tap_queues();
        }
        for link in &mut self.links {
            if link.queue.is_empty() {
                continue;
            }
            let Some(transport) = &link.transport else {
                link.queue.clear();
                continue;
            };
            transport.send(&mut link.queue);
        }
    }

    /// Shows what leaves to the packet sockets.
    fn tap_queues(&mut self) {
        for index in 0..self.links.len() {
            let queue = std::mem::take(&mut self.links[index].queue);
            for frame in &queue {
                self.tap(index, &frame.bytes, true);
            }
            self.links[index].queue = queue;
        }
    }

    /// Ends everything: connections are reset, links go down.
    pub(crate) fn stop(&mut self) {
        self.tcp_stop();
        self.flush();
        self.stopped = true;
        for link in &mut self.links {
            link.up = false;
            link.transport = None;
            link.neighbours.clear();
        }
    }

    /// When the stack needs time next.
    pub(crate) fn due(&self) -> Option<Instant> {
        let neighbours = self.links.iter().filter_map(|link| link.neighbours.due).min();
        [self.flows_due(), neighbours, self.reassembly.due()].into_iter().flatten().min()
    }
}
