//! The tree of files as modules see it: as it was before their mount was made.
//!
//! [`View`] is what a module may ask; [`Whole`] shows a place of the tree as a file system, whose
//! nodes are paths in the view of that moment. Files of the host are opened there and passed on as
//! they are; files of other mounts are passed on as [`Data::Same`], so that all who reach one by
//! whatever way see the same content. Both act with the rights of the caller.

use std::{collections::HashMap, fmt, os::fd::BorrowedFd, sync::Arc, time::Duration};

use parking_lot::Mutex;
use umvu_abi::{
    Errno, Tid,
    files::{
        Attributes, Backing, Caller, Changes, Data, DirEntry, Entry, FileSystem, Handle, Node,
        Opened, READ, Seen, StatFs, Traits, WRITE,
    },
};

use super::{Inode, access, change, names};
use crate::{
    Core,
    paths::{
        host,
        lexical::{below, join, push},
        locate, magic,
        owners::Changer,
        resolve::{Found, Last, Place},
    },
};

mod backing;
mod descriptor;
mod making;
mod real;
mod view;

use self::view::Moment;
pub(crate) use self::{
    real::as_caller,
    view::{Nowhere, View},
};

#[derive(Debug)]
struct Named {
    path: Vec<u8>,
    /// The file itself, when it is one of another mount that was made without a name.
    nameless: Option<Arc<Inode>>,
    references: u64,
}

impl Named {
    fn new(path: &[u8]) -> Self {
        Self { path: path.to_vec(), nameless: None, references: 1 }
    }
}

#[derive(Debug)]
struct Table {
    by_node: HashMap<u64, Named>,
    by_path: HashMap<Vec<u8>, u64>,
    next: u64,
}

/// A place of the tree as a file system.
pub(crate) struct Whole {
    moment: Arc<Moment>,
    table: Mutex<Table>,
}

impl fmt::Debug for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Whole({})", self.moment.serial)
    }
}

/// How long a name of the host is taken for granted: others change it.
const VALID: Duration = Duration::ZERO;

impl Whole {
    fn new(moment: &Arc<Moment>, root: &[u8]) -> Self {
        let table = Table {
            by_node: HashMap::from([(Node::ROOT.0, Named::new(root))]),
            by_path: HashMap::from([(root.to_vec(), Node::ROOT.0)]),
            next: Node::ROOT.0 + 1,
        };
        Self { moment: Arc::clone(moment), table: Mutex::new(table) }
    }

    fn path(&self, node: Node) -> Result<Vec<u8>, Errno> {
        let table = self.table.lock();
        table.by_node.get(&node.0).map(|named| named.path.clone()).ok_or(Errno::ESTALE)
    }

    fn child(&self, parent: Node, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut path = self.path(parent)?;
        push(&mut path, name);
        Ok(path)
    }

    /// What stands at a path of ours, which has no symbolic links but perhaps the last.
    fn place(&self, path: &[u8], caller: &Caller) -> Result<(Arc<Core>, Place), Errno> {
        let core = self.moment.core()?;
        let territory = self.moment.territory(&core);
        if !territory.concerns(path) || path.starts_with(b"/proc/") || path.starts_with(b"/sys/") {
            return Ok((core, Place::Real(path.to_vec())));
        }
        let tid = Tid(caller.pid.0);
        let place = locate::resolve_in(&core, &territory, tid, path, Last::Keep)?;
        Ok((core, place))
    }

    fn at(&self, node: Node, caller: &Caller) -> Result<(Arc<Core>, Place), Errno> {
        if let Some((inode, path)) = self.nameless(node) {
            let found = Found { inode, parent: None, path };
            return Ok((self.moment.core()?, Place::Inode(found)));
        }
        self.place(&self.path(node)?, caller)
    }

    /// The file of another mount that was made without a name.
    fn nameless(&self, node: Node) -> Option<(Arc<Inode>, Vec<u8>)> {
        let table = self.table.lock();
        let named = table.by_node.get(&node.0)?;
        Some((Arc::clone(named.nameless.as_ref()?), named.path.clone()))
    }

    /// A node for a path, which counts as one reference.
    fn node(&self, path: &[u8]) -> Node {
        let mut table = self.table.lock();
        if let Some(node) = table.by_path.get(path).copied() {
            if let Some(named) = table.by_node.get_mut(&node) {
                named.references += 1;
            }
            return Node(node);
        }
        let node = table.next;
        table.next += 1;
        table.by_path.insert(path.to_vec(), node);
        table.by_node.insert(node, Named::new(path));
        Node(node)
    }

    /// A node for a file without a name in a directory, which counts as one reference.
    fn nameless_node(
        &self,
        directory: Node,
        ino: u64,
        inode: Option<Arc<Inode>>,
    ) -> Result<Node, Errno> {
        let path = self.child(directory, format!("#{ino} (deleted)").as_bytes())?;
        let mut table = self.table.lock();
        let node = table.next;
        table.next += 1;
        table.by_node.insert(node, Named { nameless: inode, ..Named::new(&path) });
        Ok(Node(node))
    }

    fn entry(&self, path: &[u8], caller: &Caller) -> Result<Entry, Errno> {
        let attributes = self.look(path, caller)?;
        Ok(Entry { node: self.node(path), attributes, valid: VALID })
    }

    fn look(&self, path: &[u8], caller: &Caller) -> Result<Attributes, Errno> {
        let (core, place) = self.place(path, caller)?;
        look(&core, place, caller)
    }

    /// A name is gone: the next that has it is another file.
    fn drop_name(&self, path: &[u8]) {
        let mut table = self.table.lock();
        let table = &mut *table;
        if let Some(node) = table.by_path.remove(path)
            && let Some(named) = table.by_node.get_mut(&node)
        {
            named.path = b"/proc/self/gone".to_vec();
        }
    }

    /// Names below `from` are below `to` now.
    fn move_names(&self, from: &[u8], to: &[u8]) {
        let mut table = self.table.lock();
        let table = &mut *table;
        let moved: Vec<(Vec<u8>, u64)> = table
            .by_path
            .iter()
            .filter(|(path, _)| below(path, from).is_some())
            .map(|(path, node)| (path.clone(), *node))
            .collect();
        for (path, _) in &moved {
            table.by_path.remove(path);
        }
        for (path, node) in moved {
            let rest = below(&path, from).unwrap_or_default();
            let target = if rest.is_empty() { to.to_vec() } else { join(to, rest) };
            if let Some(named) = table.by_node.get_mut(&node) {
                named.path.clone_from(&target);
            }
            table.by_path.insert(target, node);
        }
    }

    fn side(&self, node: Node, name: &[u8], caller: &Caller) -> Result<(Vec<u8>, Place), Errno> {
        let path = self.child(node, name)?;
        let (_, place) = self.place(&path, caller)?;
        Ok((path, place))
    }
}

fn look(core: &Core, place: Place, caller: &Caller) -> Result<Attributes, Errno> {
    match place {
        Place::Inode(found) => found.inode.attributes(caller),
        Place::Real(path) | Place::Merged(path) => {
            let real = real::attributes(caller, &path)?;
            Ok(Changer::of(core, caller).sees(real))
        }
        Place::Directory(path) => Ok(Attributes {
            dev: Some(0),
            ino: path.len() as u64,
            mode: libc::S_IFDIR | 0o755,
            nlink: 2,
            ..Attributes::default()
        }),
        // Stacks are not seen through a file system.
        _ => Err(Errno::ENOENT),
    }
}

/// A side of a rename inside another mount; None for what is the host's.
fn virtual_side(place: &Place) -> Option<Result<names::Side, Errno>> {
    match place {
        Place::Inode(found) => Some(match &found.parent {
            Some((parent, name)) => Ok(names::Side {
                parent: Arc::clone(parent),
                name: name.clone(),
                inode: Some(Arc::clone(&found.inode)),
            }),
            None => Err(Errno::EBUSY),
        }),
        Place::Vacant(vacant) => Some(Ok(names::Side {
            parent: Arc::clone(&vacant.parent),
            name: vacant.name.clone(),
            inode: None,
        })),
        _ => None,
    }
}

impl FileSystem for Whole {
    fn traits(&self) -> Traits {
        Traits { checks_access: true, ..Traits::default() }
    }

    fn host_path(&self, node: Node) -> Option<Vec<u8>> {
        match self.at(node, &Caller::root()).ok()?.1 {
            Place::Inode(found) => found.inode.files.fs.host_path(found.inode.node),
            Place::Real(path) | Place::Merged(path) => Some(path),
            _ => None,
        }
    }

    fn seen_at(&self, node: Node) -> Seen {
        match self.at(node, &Caller::root()) {
            Ok((_, Place::Inode(found))) => Seen::Same(found.inode),
            Ok((_, Place::Real(path) | Place::Merged(path))) => Seen::Host(path),
            _ => Seen::Here,
        }
    }

    fn lookup(&self, caller: &Caller, parent: Node, name: &[u8]) -> Result<Entry, Errno> {
        self.entry(&self.child(parent, name)?, caller)
    }

    fn forget(&self, node: Node, count: u64) {
        let mut table = self.table.lock();
        let table = &mut *table;
        let Some(named) = table.by_node.get_mut(&node.0) else { return };
        named.references = named.references.saturating_sub(count);
        if named.references == 0
            && node != Node::ROOT
            && let Some(named) = table.by_node.remove(&node.0)
            && table.by_path.get(&named.path) == Some(&node.0)
        {
            table.by_path.remove(&named.path);
        }
    }

    fn getattr(&self, caller: &Caller, node: Node, _: Option<Handle>) -> Result<Attributes, Errno> {
        let (core, place) = self.at(node, caller)?;
        look(&core, place, caller)
    }

    fn setattr(
        &self,
        caller: &Caller,
        node: Node,
        _: Option<Handle>,
        changes: &Changes,
    ) -> Result<Attributes, Errno> {
        let (core, place) = self.at(node, caller)?;
        match place {
            Place::Inode(found) => {
                let inode = &found.inode;
                if changes.uid.is_some() || changes.gid.is_some() {
                    change::chown(inode, caller, changes.uid, changes.gid)?;
                } else if let Some(mode) = changes.mode {
                    change::chmod(inode, caller, mode)?;
                }
                if let Some(size) = changes.size {
                    change::resize(inode, caller, size)?;
                } else {
                    change::set_times(inode, caller, [changes.atime, changes.mtime])?;
                }
            }
            Place::Real(path) | Place::Merged(path) => {
                let left = Changer::of(&core, caller).change(&path, changes)?;
                real::change(caller, &path, &left)?;
            }
            _ => return Err(Errno::EPERM),
        }
        self.getattr(caller, node, None)
    }

    fn readlink(&self, caller: &Caller, node: Node) -> Result<Vec<u8>, Errno> {
        let path = self.path(node)?;
        let (core, place) = self.place(&path, caller)?;
        if let Some(target) = magic::shown(&core, Tid(caller.pid.0), &path) {
            return Ok(target);
        }
        match (path.as_slice(), place) {
            (_, Place::Inode(found)) => found.inode.files.ask()?.readlink(caller, found.inode.node),
            (b"/proc/self", _) => Ok(caller.pid.0.to_string().into_bytes()),
            (b"/proc/thread-self", _) => Ok(format!("{0}/task/{0}", caller.pid.0).into_bytes()),
            (_, Place::Real(path)) => as_caller(caller, || host::read_link(&path)),
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
        self.make(caller, parent, name, names::Make::Node(mode, rdev))
    }

    fn mkdir(&self, caller: &Caller, parent: Node, name: &[u8], mode: u32) -> Result<Entry, Errno> {
        self.make(caller, parent, name, names::Make::Directory(mode))
    }

    fn symlink(
        &self,
        caller: &Caller,
        parent: Node,
        name: &[u8],
        target: &[u8],
    ) -> Result<Entry, Errno> {
        self.make(caller, parent, name, names::Make::Link(target))
    }

    fn link(&self, caller: &Caller, node: Node, parent: Node, name: &[u8]) -> Result<Entry, Errno> {
        self.give_name(caller, (node, None), parent, name)
    }

    fn link_opened(
        &self,
        caller: &Caller,
        (node, file): (Node, BorrowedFd<'_>),
        parent: Node,
        name: &[u8],
    ) -> Result<Entry, Errno> {
        self.give_name(caller, (node, Some(file)), parent, name)
    }

    fn unlink(&self, caller: &Caller, parent: Node, name: &[u8]) -> Result<(), Errno> {
        let (path, place) = self.side(parent, name, caller)?;
        match &place {
            Place::Inode(found) => {
                let (parent, name) = found.parent.as_ref().ok_or(Errno::EBUSY)?;
                names::unlink(caller, parent, name, &found.inode)?;
            }
            Place::Real(path) => as_caller(caller, || host::unlink(path))?,
            Place::Vacant(_) => return Err(Errno::ENOENT),
            _ => return Err(Errno::EBUSY),
        }
        self.drop_name(&path);
        Ok(())
    }

    fn rmdir(&self, caller: &Caller, parent: Node, name: &[u8]) -> Result<(), Errno> {
        let (path, place) = self.side(parent, name, caller)?;
        match &place {
            Place::Inode(found) => {
                let (parent, name) = found.parent.as_ref().ok_or(Errno::EBUSY)?;
                names::rmdir(caller, parent, name, &found.inode)?;
            }
            Place::Real(path) => as_caller(caller, || host::rmdir(path))?,
            Place::Vacant(_) => return Err(Errno::ENOENT),
            _ => return Err(Errno::EBUSY),
        }
        self.drop_name(&path);
        Ok(())
    }

    fn rename(
        &self,
        caller: &Caller,
        from: (Node, &[u8]),
        to: (Node, &[u8]),
        flags: u32,
    ) -> Result<(), Errno> {
        let (from, from_place) = self.side(from.0, from.1, caller)?;
        let (to, to_place) = self.side(to.0, to.1, caller)?;
        match (virtual_side(&from_place), virtual_side(&to_place)) {
            (Some(from), Some(to)) => names::rename(caller, &from?, &to?, flags)?,
            (None, None) => real::rename(caller, &from, &to, flags)?,
            _ => return Err(Errno::EXDEV),
        }
        if flags & libc::RENAME_EXCHANGE != 0 {
            let aside = join(&from, b".exchanged by rename");
            self.move_names(&from, &aside);
            self.move_names(&to, &from);
            self.move_names(&aside, &to);
        } else {
            self.drop_name(&to);
            self.move_names(&from, &to);
        }
        Ok(())
    }

    fn open(&self, caller: &Caller, node: Node, flags: i32) -> Result<Opened, Errno> {
        let data = match self.at(node, caller)?.1 {
            Place::Inode(found) => {
                let wanted = match flags & libc::O_ACCMODE {
                    libc::O_RDONLY => READ,
                    libc::O_WRONLY => WRITE,
                    _ => READ | WRITE,
                };
                access::check(&found.inode, caller, wanted)?;
                of_inode(&found.inode, caller, flags)?
            }
            Place::Real(path) => real::open(caller, &path, flags)?,
            _ => return Err(Errno::EISDIR),
        };
        Ok(Opened { handle: Handle(0), data })
    }

    fn create(
        &self,
        caller: &Caller,
        parent: Node,
        name: &[u8],
        mode: u32,
        flags: i32,
    ) -> Result<(Entry, Opened), Errno> {
        let (path, place) = self.side(parent, name, caller)?;
        let data = match place {
            Place::Real(path) => real::create(caller, &path, mode, flags)?,
            Place::Vacant(vacant) => {
                let node = names::Make::Node(libc::S_IFREG | mode, 0);
                Data::Same(names::make(caller, &vacant.parent, &vacant.name, node)?)
            }
            _ => return Err(Errno::EEXIST),
        };
        Ok((self.entry(&path, caller)?, Opened { handle: Handle(0), data }))
    }

    fn create_nameless(
        &self,
        caller: &Caller,
        parent: Node,
        mode: u32,
        flags: i32,
    ) -> Result<(Entry, Opened), Errno> {
        let (core, place) = self.at(parent, caller)?;
        let (attributes, data, inode) = match place {
            Place::Inode(found) => {
                // The mask has been applied.
                let caller = Caller { umask: 0, ..caller.clone() };
                let (inode, attributes, opened) =
                    names::nameless(&caller, &found.inode, mode, flags)?;
                (attributes, passed_on(&inode, opened), Some(inode))
            }
            Place::Real(path) | Place::Merged(path) => {
                let (file, looks) = real::nameless(caller, &path, mode, flags)?;
                (Changer::of(&core, caller).sees(looks), Data::Host(file), None)
            }
            _ => return Err(Errno::EOPNOTSUPP),
        };
        let node = self.nameless_node(parent, attributes.ino, inode)?;
        let entry = Entry { node, attributes, valid: VALID };
        Ok((entry, Opened { handle: Handle(0), data }))
    }

    fn read(&self, node: Node, _: Handle, at: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.backing(node, false)?.read_at(at, buffer)
    }

    fn write(&self, node: Node, _: Handle, at: u64, data: &[u8]) -> Result<usize, Errno> {
        self.backing(node, true)?.write_at(at, data)?;
        Ok(data.len())
    }

    fn fsync(&self, node: Node, _: Handle, _: bool) -> Result<(), Errno> {
        self.backing(node, false)?.flush()
    }

    fn readdir(
        &self,
        caller: &Caller,
        node: Node,
        _: Handle,
        each: &mut dyn FnMut(DirEntry),
    ) -> Result<(), Errno> {
        let path = self.path(node)?;
        let (core, place) = self.place(&path, caller)?;
        let mut seen = Vec::new();
        let mut add = |entry: DirEntry| {
            seen.push(entry.name.clone());
            each(entry);
        };
        match place {
            Place::Inode(found) => {
                let inode = &found.inode;
                access::check(inode, caller, READ)?;
                let fs = inode.files.ask()?;
                let handle = fs.opendir(caller, inode.node)?;
                let listed = fs.readdir(caller, inode.node, handle, &mut add);
                fs.releasedir(inode.node, handle);
                listed?;
            }
            Place::Real(path) | Place::Merged(path) => real::list(caller, &path, &mut add)?,
            Place::Directory(_) => {}
            _ => return Err(Errno::ENOTDIR),
        }
        for name in self.moment.territory(&core).names_in(&path) {
            if !seen.contains(&name) {
                let looks = self.look(&join(&path, &name), caller);
                if let Ok(looks) = looks {
                    each(DirEntry { name, ino: looks.ino, kind: looks.kind() });
                }
            }
        }
        Ok(())
    }

    fn fsyncdir(&self, _: Node, _: bool) -> Result<(), Errno> {
        Ok(())
    }

    fn statfs(&self, node: Node) -> Result<StatFs, Errno> {
        match self.at(node, &Caller::root())?.1 {
            Place::Inode(found) => found.inode.files.statfs(found.inode.node),
            place => real::statfs(place.path()),
        }
    }

    fn getxattr(&self, caller: &Caller, node: Node, name: &[u8]) -> Result<Vec<u8>, Errno> {
        match self.at(node, caller)?.1 {
            Place::Inode(found) => {
                change::check_xattr(&found.inode, caller, name, READ)?;
                found.inode.files.ask()?.getxattr(caller, found.inode.node, name)
            }
            place => as_caller(caller, || host::get_xattr(place.path(), name, Last::Keep)),
        }
    }

    fn setxattr(
        &self,
        caller: &Caller,
        node: Node,
        name: &[u8],
        value: &[u8],
        flags: i32,
    ) -> Result<(), Errno> {
        match self.at(node, caller)?.1 {
            Place::Inode(found) => {
                change::check_xattr(&found.inode, caller, name, WRITE)?;
                let fs = found.inode.files.ask()?;
                fs.setxattr(caller, found.inode.node, name, value, flags)
            }
            place => {
                as_caller(caller, || host::set_xattr(place.path(), name, value, flags, Last::Keep))
            }
        }
    }

    fn listxattr(&self, caller: &Caller, node: Node) -> Result<Vec<Vec<u8>>, Errno> {
        match self.at(node, caller)?.1 {
            Place::Inode(found) => found.inode.files.ask()?.listxattr(caller, found.inode.node),
            place => {
                let list = || host::list_xattr(place.path(), Last::Keep);
                let names = as_caller(caller, list)?;
                let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
                Ok(names.map(<[u8]>::to_vec).collect())
            }
        }
    }

    fn removexattr(&self, caller: &Caller, node: Node, name: &[u8]) -> Result<(), Errno> {
        match self.at(node, caller)?.1 {
            Place::Inode(found) => {
                change::check_xattr(&found.inode, caller, name, WRITE)?;
                found.inode.files.ask()?.removexattr(caller, found.inode.node, name)
            }
            place => as_caller(caller, || host::remove_xattr(place.path(), name, Last::Keep)),
        }
    }

    fn access(&self, caller: &Caller, node: Node, wanted: u32) -> Result<(), Errno> {
        match self.at(node, caller)?.1 {
            Place::Inode(found) => access::check(&found.inode, caller, wanted),
            place => real::access(caller, place.path(), wanted),
        }
    }
}

/// The data of a file of another mount: a file of the host is passed on, all else is where it is.
fn of_inode(inode: &Arc<Inode>, caller: &Caller, flags: i32) -> Result<Data, Errno> {
    let fs = inode.files.ask()?;
    let same = || -> Data { Data::Same(Arc::<Inode>::clone(inode)) };
    if !inode.files.traits.guards {
        return Ok(same());
    }
    Ok(passed_on(inode, fs.open(caller, inode.node, flags)?))
}

/// The data of a file of another mount that has been opened there.
fn passed_on(inode: &Arc<Inode>, opened: Opened) -> Data {
    inode.files.fs.release(inode.node, opened.handle);
    match opened.data {
        Data::Host(file) if !inode.files.traits.guards => Data::Host(file),
        // What is changed by the descriptor is still for that mount to judge.
        Data::Host(file) | Data::HostDressed(file) => Data::HostDressed(file),
        Data::HostPath(path) => Data::HostPath(path),
        _ => Data::Same(Arc::<Inode>::clone(inode)),
    }
}

impl Whole {
    /// What a file holds, for who reads it by this file system.
    fn backing(&self, node: Node, writable: bool) -> Result<Arc<dyn Backing>, Errno> {
        let (core, place) = self.at(node, &Caller::root())?;
        match place {
            Place::Inode(found) => backing::of_inode(&core, &found.inode, Tid(0), writable),
            place => backing::of_host(place.path(), writable),
        }
    }
}
