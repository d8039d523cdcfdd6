//! Changing what a file looks like, with what Linux checks first (setattr_prepare).

use std::sync::Arc;

use umvu_abi::{
    Errno,
    files::{Attributes, Caller, Changes, EXECUTE, READ, Right, SetTime, WRITE},
};

use super::{Inode, access, shadows::Deed};

fn before(inode: &Inode, caller: &Caller) -> Result<Attributes, Errno> {
    inode.files.writable()?;
    inode.attributes(caller)
}

fn apply(inode: &Arc<Inode>, caller: &Caller, changes: &Changes) -> Result<(), Errno> {
    inode.files.ask()?.setattr(caller, inode.node, None, changes).map(drop)
}

/// chmod(2). Errors: `EPERM`, `EROFS`.
pub(crate) fn chmod(inode: &Arc<Inode>, caller: &Caller, mode: u32) -> Result<(), Errno> {
    let now = before(inode, caller)?;
    let mut mode = mode & 0o7777;
    if !inode.files.traits.checks_access {
        if !access::owns(inode, caller, &now)? {
            return Err(Errno::EPERM);
        }
        if !caller.is_privileged() && caller.owns(&now) && !caller.is_in(now.gid) {
            mode &= !libc::S_ISGID;
        }
    }
    if mode & (libc::S_ISUID | libc::S_ISGID) != 0 && now.is_regular() {
        // What was written before takes no bits away that are set afterwards.
        inode.content.lock().write_back(inode)?;
    }
    apply(inode, caller, &Changes { mode: Some(mode), ..Changes::default() })?;
    inode.files.objects.tell(inode, Deed::Look);
    Ok(())
}

/// chown(2); None leaves an id as it is. Errors: `EPERM`, `EROFS`.
pub(crate) fn chown(
    inode: &Arc<Inode>,
    caller: &Caller,
    uid: Option<u32>,
    gid: Option<u32>,
) -> Result<(), Errno> {
    let now = before(inode, caller)?;
    let mut changes = Changes { uid, gid, ..Changes::default() };
    if !inode.files.traits.checks_access {
        let own = caller.uid == now.uid;
        let uid_fits = uid.is_none_or(|uid| own && uid == now.uid);
        let gid_fits = gid.is_none_or(|gid| own && (gid == now.gid || caller.is_in(gid)));
        let fs = inode.files.ask()?;
        let fits = caller.is_privileged() || uid_fits && gid_fits;
        if !fits && !fs.grants(caller, &now, Right::GiveAway) {
            return Err(Errno::EPERM);
        }
        if !now.is_directory() {
            changes.mode = without_set_ids(&now);
        }
    }
    apply(inode, caller, &changes)?;
    inode.files.objects.tell(inode, Deed::Look);
    Ok(())
}

/// The mode without its set-id bits, when it has some: what is left of it when somebody else's
/// words stand in the file.
pub(crate) fn without_set_ids(now: &Attributes) -> Option<u32> {
    let group = if now.mode & libc::S_IXGRP != 0 { libc::S_ISGID } else { 0 };
    let cleared = now.mode & !(libc::S_ISUID | group);
    (cleared != now.mode).then_some(cleared & 0o7777)
}

/// utimensat(2). Errors: `EPERM`, `EACCES`, `EROFS`.
pub(crate) fn set_times(
    inode: &Arc<Inode>,
    caller: &Caller,
    [atime, mtime]: [Option<SetTime>; 2],
) -> Result<(), Errno> {
    if atime.is_none() && mtime.is_none() {
        return Ok(());
    }
    let now = before(inode, caller)?;
    if !inode.files.traits.checks_access && !access::owns(inode, caller, &now)? {
        let only_now = atime == Some(SetTime::Now) && mtime == Some(SetTime::Now);
        if !only_now {
            return Err(Errno::EPERM);
        }
        access::check(inode, caller, WRITE)?;
    }
    // What is written back meanwhile would set the time anew.
    let mut content = inode.content.lock();
    apply(inode, caller, &Changes { atime, mtime, ..Changes::default() })?;
    if let Some(mtime) = mtime {
        content.set_mtime(mtime.resolve());
    }
    if atime.is_some() {
        content.is_unread();
    }
    drop(content);
    inode.files.objects.tell_times(inode, [atime, mtime]);
    Ok(())
}

/// truncate(2). Errors: `EISDIR`, `EINVAL`, `EACCES`, `EROFS`, `EFBIG`.
pub(crate) fn truncate(inode: &Arc<Inode>, caller: &Caller, size: i64) -> Result<(), Errno> {
    let size = u64::try_from(size).map_err(|_| Errno::EINVAL)?;
    match inode.kind()? {
        libc::S_IFREG => {}
        libc::S_IFDIR => return Err(Errno::EISDIR),
        _ => return Err(Errno::EINVAL),
    }
    access::check(inode, caller, WRITE)?;
    resize(inode, caller, size)
}

/// Sets the size of a file, in its file system and in what is kept of it.
pub(crate) fn resize(inode: &Arc<Inode>, caller: &Caller, size: u64) -> Result<(), Errno> {
    let now = inode.attributes(caller)?;
    let mode = if caller.is_privileged() { None } else { without_set_ids(&now) };
    let changes =
        Changes { size: Some(size), mode, mtime: Some(SetTime::Now), ..Changes::default() };
    let mut content = inode.content.lock();
    content.write_back(inode)?;
    apply(inode, caller, &changes)?;
    content.resize(&inode.files.objects, size)?;
    drop(content);
    inode.files.objects.tell(inode, Deed::Write);
    Ok(())
}

/// Which namespace an attribute is in decides who may use it (xattr(7)). Errors: `EPERM`,
/// `EOPNOTSUPP` for an unknown one, `ENODATA` for reading what one may not.
pub(crate) fn check_xattr(
    inode: &Arc<Inode>,
    caller: &Caller,
    name: &[u8],
    wanted: u32,
) -> Result<(), Errno> {
    if wanted & WRITE != 0 {
        inode.files.writable()?;
    }
    if inode.files.traits.checks_access {
        return Ok(());
    }
    let denied = || if wanted & WRITE == 0 { Errno::ENODATA } else { Errno::EPERM };
    let namespace = name.split(|byte| *byte == b'.').next().unwrap_or_default();
    match namespace {
        b"user" => {
            if !matches!(inode.kind()?, libc::S_IFREG | libc::S_IFDIR) {
                return Err(denied());
            }
            access::check(inode, caller, wanted & (READ | WRITE | EXECUTE))
        }
        b"trusted" if caller.is_privileged() => Ok(()),
        b"trusted" => Err(denied()),
        b"security" if wanted & WRITE == 0 || caller.is_privileged() => Ok(()),
        b"security" => Err(Errno::EPERM),
        _ => Err(Errno::EOPNOTSUPP),
    }
}
