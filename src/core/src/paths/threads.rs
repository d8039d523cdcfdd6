//! What is remembered per guest thread: its group, its credentials, and whether its working
//! directory is boring.
//!
//! A working directory is boring when no relative path without `..` can concern the view; such a
//! path is then forwarded without a look at `/proc/TID/cwd`. The verdict is dropped by every
//! chdir(2) of the group. A chdir(2) that was forwarded happens *after* its handler: until the
//! thread that made it traps again nobody's verdict is kept. Processes that share a working
//! directory without being threads of one group (CLONE_FS alone) are not followed.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use umvu_abi::{Tid, files::Caller};
use umvu_tracer::api::Birth;

use super::credentials;

/// A thread group.
#[derive(Debug)]
struct Group {
    leader: Tid,
    /// Counts the changes of directory.
    epoch: AtomicU32,
    /// Threads whose chdir(2) may not have happened yet.
    in_flight: Mutex<Vec<Tid>>,
    /// Where chroot(2) of the view has put the root; None at the root of the view.
    root: Mutex<Option<Root>>,
}

/// The root directory of a group: absolute and canonical in the view.
pub(crate) type Root = Arc<[u8]>;

/// One thread.
#[derive(Debug)]
pub(super) struct Thread {
    tid: Tid,
    group: Arc<Group>,
    /// 0, or the epoch, the generation of the view and the verdict it was reached at.
    verdict: AtomicU64,
    /// The credentials, and the epoch they were read at.
    credentials: Mutex<Option<(u32, Caller)>>,
}

impl Thread {
    fn leading(tid: Tid, root: Option<Root>) -> Self {
        let group = Group {
            leader: tid,
            epoch: AtomicU32::new(1),
            in_flight: Mutex::default(),
            root: Mutex::new(root),
        };
        Self {
            tid,
            group: Arc::new(group),
            verdict: AtomicU64::new(0),
            credentials: Mutex::default(),
        }
    }

    /// The leader of its group.
    pub(super) fn leader(&self) -> Tid {
        self.group.leader
    }

    fn root(&self) -> Option<Root> {
        self.group.root.lock().clone()
    }

    /// Whether the working directory is known to be boring in this generation of the view.
    pub(super) fn is_bored(&self, generation: u32) -> bool {
        let verdict = self.verdict.load(Ordering::Acquire);
        verdict != 0 && verdict == self.pack(generation)
    }

    /// Says that a chdir(2) or fchdir(2) of this thread is about to happen.
    pub(super) fn moves(&self) {
        let mut in_flight = self.group.in_flight.lock();
        if !in_flight.contains(&self.tid) {
            in_flight.push(self.tid);
        }
        self.group.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Reads the working directory and keeps whether it is boring, unless it may be changing.
    pub(super) fn look<E>(
        &self,
        generation: u32,
        read: impl FnOnce() -> Result<Vec<u8>, E>,
        is_boring: impl FnOnce(&[u8]) -> bool,
    ) -> Result<Vec<u8>, E> {
        self.arrive();
        let packed = self.pack(generation);
        let directory = read()?;
        let settled = self.group.in_flight.lock().is_empty();
        let verdict = if settled && is_boring(&directory) { packed } else { 0 };
        self.verdict.store(verdict, Ordering::Release);
        Ok(directory)
    }

    /// The credentials, read again after every call that may change them.
    pub(super) fn credentials(&self) -> Caller {
        self.arrive();
        let epoch = self.group.epoch.load(Ordering::Acquire);
        let mut known = self.credentials.lock();
        if let Some((read_at, caller)) = &*known
            && *read_at == epoch
        {
            return caller.clone();
        }
        let caller = credentials::of(self.tid);
        let settled = self.group.in_flight.lock().is_empty();
        *known = settled.then(|| (epoch, caller.clone()));
        caller
    }

    /// The thread has trapped again: its last chdir(2) is over.
    fn arrive(&self) {
        let mut in_flight = self.group.in_flight.lock();
        if in_flight.contains(&self.tid) {
            in_flight.retain(|tid| *tid != self.tid);
            self.group.epoch.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn pack(&self, generation: u32) -> u64 {
        let epoch = self.group.epoch.load(Ordering::Acquire);
        (u64::from(epoch) << 32) | u64::from(generation)
    }
}

/// All threads that have made a path call.
#[derive(Debug, Default)]
pub(super) struct Threads {
    by_tid: RwLock<HashMap<Tid, Arc<Thread>>>,
    /// Whether any group has ever had a root of its own.
    are_rooted: AtomicBool,
}

impl Threads {
    /// Finds a thread; one that was never heard of leads a group of its own.
    pub(super) fn get(&self, tid: Tid) -> Arc<Thread> {
        if let Some(thread) = self.by_tid.read().get(&tid) {
            return Arc::clone(thread);
        }
        let mut threads = self.by_tid.write();
        Arc::clone(threads.entry(tid).or_insert_with(|| Arc::new(Thread::leading(tid, None))))
    }

    /// Enters a new thread.
    pub(super) fn born(&self, parent: Tid, child: Tid, birth: Birth) {
        let thread = match birth {
            Birth::Process => Thread::leading(child, self.root(parent)),
            Birth::Thread => {
                let group = Arc::clone(&self.get(parent).group);
                Thread { group, ..Thread::leading(child, None) }
            }
        };
        self.by_tid.write().insert(child, Arc::new(thread));
    }

    /// Follows an exec: the other threads of the group are gone.
    pub(super) fn executed(&self, task: Tid, former: Tid) {
        let root = self.root(former);
        let mut threads = self.by_tid.write();
        threads.remove(&former);
        threads.insert(task, Arc::new(Thread::leading(task, root)));
    }

    /// Whether any group has ever had a root of its own.
    pub(super) fn are_rooted(&self) -> bool {
        self.are_rooted.load(Ordering::Acquire)
    }

    /// The root directory of a thread; None for that of the view.
    pub(super) fn root(&self, tid: Tid) -> Option<Root> {
        if self.are_rooted() { self.get(tid).root() } else { None }
    }

    /// Gives the group of a thread another root.
    pub(super) fn set_root(&self, tid: Tid, root: Option<Root>) {
        *self.get(tid).group.root.lock() = root;
        self.are_rooted.store(true, Ordering::Release);
    }

    /// Forgets a thread.
    pub(super) fn ended(&self, tid: Tid) {
        let gone = self.by_tid.write().remove(&tid);
        if let Some(thread) = gone {
            thread.arrive();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(thread: &Thread, boring: bool) {
        let read = || Ok::<_, ()>(b"/x".to_vec());
        assert_eq!(thread.look(7, read, |_| boring), Ok(b"/x".to_vec()));
    }

    #[test]
    fn a_verdict_holds_until_the_view_changes() {
        let threads = Threads::default();
        let thread = threads.get(Tid(1));
        assert!(!thread.is_bored(7));
        look(&thread, true);
        assert!(thread.is_bored(7));
        assert!(!thread.is_bored(8));
        look(&thread, false);
        assert!(!thread.is_bored(7));
    }

    #[test]
    fn a_chdir_of_any_thread_drops_the_verdicts_of_its_group() {
        let threads = Threads::default();
        let (one, other) = (threads.get(Tid(1)), Tid(2));
        threads.born(Tid(1), other, Birth::Thread);
        let other = threads.get(other);
        assert_eq!(other.leader(), Tid(1));
        look(&one, true);
        look(&other, true);
        one.moves();
        assert!(!one.is_bored(7) && !other.is_bored(7));
        look(&other, true);
        assert!(!other.is_bored(7), "the chdir may still be under way");
        look(&one, true);
        assert!(one.is_bored(7), "its own next call comes after its chdir");
        look(&other, true);
        assert!(other.is_bored(7));
    }

    #[test]
    fn a_thread_that_dies_in_chdir_hinders_nobody() {
        let threads = Threads::default();
        threads.born(Tid(1), Tid(2), Birth::Thread);
        threads.get(Tid(2)).moves();
        threads.ended(Tid(2));
        let one = threads.get(Tid(1));
        look(&one, true);
        assert!(one.is_bored(7));
    }

    #[test]
    fn a_root_is_inherited_and_kept_by_programs() {
        let threads = Threads::default();
        threads.set_root(Tid(1), Some(Arc::from(&b"/r"[..])));
        threads.born(Tid(1), Tid(2), Birth::Process);
        threads.born(Tid(2), Tid(3), Birth::Thread);
        threads.executed(Tid(2), Tid(3));
        assert_eq!(threads.root(Tid(2)).as_deref(), Some(&b"/r"[..]));
        threads.set_root(Tid(2), None);
        assert_eq!(threads.root(Tid(2)), None);
        assert_eq!(threads.root(Tid(1)).as_deref(), Some(&b"/r"[..]));
    }

    #[test]
    fn a_new_process_starts_unknown() {
        let threads = Threads::default();
        let one = threads.get(Tid(1));
        look(&one, true);
        threads.born(Tid(1), Tid(2), Birth::Process);
        let two = threads.get(Tid(2));
        assert_eq!(two.leader(), Tid(2));
        two.moves();
        assert!(one.is_bored(7) && !two.is_bored(7));
    }
}
