//! Calls that the kernel would not make again by itself.
//!
//! An interrupted call is restarted at the way out of the kernel, unless its number is -1, which
//! is the kernel's sign for "not in a call". But -1 is also the number of `insmod` in VUOS's
//! interface (`vulib.h`): a stop in its wait for an answer would end it with an error number
//! (`ERESTARTSYS`) that no program knows.

use nix::unistd::Pid;
use umvu_abi::GuestAddr;

use crate::{
    api::Guest as _,
    arch,
    guest::TaskGuest,
    registers::{ERESTARTSYS, Registers},
};

/// The number of the call that is never restarted.
const IN_NO_CALL: i64 = -1;

/// Has a stopped guest make its call number -1 again if the stop has interrupted it.
pub(crate) fn restart(tid: Pid, guest: &TaskGuest) {
    let Ok(registers) = Registers::read(tid) else { return };
    if registers.number() != IN_NO_CALL || registers.result() != ERESTARTSYS {
        return;
    }
    // A program may have this number in its register without any call.
    let mut before = [0; arch::SYSCALL_INSTRUCTION.len()];
    let site = registers.counter().wrapping_sub(before.len() as u64);
    if guest.read(GuestAddr(site), &mut before).is_ok() && before == arch::SYSCALL_INSTRUCTION {
        let _ = registers.again().write(tid);
    }
}
