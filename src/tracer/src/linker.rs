//! Another dynamic linker for a program than the kernel has chosen.
//!
//! The kernel opens the file that `PT_INTERP` names by itself, in its own tree. Before a new program has
//! run, the dynamic linker of its view is put into its memory instead, and is where it begins. Its pages are
//! anonymous, as of a program that has unpacked itself.

use std::{io, os::fd::OwnedFd};

use nix::unistd::Pid;
use umvu_abi::elf::{self, Segment};

use crate::{
    api::VECTOR_ENTRY,
    guest::TaskGuest,
    handover,
    registers::Registers,
    remote::{Remote, range},
    sys::{self, Wait},
};

const PAGE: u64 = 4096;
/// How much address space a dynamic linker may take.
const SPAN_LIMIT: u64 = 1 << 28;

/// A dynamic linker as a file.
#[derive(Debug)]
struct Image<'a> {
    bytes: &'a [u8],
    entry: u64,
    segments: Vec<Segment>,
    /// The pages from the first to the last, as the file numbers them.
    pages: (u64, u64),
}

impl<'a> Image<'a> {
    /// Errors: `ENOEXEC`.
    fn read(bytes: &'a [u8]) -> io::Result<Self> {
        Self::parse(bytes).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOEXEC))
    }

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = elf::header(bytes).filter(|header| header.kind == elf::DYNAMIC)?;
        let (from, to) = header.table;
        let table = bytes.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)?;
        let mut segments = elf::segments(table);
        segments.retain(|segment| segment.kind == elf::LOAD);
        let first = segments.iter().map(|segment| segment.address).min()? & !(PAGE - 1);
        let mut last = first;
        for segment in &segments {
            let end = segment.address.checked_add(segment.memory_size)?;
            last = last.max(end.checked_next_multiple_of(PAGE)?);
            let data = segment.offset.checked_add(segment.file_size)?;
            if segment.file_size > segment.memory_size || data > bytes.len() as u64 {
                return None;
            }
        }
        let inside = (first..last).contains(&header.entry) && last - first <= SPAN_LIMIT;
        inside.then_some(Self { bytes, entry: header.entry, segments, pages: (first, last) })
    }

    fn data(&self, segment: &Segment) -> &'a [u8] {
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let range = place(segment.offset)..place(segment.offset + segment.file_size);
        self.bytes.get(range).unwrap_or_default()
    }
}

/// `PF_X`, `PF_W`, `PF_R` as `PROT_EXEC`, `PROT_WRITE`, `PROT_READ`.
fn protection(flags: u32) -> u64 {
    let bits = [(1, libc::PROT_EXEC), (2, libc::PROT_WRITE), (4, libc::PROT_READ)];
    let set = bits.iter().filter(|(flag, _)| flags & flag != 0);
    set.fold(0, |all, (_, bit)| all | u64::from(bit.cast_unsigned()))
}

/// Puts a dynamic linker in place of the one that a new program has, at the stop that reports its execve(2);
/// returns its base address. Errors: `ENOEXEC`, `ENOMEM`, `ESRCH`.
pub(crate) fn exchange(tid: Pid, guest: &TaskGuest, bytes: &[u8]) -> io::Result<u64> {
    let image = Image::read(bytes)?;
    let memory = guest.memory().map_err(io::Error::from)?;
    let begins = Registers::read(tid)?.counter();
    let mut remote = Remote::begin(tid, guest.group(), memory)?;
    let (first, last) = image.pages;
    let [private, writable] = [
        u64::from((libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).cast_unsigned()),
        u64::from((libc::PROT_READ | libc::PROT_WRITE).cast_unsigned()),
    ];
    let made = remote.call(libc::SYS_mmap, [0, last - first, writable, private, u64::MAX, 0])?;
    let base = checked(made)?.cast_unsigned().wrapping_sub(first);
    for segment in &image.segments {
        remote.write(base.wrapping_add(segment.address), image.data(segment))?;
    }
    for segment in &image.segments {
        let from = segment.address & !(PAGE - 1);
        let size = segment.address + segment.memory_size - from;
        let args = [base.wrapping_add(from), size, protection(segment.flags), 0, 0, 0];
        checked(remote.call(libc::SYS_mprotect, args)?)?;
    }
    for (from, to) in mapped_with(tid, begins, remote.site())? {
        checked(remote.call(libc::SYS_munmap, [from, to - from, 0, 0, 0, 0])?)?;
    }
    remote.end()?;
    let mut registers = Registers::read(tid)?;
    registers.go_to(base.wrapping_add(image.entry));
    registers.write(tid)?;
    Ok(base)
}

/// Gives a new program a descriptor, under its lowest free number, and lowers its stack by [`VECTOR_ENTRY`]; returns
/// the number. Errors: `EMFILE`, `ENOEXEC`, `ESRCH`.
pub(crate) fn give(tid: Pid, guest: &TaskGuest, file: &OwnedFd) -> io::Result<i64> {
    let memory = guest.memory().map_err(io::Error::from)?;
    let mut remote = Remote::begin(tid, guest.group(), memory)?;
    let number = handover::give(&mut remote, guest.group(), file, false);
    remote.end()?;
    let number = number?;
    let mut registers = Registers::read(tid)?;
    registers.lower_stack(VECTOR_ENTRY);
    registers.write(tid)?;
    Ok(number)
}

/// Lets execve(2) write its result; at most one instruction of the program runs.
pub(crate) fn finish_exec(tid: Pid) -> io::Result<()> {
    sys::step(tid);
    let gone = || io::Error::from_raw_os_error(libc::ESRCH);
    if sys::await_change(tid)? {
        return Err(gone());
    }
    match sys::wait(tid.as_raw(), 0)? {
        Wait::Exited(..) | Wait::Killed(..) => Err(gone()),
        Wait::Signal(_, signal) if signal != libc::SIGTRAP => {
            // It comes again when the program runs.
            sys::tgkill(tid.as_raw(), tid.as_raw(), signal);
            finish_exec(tid)
        }
        Wait::Signal(..) | Wait::Event(..) | Wait::Nothing => Ok(()),
    }
}

/// What is mapped of the file that an address is of; the mapping with the instruction that makes our calls
/// comes last. Errors: those of reading procfs.
fn mapped_with(tid: Pid, address: u64, site: u64) -> io::Result<Vec<(u64, u64)>> {
    let maps = std::fs::read(format!("/proc/{tid}/maps"))?;
    // Names of files are any bytes.
    let maps = String::from_utf8_lossy(&maps);
    // Device and number of the file.
    let file = |line: &str| line.split_whitespace().skip(3).take(2).collect::<Vec<_>>().join(" ");
    let all: Vec<((u64, u64), String)> =
        maps.lines().filter_map(|line| Some((range(line)?, file(line)))).collect();
    let holds = |(from, to): (u64, u64), address: u64| (from..to).contains(&address);
    let Some((_, wanted)) = all.iter().find(|(range, _)| holds(*range, address)) else {
        return Ok(Vec::new());
    };
    let same = all.iter().filter(|(_, file)| file == wanted).map(|(range, _)| *range);
    let mut same: Vec<_> = same.collect();
    same.sort_by_key(|range| holds(*range, site));
    Ok(same)
}

fn checked(result: i64) -> io::Result<i64> {
    if (-4095..0).contains(&result) {
        return Err(io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or(libc::EIO)));
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_a_dynamic_linker_or_not() {
        let own = std::fs::read("/proc/self/exe").expect("a program can be read");
        let image = Image::read(&own).expect("a position-independent program");
        assert!(image.pages.0 < image.pages.1 && !image.segments.is_empty());
        for at in 0..1024 {
            let mut changed = own[..8192].to_vec();
            changed[at] ^= 0xff;
            let _ = Image::read(&changed);
        }
        assert!(Image::read(b"\x7fELF").is_err());
    }

    #[test]
    fn rights_are_those_of_the_file() {
        assert_eq!(protection(5), 5);
        assert_eq!(protection(6), 3);
        assert_eq!(protection(4), 1);
    }
}
