//! `/etc/resolv.conf` and `/etc/hosts` of each stack: name servers are a matter of the network.
//!
//! A process whose default stack for the internet families has files of its own gets these, under
//! the names that it knows; where there is none yet, the host's. They are regular files in the
//! private directory ([`files`]), so the kernel serves them: an open is answered with a descriptor,
//! other calls are made anew with the other path ([`calls`]). Names that begin with `resolv.conf`
//! belong to it: programs write a new file and rename it.
//!
//! What is not changed: the listing of `/etc`, extended attributes, and the working directory.
//! Paths of processes on other stacks, and all but these names, are not looked at any further.

mod calls;
mod files;
mod remember;

use std::{borrow::Cow, sync::Arc};

use umvu_abi::net::ResolvConf;
use umvu_tracer::api::{Action, Call};

use self::calls::Kind;
use crate::{Core, view::Mount};

pub use files::Files;

/// The longest path.
const PATH_MAX: usize = 4096;

/// Answers a call about a file of the caller's stack; every other call it gives back, as it is to be
/// handled.
pub(crate) fn redirect<'a>(core: &Core, call: &'a Call) -> Result<Action, Cow<'a, Call>> {
    let known = || {
        let kind = calls::kind(call.syscall.number)?;
        let mount = network_of(core, call)?;
        let told = mount.stack().resolv_conf()?;
        Some((kind, mount, told))
    };
    let Some((kind, mount, told)) = known() else { return Err(Cow::Borrowed(call)) };
    let call = remember::remembering(call);
    answer(core, &call, kind, &mount, &told).ok_or(Cow::Owned(call))
}

fn answer(
    core: &Core,
    call: &Call,
    kind: Kind,
    mount: &Mount,
    told: &ResolvConf,
) -> Option<Action> {
    let name = kind.paths().into_iter().find_map(|place| owned_name(core, call, place))?;
    let folder = core.etc.folder(mount, told)?;
    tracing::debug!(%name, stack = %mount.target, "a file of a stack");
    match kind {
        Kind::Open(at) => calls::open(call, &folder, &name, at),
        Kind::OpenHow(at) => calls::open_how(call, &folder, &name, at),
        Kind::Create(at) => calls::create(call, &folder, &name, at),
        Kind::Look(at) => calls::look(call, &folder, &name, at),
        Kind::Change(at) => calls::change(call, &folder, &name, at),
        Kind::Rename(from, to) => calls::rename(core, call, &folder, from, to),
    }
}

/// The stack that the caller's names are resolved on.
fn network_of(core: &Core, call: &Call) -> Option<Arc<Mount>> {
    let stacks = core.tasks.get(call.tid()).stacks();
    [libc::AF_INET, libc::AF_INET6].iter().find_map(|family| stacks.get(family).cloned())
}

/// Where a call has a path: the argument, and that of the directory it starts at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    path: usize,
    directory: Option<usize>,
}

/// The name in `/etc` that a path of a call means, if it is one of ours.
fn owned_name(core: &Core, call: &Call, place: Place) -> Option<String> {
    if core.paths.root(call.tid()).is_some() {
        // Another tree has an /etc of its own.
        return None;
    }
    let path = call.guest.read_string(call.addr(place.path), PATH_MAX).ok()?;
    let path = std::str::from_utf8(&path).ok()?;
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    if !is_ours(name) {
        return None;
    }
    let is_etc = if path.starts_with('/') {
        directory.split('/').filter(|part| !part.is_empty() && *part != ".").eq(["etc"])
    } else {
        matches!(directory, "" | ".") && starts_at_etc(core, call, place)
    };
    is_etc.then(|| name.to_owned())
}

fn is_ours(name: &str) -> bool {
    name == "hosts" || name.starts_with("resolv.conf")
}

fn starts_at_etc(_core: &Core, call: &Call, place: Place) -> bool {
    let start = match place.directory {
        Some(n) if call.fd(n).0 != libc::AT_FDCWD => call.guest.fd_link(call.fd(n)),
        _ => call.guest.cwd_link(),
    };
    start.is_ok_and(|start| start == b"/etc")
}

/// The path of a call as text, for what is not ours.
fn host_path(call: &Call, place: Place) -> Option<Vec<u8>> {
    let path = call.guest.read_string(call.addr(place.path), PATH_MAX).ok()?;
    if path.starts_with(b"/") {
        return Some(path);
    }
    let mut start = match place.directory {
        Some(n) if call.fd(n).0 != libc::AT_FDCWD => call.guest.fd_link(call.fd(n)).ok()?,
        _ => call.guest.cwd_link().ok()?,
    };
    start.push(b'/');
    start.extend_from_slice(&path);
    Some(start)
}

/// Whether a caller may do with a stack's files what the hypervisor may.
fn is_us(call: &Call) -> bool {
    use std::os::unix::fs::MetadataExt;
    let owner = std::fs::metadata(format!("/proc/{}", call.tid())).map(|task| task.uid());
    owner.is_ok_and(|uid| uid == nix::unistd::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_files_about_names_are_ours() {
        for name in ["resolv.conf", "hosts", "resolv.conf.dhclient-new.77", "resolv.conf~"] {
            assert!(is_ours(name), "{name}");
        }
        for name in ["hosts.allow", "resolv", "host.conf", "passwd", ""] {
            assert!(!is_ours(name), "{name}");
        }
    }
}
