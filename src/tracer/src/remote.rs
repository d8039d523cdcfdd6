//! System calls made by a stopped guest on our behalf.

use std::io;

use nix::unistd::Pid;
use umvu_abi::Errno;

use crate::{
    api::{Exec, Instead},
    arch,
    guest::Memory,
    handover,
    registers::Registers,
    sys::{self, Wait},
};

/// How much of a mapping is searched for a system-call instruction, and how much of it at once.
const TEXT: u64 = 1 << 20;
const PART: u64 = 16 << 10;

/// A guest at a stop just before it returns to user mode, with its registers saved.
pub(crate) struct Remote<'a> {
    tid: Pid,
    group: i32,
    saved: Registers,
    site: u64,
    memory: &'a Memory,
    /// Signals that arrived in between; sent again at the end.
    signals: Vec<i32>,
}

impl<'a> Remote<'a> {
    /// Takes over a stopped guest. Errors: `ESRCH`, `ENOEXEC` when no system-call instruction is
    /// to be found.
    pub(crate) fn begin(tid: Pid, group: i32, memory: &'a Memory) -> io::Result<Self> {
        let saved = Registers::read(tid)?;
        let site = find_site(&saved, tid, memory)?;
        Ok(Self { tid, group, saved, site, memory, signals: Vec::new() })
    }

    /// Where the instruction is that makes the calls.
    pub(crate) fn site(&self) -> u64 {
        self.site
    }

    /// Room for `size` bytes on the guest's stack, below what it uses.
    pub(crate) fn scratch(&self, size: u64) -> u64 {
        below(&self.saved, size)
    }

    /// Writes to the guest's memory. Errors: `EFAULT`.
    pub(crate) fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        self.memory.write(at, data).map_err(io::Error::from)
    }

    /// Reads the guest's memory. Errors: `EFAULT`.
    pub(crate) fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.memory.read(at, buffer).map_err(io::Error::from)
    }

    /// Makes one system call; returns its result. Errors: `ESRCH` when the guest dies.
    pub(crate) fn call(&mut self, number: i64, args: [u64; 6]) -> io::Result<i64> {
        self.saved.for_call(self.site, number, args).write(self.tid)?;
        loop {
            sys::step(self.tid);
            // Its end is left to the tracer's loop, which has more to do about it.
            if sys::await_change(self.tid)? {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            match sys::wait(self.tid.as_raw(), 0)? {
                Wait::Signal(_, libc::SIGTRAP) => return Ok(Registers::read(self.tid)?.result()),
                // Before the instruction ran: keep the signal, go on.
                Wait::Signal(_, signal) => self.signals.push(signal),
                Wait::Event(..) | Wait::Nothing => {}
                Wait::Exited(..) | Wait::Killed(..) => {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
            }
        }
    }

    /// Makes a call with its data on the guest's stack; returns its result.
    /// Errors: `ESRCH` when the guest dies, `EFAULT`.
    pub(crate) fn perform(&mut self, instead: &Instead) -> io::Result<i64> {
        let mut args = place(instead, &self.saved, self.memory)?;
        let Some((index, file)) = &instead.file else { return self.call(instead.number, args) };
        let group = self.group;
        match handover::give(self, group, file, true) {
            Ok(given) => args[*index] = given.cast_unsigned(),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Err(error),
            Err(error) => return Ok(Errno::from(error).to_return()),
        }
        let result = self.call(instead.number, args)?;
        self.call(libc::SYS_close, [args[*index], 0, 0, 0, 0, 0])?;
        Ok(result)
    }

    /// Gives the guest back as it was.
    pub(crate) fn end(self) -> io::Result<()> {
        self.saved.write(self.tid)?;
        for signal in self.signals {
            sys::tgkill(self.group, self.tid.as_raw(), signal);
        }
        Ok(())
    }
}

/// Room for `size` bytes on the stack, below what the guest uses.
fn below(registers: &Registers, size: u64) -> u64 {
    (registers.stack().wrapping_sub(256).wrapping_sub(size)) & !15
}

/// Puts the data of a call on the guest's stack and returns the arguments. Errors: `EFAULT`.
pub(crate) fn place(
    instead: &Instead,
    registers: &Registers,
    memory: &Memory,
) -> io::Result<[u64; 6]> {
    let mut args = instead.args;
    if let Some((index, data)) = &instead.data {
        let at = below(registers, data.len() as u64);
        memory.write(at, data).map_err(io::Error::from)?;
        if let Some((offset, target)) = instead.inner {
            let pointer = (at + target).to_ne_bytes();
            memory.write(at + offset as u64, &pointer).map_err(io::Error::from)?;
        }
        args[*index] = at;
    }
    Ok(args)
}

/// Puts the path and the arguments of an execve(2) on the guest's stack and returns the arguments
/// of the call. Errors: `EFAULT`.
pub(crate) fn place_exec(
    exec: &Exec,
    registers: &Registers,
    memory: &Memory,
) -> io::Result<[u64; 6]> {
    let own = exec.arguments.as_deref().unwrap_or_default();
    let strings = std::iter::once(&exec.path).chain(own);
    let pointers = 8 * (own.len() as u64 + 1);
    let size = pointers + strings.clone().map(|text| text.len() as u64 + 1).sum::<u64>();
    let at = below(registers, size);
    let mut table = Vec::new();
    let mut text = Vec::new();
    for (index, string) in strings.enumerate() {
        if index > 0 {
            table.extend_from_slice(&(at + pointers + text.len() as u64).to_ne_bytes());
        }
        text.extend_from_slice(string);
        text.push(0);
    }
    table.extend_from_slice(&0_u64.to_ne_bytes());
    table.extend_from_slice(&text);
    memory.write(at, &table).map_err(io::Error::from)?;
    let argv = if exec.arguments.is_some() { at } else { exec.vectors[0].0 };
    Ok([at + pointers, argv, exec.vectors[1].0, 0, 0, 0])
}

/// Where the guest has a system-call instruction: just before its program counter, or in its vDSO.
fn find_site(registers: &Registers, tid: Pid, memory: &Memory) -> io::Result<u64> {
    let wanted = arch::SYSCALL_INSTRUCTION;
    let before = registers.counter().wrapping_sub(wanted.len() as u64);
    let mut bytes = vec![0; wanted.len()];
    if memory.read(before, &mut bytes).is_ok() && bytes == wanted {
        return Ok(before);
    }
    // Names of files are any bytes.
    let maps = std::fs::read(format!("/proc/{tid}/maps"))?;
    let maps = String::from_utf8_lossy(&maps);
    let (vdso, others): (Vec<_>, Vec<_>) = maps
        .lines()
        .filter(|line| line.contains(" r-xp ") || line.contains("[vdso]"))
        .partition(|line| line.contains("[vdso]"));
    let mut mappings = vdso.into_iter().chain(others).filter_map(range);
    let found = mappings.find_map(|(start, end)| search(memory, start, end.min(start + TEXT)));
    found.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOEXEC))
}

/// Where the system-call instruction is in a part of the guest's memory.
fn search(memory: &Memory, start: u64, end: u64) -> Option<u64> {
    let wanted = arch::SYSCALL_INSTRUCTION;
    // Each part begins with the last bytes of the one before.
    let step = PART - wanted.len() as u64 + 1;
    (0..).map(|part| start + part * step).take_while(|at| *at < end).find_map(|at| {
        let mut text = vec![0; usize::try_from(PART.min(end - at)).unwrap_or(0)];
        let got = memory.read_some(at, &mut text).ok()?;
        let found = text[..got].windows(wanted.len()).position(|part| part == wanted)?;
        Some(at + found as u64)
    })
}

/// The addresses of a line of `/proc/PID/maps`.
pub(crate) fn range(line: &str) -> Option<(u64, u64)> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}
