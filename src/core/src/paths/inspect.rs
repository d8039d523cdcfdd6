//! access(2), readlink(2), statfs(2), getxattr(2), listxattr(2) and their variants.

use std::sync::Arc;

use umvu_abi::{Errno, files::READ, tree::Entry};
use umvu_tracer::api::{Action, Call, Reply};

use super::{
    attributes::{self, Caller, Ids},
    descriptors, host, layout,
    lexical::PATH_MAX,
    locate::{self, At, Target, answer, locate},
    magic,
    resolve::{Found, Last, Place},
    stat::last,
};
use crate::{
    Core,
    dispatch::{Row, always},
    files::{self, Inode},
};

/// `f_type` of procfs, sysfs and tmpfs (statfs(2)).
const PROC_SUPER_MAGIC: i64 = 0x9fa0;
const SYSFS_MAGIC: i64 = 0x6265_6572;
const TMPFS_MAGIC: i64 = 0x0102_1994;

pub(super) fn rows() -> Vec<Row> {
    const XATTR: &str = "of mounted file systems; generated files have none";
    vec![
        always(
            "access",
            |core, call| access(core, call, locate::path(0), 1, 0),
            "by the mode bits of virtual files",
        ),
        always(
            "faccessat",
            |core, call| access(core, call, locate::at(0), 2, 0),
            "by the mode bits of virtual files",
        ),
        always(
            "faccessat2",
            |core, call| access(core, call, locate::at(0), 2, call.int(3)),
            "by the mode bits of virtual files",
        ),
        always(
            "readlink",
            |core, call| read_link(core, call, locate::path(0), 1),
            "links in generated trees; /proc/PID/cwd, exe, fd and map_files of virtual files",
        ),
        always(
            "readlinkat",
            |core, call| read_link(core, call, locate::at(0), 2),
            "links in generated trees; /proc/PID/cwd, exe, fd and map_files of virtual files",
        ),
        always("statfs", statfs, "virtual files look as on procfs, sysfs or tmpfs"),
        always("getxattr", |core, call| no_xattr(core, call, Last::Follow), XATTR),
        always("lgetxattr", |core, call| no_xattr(core, call, Last::Keep), XATTR),
        always("listxattr", |core, call| no_list(core, call, Last::Follow), XATTR),
        always("llistxattr", |core, call| no_list(core, call, Last::Keep), XATTR),
    ]
}

fn access(core: &Core, call: &Call, at: At, mode: usize, flags: i32) -> Action {
    let wanted = call.int(mode);
    let ids = if flags & libc::AT_EACCESS == 0 { Ids::Real } else { Ids::Effective };
    let of_place = |place: Place| {
        if let Place::Inode(found) = &place {
            return access_of(core, call, found, wanted, ids);
        }
        let Some(file) = attributes::of(&place) else { return Errno::ENOENT.into() };
        let wanted = wanted.cast_unsigned();
        if wanted > 7 {
            return Errno::EINVAL.into();
        }
        let allowed = wanted == 0 || Caller::of(call.tid(), ids).may(&file, wanted);
        Action::done(if allowed { Ok(()) } else { Err(Errno::EACCES) })
    };
    let last = last(flags);
    answer(core, call, at, last, of_place, |path| Action::done(host::access(&path, wanted, last)))
}

fn access_of(core: &Core, call: &Call, found: &Found, wanted: i32, ids: Ids) -> Action {
    let Ok(wanted @ 0..8) = u32::try_from(wanted) else { return Errno::EINVAL.into() };
    let mut caller = core.caller(call.tid());
    if ids == Ids::Real {
        (caller.uid, caller.gid) = match core.credentials(call.tid()) {
            Some(who) => (who.uid.real, who.gid.real),
            None => Caller::of(call.tid(), ids).ids(),
        };
    }
    Action::done(files::access::check(&found.inode, &caller, wanted))
}

fn link_of(core: &Core, call: &Call, inode: &Arc<Inode>) -> Result<Vec<u8>, Errno> {
    if inode.kind()? != libc::S_IFLNK {
        return Err(Errno::EINVAL);
    }
    let target = inode.files.ask()?.readlink(&core.caller(call.tid()), inode.node)?;
    inode.was_read();
    Ok(target)
}

fn read_link(core: &Core, call: &Call, at: At, buffer: usize) -> Action {
    // readlinkat(fd, "") of a link that was opened by O_PATH.
    if at.directory.is_some()
        && let Some(held) = descriptors::by_empty_path(core, call, at.path)
    {
        let target = held.and_then(|held| link_of(core, call, &held.inode));
        let target =
            target.map_err(|errno| if errno == Errno::EINVAL { Errno::ENOENT } else { errno });
        return give_link(call, target, buffer);
    }
    let give = |target: Result<Vec<u8>, Errno>| give_link(call, target, buffer);
    match locate(core, call, at, Last::Keep) {
        Ok(Target::Kernel) => give_own_link(core, call, at, buffer),
        Ok(Target::Elsewhere(path)) => {
            give(magic::shown(core, call.tid(), &path).map_or_else(|| host::read_link(&path), Ok))
        }
        Ok(Target::Virtual(Place::Entry(entry))) => match entry.entry {
            Entry::Link(target) => give(Ok(target.into_bytes())),
            _ => Errno::EINVAL.into(),
        },
        Ok(Target::Virtual(Place::Inode(found))) => give(link_of(core, call, &found.inode)),
        Ok(Target::Virtual(Place::Missing(_) | Place::Vacant(_))) => Errno::ENOENT.into(),
        Ok(Target::Virtual(_)) => Errno::EINVAL.into(),
        Err(errno) => errno.into(),
    }
}

fn give_link(call: &Call, target: Result<Vec<u8>, Errno>, buffer: usize) -> Action {
    // The kernel takes the size as an int.
    let room = match usize::try_from(call.int(buffer + 1)) {
        Ok(room) if room > 0 => room,
        _ => return Errno::EINVAL.into(),
    };
    match target {
        Ok(mut target) => {
            target.truncate(room);
            let result = Ok(i64::try_from(target.len()).unwrap_or(0));
            Action::Return(Reply { result, writes: vec![(call.addr(buffer), target)] })
        }
        Err(errno) => errno.into(),
    }
}

/// The links of procfs to the working directory and to descriptors tell where a materialised
/// directory is: say what it stands for.
fn give_own_link(core: &Core, call: &Call, at: At, buffer: usize) -> Action {
    let none = !core.paths.directories.are_used() && !core.objects.are_used();
    if none && !core.objects.any_named() && !core.paths.threads.are_rooted() {
        return Action::Forward;
    }
    let path = call.guest.read_string(call.addr(at.path), PATH_MAX).unwrap_or_default();
    if !path.starts_with(b"/proc/") {
        return Action::Forward;
    }
    let Ok(place) = locate::resolve(core, call.tid(), &path, Last::Keep) else {
        return Action::Forward;
    };
    match magic::shown(core, call.tid(), place.path()) {
        Some(target) => give_link(call, Ok(target), buffer),
        None => Action::Forward,
    }
}

fn statfs(core: &Core, call: &Call) -> Action {
    let give = |kind| {
        let writes = vec![(call.addr(1), layout::statfs(kind))];
        Action::Return(Reply { result: Ok(0), writes })
    };
    let of_place = |place: Place| match place {
        Place::Missing(_) | Place::Vacant(_) => Errno::ENOENT.into(),
        Place::Inode(found) => statfs_of(call, &found.inode),
        Place::Entry(entry) if entry.path.starts_with(b"/sys") => give(SYSFS_MAGIC),
        Place::Entry(_) => give(PROC_SUPER_MAGIC),
        _ => give(TMPFS_MAGIC),
    };
    // The numbers of another file system matter to nobody who stands in a materialised directory.
    answer(core, call, locate::path(0), Last::Follow, of_place, |_| give(TMPFS_MAGIC))
}

/// statfs(2) of a mounted file system.
pub(super) fn statfs_of(call: &Call, inode: &Inode) -> Action {
    let files = &inode.files;
    match files.statfs(inode.node) {
        Ok(found) => {
            let flags = files.flags().told();
            descriptors::give(call, 1, layout::statfs_of(&found, files.dev, flags), 0)
        }
        Err(errno) => errno.into(),
    }
}

/// `XATTR_NAME_MAX`, with its NUL.
pub(super) const XATTR_NAME: usize = 256;
/// `XATTR_SIZE_MAX`.
pub(super) const XATTR_SIZE: usize = 65_536;

/// The name of an extended attribute. Errors: `ERANGE`, `EFAULT`.
pub(super) fn xattr_name(call: &Call) -> Result<Vec<u8>, Errno> {
    match call.guest.read_string(call.addr(1), XATTR_NAME) {
        Ok(name) if !name.is_empty() => Ok(name),
        Ok(_) | Err(Errno::ENAMETOOLONG) => Err(Errno::ERANGE),
        Err(errno) => Err(errno),
    }
}

/// Bytes into a buffer whose size may be 0, which asks for the length. Errors: `ERANGE`.
fn give_sized(call: &Call, buffer: usize, bytes: Result<Vec<u8>, Errno>) -> Action {
    let room = usize::try_from(call.syscall.args[buffer + 1]).unwrap_or(usize::MAX);
    match bytes {
        Ok(bytes) if room == 0 => Action::value(i64::try_from(bytes.len()).unwrap_or(0)),
        Ok(bytes) if bytes.len() > room => Errno::ERANGE.into(),
        Ok(bytes) => {
            let count = i64::try_from(bytes.len()).unwrap_or(0);
            descriptors::give(call, buffer, bytes, count)
        }
        Err(errno) => errno.into(),
    }
}

/// getxattr(2) of a file of a mounted file system.
pub(super) fn get_xattr(core: &Core, call: &Call, inode: &Arc<Inode>) -> Action {
    let caller = core.caller(call.tid());
    let value = xattr_name(call).and_then(|name| {
        files::change::check_xattr(inode, &caller, &name, READ)?;
        inode.files.ask()?.getxattr(&caller, inode.node, &name)
    });
    give_sized(call, 2, value)
}

/// listxattr(2) of a file of a mounted file system.
pub(super) fn list_xattr(core: &Core, call: &Call, inode: &Arc<Inode>) -> Action {
    let caller = core.caller(call.tid());
    let names = inode.files.ask().and_then(|fs| match fs.listxattr(&caller, inode.node) {
        // Linux has no names for a file system without attributes.
        Err(Errno::EOPNOTSUPP) => Ok(Vec::new()),
        names => names,
    });
    let shown = |name: &Vec<u8>| caller.is_privileged() || !name.starts_with(b"trusted.");
    let joined = names.map(|names| {
        let names = names.into_iter().filter(shown);
        names.flat_map(|name| [name, vec![0]].concat()).collect()
    });
    give_sized(call, 1, joined)
}

fn no_xattr(core: &Core, call: &Call, last: Last) -> Action {
    let none = |place: Place| match place {
        Place::Missing(_) | Place::Vacant(_) => Errno::ENOENT.into(),
        Place::Inode(found) => get_xattr(core, call, &found.inode),
        _ => Errno::ENODATA.into(),
    };
    answer(core, call, locate::path(0), last, none, |path| {
        let value = xattr_name(call).and_then(|name| host::get_xattr(&path, &name, last));
        give_sized(call, 2, value)
    })
}

fn no_list(core: &Core, call: &Call, last: Last) -> Action {
    let none = |place: Place| match place {
        Place::Missing(_) | Place::Vacant(_) => Errno::ENOENT.into(),
        Place::Inode(found) => list_xattr(core, call, &found.inode),
        _ => Action::value(0),
    };
    answer(core, call, locate::path(0), last, none, |path| {
        give_sized(call, 1, host::list_xattr(&path, last))
    })
}
