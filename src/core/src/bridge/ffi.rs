//! The few calls on sockets that have no safe wrapper: untyped options, raw descriptors.

#![expect(unsafe_code, reason = "untyped setsockopt(2) and descriptors returned as integers")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use umvu_abi::Errno;

/// Takes ownership of a descriptor that a system call has just returned.
pub(crate) fn owned(raw: RawFd) -> OwnedFd {
    // SAFETY: callers pass the fresh result of accept4(2), which nothing else owns.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// Bytes that were sent and that the other end has not read, with what the kernel adds for keeping
/// them (`SIOCOUTQ`, unix(7)); 0 if that cannot be told.
pub(crate) fn unread(fd: &OwnedFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the call writes an int to where `bytes` is.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}

/// Whether the next byte to be read is urgent (`SIOCATMARK`).
pub(crate) fn is_at_mark(fd: &OwnedFd) -> bool {
    const SIOCATMARK: libc::Ioctl = 0x8905;
    let mut marked: libc::c_int = 0;
    // SAFETY: the call writes an int to where `marked` is.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), SIOCATMARK, &raw mut marked) };
    result == 0 && marked != 0
}

/// setsockopt(2) at `SOL_SOCKET` with an opaque value.
pub(crate) fn set_socket_option(fd: &OwnedFd, name: i32, value: &[u8]) -> Result<(), Errno> {
    let length = libc::socklen_t::try_from(value.len()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the pointer and length describe `value`, which outlives the call; the kernel only
    // reads it.
    let result = unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, name, value.as_ptr().cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().into()) }
}

/// getsockopt(2) at `SOL_SOCKET`, at most 128 bytes.
pub(crate) fn socket_option(fd: &OwnedFd, name: i32) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0_u8; 128];
    let mut length: libc::socklen_t = 128;
    // SAFETY: `value` has room for `length` bytes and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    value.truncate(usize::try_from(length).unwrap_or(0));
    Ok(value)
}

/// connect(2) with `AF_UNSPEC`: dissolves the association of a datagram socket.
pub(crate) fn disconnect(fd: &OwnedFd) -> Result<(), Errno> {
    let unspecified = libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr>()).unwrap_or(16);
    // SAFETY: the pointer and length describe a whole sockaddr that outlives the call.
    let result = unsafe { libc::connect(fd.as_raw_fd(), &raw const unspecified, length) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().into()) }
}

/// socket(2) of the host.
pub(crate) fn host_socket(domain: i32, kind: i32, protocol: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: socket(2) takes integers only.
    let raw = unsafe { libc::socket(domain, kind, protocol) };
    if raw < 0 { Err(std::io::Error::last_os_error().into()) } else { Ok(owned(raw)) }
}
