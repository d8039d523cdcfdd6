//! Calls on files of the host that the hypervisor makes itself, for guests that name them relative
//! to a materialised directory. Paths are absolute and resolved.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::Path,
};

use nix::{
    fcntl::{AT_FDCWD, AtFlags, OFlag, open as nix_open},
    sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, mknod as nix_mknod},
    unistd::{AccessFlags, Gid, Uid, faccessat, fchownat},
};
use umvu_abi::{Errno, Tid};

use super::{layout::Attributes, locate::os_path, resolve::Last};

fn flags(last: Last) -> AtFlags {
    if last == Last::Follow { AtFlags::empty() } else { AtFlags::AT_SYMLINK_NOFOLLOW }
}

fn failed(errno: nix::Error) -> Errno {
    io::Error::from(errno).into()
}

/// stat(2) or lstat(2).
pub(super) fn stat(path: &[u8], last: Last) -> Result<Attributes, Errno> {
    let path = os_path(path);
    let found =
        if last == Last::Follow { fs::metadata(path)? } else { fs::symlink_metadata(path)? };
    Ok(Attributes {
        dev: found.dev(),
        ino: found.ino(),
        mode: found.mode(),
        nlink: u32::try_from(found.nlink()).unwrap_or(u32::MAX),
        uid: found.uid(),
        gid: found.gid(),
        rdev: found.rdev(),
        size: i64::try_from(found.size()).unwrap_or(i64::MAX),
        blksize: i32::try_from(found.blksize()).unwrap_or(4096),
        blocks: i64::try_from(found.blocks()).unwrap_or(i64::MAX),
        times: [
            (found.atime(), found.atime_nsec()),
            (found.mtime(), found.mtime_nsec()),
            (found.ctime(), found.ctime_nsec()),
        ],
    })
}

/// open(2), with the umask of the guest for a new file. May block on a FIFO.
pub(super) fn open(tid: Tid, path: &[u8], flags: OFlag, mode: u32) -> Result<OwnedFd, Errno> {
    let mode = if flags.contains(OFlag::O_CREAT) { mode & !umask(tid) } else { 0 };
    let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    nix_open(os_path(path), flags, Mode::from_bits_truncate(mode)).map_err(failed)
}

/// open(2) of something that exists, a stand-in.
pub(super) fn open_existing(path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    nix_open(path, flags | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed)
}

/// The umask of a guest, the usual one when it cannot be read.
fn umask(tid: Tid) -> u32 {
    // The name of a thread is any bytes.
    let status = fs::read(format!("/proc/{tid}/status")).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let field = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    field.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o022)
}

/// faccessat2(2) with the ids of the hypervisor, which are the guest's but for set-id programs.
pub(super) fn access(path: &[u8], mode: i32, last: Last) -> Result<(), Errno> {
    let mode = AccessFlags::from_bits_truncate(mode);
    faccessat(AT_FDCWD, os_path(path), mode, flags(last)).map_err(failed)
}

/// readlink(2).
pub(super) fn read_link(path: &[u8]) -> Result<Vec<u8>, Errno> {
    Ok(fs::read_link(os_path(path))?.into_os_string().into_encoded_bytes())
}

/// chmod(2).
pub(super) fn chmod(path: &[u8], mode: u32) -> Result<(), Errno> {
    let mode = Mode::from_bits_truncate(mode);
    fchmodat(AT_FDCWD, os_path(path), mode, FchmodatFlags::FollowSymlink).map_err(failed)
}

/// chown(2) or lchown(2); None leaves an id as it is.
pub(super) fn chown(
    path: &[u8],
    uid: Option<u32>,
    gid: Option<u32>,
    last: Last,
) -> Result<(), Errno> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    fchownat(AT_FDCWD, os_path(path), uid, gid, flags(last)).map_err(failed)
}

/// truncate(2).
pub(super) fn truncate(path: &[u8], length: i64) -> Result<(), Errno> {
    nix::unistd::truncate(os_path(path), length).map_err(failed)
}

/// unlink(2).
pub(super) fn unlink(path: &[u8]) -> Result<(), Errno> {
    Ok(fs::remove_file(os_path(path))?)
}

/// rmdir(2).
pub(super) fn rmdir(path: &[u8]) -> Result<(), Errno> {
    Ok(fs::remove_dir(os_path(path))?)
}

/// mkdir(2).
pub(super) fn mkdir(tid: Tid, path: &[u8], mode: u32) -> Result<(), Errno> {
    let mode = Mode::from_bits_truncate(mode & !umask(tid));
    nix::unistd::mkdir(os_path(path), mode).map_err(failed)
}

/// mknod(2).
pub(super) fn mknod(tid: Tid, path: &[u8], mode: u32, device: u64) -> Result<(), Errno> {
    let kind = SFlag::from_bits_truncate(mode & libc::S_IFMT);
    let mode = Mode::from_bits_truncate(mode & !libc::S_IFMT & !umask(tid));
    nix_mknod(os_path(path), kind, mode, device).map_err(failed)
}

/// symlink(2).
pub(super) fn symlink(target: &[u8], path: &[u8]) -> Result<(), Errno> {
    Ok(std::os::unix::fs::symlink(os_path(target), os_path(path))?)
}

/// link(2).
pub(super) fn link(from: &[u8], to: &[u8]) -> Result<(), Errno> {
    Ok(fs::hard_link(os_path(from), os_path(to))?)
}

/// rename(2).
pub(super) fn rename(from: &[u8], to: &[u8]) -> Result<(), Errno> {
    Ok(fs::rename(os_path(from), os_path(to))?)
}
