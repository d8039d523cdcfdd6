//! [`Channel`]: one direction of a bad link.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::Duration,
};

use super::{Impairment, MOST_BYTES, Random};

/// How long a frame may take at all: an hour.
const LONGEST: f64 = 3600.0;
/// Copies of a frame that were not asked for, at most.
const MOST_COPIES: usize = 16;

/// One direction of a link, with the frames that are under way.
#[derive(Debug)]
pub struct Channel {
    impairment: Impairment,
    dice: Dice,
    /// Whether the link is in the middle of a burst of losses.
    failing: bool,
    /// When the sender's interface has sent what it was given.
    sent: Duration,
    /// When the bottleneck has passed on what waits there.
    passed: Duration,
    /// When the last frame that keeps the order is due.
    last: Duration,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    bytes: u64,
    count: u64,
    drops: u64,
}

/// A generator for each kind of event: how one turns out changes nothing about the others.
#[derive(Debug)]
struct Dice {
    loss: Random,
    copies: Random,
    damage: Random,
    rate: Random,
    delay: Random,
    order: Random,
}

impl Dice {
    fn new(seed: u64) -> Self {
        let mut seeds = Random::new(seed);
        let mut next = || Random::new(seeds.bits());
        Self {
            loss: next(),
            copies: next(),
            damage: next(),
            rate: next(),
            delay: next(),
            order: next(),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct UnderWay {
    due: Duration,
    /// Frames that are due at the same time keep their order.
    number: u64,
    bytes: Vec<u8>,
}

impl Ord for UnderWay {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl PartialOrd for UnderWay {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Channel {
    /// Makes a channel with nothing under way.
    #[must_use]
    pub fn new(impairment: Impairment, seed: u64) -> Self {
        Self {
            impairment,
            dice: Dice::new(seed),
            failing: false,
            sent: Duration::ZERO,
            passed: Duration::ZERO,
            last: Duration::ZERO,
            under_way: BinaryHeap::new(),
            bytes: 0,
            count: 0,
            drops: 0,
        }
    }

    /// Takes a frame in at `now`, which never decreases.
    pub fn offer(&mut self, frame: Vec<u8>, now: Duration) {
        let length = frame.len();
        self.sent =
            now.max(self.sent) + time_for(length, self.impairment.speed.draw(&mut self.dice.rate));
        let mtu = self.impairment.mtu;
        if (mtu > 0 && length > mtu) || self.is_lost() {
            self.drops += 1;
            return;
        }
        for _ in 0..self.copies() {
            self.enter(frame.clone());
        }
        self.enter(frame);
    }

    /// When the next frame comes out.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        self.under_way.peek().map(|Reverse(first)| first.due)
    }

    /// Returns the next frame that is out at `now`.
    pub fn take(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.due()? > now {
            return None;
        }
        let Reverse(first) = self.under_way.pop()?;
        self.bytes -= size(first.bytes.len());
        Some(first.bytes)
    }

    /// How many frames are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Whether no frame is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// How much later than `now` the sender's interface will be free.
    #[must_use]
    pub fn busy(&self, now: Duration) -> Duration {
        self.sent.saturating_sub(now)
    }

    /// How many frames were lost, for whatever reason.
    #[must_use]
    pub fn drops(&self) -> u64 {
        self.drops
    }

    /// Decides whether the next frame is lost; bursts as Gilbert describes them.
    fn is_lost(&mut self) -> bool {
        let loss = self.impairment.loss.draw(&mut self.dice.loss).min(1.0);
        let burst = self.impairment.burst.draw(&mut self.dice.loss);
        if burst <= 0.0 || loss >= 1.0 {
            return self.dice.loss.happens(loss);
        }
        // Of all frames, `loss` are in the failing state, which ends with probability 1 / burst.
        let change = if self.failing { 1.0 / burst } else { loss / (burst * (1.0 - loss)) };
        if self.dice.loss.happens(change) {
            self.failing = !self.failing;
        }
        self.failing
    }

    fn copies(&mut self) -> usize {
        let mut copies = 0;
        let probability = self.impairment.duplicates.draw(&mut self.dice.copies);
        while copies < MOST_COPIES && self.dice.copies.happens(probability) {
            copies += 1;
        }
        copies
    }

    fn enter(&mut self, mut frame: Vec<u8>) {
        let room = match self.impairment.capacity {
            0 => MOST_BYTES,
            capacity => capacity.min(MOST_BYTES),
        };
        let size = size(frame.len());
        if self.bytes + size > room {
            self.drops += 1;
            return;
        }
        self.damage(&mut frame);
        let due = self.leave(frame.len());
        self.bytes += size;
        self.count += 1;
        self.under_way.push(Reverse(UnderWay { due, number: self.count, bytes: frame }));
    }

    /// Decides when a frame of this length is out.
    fn leave(&mut self, length: usize) -> Duration {
        let bandwidth = self.impairment.bandwidth.draw(&mut self.dice.rate);
        self.passed = self.sent.max(self.passed) + time_for(length, bandwidth);
        let delay = self.impairment.delay.draw(&mut self.dice.delay);
        let reordering = self.impairment.reordering.draw(&mut self.dice.order);
        if self.dice.order.happens(reordering) {
            return self.passed;
        }
        let due = self.passed + seconds(delay);
        if !self.impairment.fifo {
            return due;
        }
        self.last = self.last.max(due);
        self.last
    }

    fn damage(&mut self, frame: &mut [u8]) {
        let dice = &mut self.dice.damage;
        let corruption = self.impairment.corruption.draw(dice);
        if dice.happens(corruption) {
            flip(frame, dice);
        }
        let noise = self.impairment.noise.draw(dice);
        if noise > 0.0 {
            // The expected number of flipped bits: its whole part, and perhaps one more.
            let expected = noise * number(frame.len()) / f64::from(1 << 20);
            let limit = number(frame.len() * 8);
            let mut left = expected.min(limit);
            while left > 0.0 {
                if dice.happens(left) {
                    flip(frame, dice);
                }
                left -= 1.0;
            }
        }
    }
}

/// Flips one bit.
fn flip(frame: &mut [u8], dice: &mut Random) {
    let bits = size(frame.len()) * 8;
    if bits == 0 {
        return;
    }
    let bit = dice.bits() % bits;
    if let Some(byte) = usize::try_from(bit / 8).ok().and_then(|at| frame.get_mut(at)) {
        *byte ^= 1 << (bit % 8);
    }
}

fn size(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn number(length: usize) -> f64 {
    u32::try_from(length).map_or(f64::from(u32::MAX), f64::from)
}

/// How long bytes take at so many bytes a second; 0 is no limit.
fn time_for(length: usize, rate: f64) -> Duration {
    if rate > 0.0 { seconds(number(length) / rate) } else { Duration::ZERO }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.min(LONGEST)).unwrap_or_default()
}

#[cfg(test)]
#[path = "channel_tests.rs"]
mod tests;
