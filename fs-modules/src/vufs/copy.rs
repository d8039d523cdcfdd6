//! Copying a file of the lower layer to the upper one, before it is changed there.
//!
//! A copy is put together in the work directory and renamed when it is whole: who is killed leaves no half
//! of one. It keeps mode, owner, times, extended attributes and holes; what the host does not allow it to
//! have is said in the metadata. Hard links of the lower layer are parted, as overlayfs does it.

use std::{
    fs::File,
    os::{fd::OwnedFd, unix::fs::FileExt},
    sync::Arc,
};

use rustix::{fs::SeekFrom, io::Errno as HostErrno};
use umvu_abi::{
    Errno,
    files::{Attributes, Changes, Data, SetTime},
};

use super::{
    format::Vstat,
    item::Item,
    layer::{Make, Ref, Seen},
    meta::Sign,
    overlay::{Overlay, identity},
};

/// How large a file is copied at once, while others wait.
const QUICK: u64 = 1 << 20;
/// How much is copied at once where the host cannot copy by itself.
const CHUNK: usize = 1 << 20;
/// How deep a tree that is copied may be.
const DEPTH: usize = 1024;

const PERMISSIONS: u32 = 0o7777;

/// How much of a file is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// All of it.
    Whole,
    /// All of it; nothing where the host does not let it be read.
    Readable,
    /// Nothing: it is truncated next.
    None,
}

impl Overlay {
    /// The directory of the upper layer for one that is shown, made when it is not there.
    pub(super) fn upper_directory(&self, item: &Arc<Item>) -> Result<Ref, Errno> {
        if let Some(upper) = item.sides().upper {
            return Ok(upper);
        }
        self.copy_up(item, Content::Whole)?;
        item.sides().upper.ok_or(Errno::EIO)
    }

    /// The metadata below a directory, made when they are not there.
    pub(super) fn signs(&self, item: &Arc<Item>) -> Result<Ref, Errno> {
        if let Some(meta) = item.sides().meta {
            return Ok(meta);
        }
        let (directory, name) = item.place()?;
        let above = self.signs(&directory)?;
        if let Sign::Hidden = self.meta.sign(&above, &name)? {
            // A directory over a whiteout: what it hides is said name by name from now on.
            self.seal(item, &directory, &name, None)?;
        }
        let made = self.meta.below(&above, &name)?;
        item.state.lock().sides.meta = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Copies to the upper layer what is in the lower one only.
    pub(super) fn copy_up(&self, item: &Arc<Item>, content: Content) -> Result<(), Errno> {
        let sides = item.sides();
        let (None, Some(lower)) = (&sides.upper, &sides.lower) else { return Ok(()) };
        let (directory, name) = item.place()?;
        let target = self.upper_directory(&directory)?;
        let looks = lower.looks(&self.us)?;
        if looks.is_regular() && looks.size > QUICK && content != Content::None {
            self.outside.take_time()?;
        }
        let work = self.meta.work()?;
        let aside = self.meta.fresh_name();
        let made = self.copy(work, &aside, (lower, &looks), content);
        let placed = made.and_then(|made| {
            let wanted = self.looks(item)?;
            let vstat = self.settle(&made.at, &wanted, item.state.lock().vstat)?;
            copy_times(self, &made.at, &looks);
            self.say(item, &vstat)?;
            let before = target.looks(&self.us)?;
            let rename = || work.rename(&self.us, &aside, (&target, &name), libc::RENAME_NOREPLACE);
            self.insisting(&target, rename)?;
            // A directory is not changed by it.
            copy_times(self, &target, &before);
            Ok(made)
        });
        match placed {
            Ok(made) => {
                if !looks.is_directory() {
                    let copied = made.at.looks(&self.us)?;
                    let mut origins = self.origins.lock();
                    origins.insert(identity(&copied), identity(&looks));
                }
                let mut state = item.state.lock();
                state.sides.upper = Some(made.at);
                if !item.is_directory() {
                    state.sides.lower = None;
                }
                state.seen = None;
                Ok(())
            }
            Err(errno) => {
                let _ = self.meta.remove_tree(work, &aside);
                Err(errno)
            }
        }
    }

    /// As [`Overlay::copy_up`], with all that is in a directory.
    pub(super) fn copy_tree(&self, item: &Arc<Item>) -> Result<(), Errno> {
        if item.is_directory() && item.sides().lower.is_some() {
            self.outside.take_time()?;
        }
        self.copy_below(item, 0)
    }

    fn copy_below(&self, item: &Arc<Item>, depth: usize) -> Result<(), Errno> {
        if depth > DEPTH {
            return Err(Errno::ELOOP);
        }
        self.copy_up(item, Content::Whole)?;
        if !item.is_directory() {
            return Ok(());
        }
        for entry in self.list(item)? {
            let child = self.borrow(item, &entry.name)?;
            self.copy_below(&child.item, depth + 1)?;
        }
        Ok(())
    }

    /// Makes a copy with a name in a directory of the upper layer.
    fn copy(
        &self,
        work: &Ref,
        name: &[u8],
        (from, looks): (&Ref, &Attributes),
        content: Content,
    ) -> Result<Seen, Errno> {
        let us = &self.us;
        let made = match looks.kind() {
            libc::S_IFDIR => work.make(us, name, Make::Directory { mode: 0o700 })?,
            libc::S_IFLNK => {
                let target = from.read_link(us)?;
                work.make(us, name, Make::Link { target: &target })?
            }
            libc::S_IFREG => {
                let source = match content {
                    // A lock that may not be read has nothing to be read.
                    Content::Whole if looks.size > 0 => Some(from.open(us, libc::O_RDONLY)?),
                    Content::Readable if looks.size > 0 => readable(from.open(us, libc::O_RDONLY))?,
                    Content::Whole | Content::Readable | Content::None => None,
                };
                let (made, target) = work.create(us, name, 0o600, libc::O_RDWR)?;
                if let Some(source) = source {
                    copy_content((from, source), (&made.at, target), looks.size)?;
                }
                made
            }
            kind @ (libc::S_IFCHR | libc::S_IFBLK) => {
                let device = Make::Node { mode: kind | 0o600, rdev: looks.rdev };
                let plain = Make::Node { mode: libc::S_IFREG | 0o600, rdev: 0 };
                work.make(us, name, device).or_else(|_| work.make(us, name, plain))?
            }
            kind => work.make(us, name, Make::Node { mode: kind | 0o600, rdev: 0 })?,
        };
        copy_xattrs(self, from, &made.at);
        Ok(made)
    }

    /// Gives a file of the upper layer an owner and a mode as far as the host lets it; returns what is
    /// to be said beyond that, with what else was said before.
    pub(super) fn settle(
        &self,
        at: &Ref,
        wanted: &Attributes,
        mut vstat: Vstat,
    ) -> Result<Vstat, Errno> {
        let us = &self.us;
        let mut has = at.looks(us)?;
        if has.uid != wanted.uid || has.gid != wanted.gid {
            let owner = |uid: Option<u32>, gid: Option<u32>| {
                at.set(us, &Changes { uid, gid, ..Changes::default() })
            };
            if owner(Some(wanted.uid), Some(wanted.gid)).is_err() && has.gid != wanted.gid {
                let _ = owner(None, Some(wanted.gid));
            }
            has = at.looks(us)?;
        }
        if !has.is_link() && (has.mode ^ wanted.mode) & PERMISSIONS != 0 {
            let mode = Some(wanted.mode & PERMISSIONS);
            let _ = at.set(us, &Changes { mode, ..Changes::default() });
            has = at.looks(us)?;
        }
        vstat.note(wanted, &has);
        if has.kind() != wanted.kind() {
            vstat.kind = Some(wanted.kind());
            vstat.rdev = Some(wanted.rdev);
        }
        Ok(vstat)
    }

    /// Says in the metadata what a file looks like.
    pub(super) fn say(&self, item: &Arc<Item>, vstat: &Vstat) -> Result<(), Errno> {
        if item.state.lock().vstat == *vstat {
            return Ok(());
        }
        let (signs, name) = match (&self.meta.root, item.is_root()) {
            (Some(root), true) => (Some(Arc::clone(root)), Vec::new()),
            (None, true) => return Err(Errno::EROFS),
            _ => {
                let (directory, name) = item.place()?;
                let nothing = vstat.is_empty() && directory.sides().meta.is_none();
                (if nothing { None } else { Some(self.signs(&directory)?) }, name)
            }
        };
        if let Some(signs) = signs {
            self.meta.say(&signs, &name, vstat)?;
        }
        item.state.lock().vstat = *vstat;
        Ok(())
    }
}

/// Turns what may not be read into nothing. Errors: all others.
fn readable(opened: Result<Data, Errno>) -> Result<Option<Data>, Errno> {
    match opened {
        Err(Errno::EACCES) => Ok(None),
        opened => opened.map(Some),
    }
}

/// Times are those of the original.
fn copy_times(overlay: &Overlay, to: &Ref, looks: &Attributes) {
    let (atime, mtime) = (Some(SetTime::To(looks.atime)), Some(SetTime::To(looks.mtime)));
    // A copy with other times is a copy all the same.
    let _ = to.set(&overlay.us, &Changes { atime, mtime, ..Changes::default() });
}

/// Copies the extended attributes that may be copied.
fn copy_xattrs(overlay: &Overlay, from: &Ref, to: &Ref) {
    let us = &overlay.us;
    for name in from.list_xattr(us).unwrap_or_default() {
        // Those of the administrator are left: who reads them as a user has not got them either.
        if let Ok(value) = from.get_xattr(us, &name) {
            let _ = to.set_xattr(us, &name, &value, 0);
        }
    }
}

fn host(data: Data) -> Option<OwnedFd> {
    match data {
        Data::Host(file) | Data::HostDressed(file) => Some(file),
        _ => None,
    }
}

/// Copies what a file holds. Errors: `EIO`, `ENOSPC`.
fn copy_content(
    (from, source): (&Ref, Data),
    (to, target): (&Ref, Data),
    size: u64,
) -> Result<(), Errno> {
    let (source, target) = (host(source).map(File::from), host(target).map(File::from));
    if let (Some(source), Some(target)) = (&source, &target) {
        return Ok(copy_file(source, target)?);
    }
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let got = match &source {
            Some(source) => source.read_at(&mut chunk, at)?,
            None => from.read(at, &mut chunk)?,
        };
        if got == 0 {
            break;
        }
        let mut done = 0;
        while done < got {
            let data = &chunk[done..got];
            let wrote = match &target {
                Some(target) => target.write_at(data, at + done as u64)?,
                None => to.write(at + done as u64, data)?,
            };
            if wrote == 0 {
                return Err(Errno::ENOSPC);
            }
            done += wrote;
        }
        at += got as u64;
        if at >= size && got < CHUNK {
            break;
        }
    }
    Ok(())
}

/// Copies a file of the host to another: by a common block where the file system can, else piece by piece,
/// without the holes.
fn copy_file(from: &File, to: &File) -> std::io::Result<()> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let size = from.metadata()?.len();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(HostErrno::NXIO) => break,
            Err(_) => at,
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start)).unwrap_or(size).min(size);
        copy_piece(from, to, start, end)?;
        at = end.max(start + 1);
    }
    to.set_len(size)
}

fn copy_piece(from: &File, to: &File, start: u64, end: u64) -> std::io::Result<()> {
    let (mut source, mut target) = (start, start);
    while source < end {
        let length = usize::try_from(end - source).unwrap_or(usize::MAX);
        let copied =
            rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), length);
        match copied {
            Ok(0) => break,
            Ok(_) => {}
            // Between file systems, or on one that has no such call.
            Err(_) => return copy_by_hand(from, to, source, end),
        }
    }
    Ok(())
}

fn copy_by_hand(from: &File, to: &File, mut at: u64, end: u64) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
        let got = from.read_at(&mut chunk[..length], at)?;
        if got == 0 {
            break;
        }
        to.write_all_at(&chunk[..got], at)?;
        at += got as u64;
    }
    Ok(())
}
