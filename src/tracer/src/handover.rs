//! Gives a stopped guest one of our descriptors, by calls that it makes itself: a socket pair and
//! SCM_RIGHTS (unix(7)). For the pure ptrace mode.

use std::{
    io::{self, IoSlice},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

use crate::{remote::Remote, sys};

const SCRATCH: u64 = 256;
/// Offsets in the scratch memory.
const PAIR: u64 = 0;
const HEADER: u64 = 64;
const VECTOR: u64 = 128;
const BYTE: u64 = 144;
const CONTROL: u64 = 160;
const CONTROL_SIZE: u64 = 24;
const HEADER_SIZE: usize = 56;

/// Installs `fd` at the guest's lowest free number and returns it. Errors: `ESRCH`, `EMFILE`.
pub(crate) fn give(
    remote: &mut Remote<'_>,
    group: i32,
    fd: &OwnedFd,
    close_on_exec: bool,
) -> io::Result<i64> {
    let at = remote.scratch(SCRATCH);
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    let made =
        remote.call(libc::SYS_socketpair, [arg(libc::AF_UNIX), arg(kind), 0, at + PAIR, 0, 0])?;
    check(made)?;
    let mut pair = [0; 8];
    remote.read(at + PAIR, &mut pair)?;
    let [left, right] = [0, 4]
        .map(|from| pair[from..].first_chunk().map_or(-1, |field| i32::from_ne_bytes(*field)));
    let result = transfer(remote, group, fd, at, [left, right]);
    for end in [left, right] {
        remote.call(libc::SYS_close, [arg(end), 0, 0, 0, 0, 0])?;
    }
    let given = result?;
    let lowest = if close_on_exec { libc::F_DUPFD_CLOEXEC } else { libc::F_DUPFD };
    let moved = remote.call(libc::SYS_fcntl, [given, arg(lowest), 0, 0, 0, 0])?;
    remote.call(libc::SYS_close, [given, 0, 0, 0, 0, 0])?;
    check(moved)
}

/// Puts `fd` under a number of the guest. Errors: `ESRCH`, `EMFILE`.
pub(crate) fn replace(
    remote: &mut Remote<'_>,
    group: i32,
    fd: &OwnedFd,
    close_on_exec: bool,
    at: i32,
) -> io::Result<()> {
    let given = give(remote, group, fd, true)?.cast_unsigned();
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    let replaced = remote.call(libc::SYS_dup3, [given, arg(at), arg(flags), 0, 0, 0])?;
    remote.call(libc::SYS_close, [given, 0, 0, 0, 0, 0])?;
    check(replaced).map(|_| ())
}

/// Sends the descriptor through the pair; returns the number that the guest received.
fn transfer(
    remote: &mut Remote<'_>,
    group: i32,
    fd: &OwnedFd,
    at: u64,
    [left, right]: [i32; 2],
) -> io::Result<u64> {
    let ours = sys::pidfd_open(group).and_then(|pidfd| sys::pidfd_getfd(&pidfd, right))?;
    let raw = [fd.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&raw)];
    let data = [IoSlice::new(&[0])];
    sendmsg::<UnixAddr>(ours.as_raw_fd(), &data, &rights, MsgFlags::empty(), None)?;
    remote.write(at + HEADER, &message_header(at))?;
    let mut vector = (at + BYTE).to_ne_bytes().to_vec();
    vector.extend_from_slice(&1_u64.to_ne_bytes());
    remote.write(at + VECTOR, &vector)?;
    check(remote.call(libc::SYS_recvmsg, [arg(left), at + HEADER, 0, 0, 0, 0])?)?;
    let mut control = [0; 24];
    remote.read(at + CONTROL, &mut control)?;
    let number = control[16..].first_chunk().map_or(-1, |field| i32::from_ne_bytes(*field));
    u64::try_from(number).map_err(io::Error::other)
}

/// `struct msghdr`: no name, one vector, a control buffer for one descriptor.
fn message_header(at: u64) -> [u8; HEADER_SIZE] {
    let words = [0, 0, at + VECTOR, 1, at + CONTROL, CONTROL_SIZE, 0];
    let mut header = [0; HEADER_SIZE];
    for (room, word) in header.chunks_exact_mut(8).zip(words) {
        room.copy_from_slice(&word.to_ne_bytes());
    }
    header
}

fn arg(value: i32) -> u64 {
    i64::from(value).cast_unsigned()
}

fn check(result: i64) -> io::Result<i64> {
    if result < 0 {
        Err(io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or(libc::EIO)))
    } else {
        Ok(result)
    }
}
