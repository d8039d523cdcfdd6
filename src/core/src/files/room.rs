//! How much guests may still write to a mounted file system before it is full.
//!
//! Guests write into files of ours, at native speed, and the file system learns afterwards what has
//! become of them: too late to tell the writer that there is no room (`ENOSPC`). So what they have
//! written is measured, the more often the less is left, and once little is left the processes that
//! have such a file open have their writes trapped, each of which is measured before it is made.
//! Memory counts likewise: what guests write stays there until they have closed the file.

use std::{
    collections::HashSet,
    fs,
    path::Path,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::statvfs::statvfs;
use parking_lot::{Condvar, Mutex};
use umvu_abi::{
    Errno, Tid,
    files::{Caller, Node, StatFs},
};

use super::{Inode, MountedFiles, Objects, holders};
use crate::Core;

/// When less than this is left, each write is measured before it is made.
const NEAR: u64 = 32 << 20;
/// The fastest that guests write between two looks, in bytes per second.
const FASTEST: u64 = 4 << 30;
/// How often is looked at least, and at most.
const PERIODS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(5));
/// How long the word of a file system on its room is good.
const GOOD: Duration = Duration::from_secs(1);
/// The same where room is scarce, of a program that has to be asked.
const HEARD: Duration = Duration::from_millis(50);
/// What must stay of the host's memory.
const SPARED: u64 = 256 << 20;
/// What a file system takes for its own of each byte that it is given.
const OVERHEAD: u64 = 64;
/// How long guests may take to stop when their writes are to be trapped.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a file system has said of its room.
#[derive(Debug, Clone, Copy)]
struct Said {
    at: Instant,
    /// Bytes that are free for the privileged, and for others; None when it does not tell.
    free: Option<(u64, u64)>,
}

/// The room of one mount.
#[derive(Debug, Default)]
pub(crate) struct Room {
    said: Mutex<Option<Said>>,
    near: AtomicBool,
    /// When it was measured last for one who opens a file.
    measured: Mutex<Option<Instant>>,
}

impl Room {
    /// Whether little is left: each write is to be measured.
    pub(crate) fn is_scarce(&self) -> bool {
        self.near.load(Ordering::Relaxed)
    }
}

impl MountedFiles {
    /// Asks the file system what is free, unless it has just been asked. Errors: those of asking.
    fn ask_room(&self, good: Duration) -> Result<(), Errno> {
        if self.room.said.lock().is_some_and(|said| said.at.elapsed() < good) {
            return Ok(());
        }
        let found = self.ask()?.statfs(self.fs.root());
        let free = found.ok().filter(|found| found.blocks > 0).map(|found| {
            let bytes = |blocks: u64| blocks.saturating_mul(u64::from(found.block_size));
            (bytes(found.free), bytes(found.available))
        });
        *self.room.said.lock() = Some(Said { at: Instant::now(), free });
        Ok(())
    }

    /// How many bytes guests may still write by what the file system has said; None when it has not.
    fn left(&self, caller: &Caller, patient: bool) -> Option<u64> {
        let (all, unreserved) = (*self.room.said.lock())?.free?;
        // Programs of others may hold the reserve back from us, who write for the guest.
        let all_is_ours = caller.is_privileged() && !self.traits.may_wait;
        let free = if all_is_ours { all } else { unreserved };
        let pending = self.objects.pending(self, patient);
        Some(free.saturating_sub(pending + pending / OVERHEAD))
    }

    /// statfs(2), with what guests have written and the file system does not have. Errors: its own.
    pub(crate) fn statfs(&self, node: Node) -> Result<StatFs, Errno> {
        let mut found = self.ask()?.statfs(node)?;
        let pending = self.objects.pending(self, false);
        let blocks = pending.div_ceil(u64::from(found.block_size.max(1)));
        found.free = found.free.saturating_sub(blocks);
        found.available = found.available.saturating_sub(blocks);
        Ok(found)
    }

    /// A guest opens a file to write: whether each of its writes is to be measured. Errors: those of
    /// asking the file system.
    pub(crate) fn expects_writes(&self, caller: &Caller) -> Result<bool, Errno> {
        self.ask_room(GOOD)?;
        let near = self.room.is_scarce();
        let mut measured = self.room.measured.lock();
        if !near && measured.is_some_and(|at| at.elapsed() < PERIODS.0) {
            return Ok(false);
        }
        *measured = Some(Instant::now());
        drop(measured);
        let left = self.left(caller, true).unwrap_or(u64::MAX);
        let left = left.min(self.objects.memory_left(GOOD));
        self.room.near.store(left < NEAR, Ordering::Relaxed);
        self.objects.look_again_in(until_full(left));
        Ok(left < NEAR)
    }

    /// How many bytes a guest may write now: when that is less than wanted, what guests have written
    /// before goes to the file system first. Errors: those of asking it.
    pub(crate) fn room_for(&self, caller: &Caller, wanted: u64) -> Result<u64, Errno> {
        let memory = self.objects.memory_left(PERIODS.0);
        // What it takes for its own shows in its word only.
        self.ask_room(if self.traits.may_wait { HEARD } else { Duration::ZERO })?;
        let left = self.left(caller, true).unwrap_or(u64::MAX);
        if wanted <= left {
            return Ok(left.min(memory));
        }
        self.ask()?;
        self.objects.write_back(self);
        self.ask_room(Duration::ZERO)?;
        Ok(self.left(caller, true).unwrap_or(u64::MAX).min(memory))
    }

    /// So many bytes that guests have written have gone to the file system.
    pub(super) fn room_taken(&self, bytes: u64) {
        let mut said = self.room.said.lock();
        if let Some(Said { free: Some((all, unreserved)), .. }) = &mut *said {
            *all = all.saturating_sub(bytes);
            *unreserved = unreserved.saturating_sub(bytes);
        }
    }
}

fn until_full(left: u64) -> Duration {
    let nanos = u128::from(left) * 1_000_000_000 / u128::from(FASTEST) / 2;
    let due = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
    due.clamp(PERIODS.0, PERIODS.1)
}

/// When to look next; the thread that does runs once it was needed.
#[derive(Debug, Default)]
pub(super) struct Guard {
    next: Mutex<(bool, Option<Instant>)>,
    changed: Condvar,
    memory: Mutex<Option<(Instant, u64)>>,
    core: Mutex<Weak<Core>>,
}

impl Objects {
    /// Whose guests write.
    pub(crate) fn serve_guests_of(&self, core: &Arc<Core>) {
        *self.guard.core.lock() = Arc::downgrade(core);
    }

    /// Bytes that guests have written to files of a mount, and the file system does not have. The
    /// impatient pass over a file that is being written back.
    fn pending(&self, files: &MountedFiles, patient: bool) -> u64 {
        let of_one = |inode: &Inode| match inode.content.try_lock() {
            Some(content) => content.pending(),
            None if patient => inode.content.lock().pending(),
            None => 0,
        };
        let all = self.files();
        let ours = all.iter().filter(|(_, inode)| std::ptr::eq(&raw const *inode.files, files));
        ours.map(|(_, inode)| of_one(inode)).sum()
    }

    /// Bytes of memory that what guests write may take, as it was so long ago at most.
    fn memory_left(&self, good: Duration) -> u64 {
        let mut known = self.guard.memory.lock();
        match *known {
            Some((at, left)) if at.elapsed() < good => left,
            _ => {
                let left = self.measure_memory();
                *known = Some((Instant::now(), left));
                left
            }
        }
    }

    fn measure_memory(&self) -> u64 {
        let of_place = statvfs(self.root()).map_or(u64::MAX, |found| {
            found.blocks_available().saturating_mul(found.fragment_size())
        });
        let known = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let available = known.lines().find_map(|line| {
            let rest = line.strip_prefix("MemAvailable:")?.trim();
            rest.strip_suffix(" kB")?.parse::<u64>().ok()
        });
        let available = available.map_or(u64::MAX, |kib| kib.saturating_mul(1024));
        of_place.min(available).saturating_sub(SPARED)
    }

    /// Has what guests write looked at after this time, or sooner.
    fn look_again_in(self: &Arc<Self>, time: Duration) {
        let due = Instant::now() + time;
        let mut next = self.guard.next.lock();
        let (runs, at) = &mut *next;
        if at.is_none_or(|at| due < at) {
            *at = Some(due);
            self.guard.changed.notify_one();
        }
        if !std::mem::replace(runs, true) {
            let objects = Arc::clone(self);
            let work = move || objects.look_after_room();
            // Without the thread a file system that is full is found so when it is written back.
            let _ = thread::Builder::new().name("umvu-room".to_owned()).spawn(work);
        }
    }

    fn look_after_room(self: Arc<Self>) {
        loop {
            let mut next = self.guard.next.lock();
            match next.1 {
                None => self.guard.changed.wait(&mut next),
                Some(at) if Instant::now() < at => {
                    self.guard.changed.wait_until(&mut next, at);
                }
                Some(_) => {
                    next.1 = None;
                    drop(next);
                    if let Some(soonest) = self.look_at_room() {
                        self.look_again_in(soonest);
                    }
                }
            }
        }
    }

    /// Looks at the room of all that is written to, and traps writes where little is left. Returns when
    /// to look again.
    fn look_at_room(&self) -> Option<Duration> {
        let written = |inode: &Inode| {
            inode.content.try_lock().is_none_or(|content| content.is_kept() && content.is_written())
        };
        let mut mounts: Vec<Arc<MountedFiles>> = Vec::new();
        for (_, inode) in self.files() {
            if !mounts.iter().any(|files| Arc::ptr_eq(files, &inode.files)) && written(&inode) {
                mounts.push(Arc::clone(&inode.files));
            }
        }
        let memory = if mounts.is_empty() { u64::MAX } else { self.memory_left(PERIODS.0) };
        let mut soonest = None;
        for files in mounts {
            let left = files.left(&Caller::root(), false).unwrap_or(u64::MAX).min(memory);
            let near = left < NEAR;
            if !files.room.near.swap(near, Ordering::Relaxed) && near {
                self.trap_writers(&files);
            }
            let due = if near { PERIODS.1 } else { until_full(left) };
            soonest = Some(soonest.map_or(due, |soonest: Duration| soonest.min(due)));
        }
        soonest
    }

    /// Has the writes of all who have a file of this mount open trapped.
    fn trap_writers(&self, files: &Arc<MountedFiles>) {
        let Some(core) = self.guard.core.lock().upgrade() else { return };
        let numbers: HashSet<u64> =
            self.of_mount(files).into_iter().map(|(number, _)| number).collect();
        let is_ours = |link: &Path| {
            let name = link.strip_prefix(self.root()).ok().and_then(|rest| rest.to_str());
            let number = name.and_then(|name| name.split(' ').next()?.parse().ok());
            number.is_some_and(|number| numbers.contains(&number))
        };
        let processes = holders::of(&core, is_ours);
        let threads: Vec<Tid> =
            processes.iter().flat_map(|(process, _)| holders::threads_of(*process)).collect();
        let control = core.control.lock().clone();
        if let Some(control) = control.filter(|_| !threads.is_empty()) {
            control.watch(&threads, PATIENCE);
        }
    }
}
