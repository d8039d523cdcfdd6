//! x86_64: syscall(2), ptrace(2).

mod shortcut;

pub(crate) use shortcut::shortcut;

/// fork(2), where it is a call of its own.
pub(crate) const FORK: Option<i64> = Some(libc::SYS_fork);
/// `AUDIT_ARCH_X86_64`.
pub(crate) const AUDIT_ARCH: u32 = 0xc000_003e;
/// Numbers with this bit belong to the x32 ABI.
pub(crate) const FOREIGN_NUMBER_BIT: Option<u32> = Some(0x4000_0000);
/// The `syscall` instruction.
pub(crate) const SYSCALL_INSTRUCTION: &[u8] = &[0x0f, 0x05];
/// The functions of the vDSO that tell the time, and the call of each: `mov $NUMBER, %eax; syscall; ret`.
pub(crate) const TELL_TIME: &[(&str, &[u8])] = &[
    ("__vdso_clock_gettime", &[0xb8, 0xe4, 0, 0, 0, 0x0f, 0x05, 0xc3]),
    ("__vdso_gettimeofday", &[0xb8, 0x60, 0, 0, 0, 0x0f, 0x05, 0xc3]),
    ("__vdso_time", &[0xb8, 0xc9, 0, 0, 0, 0x0f, 0x05, 0xc3]),
];

/// The registers of a stopped thread, as PTRACE_GETREGSET gives them (`user_regs_struct`).
pub(crate) type Raw = libc::user_regs_struct;

/// The system-call number.
pub(crate) fn number(raw: &Raw) -> i64 {
    // The kernel looks at the low half only.
    let low = (raw.orig_rax & 0xffff_ffff).cast_signed();
    if low > i64::from(i32::MAX) { low - (1 << 32) } else { low }
}

/// Replaces the system-call number; -1 skips the call.
pub(crate) fn set_number(raw: &mut Raw, number: i64) {
    raw.orig_rax = number.cast_unsigned();
}

/// The six arguments.
pub(crate) fn args(raw: &Raw) -> [u64; 6] {
    [raw.rdi, raw.rsi, raw.rdx, raw.r10, raw.r8, raw.r9]
}

/// Replaces the six arguments.
pub(crate) fn set_args(raw: &mut Raw, args: [u64; 6]) {
    [raw.rdi, raw.rsi, raw.rdx, raw.r10, raw.r8, raw.r9] = args;
}

/// The result register.
pub(crate) fn result(raw: &Raw) -> i64 {
    raw.rax.cast_signed()
}

/// Replaces the result register.
pub(crate) fn set_result(raw: &mut Raw, result: i64) {
    raw.rax = result.cast_unsigned();
}

/// The stack pointer.
pub(crate) fn stack(raw: &Raw) -> u64 {
    raw.rsp
}

/// Moves the stack pointer.
pub(crate) fn set_stack(raw: &mut Raw, stack: u64) {
    raw.rsp = stack;
}

/// The program counter.
pub(crate) fn counter(raw: &Raw) -> u64 {
    raw.rip
}

/// Prepares the execution of the system-call instruction at `site`, from a stop at which no
/// call is to be restarted.
pub(crate) fn prepare_call(raw: &mut Raw, site: u64, number: i64, arguments: [u64; 6]) {
    raw.rip = site;
    raw.rax = number.cast_unsigned();
    raw.orig_rax = u64::MAX;
    set_args(raw, arguments);
}

/// Goes on somewhere else, outside any system call.
pub(crate) fn go_to(raw: &mut Raw, counter: u64) {
    raw.rip = counter;
    raw.orig_rax = u64::MAX;
}
