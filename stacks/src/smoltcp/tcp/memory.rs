//! How much the buffers of all connections of the process may hold (in Linux tcp_mem, tcp(7)).
//!
//! Up to [`AMPLE`] a connection of a long path may get a long receive buffer; up to [`PLENTY`] every
//! connection gets the buffers that its options ask for; beyond, small ones, so that a guest that opens connections without end makes its own slow and nobody's memory full.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::flow::Tuning;

/// Bytes of all buffers, up to which new ones may be long.
const AMPLE: usize = 1 << 28;
/// Bytes of a long receive buffer: what a path of 100 ms holds at 300 Mbit/s.
const LONG: usize = 4 << 20;

/// Bytes of all buffers, from which on new ones are small.
const PLENTY: usize = 1 << 30;
/// Bytes of a small buffer.
const SMALL: usize = 16 * 1024;

static HELD: AtomicUsize = AtomicUsize::new(0);

/// The buffers of one connection, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim(usize);

impl Claim {
    /// Counts the buffers of a connection; makes them small when there are too many, and the one
    /// that receives long when its path may be so and its size is not given.
    pub(crate) fn new(mut tuning: Tuning, far: bool) -> (Self, Tuning) {
        if far && tuning.widens && HELD.load(Ordering::Relaxed) + LONG < AMPLE {
            tuning.receive = tuning.receive.max(LONG);
        }
        Self::within(PLENTY, tuning)
    }

    fn within(plenty: usize, mut tuning: Tuning) -> (Self, Tuning) {
        if HELD.load(Ordering::Relaxed) + tuning.receive + tuning.send > plenty {
            tuning.receive = tuning.receive.min(SMALL);
            tuning.send = tuning.send.min(SMALL);
        }
        let size = tuning.receive + tuning.send;
        HELD.fetch_add(size, Ordering::Relaxed);
        (Self(size), tuning)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        HELD.fetch_sub(self.0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smoltcp::sockopt::{Class, Options};

    #[test]
    fn buffers_are_small_when_there_are_too_many() {
        let options = Options::new(Class::Stream, libc::AF_INET, libc::SOCK_STREAM, 6);
        let (_plenty, full) = Claim::new(options.tuning(), false);
        let (_far, long) = Claim::new(options.tuning(), true);
        assert_eq!(long.receive, LONG);
        let (_little, small) = Claim::within(1, options.tuning());
        assert_eq!((full.receive, full.send), (options.tuning().receive, options.tuning().send));
        assert_eq!((small.receive, small.send), (SMALL, SMALL));
    }
}
