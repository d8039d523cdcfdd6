//! What an incoming segment tells the sending half: acknowledgements, windows.

use smoltcp::time::{Duration, Instant};

use super::{
    super::{
        options::{Block, Blocks},
        segment::{SYN, Segment},
        times::millis,
    },
    Sender,
    board::{Piece, Tally},
    control,
    recovery::Mode,
};

/// Acknowledgements without news after which a segment is lost, of a peer without SACK.
const DUPLICATES: u32 = 3;

/// What an acknowledgement number is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// It acknowledges nothing that was not acknowledged before.
    Nothing,
    /// It acknowledges data, but not the FIN.
    Data,
    /// It acknowledges the FIN.
    Fin,
    /// It acknowledges what was never sent.
    Ahead,
}

/// What one acknowledgement has brought.
#[derive(Debug, Default)]
struct News {
    delivered: u64,
    /// The age of the first piece.
    rtt: Option<Duration>,
    /// A piece of it was sent more than once.
    repeated: bool,
    /// The piece sent last of those that arrived.
    newest: Option<Piece>,
}

impl Sender {
    /// Takes the acknowledgement and the window of a segment.
    pub(crate) fn acknowledged(
        &mut self,
        segment: &Segment,
        blocks: &Blocks,
        echo: Option<u32>,
        now: Instant,
    ) -> Said {
        let ahead = segment.acknowledges.wrapping_sub(self.una_sequence());
        let una = match ahead.cast_signed() {
            ..0 => {
                self.overtaken(segment, blocks);
                return if self.is_finished() { Said::Fin } else { Said::Nothing };
            }
            ahead => self.una + u64::from(ahead.unsigned_abs()),
        };
        if una > self.next {
            return Said::Ahead;
        }
        let moved = self.take_window(segment, una);
        let before = self.una;
        let lost_before = self.board.lost;
        let news = self.take_arrivals(una, blocks, echo, now);
        if una > before {
            self.judge_echo(echo);
        }
        self.detect_losses(now);
        self.take_duplicate(segment, una > before, moved, news.delivered);
        let lost = self.board.lost > lost_before;
        self.control_by(&news, lost, una > before, now);
        self.judge_probe(news.delivered);
        self.rearm(una > before, now);
        match (self.is_finished(), una > before) {
            (true, _) => Said::Fin,
            (false, true) => Said::Data,
            (false, false) => Said::Nothing,
        }
    }

    /// Takes an acknowledgement that later ones have overtaken: what it says came twice stands in no
    /// other.
    pub(crate) fn overtaken(&mut self, segment: &Segment, blocks: &Blocks) {
        if let (true, [(start, end), ..]) = (self.offer().sack, blocks.as_slice()) {
            let before = end.wrapping_sub(segment.acknowledges).cast_signed() <= 0;
            if let (true, Some(range)) = (before, self.old_range((*start, *end))) {
                self.was_needless(range);
            }
        }
    }

    /// Takes the window, when the segment is not an old one (RFC 9293, 3.10.7.4); tells whether it
    /// has changed.
    fn take_window(&mut self, segment: &Segment, una: u64) -> bool {
        let scale = if segment.is(SYN, SYN) { 0 } else { self.offer().scale.unwrap_or(0) };
        let window = u64::from(segment.window) << scale;
        let newer = segment.sequence.wrapping_sub(self.told).cast_signed();
        let edge = una + window;
        let first = self.widest == 0 && self.edge == 0;
        if !first && una == self.una && (newer < 0 || (newer == 0 && edge <= self.edge)) {
            return false;
        }
        let moved = edge != self.edge;
        self.told = segment.sequence;
        self.edge = edge;
        self.widest = self.widest.max(window);
        moved
    }

    /// Takes note of all that has arrived.
    fn take_arrivals(
        &mut self,
        una: u64,
        blocks: &Blocks,
        echo: Option<u32>,
        now: Instant,
    ) -> News {
        let mut news = News::default();
        let sack = self.offer.is_some_and(|offer| offer.sack);
        let blocks = if sack { blocks.as_slice() } else { &[] };
        let mut ranges = [None; 4];
        for (range, block) in ranges.iter_mut().zip(blocks) {
            *range = self.range(*block, una);
        }
        // What was acknowledged already, or stands in the next block too, came twice (RFC 2883).
        let needless = match (blocks, ranges) {
            ([first, ..], [None, ..]) => self.old_range(*first),
            ([_, ..], [Some(one), Some(two), ..]) if two.0 <= one.0 && one.1 <= two.1 => Some(one),
            _ => None,
        };
        let (rtt, rack) = (self.rtt, &mut self.rack);
        let mut arrived = |piece: &Piece| {
            news.delivered += piece.len();
            rack.arrived(piece, &rtt, now);
            news.repeated |= piece.again > 0;
            news.rtt = news.rtt.or(Some(now - piece.at));
            if news.newest.is_none_or(|other| (piece.at, piece.end) > (other.at, other.end)) {
                news.newest = Some(*piece);
            }
        };
        self.board.acknowledge(una, &mut arrived);
        for (start, end) in ranges.into_iter().flatten() {
            self.board.sack(start, end, &mut arrived);
        }
        let before = self.una;
        if una > before {
            let kept = self.written - self.buffer.len() as u64;
            let gone = una.min(self.written).saturating_sub(kept);
            self.buffer.drop_front(usize::try_from(gone).unwrap_or(usize::MAX));
            self.una = una;
            self.counts.acknowledged = una.min(self.written);
        }
        if let Some(range) = needless {
            self.was_needless(range);
        }
        // What was sent again is answered at an unknown time, and so is all that waited for it
        // (Karn's algorithm), unless the peer echoes when it was sent.
        if let Some(measured) = news.rtt.filter(|_| !news.repeated) {
            self.rtt.sample(measured, now);
        } else if let Some(echo) = echo.filter(|_| una > before && news.repeated) {
            let took = millis(now).wrapping_sub(echo);
            if took < 1 << 30 {
                self.rtt.sample(Duration::from_millis(took.max(1).into()), now);
            }
        }
        news
    }

    /// The positions of a block that was acknowledged; None when it is nonsense.
    fn old_range(&self, (start, end): Block) -> Option<(u64, u64)> {
        let next = self.next_sequence();
        let position = |block: u32| self.next.checked_sub(next.wrapping_sub(block).into());
        let (start, end) = (position(start)?, position(end)?);
        (start < end).then_some((start, end))
    }

    /// The positions of a block; None when it lies before what is acknowledged or is nonsense.
    fn range(&self, (start, end): Block, una: u64) -> Option<(u64, u64)> {
        let number = self.sequence(una);
        let position = |block: u32| {
            let ahead = block.wrapping_sub(number).cast_signed();
            u64::try_from(ahead).ok().map(|ahead| una + ahead)
        };
        let (start, end) = (position(start)?, position(end)?);
        (start < end && end <= self.next).then_some((start, end))
    }

    /// Finds what is lost, and begins a recovery when something is.
    pub(super) fn detect_losses(&mut self, now: Instant) {
        let recovering = self.mode != Mode::Open;
        let (lost, again) = self.rack.detect(&mut self.board, &self.rtt, self.mss, recovering, now);
        self.timers.look_again(again);
        if lost > 0 && !recovering {
            self.enter_recovery();
        }
    }

    /// Counts acknowledgements without news of a peer that has no SACK (RFC 6582).
    fn take_duplicate(&mut self, segment: &Segment, progress: bool, moved: bool, arrived: u64) {
        if self.offer.is_some_and(|offer| offer.sack) || self.board.is_empty() {
            return;
        }
        if progress {
            self.duplicates = 0;
            if arrived > 0 && matches!(self.mode, Mode::Recovery(_)) && !self.is_recovered() {
                // A partial acknowledgement: the next hole.
                self.board.lose_first(self.mss);
            }
        } else if segment.length == 0 && !moved {
            self.duplicates += 1;
            if self.duplicates == DUPLICATES
                && self.mode == Mode::Open
                && self.board.lose_first(self.mss) > 0
            {
                self.enter_recovery();
            }
        }
    }

    /// Lets the congestion control know.
    fn control_by(&mut self, news: &News, lost: bool, progress: bool, now: Instant) {
        self.leave_recovery();
        if news.delivered == 0 {
            return;
        }
        self.counts.delivered += news.delivered;
        let rate = news.newest.and_then(|newest| self.measure(&newest, now));
        let by_itself = self.control.repairs_by_itself();
        if matches!(self.mode, Mode::Recovery(_)) && !by_itself {
            self.reduce(news.delivered, progress && !lost);
            return;
        }
        if !progress && !by_itself && !self.rack.reordering {
            // What arrives out of order may mean a loss: the window does not grow by it.
            return;
        }
        let flying = self.board.flying();
        let window = self.control.window();
        // In slow start a window may be twice what was used of it (RFC 7661).
        let slow = window < self.control.threshold() && window < 2 * (flying + news.delivered);
        // What overtakes is faster than the path is.
        let told = !news.repeated && (progress || !self.rack.reordering);
        self.control.on_ack(&control::Ack {
            now,
            delivered: news.delivered,
            total: self.counts.delivered,
            flying,
            lost,
            rtt: news.rtt.filter(|_| told),
            rate,
            smooth: Duration::from_micros(self.rtt.smooth),
            limited: self.limited || slow,
            mss: self.mss,
        });
        self.limited = false;
    }

    /// The rate of delivery by the piece sent last of those that arrived
    /// (draft-cheng-iccrg-delivery-rate-estimation).
    fn measure(&mut self, newest: &Piece, now: Instant) -> Option<control::Rate> {
        let Tally { delivered, delivered_at, first_at, limited } = newest.tally;
        (self.first_at, self.delivered_at) = (newest.at, now);
        let took = (newest.at - first_at).max(now - delivered_at).total_micros();
        if took == 0 || took < self.rtt.least {
            return None;
        }
        let speed = (self.counts.delivered - delivered).saturating_mul(1_000_000) / took;
        if !limited || speed > self.counts.rate {
            self.counts.rate = speed;
        }
        Some(control::Rate { speed, limited, before: delivered })
    }
}
