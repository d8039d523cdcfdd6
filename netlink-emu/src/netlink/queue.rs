//! What a netlink socket holds for its reader: a bounded queue and at most one dump.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::message::Dump;

/// A datagram for the reader.
#[derive(Debug, Clone)]
pub(super) struct Queued {
    pub(super) data: Vec<u8>,
    /// The multicast group it came by, 0 for none.
    pub(super) group: u32,
}

/// Datagrams, bounded in bytes as `SO_RCVBUF` bounds the kernel's, and together with the queues of
/// all sockets of the stack.
#[derive(Default)]
pub(super) struct Queue {
    datagrams: VecDeque<Queued>,
    bytes: usize,
    /// The bytes of all queues.
    all: Arc<AtomicUsize>,
    dump: Option<Dump>,
    overrun: bool,
}

/// What a datagram costs beside its bytes.
const OVERHEAD: usize = 256;
/// What all queues of a stack may hold.
const MOST: usize = 64 << 20;

impl Queue {
    /// An empty queue; `all` counts the bytes of this and others.
    pub(super) fn new(all: Arc<AtomicUsize>) -> Self {
        Self { datagrams: VecDeque::new(), bytes: 0, all, dump: None, overrun: false }
    }

    /// Queues a datagram; one that does not fit is lost, and the reader learns of it (`ENOBUFS`).
    pub(super) fn push(&mut self, datagram: Queued, limit: usize) {
        let cost = datagram.data.len() + OVERHEAD;
        let full = self.bytes + cost > limit || self.all.load(Ordering::Relaxed) + cost > MOST;
        if !self.datagrams.is_empty() && full {
            self.overrun = true;
            return;
        }
        self.bytes += cost;
        self.all.fetch_add(cost, Ordering::Relaxed);
        self.datagrams.push_back(datagram);
    }

    /// Starts a dump; false when one is still running.
    pub(super) fn start(&mut self, dump: Dump) -> bool {
        if self.dump.is_some() {
            return false;
        }
        self.dump = Some(dump);
        true
    }

    /// Takes the next datagram: queued ones first, then a part of the dump.
    pub(super) fn pop(&mut self) -> Option<Queued> {
        if let Some(datagram) = self.datagrams.pop_front() {
            let cost = datagram.data.len() + OVERHEAD;
            self.bytes -= cost;
            self.all.fetch_sub(cost, Ordering::Relaxed);
            return Some(datagram);
        }
        let (data, last) = self.dump.as_mut()?.next_part();
        if last {
            self.dump = None;
        }
        Some(Queued { data, group: 0 })
    }

    /// Whether datagrams were lost since the last look.
    pub(super) fn take_overrun(&mut self) -> bool {
        std::mem::take(&mut self.overrun)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(Arc::clone(&self.all));
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overrun_is_told_once() {
        let mut queue = Queue::default();
        for _ in 0..10 {
            queue.push(Queued { data: vec![0; 100], group: 1 }, 1000);
        }
        assert!(queue.take_overrun());
        assert!(!queue.take_overrun());
        assert_eq!(std::iter::from_fn(|| queue.pop()).count(), 2);
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn all_queues_together_are_bounded() {
        let all = Arc::new(AtomicUsize::new(0));
        let mut queues: Vec<Queue> = (0..10).map(|_| Queue::new(Arc::clone(&all))).collect();
        for queue in &mut queues {
            for _ in 0..100 {
                queue.push(Queued { data: vec![0; 1 << 20], group: 0 }, 1 << 30);
            }
        }
        assert!(all.load(Ordering::Relaxed) < MOST + (11 << 20));
        assert!(queues.iter().all(|queue| !queue.datagrams.is_empty()));
        queues.pop();
        queues.iter_mut().for_each(Queue::clear);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }
}
