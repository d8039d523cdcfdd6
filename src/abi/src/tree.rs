//! Trees of generated files: `/proc/net`, `/proc/sys/net`, `/sys/class/net` of a stack.

use crate::Errno;

/// What stands at one path of a [`Tree`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A directory with the names in it (without `.` and `..`).
    Directory(Vec<String>),
    /// A regular file; its content is asked for at each open.
    File {
        /// Permission bits, for instance `0o444`.
        mode: u32,
    },
    /// A symbolic link and its target.
    Link(String),
}

/// A tree of files whose content is made at the moment they are opened (as in proc(5)).
///
/// Paths are relative to the root of the tree, without a leading slash; the root itself is `""`.
pub trait Tree: Send + Sync + std::fmt::Debug {
    /// Tells what stands at `path`. Errors: `ENOENT`, `ENOTDIR`.
    fn entry(&self, path: &str) -> Result<Entry, Errno>;

    /// Produces the content of a file. Errors: `ENOENT`, `EISDIR`, `EACCES`.
    fn read(&self, path: &str) -> Result<Vec<u8>, Errno>;

    /// Whether who writes is told of errors at once. Each write(2) of the process is then a call that is
    /// answered, and of those that it starts, so it is for files that few write to.
    fn tells_errors(&self) -> bool {
        false
    }

    /// Takes what a guest wrote to a file, as one write(2). Errors: `EACCES` by default, `EINVAL`.
    fn write(&self, _path: &str, _data: &[u8]) -> Result<(), Errno> {
        Err(Errno::EACCES)
    }
}
