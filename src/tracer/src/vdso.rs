//! Programs that run already stop asking their vDSO for the time (vdso(7)).
//!
//! Its functions that tell the time are overwritten by the calls that they save, in the private copy
//! of the page that a write to `/proc/PID/mem` makes.

use std::{fs::OpenOptions, io, os::unix::fs::FileExt};

use umvu_abi::Tid;

use crate::{arch, remote::range};

/// The most that a vDSO takes.
const SIZE_LIMIT: u64 = 1 << 20;
/// Sizes of ELF's structures (elf(5)).
const SECTION: usize = 64;
const SYMBOL: usize = 24;
const SHT_DYNSYM: u64 = 11;
const STT_FUNC: u64 = 2;
/// `endbr64` of x86: the place of an indirect jump, which it stays.
const LANDING: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];

/// Has the functions of a process's vDSO that tell the time make system calls. Again is nothing.
/// Errors: `ESRCH`, `EACCES`; `ENOEXEC` for a vDSO that is not understood.
pub fn divert(task: Tid) -> io::Result<()> {
    let maps = std::fs::read(format!("/proc/{task}/maps"))?;
    let maps = String::from_utf8_lossy(&maps);
    let Some(line) = maps.lines().find(|line| line.ends_with("[vdso]")) else { return Ok(()) };
    let (start, end) = range(line).ok_or(io::ErrorKind::InvalidData)?;
    let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{task}/mem"))?;
    let mut image = vec![0; usize::try_from((end - start).min(SIZE_LIMIT)).unwrap_or(0)];
    memory.read_exact_at(&mut image, start)?;
    let functions = functions(&image).ok_or(io::Error::from_raw_os_error(libc::ENOEXEC))?;
    for (name, code) in arch::TELL_TIME {
        let named = functions.iter().filter(|(known, _)| known == name.as_bytes());
        for at in named.map(|(_, at)| *at) {
            let body = image.get(at..).unwrap_or_default();
            let at = at + if body.starts_with(LANDING) { LANDING.len() } else { 0 };
            let is_done = image.get(at..at + code.len()).is_none_or(|now| now == *code);
            if !is_done {
                memory.write_all_at(code, start + at as u64)?;
            }
        }
    }
    Ok(())
}

/// The functions of an image and where they are in it; None for what is no ELF file.
fn functions(image: &[u8]) -> Option<Vec<(Vec<u8>, usize)>> {
    if !image.starts_with(b"\x7fELF\x02") {
        return None;
    }
    let sections = usize::try_from(word(image, 40, 8)?).ok()?;
    let count = usize::try_from(word(image, 60, 2)?).ok()?;
    let header = |index: usize| {
        let at = sections.checked_add(index.checked_mul(SECTION)?)?;
        image.get(at..at.checked_add(SECTION)?)
    };
    let body = |header: &[u8]| {
        let field = |at| usize::try_from(word(header, at, 8)?).ok();
        let start: usize = field(24)?;
        image.get(start..start.checked_add(field(32)?)?)
    };
    let symbols = (0..count).filter_map(header).find(|one| word(one, 4, 4) == Some(SHT_DYNSYM))?;
    let names = body(header(usize::try_from(word(symbols, 40, 4)?).ok()?)?)?;
    let found = body(symbols)?.chunks_exact(SYMBOL).filter_map(|symbol| {
        let is_function = word(symbol, 4, 1)? & 0xf == STT_FUNC;
        let name = names.get(usize::try_from(word(symbol, 0, 4)?).ok()?..)?;
        let name = name.split(|byte| *byte == 0).next()?.to_vec();
        // A vDSO is linked to the address 0.
        is_function.then_some((name, usize::try_from(word(symbol, 8, 8)?).ok()?))
    });
    Some(found.collect())
}

/// A little-endian number of so many bytes.
fn word(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_vdso_has_the_functions_that_tell_the_time() {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("readable");
        let line = maps.lines().find(|line| line.ends_with("[vdso]")).expect("mapped");
        let (start, end) = range(line).expect("a range");
        let mut image = vec![0; usize::try_from(end - start).expect("small")];
        let memory = std::fs::File::open("/proc/self/mem").expect("readable");
        memory.read_exact_at(&mut image, start).expect("readable");
        let found = functions(&image).expect("an ELF file");
        for (name, _) in arch::TELL_TIME {
            assert!(found.iter().any(|(known, _)| known == name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn what_is_damaged_is_no_panic() {
        assert_eq!(functions(b"x"), None);
        for length in 0..200 {
            let mut image = vec![0xff; length];
            let start = b"\x7fELF\x02";
            let head = length.min(start.len());
            image[..head].copy_from_slice(&start[..head]);
            assert_eq!(functions(&image), None);
        }
    }
}
