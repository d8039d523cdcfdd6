//! The content of generated files: what a guest reads, and what it writes.
//!
//! Reading: a sealed memfd with the content made at the open, opened anew with the guest's flags.
//! Writing: the writing end of a packet-mode pipe, so that each write(2) arrives as one piece. The
//! pieces are delivered to the tree before the next path call of any guest is answered and when a
//! task is born or ends ([`Writers::settle`]), so whoever reads after a write sees its effect. The
//! guest's write(2) itself always succeeds: an error of the tree cannot reach it and is logged, unless
//! the tree wants it told ([`Tree::tells_errors`](umvu_abi::tree::Tree::tells_errors)). Then the process
//! is watched, and its write(2) is answered as the tree does ([`Writers::find`]).

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    sync::atomic::{AtomicUsize, Ordering},
};

use nix::{
    fcntl::{self, FcntlArg, OFlag, SealFlag},
    sys::{
        memfd::{MFdFlags, memfd_create},
        stat::{Mode, fchmod},
    },
    unistd::pipe2,
};
use parking_lot::Mutex;
use umvu_abi::{Errno, tree::Entry};

use super::resolve::TreeEntry;

/// How many files may be open for writing in the whole tree of guests.
const WRITERS_LIMIT: usize = 256;
/// How many files opened for reading and writing are watched; the oldest is let go.
const WATCHED_LIMIT: usize = 32;
/// The most that one write(2) may bring (`PIPE_BUF`).
const PIECE: usize = 4096;
/// Room for 256 pieces.
const PIPE_SIZE: i32 = 1 << 20;
/// How much of a file that is open for reading and writing is looked at.
const WATCHED_SIZE: u64 = 65_536;

/// Fills a memfd and makes a read-only descriptor of it. `flags` are the guest's open flags.
/// Errors: those of write(2), fcntl(2) and open(2).
pub(super) fn readable(
    mut file: File,
    content: &[u8],
    mode: u32,
    flags: OFlag,
) -> Result<OwnedFd, Errno> {
    fill(&mut file, content, mode)?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_SEAL;
    fcntl::fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(io::Error::from)?;
    reopen(&file, flags & (OFlag::O_NONBLOCK | OFlag::O_NOATIME))
}

/// Makes a descriptor of a memfd that only names it (`O_PATH`). Errors: those of open(2).
pub(super) fn handle(file: &File) -> Result<OwnedFd, Errno> {
    reopen(file, OFlag::O_PATH)
}

/// How the name of a memfd begins that holds a generated file; the path follows.
const MEMFD: &str = "umvu:";
/// How long the name of a memfd may be.
const MEMFD_LIMIT: usize = 249;

/// Makes an empty memfd for the file at a path. Errors: those of memfd_create(2).
pub(super) fn empty(path: &[u8]) -> Result<File, Errno> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut name = [MEMFD.as_bytes(), path].concat();
    if name.len() > MEMFD_LIMIT {
        name.truncate(MEMFD.len());
    }
    let name = OsStr::from_bytes(&name);
    Ok(File::from(memfd_create(name, flags).map_err(io::Error::from)?))
}

/// The path of the generated file in a memfd, by what procfs shows of that.
pub(super) fn shown(link: &[u8]) -> Option<&[u8]> {
    let path = link.strip_prefix(b"/memfd:")?.strip_prefix(MEMFD.as_bytes())?;
    path.strip_suffix(b" (deleted)").filter(|path| !path.is_empty())
}

fn fill(file: &mut File, content: &[u8], mode: u32) -> Result<(), Errno> {
    file.write_all(content)?;
    fchmod(file, Mode::from_bits_truncate(mode)).map_err(|errno| io::Error::from(errno).into())
}

fn reopen(file: &File, flags: OFlag) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let opened = fcntl::open(path.as_str(), flags | OFlag::O_CLOEXEC, Mode::empty());
    opened.map_err(|errno| io::Error::from(errno).into())
}

/// Whether truncate(2) is accepted, with no effect as in procfs. Errors: `EACCES`, `EISDIR`.
pub(super) fn truncatable(entry: &TreeEntry) -> Result<(), Errno> {
    match entry.entry {
        Entry::File { mode } if mode & 0o222 != 0 => Ok(()),
        Entry::File { .. } | Entry::Link(_) => Err(Errno::EACCES),
        Entry::Directory(_) => Err(Errno::EISDIR),
    }
}

#[derive(Debug)]
enum Channel {
    /// Our end of the pipe of a file opened for writing.
    Pipe(File),
    /// Our descriptor of a file opened for reading and writing, and what it held last.
    Watched(File, Vec<u8>),
}

#[derive(Debug)]
struct Writer {
    entry: TreeEntry,
    channel: Channel,
}

/// The generated files that guests have open for writing.
#[derive(Debug, Default)]
pub(super) struct Writers {
    open: Mutex<Vec<Writer>>,
    count: AtomicUsize,
}

impl Writers {
    /// Opens a file for writing only. Errors: `ENFILE`, those of pipe2(2).
    pub(super) fn write_only(&self, entry: &TreeEntry) -> Result<OwnedFd, Errno> {
        // A full pipe is EAGAIN: a guest must not wait for a call that it would have to make.
        let flags = OFlag::O_CLOEXEC | OFlag::O_DIRECT | OFlag::O_NONBLOCK;
        let (ours, theirs) = pipe2(flags).map_err(io::Error::from)?;
        // More room is a convenience: the limit may be lower.
        let _ = fcntl::fcntl(&theirs, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
        self.keep(Writer { entry: entry.clone(), channel: Channel::Pipe(File::from(ours)) })?;
        Ok(theirs)
    }

    /// Opens a file for reading and writing. Errors: `ENFILE`, those of memfd_create(2).
    pub(super) fn read_write(
        &self,
        entry: &TreeEntry,
        content: Vec<u8>,
        mode: u32,
    ) -> Result<OwnedFd, Errno> {
        let mut file = empty(&entry.path)?;
        fill(&mut file, &content, mode)?;
        let theirs = reopen(&file, OFlag::O_RDWR)?;
        self.keep(Writer { entry: entry.clone(), channel: Channel::Watched(file, content) })?;
        Ok(theirs)
    }

    fn keep(&self, writer: Writer) -> Result<(), Errno> {
        let mut open = self.open.lock();
        let is_watched = |writer: &Writer| matches!(writer.channel, Channel::Watched(..));
        if open.iter().filter(|one| is_watched(one)).count() >= WATCHED_LIMIT
            && let Some(oldest) = open.iter().position(is_watched)
        {
            open.remove(oldest);
        }
        if open.len() >= WRITERS_LIMIT {
            return Err(Errno::ENFILE);
        }
        open.push(writer);
        self.count.store(open.len(), Ordering::Release);
        Ok(())
    }

    /// The file that is open for writing by the pipe with an inode number.
    pub(super) fn find(&self, number: impl FnOnce() -> Option<u64>) -> Option<TreeEntry> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let number = number()?;
        let open = self.open.lock();
        let is_it = |writer: &&Writer| match &writer.channel {
            Channel::Pipe(pipe) => pipe.metadata().is_ok_and(|found| found.ino() == number),
            Channel::Watched(..) => false,
        };
        open.iter().find(is_it).map(|writer| writer.entry.clone())
    }

    /// Delivers what guests have written since; whether there may have been something. Cheap when no
    /// file is open for writing.
    pub(super) fn settle(&self) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mut open = self.open.lock();
        open.retain_mut(Writer::settle);
        self.count.store(open.len(), Ordering::Release);
        true
    }
}

impl Writer {
    /// Returns whether the file is still open.
    fn settle(&mut self) -> bool {
        match &mut self.channel {
            Channel::Pipe(pipe) => loop {
                let mut piece = [0; PIECE];
                match pipe.read(&mut piece) {
                    Ok(0) => return false,
                    Ok(count) => deliver(&self.entry, &piece[..count]),
                    Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
                }
            },
            Channel::Watched(file, before) => {
                let mut now = Vec::new();
                let read = file
                    .seek(SeekFrom::Start(0))
                    .and_then(|_| Read::take(&*file, WATCHED_SIZE).read_to_end(&mut now));
                if read.is_ok() && now != *before {
                    deliver(&self.entry, &now);
                    *before = now;
                }
                read.is_ok()
            }
        }
    }
}

fn deliver(entry: &TreeEntry, data: &[u8]) {
    if let Err(errno) = entry.tree.write(&entry.inner, data) {
        let path = String::from_utf8_lossy(&entry.path);
        tracing::warn!("a write to {path} failed: {errno}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::paths::fake::{self, FakeTree};

    fn knob() -> (Arc<FakeTree>, TreeEntry) {
        let tree = Arc::new(FakeTree::default());
        let entry = TreeEntry { tree: tree.clone(), ..fake::entry("conf/knob", 0o644) };
        (tree, entry)
    }

    #[test]
    fn content_is_read_only_and_seekable() {
        let file = empty(b"/proc/net/dev").expect("memfd works");
        let fd = readable(file, b"text", 0o444, OFlag::empty()).expect("sealed");
        let mut file = File::from(fd);
        let mut text = String::new();
        file.read_to_string(&mut text).expect("readable");
        assert_eq!(text, "text");
        assert_eq!(file.seek(SeekFrom::Start(1)).expect("seekable"), 1);
        assert!(file.write(b"x").is_err());
        let status = nix::sys::stat::fstat(&file).expect("fstat");
        assert_eq!(status.st_mode & 0o7777, 0o444);
    }

    #[test]
    fn each_write_arrives_as_one_piece() {
        let (tree, entry) = knob();
        let writers = Writers::default();
        writers.settle();
        let fd = writers.write_only(&entry).expect("a pipe");
        let mut file = File::from(fd);
        file.write_all(b"1\n").expect("room");
        file.write_all(b"2\n").expect("room");
        writers.settle();
        assert_eq!(*tree.knob.lock(), [b"1\n", b"2\n"]);
        file.write_all(b"3\n").expect("room");
        drop(file);
        writers.settle();
        assert_eq!(tree.knob.lock().len(), 3);
        assert_eq!(writers.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_file_is_found_by_its_pipe() {
        let (_tree, entry) = knob();
        let writers = Writers::default();
        assert!(writers.find(|| panic!("nobody has to be asked")).is_none());
        let file = File::from(writers.write_only(&entry).expect("a pipe"));
        let number = file.metadata().expect("open").ino();
        assert_eq!(writers.find(|| Some(number)).map(|found| found.path), Some(entry.path));
        assert!(writers.find(|| Some(number + 1)).is_none());
    }

    #[test]
    fn a_file_open_for_both_is_delivered_when_it_changed() {
        let (tree, entry) = knob();
        let writers = Writers::default();
        let fd = writers.read_write(&entry, b"0\n".to_vec(), 0o644).expect("memfd works");
        let mut file = File::from(fd);
        writers.settle();
        assert!(tree.knob.lock().is_empty());
        file.write_all(b"1\n").expect("writable");
        writers.settle();
        writers.settle();
        assert_eq!(*tree.knob.lock(), [b"1\n"]);
    }

    #[test]
    fn the_number_of_writers_is_bounded() {
        let (_tree, entry) = knob();
        let writers = Writers::default();
        let open = |_| writers.write_only(&entry);
        let all: Result<Vec<_>, _> = (0..=WRITERS_LIMIT).map(open).collect();
        assert_eq!(all.map(|_| ()), Err(Errno::ENFILE));
    }
}
