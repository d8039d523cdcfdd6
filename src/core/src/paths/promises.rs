//! The inode numbers of generated files: what stat(2) says, fstat(2) shall find after the open.
//!
//! cp(1), among others, compares the two. So stat(2) of a generated file makes the empty memfd
//! that the next open will fill. A few are kept; one that is pushed out is only a number that will
//! not be met again.

use std::{collections::VecDeque, fs::File, os::unix::fs::MetadataExt};

use parking_lot::Mutex;
use umvu_abi::Errno;

use super::{content, resolve::TreeEntry};

/// How many files are promised at a time; each is a descriptor.
const PROMISES_LIMIT: usize = 64;

#[derive(Debug)]
struct Promise {
    path: Vec<u8>,
    device: u64,
    file: File,
}

/// Memfds whose numbers were told and that wait for their content.
#[derive(Debug, Default)]
pub(super) struct Promises {
    kept: Mutex<VecDeque<Promise>>,
}

impl Promises {
    /// Tells `st_dev` and `st_ino` of a file. Errors: those of memfd_create(2).
    pub(super) fn numbers(&self, entry: &TreeEntry) -> Result<(u64, u64), Errno> {
        let mut kept = self.kept.lock();
        if let Some(promise) = kept.iter().find(|promise| promise.is_of(entry)) {
            let found = promise.file.metadata()?;
            return Ok((found.dev(), found.ino()));
        }
        let file = content::empty(&entry.path)?;
        let found = file.metadata()?;
        if kept.len() >= PROMISES_LIMIT {
            kept.pop_front();
        }
        kept.push_back(Promise { path: entry.path.clone(), device: entry.mount.dev, file });
        Ok((found.dev(), found.ino()))
    }

    /// Takes the memfd of a file, a new one when none was promised.
    /// Errors: those of memfd_create(2).
    pub(super) fn keep(&self, entry: &TreeEntry) -> Result<File, Errno> {
        let mut kept = self.kept.lock();
        let at = kept.iter().position(|promise| promise.is_of(entry));
        match at.and_then(|at| kept.remove(at)) {
            Some(promise) => Ok(promise.file),
            None => content::empty(&entry.path),
        }
    }
}

impl Promise {
    fn is_of(&self, entry: &TreeEntry) -> bool {
        self.path == entry.path && self.device == entry.mount.dev
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::fake;

    #[test]
    fn the_number_that_was_told_is_the_one_that_is_opened() {
        let promises = Promises::default();
        let entry = fake::entry("dev", 0o444);
        let told = promises.numbers(&entry).expect("memfd works");
        assert_eq!(promises.numbers(&entry), Ok(told));
        let opened = promises.keep(&entry).and_then(|file| Ok(file.metadata()?));
        assert_eq!(opened.map(|found| (found.dev(), found.ino())), Ok(told));
        let again = promises.numbers(&entry).expect("memfd works");
        assert_ne!(again, told);
    }

    #[test]
    fn promises_are_bounded() {
        let promises = Promises::default();
        for number in 0..PROMISES_LIMIT + 5 {
            let mut entry = fake::entry("dev", 0o444);
            entry.path = number.to_string().into_bytes();
            promises.numbers(&entry).expect("memfd works");
        }
        assert_eq!(promises.kept.lock().len(), PROMISES_LIMIT);
    }
}
