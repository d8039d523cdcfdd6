//! What poll(2) says of a socket whose data is in shared memory (packet(7), `PACKET_RX_RING`).
//!
//! The guest never reads: it looks into the ring. So an empty datagram in its queue, the *token*,
//! stands for "something in the ring is yours". It goes in when a part of the ring becomes the
//! guest's, and again for later parts, so that epoll(7) has its edges. Before each wait of the guest
//! it is taken out if the guest has given everything back.

use std::{os::fd::OwnedFd, sync::Weak};

use umvu_abi::{Errno, GuestFd};
use umvu_tracer::api::Guest;

use super::unix;

/// How many descriptors are looked at to find a socket that has moved.
const SEARCHED: i32 = 1024;
/// How many tokens there may be at once.
const TOKENS: usize = 16;
/// How many datagrams may have been in the queue when the ring was made.
const STALE: usize = 1024;

/// A ring that a guest has mapped.
pub(super) struct Token {
    /// Who mapped it, and by which descriptor.
    holder: (Weak<dyn Guest>, GuestFd),
    inode: u64,
    /// How many tokens the guest's queue may hold.
    tokens: usize,
}

impl Token {
    /// A ring that has just been mapped. What waited in the queue before is still there.
    pub(super) fn new(holder: (Weak<dyn Guest>, GuestFd), inode: u64) -> Self {
        Self { holder, inode, tokens: 1 }
    }

    /// Puts the token in, through our end of the pair.
    pub(super) fn put(&mut self, end: &OwnedFd) {
        if self.tokens < TOKENS {
            // With a full queue the guest is awake anyway.
            let _ = unix::send(end, &[]);
            self.tokens += 1;
        }
    }

    /// The guest is about to wait: has its queue tell whether the ring is readable.
    /// Errors: `ESRCH` when the guest is gone, `EBADF` when it cannot be found.
    pub(super) fn settle(&mut self, end: &OwnedFd, is_readable: bool) -> Result<(), Errno> {
        if self.tokens == 0 {
            if is_readable {
                self.put(end);
            }
            return Ok(());
        }
        let guest = self.guest_end()?;
        if is_readable && unix::is_readable(&guest) {
            return Ok(());
        }
        let mut byte = [0];
        let taken = (0..STALE).take_while(|_| unix::receive(&guest, &mut byte).is_ok());
        let _ = taken.count();
        self.tokens = 0;
        if is_readable {
            self.put(end);
        }
        Ok(())
    }

    /// The guest's end, wherever it is now.
    fn guest_end(&mut self) -> Result<OwnedFd, Errno> {
        let guest = self.holder.0.upgrade().ok_or(Errno::ESRCH)?;
        let is_it = |fd: GuestFd| guest.identify_fd(fd).is_ok_and(|it| it.ino == self.inode);
        if !is_it(self.holder.1) {
            let moved = (0..SEARCHED).map(GuestFd).find(|fd| is_it(*fd));
            self.holder.1 = moved.ok_or(Errno::EBADF)?;
        }
        guest.fetch_fd(self.holder.1)
    }
}
