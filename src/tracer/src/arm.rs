//! Arming: the filter with a listener, injected into a thread group of guests.

use std::{io, os::fd::OwnedFd};

use nix::unistd::Pid;

use crate::{filter::Instruction, guest::TaskGuest, remote::Remote, sys};

const NEW_LISTENER: u64 = 1 << 3;
const NO_NEW_PRIVS: u64 = libc::PR_SET_NO_NEW_PRIVS.cast_unsigned() as u64;
const TSYNC: u64 = 1;
const TSYNC_ESRCH: u64 = 1 << 4;

/// What the filter was installed in.
pub(crate) enum Reach {
    /// All threads of the group.
    Group(OwnedFd),
    /// One thread: others of its group have filters of their own.
    Thread(OwnedFd),
}

/// Makes a guest, stopped before its return to user mode, install the filter for its group, and
/// fetches the listener. Errors: `ESRCH` when the guest dies, and those of seccomp(2).
pub(crate) fn inject(
    guest: &TaskGuest,
    tid: Pid,
    group: i32,
    filter: &[Instruction],
) -> io::Result<Reach> {
    let memory = guest.memory().map_err(io::Error::from)?;
    let mut remote = Remote::begin(tid, group, memory)?;
    let result = install(&mut remote, group, filter);
    remote.end()?;
    result
}

/// Makes a stopped guest add a filter without a listener, for its group if it can be; returns
/// whether it was. Errors: `ESRCH` when the guest dies, and those of seccomp(2).
pub(crate) fn add(
    guest: &TaskGuest,
    tid: Pid,
    group: i32,
    filter: &[Instruction],
) -> io::Result<bool> {
    let memory = guest.memory().map_err(io::Error::from)?;
    let mut remote = Remote::begin(tid, group, memory)?;
    let at = write_program(&mut remote, filter);
    let result = at.and_then(|at| {
        let mut seccomp = |flags: u64| {
            let mode = u64::from(libc::SECCOMP_SET_MODE_FILTER);
            remote.call(libc::SYS_seccomp, [mode, flags, at, 0, 0, 0])
        };
        let whole = seccomp(TSYNC | TSYNC_ESRCH)? == 0;
        if whole || seccomp(0)? == 0 {
            return Ok(whole);
        }
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    });
    remote.end()?;
    result
}

/// Puts `struct sock_fprog` and its filter on the guest's stack.
fn write_program(remote: &mut Remote<'_>, filter: &[Instruction]) -> io::Result<u64> {
    let code: Vec<u8> = filter.iter().flat_map(|one| one.encode()).collect();
    let at = remote.scratch(16 + code.len() as u64);
    // struct sock_fprog { unsigned short len; struct sock_filter *filter; }
    let mut program = u64::try_from(filter.len()).unwrap_or(0).to_ne_bytes().to_vec();
    program.extend_from_slice(&(at + 16).to_ne_bytes());
    program.extend_from_slice(&code);
    remote.write(at, &program)?;
    Ok(at)
}

fn install(remote: &mut Remote<'_>, group: i32, filter: &[Instruction]) -> io::Result<Reach> {
    let at = write_program(remote, filter)?;
    // Inherited from the first program, which may not have got so far when it is armed itself.
    remote.call(libc::SYS_prctl, [NO_NEW_PRIVS, 1, 0, 0, 0, 0])?;
    let mut seccomp = |flags: u64| {
        let mode = u64::from(libc::SECCOMP_SET_MODE_FILTER);
        remote.call(libc::SYS_seccomp, [mode, flags, at, 0, 0, 0])
    };
    let mut whole = true;
    let mut fd = seccomp(NEW_LISTENER | TSYNC | TSYNC_ESRCH)?;
    if fd == -i64::from(libc::ESRCH) {
        whole = false;
        fd = seccomp(NEW_LISTENER)?;
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    let listener = sys::pidfd_open(group).and_then(|pidfd| sys::pidfd_getfd(&pidfd, fd));
    remote.call(libc::SYS_close, [u64::from(fd.unsigned_abs()), 0, 0, 0, 0, 0])?;
    Ok(if whole { Reach::Group(listener?) } else { Reach::Thread(listener?) })
}
