//! Calls on files of the host that the hypervisor makes itself, for guests that name them relative
//! to a materialised directory. Paths are absolute and resolved.

use std::{
    fs, io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::LazyLock,
};

use nix::{
    fcntl::{AT_FDCWD, AtFlags, FcntlArg, OFlag, fcntl, open as nix_open},
    sys::{
        stat::{
            FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, mknod as nix_mknod, utimensat,
        },
        time::TimeSpec,
    },
    unistd::{AccessFlags, Gid, Uid, faccessat, fchownat, getpid, linkat},
};
use umvu_abi::{
    Errno, Tid,
    files::{self, SetTime},
};

use super::{layout::Attributes, locate::os_path, reach::reach, resolve::Last};
use crate::files::attributes;

fn flags(last: Last) -> AtFlags {
    if last == Last::Follow { AtFlags::empty() } else { AtFlags::AT_SYMLINK_NOFOLLOW }
}

fn failed(errno: nix::Error) -> Errno {
    io::Error::from(errno).into()
}

/// stat(2) or lstat(2).
pub(crate) fn stat(path: &[u8], last: Last) -> Result<Attributes, Errno> {
    Ok((&look(path, last)?).into())
}

/// As [`stat`], in the terms of file systems.
pub(crate) fn look(path: &[u8], last: Last) -> Result<files::Attributes, Errno> {
    let path = reach(path)?;
    let found = if last == Last::Follow {
        fs::metadata(path.path())?
    } else {
        fs::symlink_metadata(path.path())?
    };
    Ok(attributes::of_host(&found))
}

/// open(2), with the umask of the guest for a new file. May block on a FIFO.
pub(crate) fn open(tid: Tid, path: &[u8], flags: OFlag, mode: u32) -> Result<OwnedFd, Errno> {
    let mode = if flags.contains(OFlag::O_CREAT) { mode & !umask(tid) } else { 0 };
    let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    nix_open(reach(path)?.path(), flags, Mode::from_bits_truncate(mode)).map_err(failed)
}

/// Opens a file by `open`, which gets the flags; None when that might wait for somebody: for the other
/// end of a FIFO, a device, the holder of a lease (F_SETLEASE, fcntl(2)).
pub(crate) fn at_once(
    path: &[u8],
    flags: OFlag,
    open: impl FnOnce(OFlag) -> Result<OwnedFd, Errno>,
) -> Option<Result<OwnedFd, Errno>> {
    let never_waits = OFlag::O_PATH | OFlag::O_NONBLOCK;
    if flags.intersects(never_waits) {
        return Some(open(flags));
    }
    let prompt = |kind: fs::FileType| kind.is_file() || kind.is_dir();
    let found = reach(path).and_then(|path| Ok(fs::metadata(path.path())?));
    if found.is_ok_and(|found| !prompt(found.file_type())) {
        return None;
    }
    let file = match open(flags | OFlag::O_NONBLOCK) {
        Ok(fd) => fs::File::from(fd),
        Err(Errno::EAGAIN) => return None,
        Err(errno) => return Some(Err(errno)),
    };
    // It may have become another one meanwhile.
    if !file.metadata().is_ok_and(|found| prompt(found.file_type())) {
        return None;
    }
    let kept = OFlag::O_APPEND | OFlag::O_DIRECT | OFlag::O_NOATIME;
    let cleared = fcntl(&file, FcntlArg::F_SETFL(flags & kept)).map_err(failed);
    Some(cleared.map(|_| file.into()))
}

/// open(2) of something that exists, a stand-in.
pub(crate) fn open_existing(path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    nix_open(path, flags | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed)
}

/// open(2) with the mode as given, whatever our own mask is.
pub(crate) fn open_plain(path: &[u8], flags: OFlag, mode: u32) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let fd =
        nix_open(reach(path)?.path(), flags, Mode::from_bits_truncate(mode)).map_err(failed)?;
    let wanted = Mode::from_bits_truncate(mode);
    if flags.intersects(OFlag::O_CREAT | OFlag::O_TMPFILE) && is_masked(mode) {
        nix::sys::stat::fchmod(&fd, wanted).map_err(failed)?;
    }
    Ok(fd)
}

/// Whether our own mask takes bits of a mode away, which then has to be set.
fn is_masked(mode: u32) -> bool {
    static OURS: LazyLock<u32> = LazyLock::new(|| umask(Tid(getpid().as_raw())));
    mode & *OURS != 0
}

/// The umask of a guest, the usual one when it cannot be read.
fn umask(tid: Tid) -> u32 {
    // The name of a thread is any bytes.
    let status = crate::identity::status::text(tid);
    let status = String::from_utf8_lossy(&status);
    let field = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    field.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o022)
}

/// faccessat2(2) with the ids of the hypervisor, which are the guest's but for set-id programs.
pub(crate) fn access(path: &[u8], mode: i32, last: Last) -> Result<(), Errno> {
    let mode = AccessFlags::from_bits_truncate(mode);
    faccessat(AT_FDCWD, reach(path)?.path(), mode, flags(last)).map_err(failed)
}

/// faccessat2(2) with the ids that count for files at the moment.
pub(crate) fn access_as_effective(path: &[u8], mode: i32) -> Result<(), Errno> {
    let mode = AccessFlags::from_bits_truncate(mode);
    let flags = AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_EACCESS;
    faccessat(AT_FDCWD, reach(path)?.path(), mode, flags).map_err(failed)
}

/// Whether a path leads through symbolic links, by one openat2(2).
pub(crate) fn has_links(path: &[u8], last: Last) -> bool {
    use rustix::fs::{CWD, OFlags, ResolveFlags};
    let keep = if last == Last::Keep { OFlags::NOFOLLOW } else { OFlags::empty() };
    let flags = OFlags::PATH | OFlags::CLOEXEC | keep;
    let none = rustix::fs::Mode::empty();
    let opened = rustix::fs::openat2(CWD, os_path(path), flags, none, ResolveFlags::NO_SYMLINKS);
    // A kernel without the call: nobody can tell cheaply.
    matches!(opened, Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOSYS))
}

/// readlink(2).
pub(crate) fn read_link(path: &[u8]) -> Result<Vec<u8>, Errno> {
    Ok(fs::read_link(reach(path)?.path())?.into_os_string().into_encoded_bytes())
}

/// chmod(2).
pub(crate) fn chmod(path: &[u8], mode: u32) -> Result<(), Errno> {
    let mode = Mode::from_bits_truncate(mode);
    fchmodat(AT_FDCWD, reach(path)?.path(), mode, FchmodatFlags::FollowSymlink).map_err(failed)
}

/// chown(2) or lchown(2); None leaves an id as it is.
pub(crate) fn chown(
    path: &[u8],
    uid: Option<u32>,
    gid: Option<u32>,
    last: Last,
) -> Result<(), Errno> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    fchownat(AT_FDCWD, reach(path)?.path(), uid, gid, flags(last)).map_err(failed)
}

/// utimensat(2).
pub(crate) fn set_times(path: &[u8], times: [Option<SetTime>; 2], last: Last) -> Result<(), Errno> {
    let [atime, mtime] = times.map(|time| match time {
        None => TimeSpec::new(0, libc::UTIME_OMIT),
        Some(SetTime::Now) => TimeSpec::new(0, libc::UTIME_NOW),
        Some(SetTime::To(time)) => TimeSpec::new(time.seconds, i64::from(time.nanos)),
    });
    let how = match last {
        Last::Follow => UtimensatFlags::FollowSymlink,
        Last::Keep => UtimensatFlags::NoFollowSymlink,
    };
    utimensat(AT_FDCWD, reach(path)?.path(), &atime, &mtime, how).map_err(failed)
}

/// truncate(2).
pub(crate) fn truncate(path: &[u8], length: i64) -> Result<(), Errno> {
    nix::unistd::truncate(reach(path)?.path(), length).map_err(failed)
}

/// unlink(2).
pub(crate) fn unlink(path: &[u8]) -> Result<(), Errno> {
    Ok(fs::remove_file(reach(path)?.path())?)
}

/// rmdir(2).
pub(crate) fn rmdir(path: &[u8]) -> Result<(), Errno> {
    Ok(fs::remove_dir(reach(path)?.path())?)
}

/// mkdir(2).
pub(crate) fn mkdir(tid: Tid, path: &[u8], mode: u32) -> Result<(), Errno> {
    let mode = Mode::from_bits_truncate(mode & !umask(tid));
    nix::unistd::mkdir(reach(path)?.path(), mode).map_err(failed)
}

/// mknod(2).
pub(crate) fn mknod(tid: Tid, path: &[u8], mode: u32, device: u64) -> Result<(), Errno> {
    let kind = SFlag::from_bits_truncate(mode & libc::S_IFMT);
    let mode = Mode::from_bits_truncate(mode & !libc::S_IFMT & !umask(tid));
    nix_mknod(reach(path)?.path(), kind, mode, device).map_err(failed)
}

/// mkdir(2) with the mode as given, whatever our own mask is.
pub(crate) fn mkdir_plain(path: &[u8], mode: u32) -> Result<(), Errno> {
    nix::unistd::mkdir(reach(path)?.path(), Mode::from_bits_truncate(mode)).map_err(failed)?;
    if is_masked(mode) { chmod(path, mode) } else { Ok(()) }
}

/// mknod(2) with the mode as given, whatever our own mask is.
pub(crate) fn mknod_plain(path: &[u8], mode: u32, device: u64) -> Result<(), Errno> {
    let kind = SFlag::from_bits_truncate(mode & libc::S_IFMT);
    let bits = Mode::from_bits_truncate(mode & !libc::S_IFMT);
    nix_mknod(reach(path)?.path(), kind, bits, device).map_err(failed)?;
    if is_masked(mode) { chmod(path, mode & 0o7777) } else { Ok(()) }
}

/// symlink(2).
pub(crate) fn symlink(target: &[u8], path: &[u8]) -> Result<(), Errno> {
    Ok(std::os::unix::fs::symlink(os_path(target), reach(path)?.path())?)
}

/// link(2).
pub(crate) fn link(from: &[u8], to: &[u8]) -> Result<(), Errno> {
    Ok(fs::hard_link(reach(from)?.path(), reach(to)?.path())?)
}

/// linkat(2) of what is open. Errors: `ENOENT` for what was removed or must not get a name.
pub(crate) fn link_opened(file: BorrowedFd<'_>, to: &[u8]) -> Result<(), Errno> {
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    let to = reach(to)?;
    let follow = AtFlags::AT_SYMLINK_FOLLOW;
    linkat(AT_FDCWD, name.as_str(), AT_FDCWD, to.path(), follow).map_err(failed)
}

/// renameat2(2) with its flags.
pub(crate) fn rename_with(from: &[u8], to: &[u8], flags: u32) -> Result<(), Errno> {
    let flags = rustix::fs::RenameFlags::from_bits_retain(flags);
    let at = rustix::fs::CWD;
    rustix::fs::renameat_with(at, reach(from)?.path(), at, reach(to)?.path(), flags)
        .map_err(refused)
}

/// rename(2).
pub(crate) fn rename(from: &[u8], to: &[u8]) -> Result<(), Errno> {
    Ok(fs::rename(reach(from)?.path(), reach(to)?.path())?)
}

fn refused(errno: rustix::io::Errno) -> Errno {
    Errno(errno.raw_os_error())
}

/// The largest value and list of extended attributes (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const XATTR_MAX: usize = 65_536;

/// getxattr(2) or lgetxattr(2).
pub(crate) fn get_xattr(path: &[u8], name: &[u8], last: Last) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; XATTR_MAX];
    let get = if last == Last::Follow { rustix::fs::getxattr } else { rustix::fs::lgetxattr };
    let length = get(reach(path)?.path(), name, &mut value[..]).map_err(refused)?;
    value.truncate(length);
    Ok(value)
}

/// setxattr(2) or lsetxattr(2), with its flags.
pub(crate) fn set_xattr(
    path: &[u8],
    name: &[u8],
    value: &[u8],
    flags: i32,
    last: Last,
) -> Result<(), Errno> {
    let flags = rustix::fs::XattrFlags::from_bits_retain(flags.cast_unsigned());
    let set = if last == Last::Follow { rustix::fs::setxattr } else { rustix::fs::lsetxattr };
    set(reach(path)?.path(), name, value, flags).map_err(refused)
}

/// listxattr(2) or llistxattr(2): each name ends with a NUL.
pub(crate) fn list_xattr(path: &[u8], last: Last) -> Result<Vec<u8>, Errno> {
    let mut names = vec![0; XATTR_MAX];
    let list = if last == Last::Follow { rustix::fs::listxattr } else { rustix::fs::llistxattr };
    let length = list(reach(path)?.path(), &mut names[..]).map_err(refused)?;
    names.truncate(length);
    Ok(names)
}

/// removexattr(2) or lremovexattr(2).
pub(crate) fn remove_xattr(path: &[u8], name: &[u8], last: Last) -> Result<(), Errno> {
    let remove =
        if last == Last::Follow { rustix::fs::removexattr } else { rustix::fs::lremovexattr };
    remove(reach(path)?.path(), name).map_err(refused)
}
