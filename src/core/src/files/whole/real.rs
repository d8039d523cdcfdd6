//! Files of the host, as the caller may use them.
//!
//! The hypervisor's own rights are those of its user. When that is the administrator and the caller is
//! somebody else, the ids of the thread for files are the caller's during the call (setfsuid(2)).

#![expect(unsafe_code, reason = "setgroups(2) for one thread")]

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStringExt, fs::FileTypeExt},
    },
};

use nix::{
    fcntl::OFlag,
    unistd::{Gid, Uid, setfsgid, setfsuid},
};
use umvu_abi::{
    Errno,
    files::{Attributes, Caller, Changes, Data, DirEntry, StatFs},
};

use crate::{
    files::{attributes as convert, names::Make},
    paths::{host, reach::reach, resolve::Last},
};

/// Does something with the rights of the caller. Where the hypervisor is not root, all callers have its
/// own, whoever they are in the view.
pub(crate) fn as_caller<T>(
    caller: &Caller,
    work: impl FnOnce() -> Result<T, Errno>,
) -> Result<T, Errno> {
    let ours = Uid::effective();
    // No process: the core itself asks.
    if !ours.is_root() || caller.uid == ours.as_raw() || caller.pid.0 == 0 {
        return work();
    }
    let _rights = Rights::of(caller);
    work()
}

/// The caller's ids for files, until it is dropped.
struct Rights {
    groups: Vec<u32>,
    gid: Gid,
}

impl Rights {
    fn of(caller: &Caller) -> Self {
        let groups = nix::unistd::getgroups().unwrap_or_default();
        let groups = groups.into_iter().map(Gid::as_raw).collect();
        set_groups(&caller.groups);
        let gid = setfsgid(Gid::from_raw(caller.gid));
        setfsuid(Uid::from_raw(caller.uid));
        Self { groups, gid }
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        setfsuid(Uid::effective());
        setfsgid(self.gid);
        set_groups(&self.groups);
    }
}

/// setgroups(2) of this thread alone; the C library's is of all threads.
fn set_groups(groups: &[u32]) {
    // SAFETY: the pointer and the count are those of a slice that outlives the call.
    unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
}

pub(super) fn attributes(caller: &Caller, path: &[u8]) -> Result<Attributes, Errno> {
    as_caller(caller, || Ok(convert::of_host(&fs::symlink_metadata(reach(path)?.path())?)))
}

pub(super) fn access(caller: &Caller, path: &[u8], wanted: u32) -> Result<(), Errno> {
    let mode = i32::try_from(wanted).unwrap_or(0);
    as_caller(caller, || host::access_as_effective(path, mode))
}

pub(super) fn change(caller: &Caller, path: &[u8], changes: &Changes) -> Result<(), Errno> {
    as_caller(caller, || {
        if changes.uid.is_some() || changes.gid.is_some() {
            host::chown(path, changes.uid, changes.gid, Last::Keep)?;
        } else if let Some(mode) = changes.mode
            && changes.size.is_none()
        {
            host::chmod(path, mode)?;
        }
        if let Some(size) = changes.size {
            return host::truncate(path, i64::try_from(size).map_err(|_| Errno::EFBIG)?);
        }
        if changes.atime.is_some() || changes.mtime.is_some() {
            host::set_times(path, [changes.atime, changes.mtime], Last::Keep)?;
        }
        Ok(())
    })
}

/// Opens: regular files are ours to pass on, all else is the guest's to open.
pub(super) fn open(caller: &Caller, path: &[u8], flags: i32) -> Result<Data, Errno> {
    as_caller(caller, || {
        if !fs::symlink_metadata(reach(path)?.path())?.is_file() {
            return Ok(Data::HostPath(path.to_vec()));
        }
        let flags = OFlag::from_bits_retain(flags) | OFlag::O_NOFOLLOW;
        host::open_plain(path, flags, 0).map(Data::Host)
    })
}

pub(super) fn create(caller: &Caller, path: &[u8], mode: u32, flags: i32) -> Result<Data, Errno> {
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_CREAT | OFlag::O_EXCL;
    as_caller(caller, || host::open_plain(path, flags, mode).map(Data::Host))
}

/// Makes a file without a name in a directory; also tells how it looks.
pub(super) fn nameless(
    caller: &Caller,
    directory: &[u8],
    mode: u32,
    flags: i32,
) -> Result<(OwnedFd, Attributes), Errno> {
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_TMPFILE;
    let fd = as_caller(caller, || host::open_plain(directory, flags, mode & 0o7777))?;
    let file = fs::File::from(fd);
    let looks = convert::of_host(&file.metadata()?);
    Ok((file.into(), looks))
}

pub(super) fn make(caller: &Caller, path: &[u8], what: Make<'_>) -> Result<(), Errno> {
    as_caller(caller, || match what {
        Make::Node(mode, rdev) => host::mknod_plain(path, mode, rdev),
        Make::Directory(mode) => host::mkdir_plain(path, mode),
        Make::Link(target) => host::symlink(target, path),
    })
}

pub(super) fn rename(caller: &Caller, from: &[u8], to: &[u8], flags: u32) -> Result<(), Errno> {
    as_caller(caller, || host::rename_with(from, to, flags))
}

pub(super) fn list(
    caller: &Caller,
    path: &[u8],
    each: &mut dyn FnMut(DirEntry),
) -> Result<(), Errno> {
    let entries = as_caller(caller, || Ok(fs::read_dir(reach(path)?.path())?))?;
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type().map_or(0, kind_of);
        let ino = std::os::unix::fs::DirEntryExt::ino(&entry);
        each(DirEntry { name: entry.file_name().into_vec(), ino, kind });
    }
    Ok(())
}

fn kind_of(kind: fs::FileType) -> u32 {
    match () {
        () if kind.is_dir() => libc::S_IFDIR,
        () if kind.is_symlink() => libc::S_IFLNK,
        () if kind.is_fifo() => libc::S_IFIFO,
        () if kind.is_socket() => libc::S_IFSOCK,
        () if kind.is_char_device() => libc::S_IFCHR,
        () if kind.is_block_device() => libc::S_IFBLK,
        () => libc::S_IFREG,
    }
}

pub(super) fn statfs(path: &[u8]) -> Result<StatFs, Errno> {
    let kind = nix::sys::statfs::statfs(reach(path)?.path()).map_err(io::Error::from)?;
    let found = nix::sys::statvfs::statvfs(reach(path)?.path()).map_err(io::Error::from)?;
    Ok(StatFs {
        kind: kind.filesystem_type().0,
        block_size: u32::try_from(found.fragment_size()).unwrap_or(4096),
        blocks: found.blocks(),
        free: found.blocks_free(),
        available: found.blocks_available(),
        files: found.files(),
        free_files: found.files_free(),
        name_length: u32::try_from(found.name_max()).unwrap_or(255),
    })
}
