//! Answers that a signal has kept from their call, and calls that wait for a later answer.
//!
//! A call that waits for its answer can be taken back by a signal at any instant. If the handler
//! has run by then, its answer is kept here, and the restarted call gets it; if the handler has
//! deferred, the restarted call takes the place of the first one. So a handler runs once for each
//! call of the guest.

use std::{
    collections::HashMap,
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
    Deferred(Syscall, Weak<D>),
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

/// The slots of all threads. `D` is the backend's own record of a deferred call.
#[derive(Debug)]
pub(crate) struct Replays<D> {
    slots: Mutex<HashMap<Tid, Slot<D>>>,
}

impl<D> Default for Replays<D> {
    fn default() -> Self {
        Self { slots: Mutex::default() }
    }
}

impl<D> Replays<D> {
    /// Looks up a call, and takes its answer out.
    pub(crate) fn find(&self, tid: Tid, syscall: &Syscall) -> Found<D> {
        let mut slots = self.slots.lock();
        let Some(slot) = slots.get(&tid) else { return Found::Nothing };
        let (Slot::Answered(known, _) | Slot::Deferred(known, _)) = slot;
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
            Some(Slot::Deferred(known, deferred)) => match deferred.upgrade() {
                Some(found) => {
                    slots.insert(tid, Slot::Deferred(known, deferred));
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

    /// Remembers a call that is answered later.
    pub(crate) fn defer(&self, tid: Tid, syscall: Syscall, deferred: &Arc<D>) {
        self.slots.lock().insert(tid, Slot::Deferred(syscall, Arc::downgrade(deferred)));
    }

    /// Forgets a deferred call.
    pub(crate) fn settle(&self, tid: Tid, syscall: &Syscall) {
        let mut slots = self.slots.lock();
        if let Some(Slot::Deferred(known, _)) = slots.get(&tid)
            && known == syscall
        {
            slots.remove(&tid);
        }
    }

    /// Forgets a thread: it has ended, or runs another program.
    pub(crate) fn forget(&self, tid: Tid) {
        self.slots.lock().remove(&tid);
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
        replays.defer(TID, call(1, 5), &deferred);
        assert!(matches!(replays.find(TID, &call(1, 5)), Found::Deferred(_)));
        assert!(matches!(replays.find(TID, &call(1, 5)), Found::Deferred(_)));
        drop(deferred);
        assert!(matches!(replays.find(TID, &call(1, 5)), Found::Nothing));
    }
}
