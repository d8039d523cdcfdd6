//! ioctl(2) and fcntl(2) of a socket.

use std::os::fd::RawFd;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl as kernel_fcntl};
use umvu_abi::Errno;

use crate::{open::Open, registry};

const SIOCADDRT: u32 = 0x890b;
const SIOCDELRT: u32 = 0x890c;
const SIOCGIFNAME: u32 = 0x8910;
/// The list of interfaces, whose argument is a `struct ifconf`.
pub(crate) const SIOCGIFCONF: u32 = 0x8912;
const SIOCSIFADDR: u32 = 0x8916;
const SIOCDIFADDR: u32 = 0x8936;
const SIOCDARP: u32 = 0x8953;
const SIOCSARP: u32 = 0x8955;
const LAST: u32 = 0x89ff;
/// `FIONBIO`: its argument is an int.
const FIONBIO: u32 = 0x5421;
/// `SIOCINQ` and `SIOCOUTQ`: their argument is an int.
const QUEUES: [u32; 2] = [0x541b, 0x5411];

/// How long the argument of a request is. None when there is no such request of a socket.
pub(crate) fn size(fd: RawFd, request: u32) -> Result<Option<usize>, Errno> {
    let v6 = registry::find(fd)?.socket.spec().domain == libc::AF_INET6;
    Ok(match request {
        SIOCADDRT | SIOCDELRT => Some(if v6 { 80 } else { 120 }),
        SIOCSIFADDR | SIOCDIFADDR if v6 => Some(24),
        SIOCDARP..=SIOCSARP => Some(68),
        SIOCGIFNAME..=LAST => Some(40),
        FIONBIO | 0x8900..SIOCGIFNAME => Some(4),
        _ if QUEUES.contains(&request) => Some(4),
        _ => None,
    })
}

/// ioctl(2); the argument may grow, and for `SIOCGIFCONF` it is the buffer.
/// Errors: `ENOTTY` when there is no such request.
pub(crate) fn ioctl(fd: RawFd, request: u32, argument: &mut Vec<u8>) -> Result<i32, Errno> {
    let open = registry::find(fd)?;
    if request == FIONBIO {
        let on = argument.iter().any(|byte| *byte != 0);
        return set_nonblocking(&open, on).map(|()| 0);
    }
    Ok(open.socket.ioctl(request, argument)?)
}

fn set_nonblocking(open: &Open, on: bool) -> Result<(), Errno> {
    let mut flags = open.flags()?;
    flags.set(OFlag::O_NONBLOCK, on);
    open.set_flags(flags)
}

/// fcntl(2). Errors: `EINVAL` for what a descriptor of libioth cannot do.
pub(crate) fn fcntl(fd: RawFd, command: i32, argument: i64) -> Result<i32, Errno> {
    let open = registry::find(fd)?;
    let argument = i32::try_from(argument).unwrap_or(0);
    match command {
        libc::F_GETFL => Ok(open.flags()?.bits()),
        libc::F_SETFL => open.set_flags(OFlag::from_bits_retain(argument)).map(|()| 0),
        libc::F_GETFD | libc::F_SETFD => {
            // The flag is one of the number, not of what is behind it.
            let number = crate::sys::number(&fd);
            let flags = FdFlag::from_bits_retain(argument);
            let arg =
                if command == libc::F_GETFD { FcntlArg::F_GETFD } else { FcntlArg::F_SETFD(flags) };
            kernel_fcntl(number, arg).map_err(|errno| Errno(errno as i32))
        }
        _ => Err(Errno::EINVAL),
    }
}
