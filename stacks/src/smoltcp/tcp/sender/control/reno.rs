//! Reno: one segment more per round trip, half of it after a loss (RFC 5681).

use super::{Ack, Control, Window};

/// The state.
#[derive(Debug)]
pub(super) struct Reno {
    window: Window,
    /// Bytes delivered that the window has not grown for.
    credit: u64,
}

impl Reno {
    pub(super) fn new(mss: u64) -> Self {
        Self { window: Window::new(mss), credit: 0 }
    }
}

impl Control for Reno {
    fn window(&self) -> u64 {
        self.window.size
    }

    fn threshold(&self) -> u64 {
        self.window.threshold
    }

    fn on_ack(&mut self, ack: &Ack) {
        if !ack.limited {
            return;
        }
        self.credit += self.window.slow_start(ack.delivered);
        if self.credit >= self.window.size {
            self.credit -= self.window.size;
            self.window.size += ack.mss;
        }
    }

    fn on_loss(&mut self, _flying: u64, mss: u64) {
        self.window.reduce(self.window.size / 2, mss);
        self.credit = 0;
    }

    fn on_timeout(&mut self, flying: u64, mss: u64) {
        self.on_loss(flying, mss);
        self.window.size = mss;
    }

    fn on_recovered(&mut self) {
        self.window.size = self.window.threshold;
    }

    fn undo(&mut self) {
        self.window.undo();
    }

    fn on_idle(&mut self, mss: u64) {
        self.window.idle(mss);
    }
}
