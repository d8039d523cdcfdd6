//! The file system that is open: what is known of its inodes, in front of libext2fs.

use std::collections::HashMap;

use umvu_abi::{
    Errno,
    files::{Attributes, Changes, Node, SetTime, Time},
};

use super::{
    filsys::{Account, Filsys, Run},
    inode::{Raw, Stamp},
    superblock::{Geometry, feature, field},
};

/// The number of the root directory.
pub(super) const ROOT: u32 = 2;
/// How many inodes are known at most that nobody refers to.
const IDLE: usize = 4096;
/// The most names that a file has: `EXT4_LINK_MAX`.
pub(super) const MOST_LINKS: u16 = 65_000;

/// The names of a directory, without `.` and `..`: inode and `EXT2_FT_*`.
pub(super) type Names = HashMap<Vec<u8>, (u32, u8)>;

/// What is known of an inode.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) raw: Raw,
    /// How often it was found and not forgotten.
    pub(super) references: u64,
    /// Its blocks, once they were asked for.
    pub(super) runs: Option<Vec<Run>>,
    pub(super) names: Option<Names>,
}

/// The open file system.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) fs: Filsys,
    known: HashMap<u32, Known>,
    /// `s_state` as it was found.
    pub(super) state_before: u16,
}

/// The number of a node's inode. Errors: `ESTALE`.
pub(super) fn ino_of(node: Node) -> Result<u32, Errno> {
    if node == Node::ROOT { Ok(ROOT) } else { u32::try_from(node.0).map_err(|_| Errno::ESTALE) }
}

pub(super) fn node_of(ino: u32) -> Node {
    if ino == ROOT { Node::ROOT } else { Node(u64::from(ino)) }
}

/// `EXT2_FT_*` for a mode.
pub(super) fn kind_of(mode: u32) -> u8 {
    match mode & libc::S_IFMT {
        libc::S_IFREG => 1,
        libc::S_IFDIR => 2,
        libc::S_IFCHR => 3,
        libc::S_IFBLK => 4,
        libc::S_IFIFO => 5,
        libc::S_IFSOCK => 6,
        libc::S_IFLNK => 7,
        _ => 0,
    }
}

/// The type bits for an `EXT2_FT_*`; 0 for none that is known.
pub(super) fn type_of(kind: u8) -> u32 {
    let types = [
        0,
        libc::S_IFREG,
        libc::S_IFDIR,
        libc::S_IFCHR,
        libc::S_IFBLK,
        libc::S_IFIFO,
        libc::S_IFSOCK,
        libc::S_IFLNK,
    ];
    types.get(usize::from(kind)).copied().unwrap_or(0)
}

impl Volume {
    pub(super) fn new(fs: Filsys) -> Self {
        let state_before = fs.superblock().u16(field::STATE);
        Self { fs, known: HashMap::new(), state_before }
    }

    pub(super) fn shape(&self) -> Geometry {
        *self.fs.shape()
    }

    /// What is known of an inode, or read now. Errors: `EUCLEAN`, `EIO`.
    pub(super) fn get(&mut self, ino: u32) -> Result<&mut Known, Errno> {
        if !self.known.contains_key(&ino) {
            if self.known.len() > IDLE {
                self.known.retain(|_, known| known.references > 0);
            }
            let raw = self.fs.inode(ino)?;
            self.known.insert(ino, Known { raw, references: 0, runs: None, names: None });
        }
        self.known.get_mut(&ino).ok_or(Errno::EIO)
    }

    /// The inode that a name leads to. Errors: `EUCLEAN` for what was deleted or is none.
    pub(super) fn found(&mut self, ino: u32) -> Result<Attributes, Errno> {
        let shape = self.shape();
        let known = self.get(ino)?;
        if known.raw.links() == 0 || kind_of(known.raw.mode()) == 0 {
            return Err(Errno::EUCLEAN);
        }
        known.references += 1;
        Ok(known.raw.attributes(ino, &shape))
    }

    pub(super) fn attributes(&mut self, ino: u32) -> Result<Attributes, Errno> {
        let shape = self.shape();
        Ok(self.get(ino)?.raw.attributes(ino, &shape))
    }

    /// Changes an inode, here and in the image. Errors: `EUCLEAN`, `EIO`.
    pub(super) fn change(&mut self, ino: u32, change: impl FnOnce(&mut Raw)) -> Result<(), Errno> {
        let mut raw = self.get(ino)?.raw.clone();
        change(&mut raw);
        self.fs.set_inode(ino, &raw)?;
        self.get(ino)?.raw = raw;
        Ok(())
    }

    /// Reads an inode again that the library has changed. Errors: `EUCLEAN`, `EIO`.
    pub(super) fn reread(&mut self, ino: u32) -> Result<(), Errno> {
        let raw = self.fs.inode(ino)?;
        let known = self.get(ino)?;
        known.raw = raw;
        known.runs = None;
        Ok(())
    }

    /// The names of a directory. Errors: `ENOTDIR`, `EUCLEAN`, `EIO`.
    pub(super) fn names(&mut self, ino: u32) -> Result<&mut Names, Errno> {
        let known = self.get(ino)?;
        if !known.raw.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        if known.names.is_none() {
            let found = self.fs.list(ino)?;
            let dots = |name: &[u8]| name == b"." || name == b"..";
            let proper = |name: &[u8]| !dots(name) && !name.contains(&b'/') && !name.contains(&0);
            let names = found.into_iter().filter(|it| proper(&it.name));
            let names = names.map(|it| (it.name, (it.ino, it.kind))).collect();
            self.get(ino)?.names = Some(names);
        }
        self.get(ino)?.names.as_mut().ok_or(Errno::EIO)
    }

    /// Takes an inode in whose link count, mode and owner are as wanted. Errors: `ENOSPC`.
    pub(super) fn make(&mut self, parent: u32, mut raw: Raw) -> Result<u32, Errno> {
        raw.set_flags(raw.flags() | self.inherited_flags(parent, raw.kind())?);
        let ino = self.fs.free_inode(parent, raw.mode())?;
        self.fs.account(ino, Account::Take, &raw);
        self.fs.new_inode(ino, &raw)?;
        self.known.insert(ino, Known { raw, references: 0, runs: None, names: None });
        Ok(ino)
    }

    /// An inode as new files begin. `owner` and `mode` are those that it gets.
    pub(super) fn fresh(&self, mode: u32, owner: [u32; 2]) -> Raw {
        let (shape, now) = (self.shape(), Time::now());
        let mut raw = Raw::empty(&shape);
        raw.set_mode(mode);
        raw.set_owner(owner);
        raw.set_links(1);
        raw.set_extra();
        for stamp in [Stamp::Access, Stamp::Change, Stamp::Modify, Stamp::Birth] {
            raw.set_time(stamp, now);
        }
        let kind = mode & libc::S_IFMT;
        if shape.incompat & feature::EXTENTS != 0 && kind == libc::S_IFREG {
            raw.set_extents();
        }
        raw
    }

    /// Makes an inode for an empty directory. Errors: `ENOSPC`, `EMLINK`.
    pub(super) fn make_directory(&mut self, parent: u32, looks: &Raw) -> Result<u32, Errno> {
        let before = self.get(parent)?.raw.links();
        let many = self.shape().ro_compat & feature::DIR_NLINK != 0;
        if before >= MOST_LINKS && !many {
            return Err(Errno::EMLINK);
        }
        let ino = self.fs.free_inode(parent, looks.mode())?;
        self.fs.make_directory(parent, ino)?;
        self.known.remove(&ino);
        self.reread(parent)?;
        if many && (before == 1 || before >= MOST_LINKS) {
            self.change(parent, |raw| raw.set_links(1))?;
        }
        let inherited = self.inherited_flags(parent, libc::S_IFDIR)?;
        self.change(ino, |raw| {
            raw.set_flags(raw.flags() | inherited);
            raw.set_mode(looks.mode());
            raw.set_owner(looks.owner());
            raw.set_extra();
            for stamp in [Stamp::Access, Stamp::Change, Stamp::Modify, Stamp::Birth] {
                raw.set_time(stamp, looks.time(stamp).unwrap_or_default());
            }
        })?;
        Ok(ino)
    }

    /// A directory below another is gone, or has moved. Errors: `EUCLEAN`, `EIO`.
    pub(super) fn drop_link_of_child(&mut self, parent: u32) -> Result<(), Errno> {
        self.change(parent, |raw| {
            if raw.links() > 2 {
                raw.set_links(raw.links() - 1);
            }
        })
    }

    /// A directory has come below another. Errors: `EUCLEAN`, `EIO`.
    pub(super) fn add_link_of_child(&mut self, parent: u32) -> Result<(), Errno> {
        self.change(parent, |raw| match raw.links() {
            1 => {}
            links if links >= MOST_LINKS => raw.set_links(1),
            links => raw.set_links(links + 1),
        })
    }

    /// chmod(2), chown(2), utimensat(2).
    pub(super) fn set(&mut self, ino: u32, changes: &Changes) -> Result<(), Errno> {
        self.change(ino, |raw| {
            if let Some(mode) = changes.mode {
                raw.set_mode(raw.kind() | mode & 0o7777);
            }
            let owner = raw.owner();
            raw.set_owner([changes.uid.unwrap_or(owner[0]), changes.gid.unwrap_or(owner[1])]);
            for (stamp, change) in [(Stamp::Access, changes.atime), (Stamp::Modify, changes.mtime)]
            {
                if let Some(time) = change {
                    raw.set_time(stamp, SetTime::resolve(time));
                }
            }
            raw.set_time(Stamp::Change, changes.ctime.unwrap_or_else(Time::now));
        })
    }

    /// setxattr(2), or removexattr(2) without a value. Errors: `ENOSPC`.
    pub(super) fn set_xattr(
        &mut self,
        ino: u32,
        name: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), Errno> {
        self.get(ino)?;
        let set = self.fs.set_attribute(ino, name, value);
        self.reread(ino)?;
        set?;
        self.change(ino, |raw| raw.set_time(Stamp::Change, Time::now()))
    }

    /// The content or the names have changed. Errors: `EIO`.
    pub(super) fn touched(&mut self, ino: u32) -> Result<(), Errno> {
        let now = Time::now();
        self.change(ino, |raw| {
            raw.set_time(Stamp::Modify, now);
            raw.set_time(Stamp::Change, now);
        })
    }

    /// Drops references; an inode without names goes with the last. Errors: `EUCLEAN`, `EIO`.
    pub(super) fn forget(&mut self, ino: u32, count: u64) -> Result<(), Errno> {
        let Some(known) = self.known.get_mut(&ino) else { return Ok(()) };
        known.references = known.references.saturating_sub(count);
        if known.references > 0 || known.raw.links() > 0 {
            return Ok(());
        }
        self.leave_orphans(ino)?;
        self.delete(ino)
    }

    /// Those without names that are referred to.
    pub(super) fn nameless(&self) -> Vec<u32> {
        let nameless = self.known.iter().filter(|(_, known)| known.raw.links() == 0);
        nameless.map(|(ino, _)| *ino).collect()
    }

    /// A name of an inode is gone; with the last it becomes an orphan, or goes when nobody refers to it.
    /// Errors: `EUCLEAN`, `EIO`.
    pub(super) fn lost_name(&mut self, ino: u32) -> Result<(), Errno> {
        let now = Time::now();
        self.change(ino, |raw| {
            let links = if raw.is_directory() { 0 } else { raw.links().saturating_sub(1) };
            raw.set_links(links);
            raw.set_time(Stamp::Change, now);
        })?;
        let known = self.get(ino)?;
        match (known.raw.links(), known.references) {
            (0, 0) => self.delete(ino),
            (0, _) => self.join_orphans(ino),
            _ => Ok(()),
        }
    }

    /// Gives all back that an inode without names has. Errors: `EUCLEAN`, `EIO`.
    pub(super) fn delete(&mut self, ino: u32) -> Result<(), Errno> {
        let mut raw = self.get(ino)?.raw.clone();
        if raw.has_blocks() {
            self.fs.punch(ino, 0, u64::MAX)?;
            raw = self.fs.inode(ino)?;
        }
        self.fs.drop_attributes(ino, &mut raw)?;
        raw.set_links(0);
        raw.set_size(0);
        raw.set_deleted(u32::try_from(Time::now().seconds.max(1)).unwrap_or(u32::MAX));
        self.fs.set_inode(ino, &raw)?;
        self.fs.account(ino, Account::Give, &raw);
        self.known.remove(&ino);
        Ok(())
    }

    /// Puts an inode at the head of the list of those that are to be deleted when nobody does (the list of
    /// orphans, which starts in the superblock). Errors: `EUCLEAN`, `EIO`.
    pub(super) fn join_orphans(&mut self, ino: u32) -> Result<(), Errno> {
        let first = self.fs.superblock().u32(field::LAST_ORPHAN);
        self.change(ino, |raw| raw.set_deleted(first))?;
        self.fs.set_superblock(field::LAST_ORPHAN, &ino.to_le_bytes());
        Ok(())
    }

    /// Takes an inode out of that list. Errors: `EUCLEAN`, `EIO`.
    pub(super) fn leave_orphans(&mut self, ino: u32) -> Result<(), Errno> {
        let next = self.get(ino)?.raw.deleted();
        let mut at = self.fs.superblock().u32(field::LAST_ORPHAN);
        if at == ino {
            self.fs.set_superblock(field::LAST_ORPHAN, &next.to_le_bytes());
            return Ok(());
        }
        for _ in 0..self.shape().inodes {
            if at == 0 {
                return Ok(());
            }
            let after = self.get(at)?.raw.deleted();
            if after == ino {
                return self.change(at, |raw| raw.set_deleted(next));
            }
            at = after;
        }
        Err(Errno::EUCLEAN)
    }

    /// Deletes what an earlier mount has left in the list, or cuts it to its size. Errors: `EUCLEAN`,
    /// `EIO`.
    pub(super) fn reap_orphans(&mut self) -> Result<(), Errno> {
        let mut at = self.fs.superblock().u32(field::LAST_ORPHAN);
        let mut left = self.shape().inodes;
        while at != 0 {
            left = left.checked_sub(1).ok_or(Errno::EUCLEAN)?;
            let raw = self.get(at)?.raw.clone();
            let next = raw.deleted();
            if raw.links() == 0 {
                self.delete(at)?;
            } else {
                let size = raw.size();
                self.change(at, |raw| raw.set_deleted(0))?;
                if raw.has_blocks() && !raw.is_directory() {
                    self.cut(at, size)?;
                }
            }
            self.fs.set_superblock(field::LAST_ORPHAN, &next.to_le_bytes());
            at = next;
        }
        Ok(())
    }

    /// Gives the blocks behind a size back. Errors: `EUCLEAN`, `EIO`.
    pub(super) fn cut(&mut self, ino: u32, size: u64) -> Result<(), Errno> {
        self.fs.punch(ino, size.div_ceil(self.shape().block as u64), u64::MAX)?;
        self.reread(ino)
    }
}
