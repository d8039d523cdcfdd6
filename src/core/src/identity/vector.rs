//! The auxiliary vector of a new program (getauxval(3)): values in it become what the view says.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::Path,
};

use umvu_abi::Tid;

use super::Credentials;
use crate::paths::lexical::PATH_MAX;

/// How much of the stack is searched for the vector: arguments and environment end before it.
const STACK_LIMIT: u64 = 8 * 1024 * 1024;
const WORD: u64 = 8;
/// How much is read at once.
const BLOCK: usize = 2048;

/// `AT_FLAGS_PRESERVE_ARGV0`: a format's interpreter gets the name that the program was called by.
const KEEPS_NAME: u64 = 1;

/// Has a program make its calls about time, which the vDSO would answer (vdso(7)).
pub(crate) const NO_VDSO: (u64, u64) = (libc::AT_SYSINFO_EHDR, 0);

/// The ids as the vector has them.
pub(crate) fn ids(shown: &Credentials) -> [(u64, u64); 4] {
    [
        (libc::AT_UID, shown.uid.real.into()),
        (libc::AT_EUID, shown.uid.effective.into()),
        (libc::AT_GID, shown.gid.real.into()),
        (libc::AT_EGID, shown.gid.effective.into()),
    ]
}

/// What an interpreter is told that gets the program's own name.
pub(crate) const fn keeps_name() -> (u64, u64) {
    (libc::AT_FLAGS, KEEPS_NAME)
}

/// Puts values into the vector of a task that has just executed a program.
pub(crate) fn rewrite(task: Tid, values: &[(u64, u64)]) {
    if values.is_empty() {
        return;
    }
    let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{task}/mem"));
    let Ok(memory) = memory else { return };
    let mut words = Words { memory: &memory, at: 0, block: Vec::new() };
    let Some((_, mut at)) = find(task, &mut words) else { return };
    while let Some(key) = words.get(at).filter(|key| *key != libc::AT_NULL) {
        if let Some((_, value)) = values.iter().find(|(name, _)| *name == key) {
            let _ = memory.write_all_at(&value.to_ne_bytes(), at + WORD);
        }
        at += 2 * WORD;
    }
}

/// How much the stack of a new program is lowered for one more value.
const ENTRY: u64 = umvu_tracer::api::VECTOR_ENTRY;

/// Adds a value to the vector of a task that has just executed a program, whose stack has been lowered for it.
pub(crate) fn append(task: Tid, (key, value): (u64, u64)) {
    let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{task}/mem"));
    let Ok(memory) = memory else { return };
    let mut words = Words { memory: &memory, at: 0, block: Vec::new() };
    let Some((start, mut end)) = find(task, &mut words) else { return };
    while words.get(end).is_some_and(|key| key != libc::AT_NULL) {
        end += ENTRY;
    }
    let mut moved = vec![0; usize::try_from(end - start).unwrap_or(0)];
    if memory.read_exact_at(&mut moved, start).is_err() {
        return;
    }
    moved.extend(key.to_ne_bytes());
    moved.extend(value.to_ne_bytes());
    let _ = memory.write_all_at(&moved, start - ENTRY);
}

/// Has a program know the name that it was called by (`AT_EXECFN`), where the kernel has a path of ours: it
/// stands in the same place, if there is room.
pub(crate) fn rename(task: Tid, ours: &Path, called: &[u8]) {
    let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{task}/mem"));
    let Ok(memory) = memory else { return };
    let mut words = Words { memory: &memory, at: 0, block: Vec::new() };
    let Some((_, mut at)) = find(task, &mut words) else { return };
    while let Some(key) = words.get(at).filter(|key| *key != libc::AT_NULL) {
        if key == libc::AT_EXECFN
            && let Some(place) = words.get(at + WORD)
        {
            let mut name = vec![0; PATH_MAX];
            let got = memory.read_at(&mut name, place).unwrap_or(0);
            let name = name[..got].split(|byte| *byte == 0).next().unwrap_or_default();
            if name.starts_with(ours.as_os_str().as_bytes()) && called.len() <= name.len() {
                let _ = memory.write_all_at(&[called, b"\0"].concat(), place);
            }
            return;
        }
        at += 2 * WORD;
    }
}

/// Where the stack begins, and where the vector is: behind the arguments and the environment, each with a NULL at
/// its end.
fn find(task: Tid, words: &mut Words<'_>) -> Option<(u64, u64)> {
    let stat = fs::read(format!("/proc/{task}/stat")).ok()?;
    // The name of the program, in parentheses, is any bytes.
    let after = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(&stat[after + 1..]).ok()?;
    // startstack is field 28; what follows the name begins with field 3.
    let start: u64 = fields.split_whitespace().nth(25)?.parse().ok()?;
    let count = words.get(start)?;
    let mut at = start.checked_add(WORD.checked_mul(count.checked_add(2)?)?)?;
    while at < start.saturating_add(STACK_LIMIT) {
        let value = words.get(at)?;
        at += WORD;
        if value == 0 {
            return Some((start, at));
        }
    }
    None
}

/// The words of a task's memory, read by the block.
struct Words<'a> {
    memory: &'a File,
    at: u64,
    block: Vec<u8>,
}

impl Words<'_> {
    fn get(&mut self, at: u64) -> Option<u64> {
        if self.known(at).is_none() {
            self.block.resize(BLOCK, 0);
            let read = self.memory.read_at(&mut self.block, at).unwrap_or(0);
            self.block.truncate(read);
            self.at = at;
        }
        self.known(at)
    }

    fn known(&self, at: u64) -> Option<u64> {
        let offset = usize::try_from(at.checked_sub(self.at)?).ok()?;
        let bytes = self.block.get(offset..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*bytes))
    }
}
