//! The bytes that arrived and were not read, in order or not, in chunks that are only held while
//! there is something in them.

use std::collections::VecDeque;

use super::super::memory::{CHUNK, Held, give_chunk, take_chunk};

/// Bytes by their positions.
#[derive(Debug, Default)]
pub(super) struct Store {
    chunks: VecDeque<Option<Box<[u8]>>>,
    /// The position of the first byte of the first chunk.
    start: u64,
    held: Held,
}

impl Store {
    /// Keeps bytes that begin at a position; `total` are held then.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8], total: u64) {
        let mut place = self.place(at);
        let mut left = bytes;
        while !left.is_empty() {
            let (index, from) = (place / CHUNK, place % CHUNK);
            if index >= self.chunks.len() {
                self.chunks.resize_with(index + 1, || None);
            }
            let chunk = self.chunks[index].get_or_insert_with(take_chunk);
            let count = left.len().min(CHUNK - from);
            let (now, later) = left.split_at(count);
            chunk[from..from + count].copy_from_slice(now);
            place += count;
            left = later;
        }
        self.held.set(usize::try_from(total).unwrap_or(usize::MAX));
    }

    /// What was written between two positions, or the first part of it.
    pub(super) fn read(&self, from: u64, to: u64) -> &[u8] {
        let place = self.place(from);
        let length = usize::try_from(to - from).unwrap_or(usize::MAX);
        match self.chunks.get(place / CHUNK) {
            Some(Some(chunk)) => {
                let chunk = &chunk[place % CHUNK..];
                &chunk[..chunk.len().min(length)]
            }
            _ => &[],
        }
    }

    /// Forgets what lies before a position; `total` bytes are left.
    pub(super) fn forget(&mut self, before: u64, total: u64) {
        while let Some(chunk) = self.chunks.front() {
            let passed = self.start + CHUNK as u64 <= before;
            if total > 0 && !passed {
                break;
            }
            if chunk.is_some()
                && let Some(Some(chunk)) = self.chunks.pop_front()
            {
                give_chunk(chunk, self.place(before.max(self.start)).min(CHUNK));
            } else {
                self.chunks.pop_front();
            }
            self.start += CHUNK as u64;
        }
        if self.chunks.is_empty() {
            self.start = before;
        }
        self.held.set(usize::try_from(total).unwrap_or(usize::MAX));
    }

    fn place(&self, at: u64) -> usize {
        usize::try_from(at - self.start).unwrap_or(usize::MAX)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.forget(self.start, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_lie_where_they_were_written() {
        let mut store = Store::default();
        let far = 2 * CHUNK as u64 - 3;
        store.write(far, b"abcdef", 6);
        store.write(0, b"xyz", 9);
        assert_eq!(store.read(0, 3), b"xyz");
        assert_eq!(store.read(far, far + 6), b"abc");
        assert_eq!(store.read(far + 3, far + 6), b"def");
        assert_eq!(store.chunks.iter().filter(|chunk| chunk.is_some()).count(), 3);
        store.forget(far + 2, 4);
        assert_eq!((store.chunks.len(), store.read(far + 2, far + 6)), (2, b"c".as_slice()));
        store.forget(far + 6, 0);
        assert!(store.chunks.is_empty());
        store.write(far + 6, b"g", 1);
        assert_eq!(store.read(far + 6, far + 7), b"g");
    }
}
