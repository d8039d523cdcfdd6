//! One call of a thread is decided at a time, and only while the thread waits for it.
//!
//! A signal takes a call back at any instant, also between its notification's arrival and the decision.
//! The call is made again then, and may have been answered by another thread of ours when the first comes
//! to decide; or the signal's handler has left it by longjmp(3), and its buffers are other variables. So
//! an older notification than the last one is dropped, one that a signal may have taken back is looked at
//! before it is decided, and a signal is delivered only when nothing is being decided.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::errands::Errands;

/// The calls of one thread.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// The listener and the number of the last notification. Held while a call is decided.
    last: Mutex<Option<(usize, u64)>>,
    /// A signal has come since the last notification was taken.
    signalled: AtomicBool,
    /// A signal waits until what is being decided is decided.
    put_off: AtomicBool,
}

/// While it is held, no signal is delivered to the thread.
pub(crate) struct Deciding<'a> {
    held: Option<MutexGuard<'a, Option<(usize, u64)>>>,
    turn: &'a Turn,
    errands: &'a Errands,
}

impl Turn {
    /// Waits until no other call of the thread is being decided. None when the thread does not wait for
    /// this notification any more; `is_waiting` asks the kernel about that.
    pub(crate) fn take<'a>(
        &'a self,
        (listener, id): (usize, u64),
        errands: &'a Errands,
        is_waiting: impl FnOnce() -> bool,
    ) -> Option<Deciding<'a>> {
        let mut last = self.last.lock();
        // The numbers of a listener rise, from anywhere.
        let is_older = |other: u64| id.wrapping_sub(other).cast_signed() < 0;
        let overtaken = last.is_some_and(|(of, other)| of == listener && is_older(other));
        let suspect = self.signalled.swap(false, Ordering::SeqCst);
        let decides = !overtaken && (!suspect || is_waiting());
        if decides {
            *last = Some((listener, id));
        }
        // Also what decides nothing may have kept a signal waiting meanwhile.
        let deciding = Deciding { held: Some(last), turn: self, errands };
        decides.then_some(deciding)
    }

    /// Whether a signal has come since the call that is being answered was taken.
    pub(crate) fn is_suspect(&self) -> bool {
        self.signalled.load(Ordering::SeqCst)
    }

    /// A signal is about to be delivered; false when a call is being decided, whose thread wakes the
    /// tracer when it has done that.
    pub(crate) fn interrupt(&self) -> bool {
        self.signalled.store(true, Ordering::SeqCst);
        // Before the lock is tried: whoever holds it looks when it has let go.
        self.put_off.store(true, Ordering::SeqCst);
        let is_free = self.last.try_lock().is_some();
        if is_free {
            self.put_off.store(false, Ordering::SeqCst);
        }
        is_free
    }
}

impl Drop for Deciding<'_> {
    fn drop(&mut self) {
        // First the lock: a signal that comes before that waits.
        drop(self.held.take());
        if self.turn.put_off.swap(false, Ordering::SeqCst) {
            self.errands.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_notification_is_dropped_and_the_same_one_is_not() {
        let (turn, errands) = (Turn::default(), Errands::new());
        let take = |id| turn.take((1, id), &errands, || true).is_some();
        assert!(take(u64::MAX) && take(u64::MAX));
        assert!(take(0), "it has wrapped");
        assert!(!take(u64::MAX));
        let other = turn.take((2, 5), &errands, || true);
        assert!(other.is_some(), "of another listener");
    }

    #[test]
    fn what_a_signal_has_taken_back_is_not_decided() {
        let (turn, errands) = (Turn::default(), Errands::new());
        assert!(turn.interrupt());
        assert!(turn.take((1, 1), &errands, || false).is_none());
        assert!(turn.take((1, 2), &errands, || false).is_some(), "no signal since");
        turn.interrupt();
        assert!(turn.take((1, 3), &errands, || true).is_some());
    }

    #[test]
    fn a_signal_waits_for_a_decision() {
        let mut wake = nix::sys::signal::SigSet::empty();
        wake.add(nix::sys::signal::Signal::SIGUSR1);
        wake.thread_block().expect("a signal that can be blocked");
        let (turn, errands) = (Turn::default(), Errands::new());
        let deciding = turn.take((1, 1), &errands, || true);
        assert!(!turn.interrupt() && turn.is_suspect());
        drop(deciding);
        assert!(turn.interrupt());
        assert_eq!(wake.wait(), Ok(nix::sys::signal::Signal::SIGUSR1), "the tracer is woken");
        let overtaken = || {
            turn.interrupt();
            true
        };
        assert!(turn.take((1, 2), &errands, overtaken).is_some());
        assert_eq!(wake.wait(), Ok(nix::sys::signal::Signal::SIGUSR1), "again");
        let gone = || {
            turn.interrupt();
            false
        };
        assert!(turn.take((1, 3), &errands, gone).is_none());
        assert_eq!(wake.wait(), Ok(nix::sys::signal::Signal::SIGUSR1), "by what decides nothing");
    }
}
