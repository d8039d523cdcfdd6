//! Who makes a call.

use std::sync::Arc;

use super::Attributes;
use crate::Pid;

/// `X_OK`: to execute a file, to search a directory.
pub const EXECUTE: u32 = 1;
/// `W_OK`.
pub const WRITE: u32 = 2;
/// `R_OK`.
pub const READ: u32 = 4;

/// The credentials of a guest thread at the moment of its call (credentials(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The file-system user id: the effective one.
    pub uid: u32,
    /// The file-system group id.
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Arc<[u32]>,
    /// The mask of new files (umask(2)).
    pub umask: u32,
    /// The process.
    pub pid: Pid,
}

impl Caller {
    /// The administrator: the core itself, on behalf of nobody.
    #[must_use]
    pub fn root() -> Self {
        Self { uid: 0, gid: 0, groups: Arc::new([]), umask: 0, pid: Pid(0) }
    }

    /// Whether the caller may override permissions (`CAP_DAC_OVERRIDE`, `CAP_FOWNER`).
    #[must_use]
    pub fn is_privileged(&self) -> bool {
        self.uid == 0
    }

    /// Whether a group is among the caller's.
    #[must_use]
    pub fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    /// Whether the caller may do what only the owner may: chmod, utimes (`CAP_FOWNER`).
    #[must_use]
    pub fn owns(&self, file: &Attributes) -> bool {
        self.is_privileged() || self.uid == file.uid
    }

    /// Whether the mode bits allow `wanted`, a sum of [`READ`], [`WRITE`] and [`EXECUTE`]
    /// (path_resolution(7)).
    #[must_use]
    pub fn may(&self, file: &Attributes, wanted: u32) -> bool {
        if self.is_privileged() {
            return wanted & EXECUTE == 0 || file.is_directory() || file.mode & 0o111 != 0;
        }
        let shift = match () {
            () if self.uid == file.uid => 6,
            () if self.is_in(file.gid) => 3,
            () => 0,
        };
        (file.mode >> shift) & wanted == wanted
    }

    /// Whether a name may be taken out of a directory with the sticky bit (unlink(2): `EPERM`).
    #[must_use]
    pub fn may_remove(&self, directory: &Attributes, file: &Attributes) -> bool {
        directory.mode & libc::S_ISVTX == 0 || self.owns(file) || self.uid == directory.uid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(uid: u32, gid: u32) -> Caller {
        Caller { uid, gid, ..Caller::root() }
    }

    #[test]
    fn mode_bits_decide() {
        let file =
            Attributes { mode: libc::S_IFREG | 0o640, uid: 1, gid: 2, ..Attributes::default() };
        assert!(who(1, 9).may(&file, READ | WRITE) && !who(1, 9).may(&file, EXECUTE));
        assert!(who(5, 2).may(&file, READ) && !who(5, 2).may(&file, WRITE));
        assert!(!who(5, 5).may(&file, READ));
        assert!(who(0, 0).may(&file, READ | WRITE) && !who(0, 0).may(&file, EXECUTE));
    }

    #[test]
    fn a_sticky_directory_keeps_the_files_of_others() {
        let of = |uid, mode| Attributes { mode, uid, ..Attributes::default() };
        let (tmp, file) = (of(0, libc::S_IFDIR | 0o1777), of(7, libc::S_IFREG));
        assert!(who(7, 7).may_remove(&tmp, &file) && who(0, 0).may_remove(&tmp, &file));
        assert!(!who(8, 8).may_remove(&tmp, &file));
        assert!(who(8, 8).may_remove(&of(0, libc::S_IFDIR | 0o777), &file));
    }
}
