//! chmod(2), chown(2), utimensat(2), truncate(2), setxattr(2) and their variants.

use std::sync::Arc;

use umvu_abi::Errno;
use umvu_tracer::api::{Action, Call, Trap};

use super::{
    content, host,
    locate::{self, At, answer},
    resolve::{Last, Place},
    stat::last,
};
use crate::{
    Core,
    dispatch::{Row, always},
    view::Mount,
};

/// The id that chown(2) leaves as it is.
const UNCHANGED: u32 = u32::MAX;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = owner_rows();
    rows.extend(time_rows());
    rows
}

fn owner_rows() -> Vec<Row> {
    const NOTE: &str = "changes the node of a stack; generated files keep theirs";
    vec![
        always("chmod", |core, call| chmod(core, call, locate::path(0), Last::Follow), NOTE),
        always("fchmodat", |core, call| chmod(core, call, locate::at(0), Last::Follow), NOTE),
        always("fchmodat2", |core, call| chmod(core, call, locate::at(0), last(call.int(3))), NOTE),
        always("chown", |core, call| chown(core, call, locate::path(0), Last::Follow), NOTE),
        always("lchown", |core, call| chown(core, call, locate::path(0), Last::Keep), NOTE),
        always("fchownat", |core, call| chown(core, call, locate::at(0), last(call.int(4))), NOTE),
    ]
}

fn time_rows() -> Vec<Row> {
    const TIMES: &str = "accepted and ignored on nodes; EPERM on generated files";
    const XATTR: &str = "EPERM or EOPNOTSUPP on virtual files";
    vec![
        always("utime", |core, call| times(core, call, locate::path(0), Last::Follow), TIMES),
        always("utimes", |core, call| times(core, call, locate::path(0), Last::Follow), TIMES),
        always("futimesat", |core, call| times(core, call, locate::at(0), Last::Follow), TIMES),
        // Without a path it is futimens(3), which stays native.
        Row {
            name: "utimensat",
            trap: Trap::NonNull(1),
            interruptible: false,
            handler: |core, call| times(core, call, locate::at(0), last(call.int(3))),
            note: TIMES,
        },
        always("truncate", truncate, "accepted on writable generated files"),
        always("setxattr", |core, call| set_xattr(core, call, Last::Follow), XATTR),
        always("lsetxattr", |core, call| set_xattr(core, call, Last::Keep), XATTR),
        always("removexattr", |core, call| set_xattr(core, call, Last::Follow), XATTR),
        always("lremovexattr", |core, call| set_xattr(core, call, Last::Keep), XATTR),
    ]
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

fn chmod(core: &Core, call: &Call, at: At, last: Last) -> Action {
    let mode = call.int(at.path + 1).cast_unsigned() & 0o7777;
    let of_place = |place| on_node(place, |mount| mount.owner.lock().mode = mode);
    answer(core, call, at, last, of_place, |path| Action::done(host::chmod(&path, mode)))
}

fn chown(core: &Core, call: &Call, at: At, last: Last) -> Action {
    let id = |n: usize| Some(call.int(at.path + n).cast_unsigned()).filter(|id| *id != UNCHANGED);
    let (uid, gid) = (id(1), id(2));
    let of_place = |place| {
        on_node(place, |mount| {
            let mut owner = mount.owner.lock();
            owner.uid = uid.unwrap_or(owner.uid);
            owner.gid = gid.unwrap_or(owner.gid);
        })
    };
    answer(core, call, at, last, of_place, |path| Action::done(host::chown(&path, uid, gid, last)))
}

fn times(core: &Core, call: &Call, at: At, last: Last) -> Action {
    let of_place = |place| on_node(place, |_| ());
    // Rare enough: touch(1) in a directory that has a mount in it.
    answer(core, call, at, last, of_place, |_| Errno::EPERM.into())
}

fn truncate(core: &Core, call: &Call) -> Action {
    let of_place = |place: Place| match place {
        Place::Entry(entry) => Action::done(content::truncatable(&entry)),
        Place::Missing(_) => Errno::ENOENT.into(),
        Place::Directory(_) | Place::Merged(_) => Errno::EISDIR.into(),
        Place::Node(_) | Place::Real(_) => Errno::EINVAL.into(),
    };
    let length = call.syscall.args[1].cast_signed();
    answer(core, call, locate::path(0), Last::Follow, of_place, |path| {
        Action::done(host::truncate(&path, length))
    })
}

fn set_xattr(core: &Core, call: &Call, last: Last) -> Action {
    let of_place = |place: Place| match place {
        Place::Missing(_) => Errno::ENOENT.into(),
        Place::Node(_) => Errno::EPERM.into(),
        _ => Errno::EOPNOTSUPP.into(),
    };
    answer(core, call, locate::path(0), last, of_place, |_| Errno::EOPNOTSUPP.into())
}
