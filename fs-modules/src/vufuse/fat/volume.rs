//! A volume with what it is asked for by nodes: FAT or exFAT.

use std::{collections::HashMap, sync::Arc};

use hadris_fat::{CacheOptions, exfat::sync::ExFatFs, sync::FatFs};
use hadris_fs::{
    Attributes as Bits, DateTime, DirCursor, Error, ErrorKind, MountOptions, Name, NodeId,
    RenameMode, SetAttr, SystemClock, sync::FileSystem,
};
use umvu_abi::{
    Errno,
    files::{Attributes, Backing, Changes, DirEntry, Entry, Node, SetTime, StatFs, Time},
};

use super::{
    device::{Device, Failed},
    looks::{Looks, date, id, number},
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// `MSDOS_SUPER_MAGIC` and `EXFAT_SUPER_MAGIC`.
const MAGIC: [i64; 2] = [0x4d44, 0x2011_bab0];
/// What files without a name are called until nobody has them open; they are in the root.
const NAMELESS: &str = ".umvu-unlinked-";
/// How many blocks of structures, and how many places in files, the library keeps.
const KEPT: [usize; 2] = [256, 1024];

/// The library's file system, of either kind.
type Library = Box<dyn FileSystem<DeviceError = Failed> + Send>;

/// Where a name is, or shall be.
pub(super) type Spot<'a> = (Node, &'a [u8]);

/// A volume that is mounted.
pub(super) struct Volume {
    library: Library,
    root: NodeId,
    looks: Looks,
    image: Arc<dyn Backing>,
    flushes: Arc<AtomicBool>,
    magic: i64,
    pub(super) writes: bool,
    /// How often nodes are referenced.
    references: HashMap<NodeId, u64>,
    /// Files that have lost their name though they are referenced, with what they are called now.
    nameless: HashMap<NodeId, Vec<u8>>,
    last: u64,
    /// It was not unmounted as it should have been.
    pub(super) was_dirty: bool,
}

impl std::fmt::Debug for Volume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Volume").field("root", &self.root).finish_non_exhaustive()
    }
}

/// The number of an error of the library.
pub(super) fn errno(error: &Error<Failed>) -> Errno {
    match (error.device_error(), error.kind()) {
        (Some(failed), _) => failed.0,
        (None, ErrorKind::NotFound | ErrorKind::InvalidHandle) => Errno::ENOENT,
        (None, ErrorKind::AlreadyExists) => Errno::EEXIST,
        (None, ErrorKind::NotADirectory) => Errno::ENOTDIR,
        (None, ErrorKind::IsADirectory) => Errno::EISDIR,
        (None, ErrorKind::DirectoryNotEmpty) => Errno::ENOTEMPTY,
        (None, ErrorKind::NoSpace) => Errno::ENOSPC,
        (None, ErrorKind::ReadOnly) => Errno::EROFS,
        (None, ErrorKind::InvalidInput | ErrorKind::NotRecognized) => Errno::EINVAL,
        (None, ErrorKind::NameTooLong) => Errno::ENAMETOOLONG,
        (None, ErrorKind::FileTooLarge) => Errno::EFBIG,
        (None, ErrorKind::Busy) => Errno::EBUSY,
        (None, ErrorKind::Corrupt) => Errno::EUCLEAN,
        (None, ErrorKind::Unsupported) => Errno::EPERM,
        (None, _) => Errno::EIO,
    }
}

/// The result of the library.
fn done<T>(result: Result<T, Error<Failed>>) -> Result<T, Errno> {
    result.map_err(|error| errno(&error))
}

/// A name as Linux reads it: full stops at the end do not count.
fn trimmed(name: &[u8]) -> &Name {
    let end = name.iter().rposition(|byte| *byte != b'.').map_or(name.len(), |at| at + 1);
    Name::from_bytes(&name[..end])
}

impl Volume {
    /// Opens what is on an image; times in it are local ones, so many minutes east. Errors: as the library
    /// says.
    pub(super) fn open(device: Device, looks: Looks, minutes: i16) -> Result<Self, Error<Failed>> {
        let (image, writes) = (Arc::clone(&device.image), device.writes);
        let flushes = Arc::clone(&device.flushes);
        let mut head = [0; 11];
        let read = image.read_at(0, &mut head);
        read.map_err(|errno| Error::device(Failed(errno), "reading the image"))?;
        let options = MountOptions::new().with_clock(&SystemClock);
        let options = if minutes == 0 { options } else { options.with_utc_offset(minutes)? };
        let options = if writes { options } else { options.read_only() };
        let is_exfat = head.ends_with(b"EXFAT   ");
        let (was_dirty, library): (_, Library) = if is_exfat {
            let volume = ExFatFs::mount(device, options).map_err(|error| error.into_error())?;
            (volume.was_dirty(), Box::new(volume))
        } else {
            let volume = FatFs::mount(device, options).map_err(|error| error.into_error())?;
            let [blocks, places] = KEPT;
            let kept = CacheOptions::new().with_blocks(blocks).with_chain_positions(places);
            (volume.was_dirty(), Box::new(volume.with_cache(kept)))
        };
        let (root, magic) = (library.root(), MAGIC[usize::from(is_exfat)]);
        let (references, nameless) = (HashMap::new(), HashMap::new());
        let mut volume = Self {
            library,
            root,
            looks,
            image,
            flushes,
            magic,
            writes,
            references,
            nameless,
            last: 0,
            was_dirty,
        };
        volume.library.statfs()?;
        volume.reap()?;
        Ok(volume)
    }

    /// Deletes what a session that has ended too early has left without a name.
    fn reap(&mut self) -> Result<(), Error<Failed>> {
        if !self.writes {
            return Ok(());
        }
        let mut left = Vec::new();
        let mut cursor = DirCursor::START;
        while let Some(entry) = self.library.readdir(self.root, cursor)? {
            cursor = entry.next_cursor();
            if entry.name().as_bytes().starts_with(NAMELESS.as_bytes()) {
                left.push(entry.name().as_bytes().to_vec());
            }
        }
        left.iter().try_for_each(|name| self.library.unlink(self.root, Name::from_bytes(name)))
    }

    fn id(&self, node: Node) -> Result<NodeId, Errno> {
        id(self.root, node.0)
    }

    fn is_hidden(&self, directory: NodeId, name: &[u8]) -> bool {
        directory == self.root && name.starts_with(NAMELESS.as_bytes())
    }

    /// Something that the library has pinned, with a reference more.
    fn entry(&mut self, found: NodeId) -> Result<Entry, Errno> {
        match self.look(found) {
            Ok(attributes) => {
                *self.references.entry(found).or_default() += 1;
                // Names differ in case only: what is kept for one would not follow the other.
                let node = Node(number(self.root, found));
                Ok(Entry { node, attributes, valid: Duration::ZERO })
            }
            Err(errno) => {
                self.library.forget(found, 1);
                Err(errno)
            }
        }
    }

    fn look(&mut self, id: NodeId) -> Result<Attributes, Errno> {
        let meta = done(self.library.stat(id))?;
        let mut attributes = self.looks.attributes(number(self.root, id), &meta);
        if self.nameless.contains_key(&id) {
            attributes.nlink = 0;
        }
        Ok(attributes)
    }

    /// stat(2). Errors: `ENOENT`, `EIO`.
    pub(super) fn attributes(&mut self, node: Node) -> Result<Attributes, Errno> {
        let id = self.id(node)?;
        self.look(id)
    }

    /// Finds a name. Errors: `ENOENT`, `EIO`.
    pub(super) fn lookup(&mut self, (parent, name): Spot<'_>) -> Result<Entry, Errno> {
        let directory = self.id(parent)?;
        if self.is_hidden(directory, name) {
            return Err(Errno::ENOENT);
        }
        let found = self.library.lookup(directory, trimmed(name));
        // What cannot be a name is none.
        let found = done(found).map_err(|errno| match errno {
            Errno::EINVAL | Errno::ENAMETOOLONG => Errno::ENOENT,
            errno => errno,
        })?;
        self.entry(found)
    }

    /// Makes a file or a directory, as writable as the mount says. Errors: `EINVAL` for a name that FAT does not have, `ENOSPC`.
    pub(super) fn make(
        &mut self,
        (parent, name): Spot<'_>,
        is_directory: bool,
    ) -> Result<Entry, Errno> {
        let directory = self.id(parent)?;
        if self.is_hidden(directory, name) {
            return Err(Errno::EINVAL);
        }
        let name = trimmed(name);
        let made = if is_directory {
            self.library.mkdir(directory, name, &SetAttr::new())
        } else {
            self.library.create(directory, name, &SetAttr::new())
        };
        self.entry(done(made)?)
    }

    /// Drops references; deletes what nobody can reach any more.
    pub(super) fn forget(&mut self, node: Node, count: u64) -> Result<(), Errno> {
        let id = self.id(node)?;
        let Some(references) = self.references.get_mut(&id).filter(|_| id != self.root) else {
            return Ok(());
        };
        let count = count.min(*references);
        *references -= count;
        let is_last = *references == 0;
        if is_last {
            self.references.remove(&id);
        }
        self.library.forget(id, count);
        match self.nameless.remove(&id) {
            Some(name) if is_last => done(self.library.unlink(self.root, Name::from_bytes(&name))),
            Some(name) => {
                self.nameless.insert(id, name);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes a name away. A file that is referenced stays, under a name that is not shown.
    pub(super) fn unlink(&mut self, (parent, name): Spot<'_>) -> Result<(), Errno> {
        let directory = self.id(parent)?;
        let name = trimmed(name);
        let found = done(self.library.lookup(directory, name))?;
        let is_directory = self.look(found).map(|file| file.is_directory());
        self.library.forget(found, 1);
        if is_directory? {
            return Err(Errno::EISDIR);
        }
        if !self.references.contains_key(&found) {
            return done(self.library.unlink(directory, name));
        }
        self.last += 1;
        let aside = format!("{NAMELESS}{}", self.last).into_bytes();
        let (root, to) = (self.root, Name::from_bytes(&aside));
        match self.library.rename(directory, name, root, to, RenameMode::NoReplace) {
            Ok(()) => {
                self.nameless.insert(found, aside);
                Ok(())
            }
            // There is no room for one more name: the content goes at once.
            Err(error) if error.kind() == ErrorKind::NoSpace => {
                done(self.library.unlink(directory, name))
            }
            Err(error) => Err(errno(&error)),
        }
    }

    /// rmdir(2). Errors: `ENOTEMPTY`, `ENOTDIR`.
    pub(super) fn rmdir(&mut self, (parent, name): Spot<'_>) -> Result<(), Errno> {
        let directory = self.id(parent)?;
        done(self.library.rmdir(directory, trimmed(name)))
    }

    /// Moves something; what is there makes room. Errors: `EEXIST` when it must not, `ENOTEMPTY`, `EISDIR`,
    /// `ENOTDIR`, `EINVAL`.
    pub(super) fn rename(
        &mut self,
        from: Spot<'_>,
        to: Spot<'_>,
        mode: RenameMode,
    ) -> Result<(), Errno> {
        let [here, there] = [self.id(from.0)?, self.id(to.0)?];
        if self.is_hidden(there, to.1) {
            return Err(Errno::EINVAL);
        }
        let moved = done(self.library.lookup(here, trimmed(from.1)))?;
        let kind = self.look(moved).map(|file| file.is_directory());
        let target = done(self.library.lookup(there, trimmed(to.1)));
        let replaced = match target {
            Ok(id) => self.look(id).map(|file| Some((id, file.is_directory()))),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        };
        self.library.forget(moved, 1);
        if let Ok(id) = target {
            self.library.forget(id, 1);
        }
        match (kind?, replaced?) {
            (_, Some((id, _))) if id == moved => {}
            (_, Some(_)) if mode == RenameMode::NoReplace => return Err(Errno::EEXIST),
            (true, Some((_, true))) => self.rmdir(to)?,
            (false, Some((_, false))) => self.unlink(to)?,
            (true, Some(_)) => return Err(Errno::ENOTDIR),
            (false, Some(_)) => return Err(Errno::EISDIR),
            (_, None) => {}
        }
        let (old, new) = (trimmed(from.1), trimmed(to.1));
        done(self.library.rename(here, old, there, new, RenameMode::Replace))
    }

    /// Changes what a file looks like. Errors: `EPERM` for what FAT cannot tell, `EFBIG`, `ENOSPC`.
    pub(super) fn change(&mut self, node: Node, changes: &Changes) -> Result<Attributes, Errno> {
        let id = self.id(node)?;
        let file = self.look(id)?;
        let is_other = |wanted: Option<u32>, own| wanted.is_some_and(|wanted| wanted != own);
        if is_other(changes.uid, file.uid) || is_other(changes.gid, file.gid) {
            return Err(Errno::EPERM);
        }
        let mut wanted = SetAttr::new();
        let is_read_only = match changes.mode {
            Some(mode) => self.looks.read_only(&file, mode)?,
            None => None,
        };
        if let Some(is_read_only) = is_read_only {
            let bits = done(self.library.stat(id))?.attributes();
            let bits = bits.without(Bits::READ_ONLY);
            let bits = if is_read_only { bits | Bits::READ_ONLY } else { bits };
            if !file.is_directory() {
                wanted = wanted.with_attributes(bits);
            }
        }
        if let Some(size) = changes.size {
            done(self.library.truncate(id, size))?;
        }
        if let Some(time) = changes.atime {
            wanted = wanted.with_accessed(date(time)?);
        }
        if let Some(time) = changes.mtime {
            wanted = wanted.with_modified(date(time)?);
        }
        // The root has no entry that could tell anything of it.
        if id != self.root && !wanted.is_empty() {
            done(self.library.setattr(id, &wanted))?;
        }
        self.look(id)
    }

    /// It was read: FAT keeps the day. Errors: `EIO`.
    pub(super) fn accessed(&mut self, node: Node, time: Time) -> Result<(), Errno> {
        let id = self.id(node)?;
        let wanted = date(SetTime::To(time))?;
        let day = |time: DateTime| time.unix_seconds().div_euclid(24 * 60 * 60);
        let before = done(self.library.stat(id))?.accessed();
        if id == self.root || before.is_some_and(|before| day(before) == day(wanted)) {
            return Ok(());
        }
        done(self.library.setattr(id, &SetAttr::new().with_accessed(wanted)))
    }

    /// pread(2). Errors: `EIO`.
    pub(super) fn read(&mut self, node: Node, at: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let id = self.id(node)?;
        let mut count = 0;
        while count < buffer.len() {
            match done(self.library.read(id, at + count as u64, &mut buffer[count..]))? {
                0 => break,
                more => count += more,
            }
        }
        Ok(count)
    }

    /// pwrite(2). Errors: `ENOSPC`, `EFBIG`.
    pub(super) fn write(&mut self, node: Node, at: u64, data: &[u8]) -> Result<usize, Errno> {
        let id = self.id(node)?;
        done(self.library.write(id, at, data))
    }

    /// Has the size and the time of a file written. Errors: `EIO`.
    pub(super) fn settle(&mut self, node: Node) -> Result<(), Errno> {
        let id = self.id(node)?;
        done(self.library.setattr(id, &SetAttr::new()))
    }

    /// Lists a directory. Errors: `ENOTDIR`, `EIO`.
    pub(super) fn list(&mut self, node: Node, each: &mut dyn FnMut(DirEntry)) -> Result<(), Errno> {
        let directory = self.id(node)?;
        let mut cursor = DirCursor::START;
        while let Some(entry) = done(self.library.readdir(directory, cursor))? {
            cursor = entry.next_cursor();
            let name = entry.name().as_bytes();
            if !self.is_hidden(directory, name) {
                let kind = if entry.file_type().is_dir() { libc::S_IFDIR } else { libc::S_IFREG };
                let ino = number(self.root, entry.node());
                each(DirEntry { name: name.to_vec(), ino, kind });
            }
        }
        Ok(())
    }

    /// statfs(2). Errors: `EIO`.
    pub(super) fn statfs(&mut self) -> Result<StatFs, Errno> {
        let stat = done(self.library.statfs())?;
        Ok(StatFs {
            kind: self.magic,
            block_size: stat.block_size(),
            blocks: stat.total_blocks(),
            free: stat.free_blocks(),
            available: stat.free_blocks(),
            name_length: 255,
            ..StatFs::default()
        })
    }

    /// Brings all that was changed to where it lasts, and says in the volume that it is whole. Errors: `EIO`.
    pub(super) fn sync(&mut self) -> Result<(), Errno> {
        if !self.writes {
            return Ok(());
        }
        self.flushes.store(true, Ordering::Relaxed);
        let synced = done(self.library.sync()).and_then(|()| self.image.flush());
        self.flushes.store(false, Ordering::Relaxed);
        synced
    }

    /// The end: what has no name goes, and all is brought to where it lasts. Errors: `EIO`.
    pub(super) fn finish(&mut self) -> Result<(), Errno> {
        for (id, name) in std::mem::take(&mut self.nameless) {
            let references = self.references.remove(&id).unwrap_or(0);
            self.library.forget(id, references);
            done(self.library.unlink(self.root, Name::from_bytes(&name)))?;
        }
        self.sync()
    }
}
