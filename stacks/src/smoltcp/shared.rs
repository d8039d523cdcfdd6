//! What the sockets of a stack and the reactor share: the lock, the clock, the wake-up.
//!
//! Lock order: the stack's lock, then those of a transport or of the reactor's queue. Nothing calls
//! a stack with one of these held.

use std::{
    fmt,
    sync::{OnceLock, Weak},
};

use parking_lot::Mutex;
use smoltcp::time::Instant;
use umvu_reactor::{Handle, Ready, Source};

use super::{clock::Clock, inner::Inner};

/// A stack, as its sockets hold it.
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    clock: Clock,
    handle: OnceLock<Handle>,
    /// The deadline the reactor knows.
    armed: Mutex<Option<Instant>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    /// Makes a stack that nobody drives yet.
    pub(crate) fn new(clock: Clock, seed: u64) -> Self {
        let inner = Mutex::new(Inner::new(seed, clock.now()));
        Self { inner, clock, handle: OnceLock::new(), armed: Mutex::new(None) }
    }

    /// Gives it to a reactor.
    pub(crate) fn attach(&self, handle: Handle) {
        let _ = self.handle.set(handle);
    }

    /// The function that a transport calls when it has frames, or room for frames.
    pub(crate) fn waker(shared: &Weak<Self>) -> std::sync::Arc<dyn Fn() + Send + Sync> {
        let shared = Weak::clone(shared);
        std::sync::Arc::new(move || {
            if let Some(shared) = shared.upgrade() {
                shared.wake();
            }
        })
    }

    /// Has the reactor take a turn.
    pub(crate) fn wake(&self) {
        if let Some(handle) = self.handle.get() {
            handle.wake();
        }
    }

    /// The reactor's handle, to watch descriptors with.
    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.handle.get()
    }

    /// Looks at, or changes, what makes nothing happen.
    pub(crate) fn look<R>(&self, action: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = self.inner.lock();
        inner.now = self.clock.now();
        action(&mut inner)
    }

    /// Does something, and what follows from it.
    pub(crate) fn with<R>(&self, action: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = self.inner.lock();
        inner.now = self.clock.now();
        let result = action(&mut inner);
        inner.settle();
        let again = std::mem::take(&mut inner.again);
        let due = inner.due();
        drop(inner);
        if again {
            self.wake();
        }
        self.arm(due);
        result
    }

    /// Tells the reactor when to come back; only an earlier time than before is news.
    fn arm(&self, due: Option<Instant>) {
        let Some(due) = due else { return };
        let mut armed = self.armed.lock();
        if armed.is_some_and(|armed| armed <= due) {
            return;
        }
        *armed = Some(due);
        if let Some(handle) = self.handle.get() {
            handle.wake_at(Some(self.clock.host_instant(due)));
        }
    }
}

impl Source for Shared {
    fn run(&self, _ready: Ready) {
        let mut armed = self.armed.lock();
        if armed.is_some_and(|armed| armed <= self.clock.now()) {
            *armed = None;
        }
        drop(armed);
        self.with(Inner::turn);
    }
}
