//! The scoreboard: what was sent and is not acknowledged, piece by piece (RFC 6675, RFC 8985).
//!
//! The pieces lie in order and without gaps between the first unacknowledged byte and the last one
//! sent. A piece is what one packet carried, or a part of it where a SACK ended inside.

use std::collections::VecDeque;

use smoltcp::time::Instant;

/// What became of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// On its way.
    Flying,
    /// Arrived out of order.
    Sacked,
    /// Believed lost, and not sent again since.
    Lost,
}

/// What the rate of delivery is computed from (draft-cheng-iccrg-delivery-rate-estimation).
#[derive(Debug, Clone, Copy)]
pub(super) struct Tally {
    /// Bytes delivered in all when the piece was sent.
    pub(super) delivered: u64,
    /// When the last of them was.
    pub(super) delivered_at: Instant,
    /// When the flight began that the piece is part of.
    pub(super) first_at: Instant,
    /// There was no more to send.
    pub(super) limited: bool,
}

impl Default for Tally {
    fn default() -> Self {
        let (delivered_at, first_at) = (Instant::ZERO, Instant::ZERO);
        Self { delivered: 0, delivered_at, first_at, limited: false }
    }
}

/// A piece of the stream; positions count from the first byte after the SYN.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    /// The first byte.
    pub(super) start: u64,
    /// After the last byte; a FIN counts as one.
    pub(super) end: u64,
    /// When it was last sent.
    pub(super) at: Instant,
    /// How often it was sent again.
    pub(super) again: u32,
    /// What became of it.
    pub(super) mark: Mark,
    /// For the rate of delivery.
    pub(super) tally: Tally,
}

impl Piece {
    pub(super) fn len(&self) -> u64 {
        self.end - self.start
    }
}

/// The pieces and their sums.
#[derive(Debug, Default)]
pub(super) struct Board {
    pieces: VecDeque<Piece>,
    /// Bytes that are [`Mark::Sacked`].
    pub(super) sacked: u64,
    /// Bytes that are [`Mark::Lost`].
    pub(super) lost: u64,
    /// Pieces that were sent more than once.
    pub(super) repeated: usize,
    /// Nothing before it is lost.
    hint: u64,
}

impl Board {
    /// The pieces in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Piece> {
        self.pieces.iter()
    }

    /// Bytes on their way.
    pub(super) fn flying(&self) -> u64 {
        match (self.pieces.front(), self.pieces.back()) {
            (Some(first), Some(last)) => last.end - first.start - self.sacked - self.lost,
            _ => 0,
        }
    }

    /// Whether all that was sent is acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The first piece.
    pub(super) fn first(&self) -> Option<&Piece> {
        self.pieces.front()
    }

    /// The last piece.
    pub(super) fn last(&self) -> Option<&Piece> {
        self.pieces.back()
    }

    /// Adds a piece that was sent for the first time; it follows the last one.
    pub(super) fn push(&mut self, piece: Piece) {
        debug_assert!(self.pieces.back().is_none_or(|last| last.end == piece.start));
        self.pieces.push_back(piece);
    }

    /// Takes what lies before `to` away; `delivered` hears of each piece that had not arrived.
    pub(super) fn acknowledge(&mut self, to: u64, delivered: &mut dyn FnMut(&Piece)) {
        while let Some(mut piece) = self.pieces.front().copied() {
            if piece.start >= to {
                break;
            }
            let whole = piece.end <= to;
            if whole {
                self.pieces.pop_front();
                self.repeated -= usize::from(piece.again > 0);
            } else {
                self.pieces[0].start = to;
                piece.end = to;
            }
            match piece.mark {
                Mark::Sacked => self.sacked -= piece.len(),
                Mark::Lost => self.lost -= piece.len(),
                Mark::Flying => {}
            }
            if piece.mark != Mark::Sacked {
                delivered(&piece);
            }
        }
    }

    /// Notes that what lies between has arrived; `delivered` hears of each piece that had not.
    pub(super) fn sack(&mut self, start: u64, end: u64, delivered: &mut dyn FnMut(&Piece)) {
        let (Some(first), Some(last)) = (self.pieces.front(), self.pieces.back()) else { return };
        let (start, end) = (start.max(first.start), end.min(last.end));
        if start >= end {
            return;
        }
        let mut index = self.find(start);
        if self.pieces[index].start < start && self.pieces[index].mark != Mark::Sacked {
            self.split(index, start);
            index += 1;
        }
        while let Some(piece) = self.pieces.get(index).copied() {
            if piece.start >= end {
                break;
            }
            if piece.mark != Mark::Sacked {
                if piece.end > end {
                    self.split(index, end);
                }
                let piece = &mut self.pieces[index];
                if piece.mark == Mark::Lost {
                    self.lost -= piece.len();
                }
                piece.mark = Mark::Sacked;
                self.sacked += piece.len();
                delivered(&self.pieces[index]);
            }
            index += 1;
        }
    }

    /// Marks as lost what flies and `is_lost`; returns the bytes.
    pub(super) fn lose(&mut self, mut is_lost: impl FnMut(&Piece) -> bool) -> u64 {
        let mut lost = 0;
        for piece in &mut self.pieces {
            if piece.mark == Mark::Flying && is_lost(piece) {
                piece.mark = Mark::Lost;
                self.hint =
                    if lost + self.lost == 0 { piece.start } else { self.hint.min(piece.start) };
                lost += piece.len();
            }
        }
        self.lost += lost;
        lost
    }

    /// Marks the first bytes as lost, when they fly; returns how many.
    pub(super) fn lose_first(&mut self, most: u64) -> u64 {
        let Some(first) = self.pieces.front().copied() else { return 0 };
        if first.mark != Mark::Flying {
            return 0;
        }
        if first.len() > most {
            self.split(0, first.start + most);
        }
        let start = first.start;
        self.lose(|piece| piece.start == start)
    }

    /// Forgets what the receiver said it had: it may have dropped it (RFC 2018, 8).
    pub(super) fn renege(&mut self) {
        for piece in self.pieces.iter_mut().filter(|piece| piece.mark == Mark::Sacked) {
            piece.mark = Mark::Flying;
        }
        self.sacked = 0;
    }

    /// Takes back that anything is lost.
    pub(super) fn find_again(&mut self) {
        for piece in self.pieces.iter_mut().filter(|piece| piece.mark == Mark::Lost) {
            piece.mark = Mark::Flying;
        }
        self.lost = 0;
    }

    /// The first lost piece.
    pub(super) fn next_lost(&mut self) -> Option<Piece> {
        if self.lost == 0 {
            return None;
        }
        let from = self.find(self.hint);
        let found = self.pieces.range(from..).find(|piece| piece.mark == Mark::Lost).copied();
        let found = found.or_else(|| self.iter().find(|piece| piece.mark == Mark::Lost).copied());
        self.hint = found.map_or(self.hint, |piece| piece.start);
        found
    }

    /// Notes that the first `length` bytes of the piece at `start` are sent again.
    pub(super) fn resend(&mut self, start: u64, length: u64, now: Instant, tally: Tally) {
        let index = self.find(start);
        let Some(piece) = self.pieces.get(index).copied() else { return };
        if piece.start != start || piece.mark == Mark::Sacked {
            return;
        }
        if length < piece.len() {
            self.split(index, start + length);
        }
        let piece = &mut self.pieces[index];
        if piece.mark == Mark::Lost {
            self.lost -= piece.len();
        }
        self.repeated += usize::from(piece.again == 0);
        (piece.mark, piece.at, piece.tally) = (Mark::Flying, now, tally);
        piece.again += 1;
    }

    /// Makes a piece begin at a position.
    pub(super) fn cut(&mut self, at: u64) {
        let index = self.find(at);
        if self.pieces.get(index).is_some_and(|piece| piece.start < at) {
            self.split(index, at);
        }
    }

    /// The index of the piece that a position lies in.
    fn find(&self, position: u64) -> usize {
        self.pieces.partition_point(|piece| piece.end <= position)
    }

    fn split(&mut self, index: usize, at: u64) {
        let mut rest = self.pieces[index];
        self.pieces[index].end = at;
        rest.start = at;
        self.repeated += usize::from(rest.again > 0);
        self.pieces.insert(index + 1, rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(pieces: u64, length: u64) -> Board {
        let mut board = Board::default();
        for index in 0..pieces {
            let (start, end) = (index * length, (index + 1) * length);
            let at = Instant::from_millis(i64::try_from(index).expect("small"));
            let (mark, tally) = (Mark::Flying, Tally::default());
            board.push(Piece { start, end, at, again: 0, mark, tally });
        }
        board
    }

    fn marks(board: &Board) -> String {
        let letter = |piece: &Piece| match piece.mark {
            Mark::Flying => 'f',
            Mark::Sacked => 's',
            Mark::Lost => 'l',
        };
        board.iter().map(letter).collect()
    }

    #[test]
    fn sacks_and_losses_are_kept_per_piece() {
        // RFC 6675's picture: holes between blocks, blocks that grow and come again.
        let mut board = board(10, 100);
        let mut heard = Vec::new();
        for (start, end) in [(300, 400), (300, 500), (700, 800), (300, 500)] {
            board.sack(start, end, &mut |piece| heard.push(piece.start));
        }
        assert_eq!(heard, [300, 400, 700]);
        assert_eq!(marks(&board), "fffssffsff");
        assert_eq!((board.flying(), board.sacked), (700, 300));
        assert_eq!(board.lose(|piece| piece.end <= 300), 300);
        assert_eq!((marks(&board).as_str(), board.flying()), ("lllssffsff", 400));
        let lost = board.next_lost().expect("lost");
        assert_eq!(lost.start, 0);
        board.resend(0, 100, Instant::from_millis(50), Tally::default());
        assert_eq!(board.next_lost().expect("lost").start, 100);
        let mut arrived = Vec::new();
        board.acknowledge(150, &mut |piece| arrived.push((piece.start, piece.end)));
        assert_eq!(arrived, [(0, 100), (100, 150)]);
        board.acknowledge(500, &mut |piece| arrived.push((piece.start, piece.end)));
        assert_eq!(arrived[2..], [(150, 200), (200, 300)]);
        assert_eq!((board.lost, board.sacked, board.flying(), board.repeated), (0, 100, 400, 0));
    }

    #[test]
    fn a_sack_that_ends_inside_a_piece_cuts_it() {
        let mut board = board(1, 1000);
        board.sack(200, 300, &mut |_| {});
        board.sack(600, 5000, &mut |_| {});
        assert_eq!(marks(&board), "fsfs");
        assert_eq!((board.sacked, board.flying()), (500, 500));
        board.lose(|_| true);
        board.resend(0, 50, Instant::from_millis(1), Tally::default());
        assert_eq!(marks(&board), "flsls");
        assert_eq!((board.lost, board.flying()), (450, 50));
        board.renege();
        assert_eq!((board.sacked, board.lost, board.flying()), (0, 450, 550));
        board.acknowledge(1000, &mut |_| {});
        assert!(board.is_empty() && board.lost == 0 && board.flying() == 0);
    }
}
