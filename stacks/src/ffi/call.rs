//! Socket calls of the kernel with addresses, options and control messages as plain bytes.
#![expect(unsafe_code, reason = "safe wrappers know only some families and options")]

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use umvu_abi::Errno;

/// Room for the largest socket address.
const NAME: usize = 128;
/// Room for a socket option.
const OPTION: usize = 1024;

/// The result of a call: -1 stands for errno(3).
fn check(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error().into())
}

fn check_int(result: libc::c_int) -> Result<(), Errno> {
    if result < 0 { Err(io::Error::last_os_error().into()) } else { Ok(()) }
}

/// Lengths that a program may give are far below the limit of the type.
fn socklen(length: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(length).unwrap_or(libc::socklen_t::MAX)
}

/// bind(2).
pub(crate) fn bind(fd: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    // SAFETY: pointer and length describe `name`, which the kernel only reads.
    check_int(unsafe { libc::bind(fd.as_raw_fd(), name.as_ptr().cast(), socklen(name.len())) })
}

/// connect(2).
pub(crate) fn connect(fd: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    // SAFETY: pointer and length describe `name`, which the kernel only reads.
    check_int(unsafe { libc::connect(fd.as_raw_fd(), name.as_ptr().cast(), socklen(name.len())) })
}

/// listen(2).
pub(crate) fn listen(fd: BorrowedFd<'_>, backlog: u32) -> Result<(), Errno> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    // SAFETY: listen(2) takes integers only.
    check_int(unsafe { libc::listen(fd.as_raw_fd(), backlog) })
}

/// accept4(2): a non-blocking descriptor, closed on exec, and the peer's name.
pub(crate) fn accept(fd: BorrowedFd<'_>) -> Result<(OwnedFd, Vec<u8>), Errno> {
    let mut name = vec![0_u8; NAME];
    let mut length = socklen(NAME);
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: `name` has room for `length` bytes, and both outlive the call.
    let raw =
        unsafe { libc::accept4(fd.as_raw_fd(), name.as_mut_ptr().cast(), &raw mut length, flags) };
    check_int(raw)?;
    name.truncate(usize::try_from(length).unwrap_or(0));
    // SAFETY: the descriptor is new and nobody else's.
    Ok((unsafe { OwnedFd::from_raw_fd(raw) }, name))
}

/// Which end's name is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// getsockname(2).
    Local,
    /// getpeername(2).
    Peer,
}

/// getsockname(2), getpeername(2).
pub(crate) fn name(fd: BorrowedFd<'_>, end: End) -> Result<Vec<u8>, Errno> {
    let mut name = vec![0_u8; NAME];
    let mut length = socklen(NAME);
    let (raw, at) = (fd.as_raw_fd(), name.as_mut_ptr().cast());
    // SAFETY: `name` has room for `length` bytes, and both outlive the call.
    check_int(unsafe {
        match end {
            End::Local => libc::getsockname(raw, at, &raw mut length),
            End::Peer => libc::getpeername(raw, at, &raw mut length),
        }
    })?;
    name.truncate(usize::try_from(length).unwrap_or(0));
    Ok(name)
}

/// setsockopt(2).
pub(crate) fn set_option(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &[u8],
) -> Result<(), Errno> {
    // SAFETY: pointer and length describe `value`, which the kernel only reads.
    check_int(unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), socklen(value.len()))
    })
}

/// getsockopt(2), at most 1,024 bytes; the buffer begins with `given`, which some options read.
pub(crate) fn option(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    given: &[u8],
) -> Result<Vec<u8>, Errno> {
    let mut value = given.to_vec();
    value.resize(OPTION, 0);
    let mut length = socklen(OPTION);
    // SAFETY: `value` has room for `length` bytes, and both outlive the call.
    check_int(unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut length)
    })?;
    value.truncate(usize::try_from(length).unwrap_or(0));
    Ok(value)
}

/// Which of `events` (`POLL*`), errors and hang-ups have happened: poll(2) that does not wait.
pub(crate) fn happened(fd: BorrowedFd<'_>, events: i16) -> i16 {
    let mut one = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    // SAFETY: the pointer and the count describe `one`, which is ours alone.
    let found = unsafe { libc::poll(&raw mut one, 1, 0) };
    if found == 1 { one.revents } else { 0 }
}

/// sendmsg(2); an empty name or control buffer is none.
pub(crate) fn send(
    fd: BorrowedFd<'_>,
    data: &[u8],
    name: &[u8],
    control: &[u8],
    flags: i32,
) -> Result<usize, Errno> {
    let mut part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    let header = header(
        &mut part,
        (name.as_ptr().cast_mut(), name.len()),
        (control.as_ptr().cast_mut(), control.len()),
    );
    // SAFETY: the header's pointers and lengths describe `part`, `data`, `name` and `control`,
    // which outlive the call and which sendmsg(2) only reads.
    check(unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const header, flags) })
}

/// What [`receive`] brought.
#[derive(Debug)]
pub(crate) struct Message {
    /// How many bytes there are; more than the buffer's size with `MSG_TRUNC`.
    pub(crate) length: usize,
    /// The sender's name, empty for none.
    pub(crate) name: Vec<u8>,
    /// The control messages.
    pub(crate) control: Vec<u8>,
}

/// recvmsg(2).
pub(crate) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8], flags: i32) -> Result<Message, Errno> {
    let mut name = vec![0_u8; NAME];
    let mut control = vec![0_u8; 512];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut header =
        header(&mut part, (name.as_mut_ptr(), NAME), (control.as_mut_ptr(), control.len()));
    // SAFETY: the header's pointers and lengths describe `part`, `buffer`, `name` and `control`,
    // which are ours alone and outlive the call.
    let length = check(unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, flags) })?;
    name.truncate(usize::try_from(header.msg_namelen).unwrap_or(0));
    control.truncate(header.msg_controllen);
    Ok(Message { length, name, control })
}

/// A `struct msghdr`; empty parts become null pointers.
fn header(
    part: &mut libc::iovec,
    (name, name_length): (*mut u8, usize),
    (control, control_length): (*mut u8, usize),
) -> libc::msghdr {
    // SAFETY: a msghdr is integers and pointers, for which zero is a value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = part;
    header.msg_iovlen = 1;
    header.msg_name = if name_length == 0 { ptr::null_mut() } else { name.cast() };
    header.msg_namelen = socklen(name_length);
    header.msg_control = if control_length == 0 { ptr::null_mut() } else { control.cast() };
    header.msg_controllen = control_length;
    header
}
