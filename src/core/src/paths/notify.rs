//! inotify_add_watch(2) and fanotify_mark(2) of paths in the view.
//!
//! The descriptor is the kernel's, and what it reads. Here is only decided what the kernel watches:
//! see [`crate::files::shadows`].

use std::{collections::HashSet, fs, os::fd::AsFd, path::Path, sync::Arc};

use umvu_abi::{
    Errno,
    files::{Caller, READ, Seen},
};
use umvu_tracer::api::{Action, Call};

use super::{
    locate::{self, answer, os_path},
    open,
    resolve::{Last, Place},
};
use crate::{
    Core,
    dispatch::{Row, always},
    files::{Inode, access, fcntl, shadows, whole::as_caller},
};

pub(super) fn rows() -> Vec<Row> {
    vec![
        always(
            "inotify_add_watch",
            add_watch,
            "also of files of mounts; generated ones stay still",
        ),
        always("fanotify_mark", fanotify, "ENODEV for virtual files; others are the kernel's"),
    ]
}

fn add_watch(core: &Core, call: &Call) -> Action {
    let mask = call.int(2).cast_unsigned();
    let last = if mask & libc::IN_DONT_FOLLOW == 0 { Last::Follow } else { Last::Keep };
    let caller = core.caller(call.tid());
    let of_place = |place: Place| {
        let done = match &place {
            Place::Inode(found) => of_inode(core, call, &caller, &found.inode, mask),
            Place::Directory(_) | Place::Merged(_) => {
                open::stand_in(core, &place).and_then(|path| add(call, &path, mask))
            }
            Place::Missing(_) | Place::Vacant(_) => Err(Errno::ENOENT),
            _ if mask & libc::IN_ONLYDIR != 0 => Err(Errno::ENOTDIR),
            _ => still(core, call, place.path(), mask),
        };
        done.into()
    };
    let elsewhere = |path: Vec<u8>| as_caller(&caller, || add(call, os_path(&path), mask)).into();
    answer(core, call, locate::path(1), last, of_place, elsewhere)
}

fn of_inode(
    core: &Core,
    call: &Call,
    caller: &Caller,
    inode: &Arc<Inode>,
    mask: u32,
) -> Result<i64, Errno> {
    if mask & libc::IN_ONLYDIR != 0 && !inode.is_directory()? {
        return Err(Errno::ENOTDIR);
    }
    access::check(inode, caller, READ)?;
    let (inode, seen) = shadows::innermost(inode);
    if let Seen::Host(path) = seen {
        return as_caller(caller, || add(call, os_path(&path), mask));
    }
    core.objects.watch_by(&inode, &seen, || watched(core), |shadow| add(call, shadow, mask))
}

/// Watches for the guest, by its own descriptor. Errors: those of inotify_add_watch(2).
fn add(call: &Call, path: &Path, mask: u32) -> Result<i64, Errno> {
    let guests = call.guest.fetch_fd(call.fd(0))?;
    fcntl::add_watch(guests.as_fd(), path, mask)
}

/// A generated file: nothing of it is told, as of procfs.
fn still(core: &Core, call: &Call, path: &[u8], mask: u32) -> Result<i64, Errno> {
    add(call, &core.objects.still(path)?, mask)
}

/// The `st_ino` of all that guests watch.
fn watched(core: &Core) -> HashSet<u64> {
    let mut found = HashSet::new();
    for tid in core.tasks.ids() {
        let fds = fs::read_dir(format!("/proc/{tid}/fd")).into_iter().flatten().flatten();
        for fd in fds {
            let is_inotify = fs::read_link(fd.path())
                .is_ok_and(|link| link.as_os_str().as_encoded_bytes() == b"anon_inode:inotify");
            if !is_inotify {
                continue;
            }
            let info = format!("/proc/{tid}/fdinfo/{}", fd.file_name().to_string_lossy());
            let info = fs::read_to_string(info).unwrap_or_default();
            let inodes = info.split_whitespace().filter_map(|word| word.strip_prefix("ino:"));
            found.extend(inodes.filter_map(|number| u64::from_str_radix(number, 16).ok()));
        }
    }
    found
}

/// What fanotify(7) tells are handles of files, which virtual ones do not have; so it is with the
/// kernel's FUSE.
fn fanotify(core: &Core, call: &Call) -> Action {
    let flags = call.int(1).cast_unsigned();
    if call.addr(4).is_null() {
        return Action::Forward;
    }
    let last = if flags & libc::FAN_MARK_DONT_FOLLOW == 0 { Last::Follow } else { Last::Keep };
    let of_place = |place: Place| match place {
        Place::Missing(_) | Place::Vacant(_) => Errno::ENOENT.into(),
        _ => Errno::ENODEV.into(),
    };
    answer(core, call, locate::at(3), last, of_place, |_| Errno::ENODEV.into())
}
