//! What a module may ask while its mount is made ([`View`]), of the tree at that moment.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use parking_lot::RwLock;
use umvu_abi::{
    Errno, Tid,
    files::{Backing, Caller, FileSystem, GuestFile, Node, OpenFile, Outside, Source},
    net::NetStack,
    sockaddr,
};

use super::{
    Whole, backing,
    descriptor::{self, Descriptor},
};
use crate::{
    Core,
    paths::{
        lexical::{beneath, join},
        locate,
        resolve::{Last, Place},
        territory::Territory,
    },
};

/// For mounts that look at no files.
#[derive(Debug)]
pub(crate) struct Nowhere;

impl Outside for Nowhere {
    fn files(&self, _: &[u8]) -> Result<Source, Errno> {
        Err(Errno::ENOENT)
    }

    fn backing(&self, _: &[u8], _: bool) -> Result<Arc<dyn Backing>, Errno> {
        Err(Errno::ENOENT)
    }

    fn descriptor(&self, _: i32) -> Result<Arc<dyn GuestFile>, Errno> {
        Err(Errno::EBADF)
    }

    fn caller(&self) -> Caller {
        Caller::root()
    }

    fn absolute(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        Ok(path.to_vec())
    }
}

/// The tree of files at one moment. What is taken away later vanishes from it.
pub(super) struct Moment {
    core: Weak<Core>,
    /// The number of the mount that is being made.
    pub(super) serial: u64,
    territory: RwLock<Arc<Territory>>,
}

impl Moment {
    /// Before the mount with this number.
    fn before(core: &Arc<Core>, serial: u64) -> Arc<Self> {
        let territory = RwLock::new(Arc::new(core.paths.territory_before(&core.view, serial)));
        Arc::new(Self { core: Arc::downgrade(core), serial, territory })
    }

    pub(super) fn core(&self) -> Result<Arc<Core>, Errno> {
        self.core.upgrade().ok_or(Errno::EIO)
    }

    /// What was virtual then, of what is still there.
    pub(super) fn territory(&self, core: &Core) -> Arc<Territory> {
        let current = Arc::clone(&self.territory.read());
        if current.is_current(&core.view) {
            return current;
        }
        let fresh = Arc::new(core.paths.territory_before(&core.view, self.serial));
        *self.territory.write() = Arc::clone(&fresh);
        fresh
    }
}

/// What a module may ask while its mount is made.
pub(crate) struct View {
    moment: Arc<Moment>,
    tid: Tid,
    cwd: Option<Vec<u8>>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({})", self.moment.serial)
    }
}

impl View {
    pub(crate) fn new(core: Arc<Core>, tid: Tid, cwd: Option<Vec<u8>>) -> Self {
        let serial = core.view.next_serial();
        Self { moment: Moment::before(&core, serial), tid, cwd }
    }

    fn resolve(&self, path: &[u8]) -> Result<(Arc<Core>, Place), Errno> {
        let path = self.absolute(path)?;
        let core = self.moment.core()?;
        let territory = self.moment.territory(&core);
        let place = locate::resolve_in(&core, &territory, self.tid, &path, Last::Follow)?;
        Ok((core, place))
    }
}

impl Outside for View {
    fn files(&self, path: &[u8]) -> Result<Source, Errno> {
        let (_, place) = self.resolve(path)?;
        let whole = Whole::new(&self.moment, place.path());
        whole.getattr(&Caller::root(), Node::ROOT, None)?;
        Ok(Source { files: Arc::new(whole), root: Node::ROOT })
    }

    fn backing(&self, path: &[u8], writable: bool) -> Result<Arc<dyn Backing>, Errno> {
        let (core, place) = self.resolve(path)?;
        match place {
            Place::Inode(found) => backing::of_inode(&core, &found.inode, self.tid, writable),
            Place::Real(path) => backing::of_host(&path, writable),
            Place::Vacant(_) | Place::Missing(_) => Err(Errno::ENOENT),
            _ => Err(Errno::EISDIR),
        }
    }

    fn descriptor(&self, descriptor: i32) -> Result<Arc<dyn GuestFile>, Errno> {
        let file = Descriptor::of(&self.moment.core, self.tid, descriptor)?;
        Ok(Arc::new(file))
    }

    fn opened(&self, caller: &Caller, descriptor: i32) -> Result<OpenFile, Errno> {
        descriptor::opened(&*self.moment.core()?, Tid(caller.pid.0), descriptor)
    }

    fn disks_changed(&self) {
        if let Ok(core) = self.moment.core() {
            core.view.has_changed();
            core.publish_mounts();
        }
    }

    fn caller(&self) -> Caller {
        let core = self.moment.core().ok().filter(|_| self.tid.0 != 0);
        core.map_or_else(Caller::root, |core| core.caller(self.tid))
    }

    fn stack(&self, path: &[u8]) -> Result<Arc<dyn NetStack>, Errno> {
        let path = self.absolute(path)?;
        let path = std::str::from_utf8(&path).map_err(|_| Errno::ENOENT)?;
        let mount = self.moment.core()?.view.mount_at(path).ok_or(Errno::ENOENT)?;
        if mount.is_stack() { Ok(Arc::clone(mount.stack())) } else { Err(Errno::ENOTSUP) }
    }

    fn stack_of(&self, caller: &Caller) -> Option<Arc<dyn NetStack>> {
        let task = self.moment.core().ok()?.tasks.get(Tid(caller.pid.0));
        let families = [sockaddr::AF_INET, sockaddr::AF_INET6].map(i32::from);
        let mount = families.into_iter().find_map(|family| task.stack(family))?;
        Some(Arc::clone(mount.stack()))
    }

    fn absolute(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let core = self.moment.core()?;
        if path.starts_with(b"/") {
            let root = core.paths.root(self.tid);
            return Ok(root.map_or(path.to_vec(), |root| beneath(&root, path)));
        }
        let link = self.cwd.clone().ok_or(Errno::ENOENT)?;
        let cwd = locate::stands_for(&core, &link).unwrap_or(Ok(link))?;
        Ok(join(&cwd, path))
    }

    fn current(&self) -> Option<Arc<dyn Outside>> {
        let moment = Moment::before(&self.moment.core().ok()?, u64::MAX);
        Some(Arc::new(Self { moment, tid: self.tid, cwd: self.cwd.clone() }))
    }

    fn take_time(&self) -> Result<(), Errno> {
        umvu_abi::patience::may_wait()
    }

    fn notice(&self, line: &str) {
        if let Ok(core) = self.moment.core() {
            core.tasks.get(self.tid).set_last_error(line);
        }
    }
}
