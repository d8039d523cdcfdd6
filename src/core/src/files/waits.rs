//! Calls of file systems that may wait: they must not hold up the thread that answers everybody.
//!
//! A handler that reaches such a file system on that thread gives up with [`LATER`], which is no
//! error number of Linux; it has done nothing yet. It is then run again on a thread of its own.

use std::cell::Cell;

use umvu_abi::Errno;

/// "Run me again where I may wait."
pub(crate) const LATER: Errno = Errno(0x7fff);

thread_local! {
    static MAY_WAIT: Cell<bool> = const { Cell::new(false) };
}

/// Runs something that may wait.
pub(crate) fn patiently<T>(work: impl FnOnce() -> T) -> T {
    MAY_WAIT.set(true);
    let result = work();
    MAY_WAIT.set(false);
    result
}

/// Errors: [`LATER`] unless this thread may wait.
pub(crate) fn may_wait() -> Result<(), Errno> {
    if MAY_WAIT.get() { Ok(()) } else { Err(LATER) }
}
