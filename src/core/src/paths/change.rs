//! chmod(2), chown(2), truncate(2), setxattr(2) and their variants.

use std::sync::Arc;

use umvu_abi::{
    Errno,
    files::{Caller, WRITE},
};
use umvu_tracer::api::{Action, Call};

use super::{
    content, descriptors, host,
    inspect::{XATTR_SIZE, xattr_name},
    locate::{self, At, answer},
    owners,
    resolve::{Found, Last, Place},
    stat::{is_empty_path, last},
};
use crate::{
    Core,
    dispatch::{Row, always},
    files::{self, Inode, shadows::Deed},
    view::Mount,
};

/// The id that chown(2) leaves as it is.
const UNCHANGED: u32 = u32::MAX;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = owner_rows();
    rows.extend(content_rows());
    rows
}

fn owner_rows() -> Vec<Row> {
    const NOTE: &str = "of mounted file systems and nodes of stacks; generated files keep theirs";
    vec![
        always("chmod", |core, call| chmod(core, call, locate::path(0), Last::Follow), NOTE),
        always("fchmodat", |core, call| chmod(core, call, locate::at(0), Last::Follow), NOTE),
        always("fchmodat2", fchmodat2, NOTE),
        always("chown", |core, call| chown(core, call, locate::path(0), Last::Follow), NOTE),
        always("lchown", |core, call| chown(core, call, locate::path(0), Last::Keep), NOTE),
        always("fchownat", fchownat, NOTE),
    ]
}

fn content_rows() -> Vec<Row> {
    const XATTR: &str = "of mounted file systems; generated files have none";
    vec![
        always(
            "truncate",
            truncate,
            "of mounted file systems; accepted on writable generated files",
        ),
        always("setxattr", |core, call| set_xattr(core, call, Last::Follow), XATTR),
        always("lsetxattr", |core, call| set_xattr(core, call, Last::Keep), XATTR),
        always("removexattr", |core, call| remove_xattr(core, call, Last::Follow), XATTR),
        always("lremovexattr", |core, call| remove_xattr(core, call, Last::Keep), XATTR),
    ]
}

/// The ids in two arguments; None leaves one as it is.
pub(super) fn ids(call: &Call, first: usize) -> [Option<u32>; 2] {
    [0, 1].map(|n| Some(call.int(first + n).cast_unsigned()).filter(|id| *id != UNCHANGED))
}

/// Applies a change to a node; generated files refuse it as procfs does.
fn on_node(place: Place, change: impl FnOnce(&Arc<Mount>)) -> Action {
    match place {
        Place::Node(mount) => {
            change(&mount);
            Action::value(0)
        }
        Place::Missing(_) => Errno::ENOENT.into(),
        _ => Errno::EPERM.into(),
    }
}

/// A file of a mounted file system gets a change of its own; nodes another.
pub(super) fn on_file(
    core: &Core,
    call: &Call,
    place: Place,
    of_file: impl FnOnce(&Arc<Inode>, &Caller) -> Result<(), Errno>,
    of_node: impl FnOnce(&Arc<Mount>),
) -> Action {
    match place {
        Place::Inode(found) => Action::done(of_file(&found.inode, &core.caller(call.tid()))),
        Place::Vacant(_) => Errno::ENOENT.into(),
        place => on_node(place, of_node),
    }
}

/// The descriptor that `AT_EMPTY_PATH` asks about, when it is of a virtual file.
pub(super) fn by_descriptor(
    core: &Core,
    call: &Call,
    flags: i32,
    change: impl FnOnce(&Arc<Inode>, &Caller) -> Result<(), Errno>,
) -> Option<Action> {
    if !is_empty_path(flags) {
        return None;
    }
    let held = descriptors::by_empty_path(core, call, 1)?;
    let caller = core.caller(call.tid());
    Some(Action::done(held.and_then(|held| change(&held.inode, &caller))))
}

fn chmod(core: &Core, call: &Call, at: At, last: Last) -> Action {
    let mode = call.int(at.path + 1).cast_unsigned() & 0o7777;
    let of_place = |place: Place| {
        let is_link = |found: &Found| found.inode.kind() == Ok(libc::S_IFLNK);
        if matches!(&place, Place::Inode(found) if is_link(found)) {
            return Errno::EOPNOTSUPP.into();
        }
        let of_file =
            |inode: &Arc<Inode>, caller: &Caller| files::change::chmod(inode, caller, mode);
        on_file(core, call, place, of_file, |mount| mount.owner.lock().mode = mode)
    };
    let action =
        answer(core, call, at, last, of_place, |path| owners::chmod_at(core, call, path, mode));
    if matches!(action, Action::Forward) {
        owners::chmod(core, call, at, last, mode)
    } else {
        action
    }
}

fn chown(core: &Core, call: &Call, at: At, last: Last) -> Action {
    let [uid, gid] = ids(call, at.path + 1);
    let of_place = |place| {
        let of_file =
            |inode: &Arc<Inode>, caller: &Caller| files::change::chown(inode, caller, uid, gid);
        on_file(core, call, place, of_file, |mount| {
            let mut owner = mount.owner.lock();
            owner.uid = uid.unwrap_or(owner.uid);
            owner.gid = gid.unwrap_or(owner.gid);
        })
    };
    let elsewhere = |path| owners::chown_at(core, call, path, last, [uid, gid]);
    let action = answer(core, call, at, last, of_place, elsewhere);
    if matches!(action, Action::Forward) {
        owners::chown(core, call, at, last, [uid, gid])
    } else {
        action
    }
}

fn fchownat(core: &Core, call: &Call) -> Action {
    let [uid, gid] = ids(call, 2);
    let change =
        |inode: &Arc<Inode>, caller: &Caller| files::change::chown(inode, caller, uid, gid);
    by_descriptor(core, call, call.int(4), change)
        .unwrap_or_else(|| chown(core, call, locate::at(0), last(call.int(4))))
}

fn fchmodat2(core: &Core, call: &Call) -> Action {
    let mode = call.int(2).cast_unsigned();
    let change = |inode: &Arc<Inode>, caller: &Caller| files::change::chmod(inode, caller, mode);
    by_descriptor(core, call, call.int(3), change)
        .unwrap_or_else(|| chmod(core, call, locate::at(0), last(call.int(3))))
}

fn truncate(core: &Core, call: &Call) -> Action {
    let length = call.syscall.args[1].cast_signed();
    let of_place = |place: Place| match place {
        Place::Inode(found) => {
            let caller = core.caller(call.tid());
            Action::done(files::change::truncate(&found.inode, &caller, length))
        }
        Place::Entry(entry) => Action::done(content::truncatable(&entry)),
        Place::Missing(_) | Place::Vacant(_) => Errno::ENOENT.into(),
        Place::Directory(_) | Place::Merged(_) => Errno::EISDIR.into(),
        Place::Node(_) | Place::Real(_) => Errno::EINVAL.into(),
    };
    answer(core, call, locate::path(0), Last::Follow, of_place, |path| {
        Action::done(host::truncate(&path, length))
    })
}

/// The value that setxattr(2) is given. Errors: `E2BIG`, `EFAULT`.
fn xattr_value(call: &Call) -> Result<Vec<u8>, Errno> {
    let size = usize::try_from(call.syscall.args[3]).unwrap_or(usize::MAX);
    if size > XATTR_SIZE {
        return Err(Errno::E2BIG);
    }
    let mut value = vec![0; size];
    call.guest.read(call.addr(2), &mut value)?;
    Ok(value)
}

/// setxattr(2) of a file of a mounted file system.
pub(super) fn set_xattr_of(core: &Core, call: &Call, inode: &Arc<Inode>) -> Action {
    let caller = core.caller(call.tid());
    Action::done(xattr_name(call).and_then(|name| {
        let flags = call.int(4);
        if flags & !(libc::XATTR_CREATE | libc::XATTR_REPLACE) != 0 {
            return Err(Errno::EINVAL);
        }
        let value = xattr_value(call)?;
        files::change::check_xattr(inode, &caller, &name, WRITE)?;
        inode.files.ask()?.setxattr(&caller, inode.node, &name, &value, flags)?;
        core.objects.tell(inode, Deed::Look);
        Ok(())
    }))
}

/// removexattr(2) of a file of a mounted file system.
pub(super) fn remove_xattr_of(core: &Core, call: &Call, inode: &Arc<Inode>) -> Action {
    let caller = core.caller(call.tid());
    Action::done(xattr_name(call).and_then(|name| {
        files::change::check_xattr(inode, &caller, &name, WRITE)?;
        inode.files.ask()?.removexattr(&caller, inode.node, &name)?;
        core.objects.tell(inode, Deed::Look);
        Ok(())
    }))
}

fn set_xattr(core: &Core, call: &Call, last: Last) -> Action {
    let of_place = |place: Place| match place {
        Place::Inode(found) => set_xattr_of(core, call, &found.inode),
        place => no_xattr(&place),
    };
    let action =
        answer(core, call, locate::path(0), last, of_place, |path| {
            Action::done(xattr_name(call).and_then(|name| {
                host::set_xattr(&path, &name, &xattr_value(call)?, call.int(4), last)
            }))
        });
    if matches!(action, Action::Forward) { owners::set_xattr(core, call) } else { action }
}

fn remove_xattr(core: &Core, call: &Call, last: Last) -> Action {
    let of_place = |place: Place| match place {
        Place::Inode(found) => remove_xattr_of(core, call, &found.inode),
        place => no_xattr(&place),
    };
    answer(core, call, locate::path(0), last, of_place, |path| {
        Action::done(xattr_name(call).and_then(|name| host::remove_xattr(&path, &name, last)))
    })
}

fn no_xattr(place: &Place) -> Action {
    match place {
        Place::Missing(_) | Place::Vacant(_) => Errno::ENOENT.into(),
        Place::Node(_) => Errno::EPERM.into(),
        _ => Errno::EOPNOTSUPP.into(),
    }
}
