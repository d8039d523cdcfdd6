//! What belongs to the program and not to this library: its errno(3) and its descriptors.
//!
//! A plugin in a link namespace of its own has a C library of its own, and so an `errno` that
//! nobody else sees.
#![expect(unsafe_code, reason = "errno, the base namespace and numbered descriptors")]

use std::{
    ffi::c_int,
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::OnceLock,
};

use umvu_abi::Errno;

type Location = unsafe extern "C" fn() -> *mut c_int;

/// `__errno_location` of the program's C library.
fn base() -> Option<Location> {
    static BASE: OnceLock<Option<Location>> = OnceLock::new();
    *BASE.get_or_init(find)
}

#[cfg(target_env = "gnu")]
fn find() -> Option<Location> {
    // SAFETY: the names are NUL-terminated; RTLD_NOLOAD only looks for what is loaded, and the
    // handle is never closed.
    let symbol = unsafe {
        let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD;
        let handle = libc::dlmopen(libc::LM_ID_BASE, c"libc.so.6".as_ptr(), flags);
        if handle.is_null() {
            return None;
        }
        libc::dlsym(handle, c"__errno_location".as_ptr())
    };
    // SAFETY: the symbol of that name has this type in every glibc; null becomes None.
    unsafe { std::mem::transmute::<*mut libc::c_void, Option<Location>>(symbol) }
}

#[cfg(not(target_env = "gnu"))]
fn find() -> Option<Location> {
    None
}

/// Sets `errno` of the calling thread, for this library and for the program.
pub(crate) fn set_errno(errno: Errno) {
    // SAFETY: both functions return the address of an int of the calling thread.
    unsafe {
        *libc::__errno_location() = errno.0;
        if let Some(location) = base() {
            *location() = errno.0;
        }
    }
}

/// The descriptor of a number that the program has for a socket of ours.
pub(crate) fn number(fd: &RawFd) -> BorrowedFd<'_> {
    // SAFETY: the program has the descriptor open during its call, as it says by its number.
    unsafe { BorrowedFd::borrow_raw(*fd) }
}

/// Puts a descriptor of ours at the number `fd`, which the program has for a socket of ours.
/// Errors: those of dup3(2).
pub(crate) fn replace(fd: RawFd, by: &OwnedFd) -> io::Result<()> {
    // SAFETY: fcntl(2) and dup3(2) take integers; the number is one that this library gave out,
    // and no Rust value owns it.
    let result = unsafe {
        let kept = libc::fcntl(fd, libc::F_GETFD) & libc::FD_CLOEXEC != 0;
        libc::dup3(by.as_raw_fd(), fd, if kept { libc::O_CLOEXEC } else { 0 })
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
