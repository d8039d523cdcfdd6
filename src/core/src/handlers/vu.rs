//! The VU calls: insmod, rmmod, lsmod; vuctl and msocket have files of their own.

use umvu_abi::{Errno, module::MountError, vu};
use umvu_tracer::api::{Action, Call, Reply, SlowHandler};

use super::{msocket, vuctl};
use crate::{
    Core,
    dispatch::{Row, always},
    guest,
};

const NAME_LIMIT: usize = 4096;

pub(crate) fn rows() -> [(i32, Row); 5] {
    [
        (vu::SYS_INSMOD, always("insmod", insmod, "loads a module")),
        (vu::SYS_RMMOD, always("rmmod", rmmod, "unloads a module")),
        (vu::SYS_LSMOD, always("lsmod", lsmod, "lists modules")),
        (vu::SYS_VUCTL, always("vuctl", vuctl::vuctl, "information, name, debug tags")),
        (
            vu::SYS_MSOCKET,
            always("msocket", msocket::msocket, "a socket of a stack; default stack"),
        ),
    ]
}

/// Returns 0 or the error, and keeps its reason for `VUCTL_LAST_ERROR`.
pub(crate) fn report(core: &Core, call: &Call, result: Result<(), MountError>) -> Action {
    let task = core.tasks.get(call.tid());
    match result {
        Ok(()) => {
            task.set_last_error("");
            Action::value(0)
        }
        Err(error) => {
            task.set_last_error(error.reason);
            Action::error(error.errno)
        }
    }
}

/// Copies a text to a guest's buffer: NULL and 0 ask for the size with its NUL; a short buffer
/// gets a truncated, terminated text. Returns the size with its NUL.
pub(crate) fn text_out(call: &Call, text: &str, buffer: usize, length: usize) -> Action {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let at = call.addr(buffer);
    let room = usize::try_from(call.syscall.args[length]).unwrap_or(usize::MAX);
    if at.is_null() || room == 0 {
        return Action::value(size);
    }
    if bytes.len() > room {
        bytes.truncate(room);
        bytes[room - 1] = 0;
    }
    Action::Return(Reply { result: Ok(size), writes: vec![(at, bytes)] })
}

/// The outcome in words, for debug lines.
pub(crate) fn outcome(result: &Result<(), MountError>) -> String {
    result.as_ref().map_or_else(|error| error.reason.clone(), |()| "done".to_owned())
}

fn insmod(core: &Core, call: &Call) -> Action {
    let name = match guest::read_text(call, 0, NAME_LIMIT) {
        Ok(name) => name,
        Err(errno) => return errno.into(),
    };
    // All guests are interrupted when more calls are to be trapped, the caller too: its call must not be
    // made twice.
    match core.shared().filter(|_| core.is_armed()) {
        Some(core) => {
            let call = call.clone();
            Action::Slow(SlowHandler(Box::new(move || insert(&core, &call, &name))))
        }
        None => insert(core, call, &name),
    }
}

fn insert(core: &Core, call: &Call, name: &str) -> Action {
    let result = core.insert_module(name, call.int(1) != 0);
    core.say(call.tid(), b'm', || format!("insert {name}: {}", outcome(&result)));
    if result.is_ok() {
        core.arm();
    }
    report(core, call, result)
}

fn rmmod(core: &Core, call: &Call) -> Action {
    match guest::read_text(call, 0, NAME_LIMIT) {
        Ok(name) => {
            let result = core.remove_module(&name);
            core.say(call.tid(), b'm', || format!("remove {name}: {}", outcome(&result)));
            report(core, call, result)
        }
        Err(errno) => errno.into(),
    }
}

fn lsmod(core: &Core, call: &Call) -> Action {
    text_out(call, &core.view.list(), 0, 1)
}

/// `EINVAL`, for tags that do not exist.
pub(crate) const UNKNOWN: Errno = Errno::EINVAL;
