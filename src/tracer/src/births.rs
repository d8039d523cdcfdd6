//! The creation of tasks: no child is hidden from the tracer (clone(2), CLONE_UNTRACED).

use umvu_abi::Errno;
use umvu_abi::GuestAddr;

use crate::{api::Guest, arch, guest::TaskGuest, registers::Registers};

const UNTRACED: u64 = libc::CLONE_UNTRACED.cast_unsigned() as u64;

/// Whether a new process uses the memory of its creator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shares {
    /// It has a copy.
    Nothing,
    /// It does, and its creator waits for it (vfork(2)).
    Waiting,
    /// It does, and both run (clone(2) with CLONE_VM).
    Running,
}

/// Tells by the call that a creator is in.
pub(crate) fn shares(registers: &Registers, guest: &TaskGuest) -> Shares {
    let flags = match registers.number() {
        libc::SYS_clone => registers.args()[0],
        libc::SYS_clone3 => {
            let mut flags = [0; 8];
            let read = guest.read(GuestAddr(registers.args()[0]), &mut flags);
            read.map_or(u64::MAX, |()| u64::from_ne_bytes(flags))
        }
        number if Some(number) == arch::FORK => return Shares::Nothing,
        _ => return Shares::Waiting,
    };
    let has = |flag: i32| flags & u64::from(flag.cast_unsigned()) != 0;
    match (has(libc::CLONE_VM), has(libc::CLONE_VFORK)) {
        (false, _) => Shares::Nothing,
        (true, true) => Shares::Waiting,
        (true, false) => Shares::Running,
    }
}

/// Whether a call creates tasks and may hide them.
pub(crate) fn is_birth(number: i64) -> bool {
    number == libc::SYS_clone || number == libc::SYS_clone3
}

/// Changes such a call, at its entry, so that the child is traced: clone(2) loses the flag;
/// clone3(2), whose flags are in the guest's memory, is refused with `ENOSYS` if it has the flag,
/// and the guest falls back to clone(2).
pub(crate) fn show(registers: &mut Registers, guest: &TaskGuest) {
    let mut args = registers.args();
    if registers.number() == libc::SYS_clone {
        args[0] &= !UNTRACED;
        registers.set_args(args);
        return;
    }
    // struct clone_args begins with the flags.
    let mut flags = [0; 8];
    if guest.read(GuestAddr(args[0]), &mut flags).is_ok()
        && u64::from_ne_bytes(flags) & UNTRACED != 0
    {
        registers.skip(Errno::ENOSYS.to_return());
    }
}
