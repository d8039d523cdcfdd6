//! `vufusemem`: a file system in memory.
//!
//! `vumount -t vufusemem [-o size=N,inodes=N,mode=M,uid=U,gid=G] none /mnt`: as tmpfs(5). Hard links,
//! holes, extended attributes, `O_TMPFILE`, exchange and no-replace renames; `ENOSPC` when `size` or
//! `inodes` is used up. With `waits` each call is made on a thread of its own, as for a file system that
//! waits for guests: to try that path.

mod data;
mod inode;
mod saved;
mod tree;

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use umvu_abi::{
    Errno,
    files::{
        Attributes, Caller, Changes, DirEntry, Entry, FileSystem, Handle, Node, Opened, Right,
        Seek, StatFs, Time, Traits,
    },
    module::{MountError, MountRequest},
};

pub(super) use self::{
    data::Base,
    saved::{Content, Known, Member, Save, View},
};
use self::{
    inode::{Body, Inode},
    saved::Saved,
    tree::Tree,
};
use crate::{options::Options, specials};

/// `TMPFS_MAGIC`: programs know how to treat it.
const MAGIC: i64 = 0x0102_1994;
const PAGE: u64 = 4096;
/// What statfs(2) tells when no limit was given.
const PLENTY: u64 = 1 << 40;

/// Makes a file system by the options of a mount. Errors: `EINVAL` for an unknown option.
pub fn mount(request: &MountRequest) -> Result<Arc<dyn FileSystem>, MountError> {
    let mut options = Options::of(request);
    let size = options.size("size")?;
    let inodes = options.size("inodes")?;
    let mode = options.number("mode", 8)?.unwrap_or(0o1777);
    let waits = options.flag("waits");
    let owner = [options.number("uid", 10)?, options.number("gid", 10)?];
    options.finish()?;
    let owner = owner.map(|id| id.unwrap_or(0));
    let told = Some(told(size, inodes, mode, owner));
    let root = Inode::directory(libc::S_IFDIR | mode & 0o7777, owner);
    let tree = Mutex::new(Tree::new(root, size, inodes));
    Ok(Arc::new(Memory { tree, waits, told, saved: None }))
}

/// The options as tmpfs shows them.
fn told(size: Option<u64>, inodes: Option<u64>, mode: u32, [uid, gid]: [u32; 2]) -> String {
    let words = [
        size.map(|size| format!("size={}k", size.div_ceil(1024))),
        inodes.map(|inodes| format!("nr_inodes={inodes}")),
        (mode != 0o1777).then(|| format!("mode={mode:03o}")),
        (uid != 0).then(|| format!("uid={uid}")),
        (gid != 0).then(|| format!("gid={gid}")),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(",")
}

/// The file system.
#[derive(Debug)]
pub struct Memory {
    tree: Mutex<Tree>,
    /// Whether it is treated as one whose calls may wait, which it never does: to try that.
    waits: bool,
    /// What `/proc/mounts` tells of its options; None: as they were given.
    told: Option<String>,
    /// Where it comes from and goes to, if it does.
    saved: Option<Saved>,
}

impl Memory {
    /// One without limits, whose root belongs to the administrator.
    #[must_use]
    pub fn unlimited() -> Self {
        let root = Inode::directory(libc::S_IFDIR | 0o1777, [0, 0]);
        Self {
            tree: Mutex::new(Tree::new(root, None, None)),
            waits: false,
            told: None,
            saved: None,
        }
    }
}

fn entry(tree: &mut Tree, node: u64) -> Result<Entry, Errno> {
    let inode = tree.get_mut(node)?;
    inode.references += 1;
    Ok(Entry::lasting(Node(node), inode.attributes(node)))
}

impl FileSystem for Memory {
    fn options(&self) -> Option<String> {
        self.told.clone()
    }

    fn traits(&self) -> Traits {
        let may_wait = self.waits || self.saved.as_ref().is_some_and(|saved| saved.may_wait);
        // An archive is not written anew because it was read.
        Traits { may_wait, keeps_access_times: self.saved.is_none(), ..Traits::default() }
    }

    fn grants(&self, caller: &Caller, _: &Attributes, _: Right) -> bool {
        caller.is_privileged() || self.saved.as_ref().is_some_and(|saved| saved.owner == caller.uid)
    }

    fn lookup(&self, _: &Caller, parent: Node, name: &[u8]) -> Result<Entry, Errno> {
        let mut tree = self.tree.lock();
        let node = tree.directory(parent.0)?.get(name).copied().ok_or(Errno::ENOENT)?;
        entry(&mut tree, node)
    }

    fn forget(&self, node: Node, count: u64) {
        self.tree.lock().forget(node.0, count);
    }

    fn getattr(&self, _: &Caller, node: Node, _: Option<Handle>) -> Result<Attributes, Errno> {
        Ok(self.tree.lock().get(node.0)?.attributes(node.0))
    }

    fn setattr(
        &self,
        _: &Caller,
        node: Node,
        _: Option<Handle>,
        changes: &Changes,
    ) -> Result<Attributes, Errno> {
        let mut tree = self.changing();
        if let Some(size) = changes.size {
            tree.resize(node.0, size)?;
        }
        let inode = tree.get_mut(node.0)?;
        inode.change(changes);
        Ok(inode.attributes(node.0))
    }

    fn accessed(&self, node: Node, time: Time) -> Result<(), Errno> {
        self.tree.lock().get_mut(node.0)?.accessed(time);
        Ok(())
    }

    fn readlink(&self, _: &Caller, node: Node) -> Result<Vec<u8>, Errno> {
        match &self.tree.lock().get(node.0)?.body {
            Body::Link(target) => Ok(target.clone()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn mknod(
        &self,
        caller: &Caller,
        parent: Node,
        name: &[u8],
        mode: u32,
        rdev: u64,
    ) -> Result<Entry, Errno> {
        let body = if mode & libc::S_IFMT == libc::S_IFREG {
            Body::File(data::Data::default())
        } else {
            Body::Special(rdev)
        };
        self.make(caller, parent, name, mode, body)
    }

    fn mkdir(&self, caller: &Caller, parent: Node, name: &[u8], mode: u32) -> Result<Entry, Errno> {
        self.make(caller, parent, name, libc::S_IFDIR | mode, Body::Directory(Default::default()))
    }

    fn symlink(
        &self,
        caller: &Caller,
        parent: Node,
        name: &[u8],
        target: &[u8],
    ) -> Result<Entry, Errno> {
        self.make(caller, parent, name, libc::S_IFLNK | 0o777, Body::Link(target.to_vec()))
    }

    fn link(&self, _: &Caller, node: Node, parent: Node, name: &[u8]) -> Result<Entry, Errno> {
        self.allows(name, libc::S_IFREG)?;
        let mut tree = self.changing();
        tree.link(node.0, parent.0, name)?;
        entry(&mut tree, node.0)
    }

    fn unlink(&self, _: &Caller, parent: Node, name: &[u8]) -> Result<(), Errno> {
        self.changing().unlink(parent.0, name)
    }

    fn rmdir(&self, _: &Caller, parent: Node, name: &[u8]) -> Result<(), Errno> {
        self.changing().rmdir(parent.0, name)
    }

    fn rename(
        &self,
        caller: &Caller,
        from: (Node, &[u8]),
        to: (Node, &[u8]),
        flags: u32,
    ) -> Result<(), Errno> {
        self.allows(to.1, libc::S_IFREG)?;
        let mut tree = self.changing();
        let (from, to) = ((from.0.0, from.1), (to.0.0, to.1));
        if flags & libc::RENAME_EXCHANGE != 0 {
            return tree.exchange(from, to);
        }
        tree.rename(from, to)?;
        if flags & libc::RENAME_WHITEOUT != 0 {
            let mode = libc::S_IFCHR;
            let whiteout = Inode::new(mode, [caller.uid, caller.gid], Body::Special(0));
            tree.insert(from.0, from.1, whiteout)?;
        }
        Ok(())
    }

    fn open(&self, _: &Caller, node: Node, _: i32) -> Result<Opened, Errno> {
        let tree = self.tree.lock();
        let inode = tree.get(node.0)?;
        match &inode.body {
            Body::File(_) => Ok(Opened::cached()),
            Body::Directory(_) => Err(Errno::EISDIR),
            Body::Special(rdev) => specials::open(inode.mode & libc::S_IFMT, *rdev),
            Body::Link(_) => Err(Errno::ELOOP),
        }
    }

    fn tmpfile(&self, caller: &Caller, parent: Node, mode: u32) -> Result<Entry, Errno> {
        let mut tree = self.tree.lock();
        let body = Body::File(data::Data::default());
        let (mode, owner) = tree.inherit(parent.0, caller, mode)?;
        let node = tree.add(Inode::new(mode, owner, body))?;
        entry(&mut tree, node)
    }

    fn read(&self, node: Node, _: Handle, at: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let tree = self.tree.lock();
        let file = tree.file(node.0)?;
        let Some(below) = file.untouched().cloned() else { return file.read(at, buffer) };
        // To unpack may take long.
        let rest = usize::try_from(file.size().saturating_sub(at)).unwrap_or(usize::MAX);
        drop(tree);
        let length = rest.min(buffer.len());
        below.fill(at, &mut buffer[..length])?;
        Ok(length)
    }

    fn write(&self, node: Node, _: Handle, at: u64, data: &[u8]) -> Result<usize, Errno> {
        self.changing().write(node.0, at, data)
    }

    fn fallocate(
        &self,
        node: Node,
        _: Handle,
        mode: i32,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno> {
        let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let mut tree = self.changing();
        match mode {
            0 => {
                let end = offset.checked_add(length).ok_or(Errno::EFBIG)?;
                if end > tree.file(node.0)?.size() { tree.resize(node.0, end) } else { Ok(()) }
            }
            mode if mode == punch => tree.punch(node.0, offset, length),
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    fn seek(&self, node: Node, _: Handle, offset: u64, what: Seek) -> Result<u64, Errno> {
        self.tree.lock().file(node.0)?.seek(offset, what).ok_or(Errno::ENXIO)
    }

    fn readdir(
        &self,
        _: &Caller,
        node: Node,
        _: Handle,
        each: &mut dyn FnMut(DirEntry),
    ) -> Result<(), Errno> {
        let tree = self.tree.lock();
        for (name, child) in tree.directory(node.0)? {
            let kind = tree.get(*child)?.mode & libc::S_IFMT;
            each(DirEntry { name: name.clone(), ino: *child, kind });
        }
        Ok(())
    }

    fn statfs(&self, _: Node) -> Result<StatFs, Errno> {
        let tree = self.tree.lock();
        let blocks = tree.size_limit.unwrap_or(PLENTY) / PAGE;
        let free = blocks.saturating_sub(tree.used.div_ceil(PAGE));
        let files = tree.inodes_limit.unwrap_or(PLENTY);
        Ok(StatFs {
            kind: self.saved.as_ref().map_or(MAGIC, |saved| saved.magic),
            block_size: 4096,
            blocks,
            free,
            available: free,
            files,
            free_files: files.saturating_sub(tree.count()),
            name_length: 255,
        })
    }

    fn getxattr(&self, _: &Caller, node: Node, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.tree.lock().get(node.0)?.xattrs.get(name).cloned().ok_or(Errno::ENODATA)
    }

    fn setxattr(
        &self,
        _: &Caller,
        node: Node,
        name: &[u8],
        value: &[u8],
        flags: i32,
    ) -> Result<(), Errno> {
        if self.saved.as_ref().is_some_and(|saved| !saved.save.has_xattrs()) {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut tree = self.changing();
        let inode = tree.get_mut(node.0)?;
        match (inode.xattrs.contains_key(name), flags) {
            (true, libc::XATTR_CREATE) => return Err(Errno::EEXIST),
            (false, libc::XATTR_REPLACE) => return Err(Errno::ENODATA),
            _ => {}
        }
        inode.xattrs.insert(name.to_vec(), value.to_vec());
        inode.touched();
        Ok(())
    }

    fn listxattr(&self, _: &Caller, node: Node) -> Result<Vec<Vec<u8>>, Errno> {
        Ok(self.tree.lock().get(node.0)?.xattrs.keys().cloned().collect())
    }

    fn removexattr(&self, _: &Caller, node: Node, name: &[u8]) -> Result<(), Errno> {
        let mut tree = self.changing();
        let inode = tree.get_mut(node.0)?;
        inode.xattrs.remove(name).ok_or(Errno::ENODATA)?;
        inode.touched();
        Ok(())
    }

    fn sync(&self) -> Result<(), Errno> {
        self.save()
    }
}

impl Memory {
    fn make(
        &self,
        caller: &Caller,
        parent: Node,
        name: &[u8],
        mode: u32,
        body: Body,
    ) -> Result<Entry, Errno> {
        self.allows(name, mode)?;
        let mut tree = self.changing();
        let (mode, owner) = tree.inherit(parent.0, caller, mode)?;
        let node = tree.insert(parent.0, name, Inode::new(mode, owner, body))?;
        entry(&mut tree, node)
    }
}

/// The names of a directory.
type Names = HashMap<Vec<u8>, u64>;

#[cfg(test)]
mod tests;
