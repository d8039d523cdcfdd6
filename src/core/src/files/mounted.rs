//! A mounted file system: its inodes in use, and the names that were found in it.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use umvu_abi::{
    Errno,
    files::{Attributes, Caller, Entry, FileSystem, Keeper, Node, Traits},
    patience,
};

use super::{
    Inode, Objects,
    flags::{Changing, Flags},
    room::Room,
};

/// How many names are remembered.
const NAMES_LIMIT: usize = 65_536;

#[derive(Debug)]
struct Known {
    inode: Arc<Inode>,
    until: Option<Instant>,
}

/// A mounted file system.
pub(crate) struct MountedFiles {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) traits: Traits,
    /// The mount point.
    target: RwLock<Vec<u8>>,
    /// `st_dev`.
    pub(crate) dev: u64,
    flags: Changing,
    /// The mount that has the file system, when this one shows a part of it.
    beneath: Option<Arc<Self>>,
    pub(crate) objects: Arc<Objects>,
    inodes: Mutex<HashMap<Node, Weak<Inode>>>,
    names: Mutex<HashMap<(Node, Vec<u8>), Known>>,
    root: Mutex<Weak<Inode>>,
    /// How many disks and file systems have their data in one of the files.
    footings: AtomicUsize,
    pub(crate) room: Room,
}

/// Keeps a file system from being taken away: others have their data in it.
#[derive(Debug)]
pub(super) struct Footing(Arc<MountedFiles>);

impl Footing {
    pub(super) fn on(files: &Arc<MountedFiles>) -> Self {
        files.footings.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(files))
    }
}

impl Drop for Footing {
    fn drop(&mut self) {
        self.0.footings.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for MountedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MountedFiles({})", String::from_utf8_lossy(&self.target()))
    }
}

impl MountedFiles {
    /// Takes a file system in, mounted at `target`.
    pub(crate) fn new(
        fs: Arc<dyn FileSystem>,
        target: &str,
        dev: u64,
        (flags, beneath): (Flags, Option<Arc<Self>>),
        objects: &Arc<Objects>,
    ) -> Arc<Self> {
        let traits = fs.traits();
        Arc::new(Self {
            traits,
            fs,
            target: RwLock::new(target.as_bytes().to_vec()),
            dev,
            flags: Changing::new(allowed(flags, traits)),
            beneath,
            objects: Arc::clone(objects),
            inodes: Mutex::default(),
            names: Mutex::default(),
            root: Mutex::default(),
            footings: AtomicUsize::new(0),
            room: Room::default(),
        })
    }

    /// The mount point.
    pub(crate) fn target(&self) -> Vec<u8> {
        self.target.read().clone()
    }

    /// It is mounted elsewhere from now on.
    pub(crate) fn move_to(&self, target: &str) {
        *self.target.write() = target.as_bytes().to_vec();
    }

    /// It is in its place: the file system may tell of changes from now on.
    pub(crate) fn begin(self: &Arc<Self>) {
        let keeper: Weak<Self> = Arc::downgrade(self);
        self.fs.mounted(keeper);
    }

    /// Whether other mounts have their data here.
    pub(crate) fn is_stood_on(&self) -> bool {
        self.footings.load(Ordering::Relaxed) > 0
    }

    /// The root.
    pub(crate) fn root(self: &Arc<Self>) -> Arc<Inode> {
        let mut root = self.root.lock();
        if let Some(root) = root.upgrade() {
            return root;
        }
        let fresh = Inode::root(self, self.fs.root());
        *root = Arc::downgrade(&fresh);
        fresh
    }

    /// Errors: `EROFS` when nothing may be changed.
    pub(crate) fn writable(&self) -> Result<(), Errno> {
        if self.flags().read_only() { Err(Errno::EROFS) } else { Ok(()) }
    }

    /// The flags of the mount.
    pub(crate) fn flags(&self) -> Flags {
        let flags = self.flags.get();
        match &self.beneath {
            Some(beneath) => Flags { file_system: beneath.flags().file_system, ..flags },
            None => flags,
        }
    }

    /// Whether programs of it are executed.
    pub(crate) fn executes(&self) -> bool {
        !self.flags().has(libc::MS_NOEXEC)
    }

    /// Changes its flags: `MS_REMOUNT`.
    pub(crate) fn set_flags(&self, flags: Flags) {
        let flags = allowed(flags, self.traits);
        self.flags.set(flags);
        if let Some(beneath) = &self.beneath {
            beneath.set_flags(Flags { file_system: flags.file_system, ..beneath.flags() });
        }
    }

    /// The file system, if this thread may ask it. Errors: [`patience::LATER`].
    pub(crate) fn ask(&self) -> Result<&Arc<dyn FileSystem>, Errno> {
        if self.traits.may_wait {
            patience::may_wait()?;
        }
        Ok(&self.fs)
    }

    /// What a name in a directory leads to, if that is known without asking.
    pub(super) fn known(&self, parent: &Inode, name: &[u8]) -> Option<Arc<Inode>> {
        let names = self.names.lock();
        names.get(&(parent.node, name.to_vec())).map(|known| Arc::clone(&known.inode))
    }

    /// Finds a name in a directory. Errors: `ENOENT`, those of the file system.
    pub(crate) fn lookup(
        self: &Arc<Self>,
        caller: &Caller,
        parent: &Arc<Inode>,
        name: &[u8],
    ) -> Result<Arc<Inode>, Errno> {
        let key = (parent.node, name.to_vec());
        if let Some(known) = self.names.lock().get(&key)
            && known.until.is_none_or(|until| Instant::now() < until)
        {
            let inode = Arc::clone(&known.inode);
            // Another of its names was taken away.
            if inode.is_removed() {
                inode.stands(parent, name);
            }
            return Ok(inode);
        }
        match self.ask()?.lookup(caller, parent.node, name) {
            Ok(entry) => Ok(self.enter(parent, name, &entry)),
            Err(errno) => {
                self.names.lock().remove(&key);
                Err(errno)
            }
        }
    }

    /// Takes in what a file system has found or made under a name.
    pub(crate) fn enter(
        self: &Arc<Self>,
        parent: &Arc<Inode>,
        name: &[u8],
        entry: &Entry,
    ) -> Arc<Inode> {
        let inode = self.inode(entry);
        inode.stands(parent, name);
        let until = match entry.valid {
            Duration::MAX => None,
            valid => Instant::now().checked_add(valid),
        };
        let known = Known { inode: Arc::clone(&inode), until };
        let mut names = self.names.lock();
        let forgotten =
            if names.len() >= NAMES_LIMIT { std::mem::take(&mut *names) } else { HashMap::new() };
        let replaced = names.insert((parent.node, name.to_vec()), known);
        drop(names);
        // Inodes that nobody else needs are forgotten outside the lock.
        drop((forgotten, replaced));
        inode
    }

    fn inode(self: &Arc<Self>, entry: &Entry) -> Arc<Inode> {
        let mut inodes = self.inodes.lock();
        if let Some(inode) = inodes.get(&entry.node).and_then(Weak::upgrade) {
            inode.referenced();
            return inode;
        }
        let fresh = Inode::new(self, entry);
        inodes.insert(entry.node, Arc::downgrade(&fresh));
        fresh
    }

    /// An inode without a name.
    pub(crate) fn nameless(self: &Arc<Self>, entry: &Entry) -> Arc<Inode> {
        self.inode(entry)
    }

    /// A name leads elsewhere or nowhere now.
    pub(crate) fn forget_name(&self, parent: &Inode, name: &[u8]) {
        let gone = self.names.lock().remove(&(parent.node, name.to_vec()));
        drop(gone);
    }

    /// A name leads to this inode now.
    pub(crate) fn remember_name(&self, parent: &Arc<Inode>, name: &[u8], inode: &Arc<Inode>) {
        inode.stands(parent, name);
        let known = Known { inode: Arc::clone(inode), until: None };
        let before = self.names.lock().insert((parent.node, name.to_vec()), known);
        drop(before);
    }

    /// Drops all names: the mount goes, and the inodes with them.
    pub(crate) fn forget_names(&self) {
        let names = std::mem::take(&mut *self.names.lock());
        drop(names);
    }

    /// An inode is needed no more: its references go back to the file system.
    pub(super) fn let_go(&self, node: Node, references: u64) {
        let mut inodes = self.inodes.lock();
        if inodes.get(&node).is_some_and(|inode| inode.strong_count() == 0) {
            inodes.remove(&node);
        }
        drop(inodes);
        if references > 0 {
            self.fs.forget(node, references);
        }
    }

    /// What `/proc/mounts` shows as options, when the file system knows better than mount(2).
    pub(crate) fn options(&self) -> Option<String> {
        self.fs.options()
    }

    /// `st_dev` of one of its files.
    pub(crate) fn dev_of(&self, attributes: &Attributes) -> u64 {
        attributes.dev.unwrap_or(self.dev)
    }
}

/// What cannot be changed is mounted so.
fn allowed(mut flags: Flags, traits: Traits) -> Flags {
    if traits.read_only {
        flags.mount |= libc::MS_RDONLY;
        flags.file_system |= libc::MS_RDONLY;
    }
    flags
}

impl Keeper for MountedFiles {
    fn forget_name(&self, parent: Node, name: &[u8]) {
        let gone = self.names.lock().remove(&(parent, name.to_vec()));
        drop(gone);
    }

    fn forget_content(&self, node: Node) {
        let inode = self.inodes.lock().get(&node).and_then(Weak::upgrade);
        if let Some(inode) = inode {
            inode.content_is_stale();
        }
    }
}
