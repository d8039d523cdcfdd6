//! `netem`: a bad network, as `sch_netem.c` has it: the same stages in the same order.
//!
//! A packet is duplicated, lost or marked, damaged; then there has to be room; then it waits for
//! its time or, reordered, goes first. What comes out passes the discipline inside, if there is
//! one.

use std::collections::{BTreeMap, VecDeque};

use netlink_emu::values::{
    QdiscStats,
    qdisc::{Chance, LossModel, Netem},
};
use vdeplug::impair::Random;

use super::{Nanos, Node, Queued, Verdict, lose};
use crate::smoltcp::packet::{HEADROOM, IpHeader, fill_header_checksum};

/// The unit of distribution tables (`NETEM_DIST_SCALE`).
const SCALE: i64 = 8192;

/// A bad network.
#[derive(Debug)]
pub(super) struct NetemQueue {
    config: Netem,
    random: Random,
    /// What correlated numbers depend on: delay, loss, duplicate, reorder, corrupt.
    last: [u32; 5],
    /// The state of the loss model.
    state: u8,
    /// Packets since one was reordered.
    counter: u32,
    /// By their time, and by their order where that is the same.
    delayed: BTreeMap<(Nanos, u64), Queued>,
    /// Those that go first.
    first: VecDeque<Queued>,
    bytes: u64,
    sequence: u64,
    slot: Slot,
    pub(super) inner: Option<Box<Node>>,
}

/// The slot in which packets may leave.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// When it begins; None: there are no slots.
    begins: Option<Nanos>,
    packets: i32,
    bytes: i64,
}

/// Which of the correlated numbers.
#[derive(Debug, Clone, Copy)]
enum Draw {
    Delay,
    Loss,
    Duplicate,
    Reorder,
    Corrupt,
}

impl NetemQueue {
    pub(super) fn new(config: &Netem, random: Random) -> Self {
        let mut queue = Self {
            config: Netem::default(),
            random,
            last: [0; 5],
            state: 1,
            counter: 0,
            delayed: BTreeMap::new(),
            first: VecDeque::new(),
            bytes: 0,
            sequence: 0,
            slot: Slot::default(),
            inner: None,
        };
        queue.configure(config);
        queue
    }

    pub(super) fn configure(&mut self, config: &Netem) {
        if self.config == *config {
            return;
        }
        if self.config.seed != config.seed
            && let Some(seed) = config.seed
        {
            self.random = Random::new(seed);
        }
        if self.config.slot != config.slot {
            let used = config
                .slot
                .filter(|slot| slot.delay.0 != 0 || slot.delay.1 != 0 || slot.distributed.1 != 0);
            self.slot = Slot { begins: used.map(|_| 0), ..Slot::default() };
            self.fill_slot(config);
        }
        self.counter = 0;
        self.state = 1;
        self.config = config.clone();
    }

    fn bits(&mut self) -> u32 {
        u32::try_from(self.random.bits() >> 32).unwrap_or(u32::MAX)
    }

    /// A number that depends on the one before (`get_crandom`).
    fn draw(&mut self, which: Draw) -> u32 {
        let value = self.bits();
        let config = &self.config;
        let (place, rho) = match which {
            Draw::Delay => (0, config.delay_correlation),
            Draw::Loss => (1, config.loss.correlation),
            Draw::Duplicate => (2, config.duplicate.correlation),
            Draw::Reorder => (3, config.reorder.correlation),
            Draw::Corrupt => (4, config.corrupt.correlation),
        };
        if rho == 0 {
            return value;
        }
        let rho = u64::from(rho) + 1;
        let mixed = u128::from(value) * u128::from((1 << 32) - rho)
            + u128::from(self.last[place]) * u128::from(rho);
        let mixed = u32::try_from(mixed >> 32).unwrap_or(u32::MAX);
        self.last[place] = mixed;
        mixed
    }

    fn happens(&mut self, which: Draw, chance: Chance) -> bool {
        chance.probability > 0 && chance.probability >= self.draw(which)
    }

    pub(super) fn push(
        &mut self,
        mut frame: Queued,
        now: Nanos,
        copies: &mut Vec<Queued>,
        stats: &mut QdiscStats,
    ) -> Verdict {
        let twice = !frame.copy && self.happens(Draw::Duplicate, self.config.duplicate);
        let mut once = true;
        if self.loses() {
            once = self.config.ecn && mark(&mut frame.bytes);
            // Marked ones count as well.
            stats.drops = stats.drops.saturating_add(u32::from(once));
        }
        match (once, twice) {
            (false, false) => {
                lose(frame, stats);
                return Verdict::Taken;
            }
            (true, true) => copies.push(Queued { copy: true, ..frame.clone() }),
            _ => {}
        }
        if self.happens(Draw::Corrupt, self.config.corrupt) && !frame.bytes.is_empty() {
            let length = frame.bytes.len() as u64;
            let place = usize::try_from(self.random.bits() % length).unwrap_or(0);
            frame.bytes[place] ^= 1 << (self.random.bits() % 8);
        }
        if self.delayed.len() as u64 >= u64::from(self.config.limit) {
            copies.clear();
            lose(frame, stats);
            return Verdict::Dropped;
        }
        self.bytes += frame.length();
        self.place(frame, now, stats);
        Verdict::Taken
    }

    /// Gives a packet its time, or the first place.
    fn place(&mut self, frame: Queued, now: Nanos, stats: &mut QdiscStats) {
        let config = &self.config;
        let overtakes = config.gap != 0 && self.counter >= config.gap - 1 && {
            let most = config.reorder.probability;
            most >= self.draw(Draw::Reorder)
        };
        if overtakes {
            self.counter = 0;
            stats.requeues = stats.requeues.saturating_add(1);
            return self.first.push_front(frame);
        }
        let time = self.time(frame.length(), now);
        self.counter = self.counter.saturating_add(1);
        self.sequence += 1;
        self.delayed.insert((time, self.sequence), frame);
    }

    /// When a packet may leave.
    fn time(&mut self, length: u64, now: Nanos) -> Nanos {
        let (latency, jitter) = (self.config.latency, self.config.jitter);
        let mut delay = if jitter == 0 {
            latency
        } else {
            let random = self.draw(Draw::Delay);
            spread((latency, jitter), random, self.config.distribution.as_deref())
        };
        let mut begins = now;
        if self.config.rate.rate > 0 {
            // The last packet is still being sent: its delay is part of this one's.
            if let Some(((last, _), _)) = self.delayed.last_key_value() {
                delay = (delay - (last - now)).max(0);
                begins = *last;
            }
            delay += self.sending_time(length);
        }
        begins.saturating_add(delay)
    }

    fn sending_time(&self, length: u64) -> Nanos {
        let rate = self.config.rate;
        let mut length = i128::from(length) + i128::from(rate.packet_overhead);
        if rate.cell_size > 0 {
            let size = i128::from(rate.cell_size);
            let cells = (length + size - 1) / size;
            length = cells * (size + i128::from(rate.cell_overhead));
        }
        let nanos = length.max(0) * 1_000_000_000 / i128::from(rate.rate.max(1));
        Nanos::try_from(nanos).unwrap_or(Nanos::MAX)
    }

    fn loses(&mut self) -> bool {
        match self.config.loss_model {
            LossModel::Random => self.happens(Draw::Loss, self.config.loss),
            LossModel::Markov(p) => self.markov(p),
            LossModel::Gilbert(p) => self.gilbert(p),
        }
    }

    /// The chain of four states: sent and lost, each in a gap and in a burst (`loss_4state`).
    fn markov(&mut self, [p13, p31, p32, p14, p23]: [u32; 5]) -> bool {
        const GAP: u8 = 1;
        const BURST: u8 = 2;
        const LOST_IN_GAP: u8 = 3;
        const LOST_IN_BURST: u8 = 4;
        let random = self.bits();
        let (state, lost) = match self.state {
            GAP if random < p14 => (LOST_IN_GAP, true),
            GAP if random < p13.saturating_add(p14) => (LOST_IN_BURST, true),
            BURST if random < p23 => (LOST_IN_BURST, true),
            BURST => (BURST, false),
            LOST_IN_BURST if random < p32 => (BURST, false),
            LOST_IN_BURST if random >= p31.saturating_add(p32) => (LOST_IN_BURST, true),
            _ => (GAP, false),
        };
        self.state = state;
        lost
    }

    /// A good and a bad state, each with its losses (`loss_gilb_ell`).
    fn gilbert(&mut self, [p, r, h, k1]: [u32; 4]) -> bool {
        const GOOD: u8 = 1;
        const BAD: u8 = 2;
        let (change, loss) = (self.bits(), self.bits());
        if self.state == GOOD {
            if change < p {
                self.state = BAD;
            }
            return loss < k1;
        }
        if change < r {
            self.state = GOOD;
        }
        loss > h
    }

    pub(super) fn pop(&mut self, now: Nanos, stats: &mut QdiscStats) -> Option<Queued> {
        if let Some(frame) = self.first.pop_front() {
            self.bytes -= frame.length();
            return Some(frame);
        }
        while let Some(frame) = self.next_in_time(now) {
            self.bytes -= frame.length();
            let Some(inner) = &mut self.inner else { return Some(frame) };
            if inner.push(frame, now, &mut Vec::new()) == Verdict::Dropped {
                stats.drops = stats.drops.saturating_add(1);
            }
        }
        self.inner.as_mut()?.pop(now)
    }

    fn next_in_time(&mut self, now: Nanos) -> Option<Queued> {
        let ((time, _), _) = self.delayed.first_key_value()?;
        if *time > now {
            return None;
        }
        if let Some(begins) = self.slot.begins {
            if begins < *time {
                self.next_slot(now);
            }
            if self.slot.begins.is_some_and(|begins| begins > now) {
                return None;
            }
        }
        let (_, frame) = self.delayed.pop_first()?;
        if self.slot.begins.is_some() {
            self.slot.packets -= 1;
            self.slot.bytes -= i64::try_from(frame.bytes.len()).unwrap_or(0);
            if self.slot.packets <= 0 || self.slot.bytes <= 0 {
                self.next_slot(now);
            }
        }
        Some(frame)
    }

    fn next_slot(&mut self, now: Nanos) {
        let Some(slot) = self.config.slot else { return };
        let random = self.bits();
        let wait = match &self.config.slot_distribution {
            Some(table) => spread(slot.distributed, random, Some(table)),
            None => {
                let span = i128::from(slot.delay.1.saturating_sub(slot.delay.0));
                let part = (i128::from(random) * span) >> 32;
                slot.delay.0.saturating_add(i64::try_from(part).unwrap_or(0))
            }
        };
        self.slot.begins = Some(now.saturating_add(wait.max(0)));
        let config = self.config.clone();
        self.fill_slot(&config);
    }

    fn fill_slot(&mut self, config: &Netem) {
        let Some(slot) = config.slot else { return };
        self.slot.packets = if slot.max_packets == 0 { i32::MAX } else { slot.max_packets };
        self.slot.bytes = if slot.max_bytes == 0 { i64::MAX } else { i64::from(slot.max_bytes) };
    }

    pub(super) fn due(&self) -> Option<Nanos> {
        let next = self.delayed.first_key_value().map(|((time, _), _)| *time);
        let next = next.map(|time| time.max(self.slot.begins.unwrap_or(time)));
        let inner = self.inner.as_ref().and_then(|inner| inner.due());
        [next, inner].into_iter().flatten().min()
    }

    /// What waits here and not inside.
    pub(super) fn waiting(&self) -> (u64, u64) {
        ((self.delayed.len() + self.first.len()) as u64, self.bytes)
    }

    pub(super) fn reset(&mut self) {
        self.delayed.clear();
        self.first.clear();
        self.bytes = 0;
    }
}

/// A number around a middle, by a table or equally likely (`tabledist`).
fn spread((middle, deviation): (i64, i64), random: u32, table: Option<&[i16]>) -> i64 {
    if deviation <= 0 {
        return middle;
    }
    let Some(table) = table.filter(|table| !table.is_empty()) else {
        let offset = i64::from(random) % deviation.saturating_mul(2);
        return middle.saturating_add(offset).saturating_sub(deviation);
    };
    let at = usize::try_from(random).unwrap_or(0) % table.len();
    let unit = i64::from(table[at]);
    let part = (deviation % SCALE) * unit;
    let part = if part >= 0 { part + SCALE / 2 } else { part - SCALE / 2 };
    part / SCALE + (deviation / SCALE) * unit + middle
}

/// Marks a packet that can be marked (RFC 3168); tells whether it is.
fn mark(frame: &mut [u8]) -> bool {
    const CONGESTED: u8 = 3;
    let Some((head, ip)) = frame.split_at_mut_checked(HEADROOM) else { return false };
    if IpHeader::parse(ip).is_none() {
        return false;
    }
    match head[12..] {
        [8, 0] => {
            if ip[1] & 3 == 0 {
                return false;
            }
            ip[1] |= CONGESTED;
            fill_header_checksum(ip);
            true
        }
        [0x86, 0xdd] => {
            if ip[1] & 0x30 == 0 {
                return false;
            }
            ip[1] |= CONGESTED << 4;
            true
        }
        _ => false,
    }
}
