//! The seccomp filters: classic BPF over `struct seccomp_data` (seccomp(2)).

use umvu_abi::{Errno, Tid};

use crate::{
    api::{Subscription, Trap, Watch},
    arch,
    registers::Registers,
};

/// One BPF instruction: `struct sock_filter`, 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    k: u32,
}

impl Instruction {
    /// The C layout.
    pub(crate) fn encode(self) -> [u8; 8] {
        let [a, b] = self.code.to_ne_bytes();
        let [k0, k1, k2, k3] = self.k.to_ne_bytes();
        [a, b, self.jump_true, self.jump_false, k0, k1, k2, k3]
    }
}

const LOAD: u16 = 0x20;
const JUMP_EQ: u16 = 0x15;
const JUMP_GE: u16 = 0x35;
const JUMP_SET: u16 = 0x45;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const TRACE: u32 = libc::SECCOMP_RET_TRACE;
const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
/// Numbers from here on, as unsigned, are the VU calls.
const VU_RANGE: u32 = 0xffff_ff00;
/// Numbers from here on, far above the kernel's and below those of x32, stand for others.
const STAND_INS: u32 = 0x2000_0000;
const STAND_INS_LIMIT: usize = 4096;
/// clone(2) of i386 and of arm; clone3(2) has one number everywhere.
const FOREIGN_CLONE: u32 = 120;
const NUMBER_AT: u32 = 0;
const ARCH_AT: u32 = 4;
const COUNTER_AT: u32 = 8;

fn errno(errno: Errno) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.0.cast_unsigned() & 0xffff
}

fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, k }
}

fn jump(code: u16, k: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, k }
}

/// Offset of the low half of an argument.
fn low(index: u8) -> u32 {
    16 + 8 * u32::from(index)
}

/// The filter of every guest from its start: the VU calls trap, and the creation of tasks where it
/// might hide a child from us: clone(2) with CLONE_UNTRACED, and clone3(2), whose flags are in
/// memory.
pub(crate) fn base() -> Vec<Instruction> {
    let number = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    let untraced = libc::CLONE_UNTRACED.cast_unsigned();
    vec![
        op(LOAD, ARCH_AT),
        jump(JUMP_EQ, arch::AUDIT_ARCH, 0, 7),
        op(LOAD, NUMBER_AT),
        jump(JUMP_GE, VU_RANGE, 4, 0),
        jump(JUMP_EQ, number(libc::SYS_clone3), 3, 0),
        jump(JUMP_EQ, number(libc::SYS_clone), 0, 9),
        op(LOAD, low(0)),
        jump(JUMP_SET, untraced, 0, 7),
        op(RETURN, TRACE),
        // Another ABI, where clone has another number: what might hide is refused.
        op(LOAD, NUMBER_AT),
        jump(JUMP_EQ, number(libc::SYS_clone3), 3, 0),
        jump(JUMP_EQ, FOREIGN_CLONE, 0, 3),
        op(LOAD, low(0)),
        jump(JUMP_SET, untraced, 0, 1),
        op(RETURN, errno(Errno::ENOSYS)),
        op(RETURN, ALLOW),
    ]
}

/// The filter of an armed view, which traps some calls also that are optional.
pub(crate) fn armed(subscriptions: &[Subscription], also: &[i64]) -> Vec<Instruction> {
    let asked_for = |row: &Subscription| match row.trap {
        Trap::Refuse(_) => *row,
        Trap::OptionalNonNull(index) if also.contains(&row.number) => {
            Subscription { trap: Trap::NonNull(index), ..*row }
        }
        _ if also.contains(&row.number) => Subscription { trap: Trap::Always, ..*row },
        _ => *row,
    };
    let rows = subscriptions.iter().map(asked_for);
    let unwatched: Vec<Subscription> = rows.filter_map(|row| before_watched(&row)).collect();
    let mut rows: Vec<&Subscription> = unwatched.iter().collect();
    rows.sort_by_key(|row| row.number);
    let mut program = vec![
        op(LOAD, ARCH_AT),
        jump(JUMP_EQ, arch::AUDIT_ARCH, 1, 0),
        // Refused as well, but with a line in the log.
        op(RETURN, NOTIFY),
        op(LOAD, NUMBER_AT),
        // The VU calls, x32's, and those that stand for others.
        jump(JUMP_GE, STAND_INS, 0, 1),
        op(RETURN, NOTIFY),
    ];
    tree(&rows, &mut program);
    program
}

/// A row as it is in processes that are not watched.
fn before_watched(row: &Subscription) -> Option<Subscription> {
    let trap = match row.trap {
        Trap::Watched(_, before) => before.as_trap()?,
        Trap::Waiting | Trap::Optional | Trap::OptionalNonNull(_) => return None,
        trap => trap,
    };
    Some(Subscription { trap, ..*row })
}

/// The calls that are trapped in processes watched so, sorted.
pub(crate) fn watched(subscriptions: &[Subscription], most: Watch) -> Vec<i64> {
    let rows = subscriptions.iter();
    let rows = rows.filter(|row| matches!(row.trap, Trap::Watched(watch, _) if watch <= most));
    let mut numbers: Vec<i64> = rows.map(|row| row.number).collect();
    numbers.sort_unstable();
    numbers
}

/// The calls that a filter other than the armed one may stop at, sorted.
pub(crate) fn stopping(subscriptions: &[Subscription]) -> Vec<i64> {
    let stops = |row: &&Subscription| !matches!(row.trap, Trap::Refuse(_));
    let mut numbers: Vec<i64> = subscriptions.iter().filter(stops).map(|row| row.number).collect();
    numbers.sort_unstable();
    numbers
}

/// The calls that are trapped in processes whose waits are watched, sorted.
pub(crate) fn waits(subscriptions: &[Subscription]) -> Vec<i64> {
    let rows = subscriptions.iter().filter(|row| row.trap == Trap::Waiting);
    let mut numbers: Vec<i64> = rows.map(|row| row.number).collect();
    numbers.sort_unstable();
    numbers
}

/// The filter that is added to a watched process. A second filter cannot have a listener, so it
/// stops its guest; what the armed filter notifies as well is notified.
pub(crate) fn watching(numbers: &[i64], subscriptions: &[Subscription]) -> Vec<Instruction> {
    let mut program = vec![
        op(LOAD, ARCH_AT),
        jump(JUMP_EQ, arch::AUDIT_ARCH, 1, 0),
        op(RETURN, ALLOW),
        op(LOAD, NUMBER_AT),
    ];
    for number in numbers {
        // A path that a guest has judged itself is no matter of descriptors.
        let row = subscriptions.iter().find(|row| row.number == *number);
        let judged = row.is_some_and(|row| row.path.is_some());
        let mut body = Vec::new();
        if let Some(Trap::OptionalNonNull(index)) = row.map(|row| row.trap) {
            body.extend(when_null(index));
        }
        if let Some(shortcut) = arch::shortcut().filter(|_| judged) {
            body.extend(unless_at(shortcut.allowed));
        }
        body.push(op(RETURN, TRACE));
        let skip = u8::try_from(body.len()).unwrap_or(u8::MAX);
        program.push(jump(JUMP_EQ, u32::try_from(*number).unwrap_or(u32::MAX), 0, skip));
        program.append(&mut body);
    }
    program.push(op(RETURN, ALLOW));
    program
}

/// The filter that is added to a process of which one descriptor is watched: its calls of these
/// numbers stop, when that is their first argument.
pub(crate) fn watching_descriptor(numbers: &[i64], descriptor: i32) -> Vec<Instruction> {
    let mut program = vec![
        op(LOAD, ARCH_AT),
        jump(JUMP_EQ, arch::AUDIT_ARCH, 0, 2),
        op(LOAD, low(0)),
        jump(JUMP_EQ, descriptor.cast_unsigned(), 1, 0),
        op(RETURN, ALLOW),
        op(LOAD, NUMBER_AT),
    ];
    for number in numbers {
        program.push(jump(JUMP_EQ, u32::try_from(*number).unwrap_or(u32::MAX), 0, 1));
        program.push(op(RETURN, TRACE));
    }
    program.push(op(RETURN, ALLOW));
    program
}

/// The number that stands for the watched call at this place while it is passed on to the listener:
/// every armed filter notifies it. It cannot be negative: that would skip the call.
pub(crate) fn stand_in(place: usize) -> Option<i64> {
    Some(i64::from(STAND_INS) + i64::try_from(place).ok()?)
}

/// The place of the call that a number stands in for.
pub(crate) fn stood_for(number: i64) -> Option<usize> {
    let place = number - i64::from(STAND_INS);
    usize::try_from(place).ok().filter(|place| *place < STAND_INS_LIMIT)
}

/// A binary search by number; leaves hold up to four rows.
fn tree(rows: &[&Subscription], program: &mut Vec<Instruction>) {
    if rows.len() <= 4 {
        for row in rows {
            leaf(row, program);
        }
        program.push(op(RETURN, ALLOW));
        return;
    }
    let (left, right) = rows.split_at(rows.len() / 2);
    let mut below = Vec::new();
    tree(left, &mut below);
    let pivot = u32::try_from(right[0].number).unwrap_or(u32::MAX);
    // A far jump: conditional offsets have eight bits only.
    program.push(jump(JUMP_GE, pivot, 0, 1));
    program.push(op(0x05, u32::try_from(below.len()).unwrap_or(0)));
    program.append(&mut below);
    tree(right, program);
}

fn leaf(row: &Subscription, program: &mut Vec<Instruction>) {
    let mut body = Vec::new();
    if row.path.is_some()
        && let Some(shortcut) = arch::shortcut()
    {
        body.extend(unless_at(shortcut.allowed));
    }
    match row.trap {
        Trap::Always => body.push(op(RETURN, NOTIFY)),
        Trap::Waiting | Trap::Optional | Trap::OptionalNonNull(_) => {
            body.push(op(RETURN, ALLOW));
        }
        Trap::Refuse(error) => body.push(op(RETURN, errno(error))),
        Trap::NonNull(index) => {
            body.extend(when_null(index));
            body.push(op(RETURN, NOTIFY));
        }
        Trap::NonNullOr { pointer, index, mask } => body.extend([
            op(LOAD, low(pointer)),
            jump(JUMP_EQ, 0, 0, 6),
            op(LOAD, low(pointer) + 4),
            jump(JUMP_EQ, 0, 0, 4),
            op(LOAD, low(index)),
            op(AND, mask),
            jump(JUMP_EQ, 0, 0, 1),
            op(RETURN, ALLOW),
            op(RETURN, NOTIFY),
        ]),
        // Replaced by what holds for the unwatched before.
        Trap::Watched(..) => {}
        Trap::Masked { index, mask, value } => body.extend([
            op(LOAD, low(index)),
            op(AND, mask),
            jump(JUMP_EQ, value, 0, 1),
            op(RETURN, NOTIFY),
            op(RETURN, ALLOW),
        ]),
        Trap::Unless { index, mask, value } => body.extend([
            op(LOAD, low(index)),
            op(AND, mask),
            jump(JUMP_EQ, value, 1, 0),
            op(RETURN, NOTIFY),
            op(RETURN, ALLOW),
        ]),
    }
    let number = u32::try_from(row.number).unwrap_or(u32::MAX);
    let skip = u8::try_from(body.len()).unwrap_or(u8::MAX);
    program.push(jump(JUMP_EQ, number, 0, skip));
    program.append(&mut body);
}

/// Allows a call in which this pointer argument is NULL.
fn when_null(index: u8) -> [Instruction; 5] {
    [
        op(LOAD, low(index)),
        jump(JUMP_EQ, 0, 0, 3),
        op(LOAD, low(index) + 4),
        jump(JUMP_EQ, 0, 0, 1),
        op(RETURN, ALLOW),
    ]
}

/// Allows a call that is made at this address.
fn unless_at(counter: u64) -> [Instruction; 5] {
    let half = |half: u64| u32::try_from(half & 0xffff_ffff).unwrap_or(0);
    let (high, low) = (half(counter >> 32), half(counter));
    [
        op(LOAD, COUNTER_AT),
        jump(JUMP_EQ, low, 0, 3),
        op(LOAD, COUNTER_AT + 4),
        jump(JUMP_EQ, high, 0, 1),
        op(RETURN, ALLOW),
    ]
}

/// Whether a call was made in another ABI than ours, whose numbers mean other calls: `int 0x80` and
/// 32-bit programs, x32. Such calls of an armed view are refused with `ENOSYS`.
pub(crate) fn is_foreign(abi: u32, number: i64) -> bool {
    let marked = |bit: u32| number >= 0 && number & i64::from(bit) != 0;
    abi != arch::AUDIT_ARCH || arch::FOREIGN_NUMBER_BIT.is_some_and(marked)
}

/// Says why a program that makes calls of another ABI fails.
pub(crate) fn warn_of_foreign(tid: Tid, number: i64) {
    let name = std::fs::read(format!("/proc/{tid}/comm")).unwrap_or_default();
    let name = String::from_utf8_lossy(&name);
    tracing::warn!(
        "{} ({tid}): system call {number} of another ABI is refused (ENOSYS): only 64-bit programs \
         run once a module is loaded",
        name.trim_end()
    );
}

/// Whether the armed filter notifies the call that a guest is in.
pub(crate) fn notifies(row: &Subscription, registers: &Registers) -> bool {
    let judged = row.path.is_some()
        && arch::shortcut().is_some_and(|shortcut| shortcut.allowed == registers.counter());
    !judged && before_watched(row).is_some_and(|row| traps(row.trap, &registers.args()))
}

/// Whether a call is trapped: the same decision for the pure ptrace mode.
pub(crate) fn traps(trap: Trap, args: &[u64; 6]) -> bool {
    let masked = |index: u8, mask: u32, value: u32| {
        let word = args[usize::from(index)] & 0xffff_ffff;
        word & u64::from(mask) == u64::from(value)
    };
    match trap {
        // Without filters every process is watched.
        Trap::Always | Trap::Waiting | Trap::Watched(..) | Trap::Optional => true,
        Trap::Refuse(_) => false,
        Trap::NonNull(index) | Trap::OptionalNonNull(index) => args[usize::from(index)] != 0,
        Trap::NonNullOr { pointer, index, mask } => {
            args[usize::from(pointer)] != 0 || !masked(index, mask, 0)
        }
        Trap::Masked { index, mask, value } => masked(index, mask, value),
        Trap::Unless { index, mask, value } => !masked(index, mask, value),
    }
}
