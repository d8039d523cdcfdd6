//! The file system that a FUSE program answers: each call becomes a request.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use parking_lot::Mutex;
use umvu_abi::{
    Errno,
    files::{
        Attributes, Caller, Changes, DirEntry, EXECUTE, Entry, FileSystem, Handle, Keeper, Node,
        Opened, Seek, StatFs, Traits,
    },
};

use super::{
    handles::Handles,
    nodes::Nodes,
    options::{Given, Permissions},
    session::{Request, Session, Who},
    wire::{Body, Opcode, Reader, attr_out, setattr_in, statfs_out},
};

/// How much an extended attribute and a list of them may be.
const XATTR_MAX: u32 = 65_536;

/// The files of a FUSE program.
pub(super) struct FuseFiles {
    pub(super) session: Arc<Session>,
    pub(super) given: Given,
    pub(super) nodes: Nodes,
    pub(super) handles: Handles,
    /// Requests that the program has answered by `ENOSYS`, a bit for each.
    lacking: AtomicU64,
    pub(super) keeper: Mutex<Option<Weak<dyn Keeper>>>,
}

impl fmt::Debug for FuseFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FuseFiles({:?})", self.session)
    }
}

impl FuseFiles {
    pub(super) fn new(session: Arc<Session>, given: Given) -> Arc<Self> {
        let files = Arc::new(Self {
            session: Arc::clone(&session),
            given,
            nodes: Nodes::default(),
            handles: Handles::default(),
            lacking: AtomicU64::new(0),
            keeper: Mutex::default(),
        });
        let weak: Weak<Self> = Arc::downgrade(&files);
        session.listen(weak);
        files
    }

    /// The caller as the program sees it. Errors: `EACCES` for who may not see the files at all.
    pub(super) fn who(&self, caller: &Caller) -> Result<Who, Errno> {
        if !self.given.admits(caller) {
            return Err(Errno::EACCES);
        }
        if caller.pid.0 == 0 {
            return Ok(self.session.owner());
        }
        Ok(Who { uid: caller.uid, gid: caller.gid, pid: caller.pid.0 })
    }

    /// Asks. Errors: those of the program.
    pub(super) fn ask(
        &self,
        opcode: Opcode,
        node: u64,
        who: Who,
        body: Body,
    ) -> Result<Vec<u8>, Errno> {
        self.session.ask(&Request { opcode, node, who, body })
    }

    /// Asks what the program may not know. Errors: `ENOSYS` once it has said so.
    pub(super) fn ask_if_known(
        &self,
        opcode: Opcode,
        node: u64,
        who: Who,
        body: Body,
    ) -> Result<Vec<u8>, Errno> {
        if self.lacks(opcode) {
            return Err(Errno::ENOSYS);
        }
        let reply = self.ask(opcode, node, who, body);
        if matches!(reply, Err(Errno::ENOSYS)) {
            self.note_lacking(opcode);
        }
        reply
    }

    pub(super) fn lacks(&self, opcode: Opcode) -> bool {
        self.lacking.load(Ordering::Relaxed) & 1 << opcode.number() != 0
    }

    pub(super) fn note_lacking(&self, opcode: Opcode) {
        self.lacking.fetch_or(1 << opcode.number(), Ordering::Relaxed);
    }

    /// Attributes as the guests see them.
    pub(super) fn shown(&self, attributes: Attributes) -> Attributes {
        let blksize = self.given.block_size.unwrap_or(attributes.blksize);
        Attributes { blksize: if blksize == 0 { 4096 } else { blksize }, ..attributes }
    }

    fn forget_all(&self, nodes: Vec<u64>) {
        for node in nodes {
            self.session.forget(node, 1);
        }
    }
}

impl Drop for FuseFiles {
    fn drop(&mut self) {
        // Detached, and now nobody needs it.
        let session = Arc::clone(&self.session);
        let _ = thread::Builder::new().name("umvu-fuse".into()).spawn(move || session.finish());
    }
}

/// Makes "not implemented" something else.
pub(super) fn unless_lacking<T>(result: Result<T, Errno>, otherwise: Errno) -> Result<T, Errno> {
    result.map_err(|errno| if errno == Errno::ENOSYS { otherwise } else { errno })
}

impl FileSystem for FuseFiles {
    fn traits(&self) -> Traits {
        Traits {
            keeps_access_times: false,
            guards: false,
            folds_case: false,
            parts_names: true,
            may_wait: true,
            checks_access: self.given.permissions == Permissions::ByProgram,
            read_only: false,
        }
    }

    fn mounted(&self, keeper: Weak<dyn Keeper>) {
        *self.keeper.lock() = Some(keeper);
    }

    fn options(&self) -> Option<String> {
        Some(self.given.shown())
    }

    fn root_kind(&self) -> Option<u32> {
        Some(self.given.root_kind)
    }

    fn lookup(&self, caller: &Caller, parent: Node, name: &[u8]) -> Result<Entry, Errno> {
        self.find(self.who(caller)?, parent, name)
    }

    fn forget(&self, node: Node, count: u64) {
        self.nodes.forget(node.0);
        self.session.forget(node.0, count);
    }

    fn getattr(
        &self,
        caller: &Caller,
        node: Node,
        handle: Option<Handle>,
    ) -> Result<Attributes, Errno> {
        let who = self.who(caller)?;
        if let Some(attributes) = self.nodes.attributes(node.0) {
            return Ok(self.shown(attributes));
        }
        let open = handle.and_then(|handle| self.handles.get(handle)).filter(|open| open.is_held);
        let body = match open {
            Some(open) => Body::new().u32(1).u32(0).u64(open.number),
            None => Body::new().u64(0).u64(0),
        };
        let reply = self.ask(Opcode::Getattr, node.0, who, body)?;
        let (attributes, valid) = attr_out(&mut Reader(&reply))?;
        self.nodes.learn(node.0, attributes, valid)?;
        Ok(self.shown(attributes))
    }

    fn setattr(
        &self,
        caller: &Caller,
        node: Node,
        handle: Option<Handle>,
        changes: &Changes,
    ) -> Result<Attributes, Errno> {
        let who = self.who(caller)?;
        let kind = match self.nodes.last(node.0) {
            Some(attributes) => attributes.kind(),
            None => self.getattr(caller, node, None)?.kind(),
        };
        let open = handle.and_then(|handle| self.handles.get(handle)).filter(|open| open.is_held);
        let body = setattr_in(changes, kind, open.map(|open| open.number));
        let reply = self.ask(Opcode::Setattr, node.0, who, body);
        self.nodes.doubt(node.0);
        let (attributes, valid) = attr_out(&mut Reader(&reply?))?;
        self.nodes.learn(node.0, attributes, valid)?;
        Ok(self.shown(attributes))
    }

    fn readlink(&self, caller: &Caller, node: Node) -> Result<Vec<u8>, Errno> {
        let target = self.ask(Opcode::Readlink, node.0, self.who(caller)?, Body::new())?;
        let is_path = !target.is_empty() && target.len() < 4096 && !target.contains(&0);
        if is_path { Ok(target) } else { Err(Errno::EIO) }
    }

    fn mknod(
        &self,
        caller: &Caller,
        parent: Node,
        name: &[u8],
        mode: u32,
        rdev: u64,
    ) -> Result<Entry, Errno> {
        self.make_node(caller, parent, name, (mode, rdev))
    }

    fn mkdir(&self, caller: &Caller, parent: Node, name: &[u8], mode: u32) -> Result<Entry, Errno> {
        self.make_directory(caller, parent, name, mode)
    }

    fn symlink(
        &self,
        caller: &Caller,
        parent: Node,
        name: &[u8],
        target: &[u8],
    ) -> Result<Entry, Errno> {
        self.make_link(caller, parent, name, target)
    }

    fn link(&self, caller: &Caller, node: Node, parent: Node, name: &[u8]) -> Result<Entry, Errno> {
        self.link_to(caller, node, parent, name)
    }

    fn unlink(&self, caller: &Caller, parent: Node, name: &[u8]) -> Result<(), Errno> {
        self.remove(Opcode::Unlink, caller, parent, name)
    }

    fn rmdir(&self, caller: &Caller, parent: Node, name: &[u8]) -> Result<(), Errno> {
        self.remove(Opcode::Rmdir, caller, parent, name)
    }

    fn rename(
        &self,
        caller: &Caller,
        from: (Node, &[u8]),
        to: (Node, &[u8]),
        flags: u32,
    ) -> Result<(), Errno> {
        self.move_name(caller, from, to, flags)
    }

    fn open(&self, caller: &Caller, node: Node, flags: i32) -> Result<Opened, Errno> {
        self.open_file(caller, node, flags)
    }

    fn create(
        &self,
        caller: &Caller,
        parent: Node,
        name: &[u8],
        mode: u32,
        flags: i32,
    ) -> Result<(Entry, Opened), Errno> {
        self.create_file(caller, parent, name, mode, flags)
    }

    fn read(
        &self,
        node: Node,
        handle: Handle,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        self.read_file(node, handle, offset, buffer)
    }

    fn write(&self, node: Node, handle: Handle, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        self.write_file(node, handle, offset, data)
    }

    fn flush(&self, node: Node, handle: Handle) -> Result<(), Errno> {
        let body = Body::new().u64(self.handles.number(handle)).u64(0).u64(0);
        match self.ask_if_known(Opcode::Flush, node.0, self.session.owner(), body) {
            Ok(_) | Err(Errno::ENOSYS) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn release(&self, node: Node, handle: Handle) {
        self.close(Opcode::Release, node, handle);
    }

    fn fsync(&self, node: Node, handle: Handle, data_only: bool) -> Result<(), Errno> {
        let body = Body::new().u64(self.handles.number(handle)).u32(u32::from(data_only)).u32(0);
        match self.ask_if_known(Opcode::Fsync, node.0, self.session.owner(), body) {
            Ok(_) | Err(Errno::ENOSYS) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn fallocate(
        &self,
        node: Node,
        handle: Handle,
        mode: i32,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno> {
        if !self.session.terms()?.has_fallocate() {
            return Err(Errno::EOPNOTSUPP);
        }
        let body = Body::new().u64(self.handles.number(handle)).u64(offset).u64(length);
        let body = body.u32(mode.cast_unsigned()).u32(0);
        let done = self.ask_if_known(Opcode::Fallocate, node.0, self.session.owner(), body);
        self.nodes.doubt(node.0);
        unless_lacking(done.map(drop), Errno::EOPNOTSUPP)
    }

    fn seek(&self, node: Node, handle: Handle, offset: u64, what: Seek) -> Result<u64, Errno> {
        self.seek_in(node, handle, offset, what)
    }

    fn copy_range(
        &self,
        from: (Node, Handle, u64),
        to: (Node, Handle, u64),
        length: u64,
    ) -> Result<u64, Errno> {
        self.copy(from, to, length)
    }

    fn opendir(&self, caller: &Caller, node: Node) -> Result<Handle, Errno> {
        self.open_directory(caller, node)
    }

    fn readdir(
        &self,
        caller: &Caller,
        node: Node,
        handle: Handle,
        each: &mut dyn FnMut(DirEntry),
    ) -> Result<(), Errno> {
        self.list(caller, node, handle, each)
    }

    fn releasedir(&self, node: Node, handle: Handle) {
        self.close(Opcode::Releasedir, node, handle);
    }

    fn fsyncdir(&self, node: Node, data_only: bool) -> Result<(), Errno> {
        if self.lacks(Opcode::Fsyncdir) {
            return Ok(());
        }
        let handle = self.open_directory(&Caller::root(), node)?;
        let body = Body::new().u64(self.handles.number(handle)).u32(u32::from(data_only)).u32(0);
        let done = self.ask_if_known(Opcode::Fsyncdir, node.0, self.session.owner(), body);
        self.releasedir(node, handle);
        match done {
            Ok(_) | Err(Errno::ENOSYS) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn statfs(&self, node: Node) -> Result<StatFs, Errno> {
        let reply = self.ask(Opcode::Statfs, node.0, self.session.owner(), Body::new())?;
        statfs_out(&mut Reader(&reply))
    }

    fn getxattr(&self, caller: &Caller, node: Node, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let who = self.who(caller)?;
        let body = Body::new().u32(XATTR_MAX).u32(0).name(name);
        let value = self.ask_if_known(Opcode::Getxattr, node.0, who, body);
        unless_lacking(value, Errno::EOPNOTSUPP)
    }

    fn setxattr(
        &self,
        caller: &Caller,
        node: Node,
        name: &[u8],
        value: &[u8],
        flags: i32,
    ) -> Result<(), Errno> {
        let who = self.who(caller)?;
        let size = u32::try_from(value.len()).map_err(|_| Errno::E2BIG)?;
        let body = Body::new().u32(size).u32(flags.cast_unsigned()).name(name).bytes(value);
        let done = self.ask_if_known(Opcode::Setxattr, node.0, who, body);
        self.nodes.doubt(node.0);
        unless_lacking(done.map(drop), Errno::EOPNOTSUPP)
    }

    fn listxattr(&self, caller: &Caller, node: Node) -> Result<Vec<Vec<u8>>, Errno> {
        let who = self.who(caller)?;
        let body = Body::new().u32(XATTR_MAX).u32(0);
        let list = self.ask_if_known(Opcode::Listxattr, node.0, who, body);
        let list = unless_lacking(list, Errno::EOPNOTSUPP)?;
        let Some(names) = list.strip_suffix(&[0]) else {
            return if list.is_empty() { Ok(Vec::new()) } else { Err(Errno::EIO) };
        };
        let names: Vec<Vec<u8>> = names.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        if names.iter().any(Vec::is_empty) { Err(Errno::EIO) } else { Ok(names) }
    }

    fn removexattr(&self, caller: &Caller, node: Node, name: &[u8]) -> Result<(), Errno> {
        let who = self.who(caller)?;
        let body = Body::new().name(name);
        let done = self.ask_if_known(Opcode::Removexattr, node.0, who, body);
        self.nodes.doubt(node.0);
        unless_lacking(done.map(drop), Errno::EOPNOTSUPP)
    }

    fn access(&self, caller: &Caller, node: Node, wanted: u32) -> Result<(), Errno> {
        let body = Body::new().u32(wanted).u32(0);
        match self.ask_if_known(Opcode::Access, node.0, self.who(caller)?, body) {
            Ok(_) => Ok(()),
            Err(Errno::ENOSYS) => self.may_open(caller, node, wanted),
            Err(errno) => Err(errno),
        }
    }

    fn may_open(&self, caller: &Caller, node: Node, wanted: u32) -> Result<(), Errno> {
        // The program is asked by OPEN; nobody executes what nobody may.
        let attributes = self.getattr(caller, node, None)?;
        let is_refused =
            wanted & EXECUTE != 0 && attributes.is_regular() && attributes.mode & 0o111 == 0;
        if is_refused { Err(Errno::EACCES) } else { Ok(()) }
    }

    fn ioctl(
        &self,
        caller: &Caller,
        node: Node,
        handle: Handle,
        request: u32,
        argument: &mut Vec<u8>,
    ) -> Result<i64, Errno> {
        self.control(caller, node, handle, request, argument)
    }

    fn poll(&self, node: Node, handle: Handle) -> i16 {
        self.poll_file(node, handle)
    }

    fn stop(&self) {
        self.forget_all(self.nodes.drop_foreseen(None));
        self.session.finish();
    }
}
