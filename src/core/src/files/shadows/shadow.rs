//! One shadow: a file or directory of our own, on which is done what a guest does to the watched one.
//!
//! Each operation here is one that has the kernel tell exactly one event.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io,
    os::unix::{ffi::OsStrExt, fs::DirBuilderExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    sys::{
        stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat},
        time::TimeSpec,
    },
};

use super::super::Inode;

/// What is done to a file that keeps its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// `IN_ATTRIB`.
    Look,
    /// `IN_ACCESS`.
    Read,
    /// `IN_MODIFY`.
    Write,
}

/// What stands for an inode that guests watch.
#[derive(Debug)]
pub(super) struct Shadow {
    pub(super) inode: Arc<Inode>,
    pub(super) path: PathBuf,
    /// `st_ino` of the shadow: by it the kernel names it in `/proc/PID/fdinfo`.
    pub(super) ino: u64,
    /// How many names of a directory have been taken over.
    pub(super) names: usize,
}

impl Shadow {
    /// What stands for a name in the directory.
    pub(super) fn child(&self, name: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(name))
    }
}

/// Makes a shadow: `IN_CREATE` in a directory.
pub(super) fn make(path: &Path, is_directory: bool) -> io::Result<()> {
    if is_directory {
        return fs::DirBuilder::new().mode(0o700).create(path);
    }
    Ok(mknod(path, SFlag::S_IFREG, Mode::S_IRWXU, 0)?)
}

/// Takes a shadow away: `IN_DELETE` in a directory; `IN_ATTRIB` or not, `IN_DELETE_SELF` and
/// `IN_IGNORED` for who watches it itself.
pub(super) fn take(path: &Path) -> io::Result<()> {
    fs::remove_file(path).or_else(|error| match error.raw_os_error() {
        Some(libc::EISDIR | libc::EPERM) => fs::remove_dir(path),
        _ => Err(error),
    })
}

/// Does something to a shadow.
pub(super) fn act(path: &Path, deed: Deed) -> io::Result<()> {
    let set = |atime, mtime| {
        let [atime, mtime] = [atime, mtime].map(|nanos| TimeSpec::new(0, nanos));
        utimensat(AT_FDCWD, path, &atime, &mtime, UtimensatFlags::NoFollowSymlink)
    };
    match deed {
        Deed::Look => fs::set_permissions(path, fs::Permissions::from_mode(0o700)),
        Deed::Read => Ok(set(libc::UTIME_NOW, libc::UTIME_OMIT)?),
        Deed::Write => Ok(set(libc::UTIME_OMIT, libc::UTIME_NOW)?),
    }
}

/// Opens a shadow: `IN_OPEN`; what comes of it closes with `IN_CLOSE_WRITE` or `IN_CLOSE_NOWRITE`.
pub(super) fn open(path: &Path, writes: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(writes).open(path)
}

/// Renames a shadow: `IN_MOVED_FROM` and `IN_MOVED_TO` with one cookie, `IN_MOVE_SELF`.
pub(super) fn rename(from: &Path, to: &Path, exchange: bool) -> io::Result<()> {
    let flags = if exchange { RenameFlags::RENAME_EXCHANGE } else { RenameFlags::empty() };
    Ok(renameat2(AT_FDCWD, from, AT_FDCWD, to, flags)?)
}
