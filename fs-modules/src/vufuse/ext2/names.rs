//! Names: what makes them, takes them away and moves them.

use umvu_abi::{
    Errno,
    files::{Caller, Time},
};

use super::{
    data::{Refusal, Work},
    inode::{Raw, SHORT, Stamp},
    superblock::{VALID, feature, field},
    volume::{MOST_LINKS, Volume, kind_of},
};

/// A name in a directory.
pub(super) type Spot<'a> = (u32, &'a [u8]);

impl Volume {
    /// Finds a name. Errors: `ENOENT`, `ENOTDIR`, `EUCLEAN`.
    pub(super) fn lookup(&mut self, (directory, name): Spot<'_>) -> Result<u32, Errno> {
        Ok(self.names(directory)?.get(name).ok_or(Errno::ENOENT)?.0)
    }

    /// Who a new file belongs to, and its mode: a set-group-id directory gives its group on.
    fn inherit(
        &mut self,
        directory: u32,
        caller: &Caller,
        mode: u32,
    ) -> Result<(u32, [u32; 2]), Errno> {
        let parent = &self.get(directory)?.raw;
        if parent.mode() & libc::S_ISGID == 0 {
            return Ok((mode, [caller.uid, caller.gid]));
        }
        let bit = if mode & libc::S_IFMT == libc::S_IFDIR { libc::S_ISGID } else { 0 };
        Ok((mode | bit, [caller.uid, parent.owner()[1]]))
    }

    /// Gives a name to an inode. Errors: `EEXIST`, `ENOSPC`, `ENOENT` in a directory that is gone.
    fn name(&mut self, (directory, name): Spot<'_>, ino: u32) -> Result<(), Errno> {
        if self.get(directory)?.raw.links() == 0 {
            return Err(Errno::ENOENT);
        }
        let kind = kind_of(self.get(ino)?.raw.mode());
        // Another guest may have been faster.
        if self.names(directory)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let linked = self.fs.link(directory, name, ino, kind);
        // It may have got another block.
        self.reread(directory)?;
        linked?;
        self.names(directory)?.insert(name.to_vec(), (ino, kind));
        self.touched(directory)
    }

    fn unname(&mut self, (directory, name): Spot<'_>) -> Result<(), Errno> {
        self.fs.unlink(directory, name)?;
        self.reread(directory)?;
        self.names(directory)?.remove(name);
        self.touched(directory)
    }

    /// mknod(2), also of a regular file. Errors: `ENOSPC`.
    pub(super) fn mknod(
        &mut self,
        spot: Spot<'_>,
        caller: &Caller,
        mode: u32,
        rdev: u64,
    ) -> Result<u32, Errno> {
        let (mode, owner) = self.inherit(spot.0, caller, mode)?;
        let mut raw = self.fresh(mode, owner);
        if matches!(raw.kind(), libc::S_IFCHR | libc::S_IFBLK) {
            raw.set_device(rdev);
        }
        self.make_at(spot, raw)
    }

    fn make_at(&mut self, spot: Spot<'_>, raw: Raw) -> Result<u32, Errno> {
        let ino = self.make(spot.0, raw)?;
        self.name(spot, ino).map_err(|errno| self.undo(ino, errno))?;
        Ok(ino)
    }

    /// Takes back what was made and got no name.
    fn undo(&mut self, ino: u32, errno: Errno) -> Errno {
        self.delete(ino).err().unwrap_or(errno)
    }

    /// A file without a name. Errors: `ENOSPC`.
    pub(super) fn nameless_file(
        &mut self,
        directory: u32,
        caller: &Caller,
        mode: u32,
    ) -> Result<u32, Errno> {
        let (mode, owner) = self.inherit(directory, caller, libc::S_IFREG | mode & 0o7777)?;
        let mut raw = self.fresh(mode, owner);
        raw.set_links(0);
        let ino = self.make(directory, raw)?;
        self.join_orphans(ino)?;
        Ok(ino)
    }

    /// mkdir(2). Errors: `ENOSPC`, `EMLINK`.
    pub(super) fn mkdir(
        &mut self,
        spot: Spot<'_>,
        caller: &Caller,
        mode: u32,
    ) -> Result<u32, Errno> {
        if self.get(spot.0)?.raw.links() == 0 {
            return Err(Errno::ENOENT);
        }
        let (mode, owner) = self.inherit(spot.0, caller, libc::S_IFDIR | mode & 0o7777)?;
        let looks = self.fresh(mode, owner);
        let ino = self.make_directory(spot.0, &looks)?;
        if let Err(errno) = self.name(spot, ino) {
            self.drop_link_of_child(spot.0)?;
            return Err(self.undo(ino, errno));
        }
        Ok(ino)
    }

    /// symlink(2) of a target that fits into an inode; None for longer ones. Errors: `ENOSPC`.
    pub(super) fn short_link(
        &mut self,
        spot: Spot<'_>,
        caller: &Caller,
        target: &[u8],
    ) -> Result<Option<u32>, Errno> {
        if target.len() as u64 >= SHORT {
            return Ok(None);
        }
        let (mode, owner) = self.inherit(spot.0, caller, libc::S_IFLNK | 0o777)?;
        let mut raw = self.fresh(mode, owner);
        raw.set_place(target);
        raw.set_size(target.len() as u64);
        self.make_at(spot, raw).map(Some)
    }

    /// The inode for a longer target, which is its data; it has no name yet. Errors: `ENOSPC`.
    pub(super) fn long_link(&mut self, directory: u32, caller: &Caller) -> Result<u32, Errno> {
        let (mode, owner) = self.inherit(directory, caller, libc::S_IFLNK | 0o777)?;
        let mut raw = self.fresh(mode, owner);
        if self.shape().incompat & feature::EXTENTS != 0 {
            raw.set_extents();
        }
        // Too long to be one that is in the inode.
        raw.set_size(SHORT);
        self.make(directory, raw)
    }

    /// Names the inode of a longer target. Errors: `ENOSPC`.
    pub(super) fn name_link(&mut self, spot: Spot<'_>, ino: u32) -> Result<(), Errno> {
        self.name(spot, ino).map_err(|errno| self.undo(ino, errno))
    }

    /// link(2). Errors: `EMLINK`, `ENOSPC`.
    pub(super) fn link(&mut self, ino: u32, spot: Spot<'_>) -> Result<(), Errno> {
        let links = self.get(ino)?.raw.links();
        if links >= MOST_LINKS {
            return Err(Errno::EMLINK);
        }
        if links == 0 {
            self.leave_orphans(ino)?;
        }
        self.name(spot, ino)?;
        let now = Time::now();
        self.change(ino, |raw| {
            raw.set_links(links + 1);
            raw.set_deleted(0);
            raw.set_time(Stamp::Change, now);
        })
    }

    /// unlink(2). Errors: `ENOENT`, `EISDIR`.
    pub(super) fn unlink(&mut self, spot: Spot<'_>) -> Result<(), Errno> {
        let ino = self.lookup(spot)?;
        if self.get(ino)?.raw.is_directory() {
            return Err(Errno::EISDIR);
        }
        self.unname(spot)?;
        self.lost_name(ino)
    }

    fn is_empty(&mut self, directory: u32) -> Result<bool, Errno> {
        Ok(self.names(directory)?.is_empty())
    }

    /// rmdir(2). Errors: `ENOENT`, `ENOTDIR`, `ENOTEMPTY`.
    pub(super) fn rmdir(&mut self, spot: Spot<'_>) -> Result<(), Errno> {
        let ino = self.lookup(spot)?;
        if !self.is_empty(ino)? {
            return Err(Errno::ENOTEMPTY);
        }
        self.unname(spot)?;
        self.drop_link_of_child(spot.0)?;
        self.lost_name(ino)
    }

    /// rename(2). Errors: `ENOENT`, `ENOTEMPTY`, `ENOTDIR`, `EISDIR`, `ENOSPC`.
    pub(super) fn rename(&mut self, from: Spot<'_>, to: Spot<'_>) -> Result<(), Errno> {
        let ino = self.lookup(from)?;
        let is_directory = self.get(ino)?.raw.is_directory();
        let before = match self.lookup(to) {
            Ok(before) if before == ino => return Ok(()),
            Ok(before) => Some(before),
            Err(Errno::ENOENT) => None,
            Err(errno) => return Err(errno),
        };
        if let Some(before) = before {
            match (is_directory, self.get(before)?.raw.is_directory()) {
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                (true, true) if !self.is_empty(before)? => return Err(Errno::ENOTEMPTY),
                _ => {}
            }
            self.lead(to, ino)?;
        } else {
            self.name(to, ino)?;
        }
        self.unname(from)?;
        if is_directory {
            self.moved(ino, from.0, to.0)?;
        }
        if let Some(before) = before {
            if is_directory {
                self.drop_link_of_child(to.0)?;
            }
            self.lost_name(before)?;
        }
        let now = Time::now();
        self.change(ino, |raw| raw.set_time(Stamp::Change, now))
    }

    /// Has a name that is there lead elsewhere.
    fn lead(&mut self, (directory, name): Spot<'_>, ino: u32) -> Result<(), Errno> {
        let kind = kind_of(self.get(ino)?.raw.mode());
        self.fs.relink(directory, name, ino, kind)?;
        self.reread(directory)?;
        self.names(directory)?.insert(name.to_vec(), (ino, kind));
        self.touched(directory)
    }

    /// A directory has another parent.
    fn moved(&mut self, ino: u32, from: u32, to: u32) -> Result<(), Errno> {
        if from == to {
            return Ok(());
        }
        self.fs.relink(ino, b"..", to, kind_of(libc::S_IFDIR))?;
        self.reread(ino)?;
        self.drop_link_of_child(from)?;
        self.add_link_of_child(to)
    }

    /// renameat2(2) with `RENAME_EXCHANGE`. Errors: `ENOENT`.
    pub(super) fn exchange(&mut self, one: Spot<'_>, other: Spot<'_>) -> Result<(), Errno> {
        let (first, second) = (self.lookup(one)?, self.lookup(other)?);
        self.lead(one, second)?;
        self.lead(other, first)?;
        for (ino, from, to) in [(first, one.0, other.0), (second, other.0, one.0)] {
            if self.get(ino)?.raw.is_directory() {
                self.moved(ino, from, to)?;
            }
            let now = Time::now();
            self.change(ino, |raw| raw.set_time(Stamp::Change, now))?;
        }
        Ok(())
    }

    /// The superblock says that the file system is in use.
    pub(super) fn begin(&mut self) {
        let shape = self.shape();
        let before = self.fs.superblock();
        let seconds = u32::try_from(Time::now().seconds).unwrap_or(u32::MAX);
        self.fs.set_superblock(field::MOUNT_TIME, &seconds.to_le_bytes());
        let count = before.u16(field::MOUNT_COUNT).saturating_add(1);
        self.fs.set_superblock(field::MOUNT_COUNT, &count.to_le_bytes());
        self.set_in_use(shape.has_journal(), InUse::Yes);
    }

    /// The superblock says that the file system is whole.
    pub(super) fn end(&mut self) {
        let journaled = self.shape().has_journal();
        self.set_in_use(journaled, InUse::No);
    }

    /// With a journal a file system in use has one to be looked at, without one it has to be checked.
    fn set_in_use(&mut self, journaled: bool, in_use: InUse) {
        let before = self.fs.superblock();
        if journaled {
            let features = before.u32(field::INCOMPAT) & !feature::RECOVER;
            let features = features | if in_use == InUse::Yes { feature::RECOVER } else { 0 };
            self.fs.set_superblock(field::INCOMPAT, &features.to_le_bytes());
        } else {
            let state = before.u16(field::STATE) & !VALID;
            let state = state | if in_use == InUse::No { self.state_before & VALID } else { 0 };
            self.fs.set_superblock(field::STATE, &state.to_le_bytes());
        }
    }
}

/// Whether a file system is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InUse {
    Yes,
    No,
}

/// The target of a symbolic link. Errors: `EINVAL` for what is none, `EUCLEAN`.
pub(super) fn target(mut work: Work<'_>) -> Result<Vec<u8>, Errno> {
    let raw = &work.volume.get(work.ino)?.raw;
    if raw.kind() != libc::S_IFLNK {
        return Err(Errno::EINVAL);
    }
    let size = usize::try_from(raw.size()).unwrap_or(usize::MAX);
    if size == 0 || size > 4096 {
        return Err(Errno::EUCLEAN);
    }
    if raw.is_short_link() {
        let mut target = raw.place();
        target.truncate(size);
        return Ok(target);
    }
    let mut target = vec![0; size];
    let got = work.read(0, &mut target)?;
    if got < size { Err(Errno::EUCLEAN) } else { Ok(target) }
}

/// Writes the target of a symbolic link into its blocks. Errors: `ENOSPC`.
pub(super) fn set_target(mut work: Work<'_>, target: &[u8]) -> Result<(), Refusal> {
    let wrote = work.write(0, target)?;
    work.volume.change(work.ino, |raw| raw.set_size(target.len() as u64))?;
    if wrote < target.len() { Err(Errno::ENOSPC.into()) } else { Ok(()) }
}
