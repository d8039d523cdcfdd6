//! Registers of a stopped thread, by meaning.

use std::io;

use nix::unistd::Pid;

use crate::{arch, sys};

/// The kernel's own error numbers for interrupted calls (include/linux/errno.h).
pub(crate) const ERESTARTSYS: i64 = -512;
/// A call that is made again whatever the flags of the signal's handler are.
pub(crate) const ERESTARTNOINTR: i64 = -513;

/// A copy of the registers of a stopped thread.
#[derive(Clone, Copy)]
pub(crate) struct Registers {
    raw: arch::Raw,
}

impl std::fmt::Debug for Registers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registers({})", self.number())
    }
}

impl Registers {
    /// Reads them. Errors: `ESRCH`.
    pub(crate) fn read(tid: Pid) -> io::Result<Self> {
        Ok(Self { raw: sys::registers(tid)? })
    }

    /// Writes them. Errors: `ESRCH`.
    pub(crate) fn write(&self, tid: Pid) -> io::Result<()> {
        sys::set_registers(tid, &self.raw)
    }

    /// The number of the call that the thread is in.
    pub(crate) fn number(&self) -> i64 {
        arch::number(&self.raw)
    }

    /// The arguments of the call.
    pub(crate) fn args(&self) -> [u64; 6] {
        arch::args(&self.raw)
    }

    /// Replaces the arguments.
    pub(crate) fn set_args(&mut self, args: [u64; 6]) {
        arch::set_args(&mut self.raw, args);
    }

    /// What the call returned.
    pub(crate) fn result(&self) -> i64 {
        arch::result(&self.raw)
    }

    /// Replaces what the call returned.
    pub(crate) fn set_result(&mut self, result: i64) {
        arch::set_result(&mut self.raw, result);
    }

    /// Replaces the call at an entry stop.
    pub(crate) fn replace(&mut self, number: i64, args: [u64; 6]) {
        arch::set_number(&mut self.raw, number);
        arch::set_args(&mut self.raw, args);
    }

    /// Skips the call at an entry stop; it returns `result`.
    pub(crate) fn skip(&mut self, result: i64) {
        arch::set_number(&mut self.raw, -1);
        arch::set_result(&mut self.raw, result);
    }

    /// Replaces the call at an entry stop by one that waits for signals only: ppoll(2) of nothing.
    pub(crate) fn park(&mut self) {
        self.replace(libc::SYS_ppoll, [0, 0, 0, 0, 8, 0]);
    }

    /// The stack pointer.
    pub(crate) fn stack(&self) -> u64 {
        arch::stack(&self.raw)
    }

    /// Takes room on the stack.
    pub(crate) fn lower_stack(&mut self, by: u64) {
        let lower = self.stack().wrapping_sub(by);
        arch::set_stack(&mut self.raw, lower);
    }

    /// The program counter.
    pub(crate) fn counter(&self) -> u64 {
        arch::counter(&self.raw)
    }

    /// Goes on somewhere else, outside any call.
    pub(crate) fn go_to(&mut self, counter: u64) {
        arch::go_to(&mut self.raw, counter);
    }

    /// From those of a call's entry: the registers that make the same call again.
    pub(crate) fn again(&self) -> Self {
        let site = self.counter().wrapping_sub(arch::SYSCALL_INSTRUCTION.len() as u64);
        self.for_call(site, self.number(), self.args())
    }

    /// As [`Registers::again`], with another call at the same place.
    pub(crate) fn again_with(&self, number: i64, args: [u64; 6]) -> Self {
        let site = self.counter().wrapping_sub(arch::SYSCALL_INSTRUCTION.len() as u64);
        self.for_call(site, number, args)
    }

    /// The registers that execute the system-call instruction at `site`.
    pub(crate) fn for_call(&self, site: u64, number: i64, args: [u64; 6]) -> Self {
        let mut call = *self;
        arch::prepare_call(&mut call.raw, site, number, args);
        call
    }
}
