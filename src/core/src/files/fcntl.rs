//! The commands of fcntl(2) that have no safe wrapper: leases, and a mark that says how a file was opened.

#![expect(unsafe_code, reason = "fcntl(F_SETLEASE) and fcntl(F_SETSIG) have no safe wrapper")]

use std::os::fd::{AsFd, AsRawFd};

/// The commands that tell and set the signal of asynchronous I/O, as linux/fcntl.h has them.
const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
/// The last signal. A regular file never sends it, unless a guest takes a lease (fcntl(2)).
const MARK: i32 = 64;

/// Tries a write lease, and gives it back: it is granted when nobody else has the file open.
pub(crate) fn lease(file: impl AsFd) -> bool {
    let granted = control(&file, libc::F_SETLEASE, libc::F_WRLCK) == 0;
    if granted {
        control(&file, libc::F_SETLEASE, libc::F_UNLCK);
    }
    granted
}

/// Marks an open file, for all its descriptors: it was opened by a path of the view that the kernel does
/// not know. Returns whether it could be marked.
pub(crate) fn mark(file: impl AsFd) -> bool {
    control(file, F_SETSIG, MARK) == 0
}

/// Whether an open file is marked.
pub(crate) fn is_marked(file: impl AsFd) -> bool {
    control(file, F_GETSIG, 0) == MARK
}

fn control(file: impl AsFd, command: i32, argument: i32) -> i32 {
    // SAFETY: the commands above take and return integers only; the descriptor is borrowed.
    unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, argument) }
}
