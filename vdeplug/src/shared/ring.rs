//! [`Producer`] and [`Consumer`]: the two ends of a queue of frames in shared memory.
//!
//! # Layout
//! A ring is a page of header and [`DATA`] words of records. A record is one word (length of the
//! frame in bits 0-31, size of segments in 32-47, [`PENDING`] in 48) and the bytes of the frame,
//! filled up to whole words. Positions count words from the beginning of time and never wrap.
//!
//! # Trust
//! Either end may be hostile: each keeps its own position in memory of its own, reads that of the
//! other once, and believes no more than that it lies within the ring ([`Broken`] otherwise). A
//! record is read once, word by word, so that it may be nonsense but never change its length.
//!
//! # Sleep
//! Who finds nothing to take says so before it looks a last time ([`Consumer::sleep`]), and who
//! has put something looks for that word afterwards ([`Producer::publish`]); room is waited for
//! alike ([`Producer::want_room`], [`Consumer::release`]). So one of both always sees the other,
//! and wake-ups are needed only from awake to asleep.

use std::{
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering, fence},
    },
};

use crate::{
    frame::{Frame, Offload},
    shared::memory::Memory,
};

/// Words of records in a ring: 256 KiB.
const DATA: usize = 1 << 15;
/// Words before them.
const HEADER: usize = 512;
/// Words of a ring.
pub(crate) const RING: usize = HEADER + DATA;
// Where in the header, each in cache lines of its own: what has been put, what has been taken,
// whether the consumer sleeps, whether the producer waits for room.
const TAIL: usize = 0;
const HEAD: usize = 16;
const ASLEEP: usize = 32;
const STUCK: usize = 48;
/// The bit of a record's first word that says that a checksum is still to be computed.
const PENDING: u64 = 1 << 48;
const WORD: usize = size_of::<u64>();
/// How many segments may be left to be cut: each costs whoever cuts it.
const MOST_SEGMENTS: usize = 128;

/// The other end does what no honest one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

/// Whether a frame has a valid length, and asks for no more work than its bytes are worth: else it
/// must be completed before it is put.
pub(crate) fn is_modest(frame: &Frame) -> bool {
    let size = frame.offload.segment_size.map_or(crate::MAX_OFFLOADED, |size| size.get().into());
    frame.has_valid_length() && frame.bytes.len() / size <= MOST_SEGMENTS
}

/// One ring of a memory.
#[derive(Debug)]
struct Ring {
    memory: Arc<Memory>,
    base: usize,
}

impl Ring {
    fn word(&self, at: usize) -> &AtomicU64 {
        &self.memory.words()[self.base + at]
    }

    /// The words from `position` on: until the end of the ring, at least one, and from its beginning.
    fn data(&self, position: u64) -> (&[AtomicU64], &[AtomicU64]) {
        let data = &self.memory.words()[self.base + HEADER..self.base + RING];
        let (before, after) = data.split_at(place(position));
        (after, before)
    }
}

/// Where in the ring a position is.
fn place(position: u64) -> usize {
    usize::try_from(position % words(DATA)).unwrap_or(0)
}

fn words(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The end that puts frames.
#[derive(Debug)]
pub(crate) struct Producer {
    ring: Ring,
    tail: u64,
    /// As it was seen last.
    head: u64,
}

impl Producer {
    /// Takes over an end of ring `number`, which nobody has used.
    pub(crate) fn new(memory: Arc<Memory>, number: usize) -> Self {
        Self { ring: Ring { memory, base: number * RING }, tail: 0, head: 0 }
    }

    /// Puts a [modest](is_modest) frame; false: there is no room. The consumer sees it once it is
    /// published.
    pub(crate) fn put(&mut self, frame: &Frame) -> Result<bool, Broken> {
        let length = 1 + frame.bytes.len().div_ceil(WORD);
        if self.room() < length {
            let head = self.ring.word(HEAD).load(Ordering::Acquire);
            if head.wrapping_sub(self.head) > self.tail.wrapping_sub(self.head) {
                return Err(Broken);
            }
            self.head = head;
            if self.room() < length {
                return Ok(false);
            }
        }
        let (first, second) = self.ring.data(self.tail);
        first[0].store(first_word(frame), Ordering::Relaxed);
        let split = (first.len() - 1).min(length - 1) * WORD;
        let (low, high) = frame.bytes.split_at(split.min(frame.bytes.len()));
        write(&first[1..], low);
        write(second, high);
        self.tail = self.tail.wrapping_add(words(length));
        Ok(true)
    }

    fn room(&self) -> usize {
        DATA.saturating_sub(usize::try_from(self.tail.wrapping_sub(self.head)).unwrap_or(DATA))
    }

    /// Shows what was put; returns whether the consumer must be woken.
    pub(crate) fn publish(&self) -> bool {
        self.ring.word(TAIL).store(self.tail, Ordering::Release);
        fence(Ordering::SeqCst);
        clear(self.ring.word(ASLEEP))
    }

    /// Asks to be woken when there is room. What did not fit must be tried once more after that.
    pub(crate) fn want_room(&self) {
        self.ring.word(STUCK).store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
}

fn first_word(frame: &Frame) -> u64 {
    let segment = frame.offload.segment_size.map_or(0, NonZeroU16::get);
    let pending = if frame.offload.checksum_pending { PENDING } else { 0 };
    words(frame.bytes.len()) | u64::from(segment) << 32 | pending
}

fn write(cells: &[AtomicU64], bytes: &[u8]) {
    let (whole, rest) = bytes.as_chunks::<WORD>();
    for (cell, word) in cells.iter().zip(whole) {
        cell.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
    }
    if !rest.is_empty()
        && let Some(cell) = cells.get(whole.len())
    {
        let mut word = [0; WORD];
        word[..rest.len()].copy_from_slice(rest);
        cell.store(u64::from_ne_bytes(word), Ordering::Relaxed);
    }
}

/// Whether the flag was up; it is down afterwards.
fn clear(flag: &AtomicU64) -> bool {
    flag.load(Ordering::Relaxed) != 0 && flag.swap(0, Ordering::SeqCst) != 0
}

/// The end that takes frames.
#[derive(Debug)]
pub(crate) struct Consumer {
    ring: Ring,
    head: u64,
    /// As it was seen last.
    tail: u64,
}

impl Consumer {
    /// Takes over an end of ring `number`, which nobody has used, and sleeps.
    pub(crate) fn new(memory: Arc<Memory>, number: usize) -> Self {
        let ring = Ring { memory, base: number * RING };
        ring.word(ASLEEP).store(1, Ordering::SeqCst);
        Self { ring, head: 0, tail: 0 }
    }

    /// Takes a frame, if there is one, into a buffer that `storage` has for so many bytes.
    pub(crate) fn take(&mut self, storage: fn(usize) -> Vec<u8>) -> Result<Option<Frame>, Broken> {
        if self.head == self.tail {
            self.tail = self.ring.word(TAIL).load(Ordering::Acquire);
        }
        let waiting = self.tail.wrapping_sub(self.head);
        if waiting == 0 {
            return Ok(None);
        }
        if waiting > words(DATA) {
            return Err(Broken);
        }
        let (first, second) = self.ring.data(self.head);
        let (mut frame, bytes) = frame_of(first[0].load(Ordering::Relaxed)).ok_or(Broken)?;
        let length = bytes.div_ceil(WORD);
        if words(length) + 1 > waiting {
            return Err(Broken);
        }
        frame.bytes = storage(length * WORD);
        frame.bytes.resize(length * WORD, 0);
        let split = (first.len() - 1).min(length);
        let (low, high) = frame.bytes.split_at_mut(split * WORD);
        read(&first[1..], low);
        read(second, high);
        frame.bytes.truncate(bytes);
        self.head = self.head.wrapping_add(words(length) + 1);
        if is_modest(&frame) { Ok(Some(frame)) } else { Err(Broken) }
    }

    /// Gives back the room of what was taken; returns whether the producer must be woken, which
    /// it is when half of the ring is empty.
    pub(crate) fn release(&self) -> bool {
        self.ring.word(HEAD).store(self.head, Ordering::Release);
        fence(Ordering::SeqCst);
        self.tail.wrapping_sub(self.head) <= words(DATA / 2) && clear(self.ring.word(STUCK))
    }

    /// Says that the producer must wake us, and looks a last time: whether there is something to
    /// take.
    pub(crate) fn sleep(&mut self) -> bool {
        self.ring.word(ASLEEP).store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.tail = self.ring.word(TAIL).load(Ordering::Acquire);
        self.tail != self.head
    }

    /// Whether the producer has woken us, or is about to, since we last said that it must.
    pub(crate) fn is_awake(&self) -> bool {
        self.ring.word(ASLEEP).load(Ordering::Relaxed) == 0
    }
}

/// An empty frame with the offload that a first word tells, and the length of its bytes.
fn frame_of(word: u64) -> Option<(Frame, usize)> {
    let [a, b, c, d, e, f, flags @ ..] = word.to_le_bytes();
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
    let offload = Offload {
        checksum_pending: flags == [1, 0],
        segment_size: NonZeroU16::new(u16::from_le_bytes([e, f])),
    };
    let known = flags == [0, 0] || offload.checksum_pending;
    (known && length <= crate::MAX_OFFLOADED)
        .then(|| (Frame { bytes: Vec::new(), offload }, length))
}

fn read(cells: &[AtomicU64], bytes: &mut [u8]) {
    let (whole, _) = bytes.as_chunks_mut::<WORD>();
    for (cell, word) in cells.iter().zip(whole) {
        *word = cell.load(Ordering::Relaxed).to_ne_bytes();
    }
}

#[cfg(any(test, fuzzing))]
impl Consumer {
    /// Plays a producer that writes whatever it likes.
    pub(crate) fn poke(&self, at: usize, value: u64) {
        self.ring.word(at % RING).store(value, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
