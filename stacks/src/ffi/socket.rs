//! socket(2) with numbers that nix's enums do not know.
#![expect(unsafe_code, reason = "nix offers no socket(2) for arbitrary numbers")]

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd},
};

use umvu_abi::{Errno, net::SocketSpec};

/// Makes a socket of the calling thread's network namespace, close-on-exec.
/// Errors: those of socket(2).
pub(crate) fn open(spec: &SocketSpec) -> Result<OwnedFd, Errno> {
    // SAFETY: socket(2) takes three integers and touches no memory of ours.
    let fd = unsafe { libc::socket(spec.domain, spec.kind | libc::SOCK_CLOEXEC, spec.protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error().into());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes over a descriptor that a message brought.
pub(crate) fn adopt(fd: std::os::fd::RawFd) -> OwnedFd {
    // SAFETY: the kernel made the descriptor for this process when the message was received; the
    // caller takes it from that message once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
