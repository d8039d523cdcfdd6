//! chdir(2), fchdir(2), getcwd(2).
//!
//! The kernel holds the working directory. A virtual directory that the kernel has as well
//! (`/proc/net`, a merged directory) is entered there, and recognised by its path; in place of one
//! that it has not, its materialised directory is entered.

use std::os::unix::ffi::OsStringExt;

use umvu_abi::{Errno, tree::Entry};
use umvu_tracer::api::{Action, Call, Instead, Reply};

use super::{
    locate::{self, answer, os_path},
    open::stand_in,
    resolve::{Last, Place},
};
use crate::{
    Core,
    dispatch::{Row, always},
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
            Place::Node(_) => Errno::ENOTDIR.into(),
            Place::Missing(_) => Errno::ENOENT.into(),
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

/// Has the kernel enter another directory than the one that was named.
fn enter(mut path: Vec<u8>) -> Action {
    path.push(0);
    Action::Instead(Instead { number: libc::SYS_chdir, args: [0; 6], data: Some((0, path)) })
}

fn fchdir(core: &Core, call: &Call) -> Action {
    core.paths.threads.get(call.tid()).moves();
    Action::Forward
}

fn getcwd(core: &Core, call: &Call) -> Action {
    if !core.paths.directories.are_used() {
        return Action::Forward;
    }
    let Ok(link) = call.guest.cwd_link() else { return Action::Forward };
    let Some(path) = core.paths.directories.stands_for(&link) else { return Action::Forward };
    let mut path = match path {
        Ok(path) => path,
        Err(errno) => return errno.into(),
    };
    path.push(0);
    let room = usize::try_from(call.syscall.args[1]).unwrap_or(usize::MAX);
    if path.len() > room {
        return Errno::ERANGE.into();
    }
    let result = Ok(i64::try_from(path.len()).unwrap_or(0));
    Action::Return(Reply { result, writes: vec![(call.addr(0), path)] })
}
