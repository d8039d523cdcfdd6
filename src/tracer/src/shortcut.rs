//! Short cuts: guests judge paths themselves, and most calls about files are not trapped at all.
//!
//! A trap costs ten times what stat(2) of a real file does, and almost no path concerns the view. So
//! a place in a guest's program that has made many such calls is rewritten: its `syscall` becomes a
//! jump to code of ours, in a page at the same address in every guest. That code looks at the path;
//! if it is absolute and its first component is none of those in a table, the call is made there, and
//! the filter lets it through by its program counter. Any other path is trapped as before.
//!
//! Nothing is decided here that a trap would decide otherwise, and a guest that does without (another
//! instruction sequence, no room at the address, several threads) is only slower.

use std::{collections::HashMap, io, sync::Arc};

use nix::unistd::Pid;
use parking_lot::Mutex;
use umvu_abi::Tid;

use crate::{
    arch::{self, Shortcut},
    births::Shares,
    guest::{Memory, TaskGuest, filters_of},
    registers::Registers,
    remote::{self, Remote},
    tasks::Task,
};

/// How many calls a place makes before it is rewritten: what that costs is earned back then.
const WORTH: u32 = 24;
/// How far around a site jumps into its middle are looked for.
const AROUND: u64 = 4096;
const PAGE: u64 = 4096;
/// How many seccomp filters a guest has from us: that of the start and that of the armed view.
const OURS: u32 = 2;
/// How many components a table holds.
const COMPONENTS_LIMIT: usize = 500;

/// One guest process.
#[derive(Debug, Clone, Default)]
struct Process {
    /// How many calls each place has made; `u32::MAX` when it is done with.
    calls: HashMap<u64, u32>,
    /// How many blocks are in use; none when the pages are not there yet.
    blocks: Option<u64>,
    /// The pages cannot be had.
    refused: bool,
}

#[derive(Debug, Default)]
struct State {
    processes: HashMap<i32, (Process, Option<Arc<TaskGuest>>)>,
    table: Vec<u8>,
}

/// The short cuts of all guests.
#[derive(Debug)]
pub(crate) struct Shortcuts {
    arch: Option<Shortcut>,
    /// The argument with the path, by the number of the call.
    paths: HashMap<i64, u8>,
    state: Mutex<State>,
}

impl Shortcuts {
    /// Prepares those of the calls whose path argument is given by number.
    pub(crate) fn new(paths: HashMap<i64, u8>) -> Self {
        // An empty table: nothing is mounted yet.
        let state = State { processes: HashMap::new(), table: encode(&[]) };
        Self { arch: arch::shortcut(), paths, state: Mutex::new(state) }
    }

    /// Counts a call about a path that was the kernel's, made at `after` (the address after the
    /// instruction); true when the place is to be rewritten now.
    pub(crate) fn count(&self, group: i32, number: i64, after: u64) -> bool {
        let Some(arch) = self.arch else { return false };
        if !self.paths.contains_key(&number) || after >> 12 == arch.at >> 12 {
            return false;
        }
        let mut state = self.state.lock();
        let (process, _) = state.processes.entry(group).or_default();
        if process.refused {
            return false;
        }
        let calls = process.calls.entry(after).or_default();
        if *calls == u32::MAX {
            return false;
        }
        *calls += 1;
        if *calls < WORTH {
            return false;
        }
        *calls = u32::MAX;
        true
    }

    /// Rewrites the place of a guest that has stopped in a call made there, if it can be done;
    /// the guest is then just before the place, otherwise as it was. Errors: `ESRCH`.
    pub(crate) fn install(&self, tid: Pid, task: &Task, after: u64) -> io::Result<()> {
        let guest = &task.guest;
        let watching = task.watched.map_or(0, |watch| 1 + watch as u32)
            + u32::from(task.waits_are_watched)
            + u32::try_from(task.watched_descriptors.len()).unwrap_or(u32::MAX)
            + task.additions;
        let Some(arch) = self.arch else { return Ok(()) };
        let group = guest.group();
        let memory = guest.memory().map_err(io::Error::from)?;
        let mut registers = Registers::read(tid)?;
        if registers.counter() != after {
            return Ok(());
        }
        if !is_private_text(tid, after) {
            return Ok(());
        }
        let Some(number) = recognise(&arch, memory, after) else { return Ok(()) };
        let Some(argument) = self.paths.get(&number).copied() else { return Ok(()) };
        let mut state = self.state.lock();
        let State { processes, table } = &mut *state;
        let (process, reach) = processes.entry(group).or_default();
        let index = match process.blocks {
            Some(blocks) => blocks,
            // Filters of its own may have it killed for calls that we make in its name.
            None if filters_of(tid.as_raw()) > OURS + watching => {
                process.refused = true;
                return Ok(());
            }
            None if map(&arch, tid, group, memory, table)? => 0,
            None => {
                process.refused = true;
                return Ok(());
            }
        };
        *reach = Some(Arc::clone(guest));
        process.blocks = Some(index);
        if index >= arch.blocks {
            process.refused = true;
            return Ok(());
        }
        let Some(block) = (arch.block)(index, number, after, argument) else {
            return Ok(());
        };
        let site = after - arch.site as u64;
        if memory.write(block.at, &block.code).is_ok() && memory.write(site, &block.patch).is_ok() {
            process.blocks = Some(index + 1);
            registers.go_to(site);
            registers.write(tid)?;
        }
        Ok(())
    }

    /// Where a guest goes on that has got a signal for a fault at `counter`: Some when the path that
    /// it was to judge cannot be read.
    pub(crate) fn after_fault(&self, counter: u64) -> Option<u64> {
        let arch = self.arch?;
        let inside = counter >= arch.at && counter < arch.allowed;
        inside.then_some(arch.fallback)
    }

    /// Publishes the first components of paths to be trapped. Calls that begin after this returns
    /// are judged by them.
    pub(crate) fn publish(&self, components: &[Vec<u8>]) {
        let mut state = self.state.lock();
        state.table = encode(components);
        for (_, guest) in state.processes.values() {
            self.write_table(guest.as_ref(), &state.table);
        }
    }

    /// Publishes that every path is to be trapped.
    pub(crate) fn publish_all(&self) {
        let mut state = self.state.lock();
        state.table = u64::MAX.to_ne_bytes().to_vec();
        for (_, guest) in state.processes.values() {
            self.write_table(guest.as_ref(), &state.table);
        }
    }

    fn write_table(&self, guest: Option<&Arc<TaskGuest>>, table: &[u8]) {
        if let (Some(arch), Some(guest)) = (self.arch, guest)
            && let Ok(memory) = guest.memory()
            && let Err(errno) = memory.write(arch.table, table)
        {
            tracing::debug!("task {}: no table of paths: {errno}", guest.tid);
        }
    }

    /// A process has been created; it has not run yet. It has what its creator has.
    pub(crate) fn born(&self, parent: i32, child: &Arc<TaskGuest>, memory: Shares) {
        let mut state = self.state.lock();
        if memory != Shares::Nothing {
            // What is rewritten in one would be rewritten in the other, under its feet.
            let refused = || (Process { refused: true, ..Process::default() }, None);
            state.processes.insert(child.group(), refused());
            if memory == Shares::Running {
                state.processes.entry(parent).or_insert_with(refused).0.refused = true;
            }
            return;
        }
        let Some((process, Some(_))) = state.processes.get(&parent) else { return };
        let process = process.clone();
        // The table may have changed since the copy was made.
        self.write_table(Some(child), &state.table);
        state.processes.insert(child.group(), (process, Some(Arc::clone(child))));
    }

    /// A process has ended, or executes another program.
    pub(crate) fn forget(&self, group: i32) {
        self.state.lock().processes.remove(&group);
    }
}

/// The table as guests have it.
fn encode(components: &[Vec<u8>]) -> Vec<u8> {
    let key = |component: &Vec<u8>| {
        component.iter().take(8).fold(0_u64, |key, byte| key << 8 | u64::from(*byte))
    };
    let keys: Vec<u64> = components.iter().take(COMPONENTS_LIMIT).map(key).collect();
    let too_many = components.len() > COMPONENTS_LIMIT;
    let count = if too_many { u64::MAX } else { keys.len() as u64 };
    [count].into_iter().chain(keys).flat_map(u64::to_ne_bytes).collect()
}

/// Whether a change of the code at an address is seen by this process alone.
fn is_private_text(tid: Pid, address: u64) -> bool {
    let maps = std::fs::read(format!("/proc/{tid}/maps")).unwrap_or_default();
    let maps = String::from_utf8_lossy(&maps).into_owned();
    let lines = maps.lines().filter(|line| line.contains(" r-xp "));
    lines.filter_map(remote::range).any(|(start, end)| (start..end).contains(&address))
}

/// The number of the call at a site, when nothing jumps into the middle of it.
fn recognise(arch: &Shortcut, memory: &Memory, after: u64) -> Option<i64> {
    let site = after.checked_sub(arch.site as u64)?;
    let mut bytes = vec![0; arch.site];
    memory.read(site, &mut bytes).ok()?;
    let number = (arch.recognise)(&bytes)?;
    let start = site.saturating_sub(AROUND);
    let size = usize::try_from(2 * AROUND).unwrap_or(0);
    let mut text = vec![0; size];
    // The surroundings may end before: what cannot be read cannot jump either.
    let got = memory.read_some(start, &mut text).unwrap_or(0);
    let middle = site + 1..after;
    let jumps = |at: usize| {
        let next = |length: usize| start + (at + length) as u64;
        let byte = |n: usize| text.get(at + n).copied();
        let short = byte(1).map(|by| next(2).wrapping_add_signed(i64::from(by.cast_signed())));
        let long = |skip: usize| {
            let by = text.get(at + skip..at + skip + 4)?.first_chunk()?;
            Some(next(skip + 4).wrapping_add_signed(i64::from(i32::from_ne_bytes(*by))))
        };
        let target = match (byte(0), byte(1)) {
            (Some(0xeb | 0x70..=0x7f), _) => short,
            (Some(0xe9), _) => long(1),
            (Some(0x0f), Some(0x80..=0x8f)) => long(2),
            _ => None,
        };
        target.is_some_and(|target| middle.contains(&target))
    };
    (0..got).all(|at| !jumps(at)).then_some(number)
}

/// Maps the pages in a guest and fills them; false when there is no room at the address.
fn map(arch: &Shortcut, tid: Pid, group: i32, memory: &Memory, table: &[u8]) -> io::Result<bool> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let mut remote = Remote::begin(tid, group, memory)?;
    let mut map = |at: u64, rights: i32| -> io::Result<bool> {
        let bits = |value: i32| u64::from(value.cast_unsigned());
        let args = [at, PAGE, bits(rights), bits(flags), u64::MAX, 0];
        Ok(remote.call(libc::SYS_mmap, args)? == at.cast_signed())
    };
    let mapped = map(arch.at, libc::PROT_READ | libc::PROT_EXEC)?
        && map(arch.table, libc::PROT_READ | libc::PROT_WRITE)?;
    remote.end()?;
    Ok(mapped
        && memory.write(arch.at, arch.code).is_ok()
        && memory.write(arch.table, table).is_ok())
}

/// Whether a thread is alone in its process.
pub(crate) fn is_alone(tid: Tid) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{tid}/task"));
    tasks.is_ok_and(|tasks| tasks.take(2).count() == 1)
}
