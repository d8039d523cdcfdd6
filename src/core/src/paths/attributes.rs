//! What virtual files look like: owner, mode, numbers, and who may do what.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
};

use nix::unistd::{Gid, Uid};
use umvu_abi::{Tid, tree::Entry, vu::S_IFSTACK};

use super::{
    layout::Attributes,
    resolve::{Place, TreeEntry},
};
use crate::view::Mount;

const BLOCK_SIZE: i32 = 4096;

/// What stat(2) tells about a virtual place; None for one that is the kernel's or is missing.
pub(super) fn of(place: &Place) -> Option<Attributes> {
    match place {
        Place::Node(mount) => Some(of_node(mount)),
        Place::Entry(entry) => Some(of_entry(entry)),
        Place::Directory(path) => {
            let blank = Attributes { blksize: BLOCK_SIZE, ..Attributes::default() };
            Some(Attributes {
                ino: number_of(path),
                mode: libc::S_IFDIR | 0o755,
                nlink: 2,
                ..blank
            })
        }
        Place::Real(_)
        | Place::Merged(_)
        | Place::Missing(_)
        | Place::Inode(_)
        | Place::Vacant(_) => None,
    }
}

fn of_node(mount: &Mount) -> Attributes {
    let owner = *mount.owner.lock();
    Attributes {
        dev: mount.dev,
        ino: number_of(mount.target.as_bytes()),
        mode: S_IFSTACK | owner.mode,
        nlink: 1,
        uid: owner.uid,
        gid: owner.gid,
        blksize: BLOCK_SIZE,
        times: [(mount.mounted_at, 0); 3],
        ..Attributes::default()
    }
}

/// Files of a stack belong to the user of the hypervisor, who is its administrator.
pub(super) fn of_entry(entry: &TreeEntry) -> Attributes {
    let (mode, nlink, size) = match &entry.entry {
        Entry::Directory(_) => (libc::S_IFDIR | 0o555, 2, 0),
        Entry::File { mode } => (libc::S_IFREG | mode, 1, 0),
        Entry::Link(target) => (libc::S_IFLNK | 0o777, 1, target.len()),
    };
    Attributes {
        dev: entry.mount.dev,
        ino: number_of(&entry.path),
        mode,
        nlink,
        uid: Uid::effective().as_raw(),
        gid: Gid::effective().as_raw(),
        size: i64::try_from(size).unwrap_or(0),
        blksize: BLOCK_SIZE,
        times: [(entry.mount.mounted_at, 0); 3],
        ..Attributes::default()
    }
}

/// A stable inode number for a path.
fn number_of(path: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish() | 1
}

/// Which ids of a process count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ids {
    /// The real ones: access(2).
    Real,
    /// The effective ones: open(2), faccessat2(2) with `AT_EACCESS`.
    Effective,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Caller {
    /// Reads the ids of a thread; one that is gone counts as the hypervisor's user.
    pub(super) fn of(tid: Tid, ids: Ids) -> Self {
        // The name of a thread is any bytes.
        let status = crate::identity::status::text(tid);
        let status = String::from_utf8_lossy(&status);
        Self::parse(&status, ids).unwrap_or_else(|| Self {
            uid: Uid::effective().as_raw(),
            gid: Gid::effective().as_raw(),
            groups: vec![Gid::effective().as_raw()],
        })
    }

    fn parse(status: &str, ids: Ids) -> Option<Self> {
        let column = if ids == Ids::Real { 0 } else { 1 };
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name));
        let id = |name| field(name)?.split_whitespace().nth(column)?.parse().ok();
        let supplementary = field("Groups:").unwrap_or_default().split_whitespace();
        let mut groups: Vec<u32> = supplementary.filter_map(|id| id.parse().ok()).collect();
        let gid = id("Gid:")?;
        groups.push(gid);
        Some(Self { uid: id("Uid:")?, gid, groups })
    }

    /// The user and the group.
    pub(super) fn ids(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    /// Whether the mode bits allow `wanted` (`R_OK`, `W_OK`, `X_OK`).
    pub(super) fn may(&self, file: &Attributes, wanted: u32) -> bool {
        let is_directory = file.mode & libc::S_IFMT == libc::S_IFDIR;
        if self.uid == 0 {
            return wanted & 1 == 0 || is_directory || file.mode & 0o111 != 0;
        }
        let shift = if self.uid == file.uid {
            6
        } else if self.groups.contains(&file.gid) {
            3
        } else {
            0
        };
        (file.mode >> shift) & wanted == wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t100\t7\t7\t7\nGroups:\t4 24 \n";

    #[test]
    fn ids_are_read_from_the_status_of_a_thread() {
        let real = Caller { uid: 1000, gid: 100, groups: vec![4, 24, 100] };
        assert_eq!(Caller::parse(STATUS, Ids::Real), Some(real));
        let effective = Caller { uid: 0, gid: 7, groups: vec![4, 24, 7] };
        assert_eq!(Caller::parse(STATUS, Ids::Effective), Some(effective));
        assert_eq!(Caller::parse("", Ids::Real), None);
    }

    #[test]
    fn mode_bits_decide() {
        let file =
            Attributes { mode: libc::S_IFREG | 0o640, uid: 1, gid: 2, ..Attributes::default() };
        let who = |uid, gid| Caller { uid, gid, groups: vec![gid] };
        assert!(who(1, 9).may(&file, 6) && !who(1, 9).may(&file, 1));
        assert!(who(5, 2).may(&file, 4) && !who(5, 2).may(&file, 2));
        assert!(!who(5, 5).may(&file, 4));
        assert!(who(0, 0).may(&file, 6) && !who(0, 0).may(&file, 1));
    }
}
