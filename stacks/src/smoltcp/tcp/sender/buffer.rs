//! The bytes that wait to be sent or acknowledged, in chunks that are only held while they are
//! needed: a connection may be allowed much and use little.

use std::{collections::VecDeque, io};

use super::super::memory::{CHUNK, Held, give_chunk, take_chunk};

/// A queue of bytes that can be read at any place.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    chunks: VecDeque<Box<[u8]>>,
    /// Bytes of the first chunk that are gone.
    head: usize,
    length: usize,
    held: Held,
}

impl Buffer {
    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Offers `fill` a place of at most `most` bytes and keeps what it wrote; returns how many
    /// bytes it wrote and was offered.
    pub(super) fn fill(
        &mut self,
        most: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> (io::Result<usize>, usize) {
        if most == 0 {
            return (Ok(0), 0);
        }
        let tail = self.head + self.length;
        let (index, at) = (tail / CHUNK, tail % CHUNK);
        if index == self.chunks.len() {
            self.chunks.push_back(take_chunk());
        }
        let room = &mut self.chunks[index][at..];
        let offered = most.min(room.len());
        let written = fill(&mut room[..offered]).map(|count| count.min(offered));
        self.length += *written.as_ref().unwrap_or(&0);
        if self.length == 0 {
            self.drop_front(0);
        }
        self.held.set(self.length);
        (written, offered)
    }

    /// Copies bytes from `at` on; there are enough.
    pub(super) fn read(&self, at: usize, out: &mut [u8]) {
        let mut place = self.head + at;
        let mut left = out;
        while !left.is_empty() {
            let chunk = &self.chunks[place / CHUNK][place % CHUNK..];
            let count = chunk.len().min(left.len());
            let (now, later) = left.split_at_mut(count);
            now.copy_from_slice(&chunk[..count]);
            place += count;
            left = later;
        }
    }

    /// Forgets the first bytes.
    pub(super) fn drop_front(&mut self, count: usize) {
        self.head += count;
        self.length -= count;
        while self.head >= CHUNK || (self.length == 0 && !self.chunks.is_empty()) {
            let Some(chunk) = self.chunks.pop_front() else { break };
            let used = self.head.min(CHUNK);
            self.head = if self.length == 0 { 0 } else { self.head - CHUNK };
            give_chunk(chunk, used);
        }
        self.held.set(self.length);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.drop_front(self.length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let mut buffer = Buffer::default();
        let (mut written, mut read) = (0u64, 0u64);
        for round in 1..40usize {
            for _ in 0..3 {
                let (result, offered) = buffer.fill(round * 9000, &mut |room| {
                    for byte in room.iter_mut() {
                        *byte = written.to_le_bytes()[0] ^ written.to_le_bytes()[2];
                        written += 1;
                    }
                    Ok(room.len())
                });
                assert_eq!(result.expect("no error"), offered);
            }
            let mut out = vec![0; buffer.len().min(round * 20_000)];
            let ahead = buffer.len() - out.len();
            buffer.read(ahead, &mut out);
            buffer.read(0, &mut out);
            for byte in &out {
                assert_eq!(*byte, read.to_le_bytes()[0] ^ read.to_le_bytes()[2]);
                read += 1;
            }
            buffer.drop_front(out.len());
        }
        assert_eq!(written - read, buffer.len() as u64);
        let (failed, _) = buffer.fill(1, &mut |_| Err(io::ErrorKind::WouldBlock.into()));
        assert!(failed.is_err());
        buffer.drop_front(buffer.len());
        assert!(buffer.chunks.is_empty() && buffer.head == 0);
    }
}
