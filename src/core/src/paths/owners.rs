//! Files of the host in a view with virtual ids: stat(2), chown(2), chmod(2), mknod(2) of them.
//!
//! What is found is looked at with the rights of the hypervisor, which are the guest's. What cannot be
//! looked at is the kernel's to answer. Whether a file may be read or written is the kernel's alone.

use std::{fs, sync::Arc};

use nix::{fcntl::OFlag, unistd::geteuid};
use umvu_abi::{
    Errno, GuestFd, Tid,
    files::{self, Attributes, Changes},
    module::Facet,
};
use umvu_tracer::api::{Action, Call};

use super::{
    host,
    inspect::xattr_name,
    lexical::PATH_MAX,
    locate::{self, At, os_path},
    resolve::{Last, Place},
};
use crate::{
    Core,
    files::attributes::of_host,
    identity::{
        Credentials,
        capabilities::{CHOWN, FOWNER, MKNOD},
        owners::Change,
    },
};

/// The read and write bits of the owner, which the user of umvu keeps on what is its own: root may.
const OWN_FILE: u32 = 0o600;
const OWN_DIRECTORY: u32 = 0o700;

/// A file of the host.
struct Real {
    /// How the hypervisor names it.
    path: Vec<u8>,
    /// What the kernel says.
    looks: Attributes,
}

/// What a file of the host looks like to the caller, where that is not what the kernel says.
pub(super) fn look(core: &Core, call: &Call, at: At, last: Last) -> Option<Attributes> {
    let who = core.credentials(call.tid());
    is_asked(core, who.as_deref()).then(|| show(core, call, who.as_deref(), at, last))?
}

/// As [`look`], of a descriptor.
pub(super) fn look_at_fd(core: &Core, call: &Call, fd: GuestFd) -> Option<Attributes> {
    let who = core.credentials(call.tid());
    if !is_asked(core, who.as_deref()) {
        return None;
    }
    changed(core, who.as_deref(), &by_fd(core, call, fd)?.looks)
}

/// What the hypervisor has found itself, as the caller sees it.
pub(super) fn dress(core: &Core, call: &Call, found: Attributes) -> Attributes {
    let who = core.credentials(call.tid());
    if differs(core, who.as_deref()) { core.owners.show(&found, who.as_deref()) } else { found }
}

fn show(
    core: &Core,
    call: &Call,
    who: Option<&Credentials>,
    at: At,
    last: Last,
) -> Option<Attributes> {
    changed(core, who, &find(core, call, at, last)?.looks)
}

fn changed(core: &Core, who: Option<&Credentials>, real: &Attributes) -> Option<Attributes> {
    let shown = if differs(core, who) { core.owners.show(real, who) } else { *real };
    (shown != *real || core.view.clock().is_some()).then_some(shown)
}

/// Whether the kernel's answer may have to be changed; whoever encodes it follows the clock.
fn is_asked(core: &Core, who: Option<&Credentials>) -> bool {
    differs(core, who) || core.view.clock().is_some()
}

/// Whether any file may look other than it is.
fn differs(core: &Core, who: Option<&Credentials>) -> bool {
    core.view.has(Facet::Ids) && (!core.owners.is_empty() || who.is_some() && !geteuid().is_root())
}

/// Finds the file of the host that a path of a call names; None for what the kernel is to answer.
fn find(core: &Core, call: &Call, at: At, last: Last) -> Option<Real> {
    let text = call.guest.read_string(call.addr(at.path), PATH_MAX).ok()?;
    if text.is_empty() {
        return by_fd(core, call, call.fd(at.directory?));
    }
    if core.paths.caller(call.tid()).uid != geteuid().as_raw() {
        return None;
    }
    let path = locate::absolute(core, call, at).ok()?;
    let is_own = [&b"/proc/"[..], b"/dev/"].iter().any(|place| path.starts_with(place));
    let path = if is_own || host::has_links(&path, last) {
        // Links of procfs lead elsewhere for us.
        match locate::resolve(core, call.tid(), &path, last).ok()? {
            Place::Real(path) | Place::Merged(path) => path,
            _ => return None,
        }
    } else {
        path
    };
    look_up(path, last).ok()
}

/// A file of the host at a path of the host. Errors: those of stat(2).
fn look_up(path: Vec<u8>, last: Last) -> Result<Real, Errno> {
    let found = match last {
        Last::Follow => fs::metadata(os_path(&path)),
        Last::Keep => fs::symlink_metadata(os_path(&path)),
    };
    Ok(Real { looks: of_host(&found?), path })
}

fn by_fd(core: &Core, call: &Call, fd: GuestFd) -> Option<Real> {
    if core.paths.caller(call.tid()).uid != geteuid().as_raw() {
        return None;
    }
    let path = match fd.0 {
        libc::AT_FDCWD => format!("/proc/{}/cwd", call.tid()),
        number => format!("/proc/{}/fd/{number}", call.tid()),
    };
    let looks = of_host(&fs::metadata(&path).ok()?);
    Some(Real { path: path.into_bytes(), looks })
}

/// Who a change is asked by, if it is somebody virtual.
fn changer(core: &Core, call: &Call) -> Option<Arc<Credentials>> {
    core.credentials(call.tid())
}

/// chown(2) and its like of a file of the host.
pub(super) fn chown(core: &Core, call: &Call, at: At, last: Last, ids: [Option<u32>; 2]) -> Action {
    let Some(who) = changer(core, call) else { return Action::Forward };
    match find(core, call, at, last) {
        Some(real) => Action::done(give(core, &who, &real, ids)),
        None => Action::Forward,
    }
}

/// chown(2) of a file of the host that the hypervisor has found at a path.
pub(super) fn chown_at(
    core: &Core,
    call: &Call,
    path: Vec<u8>,
    last: Last,
    ids: [Option<u32>; 2],
) -> Action {
    match changer(core, call) {
        Some(who) => {
            Action::done(look_up(path, last).and_then(|real| give(core, &who, &real, ids)))
        }
        None => Action::done(host::chown(&path, ids[0], ids[1], last)),
    }
}

/// fchown(2) of a file of the host.
pub(super) fn fchown(core: &Core, call: &Call, ids: [Option<u32>; 2]) -> Action {
    let Some(who) = changer(core, call) else { return Action::Forward };
    match by_fd(core, call, call.fd(0)) {
        Some(real) => Action::done(give(core, &who, &real, ids)),
        None => Action::Forward,
    }
}

fn give(
    core: &Core,
    who: &Credentials,
    real: &Real,
    [uid, gid]: [Option<u32>; 2],
) -> Result<(), Errno> {
    let shown = core.owners.show(&real.looks, Some(who));
    let is_owner = shown.uid == who.uid.files;
    let may = who.capabilities.has(CHOWN)
        || is_owner
            && uid.is_none_or(|uid| uid == shown.uid)
            && gid.is_none_or(|gid| gid == shown.gid || who.is_in(gid));
    if !may {
        return Err(Errno::EPERM);
    }
    let mut mode = shown.mode;
    if !shown.is_directory() && (uid.is_some() || gid.is_some()) {
        mode &= !libc::S_ISUID;
        if mode & libc::S_IXGRP != 0 {
            mode &= !libc::S_ISGID;
        }
    }
    let looks = (mode != shown.mode).then_some((mode, shown.rdev));
    // What was its own before stays with who it was: the other id is not to follow the caller.
    let change = Change { uid: uid.or(Some(shown.uid)), gid: gid.or(Some(shown.gid)), looks };
    core.owners.say(&real.looks, change);
    Ok(())
}

/// chmod(2) and its like of a file of the host.
pub(super) fn chmod(core: &Core, call: &Call, at: At, last: Last, mode: u32) -> Action {
    let Some(who) = changer(core, call) else { return Action::Forward };
    match find(core, call, at, last) {
        Some(real) => Action::done(set_mode(core, &who, &real, mode)),
        None => Action::Forward,
    }
}

/// chmod(2) of a file of the host that the hypervisor has found at a path.
pub(super) fn chmod_at(core: &Core, call: &Call, path: Vec<u8>, mode: u32) -> Action {
    match changer(core, call) {
        Some(who) => Action::done(
            look_up(path, Last::Follow).and_then(|real| set_mode(core, &who, &real, mode)),
        ),
        None => Action::done(host::chmod(&path, mode)),
    }
}

/// fchmod(2) of a file of the host.
pub(super) fn fchmod(core: &Core, call: &Call, mode: u32) -> Action {
    let Some(who) = changer(core, call) else { return Action::Forward };
    match by_fd(core, call, call.fd(0)) {
        Some(real) => Action::done(set_mode(core, &who, &real, mode)),
        None => Action::Forward,
    }
}

fn set_mode(core: &Core, who: &Credentials, real: &Real, mode: u32) -> Result<(), Errno> {
    let shown = core.owners.show(&real.looks, Some(who));
    if real.looks.mode & libc::S_IFMT == libc::S_IFLNK {
        return Err(Errno::EOPNOTSUPP);
    }
    let privileged = who.capabilities.has(FOWNER);
    if !privileged && shown.uid != who.uid.files {
        return Err(Errno::EPERM);
    }
    let wanted = shown.mode & libc::S_IFMT | mode & 0o7777;
    let own = if real.looks.is_directory() { OWN_DIRECTORY } else { OWN_FILE };
    let is_stand_in = (shown.mode ^ real.looks.mode) & libc::S_IFMT != 0;
    let bits = if is_stand_in { mode & 0o777 } else { mode & 0o7777 };
    match host::chmod(&real.path, if privileged { bits | own } else { bits }) {
        Err(Errno::EPERM) if privileged => {}
        Err(errno) => return Err(errno),
        Ok(()) => {}
    }
    let now = host::stat(&real.path, Last::Follow).map_or(real.looks.mode, |now| now.mode);
    if now != wanted || core.owners.has_looks(&real.looks) {
        let looks = Some((wanted, shown.rdev));
        core.owners.say(&real.looks, Change { looks, ..Change::default() });
    }
    Ok(())
}

/// setxattr(2) of a file of the host: access lists would change a mode behind the back of what is
/// remembered. Programs use chmod(2) then.
pub(super) fn set_xattr(core: &Core, call: &Call) -> Action {
    let is_list = |name: Vec<u8>| name.starts_with(b"system.posix_acl_");
    if changer(core, call).is_some() && xattr_name(call).is_ok_and(is_list) {
        return Errno::EOPNOTSUPP.into();
    }
    Action::Forward
}

/// mknod(2) of a device by somebody virtual: an empty file stands in for it. `path` is where the hypervisor
/// has found the name; what the kernel names as the guest does has none.
pub(super) fn mknod(core: &Core, call: &Call, at: At, path: Option<Vec<u8>>) -> Action {
    let mode = call.int(at.path + 1).cast_unsigned();
    let is_device = matches!(mode & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK);
    let Some(who) = changer(core, call).filter(|_| is_device) else {
        return path.map_or(Action::Forward, |path| {
            Action::done(host::mknod(call.tid(), &path, mode, call.syscall.args[at.path + 2]))
        });
    };
    if !who.capabilities.has(MKNOD) {
        return Errno::EPERM.into();
    }
    let caller = core.paths.caller(call.tid());
    if caller.uid != geteuid().as_raw() {
        return Action::Forward;
    }
    let mode = mode & !caller.umask;
    let path = path.map_or_else(|| locate::absolute(core, call, at), Ok);
    let rdev = call.syscall.args[at.path + 2];
    Action::done(path.and_then(|path| make_device(core, &who, &path, (mode, rdev))))
}

fn make_device(
    core: &Core,
    who: &Credentials,
    path: &[u8],
    (mode, rdev): (u32, u64),
) -> Result<(), Errno> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY;
    let made = host::open_plain(path, flags, mode & 0o777 | OWN_FILE)?;
    let real = of_host(&fs::File::from(made).metadata()?);
    let (uid, gid) = (Some(who.uid.files), Some(who.gid.files));
    core.owners.say(&real, Change { uid, gid, looks: Some((mode, rdev)) });
    Ok(())
}

/// Somebody virtual who changes files of the host that a mount shows at another place.
pub(crate) struct Changer<'a> {
    core: &'a Core,
    who: Option<Arc<Credentials>>,
}

impl<'a> Changer<'a> {
    /// The caller of a file system; the hypervisor itself is nobody virtual.
    pub(crate) fn of(core: &'a Core, caller: &files::Caller) -> Self {
        let who = (caller.pid.0 != 0).then(|| core.credentials(Tid(caller.pid.0))).flatten();
        Self { core, who }
    }

    /// What a file of the host looks like to it.
    pub(crate) fn sees(&self, real: Attributes) -> Attributes {
        let who = self.who.as_deref();
        if differs(self.core, who) { self.core.owners.show(&real, who) } else { real }
    }

    /// Changes owner or mode of a file of the host; returns what is left to be changed by the host.
    /// Errors: `EPERM`, those of stat(2).
    pub(crate) fn change(&self, path: &[u8], changes: &Changes) -> Result<Changes, Errno> {
        let Some(who) = &self.who else { return Ok(*changes) };
        let Changes { uid, gid, mode, .. } = *changes;
        if uid.is_some() || gid.is_some() {
            give(self.core, who, &look_up(path.to_vec(), Last::Keep)?, [uid, gid])?;
        } else if let Some(mode) = mode.filter(|_| changes.size.is_none()) {
            set_mode(self.core, who, &look_up(path.to_vec(), Last::Keep)?, mode)?;
        }
        Ok(Changes { uid: None, gid: None, mode: None, ..*changes })
    }

    /// Makes a device, for which an empty file stands in; None for what the host can make.
    /// Errors: `EPERM`, those of open(2).
    pub(crate) fn make(&self, path: &[u8], mode: u32, rdev: u64) -> Option<Result<(), Errno>> {
        let who = self.who.as_deref()?;
        if !matches!(mode & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK) {
            return None;
        }
        if !who.capabilities.has(MKNOD) {
            return Some(Err(Errno::EPERM));
        }
        Some(make_device(self.core, who, path, (mode, rdev)))
    }
}

/// Puts the caller's virtual ids into what counts for files.
pub(crate) fn as_virtual(who: &Credentials, caller: &mut files::Caller) {
    (caller.uid, caller.gid) = (who.uid.files, who.gid.files);
    caller.groups = Arc::clone(&who.groups);
}
