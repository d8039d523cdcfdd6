//! Control by losses: slow start, and a window that shrinks once for all losses of a round trip
//! (RFC 5681). A [`Law`] says how it grows and how far it shrinks.

use std::fmt::Debug;

use super::{
    Ack, Control, INITIAL, UNSET,
    hystart::{Growth, HyStart},
};

/// How a window grows beyond slow start and what a loss leaves of it; bytes.
pub(super) trait Law: Debug + Send {
    /// The window of a size after more bytes have arrived.
    fn grow(&mut self, size: u64, ack: &Ack, delivered: u64) -> u64;
    /// What a loss leaves of a window.
    fn shrink(&mut self, size: u64) -> u64;
    /// The last loss was none.
    fn undo(&mut self) {}
    /// The window was not in use: that time is no time to grow in.
    fn rest(&mut self) {}
}

/// The state.
#[derive(Debug)]
pub(super) struct ByLoss<L> {
    law: L,
    size: u64,
    threshold: u64,
    /// The first slow start.
    start: HyStart,
    /// Both before the last loss.
    before: (u64, u64),
}

impl<L: Law> ByLoss<L> {
    pub(super) fn new(law: L, mss: u64) -> Self {
        Self {
            law,
            size: INITIAL * mss,
            threshold: UNSET,
            start: HyStart::default(),
            before: (0, 0),
        }
    }

    /// Grows as slow start does; returns what was delivered beyond it.
    fn slow_start(&mut self, ack: &Ack) -> u64 {
        let growth = if self.threshold == UNSET { self.start.take(ack) } else { Growth::Full };
        if growth == Growth::Over {
            self.threshold = self.size;
        }
        let room = self.threshold.saturating_sub(self.size);
        let used = room.min(ack.delivered);
        self.size += if growth == Growth::Quarter { used / 4 } else { used };
        ack.delivered - used
    }
}

impl<L: Law> Control for ByLoss<L> {
    fn window(&self) -> u64 {
        self.size
    }

    fn threshold(&self) -> u64 {
        self.threshold
    }

    fn on_ack(&mut self, ack: &Ack) {
        if !ack.limited {
            return self.law.rest();
        }
        let beyond = self.slow_start(ack);
        if beyond > 0 {
            self.size = self.law.grow(self.size, ack, beyond);
        }
    }

    fn on_loss(&mut self, _flying: u64, mss: u64) {
        self.before = (self.size, self.threshold);
        self.threshold = self.law.shrink(self.size).max(2 * mss);
    }

    fn on_timeout(&mut self, flying: u64, mss: u64) {
        self.on_loss(flying, mss);
        self.size = mss;
    }

    fn on_recovered(&mut self) {
        self.size = self.threshold;
    }

    fn undo(&mut self) {
        self.size = self.size.max(self.before.0);
        self.threshold = self.threshold.max(self.before.1);
        self.law.undo();
    }

    fn on_idle(&mut self, mss: u64) {
        self.threshold = self.threshold.max(self.size - self.size / 4);
        self.size = self.size.min(INITIAL * mss);
        self.law.rest();
    }
}
