//! One file or directory of a layer: a node of another file system, held while it is needed.

use std::{
    fmt,
    os::fd::{BorrowedFd, OwnedFd},
    sync::Arc,
};

use umvu_abi::{
    Errno,
    files::{
        Attributes, Caller, Changes, Data, DirEntry, Entry, FileSystem, Handle, Node, Opened,
        StatFs,
    },
};

/// A reference to a node of a layer.
pub(super) type Ref = Arc<Held>;

/// A node of a layer, which is let go at the end.
pub(super) struct Held {
    files: Arc<dyn FileSystem>,
    node: Node,
    /// Whether it is the root, which is never forgotten.
    root: bool,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({})", self.node.0)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.root {
            self.files.forget(self.node, 1);
        }
    }
}

/// What was found or made in a layer.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) at: Ref,
    pub(super) looks: Attributes,
}

/// Turns "is not there" into nothing. Errors: all others.
pub(super) fn perhaps<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG) => Ok(None),
        Err(errno) => Err(errno),
    }
}

impl Held {
    /// The root of a layer.
    pub(super) fn root(files: Arc<dyn FileSystem>, node: Node) -> Ref {
        Arc::new(Self { files, node, root: true })
    }

    fn hold(&self, entry: &Entry) -> Seen {
        let held = Self { files: Arc::clone(&self.files), node: entry.node, root: false };
        Seen { at: Arc::new(held), looks: entry.attributes }
    }

    /// Finds a name; None when there is nothing. Errors: `EACCES`.
    pub(super) fn child(&self, caller: &Caller, name: &[u8]) -> Result<Option<Seen>, Errno> {
        let found = perhaps(self.files.lookup(caller, self.node, name))?;
        Ok(found.map(|entry| self.hold(&entry)))
    }

    pub(super) fn looks(&self, caller: &Caller) -> Result<Attributes, Errno> {
        self.files.getattr(caller, self.node, None)
    }

    pub(super) fn set(&self, caller: &Caller, changes: &Changes) -> Result<Attributes, Errno> {
        self.files.setattr(caller, self.node, None, changes)
    }

    pub(super) fn read_link(&self, caller: &Caller) -> Result<Vec<u8>, Errno> {
        self.files.readlink(caller, self.node)
    }

    /// Makes a node, a directory or a link.
    pub(super) fn make(&self, caller: &Caller, name: &[u8], what: Make<'_>) -> Result<Seen, Errno> {
        let entry = match what {
            Make::Node { mode, rdev } => self.files.mknod(caller, self.node, name, mode, rdev)?,
            Make::Directory { mode } => self.files.mkdir(caller, self.node, name, mode)?,
            Make::Link { target } => self.files.symlink(caller, self.node, name, target)?,
        };
        Ok(self.hold(&entry))
    }

    /// Makes and opens a regular file.
    pub(super) fn create(
        &self,
        caller: &Caller,
        name: &[u8],
        mode: u32,
        flags: i32,
    ) -> Result<(Seen, Data), Errno> {
        let (entry, opened) = self.files.create(caller, self.node, name, mode, flags)?;
        let seen = self.hold(&entry);
        Ok((seen, self.taken(entry.node, opened)))
    }

    /// Makes and opens a regular file without a name.
    pub(super) fn create_nameless(
        &self,
        caller: &Caller,
        mode: u32,
        flags: i32,
    ) -> Result<(Seen, Data), Errno> {
        let (entry, opened) = self.files.create_nameless(caller, self.node, mode, flags)?;
        let seen = self.hold(&entry);
        Ok((seen, self.taken(entry.node, opened)))
    }

    /// Gives a file of the same layer a name here; a guest may name it by a descriptor.
    pub(super) fn link(
        &self,
        caller: &Caller,
        (file, opened): (&Self, Option<BorrowedFd<'_>>),
        name: &[u8],
    ) -> Result<Seen, Errno> {
        let entry = match opened {
            Some(opened) => self.files.link_opened(caller, (file.node, opened), self.node, name)?,
            None => self.files.link(caller, file.node, self.node, name)?,
        };
        Ok(self.hold(&entry))
    }

    pub(super) fn unlink(&self, caller: &Caller, name: &[u8]) -> Result<(), Errno> {
        self.files.unlink(caller, self.node, name)
    }

    pub(super) fn rmdir(&self, caller: &Caller, name: &[u8]) -> Result<(), Errno> {
        self.files.rmdir(caller, self.node, name)
    }

    /// renameat2(2) inside the layer.
    pub(super) fn rename(
        &self,
        caller: &Caller,
        name: &[u8],
        to: (&Self, &[u8]),
        flags: u32,
    ) -> Result<(), Errno> {
        self.files.rename(caller, (self.node, name), (to.0.node, to.1), flags)
    }

    pub(super) fn open(&self, caller: &Caller, flags: i32) -> Result<Data, Errno> {
        let opened = self.files.open(caller, self.node, flags)?;
        Ok(self.taken(self.node, opened))
    }

    /// A file of the host behind a file, opened; None when the layer is virtual there.
    pub(super) fn open_host(&self, caller: &Caller, flags: i32) -> Result<Option<OwnedFd>, Errno> {
        match self.open(caller, flags)? {
            Data::Host(file) | Data::HostDressed(file) => Ok(Some(file)),
            _ => Ok(None),
        }
    }

    fn taken(&self, node: Node, opened: Opened) -> Data {
        self.files.release(node, opened.handle);
        opened.data
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.files.read(self.node, Handle(0), offset, buffer)
    }

    pub(super) fn write(&self, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        self.files.write(self.node, Handle(0), offset, data)
    }

    pub(super) fn sync(&self, data_only: bool) -> Result<(), Errno> {
        self.files.fsync(self.node, Handle(0), data_only)
    }

    pub(super) fn list(&self, caller: &Caller) -> Result<Vec<DirEntry>, Errno> {
        let mut found = Vec::new();
        let handle = self.files.opendir(caller, self.node)?;
        let listed = self.files.readdir(caller, self.node, handle, &mut |entry| found.push(entry));
        self.files.releasedir(self.node, handle);
        listed.map(|()| found)
    }

    pub(super) fn statfs(&self) -> Result<StatFs, Errno> {
        self.files.statfs(self.node)
    }

    pub(super) fn host_path(&self) -> Option<Vec<u8>> {
        self.files.host_path(self.node)
    }

    pub(super) fn get_xattr(&self, caller: &Caller, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.files.getxattr(caller, self.node, name)
    }

    pub(super) fn set_xattr(
        &self,
        caller: &Caller,
        name: &[u8],
        value: &[u8],
        flags: i32,
    ) -> Result<(), Errno> {
        self.files.setxattr(caller, self.node, name, value, flags)
    }

    pub(super) fn list_xattr(&self, caller: &Caller) -> Result<Vec<Vec<u8>>, Errno> {
        self.files.listxattr(caller, self.node)
    }

    pub(super) fn remove_xattr(&self, caller: &Caller, name: &[u8]) -> Result<(), Errno> {
        self.files.removexattr(caller, self.node, name)
    }

    pub(super) fn sync_all(&self) -> Result<(), Errno> {
        self.files.sync()
    }
}

/// What is to be made, but regular files with an open descriptor.
#[derive(Debug, Clone, Copy)]
pub(super) enum Make<'a> {
    /// mknod(2): also regular files.
    Node {
        /// Type and permission bits.
        mode: u32,
        /// The device.
        rdev: u64,
    },
    /// mkdir(2).
    Directory {
        /// Permission bits.
        mode: u32,
    },
    /// symlink(2).
    Link {
        /// Where it leads.
        target: &'a [u8],
    },
}
