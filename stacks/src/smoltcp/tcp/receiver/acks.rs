//! When to acknowledge: every second segment, lone ones a little later, all at the start
//! (RFC 9293, 3.8.6.3; RFC 5681, 4.2; tcp(7), `TCP_QUICKACK`).

use smoltcp::time::{Duration, Instant};

/// How long the acknowledgement of a lone segment may wait.
pub(crate) const ACK_DELAY: Duration = Duration::from_millis(10);
/// Segments that are acknowledged at once when data begins to come: the peer's window is small.
const QUICK: u32 = 16;
/// How often what may be an attack is answered (`tcp_invalid_ratelimit`).
const CHALLENGES: Duration = Duration::from_millis(500);
/// A segment when nothing is known.
const MSS: u64 = 536;

/// What is to be acknowledged, and when.
#[derive(Debug)]
pub(super) struct Acks {
    /// The position that the peer was told.
    pub(super) told: u64,
    pending: Option<When>,
    /// Segments that are still acknowledged at once.
    quick: u32,
    /// The last answer to what is not part of the connection.
    challenged: Option<Instant>,
    /// The largest segment.
    mss: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    At(Instant),
}

impl Default for Acks {
    fn default() -> Self {
        Self { told: 0, pending: None, quick: QUICK, challenged: None, mss: MSS }
    }
}

impl Acks {
    /// The handshake is complete: segments have up to `mss` bytes.
    pub(super) fn start(&mut self, mss: u64) {
        self.mss = self.mss.min(mss);
    }

    /// The largest segment.
    pub(super) fn mss(&self) -> u64 {
        self.mss
    }

    /// Notes the size of a segment.
    pub(super) fn measure(&mut self, length: u64, long: bool) {
        if !long {
            self.mss = self.mss.max(length);
        }
    }

    /// Data came in order up to a position; `hurry` when the peer is to know at once.
    pub(super) fn arrived(&mut self, next: u64, hurry: bool, now: Instant) {
        let quick = self.quick > 0;
        self.quick = self.quick.saturating_sub(1);
        if hurry || quick || next - self.told > self.mss {
            self.pending = Some(When::Now);
        } else if self.pending.is_none() {
            self.pending = Some(When::At(now + ACK_DELAY));
        }
    }

    /// The next turn acknowledges.
    pub(super) fn now(&mut self) {
        self.pending = Some(When::Now);
    }

    /// So it does, unless it did for the same reason of late.
    pub(super) fn challenge(&mut self, now: Instant) {
        if self.challenged.is_none_or(|at| now - at >= CHALLENGES) {
            self.challenged = Some(now);
            self.now();
        }
    }

    /// Whether to acknowledge at a time.
    pub(super) fn owes(&self, at: Instant) -> bool {
        match self.pending {
            None => false,
            Some(When::Now) => true,
            Some(When::At(due)) => due <= at,
        }
    }

    /// When to.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.pending {
            None => None,
            Some(When::Now) => Some(Instant::ZERO),
            Some(When::At(due)) => Some(due),
        }
    }

    /// Everything up to a position is acknowledged.
    pub(super) fn sent(&mut self, next: u64) {
        self.told = next;
        self.pending = None;
    }
}
