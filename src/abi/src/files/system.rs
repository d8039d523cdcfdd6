//! The contract of file systems.

use std::{
    any::Any,
    fmt,
    os::fd::BorrowedFd,
    sync::{Arc, Weak},
    time::Duration,
};

use super::{Attributes, Caller, Changes, Handle, Node, Opened, StatFs, Time};
use crate::Errno;

/// How long an answer of a file system holds that only the core changes.
const FOR_EVER: Duration = Duration::MAX;

/// A name that was found.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The node; each answer counts as one reference, until [`FileSystem::forget`].
    pub node: Node,
    /// What it looks like.
    pub attributes: Attributes,
    /// How long the name leads to this node, unless guests change it.
    pub valid: Duration,
}

impl Entry {
    /// An entry that changes by guests only.
    #[must_use]
    pub fn lasting(node: Node, attributes: Attributes) -> Self {
        Self { node, attributes, valid: FOR_EVER }
    }
}

/// An entry of a directory: getdents64(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without a slash; `.` and `..` are left out.
    pub name: Vec<u8>,
    /// `d_ino`.
    pub ino: u64,
    /// The type bits of the mode, for instance `S_IFREG`; 0 when unknown.
    pub kind: u32,
}

/// What lseek(2) looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// `SEEK_DATA`.
    Data,
    /// `SEEK_HOLE`.
    Hole,
}

/// What the argument of an ioctl(2) request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// What the number of the request says.
    AsItSays,
    /// A pointer to so many bytes, whatever the number says.
    Bytes(usize),
    /// No pointer: the value itself, in 8 bytes.
    Value,
}

/// What the core has to know about a file system as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traits {
    /// Calls may wait for guests or for the network: they run on threads of their own.
    pub may_wait: bool,
    /// The file system checks permissions itself. Otherwise the core does, by the mode bits.
    pub checks_access: bool,
    /// Nothing can be changed: the core answers `EROFS`.
    pub read_only: bool,
    /// It keeps when files were read last, and is told ([`FileSystem::accessed`]) as Linux would note it.
    pub keeps_access_times: bool,
    /// Guests get files of the host ([`Data::Host`](super::Data::Host)) whose looks are not to be
    /// changed by a descriptor: fchmod(2), fchown(2), fsetxattr(2) are calls of this file system.
    pub guards: bool,
    /// Names that differ in case only are one: rename(2) of a file to its own name writes it anew.
    pub folds_case: bool,
    /// Each name of a file may be a node of its own, and a name that is taken away while a handle is open may stay
    /// for a while, under another one.
    pub parts_names: bool,
}

/// Where one sees what happens to a file: inotify(7).
#[derive(Debug)]
pub enum Seen {
    /// In the calls that the core answers, and what guests do with what they have been given.
    Here,
    /// At this path of the host.
    Host(Vec<u8>),
    /// At another file, as [`Data::Same`](super::Data::Same) passes it on.
    Same(Arc<dyn Any + Send + Sync>),
    /// Changes of names in the calls that the core answers, reading and writing at these paths of the host.
    Layers(Vec<Vec<u8>>),
}

/// What a caller may be granted beyond what mode bits and owners say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// To change a file as its owner could: content, names in a directory, mode, times.
    Change,
    /// To give a file to anybody, and to make devices in a directory.
    GiveAway,
}

/// What the core keeps of a file system, which may tell that it is out of date. Must not be called
/// while an answer to the core is being made.
pub trait Keeper: Send + Sync {
    /// A name leads elsewhere or nowhere now.
    fn forget_name(&self, parent: Node, name: &[u8]);

    /// The content of a file has changed.
    fn forget_content(&self, node: Node);
}

/// A file system: a tree of nodes. Called from several threads at once.
///
/// The core has checked names (not empty, no slash, at most 255 bytes, not `.` or `..`), that
/// parents are directories, that what is to be made does not exist, and, unless
/// [`Traits::checks_access`] is set, the permissions of the caller and the sticky bit. New files
/// belong to the caller ([`Caller::uid`], [`Caller::gid`]; the group of a set-group-id directory is
/// inherited) and have the mode as given: the mask is applied.
///
/// Errors are those of the system call with the same name unless stated.
pub trait FileSystem: Send + Sync + fmt::Debug {
    /// What the core has to know.
    fn traits(&self) -> Traits {
        Traits::default()
    }

    /// It is mounted: names and contents are kept by `keeper`.
    fn mounted(&self, _keeper: Weak<dyn Keeper>) {}

    /// What `/proc/mounts` shows as options, behind `rw` or `ro`; None for those of mount(2).
    fn options(&self) -> Option<String> {
        None
    }

    /// The root: a directory, or a file when a file is mounted on.
    fn root(&self) -> Node {
        Node::ROOT
    }

    /// Whether a caller may do something though the mode bits or the owner of a file say no. The default
    /// grants it to the administrator. Not asked when [`Traits::checks_access`] is set.
    fn grants(&self, caller: &Caller, _file: &Attributes, _right: Right) -> bool {
        caller.is_privileged()
    }

    /// The path by which the kernel finds a file that is one of the host's.
    fn host_path(&self, _node: Node) -> Option<Vec<u8>> {
        None
    }

    /// Where one sees what happens to a file.
    fn seen_at(&self, _node: Node) -> Seen {
        Seen::Here
    }

    /// The type bits of the root, when they are known without asking: so it can be taken away though
    /// nobody answers.
    fn root_kind(&self) -> Option<u32> {
        None
    }

    /// Finds a name. Errors: `ENOENT`, `ENOTDIR`.
    fn lookup(&self, caller: &Caller, parent: Node, name: &[u8]) -> Result<Entry, Errno>;

    /// Drops so many references. Must not wait. At none, the node may be forgotten, and its content when it has
    /// no name any more.
    fn forget(&self, _node: Node, _count: u64) {}

    /// stat(2).
    fn getattr(
        &self,
        caller: &Caller,
        node: Node,
        handle: Option<Handle>,
    ) -> Result<Attributes, Errno>;

    /// chmod(2), chown(2), truncate(2), utimensat(2).
    fn setattr(
        &self,
        _caller: &Caller,
        _node: Node,
        _handle: Option<Handle>,
        _changes: &Changes,
    ) -> Result<Attributes, Errno> {
        Err(Errno::EPERM)
    }

    /// A file or directory was read: its time of access changes, and nothing else. Told when
    /// [`Traits::keeps_access_times`] is set.
    fn accessed(&self, _node: Node, _time: Time) -> Result<(), Errno> {
        Ok(())
    }

    /// readlink(2). Errors: `EINVAL` for what is no link.
    fn readlink(&self, _caller: &Caller, _node: Node) -> Result<Vec<u8>, Errno> {
        Err(Errno::EINVAL)
    }

    /// mknod(2); also regular files. `mode` has type and permission bits.
    fn mknod(
        &self,
        _caller: &Caller,
        _parent: Node,
        _name: &[u8],
        _mode: u32,
        _rdev: u64,
    ) -> Result<Entry, Errno> {
        Err(Errno::EPERM)
    }

    /// mkdir(2).
    fn mkdir(
        &self,
        _caller: &Caller,
        _parent: Node,
        _name: &[u8],
        _mode: u32,
    ) -> Result<Entry, Errno> {
        Err(Errno::EPERM)
    }

    /// symlink(2).
    fn symlink(
        &self,
        _caller: &Caller,
        _parent: Node,
        _name: &[u8],
        _target: &[u8],
    ) -> Result<Entry, Errno> {
        Err(Errno::EPERM)
    }

    /// link(2).
    fn link(
        &self,
        _caller: &Caller,
        _node: Node,
        _parent: Node,
        _name: &[u8],
    ) -> Result<Entry, Errno> {
        Err(Errno::EPERM)
    }

    /// As [`link`](Self::link), of a file that a guest has open: linkat(2) by the descriptor `file`, which is
    /// of the host where [`Data::Host`](super::Data::Host) was given for the node.
    fn link_opened(
        &self,
        caller: &Caller,
        (node, _file): (Node, BorrowedFd<'_>),
        parent: Node,
        name: &[u8],
    ) -> Result<Entry, Errno> {
        self.link(caller, node, parent, name)
    }

    /// unlink(2). The node stays while it is referenced. Errors: `EISDIR`.
    fn unlink(&self, _caller: &Caller, _parent: Node, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// rmdir(2). Errors: `ENOTEMPTY`, `ENOTDIR`.
    fn rmdir(&self, _caller: &Caller, _parent: Node, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// renameat2(2) inside this file system. The core has ruled out that a directory moves below
    /// itself. Errors: `EEXIST` with `RENAME_NOREPLACE`, `EINVAL` for flags it does not know,
    /// `ENOTEMPTY`, `ENOTDIR`, `EISDIR`.
    fn rename(
        &self,
        _caller: &Caller,
        _from: (Node, &[u8]),
        _to: (Node, &[u8]),
        _flags: u32,
    ) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// open(2) of a regular file or a device. `O_CREAT`, `O_EXCL` and `O_TRUNC` are done already.
    /// Errors: `ENXIO`, `EROFS`.
    fn open(&self, caller: &Caller, node: Node, flags: i32) -> Result<Opened, Errno>;

    /// Makes and opens a regular file in one step. The default makes it by
    /// [`mknod`](Self::mknod) first.
    fn create(
        &self,
        caller: &Caller,
        parent: Node,
        name: &[u8],
        mode: u32,
        flags: i32,
    ) -> Result<(Entry, Opened), Errno> {
        let entry = self.mknod(caller, parent, name, libc::S_IFREG | mode & 0o7777, 0)?;
        let opened = self.open(caller, entry.node, flags)?;
        Ok((entry, opened))
    }

    /// Makes a file without a name, and opens it: `O_TMPFILE`. The default makes it by
    /// [`tmpfile`](Self::tmpfile) first.
    fn create_nameless(
        &self,
        caller: &Caller,
        parent: Node,
        mode: u32,
        flags: i32,
    ) -> Result<(Entry, Opened), Errno> {
        let entry = self.tmpfile(caller, parent, mode)?;
        let flags = flags & !(libc::O_TMPFILE | libc::O_EXCL);
        let opened =
            self.open(caller, entry.node, flags).inspect_err(|_| self.forget(entry.node, 1))?;
        Ok((entry, opened))
    }

    /// Makes a file without a name. `mode` has type and permission bits.
    fn tmpfile(&self, _caller: &Caller, _parent: Node, _mode: u32) -> Result<Entry, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// pread(2): short at the end of the file only.
    fn read(
        &self,
        _node: Node,
        _handle: Handle,
        _offset: u64,
        _buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    /// pwrite(2). Errors: `ENOSPC`, `EFBIG`, `EIO`.
    fn write(
        &self,
        _node: Node,
        _handle: Handle,
        _offset: u64,
        _data: &[u8],
    ) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    /// A guest has closed the file after changing it. Errors: `EIO`, `ENOSPC`; they are logged.
    fn flush(&self, _node: Node, _handle: Handle) -> Result<(), Errno> {
        Ok(())
    }

    /// Nobody has the file open by this handle any more. Must not wait.
    fn release(&self, _node: Node, _handle: Handle) {}

    /// fsync(2), fdatasync(2).
    fn fsync(&self, _node: Node, _handle: Handle, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }

    /// fallocate(2) with a mode.
    fn fallocate(
        &self,
        _node: Node,
        _handle: Handle,
        _mode: i32,
        _offset: u64,
        _length: u64,
    ) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// lseek(2) to data or to a hole. The default sees one piece of data. Errors: `ENXIO` at or
    /// behind the end.
    fn seek(&self, node: Node, handle: Handle, offset: u64, what: Seek) -> Result<u64, Errno> {
        let size = self.getattr(&Caller::root(), node, Some(handle))?.size;
        match what {
            _ if offset >= size => Err(Errno::ENXIO),
            Seek::Data => Ok(offset),
            Seek::Hole => Ok(size),
        }
    }

    /// copy_file_range(2) inside this file system. Errors: `EOPNOTSUPP`: the core copies.
    fn copy_range(
        &self,
        _from: (Node, Handle, u64),
        _to: (Node, Handle, u64),
        _length: u64,
    ) -> Result<u64, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Opens a directory for listing. Errors: `ENOTDIR`.
    fn opendir(&self, _caller: &Caller, _node: Node) -> Result<Handle, Errno> {
        Ok(Handle(0))
    }

    /// Lists a directory; `each` is called once for each entry. Errors: `ENOTDIR`, `EIO`.
    fn readdir(
        &self,
        _caller: &Caller,
        _node: Node,
        _handle: Handle,
        _each: &mut dyn FnMut(DirEntry),
    ) -> Result<(), Errno> {
        Err(Errno::ENOTDIR)
    }

    /// Lets a directory go.
    fn releasedir(&self, _node: Node, _handle: Handle) {}

    /// fsync(2) of a directory.
    fn fsyncdir(&self, _node: Node, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }

    /// statfs(2).
    fn statfs(&self, _node: Node) -> Result<StatFs, Errno> {
        Err(Errno::ENOSYS)
    }

    /// getxattr(2). Errors: `ENODATA`.
    fn getxattr(&self, _caller: &Caller, _node: Node, _name: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// setxattr(2) with its flags. Errors: `EEXIST`, `ENODATA`, `ENOSPC`.
    fn setxattr(
        &self,
        _caller: &Caller,
        _node: Node,
        _name: &[u8],
        _value: &[u8],
        _flags: i32,
    ) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// listxattr(2).
    fn listxattr(&self, _caller: &Caller, _node: Node) -> Result<Vec<Vec<u8>>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// removexattr(2). Errors: `ENODATA`.
    fn removexattr(&self, _caller: &Caller, _node: Node, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// access(2), asked when [`Traits::checks_access`] is set. `wanted` is a sum of
    /// [`READ`](super::READ), [`WRITE`](super::WRITE), [`EXECUTE`](super::EXECUTE); 0 asks whether
    /// the file exists. Errors: `EACCES`, `EROFS`.
    fn access(&self, caller: &Caller, node: Node, wanted: u32) -> Result<(), Errno> {
        let attributes = self.getattr(caller, node, None)?;
        if caller.may(&attributes, wanted) { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// Whether a file may be opened, or executed, when [`Traits::checks_access`] is set; `wanted` as in
    /// [`FileSystem::access`], whose answer is the default. Errors: `EACCES`.
    fn may_open(&self, caller: &Caller, node: Node, wanted: u32) -> Result<(), Errno> {
        self.access(caller, node, wanted)
    }

    /// What the argument of an ioctl(2) request is.
    fn takes(&self, _node: Node, _request: u32) -> Takes {
        Takes::AsItSays
    }

    /// ioctl(2). `argument` holds, unless [`FileSystem::takes`] says otherwise, what the number of the
    /// request says it reads; what it holds afterwards is written back. Errors: `ENOTTY`.
    fn ioctl(
        &self,
        _caller: &Caller,
        _node: Node,
        _handle: Handle,
        _request: u32,
        _argument: &mut Vec<u8>,
    ) -> Result<i64, Errno> {
        Err(Errno::ENOTTY)
    }

    /// Which of `POLLIN`, `POLLOUT`, ... hold for a file whose data is
    /// [`Data::Direct`](super::Data::Direct). The default is always ready.
    fn poll(&self, _node: Node, _handle: Handle) -> i16 {
        libc::POLLIN | libc::POLLOUT | libc::POLLRDNORM | libc::POLLWRNORM
    }

    /// syncfs(2), and before the end. Errors: `EIO`.
    fn sync(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// The file system is taken away: nothing is asked of it any more.
    fn stop(&self) {}
}
