//! From the first loss of a window to its repair: how much may be sent meanwhile (RFC 6937).

use super::Sender;

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
        self.doubtful = 0;
        self.mode = Mode::Recovery(Proportion { until, flight, delivered: 0, sent: 0, window });
        self.timers.stop_probe();
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
    pub(super) fn spend(&mut self, bytes: u64, again: bool) {
        if let Mode::Recovery(state) = &mut self.mode {
            state.sent += bytes;
            self.doubtful += u32::from(again);
        }
    }

    /// The peer got something twice. When that is so of all that was sent again, nothing had been
    /// lost, and the window is restored.
    pub(super) fn was_needless(&mut self) {
        self.counts.needless = self.counts.needless.saturating_add(1);
        self.rack.needless(self.una, self.next);
        self.timers.probe_answered();
        // The peer often tells when the recovery is already over.
        let Some(left) = self.doubtful.checked_sub(1) else { return };
        self.doubtful = left;
        if left == 0 && self.board.lost == 0 && !matches!(self.mode, Mode::Loss { .. }) {
            self.control.undo();
            self.mode = Mode::Open;
        }
    }
}
