//! What is sent next: a lost piece, new bytes, a probe, or nothing yet.

use smoltcp::time::Instant;

use super::{
    Sender,
    board::{Mark, Piece, Tally},
};

/// What a packet may carry, and how small ones are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Bytes of a segment.
    pub(crate) mss: u64,
    /// Bytes of a packet that stands for several segments, or `mss`.
    pub(crate) most: u64,
    /// Whether packets leave this machine's memory. Where they do not, all delay is that of busy
    /// threads: nothing is spread over time, and no tail is probed for.
    pub(crate) far: bool,
    /// Whether small segments do not wait for acknowledgements (`TCP_NODELAY`).
    pub(crate) nodelay: bool,
    /// Whether small segments wait for more (`TCP_CORK`).
    pub(crate) corked: bool,
}

/// A packet to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emit {
    /// Data, or a FIN, or both.
    Data {
        /// The position of the first byte.
        from: u64,
        /// How many.
        length: usize,
        /// With FIN.
        fin: bool,
        /// With PSH: nothing follows for now.
        push: bool,
        /// It was sent before.
        again: bool,
    },
    /// A segment without data that the peer must answer: its window is closed.
    Probe,
}

impl Sender {
    /// What to send now; the caller sends it, and asks again until there is nothing.
    pub(crate) fn emit(&mut self, shape: &Shape, now: Instant) -> Option<Emit> {
        if !self.open {
            return None;
        }
        self.mss = shape.mss.max(1);
        self.far = shape.far;
        // Each segment has an urgent pointer of its own.
        let single = Shape { most: shape.mss, ..*shape };
        let shape = if self.is_urgent() { &single } else { shape };
        if self.timers.take_window_probe() {
            return Some(Emit::Probe);
        }
        if self.timers.tail_probe_is_due() {
            return self.probe_tail(now);
        }
        if shape.far && self.timers.is_pacing() {
            return None;
        }
        let emit = self.repeat(shape, now).or_else(|| self.advance(shape, now))?;
        if let (Emit::Data { length, .. }, Some(rate)) = (emit, self.control.pacing()) {
            self.timers.pace(length as u64, rate, now);
        }
        Some(emit)
    }

    /// Sends a lost piece again.
    fn repeat(&mut self, shape: &Shape, now: Instant) -> Option<Emit> {
        let piece = self.board.next_lost()?;
        let flying = self.board.flying();
        let room = self.window().saturating_sub(flying);
        if flying > 0 && room < piece.len().min(self.mss) {
            self.limited = true;
            return None;
        }
        let most = room.min(shape.most) / self.mss * self.mss;
        let length = piece.len().min(most.max(self.mss));
        Some(self.resend(&piece, length, now))
    }

    fn resend(&mut self, piece: &Piece, length: u64, now: Instant) -> Emit {
        let tally = self.tally(now);
        self.board.resend(piece.start, length, now, tally);
        self.counts.resent += length;
        let segments = u32::try_from(length.div_ceil(self.mss)).unwrap_or(u32::MAX);
        self.counts.retransmits = self.counts.retransmits.saturating_add(segments);
        if piece.start == self.una {
            self.restart_timeout(now);
        }
        self.note_sent(length, Some(piece.start), now);
        self.data(piece.start, piece.start + length, true)
    }

    /// Sends new bytes.
    fn advance(&mut self, shape: &Shape, now: Instant) -> Option<Emit> {
        if self.board.lost > 0 || self.next >= self.end() {
            self.note_idle();
            return None;
        }
        let flying = self.board.flying();
        let room = self.window().saturating_sub(flying);
        let window = self.edge.saturating_sub(self.next);
        let left = self.unsent();
        let mut length = left.min(shape.most).min(window);
        if length > room {
            self.limited = true;
            length = room;
        }
        if length < left {
            // Whole segments, unless the peer never has room for one (RFC 9293, 3.8.6.2.1).
            let whole = length / self.mss * self.mss;
            if whole > 0 {
                length = whole;
            } else if room < window.min(self.mss) {
                return None;
            } else if window == 0 || !(self.board.is_empty() || length >= self.widest / 2) {
                self.watch_window(now);
                return None;
            }
        } else if (shape.corked || self.held == self.written)
            && !self.ends
            && !self.is_urgent()
            && !length.is_multiple_of(self.mss)
        {
            let whole = length / self.mss * self.mss;
            if whole > 0 {
                length = whole;
            } else if self.timers.holds_back(now) {
                return None;
            }
        } else if length > 0 && length < self.mss && !shape.nodelay && self.waits(length) {
            return None;
        }
        let fin = self.ends && length == left;
        Some(self.send_new(length + u64::from(fin), now))
    }

    /// Whether a small segment waits: another one is on its way (Minshall's variant of Nagle's
    /// algorithm, as on Linux).
    fn waits(&self, length: u64) -> bool {
        let last = self.ends && length == self.unsent();
        !last && !self.is_urgent() && self.short > self.una
    }

    fn send_new(&mut self, length: u64, now: Instant) -> Emit {
        self.timers.uncork();
        let (start, end) = (self.next, self.next + length);
        let tally = self.tally(now);
        self.board.push(Piece { start, end, at: now, again: 0, mark: Mark::Flying, tally });
        self.next = end;
        if !length.is_multiple_of(self.mss) {
            self.short = end;
        }
        self.note_sent(length, None, now);
        self.data(start, end, false)
    }

    /// Sends something that tells whether the end of what was sent has arrived (RFC 8985, 7.3).
    fn probe_tail(&mut self, now: Instant) -> Option<Emit> {
        let left = self.unsent().min(self.mss).min(self.edge.saturating_sub(self.next));
        self.timers.probe_sent(self.next, left == 0);
        self.restart_timeout(now);
        if left > 0 {
            let fin = self.ends && left == self.unsent();
            return Some(self.send_new(left + u64::from(fin), now));
        }
        let last = *self.board.last()?;
        let length = last.len().min(self.mss);
        let tail = Piece { start: last.end - length, ..last };
        self.board.cut(tail.start);
        Some(self.resend(&tail, length, now))
    }

    fn data(&mut self, start: u64, end: u64, again: bool) -> Emit {
        let fin = end > self.written;
        let length = usize::try_from(end.min(self.written) - start).unwrap_or(0);
        let push = end >= self.written && length > 0;
        self.counts.sent += length as u64;
        let segments = u32::try_from((length as u64).div_ceil(self.mss)).unwrap_or(u32::MAX);
        self.counts.segments = self.counts.segments.wrapping_add(segments);
        Emit::Data { from: start, length, fin, push, again }
    }

    fn note_sent(&mut self, length: u64, again: Option<u64>, now: Instant) {
        self.spend(length, again, now);
        self.sent_at = now;
        self.arm(again.is_some(), now);
    }

    fn tally(&mut self, now: Instant) -> Tally {
        if self.board.flying() == 0 {
            if self.board.is_empty() && self.counts.sent > 0 {
                let idle = now - self.sent_at;
                if idle > self.rtt.timeout(0) {
                    self.control.on_idle(self.mss);
                }
            }
            self.first_at = now;
            self.delivered_at = now;
        }
        Tally {
            delivered: self.counts.delivered,
            delivered_at: self.delivered_at,
            first_at: self.first_at,
            limited: self.idle_until > self.counts.delivered,
        }
    }

    /// There is nothing to send although there could be: the rate is the application's.
    fn note_idle(&mut self) {
        let flying = self.board.flying();
        if self.board.lost == 0 && flying < self.window() {
            self.idle_until = (self.counts.delivered + flying).max(1);
        }
    }
}
