//! [`Filter`]: a network inside another one, each frame of which a [`Codec`] transforms.

use std::{collections::VecDeque, fmt, io, os::fd::BorrowedFd, sync::Arc};

use crate::{
    batch,
    frame::{Frame, is_wire_length},
    transport::{Drops, Transport, Waker},
};

/// What a filter does to a frame; None: it does not pass.
pub(crate) trait Codec: Send + Sync + fmt::Debug {
    /// Transforms a frame on its way to the network.
    fn outward(&self, frame: Vec<u8>) -> Verdict;

    /// Transforms a frame that came from the network.
    fn inward(&self, frame: Vec<u8>) -> Verdict;
}

/// What becomes of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass(Vec<u8>),
    /// It is not for this plug.
    Ignore,
    /// It should have passed, and cannot.
    Drop,
}

/// A plug in the network `inner`, as a codec shows it.
#[derive(Debug)]
pub(crate) struct Filter<C> {
    inner: Arc<dyn Transport>,
    codec: C,
    drops: Drops,
}

impl<C: Codec> Filter<C> {
    pub(crate) fn new(inner: Arc<dyn Transport>, codec: C) -> Self {
        Self { inner, codec, drops: Drops::default() }
    }

    fn admit(&self, verdict: Verdict) -> Option<Frame> {
        match verdict {
            Verdict::Pass(bytes) if is_wire_length(bytes.len()) => Some(Frame::from(bytes)),
            Verdict::Pass(_) | Verdict::Drop => {
                self.drops.add(1);
                None
            }
            Verdict::Ignore => None,
        }
    }
}

impl<C: Codec> Transport for Filter<C> {
    fn send(&self, frames: &mut Vec<Frame>) {
        let packets = batch::wire_ready(frames, &self.drops).into_iter();
        let mut passed =
            packets.filter_map(|bytes| self.admit(self.codec.outward(bytes))).collect();
        self.inner.send(&mut passed);
    }

    fn receive(&self, into: &mut VecDeque<Frame>, budget: usize) -> io::Result<usize> {
        let mut count = 0;
        let mut frames = VecDeque::new();
        // What is filtered out does not count: a result below the budget says that all was read.
        while count < budget {
            let wanted = budget - count;
            let found = match self.inner.receive(&mut frames, wanted) {
                Ok(found) => found,
                // The error shows again.
                Err(_) if count > 0 => break,
                Err(error) => return Err(error),
            };
            // Frames of this process may be unfinished.
            let mut received = frames.drain(..).collect();
            for bytes in batch::wire_ready(&mut received, &self.drops) {
                if let Some(frame) = self.admit(self.codec.inward(bytes)) {
                    into.push_back(frame);
                    count += 1;
                }
            }
            if found < wanted {
                break;
            }
        }
        Ok(count)
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.poll_fd()
    }

    fn set_waker(&self, waker: Waker) {
        self.inner.set_waker(waker);
    }

    fn inner(&self) -> Option<&dyn Transport> {
        Some(&*self.inner)
    }

    fn drops(&self) -> u64 {
        self.drops.get() + self.inner.drops()
    }
}
