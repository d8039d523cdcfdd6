//! What an emulated socket rings when something about it may have changed.
//!
//! Lock order: a stack's lock, then a bell's. No lock of a bell is held while a stack is called.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::unistd::getuid;
use parking_lot::{Condvar, Mutex};
use umvu_abi::net::{Holder, SocketEvents};

/// Called when a socket may have changed; see [`Socket::watch`](super::Socket::watch).
pub type Watcher = Arc<dyn Fn() + Send + Sync>;

/// Counts changes, and lets threads wait for the next one.
#[derive(Default)]
pub(super) struct Bell {
    count: Mutex<u64>,
    rung: Condvar,
    watchers: Mutex<Vec<Watcher>>,
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bell").field(&*self.count.lock()).finish()
    }
}

impl Bell {
    /// How often it was rung: taken before a look at the socket, given to [`wait`](Self::wait)
    /// when the look found nothing.
    pub(super) fn count(&self) -> u64 {
        *self.count.lock()
    }

    /// Waits until it is rung once more than `seen`, or until the deadline.
    pub(super) fn wait(&self, seen: u64, deadline: Option<Instant>) {
        // An instant too far away for the clock is as good as none.
        const LONGEST: Duration = Duration::from_secs(3600);
        let mut count = self.count.lock();
        while *count == seen {
            let until = deadline.unwrap_or_else(|| Instant::now() + LONGEST);
            let late = self.rung.wait_until(&mut count, until).timed_out();
            if late && deadline.is_some() {
                return;
            }
        }
    }

    /// Wakes everybody.
    pub(super) fn ring(&self) {
        *self.count.lock() += 1;
        self.rung.notify_all();
        for watcher in &*self.watchers.lock() {
            watcher();
        }
    }

    /// Has `watcher` called at each change.
    pub(super) fn watch(&self, watcher: Watcher) {
        self.watchers.lock().push(watcher);
    }

    /// Takes a watcher off again.
    pub(super) fn unwatch(&self, watcher: &Watcher) {
        self.watchers.lock().retain(|other| !Arc::ptr_eq(other, watcher));
    }
}

impl SocketEvents for Bell {
    fn changed(&self) {
        self.ring();
    }

    fn holder(&self) -> Holder {
        Holder { inode: 0, uid: getuid().as_raw() }
    }
}
