//! Nodes, handles, and where the data of an open file is.

use std::{any::Any, fmt, os::fd::OwnedFd, sync::Arc};

/// A file as its file system numbers it, valid until it is forgotten. It need not be the `st_ino`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node(pub u64);

impl Node {
    /// The root of a file system, which is never forgotten.
    pub const ROOT: Self = Self(1);
}

/// An open file as its file system numbers it, until it is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle(pub u64);

/// How the data of an open file reaches the guests.
pub enum Data {
    /// The core keeps the content in a file of its own, filled by
    /// [`FileSystem::read`](super::FileSystem::read) at the first open and written back by
    /// [`FileSystem::write`](super::FileSystem::write) after the last change: guests read, write
    /// and map it at native speed. `keep` says that what was kept since an earlier open still holds.
    Cached {
        /// Whether content that is there from earlier is still right.
        keep: bool,
    },
    /// Each read and write of a guest is one of the file system: devices, streams, files whose
    /// content changes by itself.
    Direct,
    /// This file of the host serves; stat(2) by its path tells what fstat(2) tells of it.
    Host(OwnedFd),
    /// This file or socket of the host serves the data; fstat(2) is answered by
    /// [`FileSystem::getattr`](super::FileSystem::getattr), and ioctl(2) by
    /// [`FileSystem::ioctl`](super::FileSystem::ioctl).
    HostDressed(OwnedFd),
    /// The guest itself opens this path of the host, with its own rights: FIFOs, terminals.
    HostPath(Vec<u8>),
    /// As another file system of the core has answered ([`Outside::files`](super::Outside::files)):
    /// pass it on unchanged.
    Same(Arc<dyn Any + Send + Sync>),
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cached { keep } => write!(f, "Cached {{ keep: {keep} }}"),
            Self::Direct => f.write_str("Direct"),
            Self::Host(fd) => write!(f, "Host({fd:?})"),
            Self::HostDressed(fd) => write!(f, "HostDressed({fd:?})"),
            Self::HostPath(path) => write!(f, "HostPath({})", String::from_utf8_lossy(path)),
            Self::Same(_) => f.write_str("Same"),
        }
    }
}

/// An opened file.
#[derive(Debug)]
pub struct Opened {
    /// Its handle; 0 for file systems that need none.
    pub handle: Handle,
    /// Where its data is.
    pub data: Data,
}

impl Opened {
    /// A file without a handle whose content changes by guests only.
    #[must_use]
    pub fn cached() -> Self {
        Self { handle: Handle(0), data: Data::Cached { keep: true } }
    }
}
