//! The state of a stack, under one lock, and its turns.
//!
//! Whoever takes the lock does its part (a call of a guest, a burst of frames, a timer) and then
//! *settles*: packets to this host are delivered, connections that became dirty send, frames go to
//! their transports. All of it is bounded; what is left over is done in the next turn.

use std::collections::VecDeque;

use smoltcp::time::{Duration, Instant};

use super::{
    clock,
    counts::Counts,
    device::Produced,
    dgram::{
        Dgrams,
        packet::tap::{Sight, Way},
    },
    ident::Idents,
    link::{Kind, Link, Outgoing},
    net::Net,
    qdisc::{self, Scheduler, Seeds},
    reassembly::Reassembly,
    redirect::Redirects,
    rng::Rng,
    tcp::Tcp,
    wire::Frame,
};

/// Packets and turns of connections per settling.
const SETTLE: usize = 256;
/// Frames taken from one transport per turn.
const BURST: usize = 256;

/// Everything a stack knows.
#[derive(Debug)]
pub(crate) struct Inner {
    /// The time of this turn.
    pub(crate) now: Instant,
    /// The time of day at an instant.
    pub(crate) clock: fn(Instant) -> std::time::Duration,
    /// Random numbers.
    pub(crate) rng: Rng,
    /// Identifications of packets.
    pub(crate) idents: Idents,
    /// Addresses and routes.
    pub(crate) net: Net,
    /// Changes with every change of addresses, routes and links.
    pub(crate) generation: u64,
    /// The interfaces; `lo` is the first.
    pub(crate) links: Vec<Link>,
    /// Packets of this host to itself, and the link they seem to come from.
    pub(crate) looped: VecDeque<(usize, Outgoing)>,
    /// Frames that have left one end of a cable, and the link at the other.
    pub(crate) crossing: VecDeque<(usize, Frame)>,
    /// Packets that a neighbour's silence made undeliverable.
    pub(crate) lost: Vec<Outgoing>,
    /// Fragments of packets to this host.
    pub(crate) reassembly: Reassembly,
    /// TCP.
    pub(crate) tcp: Tcp,
    /// Datagram sockets.
    pub(crate) dgrams: Dgrams,
    /// Interfaces whose program has gone, while they stay.
    pub(crate) abandoned: Vec<u32>,
    /// What is counted of the protocols.
    pub(crate) counts: Counts,
    /// What the engine just produced; empty between uses, kept for its memory.
    pub(crate) produced: Vec<Produced>,
    /// Frames just received; empty between uses.
    arrived: VecDeque<Frame>,
    /// ICMP errors sent in the current second, and when it began.
    pub(crate) complaints: (Instant, u32),
    /// Better hops than the routes name.
    pub(crate) redirects: Redirects,
    /// When a transport wants housekeeping.
    pub(crate) ticks: Option<Instant>,
    /// The seeds of queueing disciplines.
    pub(crate) seeds: Seeds,
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
        let seeds = Seeds::new(None, rng.next());
        Self {
            now,
            clock: clock::time_of_day,
            rng,
            idents: Idents::default(),
            net: Net::default(),
            generation: 0,
            links: vec![lo],
            looped: VecDeque::new(),
            crossing: VecDeque::new(),
            lost: Vec::new(),
            reassembly: Reassembly::default(),
            tcp: Tcp::default(),
            dgrams: Dgrams::default(),
            abandoned: Vec::new(),
            counts: Counts::default(),
            produced: Vec::new(),
            arrived: VecDeque::new(),
            complaints: (now, 0),
            redirects: Redirects::default(),
            ticks: None,
            seeds,
            again: false,
            stopped: false,
        }
    }

    /// The time since the epoch, for time stamps.
    pub(crate) fn wall_time(&self) -> std::time::Duration {
        (self.clock)(self.now)
    }

    /// Takes what the transports have and does what time demands.
    pub(crate) fn turn(&mut self) {
        for index in 0..self.links.len() {
            self.drain(index);
        }
        self.expire();
    }

    pub(crate) fn drain(&mut self, index: usize) {
        let Some(link) = self.links.get(index) else { return };
        let Some(transport) = link.transport.clone() else { return };
        let mut arrived = std::mem::take(&mut self.arrived);
        match transport.receive(&mut arrived, BURST) {
            Ok(count) => self.again |= count >= BURST,
            Err(error) => {
                tracing::debug!(link = index, %error, "cannot receive");
                self.leave_tunnel(index);
            }
        }
        for frame in arrived.drain(..) {
            self.frame_input(index, frame);
        }
        self.arrived = arrived;
        if self.note_carrier(index) {
            // A connection that was lost has its own times.
            self.ticks = None;
        }
    }

    /// Tells the configuration whether a transport has a carrier; returns whether that was news.
    pub(crate) fn note_carrier(&mut self, index: usize) -> bool {
        let Some(link) = self.links.get_mut(index) else { return false };
        let Some(carrier) = link.transport.as_ref().map(|transport| transport.carrier()) else {
            return false;
        };
        let changed = link.carrier != carrier;
        if changed {
            link.carrier = carrier;
            let index = umvu_abi::IfIndex(link.index);
            self.net.config.set_carrier(index, carrier);
        }
        changed
    }

    fn expire(&mut self) {
        self.expire_flows();
        self.expire_neighbours();
        self.expire_rings();
        self.reassembly.expire(self.now);
        if self
            .net
            .config
            .due()
            .is_some_and(|due| i64::try_from(due).is_ok_and(|due| due <= self.now.total_millis()))
        {
            self.tell_time();
        }
        self.solicit_routers();
        self.tick_transports();
    }

    /// Has the transports do their housekeeping when it is due.
    fn tick_transports(&mut self) {
        if self.ticks.is_some_and(|due| due > self.now) {
            return;
        }
        let host_now = std::time::Instant::now();
        let next = self
            .links
            .iter()
            .filter_map(|link| link.transport.as_ref()?.tick(host_now))
            .min()
            .map(|at| at.saturating_duration_since(host_now));
        self.ticks = next.map(|delay| {
            let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
            self.now + Duration::from_micros(micros.max(1000))
        });
        for index in 0..self.links.len() {
            self.note_carrier(index);
        }
    }

    /// Delivers, sends and flushes until nothing is left or the turn is long enough.
    pub(crate) fn settle(&mut self) {
        let mut left = SETTLE;
        loop {
            self.work(&mut left);
            self.flush();
            if left == 0 || self.crossing.is_empty() {
                break;
            }
        }
        self.again |= left == 0;
    }

    fn work(&mut self, left: &mut usize) {
        while *left > 0 {
            *left -= 1;
            if let Some((link, packet)) = self.looped.pop_front() {
                self.loop_input(link, packet);
            } else if let Some((link, frame)) = self.crossing.pop_front() {
                self.frame_input(link, frame);
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
    }

    fn flush(&mut self) {
        self.descend();
        for index in 0..self.links.len() {
            if !self.links[index].under.is_stacked() {
                self.schedule(index);
                self.tap_queue(index);
                self.transmit(index);
            }
        }
        self.dgrams.sent.clear();
    }

    /// Hands the frames of a link to its network.
    fn transmit(&mut self, index: usize) {
        let Some(link) = self.links.get_mut(index) else { return };
        if link.queue.is_empty() {
            return;
        }
        if link.kind == Kind::Loopback {
            let frames = std::mem::take(&mut link.queue);
            for frame in frames {
                let packet = Outgoing { bytes: frame.bytes, segment: None, unsummed: false };
                self.looped.push_back((index, packet));
            }
            self.again = true;
            return;
        }
        for frame in &link.queue {
            link.counters.sent.0 += 1;
            link.counters.sent.1 += frame.bytes.len() as u64;
        }
        match &link.transport {
            Some(transport) => transport.send(&mut link.queue),
            None => link.queue.clear(),
        }
    }

    /// Passes the frames of a link through its disciplines; what is left in its queue may leave.
    pub(crate) fn schedule(&mut self, index: usize) {
        let now = self.now;
        let link = &mut self.links[index];
        let Some(scheduler) = &mut link.scheduler else { return };
        let before = std::mem::take(&mut link.queue);
        let sent: Vec<_> = self.dgrams.sent.extract_if(.., |(at, ..)| *at == index).collect();
        let mut out = |scheduler: &mut Scheduler| {
            while let Some(frame) = scheduler.pop(now) {
                if let Some(sender) = frame.sender {
                    self.dgrams.sent.push((index, link.queue.len(), sender));
                }
                link.queue.push(Frame::from(frame.bytes));
            }
        };
        out(scheduler);
        for (place, frame) in before.into_iter().enumerate() {
            let sender = sent.iter().find(|(_, at, _)| *at == place).map(|(.., id)| *id);
            for piece in qdisc::queued(frame, sender) {
                scheduler.push(piece, now);
                out(scheduler);
            }
        }
    }

    /// Shows what leaves by a link to the packet sockets.
    pub(crate) fn tap_queue(&mut self, index: usize) {
        if self.dgrams.taps.is_empty() {
            return;
        }
        let queue = std::mem::take(&mut self.links[index].queue);
        for (place, frame) in queue.iter().enumerate() {
            let mut sent = self.dgrams.sent.iter();
            let sender = sent.find(|(link, at, _)| (*link, *at) == (index, place));
            let way = Way::Out(sender.map(|(.., id)| *id));
            let unsummed = frame.offload.checksum_pending;
            self.tap(index, &Sight { frame: &frame.bytes, way, unsummed });
        }
        self.links[index].queue = queue;
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
        let lifetimes =
            self.net.config.due().and_then(|due| i64::try_from(due).ok()).map(Instant::from_millis);
        let (rings, solicitations) = (self.rings_due(), self.solicitations_due());
        let engine = [self.flows_due(), neighbours, self.reassembly.due(), self.ticks];
        let others = [lifetimes, rings, solicitations];
        // What is not urgent comes together, once a millisecond.
        let coarse = engine.into_iter().chain(others).flatten().min().map(round_up);
        let disciplines = self.links.iter().filter_map(|link| link.scheduler.as_ref()?.due());
        disciplines.chain(coarse).min()
    }
}

/// The millisecond that an instant is in the past of, or its own.
fn round_up(at: Instant) -> Instant {
    let micros = at.total_micros();
    Instant::from_micros(micros.saturating_add((1000 - micros.rem_euclid(1000)) % 1000))
}
