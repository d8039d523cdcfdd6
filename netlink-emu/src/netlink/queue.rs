//! What a netlink socket holds for its reader: a bounded queue and at most one dump.

use std::collections::VecDeque;

use super::message::Dump;

/// A datagram for the reader.
#[derive(Debug, Clone)]
pub(super) struct Queued {
    pub(super) data: Vec<u8>,
    /// The multicast group it came by, 0 for none.
    pub(super) group: u32,
}

/// Datagrams, bounded in bytes as `SO_RCVBUF` bounds the kernel's.
#[derive(Default)]
pub(super) struct Queue {
    datagrams: VecDeque<Queued>,
    bytes: usize,
    dump: Option<Dump>,
    overrun: bool,
}

/// What a datagram costs beside its bytes.
const OVERHEAD: usize = 256;

impl Queue {
    /// Queues a datagram; one that does not fit is lost, and the reader learns of it (`ENOBUFS`).
    pub(super) fn push(&mut self, datagram: Queued, limit: usize) {
        let cost = datagram.data.len() + OVERHEAD;
        if !self.datagrams.is_empty() && self.bytes + cost > limit {
            self.overrun = true;
            return;
        }
        self.bytes += cost;
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
            self.bytes -= datagram.data.len() + OVERHEAD;
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
        *self = Self::default();
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
}
