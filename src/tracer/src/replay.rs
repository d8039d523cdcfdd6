//! Answers that a signal has kept from their call, and calls that wait for a later answer.
//!
//! A call that waits for its answer can be taken back by a signal at any instant. If the handler
//! has run by then, its answer is kept here, and the restarted call gets it; if the handler has
//! deferred, the restarted call takes the place of the first one. So a handler runs once for each
//! call of the guest.

use std::{
    collections::HashMap,
    ptr,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use umvu_abi::Tid;

use crate::api::{Action, Syscall};

/// What is known about the last call of a thread.
#[derive(Debug)]
enum Slot<D> {
    /// It was answered too late.
    Answered(Syscall, Action),
    /// It is still being worked on.
    Deferred(Syscall, Weak<D>, Standing),
}

/// How far a call is that a signal takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing is decided, or its answer is kept: it was not waiting for anything yet.
    Undecided,
    /// It waits for an event, as Linux's own would.
    Waiting,
    /// A handler works on it, on a thread of its own.
    Working,
    /// The kernel performs it.
    Kernels,
}

/// What to do about a call that has just come.
#[derive(Debug)]
pub(crate) enum Found<D> {
    /// Nothing is known: run the handler.
    Nothing,
    /// Give it this answer.
    Answer(Action),
    /// It takes the place of this one.
    Deferred(Arc<D>),
}

/// The slots of all threads. `D` is the backend's own record of a deferred call. Lock order: `slots`,
/// `forwarded`.
#[derive(Debug)]
pub(crate) struct Replays<D> {
    slots: Mutex<HashMap<Tid, Slot<D>>>,
    /// The last call of a thread, while it is the kernel's.
    forwarded: Mutex<HashMap<Tid, Syscall>>,
}

impl<D> Default for Replays<D> {
    fn default() -> Self {
        Self { slots: Mutex::default(), forwarded: Mutex::default() }
    }
}

impl<D> Replays<D> {
    /// Looks up a call, and takes its answer out.
    pub(crate) fn find(&self, tid: Tid, syscall: &Syscall) -> Found<D> {
        let mut slots = self.slots.lock();
        self.forwarded.lock().remove(&tid);
        let Some(slot) = slots.get(&tid) else { return Found::Nothing };
        let (Slot::Answered(known, _) | Slot::Deferred(known, ..)) = slot;
        if known != syscall {
            // A handler of the signal may make other calls before the restart, but the same call
            // with other arguments is a new one.
            if known.number == syscall.number {
                slots.remove(&tid);
            }
            return Found::Nothing;
        }
        match slots.remove(&tid) {
            Some(Slot::Answered(_, action)) => Found::Answer(action),
            Some(Slot::Deferred(known, deferred, standing)) => match deferred.upgrade() {
                Some(found) => {
                    slots.insert(tid, Slot::Deferred(known, deferred, standing));
                    Found::Deferred(found)
                }
                None => Found::Nothing,
            },
            None => Found::Nothing,
        }
    }

    /// Keeps an answer that came too late.
    pub(crate) fn keep(&self, tid: Tid, syscall: Syscall, action: Action) {
        self.slots.lock().insert(tid, Slot::Answered(syscall, action));
    }

    /// Remembers a call that is answered later, and why.
    pub(crate) fn defer(&self, tid: Tid, syscall: Syscall, deferred: &Arc<D>, standing: Standing) {
        let slot = Slot::Deferred(syscall, Arc::downgrade(deferred), standing);
        self.slots.lock().insert(tid, slot);
    }

    /// Remembers that the kernel is about to perform a call.
    pub(crate) fn forward(&self, tid: Tid, syscall: Syscall) {
        self.forwarded.lock().insert(tid, syscall);
    }

    /// Says how far a call is that a signal has just taken back.
    pub(crate) fn taken_back(&self, tid: Tid, syscall: &Syscall) -> Standing {
        let slots = self.slots.lock();
        match slots.get(&tid) {
            Some(Slot::Deferred(known, deferred, standing))
                if known == syscall && deferred.strong_count() > 0 =>
            {
                return *standing;
            }
            Some(Slot::Answered(known, _)) if known == syscall => return Standing::Undecided,
            _ => {}
        }
        if self.forwarded.lock().get(&tid) == Some(syscall) {
            return Standing::Kernels;
        }
        Standing::Undecided
    }

    /// Forgets a deferred call. Another one of the thread, although the same, is left alone.
    pub(crate) fn settle(&self, tid: Tid, deferred: &D) {
        let mut slots = self.slots.lock();
        if let Some(Slot::Deferred(_, known, _)) = slots.get(&tid)
            && ptr::eq(known.as_ptr(), deferred)
        {
            slots.remove(&tid);
        }
    }

    /// Forgets what is known about a thread's call; returns it if it is deferred.
    pub(crate) fn take(&self, tid: Tid) -> Option<Arc<D>> {
        match self.slots.lock().remove(&tid) {
            Some(Slot::Deferred(_, deferred, _)) => deferred.upgrade(),
            Some(Slot::Answered(..)) | None => None,
        }
    }

    /// Forgets a thread: it has ended, or runs another program.
    pub(crate) fn forget(&self, tid: Tid) {
        self.slots.lock().remove(&tid);
        self.forwarded.lock().remove(&tid);
    }
}

#[cfg(test)]
mod tests {
    use umvu_abi::Errno;

    use super::*;

    const TID: Tid = Tid(7);

    fn call(number: i64, first: u64) -> Syscall {
        Syscall { number, args: [first, 0, 0, 0, 0, 0] }
    }

    #[test]
    fn a_restarted_call_gets_its_answer_once() {
        let replays = Replays::<()>::default();
        replays.keep(TID, call(1, 5), Action::error(Errno::EAGAIN));
        assert!(matches!(replays.find(TID, &call(1, 5)), Found::Answer(_)));
        assert!(matches!(replays.find(TID, &call(1, 5)), Found::Nothing));
    }

    #[test]
    fn calls_of_a_signal_handler_leave_the_answer_alone() {
        let replays = Replays::<()>::default();
        replays.keep(TID, call(1, 5), Action::value(3));
        assert!(matches!(replays.find(TID, &call(2, 0)), Found::Nothing));
        assert!(matches!(replays.find(TID, &call(1, 5)), Found::Answer(_)));
    }

    #[test]
    fn the_same_call_with_other_arguments_is_a_new_one() {
        let replays = Replays::<()>::default();
        replays.keep(TID, call(1, 5), Action::value(3));
        assert!(matches!(replays.find(TID, &call(1, 6)), Found::Nothing));
        assert!(matches!(replays.find(TID, &call(1, 5)), Found::Nothing));
    }

    #[test]
    fn a_restarted_call_finds_the_one_that_is_deferred() {
        let replays = Replays::default();
        let deferred = Arc::new(());
        replays.defer(TID, call(1, 5), &deferred, Standing::Waiting);
        assert_eq!(replays.taken_back(TID, &call(1, 5)), Standing::Waiting);
        assert!(matches!(replays.find(TID, &call(1, 5)), Found::Deferred(_)));
        assert!(matches!(replays.find(TID, &call(1, 5)), Found::Deferred(_)));
        drop(deferred);
        assert_eq!(replays.taken_back(TID, &call(1, 5)), Standing::Undecided);
        assert!(matches!(replays.find(TID, &call(1, 5)), Found::Nothing));
    }

    #[test]
    fn the_end_of_a_call_leaves_a_later_one_alone() {
        // Not of size 0: two of them are to have two addresses.
        let replays = Replays::<u8>::default();
        let (first, second) = (Arc::new(1), Arc::new(2));
        replays.defer(TID, call(1, 5), &first, Standing::Waiting);
        replays.defer(TID, call(1, 5), &second, Standing::Waiting);
        replays.settle(TID, &first);
        assert!(matches!(replays.find(TID, &call(1, 5)), Found::Deferred(_)));
        replays.settle(TID, &second);
        assert!(matches!(replays.find(TID, &call(1, 5)), Found::Nothing));
    }

    #[test]
    fn a_call_of_the_kernel_is_known_until_the_next_one() {
        let replays = Replays::<()>::default();
        replays.forward(TID, call(1, 5));
        assert_eq!(replays.taken_back(TID, &call(1, 6)), Standing::Undecided);
        assert_eq!(replays.taken_back(TID, &call(1, 5)), Standing::Kernels);
        assert!(matches!(replays.find(TID, &call(2, 0)), Found::Nothing));
        assert_eq!(replays.taken_back(TID, &call(1, 5)), Standing::Undecided);
    }
}
