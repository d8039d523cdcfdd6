//! Frames through shared memory, between a plug and a switch of this library.
//!
//! A client that can do it marks its request (`vde/wire.rs`) with bytes that no other switch
//! reads; a switch that can do it answers with a descriptor of [`Memory`](memory::Memory), which no other sends.
//! Then frames pass through two rings in it (`ring.rs`). The sockets stay: the stream is the
//! connection, and a datagram of one byte wakes the other end up. (An eventfd would be one object
//! in two processes, and one of them could make the other block on it.)
//!
//! Locks of a [`Line`]: that of what comes in, then that of what goes out.

pub(crate) mod memory;
pub(crate) mod ring;

use std::{
    collections::VecDeque,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollEvent, EpollFlags},
        socket::{MsgFlags, recv, send},
    },
};
use parking_lot::Mutex;

use self::{
    memory::Memory,
    ring::{Broken, Consumer, Producer, RING, is_modest},
};
use crate::{batch, frame::Frame, intake, transport::Drops};

/// Words that a connection needs.
pub(crate) const WORDS: usize = 2 * RING;
/// How many frames may wait for a slow peer, and how many bytes of them.
const LONGEST_BACKLOG: usize = 1024;
const LARGEST_BACKLOG: usize = 8 << 20;
/// Wake-ups that are read at once: more than one or two are not honest.
const MOST_KICKS: usize = 16;

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Switch,
    Client,
}

/// One end of a connection through shared memory.
#[derive(Debug)]
pub(crate) struct Line {
    socket: OwnedFd,
    epoll: Arc<Epoll>,
    outward: Mutex<Outward>,
    inward: Mutex<Consumer>,
    storage: fn(usize) -> Vec<u8>,
    broken: AtomicBool,
}

#[derive(Debug)]
struct Outward {
    producer: Producer,
    backlog: VecDeque<Frame>,
    bytes: usize,
}

impl Line {
    /// Registers `socket`, where wake-ups come, for input in `epoll` under `token`.
    pub(crate) fn new(
        socket: OwnedFd,
        (epoll, token): (Arc<Epoll>, u64),
        memory: Arc<Memory>,
        end: End,
    ) -> nix::Result<Self> {
        epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        // Who passes frames on at once has buffers at hand, who keeps them wants no large ones.
        let (out, storage): (_, fn(usize) -> Vec<u8>) = match end {
            End::Switch => (0, intake::spare),
            End::Client => (1, Vec::with_capacity),
        };
        let producer = Producer::new(Arc::clone(&memory), out);
        let outward = Outward { producer, backlog: VecDeque::new(), bytes: 0 };
        Ok(Self {
            socket,
            epoll,
            outward: Mutex::new(outward),
            inward: Mutex::new(Consumer::new(memory, 1 - out)),
            storage,
            broken: AtomicBool::new(false),
        })
    }

    /// How many frames wait.
    pub(crate) fn backlog(&self) -> usize {
        self.outward.lock().backlog.len()
    }

    /// Sends frames, or keeps them for [`Self::flush`]; beyond the backlog they are dropped.
    pub(crate) fn send(&self, frames: impl Iterator<Item = Frame>, drops: &Drops) {
        let mut outward = self.outward.lock();
        self.drain(&mut outward);
        for frame in frames {
            if is_modest(&frame) {
                self.put_or_keep(&mut outward, frame, drops);
            } else {
                let parts = batch::wire_ready(&mut vec![frame], drops).into_iter();
                parts.for_each(|part| self.put_or_keep(&mut outward, part.into(), drops));
            }
        }
        self.publish(&outward.producer);
    }

    fn put_or_keep(&self, outward: &mut Outward, frame: Frame, drops: &Drops) {
        if outward.backlog.is_empty() && self.put(&mut outward.producer, &frame) {
            intake::give(frame.bytes);
        } else {
            outward.keep(frame, drops);
        }
    }

    /// Sends what waits, as far as there is room.
    pub(crate) fn flush(&self) {
        let mut outward = self.outward.lock();
        if !outward.backlog.is_empty() {
            self.drain(&mut outward);
            self.publish(&outward.producer);
        }
    }

    /// Passes up to `budget` frames to `each`; returns how many. Sends what waits, since room may
    /// be what woke the owner. If the budget is used up, nothing will tell of what is left.
    pub(crate) fn receive(
        &self,
        budget: usize,
        each: &mut dyn FnMut(Frame),
    ) -> Result<usize, Broken> {
        self.flush();
        if self.broken.load(Ordering::Relaxed) {
            return Err(Broken);
        }
        let mut consumer = self.inward.lock();
        let mut count = 0;
        loop {
            let taken = self.take(&mut consumer, budget - count, each);
            if consumer.release() {
                self.kick();
            }
            count += taken?;
            if count == budget {
                return Ok(count);
            }
            // A wake-up that comes after the last look, at either ring, must stay.
            if count == 0 || consumer.is_awake() {
                self.heed().map_err(|_| Broken)?;
                self.flush();
            }
            if !consumer.sleep() {
                return Ok(count);
            }
        }
    }

    fn take(
        &self,
        consumer: &mut Consumer,
        budget: usize,
        each: &mut dyn FnMut(Frame),
    ) -> Result<usize, Broken> {
        for count in 0..budget {
            match consumer.take(self.storage)? {
                Some(frame) => each(frame),
                None => return Ok(count),
            }
        }
        Ok(budget)
    }

    fn drain(&self, outward: &mut Outward) {
        while let Some(frame) = outward.backlog.front() {
            if !self.put(&mut outward.producer, frame) {
                return;
            }
            outward.bytes -= frame.bytes.len();
            outward.backlog.pop_front();
        }
    }

    /// Puts a frame; false: there is no room, and there will be a wake-up when there is.
    fn put(&self, producer: &mut Producer, frame: &Frame) -> bool {
        let mut put = producer.put(frame);
        if put == Ok(false) {
            self.publish(producer);
            producer.want_room();
            put = producer.put(frame);
        }
        if put == Err(Broken) {
            self.broken.store(true, Ordering::Relaxed);
        }
        put == Ok(true)
    }

    fn publish(&self, producer: &Producer) {
        if producer.publish() {
            self.kick();
        }
    }

    /// Wakes the other end. If its socket is full, it has been woken.
    fn kick(&self) {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let _ = send(self.socket.as_raw_fd(), &[0], flags);
    }

    /// Reads wake-ups.
    fn heed(&self) -> nix::Result<()> {
        for _ in 0..MOST_KICKS {
            match recv(self.socket.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT) {
                // A connection that ended reads as empty datagrams without end.
                Err(Errno::EAGAIN) | Ok(0) => break,
                Err(Errno::EINTR) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Outward {
    fn keep(&mut self, frame: Frame, drops: &Drops) {
        if self.backlog.len() < LONGEST_BACKLOG && self.bytes < LARGEST_BACKLOG {
            self.bytes += frame.bytes.len();
            let Frame { bytes, offload } = frame;
            self.backlog.push_back(Frame { bytes: intake::keep(bytes), offload });
        } else {
            drops.add(1);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // The descriptor would leave the instance when closed, unless a child shares it.
        let _ = self.epoll.delete(self.socket.as_fd());
    }
}

#[cfg(test)]
mod tests;
