//! chdir(2), fchdir(2), getcwd(2).
//!
//! The kernel holds the working directory. A virtual directory that the kernel has as well
//! (`/proc/net`, a merged directory) is entered there, and recognised by its path; in place of one
//! that it has not, its materialised directory is entered.

use std::{os::unix::ffi::OsStringExt, sync::Arc};

use umvu_abi::{Errno, tree::Entry};
use umvu_tracer::api::{Action, Call, Instead, Reply};

use super::{
    descriptors,
    lexical::PATH_MAX,
    locate::{self, answer, os_path},
    open::stand_in,
    resolve::{Last, Place},
    root,
};
use crate::{
    Core,
    dispatch::{Row, always},
    files::{Inode, access},
};

pub(super) fn rows() -> Vec<Row> {
    vec![
        always("chdir", chdir, "virtual directories show their virtual path to getcwd"),
        always("fchdir", fchdir, "native; remembered"),
        always("getcwd", getcwd, "virtual directories show their virtual path"),
    ]
}

fn chdir(core: &Core, call: &Call) -> Action {
    let action = answer(
        core,
        call,
        locate::path(0),
        Last::Follow,
        |place| match &place {
            Place::Inode(found) => match enter_inode(core, call, &found.inode) {
                Ok(action) => action,
                Err(errno) => errno.into(),
            },
            Place::Node(_) => Errno::ENOTDIR.into(),
            Place::Vacant(_) | Place::Missing(_) => Errno::ENOENT.into(),
            Place::Entry(entry) if !matches!(entry.entry, Entry::Directory(_)) => {
                Errno::ENOTDIR.into()
            }
            Place::Entry(entry) if os_path(&entry.path).is_dir() => Action::Forward,
            _ => match stand_in(core, &place) {
                Ok(stand_in) => enter(stand_in.into_os_string().into_vec()),
                Err(errno) => errno.into(),
            },
        },
        enter,
    );
    if matches!(action, Action::Forward | Action::Instead(_)) {
        core.paths.threads.get(call.tid()).moves();
    }
    action
}

/// Enters the object of a virtual directory. Errors: `ENOTDIR`, `EACCES`.
fn enter_inode(core: &Core, call: &Call, inode: &Arc<Inode>) -> Result<Action, Errno> {
    if !inode.is_directory()? {
        return Err(Errno::ENOTDIR);
    }
    access::search(inode, &core.caller(call.tid()))?;
    Ok(enter(core.objects.directory(inode)?.into_os_string().into_vec()))
}

/// Has the kernel enter another directory than the one that was named.
fn enter(mut path: Vec<u8>) -> Action {
    path.push(0);
    Action::Instead(Instead { data: Some((0, path)), ..Instead::call(libc::SYS_chdir, [0; 6]) })
}

fn fchdir(core: &Core, call: &Call) -> Action {
    // The object that the guest has open is the one to enter; it may have been forgotten.
    if let Ok(Some(held)) = descriptors::held(core, call, 0)
        && held.inode.is_directory() == Ok(true)
    {
        let entered = access::search(&held.inode, &core.caller(call.tid()));
        if let Err(errno) = entered.and_then(|()| core.objects.directory(&held.inode).map(drop)) {
            return errno.into();
        }
    }
    core.paths.threads.get(call.tid()).moves();
    Action::Forward
}

fn getcwd(core: &Core, call: &Call) -> Action {
    let root = core.paths.root(call.tid());
    if !core.paths.directories.are_used() && !core.objects.are_used() && root.is_none() {
        return Action::Forward;
    }
    let Ok(link) = call.guest.cwd_link() else { return Action::Forward };
    let path = match core.objects.stands_for(&link) {
        Some(Ok(held)) if held.inode.is_removed() => Some(Err(Errno::ENOENT)),
        Some(held) => Some(held.map(|held| held.inode.path())),
        None => core.paths.directories.stands_for(&link),
    };
    let path = match root {
        Some(root) => Some(path.unwrap_or(Ok(link)).map(|path| root::seen_from(&root, path))),
        None => path,
    };
    let Some(path) = path else { return Action::Forward };
    let mut path = match path {
        Ok(path) => path,
        Err(errno) => return errno.into(),
    };
    path.push(0);
    // The C library then finds it by itself.
    if path.len() > PATH_MAX {
        return Errno::ENAMETOOLONG.into();
    }
    let room = usize::try_from(call.syscall.args[1]).unwrap_or(usize::MAX);
    if path.len() > room {
        return Errno::ERANGE.into();
    }
    let result = Ok(i64::try_from(path.len()).unwrap_or(0));
    Action::Return(Reply { result, writes: vec![(call.addr(0), path)] })
}
