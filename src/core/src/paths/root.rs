//! chroot(2) in the view: the root directory of a process may be any directory, also a virtual one.
//!
//! The kernel's root stays where it is. A process with a root of its own has every path resolved by the
//! hypervisor ([`locate`](super::locate)), from that root on, and what the path names is used for it.
//! Where the kernel itself would change the root, and nothing virtual is concerned, it does.

use std::{fs, sync::Arc};

use umvu_abi::{Errno, Tid};
use umvu_tracer::api::{Action, Call};

use super::{
    lexical::{below, number},
    locate::{self, Target, locate, os_path},
    resolve::{Last, Place},
};
use crate::{
    Core,
    dispatch::{Row, always},
    files::access,
    identity::{Credentials, capabilities::SYS_CHROOT},
};

pub(super) fn rows() -> Vec<Row> {
    vec![always("chroot", chroot, "into any directory; by virtual root too")]
}

fn chroot(core: &Core, call: &Call) -> Action {
    let found = match locate(core, call, locate::path(0), Last::Follow) {
        Ok(found) => found,
        Err(errno) => return errno.into(),
    };
    let who = core.credentials(call.tid());
    let is_natural = matches!(found, Target::Kernel) && who.is_none();
    let is_permitted = match &who {
        Some(who) => who.capabilities.has(SYS_CHROOT),
        None => Credentials::of_kernel(call.tid()).capabilities.has(SYS_CHROOT),
    };
    // The kernel also says what is wrong.
    if is_natural {
        return Action::Forward;
    }
    let entered = directory(core, call, found).and_then(|root| {
        if !is_permitted {
            return Err(Errno::EPERM);
        }
        let root = (root != b"/").then(|| Arc::from(root));
        core.paths.threads.set_root(call.tid(), root);
        core.publish_mounts();
        Ok(())
    });
    Action::done(entered)
}

/// The path in the view of a directory that may be entered. Errors: `ENOENT`, `ENOTDIR`, `EACCES`.
fn directory(core: &Core, call: &Call, found: Target) -> Result<Vec<u8>, Errno> {
    let place = match found {
        Target::Virtual(place) => place,
        Target::Elsewhere(path) => Place::Real(path),
        Target::Kernel => {
            let path = locate::absolute(core, call, locate::path(0))?;
            locate::resolve(core, call.tid(), &path, Last::Follow)?
        }
    };
    match &place {
        Place::Inode(found) => {
            if !found.inode.is_directory()? {
                return Err(Errno::ENOTDIR);
            }
            access::search(&found.inode, &core.caller(call.tid()))?;
        }
        Place::Real(path) | Place::Merged(path) => {
            if !fs::metadata(os_path(path))?.is_dir() {
                return Err(Errno::ENOTDIR);
            }
            super::host::access_as_effective(path, libc::X_OK)?;
        }
        Place::Directory(_) => {}
        Place::Vacant(_) | Place::Missing(_) => return Err(Errno::ENOENT),
        Place::Node(_) | Place::Entry(_) => return Err(Errno::ENOTDIR),
    }
    Ok(place.path().to_vec())
}

/// What getcwd(2) tells about a path of the view to who has this root.
pub(super) fn seen_from(root: &[u8], path: Vec<u8>) -> Vec<u8> {
    inside(root, &path).unwrap_or_else(|| [b"(unreachable)", path.as_slice()].concat())
}

/// A path of the view as it is named below a root; None for what is not there.
fn inside(root: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    below(path, root).map(|rest| [b"/", rest].concat())
}

/// What a link of procfs shows to who has a root of its own, or about whom has; `path` is canonical and
/// `target` what the link tells otherwise. None where it is what it would be without roots.
pub(super) fn shown(core: &Core, tid: Tid, path: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let target = match path.strip_prefix(b"/proc/").and_then(|rest| rest.strip_suffix(b"/root")) {
        Some(process) => {
            let task = process.rsplit(|byte| *byte == b'/').next().and_then(number)?;
            core.paths.root(Tid(task))?.to_vec()
        }
        None => target.to_vec(),
    };
    match core.paths.root(tid) {
        Some(root) => Some(inside(&root, &target).unwrap_or(target)),
        None => Some(target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_named_from_the_root() {
        let seen = |path: &str| {
            String::from_utf8(seen_from(b"/mnt/root", path.as_bytes().to_vec())).expect("text")
        };
        assert_eq!(seen("/mnt/root"), "/");
        assert_eq!(seen("/mnt/root/etc"), "/etc");
        assert_eq!(seen("/mnt/rooted"), "(unreachable)/mnt/rooted");
    }
}
