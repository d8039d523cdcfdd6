//! The data of open files, kept in files of our own that the kernel serves to the guests.
//!
//! The first open fills the file; guests then read, write, lock and map it at native speed, and all
//! who open the inode see the same content. Nothing traps: when a guest has closed a file that it
//! could write (inotify, see [`super::worker`]), at fsync(2), at umount(2) and every few seconds
//! what has changed is written back. What has changed is known block by block from checksums, so
//! that a word appended to a large file does not write all of it. Stores into a shared mapping do not
//! touch a time stamp on tmpfs: who could map for writing has all blocks compared.

mod copying;

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use nix::{
    fcntl::OFlag,
    sys::resource::{Resource, getrlimit},
    unistd::Whence,
};
use umvu_abi::{
    Errno,
    files::{Attributes, Caller, Changes, Handle, Node, Opened, SetTime, Time},
};

use self::copying::{copy, set_mtime, write_all};
use super::{
    Inode, MountedFiles, Objects, accessed, attributes,
    blocks::{self, BLOCK, checksum, each_block},
    change, fcntl,
};

/// A time stamp younger than this may stay the same over a change to come.
const TICK: i128 = 20_000_000;
/// The largest file that is kept as a whole; the data of others is moved call by call.
pub(crate) const WHOLE_LIMIT: u64 = 512 << 20;
/// How many bytes of files that nobody has open are kept in all.
const KEPT_LIMIT: u64 = 512 << 20;

/// What a change changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    mtime: Time,
    size: u64,
}

/// What is kept of one inode's data.
#[derive(Debug, Default)]
pub(crate) struct Content {
    /// Our descriptor; None while nothing is kept.
    file: Option<File>,
    path: PathBuf,
    /// Our descriptor is one by our own name for the object.
    is_aside: bool,
    /// The one before, whose closing would be told as if a guest closed it.
    former: Option<File>,
    /// Open handles of the file system, and whether one may write by them.
    handles: Vec<(Handle, bool)>,
    /// What the file was like when it was the same as in the file system.
    synced: Option<Stamp>,
    /// Bytes that it took then.
    synced_bytes: u64,
    /// The time stamp may not tell the next change.
    suspect: bool,
    /// Some guest could write since.
    written: bool,
    /// Some guest could map for writing since.
    mapped: bool,
    /// The set-id bits go with the first change.
    clears: bool,
    /// Checksums of the blocks in the file system; None when they are not known.
    blocks: Option<Vec<u64>>,
    /// How much it counts among the bytes that are kept.
    counted: u64,
    /// It counts among the contents that are kept.
    is_counted: bool,
}

impl Content {
    /// Opens for a guest; `flags` are its own. Errors: those of the file system and of the private
    /// directory's (`ENOSPC`).
    pub(crate) fn serve(
        &mut self,
        inode: &Arc<Inode>,
        caller: &Caller,
        opened: &Opened,
        keep: bool,
        flags: OFlag,
    ) -> Result<OwnedFd, Errno> {
        self.withdraw(&inode.files.objects);
        let access = flags & OFlag::O_ACCMODE;
        let writes = access != OFlag::O_RDONLY;
        let known = self.handles.iter().any(|(_, writable)| *writable || !writes);
        if !known {
            self.handles.push((opened.handle, writes));
        }
        let reads = access != OFlag::O_WRONLY;
        let ready = self.prepare(inode, reads.then_some(opened.handle), keep);
        if known {
            inode.files.fs.release(inode.node, opened.handle);
        }
        ready?;
        if writes {
            self.blocks = self
                .blocks
                .take()
                .or_else(|| self.file.as_ref().and_then(|file| blocks::of(file).ok()));
            self.written = true;
            self.mapped |= access == OFlag::O_RDWR;
            self.clears |= !caller.is_privileged();
        }
        let kept = OFlag::O_ACCMODE
            | OFlag::O_APPEND
            | OFlag::O_NONBLOCK
            | OFlag::O_SYNC
            | OFlag::O_DSYNC
            | OFlag::O_NOATIME
            | OFlag::O_NOFOLLOW;
        let fd = nix::fcntl::open(
            &self.path,
            flags & kept | OFlag::O_CLOEXEC,
            nix::sys::stat::Mode::empty(),
        );
        fd.map_err(|errno| io::Error::from(errno).into())
    }

    /// Guests have begun to watch: what we read is not for them to hear of.
    fn withdraw(&mut self, objects: &Objects) {
        if self.file.is_some() && !self.is_aside && objects.shadows.any() {
            self.is_aside = true;
            if let Ok(file) = accessed::open(&objects.aside(&self.path)) {
                self.former = self.file.replace(file);
            }
        }
    }

    /// Has the content, as new as the file system wants it. `handle` is one that can read.
    fn prepare(
        &mut self,
        inode: &Arc<Inode>,
        handle: Option<Handle>,
        keep: bool,
    ) -> Result<(), Errno> {
        self.path = inode.files.objects.obtain(inode, |_| Ok(()))?;
        let keep = keep && !inode.refresh();
        if self.file.is_none() || !keep && !self.written {
            self.fill(inode, handle)?;
        }
        Ok(())
    }

    /// Copies the content from the file system.
    fn fill(&mut self, inode: &Arc<Inode>, handle: Option<Handle>) -> Result<(), Errno> {
        let fs = inode.files.ask()?;
        let own = match handle {
            Some(_) => None,
            None => Some(fs.open(&Caller::root(), inode.node, libc::O_RDONLY)?.handle),
        };
        let from = handle.or(own).unwrap_or(Handle(0));
        let result = self.copy_in(inode, from);
        if let Some(own) = own {
            fs.release(inode.node, own);
        }
        result
    }

    /// Others may have the file open or mapped: what they see changes where it has changed, and is
    /// never empty meanwhile. A new file is filled elsewhere, so that nobody is told that we close it.
    fn copy_in(&mut self, inode: &Arc<Inode>, handle: Handle) -> Result<(), Errno> {
        let objects = &inode.files.objects;
        let path = objects.aside(&self.path);
        match OpenOptions::new().write(true).open(&path) {
            Ok(into) => {
                copy(inode, handle, &into, None)?;
                self.file = Some(accessed::open(&path)?);
                self.is_aside = path != self.path;
            }
            // It is being executed: as it was when that began.
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (staged, into) = objects.stage(&self.path)?;
                let filled = copy(inode, handle, &into, Some(0)).and_then(|()| {
                    self.file = Some(accessed::open(&staged)?);
                    self.is_aside = objects.shadows.any();
                    Ok(())
                });
                drop(into);
                let placed = filled.and_then(|()| objects.publish(&staged, &self.path));
                if placed.is_err() {
                    self.file = None;
                    let _ = fs::remove_file(&staged);
                }
                // Somebody has wanted a handle of it meanwhile.
                if placed == Err(Errno::EEXIST) {
                    return self.copy_in(inode, handle);
                }
                placed?;
            }
            Err(error) => return Err(error.into()),
        }
        self.blocks = None;
        self.note_synced()?;
        self.count(&inode.files);
        self.is_unread();
        Ok(())
    }

    /// Nobody has read it yet that has not been noted.
    pub(super) fn is_unread(&self) {
        self.file.iter().for_each(accessed::forget);
    }

    /// Tells the file system when guests have read the file, if the time of access follows. Errors: those of the
    /// file system.
    pub(crate) fn note_reads(&self, inode: &Inode) -> Result<(), Errno> {
        let file = self.file.as_ref().filter(|_| accessed::matter(&inode.files));
        let Some((file, read)) = file.and_then(|file| Some((file, accessed::since(file)?))) else {
            return Ok(());
        };
        let fs = inode.files.ask()?;
        let mut then = fs.getattr(&Caller::root(), inode.node, None)?;
        // What was written before the read, and is not told yet.
        if let Some(now) = self.stamp()?
            && self.written
            && now.mtime <= read
        {
            (then.mtime, then.ctime) = (then.mtime.max(now.mtime), then.ctime.max(now.mtime));
        }
        accessed::forget(file);
        if accessed::is_due(inode.files.flags(), &then, read) {
            fs.accessed(inode.node, read)?;
        }
        Ok(())
    }

    fn count(&mut self, files: &MountedFiles) {
        let size = match (&self.file, self.synced) {
            (Some(_), Some(synced)) if !self.written => synced.size,
            (file, _) => {
                let found = file.as_ref().and_then(|file| file.metadata().ok());
                found.map_or(0, |found| found.len())
            }
        };
        files.objects.kept_bytes(self.counted, size);
        self.counted = size;
        if self.is_counted != self.file.is_some() {
            self.is_counted = !self.is_counted;
            let by = if self.is_counted { 1 } else { u64::MAX };
            files.objects.kept.fetch_add(by, Ordering::Relaxed);
        }
    }

    fn stamp(&self) -> io::Result<Option<Stamp>> {
        let Some(file) = &self.file else { return Ok(None) };
        let found = file.metadata()?;
        Ok(Some(Stamp { mtime: attributes::mtime(&found), size: found.len() }))
    }

    /// Bytes that it takes.
    fn taken(&self) -> u64 {
        let found = self.file.as_ref().and_then(|file| file.metadata().ok());
        found.map_or(0, |found| found.blocks() * 512)
    }

    /// Bytes that it takes more than in the file system.
    pub(super) fn pending(&self) -> u64 {
        if self.written { self.taken().saturating_sub(self.synced_bytes) } else { 0 }
    }

    /// How many bytes from `at` on, of `wanted`, can be written when `left` more may be taken.
    pub(crate) fn fitting(&self, at: u64, wanted: u64, mut left: u64) -> u64 {
        let Some(file) = &self.file else { return wanted };
        let end = at.saturating_add(wanted);
        let seek = |at: u64, whence| {
            let found = nix::unistd::lseek(file, i64::try_from(at).unwrap_or(i64::MAX), whence);
            found.ok().and_then(|found| u64::try_from(found).ok()).unwrap_or(end).min(end)
        };
        let mut here = at;
        while here < end {
            let data = seek(here, Whence::SeekData);
            let taken = (data - here).min(left);
            left -= taken;
            here += taken;
            if here < data {
                break;
            }
            here = if data < end { seek(data, Whence::SeekHole) } else { end };
        }
        here - at
    }

    fn note_synced(&mut self) -> io::Result<()> {
        self.synced = self.stamp()?;
        self.synced_bytes = self.taken();
        let age = |time: Time| {
            let nanos =
                |time: Time| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
            nanos(Time::now()) - nanos(time)
        };
        self.suspect = self.synced.is_some_and(|stamp| age(stamp.mtime) < TICK);
        Ok(())
    }

    /// Corrects what the file system tells about the file by what guests have done to it since.
    pub(super) fn correct(&self, looks: &mut Attributes) {
        if !self.written {
            return;
        }
        let Some(Ok(found)) = self.file.as_ref().map(File::metadata) else { return };
        let now = Stamp { mtime: attributes::mtime(&found), size: found.len() };
        if Some(now) == self.synced {
            return;
        }
        let host = attributes::of_host(&found);
        (looks.size, looks.blocks, looks.mtime) = (host.size, host.blocks, host.mtime);
        looks.ctime = looks.ctime.max(host.mtime);
        if self.clears
            && let Some(mode) = change::without_set_ids(looks)
        {
            looks.mode = looks.mode & libc::S_IFMT | mode;
        }
    }

    /// The modification time has been set by its name.
    pub(super) fn set_mtime(&mut self, mtime: Time) {
        let Some(file) = &self.file else { return };
        let clean = self.stamp().ok().flatten() == self.synced;
        set_mtime(file, mtime);
        if clean {
            let _ = self.note_synced();
            self.suspect = self.written;
        }
    }

    /// The size has been set by its name.
    pub(super) fn resize(&mut self, objects: &Objects, size: u64) -> Result<(), Errno> {
        if self.file.is_none() {
            return Ok(());
        }
        OpenOptions::new().write(true).open(objects.aside(&self.path))?.set_len(size)?;
        if let (Some(blocks), Some(file)) = (&mut self.blocks, &self.file) {
            blocks::resize(blocks, file, size)?;
        }
        Ok(self.note_synced()?)
    }

    /// Writes back what guests have changed. Errors: those of the file system.
    pub(crate) fn write_back(&mut self, inode: &Inode) -> Result<(), Errno> {
        self.withdraw(&inode.files.objects);
        let Some(now) = self.stamp()? else { return Ok(()) };
        let changed = Some(now) != self.synced || self.suspect || self.mapped;
        if !self.written || !changed {
            return Ok(());
        }
        let fs = inode.files.ask()?;
        let known = self.handles.last().map(|(handle, _)| *handle);
        let looks = match fs.getattr(&Caller::root(), inode.node, known) {
            // Nobody can want it.
            Err(Errno::ENOENT) if inode.is_removed() => return Ok(()),
            looks => looks?,
        };
        // Some programs of FUSE tell no number of links of any file.
        if looks.nlink == 0 && inode.is_removed() {
            return Ok(());
        }
        let handle = self.handles.iter().find(|(_, writable)| *writable).map(|(handle, _)| *handle);
        let own = match handle {
            Some(_) => None,
            None => Some(fs.open(&Caller::root(), inode.node, libc::O_WRONLY)?.handle),
        };
        let to = handle.or(own).unwrap_or(Handle(0));
        let pending = self.pending();
        let result = self.copy_out(inode, to, now, &looks);
        if result.is_ok() {
            inode.files.room_taken(pending.saturating_sub(self.pending()));
        }
        let flushed = fs.flush(inode.node, to);
        if let Some(own) = own {
            fs.release(inode.node, own);
        }
        result.and(flushed)
    }

    fn copy_out(
        &mut self,
        inode: &Inode,
        handle: Handle,
        now: Stamp,
        looks: &Attributes,
    ) -> Result<(), Errno> {
        let fs = inode.files.ask()?;
        let root = Caller::root();
        let set = |changes: Changes| fs.setattr(&root, inode.node, Some(handle), &changes);
        let Some(file) = &self.file else { return Ok(()) };
        let touched = Some(now) != self.synced;
        let taken = self.taken();
        if looks.size > now.size {
            set(Changes { size: Some(now.size), ..Changes::default() })?;
        }
        let count = usize::try_from(now.size).unwrap_or(0).div_ceil(BLOCK);
        let old = self.blocks.take();
        let mut blocks = vec![0; count];
        let mut end = looks.size.min(now.size);
        let mut any = false;
        each_block(file, now.size, |index, block| {
            blocks[index] = checksum(block);
            let before = old.as_ref().and_then(|old| old.get(index));
            if before == Some(&blocks[index]) {
                return Ok(());
            }
            // Who reads a hole by a shared mapping has zeros put there, and has not written them.
            let was_hole = old.is_some() && before.is_none_or(|before| *before == 0);
            if self.mapped && was_hole && block.iter().all(|byte| *byte == 0) {
                blocks[index] = 0;
                return Ok(());
            }
            any = true;
            let at = index as u64 * BLOCK as u64;
            // Where the file ended zeros may be of its new size only: they take no room.
            let ended = usize::try_from(looks.size.saturating_sub(at)).unwrap_or(BLOCK);
            let length = match ended {
                0 => block.len(),
                ended => {
                    let data = block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                    data.max(ended).min(block.len())
                }
            };
            let block = &block[..length];
            write_all(inode, handle, at, block)?;
            end = end.max(at + block.len() as u64);
            Ok(())
        })?;
        // Holes that guests have made where there was data.
        for (index, before) in old.iter().flatten().enumerate().take(count) {
            if *before != 0 && blocks[index] == 0 {
                let at = index as u64 * BLOCK as u64;
                let length = (now.size - at).min(BLOCK as u64);
                let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                if fs.fallocate(inode.node, handle, punch, at, length).is_err() {
                    let zeros = vec![0; usize::try_from(length).unwrap_or(0)];
                    write_all(inode, handle, at, &zeros)?;
                }
                any = true;
            }
        }
        let mut changes = Changes::default();
        if end < now.size {
            changes.size = Some(now.size);
        }
        if touched || any {
            // The kernel does not tell when a mapping was written to.
            let is_told = touched || !self.mapped;
            let mtime = if is_told { SetTime::To(now.mtime) } else { SetTime::Now };
            changes.mtime = Some(mtime);
            // Programs of libfuse 2 set both times or none.
            let keeps = inode.files.traits.keeps_access_times;
            changes.atime = (!keeps).then_some(SetTime::To(looks.atime));
            changes.ctime = touched.then_some(looks.ctime.max(now.mtime));
            changes.mode = change::without_set_ids(looks).filter(|_| self.clears);
            set(changes)?;
        }
        self.blocks = Some(blocks);
        self.mapped = self.mapped && !self.is_idle();
        self.synced = Some(now);
        self.note_synced()?;
        self.synced_bytes = taken;
        // A change since the copy began is another change.
        if self.synced != Some(now) {
            self.synced = Some(now);
            self.suspect = true;
        }
        Ok(())
    }

    /// Whether no guest has the file open or mapped: then a lease can be had.
    pub(super) fn is_idle(&self) -> bool {
        let Some(file) = &self.file else { return true };
        fcntl::lease(file)
    }

    /// Nobody has the file open: the handles go, the content stays while there is room.
    pub(super) fn rest(&mut self, inode: &Inode) {
        self.release_all(&inode.files, inode.node);
        self.former = None;
        self.count(&inode.files);
        (self.written, self.mapped, self.clears) = (false, false, false);
        if inode.files.objects.are_many() || self.counted > WHOLE_LIMIT {
            self.discard(&inode.files);
        }
    }

    fn discard(&mut self, files: &MountedFiles) {
        if self.file.take().is_some() {
            files.objects.empty(&self.path);
        }
        self.count(files);
        (self.blocks, self.synced) = (None, None);
    }

    /// The inode goes.
    pub(super) fn end(&mut self, files: &MountedFiles, node: Node) {
        self.release_all(files, node);
        self.discard(files);
    }

    pub(super) fn release_all(&mut self, files: &MountedFiles, node: Node) {
        for (handle, _) in self.handles.drain(..) {
            files.fs.release(node, handle);
        }
    }

    /// A handle of the file system, for fsync(2) and ioctl(2).
    pub(crate) fn handle(&self) -> Option<Handle> {
        self.handles.last().map(|(handle, _)| *handle)
    }

    /// Whether the content is kept.
    pub(crate) fn is_kept(&self) -> bool {
        self.file.is_some()
    }

    /// Whether guests could have changed the file.
    pub(super) fn is_written(&self) -> bool {
        self.written
    }
}

impl Objects {
    /// Counts the bytes that are kept.
    pub(super) fn kept_bytes(&self, before: u64, after: u64) {
        self.bytes.fetch_add(after, Ordering::Relaxed);
        self.bytes.fetch_sub(before, Ordering::Relaxed);
    }

    /// How many descriptors of ours guests' files take.
    pub(super) fn descriptors(&self) -> u64 {
        self.kept.load(Ordering::Relaxed) + self.directs_count()
    }

    /// Whether so much is kept that what nobody has open goes.
    fn are_many(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > KEPT_LIMIT || self.descriptors() > descriptors_limit()
    }
}

/// How many descriptors files of guests may take: half of those that we may have are for other
/// things.
pub(super) fn descriptors_limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024)).0 / 2
}
