//! The code of the short cut (see [`crate::shortcut`]): what a guest executes in place of the
//! `syscall` instruction of a call about a path.

#![expect(unsafe_code, reason = "the addresses of assembler labels")]

use core::arch::global_asm;

use super::super::{Block, Shortcut};

/// Where guests have it: in the lowest 2 GiB, which a `jmp` of seven bytes reaches from anywhere.
const AT: u64 = 0x2f00_0000;
const TABLE: u64 = AT + 0x1000;
/// Where the blocks of the sites begin, and how large each is.
const BLOCKS: u64 = AT + 0x200;
const BLOCK: u64 = 64;
/// `mov $NUMBER,%eax; syscall`, as compilers write it.
const SITE: usize = 7;

// Entered with the return address on the stack, 128 bytes below the caller's stack pointer (the red
// zone of the System V ABI), the number in eax. Everything but rax, rcx and r11 is preserved, which
// are those that the instruction itself changes.
//
// The path is let through when it is absolute and its first component is not in the table, and no
// `..` leads back above that component. A path that cannot be read faults between `scan` and
// `fallback`: the tracer then goes on at `fallback`, where the call is trapped and judged as usual.
global_asm!(
    ".pushsection .rodata.umvu_shortcut, \"a\"",
    ".globl umvu_shortcut_start",
    ".globl umvu_shortcut_in_rsi",
    ".globl umvu_shortcut_allowed",
    ".globl umvu_shortcut_fallback",
    ".globl umvu_shortcut_end",
    "umvu_shortcut_start:",
    // The path is the first argument.
    "push rdx",
    "mov rcx, rdi",
    "jmp 1f",
    // The path is the second one.
    "umvu_shortcut_in_rsi:",
    "push rdx",
    "mov rcx, rsi",
    "1:",
    "push rax",
    "push rbx",
    "cmp byte ptr [rcx], 0x2f",
    "jne umvu_shortcut_fallback",
    // The first component, its first eight bytes as a number in rdx.
    "xor edx, edx",
    "xor ebx, ebx",
    "2:",
    "inc rcx",
    "movzx eax, byte ptr [rcx]",
    "test al, al",
    "jz 3f",
    "cmp al, 0x2f",
    "je 3f",
    "cmp ebx, 8",
    "jae 2b",
    "shl rdx, 8",
    "or rdx, rax",
    "inc ebx",
    "jmp 2b",
    "3:",
    "test ebx, ebx",
    "jz umvu_shortcut_fallback",
    "cmp rdx, 0x2e",
    "je umvu_shortcut_fallback",
    "cmp rdx, 0x2e2e",
    "je umvu_shortcut_fallback",
    // The table: a count, then so many components.
    "mov r11, qword ptr ds:[{table}]",
    "4:",
    "test r11, r11",
    "js umvu_shortcut_fallback",
    "jz 5f",
    "cmp rdx, qword ptr ds:[r11 * 8 + {table}]",
    "je umvu_shortcut_fallback",
    "dec r11",
    "jmp 4b",
    // In /etc only what may be resolv.conf or hosts, by its first letter, is the hypervisor's.
    "5:",
    "cmp rdx, 0x657463",
    "jne 12f",
    "movzx eax, byte ptr [rcx]",
    "test al, al",
    "jz 12f",
    "movzx eax, byte ptr [rcx + 1]",
    "cmp al, 0x72",
    "je umvu_shortcut_fallback",
    "cmp al, 0x68",
    "je umvu_shortcut_fallback",
    "cmp al, 0x2f",
    "je umvu_shortcut_fallback",
    "cmp al, 0x2e",
    "je umvu_shortcut_fallback",
    // The rest: how deep it is below the root, in ebx.
    "12:",
    "mov ebx, 1",
    "6:",
    "cmp byte ptr [rcx], 0",
    "je 9f",
    "7:",
    "inc rcx",
    "cmp byte ptr [rcx], 0x2f",
    "je 7b",
    "cmp byte ptr [rcx], 0",
    "je 9f",
    "cmp byte ptr [rcx], 0x2e",
    "jne 8f",
    "movzx eax, byte ptr [rcx + 1]",
    "inc rcx",
    "test al, al",
    "jz 9f",
    "cmp al, 0x2f",
    "je 6b",
    "cmp al, 0x2e",
    "jne 8f",
    "movzx eax, byte ptr [rcx + 1]",
    "test al, al",
    "jz 10f",
    "cmp al, 0x2f",
    "jne 8f",
    "10:",
    "dec ebx",
    "jz umvu_shortcut_fallback",
    "inc rcx",
    "jmp 6b",
    "8:",
    "inc ebx",
    "11:",
    "movzx eax, byte ptr [rcx]",
    "test al, al",
    "jz 9f",
    "cmp al, 0x2f",
    "je 6b",
    "inc rcx",
    "jmp 11b",
    "9:",
    "pop rbx",
    "pop rax",
    "pop rdx",
    "syscall",
    "umvu_shortcut_allowed:",
    "ret 128",
    "umvu_shortcut_fallback:",
    "pop rbx",
    "pop rax",
    "pop rdx",
    "syscall",
    "ret 128",
    "umvu_shortcut_end:",
    ".popsection",
    table = const TABLE,
);

unsafe extern "C" {
    static umvu_shortcut_start: u8;
    static umvu_shortcut_in_rsi: u8;
    static umvu_shortcut_allowed: u8;
    static umvu_shortcut_fallback: u8;
    static umvu_shortcut_end: u8;
}

fn offset_of(label: *const u8) -> u64 {
    (label as u64).wrapping_sub((&raw const umvu_shortcut_start) as u64)
}

/// The code common to all sites, as bytes.
fn code() -> &'static [u8] {
    let size = usize::try_from(offset_of(&raw const umvu_shortcut_end)).unwrap_or(0);
    // SAFETY: both labels are in one section of this program, `size` bytes apart.
    unsafe { std::slice::from_raw_parts(&raw const umvu_shortcut_start, size) }
}

/// The short cut of this processor.
pub(crate) fn shortcut() -> Option<Shortcut> {
    Some(Shortcut {
        at: AT,
        code: code(),
        table: TABLE,
        allowed: AT + offset_of(&raw const umvu_shortcut_allowed),
        fallback: AT + offset_of(&raw const umvu_shortcut_fallback),
        site: SITE,
        blocks: (TABLE - BLOCKS) / BLOCK,
        recognise,
        block,
    })
}

/// The number of the call when these bytes are a site.
fn recognise(bytes: &[u8]) -> Option<i64> {
    match bytes {
        [0xb8, number @ .., 0x0f, 0x05] => {
            Some(i64::from(i32::from_ne_bytes(*number.first_chunk()?)))
        }
        _ => None,
    }
}

/// The block of a site.
///
/// A block begins with the address of its code, which the site jumps to through it, and ends with
/// the address that follows the site.
fn block(index: u64, number: i64, after: u64, argument: u8) -> Option<Block> {
    let at = BLOCKS + index * BLOCK;
    let entry = match argument {
        0 => AT,
        1 => AT + offset_of(&raw const umvu_shortcut_in_rsi),
        _ => return None,
    };
    let mut bytes = (at + 8).to_ne_bytes().to_vec();
    // mov $NUMBER,%eax; lea -128(%rsp),%rsp
    bytes.push(0xb8);
    bytes.extend_from_slice(&i32::try_from(number).ok()?.to_ne_bytes());
    bytes.extend_from_slice(&[0x48, 0x8d, 0x64, 0x24, 0x80]);
    // push AFTER(%rip): just behind the jump that follows.
    bytes.extend_from_slice(&[0xff, 0x35, 5, 0, 0, 0]);
    // jmp ENTRY
    bytes.push(0xe9);
    let next = at + bytes.len() as u64 + 4;
    let distance = i32::try_from(entry.cast_signed() - next.cast_signed()).ok()?;
    bytes.extend_from_slice(&distance.to_ne_bytes());
    bytes.extend_from_slice(&after.to_ne_bytes());
    // jmp *(AT)
    let mut patch = vec![0xff, 0x24, 0x25];
    patch.extend_from_slice(&u32::try_from(at).ok()?.to_ne_bytes());
    Some(Block { at, code: bytes, patch })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_fits_before_the_blocks_and_a_block_in_its_room() {
        assert!(code().len() as u64 <= BLOCKS - AT, "{}", code().len());
        assert_eq!(code()[..4], [0x52, 0x48, 0x89, 0xf9]);
        let Block { at, code: bytes, patch } = block(3, 0x106, 0x7000_1234, 1).expect("fits");
        assert_eq!(at, BLOCKS + 3 * BLOCK);
        assert!(bytes.len() as u64 <= BLOCK);
        assert_eq!(patch.len(), SITE);
        assert_eq!(block(0, 2, 0, 2), None);
    }

    #[test]
    fn only_the_compilers_sequence_is_a_site() {
        assert_eq!(recognise(&[0xb8, 6, 1, 0, 0, 0x0f, 0x05]), Some(0x106));
        assert_eq!(recognise(&[0xb9, 6, 1, 0, 0, 0x0f, 0x05]), None);
        assert_eq!(recognise(&[0xb8, 6, 1, 0, 0, 0x0f, 0x06]), None);
        assert_eq!(recognise(&[0x0f, 0x05]), None);
    }
}
