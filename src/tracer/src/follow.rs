//! Threads that stop at their next calls ([`crate::api::Action::Followed`]).
//!
//! What a thread does with a descriptor right after it has got it may differ from what the kernel would
//! make of it, and nearly always does not. No filter can tell, since a filter stays for ever; so the
//! thread stops at its calls for a while, as with `-S`.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use umvu_abi::Tid;

/// How many calls a thread stops at: the one that begins it is among them.
const CALLS: u32 = 24;
/// With these the time is over.
const LAST: [i64; 4] = [libc::SYS_connect, libc::SYS_listen, libc::SYS_execve, libc::SYS_execveat];

/// The threads, and how many calls are left of each.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    left: Mutex<HashMap<Tid, u32>>,
    /// How many threads: mostly none.
    count: AtomicUsize,
}

impl Followed {
    /// From now on a thread stops at its calls.
    pub(crate) fn begin(&self, tid: Tid) {
        let mut left = self.left.lock();
        left.insert(tid, CALLS);
        self.count.store(left.len(), Ordering::Release);
    }

    /// Whether a thread does.
    pub(crate) fn has(&self, tid: Tid) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.left.lock().contains_key(&tid)
    }

    /// Whether a thread does; it is to do so for as many calls as if it began now.
    pub(crate) fn again(&self, tid: Tid) -> bool {
        self.left.lock().get_mut(&tid).map(|left| *left = CALLS).is_some()
    }

    /// A thread makes a call; tells whether that is to be looked at.
    pub(crate) fn makes(&self, tid: Tid, number: i64) -> bool {
        let mut left = self.left.lock();
        let Some(calls) = left.get_mut(&tid) else { return false };
        *calls -= 1;
        if *calls == 0 || LAST.contains(&number) {
            left.remove(&tid);
            self.count.store(left.len(), Ordering::Release);
            return false;
        }
        true
    }

    /// A thread does not any more.
    pub(crate) fn end(&self, tid: Tid) {
        if self.has(tid) {
            let mut left = self.left.lock();
            left.remove(&tid);
            self.count.store(left.len(), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_followed_until_it_connects_or_has_made_many_calls() {
        let (followed, one, other) = (Followed::default(), Tid(1), Tid(2));
        assert!(!followed.has(one) && !followed.makes(one, libc::SYS_read));
        followed.begin(one);
        followed.begin(other);
        assert!(followed.makes(one, libc::SYS_socket) && followed.makes(one, libc::SYS_read));
        assert!(!followed.makes(one, libc::SYS_connect) && !followed.has(one));
        let calls = (0..100).filter(|_| followed.makes(other, libc::SYS_read)).count();
        assert_eq!(calls + 1, usize::try_from(CALLS).expect("small"));
        assert!(!followed.has(other));
        followed.begin(one);
        assert!(followed.again(one) && !followed.again(other));
        followed.end(one);
        assert!(!followed.has(one));
    }
}
