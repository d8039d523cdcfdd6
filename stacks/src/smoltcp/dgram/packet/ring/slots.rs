//! Rings of the first and the second version: a slot for each frame.

use umvu_abi::Errno;

use super::{
    Arrival, KERNEL, LOSING, Outcome, Request, USER,
    header::{Header, Layout},
};
use crate::ffi::shared::SharedMemory;

/// A ring with a slot for each frame.
#[derive(Debug)]
pub(crate) struct Slots {
    request: Request,
    memory: SharedMemory,
    /// The slot that the next frame goes to.
    head: usize,
    /// Whether frames have been lost since the statistics were asked for.
    pub(super) is_losing: bool,
}

impl Slots {
    pub(super) fn new(request: &Request) -> Result<Self, Errno> {
        let memory = SharedMemory::new(request.size())?;
        Ok(Self { request: *request, memory, head: 0, is_losing: false })
    }

    pub(super) fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    fn count(&self) -> usize {
        self.request.frames_per_block * self.request.block_count
    }

    fn offset(&self, slot: usize) -> usize {
        let (block, within) =
            (slot / self.request.frames_per_block, slot % self.request.frames_per_block);
        block * self.request.block_size + within * self.request.frame_size
    }

    pub(super) fn put(&mut self, arrival: &Arrival<'_>) -> Outcome {
        let at = self.offset(self.head);
        let layout = Layout::of(&self.request, arrival.link_header);
        let Some(layout) = layout.filter(|_| self.memory.load(at) == KERNEL) else {
            self.is_losing = true;
            return Outcome::Lost;
        };
        let room = self.request.frame_size.saturating_sub(layout.start);
        let kept = arrival.bytes.len().min(room);
        let header = Header { arrival, layout, kept };
        self.memory.write(at + 4, &header.encode(self.request.version)[4..]);
        self.memory.write(at + layout.start, &arrival.bytes[..kept]);
        let losing = if self.is_losing { LOSING } else { 0 };
        self.memory.store(at, USER | losing | header.status());
        self.head = (self.head + 1) % self.count();
        Outcome::Ready
    }

    pub(super) fn is_readable(&self) -> bool {
        let count = self.count();
        self.memory.load(self.offset((self.head + count - 1) % count)) != KERNEL
    }
}
