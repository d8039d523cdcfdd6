//! Rings of the third version: blocks that frames are packed into.
//!
//! A block becomes the guest's when the next frame does not fit it, or some time after its first
//! frame. When the next block is still the guest's, frames are lost until it is not.

use std::time::Duration;

use smoltcp::time::Instant;
use umvu_abi::Errno;

use super::{
    Arrival, KERNEL, LOSING, Outcome, Request, USER, Version,
    header::{Header, Layout},
};
use crate::ffi::shared::SharedMemory;

/// The header of a block (`struct tpacket_block_desc`), and the place of its status.
const HEADER: usize = 48;
const STATUS: usize = 8;
/// `TP_STATUS_BLK_TMO`: the block was not full when its time had come.
const TIMED_OUT: u32 = 0x20;
/// How long frames wait when the guest has not said so, in milliseconds.
const DEFAULT_WAIT: u32 = 8;

/// A ring of blocks.
#[derive(Debug)]
pub(crate) struct Blocks {
    request: Request,
    memory: SharedMemory,
    /// The block that is being filled, or the one that it waits for.
    current: usize,
    /// None while the ring waits for the guest to give a block back.
    open: Option<Open>,
    /// The number of the next block that is opened.
    sequence: u64,
    is_losing: bool,
    freezes: u32,
}

/// A block that is being filled.
#[derive(Debug, Default)]
struct Open {
    sequence: u64,
    /// Where the next frame goes, and the last one went.
    next: usize,
    last: usize,
    frames: u32,
    first_time: Duration,
    last_time: Duration,
    due: Option<Instant>,
}

impl Blocks {
    pub(super) fn new(request: &Request, now: Duration) -> Result<Self, Errno> {
        let mut blocks = Self {
            request: *request,
            memory: SharedMemory::new(request.size())?,
            current: 0,
            open: None,
            sequence: 1,
            is_losing: false,
            freezes: 0,
        };
        blocks.reopen(now);
        Ok(blocks)
    }

    pub(super) fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    pub(super) fn put(&mut self, arrival: &Arrival<'_>) -> Outcome {
        let Some(layout) = Layout::of(&self.request, arrival.link_header) else {
            return self.lose(Outcome::Lost);
        };
        let longest = self.request.block_size - self.first_frame();
        let start = layout.start.min(longest);
        let layout = Layout { start, ..layout };
        let kept = arrival.bytes.len().min(longest - start);
        let header = Header { arrival, layout, kept };
        let mut outcome = Outcome::Kept;
        if self.open.as_ref().is_some_and(|open| open.next + header.span() >= self.limit(open)) {
            self.close(0);
            outcome = Outcome::Ready;
        }
        if self.open.is_none() && !self.reopen(arrival.time) {
            let ready = outcome == Outcome::Ready;
            self.freezes += u32::from(ready);
            return self.lose(if ready { Outcome::LostButReady } else { Outcome::Lost });
        }
        self.fill(&header);
        outcome
    }

    /// Where frames must end: an empty block takes any frame.
    fn limit(&self, open: &Open) -> usize {
        if open.frames == 0 { usize::MAX } else { self.request.block_size }
    }

    fn lose(&mut self, outcome: Outcome) -> Outcome {
        self.is_losing = true;
        outcome
    }

    fn fill(&mut self, header: &Header<'_>) {
        let base = self.base(self.current);
        let Some(open) = &mut self.open else { return };
        let (at, arrival) = (base + open.next, header.arrival);
        self.memory.write(at, &header.encode(Version::V3));
        self.memory.write(at + header.layout.start, &arrival.bytes[..header.kept]);
        if open.frames == 0 {
            let wait = if self.request.timeout == 0 { DEFAULT_WAIT } else { self.request.timeout };
            let wait = smoltcp::time::Duration::from_millis(u64::from(wait));
            open.due = Some(arrival.now + wait);
        }
        open.last = open.next;
        open.next += header.span();
        open.frames += 1;
        open.last_time = arrival.time;
    }

    /// Opens the current block, if it is ours; tells whether it is.
    fn reopen(&mut self, time: Duration) -> bool {
        if self.memory.load(self.base(self.current) + STATUS) & USER != 0 {
            return false;
        }
        let first = self.first_frame();
        self.open = Some(Open {
            sequence: self.sequence,
            next: first,
            last: first,
            first_time: time,
            last_time: time,
            ..Open::default()
        });
        self.sequence += 1;
        true
    }

    /// Gives the block to the guest and goes on to the next.
    fn close(&mut self, status: u32) {
        let Some(open) = self.open.take() else { return };
        let base = self.base(self.current);
        if open.frames > 0 {
            // The last frame has no next one.
            self.memory.write(base + open.last, &[0; 4]);
        }
        self.memory.write(base, &self.head(&open));
        let losing = if self.is_losing { LOSING } else { 0 };
        self.memory.store(base + STATUS, USER | losing | status);
        self.current = (self.current + 1) % self.request.block_count;
    }

    /// The header of a block that is full; its status is still ours.
    fn head(&self, open: &Open) -> [u8; HEADER] {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let seconds = |time: Duration| u32::try_from(time.as_secs() & 0xffff_ffff).unwrap_or(0);
        let words = [
            u32::try_from(Version::V3.number()).unwrap_or(0),
            number(HEADER),
            KERNEL,
            open.frames,
            number(self.first_frame()),
            number(open.next),
        ];
        let times = [
            seconds(open.first_time),
            open.first_time.subsec_nanos(),
            seconds(open.last_time),
            open.last_time.subsec_nanos(),
        ];
        let mut head = [0; HEADER];
        let (front, back) = head.split_at_mut(24);
        for (room, word) in front.chunks_exact_mut(4).zip(words) {
            room.copy_from_slice(&word.to_ne_bytes());
        }
        back[..8].copy_from_slice(&open.sequence.to_ne_bytes());
        for (room, word) in back[8..].chunks_exact_mut(4).zip(times) {
            room.copy_from_slice(&word.to_ne_bytes());
        }
        head
    }

    fn base(&self, block: usize) -> usize {
        block * self.request.block_size
    }

    /// Where the first frame of a block is.
    fn first_frame(&self) -> usize {
        HEADER + self.request.private.next_multiple_of(8)
    }

    pub(super) fn is_readable(&self) -> bool {
        let count = self.request.block_count;
        let last = (self.current + count - 1) % count;
        self.memory.load(self.base(last) + STATUS) != KERNEL
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.open.as_ref()?.due
    }

    pub(super) fn expire(&mut self, now: Instant, time: Duration) -> bool {
        if self.due().is_none_or(|due| due > now) {
            return false;
        }
        self.close(TIMED_OUT);
        if !self.reopen(time) {
            self.freezes += 1;
        }
        true
    }

    pub(super) fn take_freezes(&mut self) -> u32 {
        self.is_losing = false;
        std::mem::take(&mut self.freezes)
    }
}
