//! For tests: walks through a file system as far as is sensible, and damages images.

use parking_lot::Mutex;
use umvu_abi::{
    Errno,
    files::{Backing, Caller, DirEntry, FileSystem, Handle, Node},
};

/// An image in memory.
#[derive(Debug)]
pub struct Bytes(pub Vec<u8>);

impl Backing for Bytes {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let at = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let count = buffer.len().min(self.0.len() - at);
        buffer[..count].copy_from_slice(&self.0[at..at + count]);
        Ok(count)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.0.len() as u64)
    }

    fn flush(&self) -> Result<(), Errno> {
        Ok(())
    }
}

/// An image in memory that can be changed, and is not written outside of.
#[derive(Debug)]
pub struct Memory(pub Mutex<Vec<u8>>);

impl Backing for Memory {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let bytes = self.0.lock();
        let at = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let length = buffer.len().min(bytes.len() - at);
        buffer[..length].copy_from_slice(&bytes[at..at + length]);
        Ok(length)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let mut bytes = self.0.lock();
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        assert!(
            at <= bytes.len() && data.len() <= bytes.len() - at,
            "written outside of the image"
        );
        bytes[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.0.lock().len() as u64)
    }

    fn flush(&self) -> Result<(), Errno> {
        Ok(())
    }
}

/// How many files a walk looks at, and how much of each it reads.
const BOUNDS: [usize; 2] = [500, 64 << 10];

/// Asks everything about every file, in bounds; returns how many files there were.
pub fn walk(files: &dyn FileSystem) -> usize {
    let (caller, handle) = (Caller::root(), Handle(0));
    let _ = files.statfs(Node::ROOT);
    let (mut open, mut seen) = (vec![Node::ROOT], 0);
    let mut buffer = vec![0; BOUNDS[1]];
    while let Some(directory) = open.pop() {
        let mut names = Vec::new();
        let mut each = |entry: DirEntry| names.push(entry.name);
        let _ = files.readdir(&caller, directory, handle, &mut each);
        for name in names {
            seen += 1;
            if seen > BOUNDS[0] {
                return seen;
            }
            let Ok(entry) = files.lookup(&caller, directory, &name) else { continue };
            let size = entry.attributes.size;
            for at in [0, 1000, size / 2, size.saturating_sub(1), size, u64::MAX / 2] {
                if entry.attributes.is_regular() {
                    let _ = files.read(entry.node, handle, at, &mut buffer);
                }
            }
            let _ = files.getattr(&caller, entry.node, None);
            let _ = files.readlink(&caller, entry.node);
            for name in files.listxattr(&caller, entry.node).unwrap_or_default() {
                let _ = files.getxattr(&caller, entry.node, &name);
            }
            if entry.attributes.is_directory() {
                open.push(entry.node);
            } else {
                files.forget(entry.node, 1);
            }
        }
    }
    seen
}

#[cfg(test)]
pub(crate) use self::damage::{damaged, made};

#[cfg(test)]
mod damage {
    use std::{collections::HashMap, fs, process::Command};

    use parking_lot::Mutex;
    use proptest::{collection::vec, prelude::*, sample::Index};

    /// What happens to an image.
    #[derive(Debug, Clone)]
    pub(crate) struct Damage {
        bytes: Vec<(Index, u8)>,
        /// Words that are set to what counts and lengths must not be.
        words: Vec<(Index, u32)>,
        begin: usize,
        cut: Option<Index>,
    }

    impl Damage {
        /// Where numbers are that are worth damaging.
        pub(crate) fn begins_at(&mut self, at: usize) {
            self.begin = at;
        }

        pub(crate) fn apply(&self, image: &mut Vec<u8>) {
            for (at, byte) in &self.bytes {
                let at = at.index(image.len());
                image[at] ^= *byte;
            }
            for (at, word) in &self.words {
                let at = self.begin + at.index((image.len() - self.begin).min(4096) - 4);
                image[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
            if let Some(cut) = self.cut {
                image.truncate(cut.index(image.len()));
            }
        }
    }

    /// Bit flips, huge numbers and truncation.
    pub(crate) fn damaged() -> impl Strategy<Value = Damage> {
        let huge = prop::sample::select(vec![0, 1, 0xffff, 0x7fff_ffff, u32::MAX, 0xfff0_0000]);
        let bytes = vec((any::<Index>(), 1_u8..), 0..20);
        let words = vec((any::<Index>(), huge), 0..3);
        let cut = proptest::option::weighted(0.2, any::<Index>());
        (bytes, words, cut).prop_map(|(bytes, words, cut)| Damage { bytes, words, begin: 0, cut })
    }

    /// What a command makes, as `image`, of a small tree `src`; None where the command is not
    /// installed.
    pub(crate) fn made(command: &str) -> Option<Vec<u8>> {
        static MADE: Mutex<Option<HashMap<String, Option<Vec<u8>>>>> = Mutex::new(None);
        let mut made = MADE.lock();
        let known = made.get_or_insert_default();
        if let Some(image) = known.get(command) {
            return image.clone();
        }
        let folder = tempfile::tempdir().expect("a folder");
        let script = format!(
            "mkdir -p src/d/e; seq 3000 > src/seq; head -c 9000 /dev/zero > src/d/z; ln src/seq src/d/hard
             ln -s ../seq src/d/link; mkfifo src/d/e/fifo; setfattr -n user.a -v b src/seq
             for i in $(seq 40); do echo $i > src/d/e/file-$i; done; {command} >/dev/null 2>&1"
        );
        let done = Command::new("bash").args(["-c", &script]).current_dir(folder.path()).status();
        done.expect("bash runs");
        let image = fs::read(folder.path().join("image")).ok();
        let image = image.filter(|image| !image.is_empty());
        known.insert(command.to_owned(), image.clone());
        image
    }
}
