//! [`carry`]: frames between a socket and something that may block or is not to be touched by the
//! plug's owner.
//!
//! The socket is `SOCK_SEQPACKET`, one message a frame. What the far side does not take is its own
//! affair; what the near side does not take waits, and so does then the far side.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Instant,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::{batch, transport::Drops};

/// Frames that are moved in one direction before it is the other one's turn.
const TURN: usize = 64;

/// What is behind the socket.
pub(super) trait Far {
    /// What polls readable when [`Self::receive`] has something to do.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;

    /// Does what is due; returns when to be called again.
    fn due(&mut self, now: Instant) -> Option<Instant>;

    /// Sends frames, or drops and counts them.
    fn send(&mut self, packets: Vec<Vec<u8>>, drops: &Drops);

    /// Receives up to `budget` frames; returns whether there may be more.
    fn receive(
        &mut self,
        into: &mut VecDeque<Vec<u8>>,
        budget: usize,
        drops: &Drops,
    ) -> Result<bool, Gone>;
}

/// The far side is gone.
#[derive(Debug)]
pub(super) struct Gone;

/// Who ended a pump.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Near,
    Far,
}

/// Carries frames until one side is gone.
pub(super) fn carry(socket: &OwnedFd, far: &mut dyn Far, drops: &Drops) -> Ended {
    let mut waiting = VecDeque::new();
    let mut more = false;
    loop {
        let due = far.due(Instant::now());
        let pause = if more && waiting.is_empty() { PollTimeout::ZERO } else { timeout(due) };
        let Ok(near) = wait(socket, far, !waiting.is_empty(), pause) else { continue };
        if near.contains(PollFlags::POLLIN) {
            let mut packets = Vec::new();
            let mut push = |frame: crate::Frame| packets.push(frame.bytes);
            let _ = batch::receive_frames(socket.as_fd(), TURN, drops, &mut push);
            if packets.is_empty() && near.contains(PollFlags::POLLHUP) {
                return Ended::Near;
            }
            far.send(packets, drops);
        } else if near.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
            return Ended::Near;
        }
        if waiting.is_empty() {
            more = match far.receive(&mut waiting, TURN, drops) {
                Ok(more) => more,
                Err(Gone) => return Ended::Far,
            };
        }
        let sent = batch::send_all(socket.as_fd(), waiting.iter(), drops);
        waiting.drain(..sent.done);
    }
}

/// Waits for something to do; returns what the socket is ready for.
fn wait(
    socket: &OwnedFd,
    far: &dyn Far,
    full: bool,
    pause: PollTimeout,
) -> Result<PollFlags, Errno> {
    let interest = if full { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
    let mut descriptors = vec![PollFd::new(socket.as_fd(), interest)];
    // While the near side is slow, frames wait where they are.
    if !full {
        let far = far.descriptors().into_iter();
        descriptors.extend(far.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    }
    poll(&mut descriptors, pause)?;
    Ok(descriptors[0].revents().unwrap_or(PollFlags::empty()))
}

fn timeout(due: Option<Instant>) -> PollTimeout {
    let Some(due) = due else { return PollTimeout::NONE };
    let left = due.saturating_duration_since(Instant::now());
    // Not earlier than it is due.
    PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
}
