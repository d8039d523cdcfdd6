//! The auxiliary vector of a new program (getauxval(3)): values in it become what the view says.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
};

use umvu_abi::Tid;

use super::Credentials;

/// How much of the stack is searched for the vector: arguments and environment end before it.
const STACK_LIMIT: u64 = 8 * 1024 * 1024;
const WORD: u64 = 8;

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
    let Some(start) = find(task, &memory) else { return };
    let mut at = start;
    while let Some(key) = word(&memory, at).filter(|key| *key != libc::AT_NULL) {
        if let Some((_, value)) = values.iter().find(|(name, _)| *name == key) {
            let _ = memory.write_all_at(&value.to_ne_bytes(), at + WORD);
        }
        at += 2 * WORD;
    }
}

/// Where the vector is: behind the arguments and the environment, each with a NULL at its end.
fn find(task: Tid, memory: &File) -> Option<u64> {
    let stat = fs::read(format!("/proc/{task}/stat")).ok()?;
    // The name of the program, in parentheses, is any bytes.
    let after = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(&stat[after + 1..]).ok()?;
    // startstack is field 28; what follows the name begins with field 3.
    let start: u64 = fields.split_whitespace().nth(25)?.parse().ok()?;
    let count = word(memory, start)?;
    let mut at = start.checked_add(WORD.checked_mul(count.checked_add(2)?)?)?;
    while at < start.saturating_add(STACK_LIMIT) {
        let value = word(memory, at)?;
        at += WORD;
        if value == 0 {
            return Some(at);
        }
    }
    None
}

fn word(memory: &File, at: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    memory.read_exact_at(&mut bytes, at).ok()?;
    Some(u64::from_ne_bytes(bytes))
}
