//! Requests that take a while, such as one that opens a network: what a thread needs that carries
//! them out. The requests of one socket are answered in their order, as the kernel does.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// How many such requests a stack carries out at a time.
const SEATS: usize = 64;

/// Datagrams that wait for their answers.
#[derive(Debug)]
pub(super) struct Backlog {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Backlog {
    pub(super) fn new(first: Vec<u8>) -> Self {
        Self { bytes: first.len(), waiting: VecDeque::from([first]) }
    }

    pub(super) fn push(&mut self, data: Vec<u8>) {
        self.bytes += data.len();
        self.waiting.push_back(data);
    }

    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        let first = self.waiting.pop_front()?;
        self.bytes -= first.len();
        Some(first)
    }

    /// The bytes that wait.
    pub(super) fn size(&self) -> usize {
        self.bytes
    }
}

/// The right to have a thread at work; it ends with the value.
#[derive(Debug)]
pub(super) struct Seat(Arc<AtomicUsize>);

impl Seat {
    /// Takes one of the seats that `taken` counts; None when all are taken.
    pub(super) fn take(taken: &Arc<AtomicUsize>) -> Option<Self> {
        let seat = Self(Arc::clone(taken));
        (taken.fetch_add(1, Ordering::Relaxed) < SEATS).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_given_back() {
        let taken = Arc::default();
        let seats: Vec<Seat> = std::iter::from_fn(|| Seat::take(&taken)).collect();
        assert_eq!(seats.len(), SEATS);
        assert!(Seat::take(&taken).is_none());
        drop(seats);
        assert!(Seat::take(&taken).is_some());
    }
}
