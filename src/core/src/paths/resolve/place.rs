//! What a path turns out to name.

use std::sync::Arc;

use umvu_abi::tree::{Entry, Tree};

use crate::{files::Inode, view::Mount};

/// Whether a symbolic link at the end of the path is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    /// `AT_SYMLINK_FOLLOW`: stat(2), open(2).
    Follow,
    /// `AT_SYMLINK_NOFOLLOW`: lstat(2), unlink(2).
    Keep,
}

/// What a path names. Paths are absolute, canonical, without symbolic links but perhaps the last.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// The kernel's file, or none.
    Real(Vec<u8>),
    /// The kernel's directory, with mount points in it that the kernel does not show.
    Merged(Vec<u8>),
    /// A directory that exists only because something is mounted below it.
    Directory(Vec<u8>),
    /// A mount point.
    Node(Arc<Mount>),
    /// Something in the tree of a stack.
    Entry(TreeEntry),
    /// A name that a directory of a tree has not.
    Missing(Vec<u8>),
    /// A file of a mounted file system, or a device.
    Inode(Found),
    /// A name that a directory of a mounted file system has not.
    Vacant(Vacant),
}

/// A file of a mounted file system.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// The file.
    pub(crate) inode: Arc<Inode>,
    /// The directory it was found in and its name there; None for the root of a mount.
    pub(crate) parent: Option<(Arc<Inode>, Vec<u8>)>,
    /// The canonical absolute path.
    pub(crate) path: Vec<u8>,
}

/// A name that a directory of a mounted file system has not.
#[derive(Debug, Clone)]
pub(crate) struct Vacant {
    /// The directory.
    pub(crate) parent: Arc<Inode>,
    /// The name.
    pub(crate) name: Vec<u8>,
    /// The canonical absolute path.
    pub(crate) path: Vec<u8>,
    /// Whether the path demands a directory.
    pub(crate) slash: bool,
}

impl Place {
    /// The canonical absolute path.
    pub(crate) fn path(&self) -> &[u8] {
        match self {
            Self::Real(path) | Self::Merged(path) | Self::Directory(path) | Self::Missing(path) => {
                path
            }
            Self::Node(mount) => mount.target.as_bytes(),
            Self::Entry(entry) => &entry.path,
            Self::Inode(found) => &found.path,
            Self::Vacant(vacant) => &vacant.path,
        }
    }
}

/// Something in the tree of a stack.
#[derive(Debug, Clone)]
pub(crate) struct TreeEntry {
    /// The stack's mount.
    pub mount: Arc<Mount>,
    /// The tree.
    pub tree: Arc<dyn Tree>,
    /// The path in the tree.
    pub inner: String,
    /// The canonical absolute path.
    pub path: Vec<u8>,
    /// What stands there.
    pub entry: Entry,
}
