//! The end of a stack, as those learn of it who wait for its sockets.
//!
//! Lock order: the list's lock, then a bell's. Nothing calls a stack with either held.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use parking_lot::Mutex;

use super::bell::Bell;

/// Ends every wait for the sockets that were made with it: they fail with `ENETDOWN` from then on.
#[derive(Clone)]
pub struct Halt(Arc<Inner>);

struct Inner {
    stopped: AtomicBool,
    /// Readable once stopped; waits on descriptors of the kernel watch it.
    event: EventFd,
    bells: Mutex<Vec<Weak<Bell>>>,
}

impl fmt::Debug for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Halt").field(&self.is_stopped()).finish()
    }
}

impl Halt {
    /// Makes one that has not been called. Errors: those of eventfd(2).
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Inner {
            stopped: AtomicBool::new(false),
            event: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            bells: Mutex::default(),
        })))
    }

    /// Ends all waits, those to come too.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        let _ = self.0.event.write(1);
        for bell in self.0.bells.lock().drain(..).filter_map(|bell| bell.upgrade()) {
            bell.ring();
        }
    }

    /// Whether it was stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::SeqCst)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }

    /// Has `bell` rung at the end.
    pub(super) fn tell(&self, bell: &Arc<Bell>) {
        let mut bells = self.0.bells.lock();
        if bells.len() == bells.capacity() {
            bells.retain(|bell| bell.strong_count() > 0);
        }
        bells.push(Arc::downgrade(bell));
        drop(bells);
        if self.is_stopped() {
            bell.ring();
        }
    }
}
