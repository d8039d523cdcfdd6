//! Calls that may wait for guests or for the network: they must not hold up the thread that answers
//! everybody.
//!
//! A handler that reaches something slow on that thread gives up with [`LATER`], which is no error
//! number of Linux; it has done nothing yet. It is then run again on a thread of its own, where
//! [`may_wait`] agrees and [`wanted`] tells whether the guest still waits for the answer.

use std::cell::{Cell, RefCell};

use crate::Errno;

/// "Run me again where I may wait."
pub const LATER: Errno = Errno(0x7fff);

/// Whether the guest on whose behalf a thread waits still wants the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// It waits.
    Still,
    /// A signal has come for it; it may make the call again.
    Interrupted,
    /// It is gone.
    NoMore,
}

type Asked = Box<dyn Fn() -> Wanted>;

thread_local! {
    static MAY_WAIT: Cell<bool> = const { Cell::new(false) };
    static GUEST: RefCell<Option<Asked>> = const { RefCell::new(None) };
}

/// Restores what was before when it is dropped, also by a panic.
struct Before(bool);

impl Drop for Before {
    fn drop(&mut self) {
        MAY_WAIT.set(self.0);
    }
}

/// Runs something that may wait.
pub fn patiently<T>(work: impl FnOnce() -> T) -> T {
    let _before = Before(MAY_WAIT.replace(true));
    work()
}

/// Errors: [`LATER`] unless this thread may wait.
pub fn may_wait() -> Result<(), Errno> {
    if MAY_WAIT.get() { Ok(()) } else { Err(LATER) }
}

/// Runs something for a guest; `ask` tells whether it still wants the answer.
pub fn on_behalf<T>(ask: impl Fn() -> Wanted + 'static, work: impl FnOnce() -> T) -> T {
    struct Gone;
    impl Drop for Gone {
        fn drop(&mut self) {
            GUEST.take();
        }
    }
    GUEST.replace(Some(Box::new(ask)));
    let _gone = Gone;
    work()
}

/// Whether the guest still wants the answer that this thread waits for.
#[must_use]
pub fn wanted() -> Wanted {
    GUEST.with_borrow(|ask| ask.as_ref().map_or(Wanted::Still, |ask| ask()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_patient_threads_wait() {
        assert_eq!(may_wait(), Err(LATER));
        patiently(|| {
            assert_eq!(may_wait(), Ok(()));
            patiently(|| ());
            assert_eq!(may_wait(), Ok(()));
        });
        assert_eq!(may_wait(), Err(LATER));
    }

    #[test]
    fn a_guest_is_asked_during_its_work_only() {
        assert_eq!(wanted(), Wanted::Still);
        assert_eq!(on_behalf(|| Wanted::NoMore, wanted), Wanted::NoMore);
        assert_eq!(wanted(), Wanted::Still);
    }
}
