//! unlink(2), rmdir(2), mkdir(2), mknod(2), symlink(2), link(2), rename(2) and their variants.
//!
//! Virtual places refuse with what Linux says: a mount point is busy, procfs and sysfs make and
//! remove nothing.

use std::{os::fd::AsFd, sync::Arc};

use umvu_abi::{Errno, files::Caller, tree::Entry};
use umvu_tracer::api::{Action, Call};

use super::{
    descriptors, host,
    lexical::{PATH_MAX, components},
    locate::{self, At, Target, answer, locate},
    owners,
    resolve::{Last, Place},
};
use crate::{
    Core,
    dispatch::{Handler, Row, always},
    files::{
        self, Inode,
        names::{Make, Side},
    },
};

pub(super) fn rows() -> Vec<Row> {
    let refused = |name, handler: Handler| {
        always(
            name,
            handler,
            "in mounted file systems; refused for generated files: EBUSY, EPERM, EEXIST",
        )
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
        refused("linkat", linkat),
        refused("rename", |core, call| two(core, call, RENAME)),
        refused("renameat", |core, call| two(core, call, RENAME_AT)),
        refused("renameat2", |core, call| {
            // Where the hypervisor renames by itself it knows no flags.
            let elsewhere: Elsewhere = if call.int(4) == 0 { host::rename } else { no_flags };
            two(core, call, Two { elsewhere, flagged: true, ..RENAME_AT })
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
        (Place::Missing(_) | Place::Vacant(_), _) => Errno::ENOENT,
        (Place::Real(_), _) => Errno::EPERM,
        // The root of a mount, or a device.
        (Place::Inode(_), Deed::Make) => Errno::EEXIST,
        (Place::Inode(_), _) => Errno::EBUSY,
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

/// What is done in a directory of a mounted file system.
type Inside<'a> = &'a dyn Fn(&Caller, &Place) -> Option<Result<(), Errno>>;

fn one(
    core: &Core,
    call: &Call,
    at: At,
    deed: Deed,
    inside: Inside<'_>,
    elsewhere: impl FnOnce(&[u8]) -> Result<(), Errno>,
) -> Action {
    one_or(core, call, at, deed, inside, |path| Action::done(elsewhere(&path)))
}

fn one_or(
    core: &Core,
    call: &Call,
    at: At,
    deed: Deed,
    inside: Inside<'_>,
    elsewhere: impl FnOnce(Vec<u8>) -> Action,
) -> Action {
    let of_place = |place: Place| {
        let done = match &place {
            Place::Inode(_) | Place::Vacant(_) => inside(&core.caller(call.tid()), &place),
            _ => None,
        };
        Action::done(done.unwrap_or_else(|| Err(refusal(&place, deed))))
    };
    answer(core, call, at, Last::Keep, of_place, elsewhere)
}

/// Takes a name away from a directory: the caller, the directory, the name, what it leads to.
type Take = fn(&Caller, &Arc<Inode>, &[u8], &Arc<Inode>) -> Result<(), Errno>;

/// Takes a name away from the directory it was found in; None for the root of a mount.
fn take(caller: &Caller, place: &Place, deed: Take) -> Option<Result<(), Errno>> {
    let Place::Inode(found) = place else { return None };
    let (parent, name) = found.parent.as_ref()?;
    Some(deed(caller, parent, name, &found.inode))
}

/// Makes something at a name that is vacant; None where something is.
fn make(caller: &Caller, place: &Place, what: Make<'_>) -> Option<Result<(), Errno>> {
    let Place::Vacant(vacant) = place else { return None };
    if vacant.slash && !matches!(what, Make::Directory(_)) {
        return Some(Err(Errno::ENOENT));
    }
    Some(files::names::make(caller, &vacant.parent, &vacant.name, what).map(drop))
}

fn unlink(core: &Core, call: &Call, at: At) -> Action {
    let inside: Inside<'_> = &|caller, place| take(caller, place, files::names::unlink);
    one(core, call, at, Deed::Unlink, inside, host::unlink)
}

fn rmdir(core: &Core, call: &Call, at: At) -> Action {
    // path_resolution(7): the last component may not be a dot.
    let path = call.guest.read_string(call.addr(at.path), PATH_MAX).unwrap_or_default();
    let last = components(&path).next_back().unwrap_or_default().to_vec();
    let inside: Inside<'_> = &|caller, place| match last.as_slice() {
        b"." => Some(Err(Errno::EINVAL)),
        b".." => Some(Err(Errno::ENOTEMPTY)),
        _ => take(caller, place, files::names::rmdir),
    };
    one(core, call, at, Deed::Rmdir, inside, host::rmdir)
}

fn unlinkat(core: &Core, call: &Call) -> Action {
    let is_rmdir = call.int(2) & libc::AT_REMOVEDIR != 0;
    let deed = if is_rmdir { rmdir } else { unlink };
    deed(core, call, locate::at(0))
}

fn mkdir(core: &Core, call: &Call, at: At) -> Action {
    let mode = call.int(at.path + 1).cast_unsigned() & 0o7777;
    let inside: Inside<'_> = &|caller, place| make(caller, place, Make::Directory(mode));
    one(core, call, at, Deed::Make, inside, |path| host::mkdir(call.tid(), path, mode))
}

fn mknod(core: &Core, call: &Call, at: At) -> Action {
    let mode = call.int(at.path + 1).cast_unsigned();
    let device = call.syscall.args[at.path + 2];
    let inside: Inside<'_> = &|caller, place| match mode & libc::S_IFMT {
        libc::S_IFREG | libc::S_IFIFO | libc::S_IFSOCK | libc::S_IFCHR | libc::S_IFBLK => {
            make(caller, place, Make::Node(mode, device))
        }
        0 => make(caller, place, Make::Node(libc::S_IFREG | mode, 0)),
        libc::S_IFDIR => Some(Err(Errno::EPERM)),
        _ => Some(Err(Errno::EINVAL)),
    };
    let elsewhere = |path| owners::mknod(core, call, at, Some(path));
    let action = one_or(core, call, at, Deed::Make, inside, elsewhere);
    if matches!(action, Action::Forward) { owners::mknod(core, call, at, None) } else { action }
}

fn symlink(core: &Core, call: &Call, at: At) -> Action {
    let target = match call.guest.read_string(call.addr(0), PATH_MAX) {
        Ok(target) if target.is_empty() => return Errno::ENOENT.into(),
        Ok(target) => target,
        Err(_) => return Action::Forward,
    };
    let inside: Inside<'_> = &|caller, place| make(caller, place, Make::Link(&target));
    one(core, call, at, Deed::Make, inside, |path| host::symlink(&target, path))
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
    /// Whether argument 4 holds flags.
    flagged: bool,
}

const LINK: Two = Two {
    from: locate::path(0),
    to: locate::path(1),
    last: Last::Keep,
    deed: Deed::LinkFrom,
    elsewhere: host::link,
    flagged: false,
};
const RENAME: Two = Two { deed: Deed::Rename, elsewhere: host::rename, ..LINK };
const RENAME_AT: Two = Two { from: locate::at(0), to: locate::at(2), ..RENAME };

fn two(core: &Core, call: &Call, two: Two) -> Action {
    let from = locate(core, call, two.from, two.last);
    let to = locate(core, call, two.to, Last::Keep);
    let (from, to) = match (from, to) {
        // link(2) looks at the first path as a whole, rename(2) at the directories first.
        (Ok(Target::Virtual(Place::Vacant(_))), Err(_)) if two.deed == Deed::LinkFrom => {
            return Errno::ENOENT.into();
        }
        (Err(errno), _) | (_, Err(errno)) => return errno.into(),
        (Ok(from), Ok(to)) => (from, to),
    };
    if is_mounted(&from) || is_mounted(&to) {
        return Action::done(between(core, call, two, from, to));
    }
    match (from, to) {
        (Target::Virtual(place), _) if !matches!(place, Place::Merged(_)) => {
            refusal(&place, two.deed).into()
        }
        (_, Target::Virtual(place)) if !matches!(place, Place::Merged(_)) => {
            refusal(&place, Deed::Make).into()
        }
        (Target::Elsewhere(from), Target::Elsewhere(to)) => {
            Action::done((two.elsewhere)(&from, &to))
        }
        (Target::Elsewhere(from), _) => {
            let to = locate::absolute(core, call, two.to);
            Action::done(to.and_then(|to| (two.elsewhere)(&from, &to)))
        }
        (_, Target::Elsewhere(to)) => {
            let from = locate::absolute(core, call, two.from);
            Action::done(from.and_then(|from| (two.elsewhere)(&from, &to)))
        }
        _ => Action::Forward,
    }
}

fn is_mounted(target: &Target) -> bool {
    matches!(target, Target::Virtual(Place::Inode(_) | Place::Vacant(_)))
}

/// link(2) and rename(2) where at least one side is of a mounted file system.
fn between(core: &Core, call: &Call, two: Two, from: Target, to: Target) -> Result<(), Errno> {
    let from = match from {
        Target::Virtual(Place::Inode(found)) => found,
        Target::Virtual(Place::Vacant(_) | Place::Missing(_)) => return Err(Errno::ENOENT),
        Target::Virtual(_) => return Err(Errno::EXDEV),
        Target::Kernel | Target::Elsewhere(_) => {
            let path = locate::absolute(core, call, two.from)?;
            host::stat(&path, Last::Keep)?;
            let exists = matches!(to, Target::Virtual(Place::Inode(_)));
            let is_link = two.deed == Deed::LinkFrom;
            return Err(if exists && is_link { Errno::EEXIST } else { Errno::EXDEV });
        }
    };
    let (parent, name, inode, slash) = match to {
        Target::Virtual(Place::Vacant(vacant)) => (vacant.parent, vacant.name, None, vacant.slash),
        Target::Virtual(Place::Inode(found)) if two.deed == Deed::LinkFrom => {
            let _ = found;
            return Err(Errno::EEXIST);
        }
        Target::Virtual(Place::Inode(found)) => {
            let (parent, name) = found.parent.ok_or(Errno::EBUSY)?;
            (parent, name, Some(found.inode), false)
        }
        _ => {
            // What is wrong with the argument comes first.
            locate::absolute(core, call, two.to)?;
            return Err(Errno::EXDEV);
        }
    };
    let caller = core.caller(call.tid());
    if two.deed == Deed::LinkFrom {
        if slash {
            return Err(Errno::ENOENT);
        }
        return files::names::link(&caller, (&from.inode, None), &parent, &name);
    }
    if slash && !from.inode.is_directory()? {
        return Err(Errno::ENOTDIR);
    }
    let last_is_dot = |argument: usize| {
        let path = call.guest.read_string(call.addr(argument), PATH_MAX).unwrap_or_default();
        components(&path).next_back().is_some_and(|name| matches!(name, b"." | b".."))
    };
    if last_is_dot(two.from.path) || last_is_dot(two.to.path) {
        return Err(Errno::EBUSY);
    }
    let (from_parent, from_name) = from.parent.ok_or(Errno::EBUSY)?;
    let from = Side { parent: from_parent, name: from_name, inode: Some(from.inode) };
    let flags = if two.flagged { call.int(4).cast_unsigned() } else { 0 };
    check_flags(flags)?;
    files::names::rename(&caller, &from, &Side { parent, name, inode }, flags)
}

/// Errors: `EINVAL`.
fn check_flags(flags: u32) -> Result<(), Errno> {
    let (known, exchange) = (
        libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE | libc::RENAME_WHITEOUT,
        libc::RENAME_EXCHANGE,
    );
    let conflict = flags & exchange != 0 && flags & (known & !exchange) != 0;
    if flags & !known != 0 || conflict { Err(Errno::EINVAL) } else { Ok(()) }
}

/// linkat(2): also of a descriptor, by `AT_EMPTY_PATH` or its name in `/proc/self/fd`.
fn linkat(core: &Core, call: &Call) -> Action {
    let flags = call.int(4);
    if let Some(opened) = descriptors::opened(core, call, 1, flags) {
        let to = locate(core, call, locate::at(2), Last::Keep);
        let caller = core.caller(call.tid());
        return Action::done(opened.and_then(|(inode, file)| match to? {
            Target::Virtual(Place::Vacant(vacant)) if !vacant.slash => {
                let file = (&inode, Some(file.as_fd()));
                files::names::link(&caller, file, &vacant.parent, &vacant.name)
            }
            Target::Virtual(Place::Inode(_)) => Err(Errno::EEXIST),
            _ => Err(Errno::EXDEV),
        }));
    }
    let last = if flags & libc::AT_SYMLINK_FOLLOW != 0 { Last::Follow } else { Last::Keep };
    two(core, call, Two { from: locate::at(0), to: locate::at(2), last, ..LINK })
}
