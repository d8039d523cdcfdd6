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

use crate::{
    api::{Action, Syscall},
    notify::Deferred,
};

/// What is known about the last call of a thread.
#[derive(Debug)]
pub(crate) enum Slot {
    /// It was answered too late.
    Answered(Syscall, Action),
    /// It is still being worked on.
    Deferred(Syscall, Weak<Deferred>),
}

/// What to do about a call that has just come.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing is known: run the handler.
    Nothing,
    /// Give it this answer.
    Answer(Action),
    /// It takes the place of this one.
    Deferred(Arc<Deferred>),
}

/// The slots of all threads.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    slots: Mutex<HashMap<Tid, Slot>>,
}

impl Replays {
    /// Looks up a call, and takes its answer out.
    pub(crate) fn find(&self, tid: Tid, syscall: &Syscall) -> Found {
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
    pub(crate) fn defer(&self, tid: Tid, syscall: Syscall, deferred: &Arc<Deferred>) {
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
