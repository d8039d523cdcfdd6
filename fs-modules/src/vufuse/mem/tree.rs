//! All files, by number, with what is used of the limits.

use std::collections::HashMap;

use umvu_abi::{
    Errno,
    files::{Caller, Node},
};

use super::{
    Names,
    data::{Data, PAGE},
    inode::{Body, Inode},
};

/// The tree of one file system.
#[derive(Debug)]
pub(super) struct Tree {
    inodes: HashMap<u64, Inode>,
    next: u64,
    /// Bytes of data.
    pub(super) used: u64,
    pub(super) size_limit: Option<u64>,
    pub(super) inodes_limit: Option<u64>,
}

impl Tree {
    pub(super) fn new(mut root: Inode, size: Option<u64>, inodes: Option<u64>) -> Self {
        root.links = 2;
        root.references = 1;
        let inodes_limit = inodes;
        let inodes = HashMap::from([(Node::ROOT.0, root)]);
        Self { inodes, next: Node::ROOT.0 + 1, used: 0, size_limit: size, inodes_limit }
    }

    /// Files that are there already: their numbers, the root's first, with limits.
    pub(super) fn of(inodes: Vec<(u64, Inode)>, size: Option<u64>) -> Self {
        let next = inodes.iter().map(|(node, _)| node + 1).max().unwrap_or(Node::ROOT.0 + 1);
        Self {
            inodes: inodes.into_iter().collect(),
            next,
            used: 0,
            size_limit: size,
            inodes_limit: None,
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.inodes.len() as u64
    }

    pub(super) fn get(&self, node: u64) -> Result<&Inode, Errno> {
        self.inodes.get(&node).ok_or(Errno::ESTALE)
    }

    pub(super) fn get_mut(&mut self, node: u64) -> Result<&mut Inode, Errno> {
        self.inodes.get_mut(&node).ok_or(Errno::ESTALE)
    }

    pub(super) fn directory(&self, node: u64) -> Result<&Names, Errno> {
        match &self.get(node)?.body {
            Body::Directory(names) => Ok(names),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn names(&mut self, node: u64) -> Result<&mut Names, Errno> {
        let inode = self.get_mut(node)?;
        if inode.is_directory() {
            inode.written();
        }
        match &mut inode.body {
            Body::Directory(names) => Ok(names),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn file(&self, node: u64) -> Result<&Data, Errno> {
        match &self.get(node)?.body {
            Body::File(data) => Ok(data),
            _ => Err(Errno::EINVAL),
        }
    }

    fn file_mut(&mut self, node: u64) -> Result<&mut Data, Errno> {
        let inode = self.get_mut(node)?;
        inode.written();
        match &mut inode.body {
            Body::File(data) => Ok(data),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Mode and owner of a new file: the group comes from a set-group-id directory.
    pub(super) fn inherit(
        &self,
        parent: u64,
        caller: &Caller,
        mode: u32,
    ) -> Result<(u32, [u32; 2]), Errno> {
        let above = self.get(parent)?;
        if above.mode & libc::S_ISGID == 0 {
            return Ok((mode, [caller.uid, caller.gid]));
        }
        let is_directory = mode & libc::S_IFMT == libc::S_IFDIR;
        let mode = if is_directory { mode | libc::S_ISGID } else { mode };
        Ok((mode, [caller.uid, above.gid()]))
    }

    /// Adds a file without a name. Errors: `ENOSPC`.
    pub(super) fn add(&mut self, inode: Inode) -> Result<u64, Errno> {
        if self.inodes_limit.is_some_and(|limit| self.count() >= limit) {
            return Err(Errno::ENOSPC);
        }
        let node = self.next;
        self.next += 1;
        self.inodes.insert(node, inode);
        Ok(node)
    }

    /// Adds a file under a name. Errors: `ENOSPC`, `EEXIST`, `ENOENT` in a removed directory.
    pub(super) fn insert(
        &mut self,
        parent: u64,
        name: &[u8],
        mut inode: Inode,
    ) -> Result<u64, Errno> {
        if self.get(parent)?.links == 0 {
            return Err(Errno::ENOENT);
        }
        if self.directory(parent)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let is_directory = inode.is_directory();
        inode.links = if is_directory { 2 } else { 1 };
        let node = self.add(inode)?;
        self.names(parent)?.insert(name.to_vec(), node);
        if is_directory {
            self.get_mut(parent)?.links += 1;
        }
        Ok(node)
    }

    pub(super) fn link(&mut self, node: u64, parent: u64, name: &[u8]) -> Result<(), Errno> {
        if self.get(parent)?.links == 0 {
            return Err(Errno::ENOENT);
        }
        if self.directory(parent)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let inode = self.get_mut(node)?;
        inode.links = inode.links.checked_add(1).ok_or(Errno::EMLINK)?;
        inode.touched();
        self.names(parent)?.insert(name.to_vec(), node);
        Ok(())
    }

    fn child(&self, parent: u64, name: &[u8]) -> Result<u64, Errno> {
        self.directory(parent)?.get(name).copied().ok_or(Errno::ENOENT)
    }

    pub(super) fn unlink(&mut self, parent: u64, name: &[u8]) -> Result<(), Errno> {
        let node = self.child(parent, name)?;
        let inode = self.get_mut(node)?;
        if inode.is_directory() {
            return Err(Errno::EISDIR);
        }
        inode.links = inode.links.saturating_sub(1);
        inode.touched();
        self.names(parent)?.remove(name);
        self.collect(node);
        Ok(())
    }

    pub(super) fn rmdir(&mut self, parent: u64, name: &[u8]) -> Result<(), Errno> {
        let node = self.child(parent, name)?;
        if !self.directory(node)?.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.get_mut(node)?.links = 0;
        self.names(parent)?.remove(name);
        let above = self.get_mut(parent)?;
        above.links = above.links.saturating_sub(1);
        self.collect(node);
        Ok(())
    }

    /// Moves a name; what was under the new one goes.
    pub(super) fn rename(&mut self, from: (u64, &[u8]), to: (u64, &[u8])) -> Result<(), Errno> {
        let node = self.child(from.0, from.1)?;
        if self.get(to.0)?.links == 0 {
            return Err(Errno::ENOENT);
        }
        let is_directory = self.get(node)?.is_directory();
        match self.child(to.0, to.1) {
            Ok(replaced) if replaced == node => return Ok(()),
            Ok(replaced) => match (is_directory, self.get(replaced)?.is_directory()) {
                (true, true) => self.rmdir(to.0, to.1)?,
                (false, false) => self.unlink(to.0, to.1)?,
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
            },
            Err(_) => {}
        }
        self.names(from.0)?.remove(from.1);
        self.names(to.0)?.insert(to.1.to_vec(), node);
        self.get_mut(node)?.touched();
        if is_directory && from.0 != to.0 {
            let left = self.get_mut(from.0)?;
            left.links = left.links.saturating_sub(1);
            self.get_mut(to.0)?.links += 1;
        }
        Ok(())
    }

    pub(super) fn exchange(&mut self, from: (u64, &[u8]), to: (u64, &[u8])) -> Result<(), Errno> {
        let (one, other) = (self.child(from.0, from.1)?, self.child(to.0, to.1)?);
        let is_directory = [self.get(one)?.is_directory(), self.get(other)?.is_directory()];
        self.names(from.0)?.insert(from.1.to_vec(), other);
        self.names(to.0)?.insert(to.1.to_vec(), one);
        self.get_mut(one)?.touched();
        self.get_mut(other)?.touched();
        if from.0 != to.0 {
            let [more, less] = match is_directory {
                [true, false] => [to.0, from.0],
                [false, true] => [from.0, to.0],
                _ => return Ok(()),
            };
            self.get_mut(more)?.links += 1;
            let less = self.get_mut(less)?;
            less.links = less.links.saturating_sub(1);
        }
        Ok(())
    }

    pub(super) fn forget(&mut self, node: u64, count: u64) {
        if let Some(inode) = self.inodes.get_mut(&node) {
            inode.references = inode.references.saturating_sub(count);
        }
        self.collect(node);
    }

    /// Drops a file that has no name and that nobody knows.
    fn collect(&mut self, node: u64) {
        let is_gone = |inode: &Inode| inode.links == 0 && inode.references == 0;
        if self.inodes.get(&node).is_some_and(is_gone)
            && let Some(Inode { body: Body::File(data), .. }) = self.inodes.remove(&node)
        {
            self.used = self.used.saturating_sub(data.bytes());
        }
    }

    /// Writes as much as there is room for. Errors: `ENOSPC`, `EFBIG`.
    pub(super) fn write(&mut self, node: u64, at: u64, data: &[u8]) -> Result<usize, Errno> {
        at.checked_add(data.len() as u64)
            .filter(|end| i64::try_from(*end).is_ok())
            .ok_or(Errno::EFBIG)?;
        let mut data = data;
        if let Some(limit) = self.size_limit {
            let file = self.file(node)?;
            let room = limit.saturating_sub(self.used);
            while file.needed(at, data.len()) * PAGE as u64 > room {
                let shorter = data.len().saturating_sub(1) / PAGE * PAGE;
                data = &data[..shorter];
                if data.is_empty() {
                    return Err(Errno::ENOSPC);
                }
            }
        }
        self.charged(node, |file| file.write(at, data))?;
        Ok(data.len())
    }

    pub(super) fn resize(&mut self, node: u64, size: u64) -> Result<(), Errno> {
        if i64::try_from(size).is_err() {
            return Err(Errno::EFBIG);
        }
        self.charged(node, |file| {
            file.resize(size);
            Ok(())
        })
    }

    pub(super) fn punch(&mut self, node: u64, at: u64, length: u64) -> Result<(), Errno> {
        self.charged(node, |file| file.punch(at, length))
    }

    /// Changes the data of a file and keeps account of it.
    fn charged(
        &mut self,
        node: u64,
        change: impl FnOnce(&mut Data) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let file = self.file_mut(node)?;
        let before = file.bytes();
        let changed = change(file);
        let after = file.bytes();
        self.used = self.used.saturating_sub(before) + after;
        changed
    }
}
