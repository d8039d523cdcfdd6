//! How much the buffers of all connections of the process may hold (in Linux tcp_mem, tcp(7)).
//!
//! A buffer is made of chunks that are only held while they are needed. Up to [`PLENTY`] every
//! connection gets the buffers that its options ask for; beyond, small ones; beyond [`FULL`] what
//! arrives is dropped, as if it were lost. So a guest that opens connections without end makes its
//! own slow and nobody's memory full.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Bytes in all buffers from which on buffers are small.
const PLENTY: usize = 1 << 30;
/// Bytes from which on nothing more is taken in.
const FULL: usize = PLENTY + PLENTY / 2;
/// Bytes of a small buffer.
pub(crate) const SMALL: usize = 16 * 1024;
/// Bytes are counted by so many.
const GRAIN: usize = 16 * 1024;

static HELD: AtomicUsize = AtomicUsize::new(0);

/// How near the end of the memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// There is plenty.
    None,
    /// Buffers are small.
    High,
    /// Nothing more is taken in.
    Full,
}

impl Pressure {
    /// How it is now.
    pub(crate) fn now() -> Self {
        Self::at(HELD.load(Ordering::Relaxed))
    }

    fn at(held: usize) -> Self {
        match held {
            ..PLENTY => Self::None,
            PLENTY..FULL => Self::High,
            FULL.. => Self::Full,
        }
    }

    /// How large a buffer may be that would be of this size.
    pub(crate) fn bound(self, size: usize) -> usize {
        if self == Self::None { size } else { size.min(SMALL) }
    }
}

/// The bytes of one buffer, counted until it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Held(usize);

impl Held {
    /// Notes how many bytes there are now.
    pub(crate) fn set(&mut self, bytes: usize) {
        let size = bytes.div_ceil(GRAIN) * GRAIN;
        if size > self.0 {
            HELD.fetch_add(size - self.0, Ordering::Relaxed);
        } else if size < self.0 {
            HELD.fetch_sub(self.0 - size, Ordering::Relaxed);
        }
        self.0 = size;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Bytes of a chunk: what one read of a guest's socket brings. The kernel zeroes it page by page
/// as it is used.
pub(crate) const CHUNK: usize = 128 * 1024;
/// Chunks that the process keeps for the next buffer, when it gets one back of which little was used:
/// such a one takes little memory. A hundred connections that have a little under way at once are many,
/// and to unmap a chunk and map another one takes longer than all else that is done for a request.
const SPARES: usize = 256;
/// The same when it gets one back that was used: 8 MiB.
const USED_SPARES: usize = 64;

static SPARE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// A chunk, of whatever content.
pub(crate) fn take_chunk() -> Box<[u8]> {
    SPARE.lock().pop().unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice())
}

/// Gives one back of which so many bytes were used.
pub(crate) fn give_chunk(chunk: Box<[u8]>, used: usize) {
    let mut spare = SPARE.lock();
    if spare.len() < if used < CHUNK / 2 { SPARES } else { USED_SPARES } {
        spare.push(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_a_hundred_connections_are_kept() {
        let chunks: Vec<_> = (0..200).map(|_| take_chunk()).collect();
        chunks.into_iter().for_each(|chunk| give_chunk(chunk, 100));
        // Other tests take some of them.
        assert!(SPARE.lock().len() >= 100);
        let before = SPARE.lock().len();
        (0..200).for_each(|_| give_chunk(vec![0; CHUNK].into_boxed_slice(), CHUNK));
        assert!(SPARE.lock().len() < before + USED_SPARES);
    }

    #[test]
    fn buffers_are_small_when_too_much_is_held() {
        assert_eq!(Pressure::at(PLENTY - 1).bound(1 << 20), 1 << 20);
        assert_eq!(Pressure::at(PLENTY).bound(1 << 20), SMALL);
        assert_eq!(Pressure::at(PLENTY).bound(100), 100);
        assert_eq!(Pressure::at(FULL), Pressure::Full);
    }
}
