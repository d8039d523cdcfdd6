//! Which calls about files may wait for an event, and so be interrupted by a signal, on Linux:
//! opening a FIFO or a terminal, moving data of a device. Other files come at once or not at all
//! (signal(7): "Interruption of system calls and library functions by signal handlers").

use std::{fs, os::unix::fs::MetadataExt};

use syscalls::Sysno;
use umvu_abi::Errno;
use umvu_tracer::api::Call;

use super::{
    locate::{self, At, os_path},
    resolve::{Last, Place},
    transfer,
};
use crate::Core;

/// The major number of `null`, `zero`, `random` and their like.
const MEMORY: u32 = 1;

/// Whether a call that the kernel performs, or that is worked on apart, may wait.
pub(crate) fn may_wait(core: &Core, call: &Call) -> bool {
    if let Some((at, flags)) = opened(call) {
        let waits = flags & libc::O_NONBLOCK == 0;
        return waits && is_waited_for(kind(core, call, at).unwrap_or(0));
    }
    match transfer::kind_of(core, call) {
        Ok(Some(kind)) => is_waited_for(kind),
        // A socket, a pipe.
        Ok(None) | Err(_) => !is_hasty(call),
    }
}

/// The path of a call that opens, and its flags.
fn opened(call: &Call) -> Option<(At, i32)> {
    let number = usize::try_from(call.syscall.number).ok().and_then(Sysno::new)?;
    match number.name() {
        "creat" => Some((locate::path(0), 0)),
        "open" => Some((locate::path(0), call.int(1))),
        "openat" => Some((locate::at(0), call.int(2))),
        "openat2" => {
            let mut flags = [0; 8];
            call.guest.read(call.addr(2), &mut flags).ok()?;
            Some((locate::at(0), i32::try_from(u64::from_ne_bytes(flags)).ok()?))
        }
        _ => None,
    }
}

fn is_waited_for(kind: u32) -> bool {
    matches!(kind, libc::S_IFIFO | libc::S_IFCHR)
}

/// Whether a descriptor or the call's own flags say that it does not wait.
fn is_hasty(call: &Call) -> bool {
    let number = usize::try_from(call.syscall.number).ok().and_then(Sysno::new);
    let flags = match number.map_or("", |number| number.name()) {
        "sendto" | "recvfrom" | "sendmmsg" | "recvmmsg" => call.int(3),
        "sendmsg" | "recvmsg" => call.int(2),
        _ => 0,
    };
    flags & libc::MSG_DONTWAIT != 0 || is_nonblocking(call).unwrap_or(false)
}

fn is_nonblocking(call: &Call) -> Option<bool> {
    let path = format!("/proc/{}/fdinfo/{}", call.tid(), call.fd(0).0);
    let info = fs::read_to_string(path).ok()?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = i32::from_str_radix(flags.trim(), 8).ok()?;
    Some(flags & libc::O_NONBLOCK != 0)
}

/// The kind of file that a path names, as `st_mode` has it. Errors: those of stat(2).
fn kind(core: &Core, call: &Call, at: At) -> Result<u32, Errno> {
    let path = locate::absolute(core, call, at)?;
    match locate::resolve(core, call.tid(), &path, Last::Follow)? {
        Place::Inode(found) => found.inode.kind(),
        Place::Real(path) => {
            let found = fs::metadata(os_path(&path))?;
            // Memory devices such as null and zero come at once.
            let at_once = libc::major(found.rdev()) == MEMORY;
            Ok(if at_once { 0 } else { found.mode() & libc::S_IFMT })
        }
        _ => Ok(0),
    }
}
