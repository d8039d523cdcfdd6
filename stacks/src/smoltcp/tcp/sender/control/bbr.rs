//! BBR: what is sent follows the rate at which data arrives and the least round-trip time, not
//! losses (the first version, draft-cardwell-iccrg-bbr-congestion-control-00, as Linux has it).

use smoltcp::time::{Duration, Instant};

use super::{Ack, Control, INITIAL, Share, UNSET};

/// Doubles the rate every round trip: 2 / ln 2; and drains the queue that this leaves.
const HIGH: Share = Share::of(2885, 1000);
const DRAIN: Share = Share::of(1000, 2885);
/// Rounds that the greatest rate is believed.
const MEMORY: u64 = 10;
/// How long the least round-trip time is believed, and how long it is looked for then.
const FRESH: Duration = Duration::from_secs(10);
const PROBE: Duration = Duration::from_millis(200);
/// The rates of a cycle around the one that was measured, one for each round trip.
const CYCLE: [Share; 8] = [
    Share::of(5, 4),
    Share::of(3, 4),
    Share::of(1, 1),
    Share::of(1, 1),
    Share::of(1, 1),
    Share::of(1, 1),
    Share::of(1, 1),
    Share::of(1, 1),
];
/// Rounds without a quarter of growth after which the path is full.
const STILL: u32 = 3;
/// Segments of the least window.
const LEAST: u64 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Looks for the rate of the path.
    Startup,
    /// Lets the queue of that run dry.
    Drain,
    /// Tries a little more, then a little less.
    Cruise { step: usize, since: Instant },
    /// Sends next to nothing, to see the path without a queue.
    Probe { until: Option<Instant> },
}

/// The state; bytes and bytes per second.
#[derive(Debug)]
pub(super) struct Bbr {
    mode: Mode,
    window: u64,
    /// The greatest rates of the last rounds, each with its round.
    rates: [(u64, u64); 10],
    /// The least round-trip time, and when it was measured.
    least: Option<(Duration, Instant)>,
    round: u64,
    /// Bytes delivered when the round ends.
    round_ends: u64,
    /// The rate when it last grew much, and the rounds since.
    full: (u64, u32),
    filled: bool,
    /// The window before a loss or a probe.
    before: u64,
    /// What is sent is what has arrived, until the end of this round.
    conserves: Option<u64>,
    /// Until this round arrives what was sent so, and tells nothing of the path.
    held: u64,
    /// How fast to send.
    pacing: u64,
    /// A loss is being repaired.
    repairs: bool,
}

impl Bbr {
    pub(super) fn new(mss: u64) -> Self {
        Self {
            mode: Mode::Startup,
            window: INITIAL * mss,
            rates: [(0, 0); 10],
            least: None,
            round: 0,
            round_ends: 0,
            full: (0, 0),
            filled: false,
            before: 0,
            conserves: None,
            held: 0,
            pacing: 0,
            repairs: false,
        }
    }

    fn rate_measured(&self) -> u64 {
        let recent = self.rates.iter().filter(|(round, _)| round + MEMORY > self.round);
        recent.map(|(_, rate)| *rate).max().unwrap_or(0)
    }

    /// What the path holds without a queue.
    fn product(&self) -> Option<u64> {
        let (least, _) = self.least?;
        let product = u128::from(self.rate_measured()) * u128::from(least.total_micros());
        u64::try_from(product / 1_000_000).ok().filter(|product| *product > 0)
    }

    fn gain(&self) -> Share {
        match self.mode {
            Mode::Startup => HIGH,
            Mode::Drain => DRAIN,
            Mode::Cruise { step, .. } => CYCLE[step],
            Mode::Probe { .. } => Share::of(1, 1),
        }
    }

    /// How much may fly for a share of what the path holds; some more for late acknowledgements.
    fn target(&self, share: Share, mss: u64) -> u64 {
        let Some(product) = self.product() else { return INITIAL * mss };
        // A segment of the loopback is nearly that long itself.
        let burst = (self.pacing / 1000).min(65_536).max(2 * mss);
        (share.times(product) + 3 * burst).max(LEAST * mss)
    }

    fn measure(&mut self, ack: &Ack) -> bool {
        let mut starts = false;
        if let Some(rate) = ack.rate {
            if rate.before >= self.round_ends {
                self.round += 1;
                self.round_ends = ack.total;
                starts = true;
            }
            if !rate.limited || rate.speed >= self.rate_measured() {
                let slot = usize::try_from(self.round % MEMORY).unwrap_or(0);
                let (round, best) = &mut self.rates[slot];
                *best = if *round == self.round { rate.speed.max(*best) } else { rate.speed };
                *round = self.round;
            }
        }
        starts
    }

    /// Notes whether the rate still grows.
    fn look_whether_full(&mut self, starts: bool, limited: bool) {
        // What is sent while a loss is repaired does not grow by itself.
        if self.filled || !starts || limited || self.round <= self.held {
            return;
        }
        let rate = self.rate_measured();
        if rate >= self.full.0 + self.full.0 / 4 {
            self.full = (rate, 0);
        } else {
            self.full.1 += 1;
            self.filled = self.full.1 >= STILL;
        }
    }

    fn step(&mut self, ack: &Ack) {
        let now = ack.now;
        if self.mode == Mode::Startup && self.filled {
            self.mode = Mode::Drain;
        }
        if self.mode == Mode::Drain && ack.flying <= self.product().unwrap_or(0) {
            // The cycle begins anywhere but where it sends less.
            let step = usize::try_from(2 + self.round % 6).unwrap_or(2);
            self.mode = Mode::Cruise { step, since: now };
        }
        if let (Mode::Cruise { step, since }, Some((least, _))) = (self.mode, self.least) {
            let full = now - since > least;
            let over = match step {
                // More, until it is in flight or something was lost.
                0 => full && (ack.lost || ack.flying >= self.target(CYCLE[0], ack.mss)),
                1 => full || ack.flying <= self.product().unwrap_or(0),
                _ => full,
            };
            if over {
                self.mode = Mode::Cruise { step: (step + 1) % CYCLE.len(), since: now };
            }
        }
    }

    /// Takes the round-trip time; looks for the least one when it is old.
    fn look_for_least(&mut self, ack: &Ack) {
        let now = ack.now;
        let stale = self.least.is_some_and(|(_, at)| now - at > FRESH);
        if let Some(rtt) = ack.rtt
            && self.least.is_none_or(|(least, _)| rtt <= least || stale)
        {
            self.least = Some((rtt, now));
        }
        if stale && !matches!(self.mode, Mode::Probe { .. }) && ack.limited {
            self.before = self.before.max(self.window);
            self.mode = Mode::Probe { until: None };
        }
        let Mode::Probe { until } = &mut self.mode else { return };
        match until {
            None if ack.flying <= LEAST * ack.mss => *until = Some(now + PROBE),
            Some(until) if now >= *until => {
                self.least = self.least.map(|(least, _)| (least, now));
                self.window = self.window.max(self.before);
                self.before = 0;
                self.mode =
                    if self.filled { Mode::Cruise { step: 2, since: now } } else { Mode::Startup };
            }
            _ => {}
        }
    }

    fn set_window(&mut self, ack: &Ack) {
        if self.conserves.is_some_and(|round| self.round > round) {
            self.conserves = None;
        }
        if self.conserves.is_some() {
            self.window = self.window.max(ack.flying + ack.delivered);
        } else {
            let target = self.target(if self.filled { Share::of(2, 1) } else { HIGH }, ack.mss);
            if self.filled {
                self.window = (self.window + ack.delivered).min(target);
            } else if self.window < target || ack.total < INITIAL * ack.mss {
                self.window += ack.delivered;
            }
        }
        self.window = self.window.max(LEAST * ack.mss);
        if let Mode::Probe { .. } = self.mode {
            self.window = self.window.min(LEAST * ack.mss);
        }
    }

    fn set_pacing(&mut self, ack: &Ack) {
        let measured = self.rate_measured();
        let rate = if measured > 0 {
            measured
        } else {
            let micros = ack.smooth.total_micros().max(1000);
            self.window * 1_000_000 / micros
        };
        let rate = self.gain().times(rate);
        // One percent less, lest a queue stays.
        let rate = rate - rate / 100;
        if self.filled || rate > self.pacing {
            self.pacing = rate;
        }
    }
}

impl Control for Bbr {
    fn window(&self) -> u64 {
        self.window
    }

    fn threshold(&self) -> u64 {
        UNSET
    }

    fn pacing(&self) -> Option<u64> {
        (self.pacing > 0).then_some(self.pacing)
    }

    fn repairs_by_itself(&self) -> bool {
        true
    }

    fn on_ack(&mut self, ack: &Ack) {
        let starts = self.measure(ack);
        self.look_whether_full(starts, ack.rate.is_some_and(|rate| rate.limited));
        self.step(ack);
        self.look_for_least(ack);
        self.set_pacing(ack);
        self.set_window(ack);
    }

    fn on_loss(&mut self, flying: u64, mss: u64) {
        self.before = self.before.max(self.window);
        self.conserves = Some(self.round);
        // One round of it, and one until that has arrived.
        self.held = self.round + 2;
        self.repairs = true;
        self.window = (flying + mss).max(LEAST * mss);
    }

    fn on_timeout(&mut self, _flying: u64, mss: u64) {
        self.before = self.before.max(self.window);
        self.full = (0, 0);
        self.conserves = None;
        self.repairs = true;
        self.window = mss;
    }

    fn on_recovered(&mut self) {
        if std::mem::take(&mut self.repairs) {
            self.window = self.window.max(self.before);
            self.before = 0;
        }
        self.conserves = None;
    }

    fn undo(&mut self) {
        self.on_recovered();
    }

    fn on_idle(&mut self, _mss: u64) {}
}
