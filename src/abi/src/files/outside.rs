//! What a module may ask of the core.

use std::{fmt, os::fd::OwnedFd, sync::Arc};

use super::{Caller, FileSystem, Node};
use crate::{Errno, net::NetStack};

/// A place in the tree of files, as a file system.
#[derive(Debug, Clone)]
pub struct Source {
    /// The files.
    pub files: Arc<dyn FileSystem>,
    /// The node of the place; a directory or a file.
    pub root: Node,
}

/// How a module holds its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// With others that only read it.
    Shared,
    /// With nobody else.
    Alone,
}

/// A file or device that holds the data of a module: a disk image.
pub trait Backing: Send + Sync + fmt::Debug {
    /// Reads at an offset; short at the end. Errors: `EIO`.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno>;

    /// Writes all of `data` at an offset. Errors: `EIO`, `ENOSPC`, `EROFS`.
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Errno>;

    /// The size in bytes.
    fn size(&self) -> Result<u64, Errno>;

    /// Brings what was written to where it lasts. Errors: `EIO`.
    fn flush(&self) -> Result<(), Errno>;

    /// Gives space back: what is there reads as zeros afterwards. Errors: `EOPNOTSUPP`.
    fn discard(&self, _offset: u64, _length: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Keeps others that claim it away, until this is dropped. Errors: `EBUSY` when one that does not
    /// go together with this has claimed it.
    fn claim(&self, _claim: Claim) -> Result<(), Errno> {
        Ok(())
    }

    /// Whether calls may wait for guests or for the network.
    fn may_wait(&self) -> bool {
        false
    }
}

/// A file that guests have open, known by its number: it is not kept open.
pub trait GuestFile: Send + Sync + fmt::Debug {
    /// `st_ino`.
    fn inode(&self) -> u64;

    /// Whether some guest has it open.
    fn is_open(&self) -> bool;

    /// Takes the file away from all guests: reads and writes give `ENODEV` from now on, also those
    /// that wait already. A socket gets an unread message from its guest, so that closing the other
    /// end, which is `end`, is an error there (`POLLERR`); no guest is told before it is closed.
    fn revoke(&self, end: Arc<OwnedFd>);
}

/// A file or device that a guest has open.
#[derive(Debug, Clone)]
pub struct OpenFile {
    /// What it holds.
    pub backing: Arc<dyn Backing>,
    /// Its path in the view; what `/proc/PID/fd` shows.
    pub path: Vec<u8>,
    /// Whether the guest may write to it.
    pub writable: bool,
    /// `st_dev`.
    pub dev: u64,
    /// `st_ino`.
    pub ino: u64,
}

/// The tree of files as it was before the mount that is being made, and what else the core gives.
///
/// A later mount does not show through: a file system over `/home` finds in its source `/home`
/// what was there before, and an image on a virtual disk mounts.
pub trait Outside: Send + Sync + fmt::Debug {
    /// The files at an absolute path, real and virtual ones; links at the end are followed.
    /// Errors: `ENOENT`, `EACCES`.
    fn files(&self, path: &[u8]) -> Result<Source, Errno>;

    /// Opens the file or device at an absolute path as the caller of mount(2).
    /// Errors: those of open(2).
    fn backing(&self, path: &[u8], writable: bool) -> Result<Arc<dyn Backing>, Errno>;

    /// The file that the caller of mount(2) has open at a descriptor. Errors: `EBADF`.
    fn descriptor(&self, descriptor: i32) -> Result<Arc<dyn GuestFile>, Errno>;

    /// What a guest has open at a descriptor, whoever it is. Errors: `EBADF`, `EINVAL` for what is neither a
    /// regular file nor a block device.
    fn opened(&self, _caller: &Caller, _descriptor: i32) -> Result<OpenFile, Errno> {
        Err(Errno::EBADF)
    }

    /// Other disks than before are among the sub-devices of a device.
    fn disks_changed(&self) {}

    /// Who has called mount(2).
    fn caller(&self) -> Caller;

    /// The network stack that is mounted at an absolute path. Errors: `ENOENT`, `ENOTSUP` for what is
    /// no stack.
    fn stack(&self, _path: &[u8]) -> Result<Arc<dyn NetStack>, Errno> {
        Err(Errno::ENOENT)
    }

    /// The network stack that a process uses for the internet; None for the kernel's.
    fn stack_of(&self, _caller: &Caller) -> Option<Arc<dyn NetStack>> {
        None
    }

    /// An absolute path for what the caller of mount(2) has named relative to where it is.
    fn absolute(&self, path: &[u8]) -> Result<Vec<u8>, Errno>;

    /// The tree as it is from now on; None where there is no other.
    fn current(&self) -> Option<Arc<dyn Outside>> {
        None
    }

    /// Asks, before anything is changed, to do what takes long in the call of a guest that is under way.
    /// Errors: one to be passed on as it is; the call is then made again where it holds nobody up.
    fn take_time(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// Tells the user who mounts one line, though the mount succeeds.
    fn notice(&self, _line: &str) {}
}
