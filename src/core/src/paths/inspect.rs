//! access(2), readlink(2), statfs(2), getxattr(2), listxattr(2) and their variants.

use umvu_abi::{Errno, tree::Entry};
use umvu_tracer::api::{Action, Call, Reply};

use super::{
    attributes::{self, Caller, Ids},
    host, layout,
    lexical::PATH_MAX,
    locate::{self, At, Target, answer, locate},
    resolve::{Last, Place},
    stat::last,
};
use crate::{
    Core,
    dispatch::{Row, always},
};

/// `f_type` of procfs, sysfs and tmpfs (statfs(2)).
const PROC_SUPER_MAGIC: i64 = 0x9fa0;
const SYSFS_MAGIC: i64 = 0x6265_6572;
const TMPFS_MAGIC: i64 = 0x0102_1994;

pub(super) fn rows() -> Vec<Row> {
    const XATTR: &str = "virtual files have no extended attributes";
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
            "links in generated trees; /proc/PID/cwd and fd of virtual directories",
        ),
        always(
            "readlinkat",
            |core, call| read_link(core, call, locate::at(0), 2),
            "links in generated trees; /proc/PID/cwd and fd of virtual directories",
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

fn read_link(core: &Core, call: &Call, at: At, buffer: usize) -> Action {
    let give = |target: Result<Vec<u8>, Errno>| give_link(call, target, buffer);
    match locate(core, call, at, Last::Keep) {
        Ok(Target::Kernel) => give_own_link(core, call, at, buffer),
        Ok(Target::Elsewhere(path)) => give(host::read_link(&path)),
        Ok(Target::Virtual(Place::Entry(entry))) => match entry.entry {
            Entry::Link(target) => give(Ok(target.into_bytes())),
            _ => Errno::EINVAL.into(),
        },
        Ok(Target::Virtual(Place::Missing(_))) => Errno::ENOENT.into(),
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
    if !core.paths.directories.are_used() {
        return Action::Forward;
    }
    let path = call.guest.read_string(call.addr(at.path), PATH_MAX).unwrap_or_default();
    if !path.starts_with(b"/proc/") {
        return Action::Forward;
    }
    let Ok(place) = locate::resolve(core, call.tid(), &path, Last::Keep) else {
        return Action::Forward;
    };
    let Ok(link) = host::read_link(place.path()) else { return Action::Forward };
    match core.paths.directories.stands_for(&link) {
        Some(Ok(path)) => give_link(call, Ok(path), buffer),
        _ => Action::Forward,
    }
}

fn statfs(core: &Core, call: &Call) -> Action {
    let give = |kind| {
        let writes = vec![(call.addr(1), layout::statfs(kind))];
        Action::Return(Reply { result: Ok(0), writes })
    };
    let of_place = |place: Place| match place {
        Place::Missing(_) => Errno::ENOENT.into(),
        Place::Entry(entry) if entry.path.starts_with(b"/sys") => give(SYSFS_MAGIC),
        Place::Entry(_) => give(PROC_SUPER_MAGIC),
        _ => give(TMPFS_MAGIC),
    };
    // The numbers of another file system matter to nobody who stands in a materialised directory.
    answer(core, call, locate::path(0), Last::Follow, of_place, |_| give(TMPFS_MAGIC))
}

fn no_xattr(core: &Core, call: &Call, last: Last) -> Action {
    let none = |place: Place| match place {
        Place::Missing(_) => Errno::ENOENT.into(),
        _ => Errno::ENODATA.into(),
    };
    answer(core, call, locate::path(0), last, none, |_| Errno::ENODATA.into())
}

fn no_list(core: &Core, call: &Call, last: Last) -> Action {
    let none = |place: Place| match place {
        Place::Missing(_) => Errno::ENOENT.into(),
        _ => Action::value(0),
    };
    answer(core, call, locate::path(0), last, none, |_| Action::value(0))
}
