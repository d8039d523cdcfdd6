//! From the first loss of a window to its repair: how much may be sent meanwhile (RFC 6937).

use smoltcp::time::Instant;

use super::{super::times::millis, Sender};

/// Where the sending half stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing is believed lost.
    Open,
    /// A loss was found; it lasts until all that was sent before is acknowledged.
    Recovery(Proportion),
    /// The retransmission timer fired; it lasts as long.
    Loss {
        /// What was sent before.
        until: u64,
    },
}

/// Proportional rate reduction: the window shrinks as data arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proportion {
    /// After the last position sent before the loss was found.
    until: u64,
    /// Bytes that flew then.
    flight: u64,
    /// Bytes that arrived since.
    delivered: u64,
    /// Bytes sent since.
    sent: u64,
    /// What may fly now.
    window: u64,
}

/// What may show that nothing had been lost when the window was reduced: that all that was sent
/// again came twice (RFC 3708), or that the peer echoes a moment before it was (RFC 3522).
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// The window is reduced, and was not restored.
    open: bool,
    /// What was sent again and did not come twice: positions.
    again: Vec<(u64, u64)>,
    /// When the first of them were, in the milliseconds of timestamps.
    since: Option<u32>,
}

impl Mode {
    /// As TCP_INFO numbers it.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Recovery(_) => 3,
            Self::Loss { .. } => 4,
        }
    }
}

impl Sender {
    /// How much may fly.
    pub(super) fn window(&self) -> u64 {
        match self.mode {
            Mode::Recovery(state) if !self.control.repairs_by_itself() => state.window,
            _ => self.control.window(),
        }
    }

    /// Begins a recovery: one segment may be sent again whatever flies.
    pub(super) fn enter_recovery(&mut self) {
        let flight = self.next - self.una;
        self.control.on_loss(self.board.flying(), self.mss);
        let window = self.board.flying() + self.mss;
        let until = self.next;
        self.doubt_anew();
        self.mode = Mode::Recovery(Proportion { until, flight, delivered: 0, sent: 0, window });
        self.timers.stop_probe();
    }

    /// The window is reduced: whether that was right may show later.
    pub(super) fn doubt_anew(&mut self) {
        self.doubt = Doubt { open: true, ..Doubt::default() };
    }

    /// Sets the window anew after an acknowledgement; `safe` when it told of progress and of no
    /// new loss.
    pub(super) fn reduce(&mut self, delivered: u64, safe: bool) {
        let Mode::Recovery(state) = &mut self.mode else { return };
        if delivered == 0 {
            return;
        }
        let (flying, threshold) = (self.board.flying(), self.control.threshold());
        state.delivered += delivered;
        let more = if flying > threshold {
            let share = u128::from(state.delivered) * u128::from(threshold);
            let share = share.div_ceil(u128::from(state.flight.max(1)));
            u64::try_from(share).unwrap_or(u64::MAX).saturating_sub(state.sent)
        } else {
            let unused = state.delivered.saturating_sub(state.sent);
            let most = if safe { unused.max(delivered) + self.mss } else { unused };
            most.min(threshold - flying)
        };
        // The first retransmission is never held back.
        let least = if state.sent == 0 { self.mss } else { 0 };
        state.window = flying + more.max(least);
    }

    /// Ends a recovery whose end has been acknowledged.
    pub(super) fn leave_recovery(&mut self) {
        if self.mode == Mode::Open || !self.is_recovered() {
            return;
        }
        if matches!(self.mode, Mode::Recovery(_)) || self.control.repairs_by_itself() {
            self.control.on_recovered();
        }
        self.mode = Mode::Open;
        self.duplicates = 0;
        self.rack.recovered();
    }

    /// Whether all that was sent before the loss has been acknowledged.
    pub(super) fn is_recovered(&self) -> bool {
        match self.mode {
            Mode::Open => true,
            Mode::Recovery(Proportion { until, .. }) | Mode::Loss { until } => self.una >= until,
        }
    }

    /// Counts what is sent during a recovery.
    pub(super) fn spend(&mut self, bytes: u64, again: Option<u64>, now: Instant) {
        if let Mode::Recovery(state) = &mut self.mode {
            state.sent += bytes;
        }
        if let Some(start) = again
            && self.doubt.open
        {
            self.doubt.again.push((start, start + bytes));
            self.doubt.since.get_or_insert(millis(now));
        }
    }

    /// The peer got what lies between these positions twice. When that is so of all that was sent
    /// again, nothing had been lost; copies of anything else were made by the path.
    pub(super) fn was_needless(&mut self, (start, end): (u64, u64)) {
        self.counts.needless = self.counts.needless.saturating_add(1);
        // More than was sent again: the path made the copies.
        let probes = self.timers.probe_answered();
        if self.counts.needless <= self.counts.retransmits && !probes {
            self.rack.needless(self.una, self.next);
        }
        // The peer often tells when the recovery is already over.
        let again = &mut self.doubt.again;
        let before = again.len();
        again.retain(|(first, last)| *first < start || end < *last);
        // After a timeout only progress tells enough: what is believed lost waits for nothing else.
        if before > 0 && again.is_empty() && !matches!(self.mode, Mode::Loss { .. }) {
            self.undo();
        }
    }

    /// The peer acknowledges more and echoes when that was sent: before anything was sent again,
    /// so what was believed lost was only late (the Eifel algorithm).
    pub(super) fn judge_echo(&mut self, echo: Option<u32>) {
        let (Some(echo), Some(since)) = (echo, self.doubt.since) else { return };
        if !self.doubt.open
            || self.mode == Mode::Open
            || echo.wrapping_sub(since).cast_signed() >= 0
        {
            return;
        }
        self.rack.overtook(self.una);
        self.undo();
    }

    /// Restores the window at once (RFC 4015): what was believed lost may be late too, and if it is
    /// lost indeed, that will be found again.
    fn undo(&mut self) {
        self.doubt = Doubt::default();
        self.board.find_again();
        self.control.undo();
        self.mode = Mode::Open;
        self.counts.backoff = 0;
    }
}
