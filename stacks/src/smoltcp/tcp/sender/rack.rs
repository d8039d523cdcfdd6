//! RACK: a segment is lost when one that was sent sufficiently later has arrived (RFC 8985).

use smoltcp::time::{Duration, Instant};

use super::{
    board::{Board, Mark, Piece},
    rtt::Rtt,
};

/// Recoveries after which a wider reordering window is given up.
const PERSISTENCE: u32 = 16;
/// Pieces that must have arrived out of order to believe in a loss at once (DupThresh).
const ENOUGH: u64 = 3;

/// What is known of the order of arrivals.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rack {
    /// When the most recently sent piece that arrived was sent, and its end.
    newest: Option<(Instant, u64)>,
    /// Its round-trip time.
    rtt: Duration,
    /// The highest position that arrived.
    highest: u64,
    /// Whether segments have ever been seen to overtake each other.
    pub(crate) reordering: bool,
    /// How many bytes they overtook at most.
    pub(crate) degree: u64,
    /// The reordering window in quarters of the least round-trip time, less one.
    wider: u32,
    /// When that was widened last: the position sent next then.
    widened: u64,
    /// Recoveries that it stays so for.
    persists: u32,
}

impl Rack {
    /// Notes that a piece arrived.
    pub(super) fn arrived(&mut self, piece: &Piece, rtt: &Rtt, now: Instant) {
        if piece.end > self.highest {
            self.highest = piece.end;
        } else if piece.end < self.highest && piece.again == 0 {
            self.overtook(piece.start);
        }
        let took = now - piece.at;
        if piece.again > 0 && took.total_micros() < rtt.least {
            // Too soon for what was sent again: the first one arrived.
            return;
        }
        self.rtt = took;
        self.newest = self.newest.max(Some((piece.at, piece.end)));
    }

    /// Notes that later segments have overtaken what begins at a position.
    pub(super) fn overtook(&mut self, start: u64) {
        self.reordering = true;
        self.degree = self.degree.max(self.highest.saturating_sub(start));
    }

    /// Notes that something arrived twice: what was believed lost was only late.
    pub(super) fn needless(&mut self, acknowledged: u64, next: u64) {
        if !self.reordering {
            return;
        }
        self.persists = PERSISTENCE;
        if acknowledged >= self.widened {
            self.wider = (self.wider + 1).min(64);
            self.widened = next;
        }
    }

    /// Notes the end of a recovery.
    pub(super) fn recovered(&mut self) {
        self.persists = self.persists.saturating_sub(1);
        if self.persists == 0 {
            self.wider = 0;
        }
    }

    /// How much later than expected a piece may arrive.
    fn tolerance(&self, board: &Board, rtt: &Rtt, mss: u64, recovering: bool) -> Duration {
        if !self.reordering && (recovering || board.sacked >= ENOUGH * mss) {
            return Duration::ZERO;
        }
        // Where segments overtake each other by much, the least round-trip time is that of the fast
        // ones: the window is one of the slow ones.
        let unit = if self.wider > 0 { rtt.smooth } else { rtt.least };
        let window = unit / 4 * u64::from(self.wider + 1);
        Duration::from_micros(window.min(rtt.smooth))
    }

    /// Marks as lost what must be; returns its bytes, and when to look again.
    pub(super) fn detect(
        &self,
        board: &mut Board,
        rtt: &Rtt,
        mss: u64,
        recovering: bool,
        now: Instant,
    ) -> (u64, Option<Instant>) {
        if board.sacked == 0 && board.repeated == 0 {
            // All arrives in the order of sending.
            return (0, None);
        }
        let least = if self.wider > 0 { Duration::from_micros(rtt.smooth) } else { self.rtt };
        let patience = self.rtt.max(least) + self.tolerance(board, rtt, mss, recovering);
        let mut again = None;
        let lost = board.lose(|piece| {
            if piece.mark != Mark::Flying || Some((piece.at, piece.end)) >= self.newest {
                return false;
            }
            let limit = piece.at + patience;
            if limit > now {
                again = again.max(Some(limit));
            }
            limit <= now
        });
        (lost, again)
    }
}
