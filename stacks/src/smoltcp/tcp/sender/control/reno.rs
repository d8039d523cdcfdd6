//! Reno: one segment more per round trip, half of it after a loss (RFC 5681).

use super::{Ack, by_loss::Law};

/// The state.
#[derive(Debug, Default)]
pub(super) struct Reno {
    /// Bytes delivered that the window has not grown for.
    credit: u64,
}

impl Law for Reno {
    fn grow(&mut self, size: u64, ack: &Ack, delivered: u64) -> u64 {
        self.credit += delivered;
        if self.credit < size {
            return size;
        }
        self.credit -= size;
        size + ack.mss
    }

    fn shrink(&mut self, size: u64) -> u64 {
        self.credit = 0;
        size / 2
    }
}
