//! aarch64: syscall(2), ptrace(2).

/// fork(2), where it is a call of its own.
pub(crate) const FORK: Option<i64> = None;
/// `AUDIT_ARCH_AARCH64`.
pub(crate) const AUDIT_ARCH: u32 = 0xc000_00b7;
/// No number range of another ABI shares the table.
pub(crate) const FOREIGN_NUMBER_BIT: Option<u32> = None;
/// The `svc #0` instruction.
pub(crate) const SYSCALL_INSTRUCTION: &[u8] = &[0x01, 0x00, 0x00, 0xd4];
/// The functions of the vDSO that tell the time, and the call of each: `mov x8, #NUMBER; svc #0; ret`.
pub(crate) const TELL_TIME: &[(&str, &[u8])] = &[
    ("__kernel_clock_gettime", &[0x28, 0x0e, 0x80, 0xd2, 0x01, 0, 0, 0xd4, 0xc0, 0x03, 0x5f, 0xd6]),
    ("__kernel_gettimeofday", &[0x28, 0x15, 0x80, 0xd2, 0x01, 0, 0, 0xd4, 0xc0, 0x03, 0x5f, 0xd6]),
];

/// The registers of a stopped thread, as PTRACE_GETREGSET gives them (`user_regs_struct`).
pub(crate) type Raw = libc::user_regs_struct;

/// The system-call number.
pub(crate) fn number(raw: &Raw) -> i64 {
    let low = (raw.regs[8] & 0xffff_ffff).cast_signed();
    if low > i64::from(i32::MAX) { low - (1 << 32) } else { low }
}

/// Replaces the system-call number; -1 skips the call.
pub(crate) fn set_number(raw: &mut Raw, number: i64) {
    raw.regs[8] = number.cast_unsigned();
}

/// The six arguments.
pub(crate) fn args(raw: &Raw) -> [u64; 6] {
    let [a, b, c, d, e, f, ..] = raw.regs;
    [a, b, c, d, e, f]
}

/// Replaces the six arguments.
pub(crate) fn set_args(raw: &mut Raw, args: [u64; 6]) {
    raw.regs[..6].copy_from_slice(&args);
}

/// The result register.
pub(crate) fn result(raw: &Raw) -> i64 {
    raw.regs[0].cast_signed()
}

/// Replaces the result register.
pub(crate) fn set_result(raw: &mut Raw, result: i64) {
    raw.regs[0] = result.cast_unsigned();
}

/// The stack pointer.
pub(crate) fn stack(raw: &Raw) -> u64 {
    raw.sp
}

/// Moves the stack pointer.
pub(crate) fn set_stack(raw: &mut Raw, stack: u64) {
    raw.sp = stack;
}

/// The program counter.
pub(crate) fn counter(raw: &Raw) -> u64 {
    raw.pc
}

/// Prepares the execution of the system-call instruction at `site`, from a stop at which no
/// call is to be restarted.
pub(crate) fn prepare_call(raw: &mut Raw, site: u64, number: i64, arguments: [u64; 6]) {
    raw.pc = site;
    raw.regs[8] = number.cast_unsigned();
    set_args(raw, arguments);
}

/// Goes on somewhere else, outside any system call.
pub(crate) fn go_to(raw: &mut Raw, counter: u64) {
    raw.pc = counter;
}

/// There is no short cut for this processor.
pub(crate) fn shortcut() -> Option<super::Shortcut> {
    None
}
