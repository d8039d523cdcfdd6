//! `/proc/PID/status` of a guest with virtual credentials.

use umvu_abi::Tid;
use umvu_tracer::api::{Action, Call, FdReply};

use super::{
    content,
    lexical::{components, normalise, number},
    locate::{self, At},
    open::How,
};
use crate::{Core, identity::status};

/// Opens the file, when a path of the kernel is one; None for all other paths.
pub(super) fn open(core: &Core, call: &Call, at: At, how: How) -> Option<Action> {
    if how.writes() || !core.has_virtual_credentials() {
        return None;
    }
    let path = locate::absolute(core, call, at).ok()?;
    if !path.starts_with(b"/proc/") || !path.ends_with(b"/status") {
        return None;
    }
    let tid = whose(core, call, &normalise(&path))?;
    let who = core.credentials(tid)?;
    let text = status::text(tid);
    let file = content::empty(format!("/proc/{tid}/status").as_bytes()).ok()?;
    let fd = content::readable(file, &status::rewrite(&text, &who), 0o444, how.flags).ok()?;
    let close_on_exec = how.has(nix::fcntl::OFlag::O_CLOEXEC);
    Some(Action::ReturnFd(FdReply { fd, close_on_exec, writes: Vec::new(), handing: None }))
}

/// The thread that a path of procfs tells about.
fn whose(core: &Core, call: &Call, path: &[u8]) -> Option<Tid> {
    let names: Vec<&[u8]> = components(path).skip(1).collect();
    let group = |name: &[u8]| match name {
        b"self" => Some(core.paths.leader(call.tid())),
        b"thread-self" => Some(call.tid()),
        name => number(name).map(Tid),
    };
    match names.as_slice() {
        [process, b"status"] => group(process),
        [_, b"task", thread, b"status"] => number(thread).map(Tid),
        _ => None,
    }
}
