//! The receiving half of a connection: from segments to the guest's bytes, and the
//! acknowledgements that tell the peer of them (RFC 9293, 2018, 2883, 5681, 7323).
//!
//! Theory of operation. smoltcp never sees data: of the peer's numbers it knows SYN and FIN only,
//! as of ours ([`super::sender`]). Here, positions count the bytes after the peer's SYN from 0; the
//! FIN is the one after the last byte.
//!
//! * [`store`] holds the bytes, [`islands`] says which of them are beyond a hole;
//! * [`acks`] says when to acknowledge, [`space`] how much the peer may send.
//!
//! Time is an argument; nothing here knows packets.

mod acks;
mod islands;
mod space;
mod store;

use std::io;

use smoltcp::time::{Duration, Instant};

use super::{
    memory::Pressure,
    options::Block,
    segment::{FIN, PSH, Segment},
};
use acks::Acks;
use islands::{Islands, Landed};
use space::Space;
use store::Store;

pub(crate) use acks::ACK_DELAY;

/// The receiving half of a connection.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    /// The sequence number of position 0, once the peer's SYN came.
    base: Option<u32>,
    store: Store,
    islands: Islands,
    /// The first position that the guest has not read.
    read: u64,
    /// Bytes before it that lie in a queue of the guest.
    unread: u64,
    /// The position of the urgent byte, until it is read.
    urgent: Option<u64>,
    /// The first position that has not arrived.
    next: u64,
    /// The position of the peer's FIN, once it is known.
    fin: Option<u64>,
    /// The FIN is in order.
    ended: bool,
    /// After the last position that the peer was told it may send.
    edge: u64,
    /// The shift of our windows.
    shift: u8,
    /// How much may be held.
    space: Space,
    acks: Acks,
    /// What was counted.
    pub(crate) counts: Counts,
}

/// What TCP_INFO tells of the receiving half.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Bytes that arrived for the first time.
    pub(crate) received: u64,
    /// Segments that came beyond a hole.
    pub(crate) beyond: u32,
}

/// How a segment lies to what is expected (RFC 9293, 3.10.7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// Its first number is the next one.
    Exact,
    /// A part of it is in the window.
    Within,
    /// It lies before or behind.
    Outside,
}

/// What to do after data was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Nothing at once.
    Quietly,
    /// Acknowledge before anything else is taken: one report cannot tell of more.
    Report,
}

impl Receiver {
    /// Makes the receiving half of a connection that begins; `size` bytes may be held at first,
    /// and `most` when the path is long.
    pub(crate) fn new(size: usize, most: usize) -> Self {
        let space = Space::new(size, most);
        Self { shift: space.shift(), space, ..Self::default() }
    }

    /// Notes the peer's SYN; its windows and ours are `scaled` or not.
    pub(crate) fn syn_received(&mut self, sequence: u32, scaled: bool) {
        self.base = Some(sequence.wrapping_add(1));
        if !scaled {
            self.shift = 0;
        }
    }

    /// The handshake is complete.
    pub(crate) fn start(&mut self, round_trip: Option<Duration>, mss: u64, now: Instant) {
        self.edge = self.edge.max(self.opening());
        self.acks.start(mss);
        self.space.start(round_trip, mss, now);
    }

    /// The window that a SYN offers, which is never scaled.
    pub(crate) fn opening(&self) -> u64 {
        self.space.size(Pressure::now()).min(u16::MAX.into())
    }

    /// The shift that our SYN offers.
    pub(crate) fn shift(&self) -> u8 {
        self.shift
    }

    /// The number that is expected next, as acknowledgements carry it.
    pub(crate) fn sequence(&self) -> u32 {
        self.number(self.next).wrapping_add(u32::from(self.ended))
    }

    /// The same for who knows of SYN and FIN only.
    pub(crate) fn small(&self) -> u32 {
        self.number(0).wrapping_add(u32::from(self.ended))
    }

    /// What acknowledges the FIN has this number less one.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Bytes that wait to be read.
    pub(crate) fn queued(&self) -> usize {
        usize::try_from(self.next - self.read).unwrap_or(usize::MAX)
    }

    /// Bytes that may be held at most.
    pub(crate) fn size(&self) -> u64 {
        self.space.size(Pressure::None)
    }

    /// Bytes that came in a round trip, and that, in microseconds.
    pub(crate) fn pace(&self) -> (u64, u64) {
        self.space.pace()
    }

    /// The largest segment of late.
    pub(crate) fn mss(&self) -> u64 {
        self.acks.mss()
    }

    /// How a segment lies to the window.
    pub(crate) fn fit(&self, segment: &Segment) -> Fit {
        let expected = self.sequence();
        if segment.sequence == expected {
            return Fit::Exact;
        }
        let ahead = segment.sequence.wrapping_sub(expected).cast_signed();
        let reached = segment.end().wrapping_sub(expected).cast_signed();
        let told = i64::try_from(self.next - self.acks.told).unwrap_or(0);
        let room = i64::try_from(self.edge.saturating_sub(self.next)).unwrap_or(i64::MAX);
        // What is old reaches the last acknowledgement at least, as Linux has it.
        let inside = i64::from(reached) >= -told && i64::from(ahead) <= room;
        if inside { Fit::Within } else { Fit::Outside }
    }

    /// Whether a segment begins with or before what the last acknowledgement told.
    pub(crate) fn is_awaited(&self, segment: &Segment) -> bool {
        segment.sequence.wrapping_sub(self.number(self.acks.told)).cast_signed() <= 0
    }

    /// Notes the urgent pointer of a segment that fits, which leads behind the urgent byte (RFC 6093);
    /// one that leads to what came before says nothing.
    pub(crate) fn note_urgent(&mut self, segment: &Segment, pointer: u16) {
        let number = segment.sequence.wrapping_add(u32::from(pointer.saturating_sub(1)));
        let ahead = number.wrapping_sub(self.number(self.next)).cast_signed();
        if let Ok(ahead) = u64::try_from(ahead) {
            self.urgent = self.urgent.max(Some(self.next + ahead));
        }
    }

    /// Gives the urgent byte to `drain`, when it is the next one; returns how much it took.
    pub(crate) fn read_urgent(
        &mut self,
        drain: &mut dyn FnMut(&[u8]) -> io::Result<usize>,
        now: Instant,
    ) -> io::Result<usize> {
        let Some(at) = self.urgent.filter(|at| *at == self.read && *at < self.next) else {
            return Ok(0);
        };
        let taken = self.read_until(at + 1, drain, now)?;
        if taken > 0 {
            self.urgent = None;
        }
        Ok(taken)
    }

    /// Takes the data and the FIN of a segment that fits; `long` when it stands for several, and
    /// `listens` when the guest has answered nothing since the last one.
    pub(crate) fn take(
        &mut self,
        segment: &Segment,
        payload: &[u8],
        (long, listens): (bool, bool),
        now: Instant,
    ) -> Taken {
        let fin = segment.is(FIN, FIN);
        if (payload.is_empty() && !fin) || self.ended || Pressure::now() == Pressure::Full {
            if !payload.is_empty() || fin {
                self.repeat(segment);
            }
            return Taken::Quietly;
        }
        let ahead = segment.sequence.wrapping_sub(self.number(self.next)).cast_signed();
        let (skip, start) = match u64::try_from(ahead) {
            Ok(ahead) => (0, self.next + ahead),
            Err(_) => (ahead.unsigned_abs() as usize, self.next),
        };
        if skip > 0 {
            self.note_old(segment);
        }
        let payload = payload.get(skip..).unwrap_or_default();
        let end = start + payload.len() as u64;
        if fin && self.fin.is_none() && end <= self.edge.max(self.next) {
            self.fin = Some(end);
        }
        let limit = self.edge.min(self.fin.unwrap_or(u64::MAX));
        let end = end.min(limit).max(start);
        let length = usize::try_from(end - start).unwrap_or(0);
        let data = &payload[..length.min(payload.len())];
        if start > self.next {
            return self.take_beyond(start, data);
        }
        if !data.is_empty() {
            self.acks.measure(payload.len() as u64, long);
            self.take_next(data, segment, (long, listens), now);
        } else if skip > 0 || !payload.is_empty() {
            self.acks.now();
        }
        if self.fin == Some(self.next) {
            self.ended = true;
            self.acks.now();
        }
        if self.islands.has_twice() { Taken::Report } else { Taken::Quietly }
    }

    /// Data that is in order.
    fn take_next(
        &mut self,
        data: &[u8],
        segment: &Segment,
        (long, listens): (bool, bool),
        now: Instant,
    ) {
        let begun = self.next;
        self.next += data.len() as u64;
        self.counts.received += data.len() as u64;
        let holes = !self.islands.is_empty();
        if holes {
            self.next = self.islands.reach(self.next);
        }
        let total = self.held();
        self.store.write(begun, data, total);
        self.space.arrived(self.next, self.edge, now);
        // A long segment stands for many. And who only listens has nothing to send the
        // acknowledgement with: its peer may wait for it with a small buffer.
        let pushed = segment.is(PSH, PSH) && listens;
        self.acks.arrived(self.next, holes || long || pushed, now);
    }

    /// Data beyond a hole: the peer must learn of it at once.
    fn take_beyond(&mut self, start: u64, data: &[u8]) -> Taken {
        self.acks.now();
        if data.is_empty() {
            return Taken::Quietly;
        }
        let landed = self.islands.land((start, start + data.len() as u64));
        if landed == Landed::Refused {
            return Taken::Quietly;
        }
        self.counts.beyond = self.counts.beyond.wrapping_add(1);
        if landed != Landed::Twice {
            self.counts.received += data.len() as u64;
        }
        let total = self.held();
        self.store.write(start, data, total);
        if landed == Landed::Joined { Taken::Quietly } else { Taken::Report }
    }

    /// Notes that a segment, or what it begins with, came before.
    fn note_old(&mut self, segment: &Segment) {
        let before = |number: u32| {
            let back = self.number(self.next).wrapping_sub(number).cast_signed();
            self.next.saturating_sub(u64::try_from(back).unwrap_or(0))
        };
        let range = (before(segment.sequence), before(segment.end()));
        if range.0 < range.1 {
            self.islands.note_twice(range);
        }
    }

    /// Answers a segment with data or a FIN that lies outside the window or came before.
    pub(crate) fn repeat(&mut self, segment: &Segment) {
        self.note_old(segment);
        self.acks.now();
    }

    /// Answers one without, unless that was done of late: it may be an answer itself (RFC 5961, 7).
    pub(crate) fn challenge(&mut self, now: Instant) {
        self.acks.challenge(now);
    }

    /// Lets the next turn acknowledge.
    pub(crate) fn acknowledge(&mut self) {
        self.acks.now();
    }

    /// Gives what is in order, up to the urgent byte, to `drain`, which says how much it took; returns
    /// the sum.
    pub(crate) fn read(
        &mut self,
        drain: &mut dyn FnMut(&[u8]) -> io::Result<usize>,
        now: Instant,
    ) -> io::Result<usize> {
        let urgent = self.urgent.filter(|at| *at >= self.read);
        self.read_until(urgent.unwrap_or(self.next).min(self.next), drain, now)
    }

    fn read_until(
        &mut self,
        end: u64,
        drain: &mut dyn FnMut(&[u8]) -> io::Result<usize>,
        now: Instant,
    ) -> io::Result<usize> {
        let begun = self.read;
        let mut failure = None;
        while self.read < end {
            let data = self.store.read(self.read, end);
            let offered = data.len();
            match drain(data) {
                Ok(count) => {
                    self.read += count.min(offered) as u64;
                    if count < offered || offered == 0 {
                        break;
                    }
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let count = self.read - begun;
        if count > 0 {
            let total = self.held();
            self.store.forget(self.read, total);
            self.space.read(self.read.saturating_sub(self.unread), now);
            self.update_window();
        }
        match failure {
            Some(error) if count == 0 => Err(error),
            _ => Ok(usize::try_from(count).unwrap_or(usize::MAX)),
        }
    }

    /// So much of what was read lies in a queue of the guest.
    pub(crate) fn note_unread(&mut self, bytes: u64) {
        self.unread = bytes;
    }

    /// Tells the peer when it may send much more than it knows.
    fn update_window(&mut self) {
        let open = self.base.is_some() && self.fin.is_none();
        if open && self.wish() - self.next >= 2 * self.edge.saturating_sub(self.next).max(1) {
            self.acks.now();
        }
    }

    /// Notes a round trip that the peer's timestamps tell of.
    pub(crate) fn note_round_trip(&mut self, took: Duration, length: usize) {
        if length as u64 >= self.acks.mss() {
            self.space.note_round_trip(took);
        }
    }

    /// Whether an acknowledgement is to be sent at a time.
    pub(crate) fn owes(&self, at: Instant) -> bool {
        self.base.is_some() && self.acks.owes(at)
    }

    /// When one is.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.acks.due()
    }

    /// Whether it has something to tell that data cannot carry.
    pub(crate) fn reports(&self) -> bool {
        self.islands.has_twice() || !self.islands.is_empty()
    }

    /// The blocks for an acknowledgement that is sent now (RFC 2018).
    pub(crate) fn blocks(&mut self, most: usize) -> impl Iterator<Item = Block> {
        let base = self.base.unwrap_or(0);
        let number = move |position: u64| base.wrapping_add(low(position));
        self.islands.report(most).map(move |(start, end)| (number(start), number(end)))
    }

    /// The window for a segment that is sent now, as it stands there.
    pub(crate) fn tell(&mut self) -> u16 {
        self.acks.sent(self.next);
        let wish = self.wish();
        let room = wish.max(self.edge) - self.next;
        let told = (room >> self.shift).min(u16::MAX.into());
        // What was promised once is not taken back, not even in part.
        let least = self.edge.saturating_sub(self.next).div_ceil(1 << self.shift);
        let told = told.max(least.min(u16::MAX.into()));
        self.edge = self.edge.max(self.next + (told << self.shift));
        u16::try_from(told).unwrap_or(u16::MAX)
    }

    /// The edge that the free space allows; it moves by whole segments (RFC 9293, 3.8.6.2.2).
    fn wish(&self) -> u64 {
        let free = self.space.size(Pressure::now()).saturating_sub(self.next - self.read);
        let wish = self.next + free;
        let enough = self.acks.mss().min(self.size() / 2);
        if wish >= self.edge + enough { wish } else { self.edge.max(self.next) }
    }

    fn held(&self) -> u64 {
        self.next - self.read + self.islands.bytes()
    }

    fn number(&self, position: u64) -> u32 {
        self.base.unwrap_or(0).wrapping_add(low(position))
    }
}

fn low(position: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
    let low = position as u32;
    low
}
