//! [`Port`]: where a switch delivers, inside this process or outside.
//!
//! A plug of this process has an [`Inbox`], a bounded queue with its own lock; a client process
//! has an [`Outlet`], or a [`Line`] if it is one of ours, written by whichever thread forwards.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::{
    batch,
    frame::Frame,
    outlet::Outlet,
    shared::Line,
    transport::{Drops, Waker, WakerSlot},
};

/// How many frames wait for a plug that does not look.
const LONGEST_QUEUE: usize = 4096;
/// How many bytes of them.
const LARGEST_QUEUE: usize = 32 << 20;

/// One port of a switch.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) drops: Drops,
    side: Side,
}

#[derive(Debug)]
enum Side {
    Local(Inbox),
    Remote(Outlet),
    Shared(Line),
}

/// The frames that wait for a plug of this process.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    waker: WakerSlot,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
}

impl Port {
    /// Makes the port of a plug in this process.
    pub(crate) fn local() -> Self {
        Self { drops: Drops::default(), side: Side::Local(Inbox::default()) }
    }

    /// Makes the port of a client in another process.
    pub(crate) fn remote(outlet: Outlet) -> Self {
        Self { drops: Drops::default(), side: Side::Remote(outlet) }
    }

    /// Makes the port of a client in another process that shares memory with us.
    pub(crate) fn shared(line: Line) -> Self {
        Self { drops: Drops::default(), side: Side::Shared(line) }
    }

    /// Delivers frames; returns the waker to call when no lock is held any more.
    pub(crate) fn deliver(&self, frames: impl Iterator<Item = Frame>) -> Option<Waker> {
        match &self.side {
            Side::Local(inbox) => inbox.push(frames, &self.drops),
            Side::Remote(outlet) => {
                let packets = batch::wire_ready(&mut frames.collect(), &self.drops);
                outlet.send(packets, &self.drops);
                None
            }
            Side::Shared(line) => {
                line.send(frames, &self.drops);
                None
            }
        }
    }

    pub(crate) fn inbox(&self) -> Option<&Inbox> {
        match &self.side {
            Side::Local(inbox) => Some(inbox),
            Side::Remote(_) | Side::Shared(_) => None,
        }
    }

    pub(crate) fn outlet(&self) -> Option<&Outlet> {
        match &self.side {
            Side::Local(_) | Side::Shared(_) => None,
            Side::Remote(outlet) => Some(outlet),
        }
    }

    pub(crate) fn line(&self) -> Option<&Line> {
        match &self.side {
            Side::Local(_) | Side::Remote(_) => None,
            Side::Shared(line) => Some(line),
        }
    }
}

impl Inbox {
    fn push(&self, frames: impl Iterator<Item = Frame>, drops: &Drops) -> Option<Waker> {
        let mut guard = self.queue.lock();
        let queue = &mut *guard;
        let was_empty = queue.frames.is_empty();
        for frame in frames {
            if queue.frames.len() < LONGEST_QUEUE && queue.bytes < LARGEST_QUEUE {
                queue.bytes += frame.bytes.len();
                queue.frames.push_back(frame);
            } else {
                drops.add(1);
            }
        }
        let woken = was_empty && !queue.frames.is_empty();
        drop(guard);
        if woken { self.waker.get() } else { None }
    }

    /// Moves up to `budget` frames into `into`; returns how many.
    pub(crate) fn take(&self, into: &mut VecDeque<Frame>, budget: usize) -> usize {
        let mut guard = self.queue.lock();
        let queue = &mut *guard;
        let count = queue.frames.len().min(budget);
        if count == queue.frames.len() {
            queue.bytes = 0;
            if into.is_empty() {
                std::mem::swap(into, &mut queue.frames);
            } else {
                into.append(&mut queue.frames);
            }
        } else {
            for frame in queue.frames.drain(..count) {
                queue.bytes -= frame.bytes.len();
                into.push_back(frame);
            }
        }
        count
    }

    /// Installs the waker, and calls it if frames came before it.
    pub(crate) fn set_waker(&self, waker: Waker) {
        self.waker.set(waker);
        if !self.queue.lock().frames.is_empty() {
            self.waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    fn frames(count: usize) -> impl Iterator<Item = Frame> {
        (0..count).map(|_| Frame::from(vec![0; 60]))
    }

    #[test]
    fn the_queue_is_bounded_and_counts_what_it_drops() {
        let port = Port::local();
        port.deliver(frames(LONGEST_QUEUE + 3));
        assert_eq!(port.drops.get(), 3);
        let mut into = VecDeque::new();
        assert_eq!(port.inbox().expect("local").take(&mut into, 10), 10);
        assert_eq!(port.inbox().expect("local").take(&mut into, usize::MAX), LONGEST_QUEUE - 10);
        assert_eq!(into.len(), LONGEST_QUEUE);
    }

    #[test]
    fn only_the_first_frame_wakes() {
        let port = Port::local();
        let inbox = port.inbox().expect("local");
        let woken = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&woken);
        port.deliver(frames(1));
        inbox.set_waker(Arc::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        assert_eq!(woken.load(Ordering::Relaxed), 1, "a frame waited already");
        assert!(port.deliver(frames(1)).is_none());
        inbox.take(&mut VecDeque::new(), 5);
        assert!(port.deliver(frames(1)).is_some());
        assert!(port.deliver(frames(0)).is_none());
    }
}
