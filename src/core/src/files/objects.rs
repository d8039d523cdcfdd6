//! The objects that stand for virtual files in the kernel, in one private directory.
//!
//! Object `files/N` is a regular file (the content of an inode, or a handle of one), an empty
//! directory, or a FIFO. A descriptor or working directory of a guest is recognised by that path
//! in `/proc/TID/fd` and `/proc/TID/cwd`. While a guest has an object open its inode is kept.

use std::{
    collections::{HashMap, VecDeque},
    ffi::{OsStr, OsString},
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt,
            fs::{DirBuilderExt, OpenOptionsExt},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    sys::{
        inotify::AddWatchFlags,
        stat::{Mode, SFlag, mknod},
    },
};
use parking_lot::Mutex;
use umvu_abi::{
    Errno,
    files::{Attributes, Handle, Time},
    patience,
};

use super::{Inode, room::Guard, shadows::Shadows, worker::Signs};
use crate::paths::lexical::{below, components};

/// How many directories and handles are kept for those who stand in them or have them open.
const SILENT_LIMIT: usize = 16_384;

/// How many files of the host are known as those of inodes.
const DRESSED_LIMIT: usize = 32_768;

/// How many paths of programs are known.
const NAMES_LIMIT: usize = 4096;

/// How many names of bound sockets are known.
const BOUND_LIMIT: usize = 16_384;

/// How long a file that is taken away may take to be closed at its other end.
const CLOSING: Duration = Duration::from_secs(5);

/// How many programs are kept open.
const EXECUTED: usize = 32;

#[derive(Debug)]
struct Known {
    inode: Arc<Inode>,
    used: u64,
    hold: Hold,
}

/// How guests hold an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// A file: a sign tells when it is closed.
    File,
    /// A file that some have only as a handle: there is no sign when they let it go.
    Handle,
    /// A directory, likewise.
    Directory,
}

/// How far a file is that is taken away from all guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Revoked {
    /// Guests are being stopped.
    Leaving,
    /// Its other end is closed.
    Closed,
}

#[derive(Debug)]
struct Direct {
    inode: Arc<Inode>,
    handle: Handle,
    /// Ours, to find out whether somebody else has it.
    file: fs::File,
}

/// Makes an empty file, without opening it.
pub(super) fn make_file(path: &Path) -> io::Result<()> {
    Ok(mknod(path, SFlag::S_IFREG, Mode::S_IRWXU, 0)?)
}

#[derive(Debug, Default)]
struct Table {
    by_number: HashMap<u64, Known>,
    /// Files whose every read and write is one of the file system: one object for each open.
    direct: HashMap<u64, Direct>,
    /// Files of the host that mounts have handed over.
    dressed: HashMap<Identity, Dressed>,
    /// The same, the oldest first.
    dressing: VecDeque<Identity>,
    /// Paths of the host that guests execute under other ones.
    names: HashMap<Vec<u8>, Vec<u8>>,
    /// What guests have called the sockets that they have bound, by the kernel's paths.
    bound: HashMap<Vec<u8>, Vec<u8>>,
    /// The same, the oldest first.
    binding: VecDeque<Vec<u8>>,
    /// Programs that guests have been told to execute, the last ones.
    executed: VecDeque<OwnedFd>,
    next: u64,
    clock: u64,
}

/// A file of the host that a mount has handed over.
#[derive(Debug)]
struct Dressed {
    inode: Arc<Inode>,
    /// The handle it was opened with, if calls about a descriptor of it are the mount's to answer.
    guarded: Option<Handle>,
}

/// `st_dev`, `st_ino`, and when it was made: numbers are used again.
type Identity = (u64, u64, Option<Time>);

fn identity(looks: &Attributes) -> Identity {
    (looks.dev.unwrap_or(0), looks.ino, looks.btime)
}

/// What a guest holds by an object.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// The inode.
    pub(crate) inode: Arc<Inode>,
    /// The handle of a file whose data is direct.
    pub(crate) direct: Option<Handle>,
    /// What the kernel says about it, and the handle it was opened with, when it is a file of the host.
    pub(crate) native: Option<(Attributes, Handle)>,
}

/// The objects of one hypervisor.
#[derive(Debug)]
pub struct Objects {
    root: PathBuf,
    /// Where files are filled, beside it: nobody watches there. While guests
    /// watch, files have a second name there, for us alone.
    staged: PathBuf,
    table: Mutex<Table>,
    used: AtomicBool,
    dressed: AtomicBool,
    named: AtomicBool,
    any_bound: AtomicBool,
    /// What `/proc/PID/fd` shows of files that were taken away from guests.
    revoked: Mutex<HashMap<OsString, Revoked>>,
    any_revoked: AtomicBool,
    /// What the kernel tells about the objects.
    pub(super) signs: OnceLock<Arc<Signs>>,
    /// What stands for the files that guests watch.
    pub(super) shadows: Shadows,
    /// Bytes of contents that are kept.
    pub(super) bytes: AtomicU64,
    /// How many contents are kept: each is a descriptor of ours.
    pub(super) kept: AtomicU64,
    /// How many descriptors are taken when it is worth to look again for closed files.
    pub(super) crowded: AtomicU64,
    pub(super) guard: Guard,
}

impl Objects {
    /// Keeps them below the private directory. Nothing is made before the first is needed.
    pub(crate) fn new(run_dir: &Path) -> Arc<Self> {
        // The kernel reports paths without symbolic links.
        let run_dir = fs::canonicalize(run_dir).unwrap_or_else(|_| run_dir.to_owned());
        Arc::new(Self {
            root: run_dir.join("files"),
            staged: run_dir.join("staged"),
            table: Mutex::default(),
            used: AtomicBool::new(false),
            dressed: AtomicBool::new(false),
            named: AtomicBool::new(false),
            any_bound: AtomicBool::new(false),
            revoked: Mutex::default(),
            any_revoked: AtomicBool::new(false),
            signs: OnceLock::new(),
            shadows: Shadows::new(run_dir.join("watched")),
            bytes: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            crowded: AtomicU64::new(0),
            guard: Guard::default(),
        })
    }

    /// Where they are.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether there was ever one.
    pub(crate) fn are_used(&self) -> bool {
        self.used.load(Ordering::Acquire)
    }

    /// Makes the directory. Errors: those of mkdir(2).
    pub(super) fn prepare(self: &Arc<Self>) -> io::Result<()> {
        if !self.used.swap(true, Ordering::AcqRel) {
            for directory in [&self.root, &self.staged] {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            }
            self.watch()?;
        }
        Ok(())
    }

    /// An object for one open of a file whose data is direct, as large as the file; `open` opens it for
    /// the guest. Errors: those of open(2).
    pub(crate) fn direct(
        self: &Arc<Self>,
        inode: &Arc<Inode>,
        handle: Handle,
        size: u64,
        open: impl FnOnce(&Path) -> Result<OwnedFd, Errno>,
    ) -> Result<OwnedFd, Errno> {
        self.prepare()?;
        let mut table = self.table.lock();
        let number = table.next;
        let path = self.place(number);
        // Made elsewhere: what is done to it until then is not told.
        let fresh = self.staged.join(number.to_string());
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o700).open(&fresh)?;
        // Only the end matters, for lseek(2); no room for it, no end.
        let _ = file.set_len(size);
        drop(file);
        let file = fs::File::open(&fresh)?;
        fs::rename(&fresh, &path)?;
        table.next += 1;
        let fd = open(&path)?;
        table.direct.insert(number, Direct { inode: Arc::clone(inode), handle, file });
        Ok(fd)
    }

    /// A guest has closed an object: whether it is of a direct file, whose handle goes with the last.
    pub(super) fn direct_closed(&self, number: u64) -> bool {
        let mut table = self.table.lock();
        let Some(direct) = table.direct.get(&number) else { return false };
        if super::fcntl::lease(&direct.file) {
            let gone = table.direct.remove(&number);
            drop(table);
            self.discard(number);
            if let Some(Direct { inode, handle, .. }) = gone {
                inode.files.fs.release(inode.node, handle);
            }
        }
        true
    }

    /// The path by which we open an object ourselves while guests watch: what is done by this one the
    /// kernel does not tell as if guests did it.
    pub(super) fn aside(&self, object: &Path) -> PathBuf {
        let aside = object.file_name().filter(|_| self.shadows.any());
        let Some(aside) = aside.map(|name| self.staged.join(name)) else {
            return object.to_owned();
        };
        match fs::hard_link(object, &aside) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => object.to_owned(),
            _ => aside,
        }
    }

    /// Puts a file that was filled into its place. Errors: `EEXIST`.
    pub(super) fn publish(&self, staged: &Path, place: &Path) -> Result<(), Errno> {
        if self.shadows.any() {
            return Ok(fs::hard_link(staged, place)?);
        }
        let done = renameat2(AT_FDCWD, staged, AT_FDCWD, place, RenameFlags::RENAME_NOREPLACE);
        done.map_err(|errno| io::Error::from(errno).into())
    }

    /// The content of an object is kept no more.
    pub(super) fn empty(&self, object: &Path) {
        let _ = fs::remove_file(object);
        if let Some(name) = object.file_name().filter(|_| self.shadows.any()) {
            let _ = fs::remove_file(self.staged.join(name));
        }
    }

    /// The kernel tells what a guest does with an object.
    pub(super) fn told_of(&self, number: u64, event: AddWatchFlags) {
        if self.shadows.any()
            && let Some(held) = self.find(number)
        {
            self.pass_on(&held.inode, event, true);
        }
    }

    fn place(&self, number: u64) -> PathBuf {
        self.root.join(number.to_string())
    }

    /// The object of an inode: its path, and it is in use from now on. `make` makes it the first
    /// time. Errors: those of making it.
    pub(crate) fn obtain(
        self: &Arc<Self>,
        inode: &Arc<Inode>,
        make: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<PathBuf, Errno> {
        self.prepare()?;
        let hold = if inode.is_directory()? { Hold::Directory } else { Hold::File };
        let mut table = self.table.lock();
        table.clock += 1;
        let used = table.clock;
        if let Some(number) = inode.object.get() {
            let before = table.by_number.get(number).map(|known| known.hold);
            let hold = before.filter(|hold| *hold == Hold::Handle).unwrap_or(hold);
            let known = Known { inode: Arc::clone(inode), used, hold };
            table.by_number.insert(*number, known);
            return Ok(self.place(*number));
        }
        let number = table.next;
        make(&self.place(number))?;
        table.next += 1;
        let _ = inode.object.set(number);
        table.by_number.insert(number, Known { inode: Arc::clone(inode), used, hold });
        let evicted = self.evict(&mut table);
        drop(table);
        drop(evicted);
        Ok(self.place(number))
    }

    /// A directory as an object. Errors: those of mkdir(2).
    pub(crate) fn directory(self: &Arc<Self>, inode: &Arc<Inode>) -> Result<PathBuf, Errno> {
        self.obtain(inode, |path| fs::DirBuilder::new().mode(0o755).create(path))
    }

    /// A handle that names a file and has no content. Errors: those of open(2).
    pub(crate) fn handle(self: &Arc<Self>, inode: &Arc<Inode>) -> Result<PathBuf, Errno> {
        let path = self.obtain(inode, |_| Ok(()))?;
        if let Some(number) = inode.object.get()
            && let Some(known) = self.table.lock().by_number.get_mut(number)
        {
            known.hold = Hold::Handle;
        }
        match make_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error.into()),
            _ => Ok(path),
        }
    }

    /// A new file that is to become the one at a place of ours: where nobody watches. Errors: those
    /// of open(2).
    pub(super) fn stage(&self, place: &Path) -> io::Result<(PathBuf, fs::File)> {
        let staged = self.staged.join(place.file_name().unwrap_or_default());
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o700).open(&staged)?;
        Ok((staged, file))
    }

    fn evict(&self, table: &mut Table) -> Option<Known> {
        if !table.next.is_multiple_of(64) {
            return None;
        }
        let silent = table.by_number.values().filter(|known| known.hold != Hold::File).count();
        if silent < SILENT_LIMIT {
            return None;
        }
        let kept = table.by_number.iter().filter(|(_, known)| known.hold != Hold::File);
        let oldest = kept.min_by_key(|(_, known)| known.used).map(|(number, _)| *number)?;
        table.by_number.remove(&oldest)
    }

    /// Keeps a program open until the guest has it open itself, and some time longer.
    pub(crate) fn executes(&self, program: OwnedFd) {
        let mut table = self.table.lock();
        table.executed.push_back(program);
        let oldest =
            if table.executed.len() > EXECUTED { table.executed.pop_front() } else { None };
        drop(table);
        drop(oldest);
    }

    /// A file is taken away from all guests: what `/proc/PID/fd` shows of it.
    pub(crate) fn revoke(&self, link: &OsStr) {
        self.revoked.lock().insert(link.to_owned(), Revoked::Leaving);
        self.any_revoked.store(true, Ordering::Release);
    }

    /// Whether any file was taken away.
    pub(crate) fn are_revoked(&self) -> bool {
        self.any_revoked.load(Ordering::Acquire)
    }

    /// Its other end is closed.
    pub(crate) fn closed_revoked(&self, link: &OsStr) {
        if let Some(state) = self.revoked.lock().get_mut(link) {
            *state = Revoked::Closed;
        }
    }

    /// Waits until the other end of one that was taken away is closed: who is told of it sooner would not
    /// find it so. Errors: `LATER` where one may not wait.
    pub(crate) fn await_closed(&self, link: &[u8]) -> Result<(), Errno> {
        let leaves = || self.revoked.lock().get(OsStr::from_bytes(link)) == Some(&Revoked::Leaving);
        let begun = Instant::now();
        while leaves() && begun.elapsed() < CLOSING {
            patience::may_wait()?;
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Whether this one was.
    pub(crate) fn is_revoked(&self, link: &[u8]) -> bool {
        self.revoked.lock().contains_key(OsStr::from_bytes(link))
    }

    /// Nobody reads or writes the object any more.
    pub(crate) fn unused(&self, number: u64) {
        let mut table = self.table.lock();
        let known = match table.by_number.get(&number) {
            Some(known) if known.hold == Hold::File => table.by_number.remove(&number),
            _ => None,
        };
        drop(table);
        drop(known);
    }

    /// The inode is gone: so is its object.
    pub(super) fn discard(&self, number: u64) {
        let path = self.place(number);
        let _ = fs::remove_dir(&path);
        self.empty(&path);
    }

    /// The inode by the number of its object in use.
    pub(crate) fn by_number(&self, number: u64) -> Option<Arc<Inode>> {
        self.table.lock().by_number.get(&number).map(|known| Arc::clone(&known.inode))
    }

    fn find(&self, number: u64) -> Option<Held> {
        let table = self.table.lock();
        let known = table.by_number.get(&number);
        let held =
            known.map(|known| Held { inode: Arc::clone(&known.inode), direct: None, native: None });
        held.or_else(|| {
            let Direct { inode, handle, .. } = table.direct.get(&number)?;
            Some(Held { inode: Arc::clone(inode), direct: Some(*handle), native: None })
        })
    }

    /// The inode that a path of the kernel stands for; None when the path is not one of ours.
    /// Errors: `ENOENT` for an object that is forgotten.
    pub(crate) fn stands_for(&self, link: &[u8]) -> Option<Result<Held, Errno>> {
        if !self.are_used() {
            return None;
        }
        let rest = below(link, self.root.as_os_str().as_bytes())?;
        let first = components(rest).next()?;
        let first = first.split(|byte| *byte == b' ').next().unwrap_or_default();
        let number = std::str::from_utf8(first).ok().and_then(|text| text.parse().ok());
        Some(number.and_then(|number| self.find(number)).ok_or(Errno::ENOENT))
    }

    /// Objects of one mount that are in use, for its end.
    pub(crate) fn of_mount(&self, files: &Arc<super::MountedFiles>) -> Vec<(u64, Arc<Inode>)> {
        let table = self.table.lock();
        let of = |inode: &Arc<Inode>| Arc::ptr_eq(&inode.files, files);
        let known = table.by_number.iter().map(|(number, known)| (*number, &known.inode));
        let direct = table.direct.iter().map(|(number, direct)| (*number, &direct.inode));
        let ours = known.chain(direct).filter(|(_, inode)| of(inode));
        ours.map(|(number, inode)| (number, Arc::clone(inode))).collect()
    }

    /// The regular files in use.
    pub(crate) fn files(&self) -> Vec<(u64, Arc<Inode>)> {
        let table = self.table.lock();
        let files = table.by_number.iter().filter(|(_, known)| known.hold != Hold::Directory);
        files.map(|(number, known)| (*number, Arc::clone(&known.inode))).collect()
    }

    /// The objects whose data is direct.
    pub(super) fn directs(&self) -> Vec<u64> {
        self.table.lock().direct.keys().copied().collect()
    }

    /// How many there are.
    pub(super) fn directs_count(&self) -> u64 {
        self.table.lock().direct.len() as u64
    }

    /// A file of the host, which looks as told, is this inode's: its mount guards it, or it looks as its
    /// inode says. It was opened with a handle.
    pub(crate) fn dress(&self, looks: &Attributes, inode: &Arc<Inode>, handle: Handle) {
        let guarded = Some(handle);
        self.hand_over(looks, Dressed { inode: Arc::clone(inode), guarded });
        self.dressed.store(true, Ordering::Release);
    }

    /// A file of the host, which looks as told, is known to guests by the path of this inode.
    pub(crate) fn name(&self, looks: &Attributes, inode: &Arc<Inode>) {
        self.hand_over(looks, Dressed { inode: Arc::clone(inode), guarded: None });
        self.named.store(true, Ordering::Release);
    }

    fn hand_over(&self, looks: &Attributes, dressed: Dressed) {
        let identity = identity(looks);
        let mut table = self.table.lock();
        let before = table.dressed.insert(identity, dressed);
        if before.is_none() {
            table.dressing.push_back(identity);
        }
        let oldest = (table.dressing.len() > DRESSED_LIMIT).then(|| table.dressing.pop_front());
        let gone = oldest.flatten().and_then(|oldest| table.dressed.remove(&oldest));
        drop(table);
        drop((before, gone));
    }

    /// The inode of a file of the host, and the handle it was opened with, when its mount answers
    /// calls about descriptors of it.
    pub(crate) fn dressed(&self, looks: &Attributes) -> Option<(Arc<Inode>, Handle)> {
        let table = self.table.lock();
        let dressed = table.dressed.get(&identity(looks))?;
        Some((Arc::clone(&dressed.inode), dressed.guarded?))
    }

    /// The inode by whose path a file of the host was opened.
    pub(crate) fn named(&self, looks: &Attributes) -> Option<Arc<Inode>> {
        let table = self.table.lock();
        table.dressed.get(&identity(looks)).map(|dressed| Arc::clone(&dressed.inode))
    }

    /// A guest executes a file of the host, of which the kernel knows one path and the guest another.
    pub(crate) fn executed_as(&self, host: &[u8], shown: &[u8]) {
        if host == shown {
            return;
        }
        let mut table = self.table.lock();
        if table.names.len() >= NAMES_LIMIT {
            table.names.clear();
        }
        table.names.insert(host.to_vec(), shown.to_vec());
        self.dressed.store(true, Ordering::Release);
    }

    /// A guest binds a socket by a path of the view, for which the kernel has another.
    pub(crate) fn binds(&self, host: &[u8], given: &[u8]) {
        let mut table = self.table.lock();
        if table.bound.insert(host.to_vec(), given.to_vec()).is_none() {
            table.binding.push_back(host.to_vec());
        }
        if table.binding.len() > BOUND_LIMIT
            && let Some(oldest) = table.binding.pop_front()
        {
            table.bound.remove(&oldest);
        }
        self.any_bound.store(true, Ordering::Release);
    }

    /// Whether a guest has ever done so.
    pub(crate) fn any_bound(&self) -> bool {
        self.any_bound.load(Ordering::Acquire)
    }

    /// What the guest has called a socket that the kernel has at a path.
    pub(crate) fn bound_as(&self, host: &[u8]) -> Option<Vec<u8>> {
        self.table.lock().bound.get(host).cloned()
    }

    /// The path by which a guest has executed a file of the host; both have ` (deleted)` behind them when
    /// the file was removed.
    pub(crate) fn name_of_program(&self, host: &[u8]) -> Option<Vec<u8>> {
        const DELETED: &[u8] = b" (deleted)";
        let table = self.table.lock();
        let removed = || {
            let name = table.names.get(host.strip_suffix(DELETED)?)?;
            Some([name, DELETED].concat())
        };
        table.names.get(host).cloned().or_else(removed)
    }

    /// As [`Objects::dressed`], of a file that cannot be looked at, by its `st_dev` and `st_ino`.
    pub(crate) fn dressed_by_numbers(&self, numbers: (u64, u64)) -> Option<Arc<Inode>> {
        let table = self.table.lock();
        let is_it = |(identity, dressed): &(&Identity, &Dressed)| {
            dressed.guarded.is_some() && (identity.0, identity.1) == numbers
        };
        table.dressed.iter().find(is_it).map(|(_, dressed)| Arc::clone(&dressed.inode))
    }

    /// Whether any file of the host is dressed.
    pub(crate) fn any_dressed(&self) -> bool {
        self.dressed.load(Ordering::Acquire)
    }

    /// Whether any file of the host was handed over by a mount.
    pub(crate) fn any_named(&self) -> bool {
        self.named.load(Ordering::Acquire) || self.any_dressed()
    }

    /// Undresses the files of a mount.
    pub(crate) fn undress(&self, files: &Arc<super::MountedFiles>) {
        let mut table = self.table.lock();
        let mut gone = Vec::new();
        table.dressed.retain(|_, dressed| {
            let stays = !Arc::ptr_eq(&dressed.inode.files, files);
            if !stays {
                gone.push(Arc::clone(&dressed.inode));
            }
            stays
        });
        let Table { dressed, dressing, .. } = &mut *table;
        dressing.retain(|identity| dressed.contains_key(identity));
        drop(table);
        drop(gone);
    }
}

impl Objects {
    /// Writes back what guests have changed in the files of a mount.
    pub(crate) fn write_back(&self, files: &super::MountedFiles) {
        for (_, inode) in self.files() {
            if std::ptr::eq(&raw const *inode.files, files) {
                super::worker::write_back(&inode);
            }
        }
    }

    /// Writes back all that does not wait for guests: there are none any more.
    pub(crate) fn write_back_all(&self) {
        for (_, inode) in self.files() {
            if !inode.files.traits.may_wait {
                super::worker::write_back(&inode);
            }
        }
    }

    /// A mount is taken away. Lazily: what is open stays until it is closed.
    pub(crate) fn forget(&self, files: &Arc<super::MountedFiles>, lazily: bool) {
        self.undress(files);
        self.unwatch(files);
        if lazily {
            return;
        }
        let mut table = self.table.lock();
        let numbers: Vec<u64> = table
            .by_number
            .iter()
            .filter(|(_, known)| Arc::ptr_eq(&known.inode.files, files))
            .map(|(number, _)| *number)
            .collect();
        table.executed.clear();
        let gone: Vec<_> =
            numbers.iter().filter_map(|number| table.by_number.remove(number)).collect();
        drop(table);
        drop(gone);
    }
}
