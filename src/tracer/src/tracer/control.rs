//! What other threads ask of the tree.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::unistd::Pid;
use umvu_abi::{GuestFd, Tid};

use crate::{api::Guest, notify::Backend, sys};

/// How long is waited at most until all guests are interrupted.
const REACHED: Duration = Duration::from_millis(200);

/// Speaks to a running [`Tracer`](super::Tracer) from any thread.
#[derive(Debug, Clone)]
pub struct Control {
    pub(super) wanted: Arc<AtomicBool>,
    /// Whether more calls are to be trapped than all guests trap.
    pub(super) extended: Arc<(parking_lot::Mutex<bool>, parking_lot::Condvar)>,
    pub(super) thread: Pid,
    pub(super) backend: Arc<Backend>,
}

impl Control {
    /// Says which paths guests have trapped when they judge paths themselves: those with one of
    /// these first components. Calls that begin after this returns are judged so. Until then none
    /// are.
    pub fn trap_paths(&self, first_components: &[Vec<u8>]) {
        self.backend.shortcuts.publish(first_components);
    }

    /// Has every path trapped, also in guests that judge paths themselves.
    pub fn trap_every_path(&self) {
        self.backend.shortcuts.publish_all();
    }

    /// Arms the view: every guest gets the filter before it runs another instruction of its own.
    /// Again is nothing.
    pub fn arm(&self) {
        if !self.wanted.swap(true, Ordering::SeqCst) {
            sys::tgkill(nix::unistd::getpid().as_raw(), self.thread.as_raw(), libc::SIGUSR1);
        }
    }

    /// Has the data calls of these guests trapped from now on, whatever they do; a call that they wait
    /// in is made again. Waits for it, so long at most. Not for the tracer's thread.
    pub fn watch(&self, guests: &[Tid], patience: Duration) {
        self.backend.errands.watch(guests, patience);
    }

    /// All guest processes, by one of their threads.
    #[must_use]
    pub fn processes(&self) -> Vec<(i32, Arc<dyn Guest>)> {
        let tasks = &self.backend.tasks;
        let guests = tasks.ids().into_iter().filter_map(|tid| tasks.guest(tid));
        let by_group: HashMap<i32, Arc<dyn Guest>> =
            guests.map(|guest| (guest.group(), guest as Arc<dyn Guest>)).collect();
        by_group.into_iter().collect()
    }

    /// Has the calls of these numbers on one descriptor trapped in these guests from now on, whatever
    /// they do; a call that they wait in is made again. Waits for it, so long at most. What cannot be
    /// watched, because a process has too many filters, is not.
    pub fn watch_descriptor(
        &self,
        guests: &[Tid],
        numbers: &[i64],
        descriptor: GuestFd,
        patience: Duration,
    ) {
        self.backend.errands.watch_descriptor(guests, numbers, descriptor.0, patience);
    }

    /// Has optional calls trapped too, now and in guests to come. Guests that are armed already get one
    /// filter more, at which they stop: the calls cost them twice what they cost those that are armed
    /// afterwards.
    pub fn trap_also(&self, numbers: &[i64]) {
        {
            let mut also = self.backend.also.lock();
            let fresh: Vec<i64> =
                numbers.iter().filter(|number| !also.contains(number)).copied().collect();
            if fresh.is_empty() {
                return;
            }
            also.extend(fresh);
        }
        let (pending, reached) = &*self.extended;
        let mut pending = pending.lock();
        *pending = true;
        sys::tgkill(nix::unistd::getpid().as_raw(), self.thread.as_raw(), libc::SIGUSR1);
        // Whoever waits for the caller must not run on before it is interrupted. The tracer's thread
        // cannot wait for itself, and may wait for a call that the caller's thread is to answer.
        if self.is_armed() && nix::unistd::gettid() != self.thread {
            reached.wait_while_for(&mut pending, |pending| *pending, REACHED);
        }
    }

    /// Whether the view is armed, or about to be.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }
}
