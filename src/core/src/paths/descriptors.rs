//! Calls about descriptors of virtual files: fstat(2), fchmod(2), fsync(2), getxattr by descriptor.
//!
//! They are trapped in processes only that have been given such a descriptor. Most descriptors are
//! the kernel's even there: one readlinkat(2) tells.

use std::{os::fd::OwnedFd, sync::Arc};

use umvu_abi::{
    Errno, GuestFd,
    files::{Attributes, Caller, Handle},
};
use umvu_tracer::api::{Action, Before, Call, Reply, Trap, Watch};

use super::{
    change, inspect, layout,
    lexical::PATH_MAX,
    locate, owners,
    resolve::{Last, Place},
    stat,
    times::{self, Times},
};
use crate::{
    Core,
    dispatch::{Handler, Row},
    files::{self, Held, Inode, fcntl},
};

const NOTE: &str = "virtual files as their file system says; others are native";

/// A row of a call that is trapped in processes that hold virtual files.
pub(crate) const fn watched(name: &'static str, handler: Handler) -> Row {
    let trap = Trap::Watched(Watch::Looks, Before::Never);
    Row { name, trap, interruptible: false, handler, note: NOTE }
}

/// A row of a call that changes what a file looks like, by a descriptor: rare, and trapped always, for
/// files of the host that a mount guards look like any other in a process.
const fn changing(name: &'static str, handler: Handler) -> Row {
    Row { name, trap: Trap::Always, interruptible: false, handler, note: NOTE }
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        watched("fstat", |core, call| match held(core, call, 0) {
            Ok(Some(held)) => stat::of_held(core, call, &held, 1),
            Ok(None) => stat::of_native(core, call),
            Err(errno) => errno.into(),
        }),
        watched("fstatfs", |core, call| {
            of_held(core, call, |held| inspect::statfs_of(call, &held.inode))
        }),
        changing("fchmod", |core, call| {
            let mode = call.int(1).cast_unsigned();
            let caller = core.caller(call.tid());
            or_native(
                changed(core, call, |held| files::change::chmod(&held.inode, &caller, mode)),
                || owners::fchmod(core, call, mode),
            )
        }),
        changing("fchown", |core, call| {
            let [uid, gid] = change::ids(call, 1);
            let caller = core.caller(call.tid());
            or_native(
                changed(core, call, |held| files::change::chown(&held.inode, &caller, uid, gid)),
                || owners::fchown(core, call, [uid, gid]),
            )
        }),
        watched("fsync", |core, call| done(core, call, |held| sync(held, false))),
        watched("fdatasync", |core, call| done(core, call, |held| sync(held, true))),
        watched("syncfs", |core, call| {
            done(core, call, |held| {
                core.objects.write_back(&held.inode.files);
                held.inode.files.ask()?.sync()
            })
        }),
        watched("fgetxattr", |core, call| {
            of_held(core, call, |held| {
                unless_removed(held, || inspect::get_xattr(core, call, &held.inode))
            })
        }),
        watched("flistxattr", |core, call| {
            of_held(core, call, |held| {
                unless_removed(held, || inspect::list_xattr(core, call, &held.inode))
            })
        }),
        changing("fsetxattr", |core, call| {
            or_native(
                of_guarded(core, call, |held| {
                    unless_removed(held, || change::set_xattr_of(core, call, &held.inode))
                }),
                || owners::set_xattr(core, call),
            )
        }),
        changing("fremovexattr", |core, call| {
            of_guarded(core, call, |held| {
                unless_removed(held, || change::remove_xattr_of(core, call, &held.inode))
            })
        }),
    ]
}

/// What is done about files of the host where a call is not one about a virtual file.
fn or_native(action: Action, native: impl FnOnce() -> Action) -> Action {
    if matches!(action, Action::Forward) { native() } else { action }
}

/// What the guest holds by a descriptor; None for what is the kernel's.
pub(crate) fn held(core: &Core, call: &Call, argument: usize) -> Result<Option<Held>, Errno> {
    held_by(core, call, call.fd(argument))
}

/// The descriptor of the caller that a path of procfs names.
fn named_fd(name: &[u8]) -> Option<GuestFd> {
    let folders = [&b"/proc/self/fd/"[..], b"/proc/thread-self/fd/"];
    let number = folders.into_iter().find_map(|folder| name.strip_prefix(folder))?;
    std::str::from_utf8(number).ok()?.parse().ok().map(GuestFd)
}

/// A file that the guest has open by a mount, with the descriptor itself; None for what is the kernel's.
/// `path` is that argument of a call with a directory before it, and names the descriptor.
pub(super) fn opened(
    core: &Core,
    call: &Call,
    path: usize,
    flags: i32,
) -> Option<Result<(Arc<Inode>, OwnedFd), Errno>> {
    let name = call.guest.read_string(call.addr(path), PATH_MAX).unwrap_or_default();
    let fd = match () {
        () if stat::is_empty_path(flags) && name.is_empty() => call.fd(path - 1),
        () if flags & libc::AT_SYMLINK_FOLLOW != 0 => named_fd(&name)?,
        () => return None,
    };
    let inode = match held_by(core, call, fd) {
        Ok(Some(held)) => held.inode,
        Ok(None) => named_by(core, call, fd)?,
        Err(errno) => return Some(Err(errno)),
    };
    let file = umvu_tracer::fetch_descriptor(call.tid().0, fd.0);
    Some(file.map(|file| (inode, file)).map_err(Errno::from))
}

/// The inode of a file that the guest has open by a mount; None for what is the kernel's.
pub(super) fn inode(core: &Core, call: &Call, argument: usize) -> Option<Arc<Inode>> {
    match held(core, call, argument) {
        Ok(Some(held)) => Some(held.inode),
        Ok(None) => named_by(core, call, call.fd(argument)),
        Err(_) => None,
    }
}

/// The inode by whose path the guest has opened a file of the host.
fn named_by(core: &Core, call: &Call, fd: GuestFd) -> Option<Arc<Inode>> {
    let native = core.objects.any_named().then(|| look_at(call, fd)).flatten()?;
    let inode = core.objects.named(&native)?;
    let file = umvu_tracer::fetch_descriptor(call.tid().0, fd.0).ok()?;
    fcntl::is_marked(file).then_some(inode)
}

fn held_by(core: &Core, call: &Call, fd: GuestFd) -> Result<Option<Held>, Errno> {
    if !core.objects.are_used() && !core.objects.any_dressed() {
        return Ok(None);
    }
    let link = if fd.0 == libc::AT_FDCWD { call.guest.cwd_link() } else { call.guest.fd_link(fd) };
    let Ok(link) = link else { return Ok(None) };
    if let Some(held) = core.objects.stands_for(&link) {
        return held.map(Some);
    }
    if core.objects.any_dressed()
        && (link.starts_with(b"/") || link.starts_with(b"socket:"))
        && let Some(native) = look_at(call, fd)
        && let Some((inode, handle)) = core.objects.dressed(&native)
    {
        return Ok(Some(Held { inode, direct: None, native: Some((native, handle)) }));
    }
    Ok(None)
}

/// What the kernel says about a descriptor of the guest.
pub(super) fn look_at(call: &Call, fd: GuestFd) -> Option<Attributes> {
    let found = std::fs::metadata(format!("/proc/{}/fd/{}", call.tid(), fd.0)).ok()?;
    Some(files::attributes::of_host(&found))
}

/// As [`held`], and what is found by the path that the kernel has for the descriptor.
fn guarded(core: &Core, call: &Call) -> Result<Option<Held>, Errno> {
    if let Some(held) = held(core, call, 0)? {
        return Ok(Some(held));
    }
    let territory = core.paths.territory(&core.view);
    let fd = call.fd(0);
    let Ok(link) = call.guest.fd_link(fd) else { return Ok(None) };
    if !link.starts_with(b"/") || !territory.has_files() || !territory.concerns(&link) {
        return Ok(None);
    }
    let place = locate::resolve_in(core, &territory, call.tid(), &link, Last::Keep);
    let (Ok(Place::Inode(found)), Some(native)) = (place, look_at(call, fd)) else {
        return Ok(None);
    };
    let looks = found.inode.attributes(&Caller::root())?;
    let same = (looks.dev, looks.ino) == (native.dev, native.ino);
    Ok(same.then(|| Held { inode: found.inode, direct: None, native: Some((native, Handle(0))) }))
}

/// Answers a call about the descriptor in argument 0, unless that is the kernel's.
pub(crate) fn of_held(core: &Core, call: &Call, answer: impl FnOnce(&Held) -> Action) -> Action {
    match held(core, call, 0) {
        Ok(Some(held)) => answer(&held),
        Ok(None) => Action::Forward,
        Err(errno) => errno.into(),
    }
}

/// A file of the host without a name is known to the kernel alone, by its descriptors.
fn unless_removed(held: &Held, answer: impl FnOnce() -> Action) -> Action {
    let is_alone = held.native.is_some() && held.inode.is_removed();
    if is_alone { Action::Forward } else { answer() }
}

/// Answers a call that changes what a file looks like.
fn of_guarded(core: &Core, call: &Call, answer: impl FnOnce(&Held) -> Action) -> Action {
    match guarded(core, call) {
        Ok(Some(held)) => {
            let action = answer(&held);
            // A copy may have been made: what the descriptor leads to is not what the guest has changed.
            if is_disguised(call, &held) { action.watched(Watch::Looks) } else { action }
        }
        Ok(None) => Action::Forward,
        Err(errno) => errno.into(),
    }
}

/// Whether a file of the host does not look as its inode does.
fn is_disguised(call: &Call, held: &Held) -> bool {
    let Some(native) = held.native.and_then(|_| look_at(call, call.fd(0))) else { return false };
    let looks = held.inode.attributes(&Caller::root());
    looks.is_ok_and(|looks| {
        let shown = |of: &Attributes| (of.dev, of.ino, of.mode, of.uid, of.gid);
        shown(&looks) != shown(&native)
    })
}

fn changed(core: &Core, call: &Call, work: impl FnOnce(&Held) -> Result<(), Errno>) -> Action {
    of_guarded(core, call, |held| Action::done(work(held)))
}

fn done(core: &Core, call: &Call, work: impl FnOnce(&Held) -> Result<(), Errno>) -> Action {
    of_held(core, call, |held| Action::done(work(held)))
}

/// A handle to speak to the file system about an open file.
pub(crate) fn handle_of(held: &Held) -> Handle {
    let native = held.native.as_ref().map(|(_, handle)| *handle);
    let given = held.direct.or(native);
    given.or_else(|| held.inode.content.lock().handle()).unwrap_or(Handle(0))
}

/// Brings a file to where it lasts. Errors: `EIO`, `ENOSPC`.
fn sync(held: &Held, data_only: bool) -> Result<(), Errno> {
    let inode = &held.inode;
    let fs = inode.files.ask()?;
    if inode.is_directory()? {
        return fs.fsyncdir(inode.node, data_only);
    }
    let mut content = inode.content.lock();
    content.note_reads(inode)?;
    content.write_back(inode)?;
    drop(content);
    fs.fsync(inode.node, handle_of(held), data_only)
}

/// futimens(3): utimensat(2) without a path.
pub(super) fn set_times(core: &Core, call: &Call, times: Times) -> Action {
    let caller = core.caller(call.tid());
    let set = |held: &Held| Action::done(files::change::set_times(&held.inode, &caller, times));
    of_held(core, call, |held| unless_removed(held, || set(held)))
}

/// stat(2) of a descriptor by `AT_EMPTY_PATH`; None when a path is given or the file is the kernel's.
pub(super) fn by_empty_path(core: &Core, call: &Call, path: usize) -> Option<Result<Held, Errno>> {
    let is_empty = call.addr(path).is_null()
        || call.guest.read_string(call.addr(path), 2).is_ok_and(|path| path.is_empty());
    if !is_empty {
        return None;
    }
    held(core, call, 0).transpose()
}

/// Bytes for the guest.
pub(crate) fn give(call: &Call, argument: usize, bytes: Vec<u8>, result: i64) -> Action {
    let writes = vec![(call.addr(argument), bytes)];
    Action::Return(Reply { result: Ok(result), writes })
}

/// The layout of a file as the caller sees it.
pub(super) fn encode(
    core: &Core,
    call: &Call,
    held: &Held,
    encode: fn(&layout::Attributes) -> Vec<u8>,
) -> Result<Vec<u8>, Errno> {
    let caller = core.caller(call.tid());
    let mut attributes = held.inode.attributes_by(&caller, held.direct)?;
    if let Some((native, _)) = held.native.filter(|_| held.inode.is_removed()) {
        // What is written to a file without a name is known to the kernel alone.
        (attributes.size, attributes.blocks) = (native.size, native.blocks);
        (attributes.atime, attributes.mtime) = (native.atime, native.mtime);
        attributes.ctime = native.ctime;
    }
    Ok(encode(&times::shown(core, (&attributes).into())))
}
