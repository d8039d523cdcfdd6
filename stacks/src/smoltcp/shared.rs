//! What the sockets of a stack and the reactor share: the lock, the clock, the wake-up.
//!
//! Lock order: the stack's lock, then those of a transport or of the reactor's queue. Nothing calls
//! a stack with one of these held.

use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
};

use netlink_emu::{HostNet, netlink::NetlinkHub, values::Change};
use parking_lot::Mutex;
use smoltcp::time::Instant;
use umvu_abi::Errno;
use umvu_reactor::{Handle, Interest, Ready, Registration, Source};

use super::{clock::Clock, inner::Inner, wire::Transport};
use crate::names::Names;

/// A stack, as its sockets hold it.
pub(crate) struct Shared {
    /// Itself, for the wakers it gives out.
    this: Weak<Self>,
    inner: Mutex<Inner>,
    clock: Clock,
    hub: Arc<NetlinkHub>,
    names: Names,
    handle: OnceLock<Handle>,
    /// The descriptors of transports that the reactor watches, by interface.
    watches: Mutex<Vec<(u32, Registration)>>,
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
    pub(crate) fn new(clock: Clock, seed: u64, names: Names) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            inner: Mutex::new(Inner::new(seed, clock.now())),
            this: Weak::clone(this),
            clock,
            hub: NetlinkHub::new(),
            names,
            handle: OnceLock::new(),
            watches: Mutex::default(),
            armed: Mutex::new(None),
        })
    }

    /// Gives it to a reactor.
    pub(crate) fn attach(&self, handle: Handle) {
        let _ = self.handle.set(handle);
    }

    /// The function that a transport calls when it has frames, or room for frames.
    fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        let shared = Weak::clone(&self.this);
        Arc::new(move || {
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

    /// Has the reactor watch a transport for the interface `index`. Errors: those of epoll_ctl(2).
    pub(crate) fn watch(&self, index: u32, transport: &Arc<dyn Transport>) -> Result<(), Errno> {
        if let (Some(fd), Some(handle)) = (transport.poll_fd(), self.handle.get()) {
            self.watches.lock().push((index, handle.watch(fd, Interest::Read)?));
        }
        transport.set_waker(self.waker());
        self.wake();
        Ok(())
    }

    /// Stops watching all transports.
    pub(crate) fn unwatch(&self) {
        self.watches.lock().clear();
    }

    /// Tells listeners what changed.
    fn publish(&self, inner: &mut Inner, mut changes: Vec<Change>) {
        for change in &changes {
            if let Change::LinkRemoved(link) = change {
                self.watches.lock().retain(|(index, _)| *index != link.index.0);
            }
        }
        for abandoned in inner.abandoned.drain(..) {
            self.watches.lock().retain(|(index, _)| *index != abandoned);
        }
        changes.extend(super::host::neighbour_changes(inner));
        self.hub.publish(&changes);
    }

    /// The netlink sockets of the stack.
    pub(crate) fn hub(&self) -> &Arc<NetlinkHub> {
        &self.hub
    }

    /// What the stack is called.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// The stack as its configuration interfaces see it.
    pub(crate) fn host(&self) -> Option<Arc<dyn HostNet>> {
        Some(self.this.upgrade()? as Arc<dyn HostNet>)
    }

    /// Looks at what no time is needed for.
    pub(crate) fn glance<R>(&self, action: impl FnOnce(&Inner) -> R) -> R {
        action(&self.inner.lock())
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
        let changes = inner.follow();
        inner.settle();
        self.publish(&mut inner, changes);
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
