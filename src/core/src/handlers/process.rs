//! Calls by which a guest could take its own hypervisor hostage, or shut it out.

use umvu_abi::Errno;
use umvu_tracer::api::{Action, Call, Trap};

use super::capabilities;
use crate::{
    Core,
    dispatch::{Row, always},
};

const PTRACE_ATTACH: u64 = 16;
const PTRACE_SEIZE: u64 = 0x4206;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        always("ptrace", ptrace, "native, but never on the hypervisor itself"),
        Row {
            name: "prctl",
            // The first eight options, PR_GET_DUMPABLE and PR_SET_DUMPABLE among them.
            trap: Trap::Masked { index: 0, mask: !7, value: 0 },
            interruptible: false,
            handler: prctl,
            note: "native; PR_SET_DUMPABLE is noted only, so that the guest's memory stays readable",
        },
    ]
}

/// PR_SET_DUMPABLE(2const), PR_GET_DUMPABLE(2const).
fn prctl(core: &Core, call: &Call) -> Action {
    if let Some(action) = capabilities::prctl(core, call) {
        return action;
    }
    let task = core.tasks.get(call.tid());
    match (call.int(0), call.syscall.args[1]) {
        (libc::PR_GET_DUMPABLE, _) => Action::value(i64::from(task.is_dumpable())),
        (libc::PR_SET_DUMPABLE, wanted @ (0 | 1)) => {
            task.set_dumpable(wanted == 1);
            Action::value(0)
        }
        (libc::PR_SET_DUMPABLE, _) => Errno::EINVAL.into(),
        _ => Action::Forward,
    }
}

/// A guest that stopped a thread of umvu would wait for itself for ever.
fn ptrace(_core: &Core, call: &Call) -> Action {
    let attaches = matches!(call.syscall.args[0], PTRACE_ATTACH | PTRACE_SEIZE);
    let thread = std::path::PathBuf::from(format!("/proc/self/task/{}", call.int(1)));
    if attaches && thread.exists() { Errno::EPERM.into() } else { Action::Forward }
}
