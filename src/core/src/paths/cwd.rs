//! chdir(2), fchdir(2), getcwd(2).
//!
//! The kernel holds the working directory. A virtual directory that the kernel has as well
//! (`/proc/net`, a merged directory) is entered there, and recognised by its path; one that it has
//! not cannot be entered by a call that is only answered: see [`chdir`].

use umvu_abi::{Errno, tree::Entry};
use umvu_tracer::api::{Action, Call, Reply};

use super::{
    locate::{self, answer},
    resolve::{Last, Place},
};
use crate::{
    Core,
    dispatch::{Row, always},
};

pub(super) fn rows() -> Vec<Row> {
    vec![
        always("chdir", chdir, "directories that the kernel has too; others are ENOENT"),
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
            _ => Action::Forward,
        },
        // A name in a materialised directory is entered there; `..` leads out of it.
        |_| Action::Forward,
    );
    if matches!(action, Action::Forward) {
        core.paths.threads.get(call.tid()).moves();
    }
    action
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
