//! The commands of fcntl(2) that have no safe wrapper: leases, and a mark that says how a file was opened;
//! and inotify_add_watch(2) with any flags.

#![expect(
    unsafe_code,
    reason = "fcntl(F_SETLEASE), fcntl(F_SETSIG) and watches of a borrowed descriptor have no safe wrapper"
)]

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use umvu_abi::Errno;

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

/// inotify_add_watch(2); the number of the watch. Errors: its own.
pub(crate) fn add_watch(inotify: BorrowedFd<'_>, path: &Path, mask: u32) -> Result<i64, Errno> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::ENOENT)?;
    // SAFETY: the path ends with a zero and outlives the call; the descriptor is borrowed.
    let watch = unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), mask) };
    if watch < 0 { Err(io::Error::last_os_error().into()) } else { Ok(i64::from(watch)) }
}

fn control(file: impl AsFd, command: i32, argument: i32) -> i32 {
    // SAFETY: the commands above take and return integers only; the descriptor is borrowed.
    unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, argument) }
}
