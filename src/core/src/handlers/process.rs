//! Calls by which a guest could take its own hypervisor hostage.

use umvu_abi::Errno;
use umvu_tracer::api::{Action, Call};

use crate::{
    Core,
    dispatch::{Row, always},
};

const PTRACE_ATTACH: u64 = 16;
const PTRACE_SEIZE: u64 = 0x4206;

pub(crate) fn rows() -> Vec<Row> {
    vec![always("ptrace", ptrace, "native, but never on the hypervisor itself")]
}

/// A guest that stopped a thread of umvu would wait for itself for ever.
fn ptrace(_core: &Core, call: &Call) -> Action {
    let attaches = matches!(call.syscall.args[0], PTRACE_ATTACH | PTRACE_SEIZE);
    let thread = std::path::PathBuf::from(format!("/proc/self/task/{}", call.int(1)));
    if attaches && thread.exists() { Errno::EPERM.into() } else { Action::Forward }
}
