//! Materialised directories: real directories whose entries stand for virtual ones.
//!
//! A guest that opens a directory whose listing is not the kernel's gets a descriptor of one of
//! these, and getdents64(2) runs in the kernel. The directory is recognised by its path in
//! `/proc/TID/fd` when the descriptor comes back. There is one per virtual path; it is brought up
//! to date at each open, as a directory that others change, and the least recently used go when
//! there are too many. Types of entries are right as far as an unprivileged process can make them:
//! block devices show as regular files, and stacks as sockets.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use nix::sys::stat::{Mode, SFlag, mknod};
use parking_lot::Mutex;
use umvu_abi::Errno;

use super::lexical::{below, components, join};

/// How many directories are kept.
const DIRECTORIES_LIMIT: usize = 512;
/// How many entries one shows.
const ENTRIES_LIMIT: usize = 16_384;
const NAME_MAX: usize = 255;

/// What an entry of a listing is, as far as `d_type` goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A directory.
    Directory,
    /// A regular file, or something that cannot be imitated.
    File,
    /// A symbolic link with its target.
    Link(Vec<u8>),
    /// A FIFO.
    Fifo,
    /// A socket; the nodes of stacks show so.
    Socket,
    /// A character device.
    Character,
}

/// Names and kinds, without `.` and `..`.
pub(super) type Listing = BTreeMap<Vec<u8>, Kind>;

#[derive(Debug)]
struct Materialised {
    number: u64,
    shown: Listing,
    used: u64,
}

#[derive(Debug, Default)]
struct Kept {
    by_path: HashMap<Vec<u8>, Materialised>,
    paths: HashMap<u64, Vec<u8>>,
    next: u64,
    clock: u64,
}

/// The materialised directories of one hypervisor.
#[derive(Debug)]
pub(super) struct Directories {
    root: PathBuf,
    kept: Mutex<Kept>,
    used: AtomicBool,
}

impl Directories {
    /// Keeps them below `run_dir`. Nothing is made before the first is needed.
    pub(super) fn new(run_dir: &Path) -> Self {
        // The kernel reports paths without symbolic links.
        let run_dir = fs::canonicalize(run_dir).unwrap_or_else(|_| run_dir.to_owned());
        Self { root: run_dir.join("dirs"), kept: Mutex::default(), used: AtomicBool::new(false) }
    }

    /// Makes or refreshes the directory that stands for `path`; returns where it is.
    /// Errors: those of mkdir(2) and mknod(2).
    pub(super) fn show(&self, path: &[u8], mut listing: Listing) -> Result<PathBuf, Errno> {
        listing.retain(|name, _| is_name(name));
        while listing.len() > ENTRIES_LIMIT {
            listing.pop_last();
        }
        let mut kept = self.kept.lock();
        self.obtain(&mut kept, path)?;
        let Some(directory) = kept.by_path.get_mut(path) else { return Err(Errno::EIO) };
        let place = self.place(directory.number);
        if let Err(error) = update(&place, &directory.shown, &listing) {
            // Nothing is known about its content now: the next open starts anew.
            let number = directory.number;
            kept.by_path.remove(path);
            kept.paths.remove(&number);
            let _ = fs::remove_dir_all(place);
            return Err(error.into());
        }
        directory.shown = listing;
        Ok(place)
    }

    /// Where the directory that stands for `path` is, or will be shown; its entries stay as they
    /// are. Errors: those of mkdir(2).
    pub(super) fn promise(&self, path: &[u8]) -> Result<PathBuf, Errno> {
        Ok(self.place(self.obtain(&mut self.kept.lock(), path)?))
    }

    fn obtain(&self, kept: &mut Kept, path: &[u8]) -> Result<u64, Errno> {
        kept.clock += 1;
        let clock = kept.clock;
        if let Some(directory) = kept.by_path.get_mut(path) {
            directory.used = clock;
            return Ok(directory.number);
        }
        self.evict(kept);
        let number = self.make(kept)?;
        kept.paths.insert(number, path.to_vec());
        let fresh = Materialised { number, shown: Listing::new(), used: clock };
        kept.by_path.insert(path.to_vec(), fresh);
        Ok(number)
    }

    /// The virtual path that a kernel path stands for: None when it is not one of ours, an error
    /// (`ENOENT`) when it was and is forgotten.
    pub(super) fn stands_for(&self, link: &[u8]) -> Option<Result<Vec<u8>, Errno>> {
        if !self.are_used() {
            return None;
        }
        let rest = below(link, self.root())?;
        let rest = rest.strip_suffix(b" (deleted)").unwrap_or(rest);
        let mut parts = components(rest);
        let number = parts.next().and_then(|part| std::str::from_utf8(part).ok()?.parse().ok());
        let kept = self.kept.lock();
        let Some(path) = number.and_then(|number: u64| kept.paths.get(&number)) else {
            return Some(Err(Errno::ENOENT));
        };
        Some(Ok(parts.fold(path.clone(), |path, part| join(&path, part))))
    }

    /// Where they are.
    pub(super) fn root(&self) -> &[u8] {
        self.root.as_os_str().as_bytes()
    }

    /// Whether any was ever made.
    pub(super) fn are_used(&self) -> bool {
        self.used.load(Ordering::Acquire)
    }

    fn place(&self, number: u64) -> PathBuf {
        self.root.join(number.to_string())
    }

    fn make(&self, kept: &mut Kept) -> Result<u64, Errno> {
        if !self.used.swap(true, Ordering::AcqRel) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root)?;
        }
        let number = kept.next;
        kept.next += 1;
        fs::DirBuilder::new().mode(0o755).create(self.place(number))?;
        Ok(number)
    }

    fn evict(&self, kept: &mut Kept) {
        if kept.by_path.len() < DIRECTORIES_LIMIT {
            return;
        }
        let oldest = kept.by_path.iter().min_by_key(|(_, one)| one.used);
        let Some(oldest) = oldest.map(|(path, _)| path.clone()) else { return };
        if let Some(gone) = kept.by_path.remove(&oldest) {
            kept.paths.remove(&gone.number);
            let _ = fs::remove_dir_all(self.place(gone.number));
        }
    }
}

/// Adds what is new and removes what is gone or has another kind.
fn update(place: &Path, shown: &Listing, wanted: &Listing) -> io::Result<()> {
    for (name, kind) in shown {
        if wanted.get(name) != Some(kind) {
            let entry = place.join(OsStr::from_bytes(name));
            let removed = match kind {
                Kind::Directory => fs::remove_dir(entry),
                _ => fs::remove_file(entry),
            };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    for (name, kind) in wanted {
        if shown.get(name) != Some(kind) {
            create(&place.join(OsStr::from_bytes(name)), kind)?;
        }
    }
    Ok(())
}

fn create(entry: &Path, kind: &Kind) -> io::Result<()> {
    let special = |kind| mknod(entry, kind, Mode::from_bits_truncate(0o600), 0);
    match kind {
        Kind::Directory => fs::DirBuilder::new().mode(0o755).create(entry),
        Kind::File => plain(entry),
        Kind::Link(target) => {
            std::os::unix::fs::symlink(OsStr::from_bytes(target), entry).or_else(|_| plain(entry))
        }
        Kind::Fifo => special(SFlag::S_IFIFO).or_else(|_| plain(entry)),
        Kind::Socket => special(SFlag::S_IFSOCK).or_else(|_| plain(entry)),
        // Device 0:0, a "whiteout", is the one device that needs no privilege.
        Kind::Character => special(SFlag::S_IFCHR).or_else(|_| plain(entry)),
    }
}

fn plain(entry: &Path) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o644).open(entry).map(drop)
}

fn is_name(name: &[u8]) -> bool {
    let allowed = !name.contains(&b'/') && !name.contains(&0) && name.len() <= NAME_MAX;
    allowed && !matches!(name, b"" | b"." | b"..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::fake::ScratchDir;

    fn listing(entries: &[(&str, Kind)]) -> Listing {
        entries.iter().map(|(name, kind)| (name.as_bytes().to_vec(), kind.clone())).collect()
    }

    fn names(place: &Path) -> Vec<String> {
        let entries = fs::read_dir(place).expect("the directory is there");
        let name = |entry: io::Result<fs::DirEntry>| entry.map(|e| e.file_name());
        let mut names: Vec<_> = entries
            .map(|entry| name(entry).expect("readable").to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_listing_becomes_a_directory_and_follows_changes() {
        let scratch = ScratchDir::new("directories");
        let directories = Directories::new(scratch.path());
        assert!(directories.stands_for(b"/x").is_none());
        let first = listing(&[
            ("d", Kind::Directory),
            ("f", Kind::File),
            ("l", Kind::Link(b"../x".to_vec())),
            ("p", Kind::Fifo),
            ("s", Kind::Socket),
            ("c", Kind::Character),
            ("../evil", Kind::File),
            ("..", Kind::Directory),
        ]);
        let place = directories.show(b"/dev/net", first).expect("made");
        assert_eq!(names(&place), ["c", "d", "f", "l", "p", "s"]);
        let second = listing(&[("d", Kind::File), ("g", Kind::Directory)]);
        assert_eq!(directories.show(b"/dev/net", second).expect("refreshed"), place);
        assert_eq!(names(&place), ["d", "g"]);
        assert!(place.join("d").is_file());
    }

    #[test]
    fn a_directory_is_recognised_by_its_path() {
        let scratch = ScratchDir::new("recognised");
        let directories = Directories::new(scratch.path());
        let place = directories.show(b"/proc/7/net", Listing::new()).expect("made");
        let bytes = place.as_os_str().as_bytes();
        assert_eq!(directories.stands_for(bytes), Some(Ok(b"/proc/7/net".to_vec())));
        let inside = join(bytes, b"stat/x");
        assert_eq!(directories.stands_for(&inside), Some(Ok(b"/proc/7/net/stat/x".to_vec())));
        let gone = [bytes, b" (deleted)"].concat();
        assert_eq!(directories.stands_for(&gone), Some(Ok(b"/proc/7/net".to_vec())));
        let unknown = join(directories.root(), b"999");
        assert_eq!(directories.stands_for(&unknown), Some(Err(Errno::ENOENT)));
        assert_eq!(directories.stands_for(b"/usr"), None);
    }

    #[test]
    fn the_number_of_directories_is_bounded() {
        let scratch = ScratchDir::new("bounded");
        let directories = Directories::new(scratch.path());
        for number in 0..DIRECTORIES_LIMIT + 10 {
            let path = format!("/d/{number}");
            directories.show(path.as_bytes(), Listing::new()).expect("made");
        }
        assert_eq!(names(&directories.root).len(), DIRECTORIES_LIMIT);
    }
}
