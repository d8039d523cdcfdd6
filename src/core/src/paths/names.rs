//! unlink(2), rmdir(2), mkdir(2), mknod(2), symlink(2), link(2), rename(2) and their variants.
//!
//! Virtual places refuse with what Linux says: a mount point is busy, procfs and sysfs make and
//! remove nothing.

use umvu_abi::{Errno, tree::Entry};
use umvu_tracer::api::{Action, Call};

use super::{
    host,
    lexical::PATH_MAX,
    locate::{self, At, Target, answer, locate},
    resolve::{Last, Place},
};
use crate::{
    Core,
    dispatch::{Handler, Row, always},
};

pub(super) fn rows() -> Vec<Row> {
    let refused = |name, handler: Handler| {
        always(name, handler, "refused for virtual files: EBUSY, EPERM, EEXIST")
    };
    vec![
        refused("unlink", |core, call| unlink(core, call, locate::path(0))),
        refused("unlinkat", unlinkat),
        refused("rmdir", |core, call| rmdir(core, call, locate::path(0))),
        refused("mkdir", |core, call| mkdir(core, call, locate::path(0))),
        refused("mkdirat", |core, call| mkdir(core, call, locate::at(0))),
        refused("mknod", |core, call| mknod(core, call, locate::path(0))),
        refused("mknodat", |core, call| mknod(core, call, locate::at(0))),
        refused("symlink", |core, call| symlink(core, call, locate::path(1))),
        refused("symlinkat", |core, call| symlink(core, call, locate::at(1))),
        refused("link", |core, call| two(core, call, LINK)),
        refused("linkat", |core, call| {
            let follows = call.int(4) & libc::AT_SYMLINK_FOLLOW != 0;
            let last = if follows { Last::Follow } else { Last::Keep };
            two(core, call, Two { from: locate::at(0), to: locate::at(2), last, ..LINK })
        }),
        refused("rename", |core, call| two(core, call, RENAME)),
        refused("renameat", |core, call| two(core, call, RENAME_AT)),
        refused("renameat2", |core, call| {
            // Where the hypervisor renames by itself it knows no flags.
            let elsewhere: Elsewhere = if call.int(4) == 0 { host::rename } else { no_flags };
            two(core, call, Two { elsewhere, ..RENAME_AT })
        }),
    ]
}

/// What is done to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Unlink,
    Rmdir,
    Rename,
    LinkFrom,
    /// Making a directory, a node, a link at this name, or renaming to it.
    Make,
}

/// Why a deed is refused at a virtual place.
fn refusal(place: &Place, deed: Deed) -> Errno {
    match (place, deed) {
        // procfs does not even look at names it has not; sysfs looks, and refuses.
        (Place::Missing(path), Deed::Make) if path.starts_with(b"/sys") => Errno::EPERM,
        (Place::Missing(_), _) => Errno::ENOENT,
        (Place::Real(_), _) => Errno::EPERM,
        (_, Deed::Make) => Errno::EEXIST,
        (_, Deed::LinkFrom) => Errno::EPERM,
        (Place::Node(_), Deed::Rmdir) => Errno::ENOTDIR,
        (Place::Node(_), _) => Errno::EBUSY,
        (Place::Directory(_) | Place::Merged(_), Deed::Unlink) => Errno::EISDIR,
        (Place::Directory(_) | Place::Merged(_), _) => Errno::EBUSY,
        (Place::Entry(entry), Deed::Rmdir) if !matches!(entry.entry, Entry::Directory(_)) => {
            Errno::ENOTDIR
        }
        (Place::Entry(entry), Deed::Unlink) if matches!(entry.entry, Entry::Directory(_)) => {
            Errno::EISDIR
        }
        (Place::Entry(_), _) => Errno::EPERM,
    }
}

fn one(
    core: &Core,
    call: &Call,
    at: At,
    deed: Deed,
    elsewhere: impl FnOnce(&[u8]) -> Result<(), Errno>,
) -> Action {
    let of_place = |place| refusal(&place, deed).into();
    answer(core, call, at, Last::Keep, of_place, |path| Action::done(elsewhere(&path)))
}

fn unlink(core: &Core, call: &Call, at: At) -> Action {
    one(core, call, at, Deed::Unlink, host::unlink)
}

fn rmdir(core: &Core, call: &Call, at: At) -> Action {
    one(core, call, at, Deed::Rmdir, host::rmdir)
}

fn unlinkat(core: &Core, call: &Call) -> Action {
    let is_rmdir = call.int(2) & libc::AT_REMOVEDIR != 0;
    let deed = if is_rmdir { rmdir } else { unlink };
    deed(core, call, locate::at(0))
}

fn mkdir(core: &Core, call: &Call, at: At) -> Action {
    let mode = call.int(at.path + 1).cast_unsigned() & 0o7777;
    one(core, call, at, Deed::Make, |path| host::mkdir(call.tid(), path, mode))
}

fn mknod(core: &Core, call: &Call, at: At) -> Action {
    let mode = call.int(at.path + 1).cast_unsigned();
    let device = call.syscall.args[at.path + 2];
    one(core, call, at, Deed::Make, |path| host::mknod(call.tid(), path, mode, device))
}

fn symlink(core: &Core, call: &Call, at: At) -> Action {
    one(core, call, at, Deed::Make, |path| {
        let target = call.guest.read_string(call.addr(0), PATH_MAX)?;
        host::symlink(&target, path)
    })
}

fn no_flags(_: &[u8], _: &[u8]) -> Result<(), Errno> {
    Err(Errno::EINVAL)
}

/// What the hypervisor does itself about two paths of the host.
type Elsewhere = fn(&[u8], &[u8]) -> Result<(), Errno>;

/// A call with two paths.
#[derive(Debug, Clone, Copy)]
struct Two {
    from: At,
    to: At,
    last: Last,
    deed: Deed,
    elsewhere: Elsewhere,
}

const LINK: Two = Two {
    from: locate::path(0),
    to: locate::path(1),
    last: Last::Keep,
    deed: Deed::LinkFrom,
    elsewhere: host::link,
};
const RENAME: Two = Two { deed: Deed::Rename, elsewhere: host::rename, ..LINK };
const RENAME_AT: Two = Two { from: locate::at(0), to: locate::at(2), ..RENAME };

fn two(core: &Core, call: &Call, two: Two) -> Action {
    let from = locate(core, call, two.from, two.last);
    let to = locate(core, call, two.to, Last::Keep);
    match (from, to) {
        (Err(errno), _) | (_, Err(errno)) => errno.into(),
        (Ok(Target::Virtual(place)), _) if !matches!(place, Place::Merged(_)) => {
            refusal(&place, two.deed).into()
        }
        (_, Ok(Target::Virtual(place))) if !matches!(place, Place::Merged(_)) => {
            refusal(&place, Deed::Make).into()
        }
        (Ok(Target::Elsewhere(from)), Ok(Target::Elsewhere(to))) => {
            Action::done((two.elsewhere)(&from, &to))
        }
        (Ok(Target::Elsewhere(from)), Ok(_)) => {
            let to = locate::absolute(core, call, two.to);
            Action::done(to.and_then(|to| (two.elsewhere)(&from, &to)))
        }
        (Ok(_), Ok(Target::Elsewhere(to))) => {
            let from = locate::absolute(core, call, two.from);
            Action::done(from.and_then(|from| (two.elsewhere)(&from, &to)))
        }
        _ => Action::Forward,
    }
}
