//! Mounts that are the kernel's, as virtual root is told about them: what is wrong with a call comes before
//! the permission, which the kernel would refuse to the user behind it.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use umvu_abi::Errno;
use umvu_tracer::api::{Action, Call};

use crate::{Core, identity::capabilities::SYS_ADMIN};

/// Changes of how mounts spread, of which there is one tree only in a view (mount(2)).
const SPREADING: u64 = libc::MS_PRIVATE | libc::MS_SLAVE | libc::MS_SHARED;
/// Calls that look at no type.
const UNTYPED: u64 = libc::MS_BIND | libc::MS_MOVE | libc::MS_REMOUNT | libc::MS_UNBINDABLE;

fn is_virtual_root(core: &Core, call: &Call) -> bool {
    core.credentials(call.tid()).is_some_and(|who| who.capabilities.has(SYS_ADMIN))
}

/// mount(2) of a type that no module serves, at an absolute path.
pub(super) fn mount(core: &Core, call: &Call, fstype: &str, target: &str) -> Action {
    let flags = call.syscall.args[3];
    if !is_virtual_root(core, call) {
        return Action::Forward;
    }
    if flags & SPREADING != 0 {
        let is_mount = core.view.mount_at(target).is_some() || is_mount_point(target);
        return Action::done(if is_mount { Ok(()) } else { Err(Errno::EINVAL) });
    }
    if flags & UNTYPED == 0 && !is_known(fstype) {
        return Errno::ENODEV.into();
    }
    Action::Forward
}

/// mount(2) with `MS_MOVE` of what no module has mounted, at an absolute path.
pub(super) fn move_mount(core: &Core, call: &Call, from: &str) -> Action {
    let is_refused = is_virtual_root(core, call) && !is_mount_point(from);
    if is_refused { Errno::EINVAL.into() } else { Action::Forward }
}

/// umount2(2) of what no module has mounted, at an absolute path.
pub(super) fn umount(core: &Core, call: &Call, target: &str) -> Action {
    if !is_virtual_root(core, call) || is_mount_point(target) {
        return Action::Forward;
    }
    match fs::metadata(target) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Errno::ENOENT.into(),
        _ => Errno::EINVAL.into(),
    }
}

/// Whether the kernel has a type of file system.
fn is_known(fstype: &str) -> bool {
    let types = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    types.lines().any(|line| line.rsplit('\t').next() == Some(fstype))
}

/// Whether the kernel has something mounted at a path.
fn is_mount_point(path: &str) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let is_listed =
        mounts.lines().any(|line| line.split(' ').nth(1).map(unescape).as_deref() == Some(path));
    // A name that is written in another way than the table has it.
    is_listed || is_another_device(Path::new(path))
}

fn is_another_device(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    path.parent().is_some_and(|parent| device(parent) != device(path) && device(path).is_some())
}

/// `\040` and its like, as getmntent(3) has them.
pub(super) fn unescape(name: &str) -> String {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.iter().fold(name.to_owned(), |name, (code, plain)| name.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_its_types_and_mounts() {
        assert!(is_known("proc") && !is_known("vufusemem") && !is_known("nodev"));
        assert!(is_mount_point("/") && is_mount_point("/proc"));
        assert!(!is_mount_point("/nonexistent") && !is_mount_point("/proc/sys"));
        assert_eq!(unescape("/a\\040b"), "/a b");
    }
}
