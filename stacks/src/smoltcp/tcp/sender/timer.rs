//! What happens when nothing comes: retransmission, tail loss and window probes.

use smoltcp::time::{Duration, Instant};

use super::{Sender, board::Mark, recovery::Mode};

/// How late the timers may be: what was due in that time is sent at once.
const BURST: Duration = Duration::from_millis(2);

/// How long a small segment is held back at most (tcp(7), `TCP_CORK`).
const CORKED: Duration = Duration::from_millis(200);

/// When to act.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timers {
    /// The retransmission timeout (RFC 6298).
    retransmit: Option<Instant>,
    /// A piece may turn out to be lost (RFC 8985, 6.2).
    reorder: Option<Instant>,
    /// The end of what was sent may be lost (RFC 8985, 7).
    probe: Option<Instant>,
    /// The peer's window may have opened unheard (RFC 9293, 3.8.6.1).
    window: Option<Instant>,
    /// Not sooner is more to be sent.
    pace: Option<Instant>,
    /// A small segment that is held back goes.
    cork: Option<Instant>,
    /// It goes at once.
    uncork_now: bool,
    /// The probe is to be sent at once.
    probe_now: bool,
    /// The same for the window.
    window_now: bool,
    /// When what was sent would have left at the rate of pacing.
    paced: Instant,
    /// A probe was sent when this was the next position; whether it was sent again.
    probed: Option<(u64, bool)>,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            retransmit: None,
            reorder: None,
            probe: None,
            window: None,
            pace: None,
            cork: None,
            uncork_now: false,
            probe_now: false,
            window_now: false,
            paced: Instant::ZERO,
            probed: None,
        }
    }
}

impl Timers {
    /// Sets when to look for losses again.
    pub(super) fn look_again(&mut self, at: Option<Instant>) {
        self.reorder = at;
    }

    /// No tail is probed for now.
    pub(super) fn stop_probe(&mut self) {
        (self.probe, self.probe_now) = (None, false);
    }

    /// Whether a window probe is to be sent; it is then.
    pub(super) fn take_window_probe(&mut self) -> bool {
        std::mem::take(&mut self.window_now)
    }

    /// Whether more is to be sent later only.
    pub(super) fn is_pacing(&self) -> bool {
        self.pace.is_some()
    }

    /// Spreads what is sent: the next comes as much later as `bytes` take at `rate`.
    pub(super) fn pace(&mut self, bytes: u64, rate: u64, now: Instant) {
        let due = self.paced.max(now - BURST.min(now - Instant::ZERO));
        let micros = bytes.saturating_mul(1_000_000) / rate.max(1);
        self.paced = due + Duration::from_micros(micros);
        self.pace = Some(self.paced).filter(|at| *at > now);
    }

    /// Whether a small segment is still to be held back.
    pub(super) fn holds_back(&mut self, now: Instant) -> bool {
        if !self.uncork_now && self.cork.is_none() {
            self.cork = Some(now + CORKED);
        }
        !self.uncork_now
    }

    /// Nothing is held back any more.
    pub(super) fn uncork(&mut self) {
        (self.cork, self.uncork_now) = (None, false);
    }

    /// Whether a tail probe is to be sent.
    pub(super) fn tail_probe_is_due(&self) -> bool {
        self.probe_now
    }

    /// Notes that it is.
    pub(super) fn probe_sent(&mut self, next: u64, again: bool) {
        self.stop_probe();
        self.probed = Some((next, again));
    }

    /// The tail probe has been answered, if there was one.
    pub(super) fn probe_answered(&mut self) -> bool {
        self.probed.take().is_some()
    }

    fn next(&self) -> Option<Instant> {
        let all = [self.retransmit, self.reorder, self.probe, self.window, self.pace, self.cork];
        all.into_iter().flatten().min()
    }
}

impl Sender {
    /// When [`Self::expire`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Does what time demands; [`Self::emit`] then says what is to be sent.
    pub(crate) fn expire(&mut self, now: Instant) {
        let due = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        if due(&mut self.timers.reorder) {
            self.detect_losses(now);
        }
        if due(&mut self.timers.probe) && self.mode == Mode::Open && !self.board.is_empty() {
            self.timers.probe_now = true;
        }
        due(&mut self.timers.pace);
        if due(&mut self.timers.cork) {
            self.timers.uncork_now = true;
        }
        if due(&mut self.timers.window) {
            self.timers.window_now = true;
            self.counts.backoff += 1;
            self.timers.window = Some(now + self.rtt.timeout(self.counts.backoff));
        }
        if due(&mut self.timers.retransmit) && !self.board.is_empty() {
            self.time_out(now);
        }
    }

    /// Nothing came for too long: all that flies is lost.
    fn time_out(&mut self, now: Instant) {
        if self.board.first().is_some_and(|piece| piece.mark == Mark::Sacked) {
            self.board.renege();
        }
        self.board.lose(|_| true);
        // The window is reduced once for what was sent once.
        let first = match self.mode {
            Mode::Loss { until } => self.una >= until,
            Mode::Open | Mode::Recovery(_) => true,
        };
        if first || self.counts.backoff == 0 {
            self.control.on_timeout(self.board.flying(), self.mss);
            self.doubt_anew();
        }
        self.mode = Mode::Loss { until: self.next };
        self.timers.stop_probe();
        self.timers.reorder = None;
        self.counts.backoff += 1;
        self.timers.retransmit = Some(now + self.rtt.timeout(self.counts.backoff));
    }

    /// Sets the timers after something was sent.
    pub(super) fn arm(&mut self, again: bool, now: Instant) {
        self.timers.window = None;
        if self.timers.retransmit.is_none() {
            self.timers.retransmit = Some(now + self.rtt.timeout(self.counts.backoff));
        }
        if !again {
            self.arm_probe(now);
        }
    }

    /// Sets the timers after an acknowledgement.
    pub(super) fn rearm(&mut self, progress: bool, now: Instant) {
        if progress {
            self.counts.backoff = 0;
        }
        if self.board.is_empty() {
            let (retransmit, reorder, probe, probe_now) = (None, None, None, false);
            self.timers = Timers { retransmit, reorder, probe, probe_now, ..self.timers };
        } else if progress {
            self.timers.retransmit = Some(now + self.rtt.timeout(0));
            self.arm_probe(now);
        }
        if self.edge > self.next && self.timers.window.is_some() {
            self.timers.window = None;
            self.timers.window_now = false;
            self.counts.backoff = 0;
        }
    }

    /// Ends a tail loss probe (RFC 8985, 7.4): what came after it and no sign that it was needless
    /// mean that it repaired a loss, which the congestion control must know.
    pub(super) fn judge_probe(&mut self, delivered: u64) {
        let Some((next, again)) = self.timers.probed else { return };
        let passed = self.una > next || (!again && self.una == next);
        if passed && again && self.mode == Mode::Open {
            self.control.on_loss(self.board.flying(), self.mss);
            self.control.on_recovered();
        }
        if passed || delivered == 0 {
            self.timers.probe_answered();
        }
    }

    /// Starts the timeout anew: the first segment was sent again.
    pub(super) fn restart_timeout(&mut self, now: Instant) {
        self.timers.retransmit = Some(now + self.rtt.timeout(self.counts.backoff));
    }

    fn arm_probe(&mut self, now: Instant) {
        let quiet = self.far && self.mode == Mode::Open && self.board.sacked == 0;
        if !quiet || self.timers.probed.is_some() || !self.offer().sack {
            self.timers.stop_probe();
            return;
        }
        let alone = self.next - self.una <= self.mss;
        let at = now + self.rtt.probe_timeout(alone);
        self.timers.probe =
            Some(at).filter(|at| self.timers.retransmit.is_none_or(|rto| *at < rto));
    }

    /// Watches a window that is closed while nothing is on its way that would be answered.
    pub(super) fn watch_window(&mut self, now: Instant) {
        if self.board.is_empty() && self.timers.window.is_none() {
            self.timers.window = Some(now + self.rtt.timeout(self.counts.backoff));
        }
    }
}
