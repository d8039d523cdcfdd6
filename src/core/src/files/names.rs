//! Making, removing and moving names, with what Linux checks first.

use std::{os::fd::BorrowedFd, sync::Arc};

use umvu_abi::{
    Errno,
    files::{Attributes, Caller, Opened, Right, Seen, WRITE},
};

use super::{Inode, access};

/// What is to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Make<'a> {
    /// mknod(2): type and permission bits, device.
    Node(u32, u64),
    /// mkdir(2).
    Directory(u32),
    /// symlink(2).
    Link(&'a [u8]),
}

const PERMISSIONS: u32 = 0o7777;

/// Makes something that does not exist. Errors: `EACCES`, `EROFS`, `EPERM` for a device that the
/// caller may not make, those of the file system.
pub(crate) fn make(
    caller: &Caller,
    parent: &Arc<Inode>,
    name: &[u8],
    what: Make<'_>,
) -> Result<Arc<Inode>, Errno> {
    access::alter(parent, caller)?;
    if parent.is_removed() {
        return Err(Errno::ENOENT);
    }
    let fs = parent.files.ask()?;
    let masked = |mode: u32| mode & PERMISSIONS & !caller.umask;
    let entry = match what {
        Make::Node(mode, rdev) => {
            let kind = mode & libc::S_IFMT;
            let is_device = matches!(kind, libc::S_IFCHR | libc::S_IFBLK);
            if is_device && !may_make_devices(caller, parent)? {
                return Err(Errno::EPERM);
            }
            let rdev = if is_device { rdev } else { 0 };
            fs.mknod(caller, parent.node, name, kind | masked(mode), rdev)?
        }
        // Set-id bits of a new directory are not taken.
        Make::Directory(mode) => {
            fs.mkdir(caller, parent.node, name, masked(mode) & (0o777 | libc::S_ISVTX))?
        }
        Make::Link(target) => fs.symlink(caller, parent.node, name, target)?,
    };
    let made = parent.files.enter(parent, name, &entry);
    parent.files.objects.tell_made(parent, name, &made);
    Ok(made)
}

fn may_make_devices(caller: &Caller, parent: &Arc<Inode>) -> Result<bool, Errno> {
    if caller.is_privileged() {
        return Ok(true);
    }
    let fs = parent.files.ask()?;
    let above = fs.getattr(caller, parent.node, None)?;
    Ok(fs.grants(caller, &above, Right::GiveAway))
}

/// Makes a regular file without a name in a directory, and opens it: `O_TMPFILE`. Also tells how it looks. Errors: `EACCES`, `EROFS`,
/// `ENOENT` where the directory was removed, those of the file system.
pub(crate) fn nameless(
    caller: &Caller,
    directory: &Arc<Inode>,
    mode: u32,
    flags: i32,
) -> Result<(Arc<Inode>, Attributes, Opened), Errno> {
    access::alter(directory, caller)?;
    if directory.is_removed() {
        return Err(Errno::ENOENT);
    }
    let files = &directory.files;
    let mode = libc::S_IFREG | mode & PERMISSIONS & !caller.umask;
    let (entry, opened) = files.ask()?.create_nameless(caller, directory.node, mode, flags)?;
    let inode = files.nameless(&entry);
    inode.is_nameless_in(directory, entry.attributes.ino, flags & libc::O_EXCL == 0);
    Ok((inode, entry.attributes, opened))
}

/// Gives a file one more name; `opened` is the descriptor that a guest names it by, if it does so. Errors:
/// `EPERM` for a directory, `ENOENT` for what was removed, `EXDEV`, `EROFS`, `EACCES`.
pub(crate) fn link(
    caller: &Caller,
    (file, opened): (&Arc<Inode>, Option<BorrowedFd<'_>>),
    parent: &Arc<Inode>,
    name: &[u8],
) -> Result<(), Errno> {
    if !Arc::ptr_eq(&file.files, &parent.files) {
        // A place of the tree once more: the other mount has both.
        let Seen::Same(inner) = parent.files.fs.seen_at(parent.node) else {
            return Err(Errno::EXDEV);
        };
        let inner = inner.downcast::<Inode>().map_err(|_| Errno::EXDEV)?;
        access::alter(parent, caller)?;
        return link(caller, (file, opened), &inner, name);
    }
    access::alter(parent, caller)?;
    if file.is_directory()? {
        return Err(Errno::EPERM);
    }
    let is_gone = || match file.attributes(caller) {
        Ok(looks) => looks.nlink == 0,
        Err(errno) => errno == Errno::ENOENT,
    };
    if file.is_removed() && !file.is_linkable() && is_gone() {
        return Err(Errno::ENOENT);
    }
    let fs = parent.files.ask()?;
    if file.files.traits.parts_names {
        // What the other name leads to has what was written by this one.
        file.content.lock().write_back(file)?;
    }
    let entry = match opened {
        Some(opened) => fs.link_opened(caller, (file.node, opened), parent.node, name)?,
        None => fs.link(caller, file.node, parent.node, name)?,
    };
    parent.files.enter(parent, name, &entry);
    parent.files.objects.tell_links(file);
    parent.files.objects.tell_made(parent, name, file);
    Ok(())
}

/// unlink(2). Errors: `EISDIR`, `EACCES`, `EPERM` by the sticky bit, `EROFS`.
pub(crate) fn unlink(
    caller: &Caller,
    parent: &Arc<Inode>,
    name: &[u8],
    file: &Arc<Inode>,
) -> Result<(), Errno> {
    access::remove(parent, file, caller)?;
    if file.is_directory()? {
        return Err(Errno::EISDIR);
    }
    let fs = parent.files.ask()?;
    parent.files.objects.hear_before();
    file.settle()?;
    fs.unlink(caller, parent.node, name)?;
    parent.files.forget_name(parent, name);
    file.removed_from(parent, name);
    parent.files.objects.tell_taken(parent, name, file);
    file.leave_unless_open();
    Ok(())
}

/// rmdir(2). Errors: `ENOTDIR`, `ENOTEMPTY`, `EACCES`, `EPERM` by the sticky bit, `EROFS`.
pub(crate) fn rmdir(
    caller: &Caller,
    parent: &Arc<Inode>,
    name: &[u8],
    directory: &Arc<Inode>,
) -> Result<(), Errno> {
    access::remove(parent, directory, caller)?;
    if !directory.is_directory()? {
        return Err(Errno::ENOTDIR);
    }
    let fs = parent.files.ask()?;
    parent.files.objects.hear_before();
    fs.rmdir(caller, parent.node, name)?;
    parent.files.forget_name(parent, name);
    directory.removed();
    parent.files.objects.tell_taken(parent, name, directory);
    Ok(())
}

/// One side of a rename: a name, and what it leads to.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    /// The directory.
    pub(crate) parent: Arc<Inode>,
    /// The name in it.
    pub(crate) name: Vec<u8>,
    /// What it leads to; None for nothing.
    pub(crate) inode: Option<Arc<Inode>>,
}

/// renameat2(2). Errors: `EXDEV` between mounts, `EINVAL` for a directory below itself, `EEXIST`,
/// `EISDIR`, `ENOTDIR`, `ENOTEMPTY`, `EACCES`, `EPERM` by the sticky bit, `EROFS`.
pub(crate) fn rename(caller: &Caller, from: &Side, to: &Side, flags: u32) -> Result<(), Errno> {
    let files = &from.parent.files;
    if !Arc::ptr_eq(files, &to.parent.files) {
        return Err(Errno::EXDEV);
    }
    let moved = from.inode.as_ref().ok_or(Errno::ENOENT)?;
    let exchange = flags & libc::RENAME_EXCHANGE != 0;
    match &to.inode {
        Some(_) if flags & libc::RENAME_NOREPLACE != 0 => return Err(Errno::EEXIST),
        None if exchange => return Err(Errno::ENOENT),
        _ => {}
    }
    if to.parent.is_below(moved) {
        return Err(Errno::EINVAL);
    }
    if let Some(replaced) = &to.inode
        && from.parent.is_below(replaced)
    {
        return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
    }
    access::remove(&from.parent, moved, caller)?;
    match &to.inode {
        Some(replaced) => access::remove(&to.parent, replaced, caller)?,
        None => access::alter(&to.parent, caller)?,
    }
    let is_directory = moved.is_directory()?;
    // A directory that gets another parent is written to: its `..` changes.
    if is_directory && !from.parent.is(&to.parent) && !files.traits.checks_access {
        access::check(moved, caller, WRITE)?;
    }
    if let Some(replaced) = &to.inode {
        let is_same = replaced.is(moved) && !exchange;
        if is_same && (!files.traits.folds_case || from.name == to.name) {
            return Ok(());
        }
        match (is_directory, replaced.is_directory()?) {
            _ if exchange => {}
            (true, false) => return Err(Errno::ENOTDIR),
            (false, true) => return Err(Errno::EISDIR),
            _ => {}
        }
    }
    let fs = files.ask()?;
    files.objects.hear_before();
    if let Some(replaced) = to.inode.as_ref().filter(|_| !exchange) {
        replaced.settle()?;
    }
    fs.rename(caller, (from.parent.node, &from.name), (to.parent.node, &to.name), flags)?;
    files.forget_name(&from.parent, &from.name);
    files.forget_name(&to.parent, &to.name);
    match &to.inode {
        Some(other) if exchange => files.remember_name(&from.parent, &from.name, other),
        Some(replaced) if !replaced.is(moved) => {
            replaced.removed();
            replaced.leave_unless_open();
        }
        _ => {}
    }
    // Entered again by the next lookup, with its validity; its place is known already.
    moved.stands(&to.parent, &to.name);
    files.objects.tell_moved(from, to, exchange);
    Ok(())
}
