//! Filters on sockets of the kernel, to compare ours with.
#![expect(unsafe_code, reason = "setsockopt(2) with a structure that nix does not wrap")]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use umvu_abi::Errno;

/// Attaches an array of `struct sock_filter`. Errors: `EINVAL`, `ENOMEM`.
pub(crate) fn attach(socket: BorrowedFd<'_>, program: &[u8]) -> Result<(), Errno> {
    let mut code = program.to_vec();
    let program = libc::sock_fprog {
        len: u16::try_from(code.len() / 8).map_err(|_| Errno::EINVAL)?,
        filter: code.as_mut_ptr().cast(),
    };
    let size = libc::socklen_t::try_from(size_of_val(&program)).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the structure is whole, its pointer leads to `len` instructions, and the kernel only
    // reads both during the call. (Instructions need no alignment: it copies them.)
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            std::ptr::from_ref(&program).cast(),
            size,
        )
    };
    if done < 0 { Err(io::Error::last_os_error().into()) } else { Ok(()) }
}
