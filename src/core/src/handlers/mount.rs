//! mount(2) and umount2(2).

use umvu_abi::{
    Errno,
    module::{MountError, MountRequest},
};
use umvu_tracer::api::{Action, Call, SlowHandler};

use super::vu::{outcome, report};
use crate::{
    Core,
    dispatch::{Row, always},
    guest,
};

const PATH_LIMIT: usize = 4096;
/// The kernel copies one page of mount data.
const DATA_LIMIT: usize = 4096;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        always("mount", mount, "types of loaded modules; others are the kernel's"),
        always("umount2", umount, "virtual mounts, MNT_FORCE; others are the kernel's"),
    ]
}

fn mount(core: &Core, call: &Call) -> Action {
    let fstype = match guest::read_optional_text(call, 2, PATH_LIMIT) {
        Ok(fstype) => fstype,
        Err(errno) => return errno.into(),
    };
    if !core.view.serves(&fstype) {
        core.tasks.get(call.tid()).set_last_error("");
        return Action::Forward;
    }
    let request = match decode(core, call, fstype) {
        Ok(request) => request,
        Err(errno) => return errno.into(),
    };
    // Opening a network may take a while (a handshake with a switch).
    let Some(core) = core.shared() else { return Errno::EIO.into() };
    let call = call.clone();
    Action::Slow(SlowHandler(Box::new(move || {
        let what = format!("mount {} {} at {}", request.fstype, request.source, request.target);
        let result = core.view.mount(request);
        core.publish_mounts();
        core.say(call.tid(), b'N', || format!("{what}: {}", outcome(&result)));
        report(&core, &call, result)
    })))
}

fn decode(core: &Core, call: &Call, fstype: String) -> Result<MountRequest, Errno> {
    let target = guest::read_text(call, 1, PATH_LIMIT)?;
    Ok(MountRequest {
        source: guest::read_optional_text(call, 0, PATH_LIMIT)?,
        target: core.paths.absolute(call, &target)?,
        fstype,
        flags: call.syscall.args[3],
        data: guest::read_optional_text(call, 4, DATA_LIMIT)?,
        view: String::new(),
    })
}

fn umount(core: &Core, call: &Call) -> Action {
    let target = match guest::read_text(call, 0, PATH_LIMIT)
        .and_then(|target| core.paths.absolute(call, &target))
    {
        Ok(target) => target,
        Err(errno) => return errno.into(),
    };
    if core.view.mount_at(&target).is_none() {
        core.tasks.get(call.tid()).set_last_error("");
        return Action::Forward;
    }
    let Some(core) = core.shared() else { return Errno::EIO.into() };
    let force = call.int(1) & libc::MNT_FORCE != 0;
    let call = call.clone();
    Action::Slow(SlowHandler(Box::new(move || {
        let result = release(&core, &target, force);
        core.publish_mounts();
        core.say(call.tid(), b'N', || format!("unmount {target}: {}", outcome(&result)));
        report(&core, &call, result)
    })))
}

/// Takes a stack away: `EBUSY` while sockets or processes use it, unless forced.
fn release(core: &Core, target: &str, force: bool) -> Result<(), MountError> {
    core.sockets.sweep();
    let mount = core.view.umount(target, &|mount| {
        let sockets = core.sockets.count_of(mount) + mount.stack().users();
        let tasks = core.tasks.users_of(mount);
        (!force && sockets + tasks > 0).then(|| {
            format!("in use by {sockets} sockets and {tasks} processes (vuumount -f closes them)")
        })
    })?;
    core.sockets.close_all_of(&mount);
    core.tasks.leave_stack(&mount);
    mount.stack().stop();
    Ok(())
}
