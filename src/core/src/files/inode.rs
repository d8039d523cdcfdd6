//! One node of a mounted file system that somebody needs.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use umvu_abi::{
    Errno,
    files::{Attributes, Caller, Entry, Handle, Node},
};

use super::{MountedFiles, claims::Claims, content::Content, listing::Listing};

/// Where an inode was found last.
#[derive(Debug, Clone, Default)]
struct Place {
    parent: Option<Arc<Inode>>,
    name: Vec<u8>,
    /// The name was taken away.
    removed: bool,
    /// It was made without a name, and may get one.
    linkable: bool,
}

/// A node in use. When the last user goes, the file system may forget it.
pub(crate) struct Inode {
    pub(crate) files: Arc<MountedFiles>,
    pub(crate) node: Node,
    /// The type bits of its mode, which never change.
    kind: OnceLock<u32>,
    /// `st_dev` and `st_ino`, as it was found.
    numbers: Option<(u64, u64)>,
    references: AtomicU64,
    place: Mutex<Place>,
    /// The number of its object, once it has one.
    pub(super) object: OnceLock<u64>,
    pub(crate) content: Mutex<Content>,
    /// The file system has told that what is kept of the content is out of date.
    stale: AtomicBool,
    pub(crate) listing: Mutex<Listing>,
    /// Who has its data for a mount of their own.
    pub(super) claims: Claims,
}

impl fmt::Debug for Inode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inode({:?}, {})", self.files, self.node.0)
    }
}

impl Inode {
    fn make(
        files: &Arc<MountedFiles>,
        node: Node,
        kind: OnceLock<u32>,
        numbers: Option<(u64, u64)>,
        references: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            files: Arc::clone(files),
            node,
            kind,
            numbers,
            references: AtomicU64::new(references),
            place: Mutex::default(),
            object: OnceLock::new(),
            content: Mutex::default(),
            stale: AtomicBool::new(false),
            listing: Mutex::default(),
            claims: Claims::default(),
        })
    }

    pub(super) fn root(files: &Arc<MountedFiles>, node: Node) -> Arc<Self> {
        let kind = files.fs.root_kind().map_or_else(OnceLock::new, OnceLock::from);
        Self::make(files, node, kind, None, 0)
    }

    pub(super) fn new(files: &Arc<MountedFiles>, entry: &Entry) -> Arc<Self> {
        let looks = &entry.attributes;
        let numbers = (files.dev_of(looks), looks.ino);
        Self::make(files, entry.node, OnceLock::from(looks.kind()), Some(numbers), 1)
    }

    /// `st_dev` and `st_ino`, known without asking; None for the root of a mount.
    pub(crate) fn numbers(&self) -> Option<(u64, u64)> {
        self.numbers
    }

    /// It was found once more.
    pub(super) fn referenced(&self) {
        self.references.fetch_add(1, Ordering::Relaxed);
    }

    /// It was found under this name.
    pub(super) fn stands(&self, parent: &Arc<Self>, name: &[u8]) {
        let parent = Some(Arc::clone(parent));
        let place = Place { parent, name: name.to_vec(), removed: false, linkable: false };
        let before = std::mem::replace(&mut *self.place.lock(), place);
        drop(before);
    }

    /// It was made in a directory without a name, as its number; perhaps to get one.
    pub(super) fn is_nameless_in(&self, directory: &Arc<Self>, ino: u64, linkable: bool) {
        self.stands(directory, format!("#{ino}").as_bytes());
        let mut place = self.place.lock();
        (place.removed, place.linkable) = (true, linkable);
    }

    /// Whether it was made without a name, and may get one.
    pub(super) fn is_linkable(&self) -> bool {
        self.place.lock().linkable
    }

    /// Its name was taken away.
    pub(super) fn removed(&self) {
        self.place.lock().removed = true;
    }

    /// This name of it was taken away; it may have others.
    pub(super) fn removed_from(&self, parent: &Arc<Self>, name: &[u8]) {
        let mut place = self.place.lock();
        let is_it = place.parent.as_ref().is_some_and(|known| known.is(parent));
        if is_it && place.name == name {
            place.removed = true;
        }
    }

    /// The directory in which it has a name, and the name; None when it was taken away, and for a root.
    pub(super) fn standing(&self) -> Option<(Arc<Self>, Vec<u8>)> {
        let place = self.place.lock();
        let parent = place.parent.as_ref().filter(|_| !place.removed)?;
        Some((Arc::clone(parent), place.name.clone()))
    }

    /// Whether its name was taken away.
    pub(crate) fn is_removed(&self) -> bool {
        self.place.lock().removed
    }

    /// The absolute path, in the view; ` (deleted)` follows when its name was taken away.
    pub(crate) fn path(&self) -> Vec<u8> {
        let mut names = Vec::new();
        let mut place = self.place.lock().clone();
        let removed = place.removed;
        while let Some(parent) = place.parent {
            names.push(place.name);
            place = parent.place.lock().clone();
        }
        let mut path = self.files.target();
        if path == b"/" {
            path.clear();
        }
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        if removed {
            path.extend_from_slice(b" (deleted)");
        }
        path
    }

    /// The directories that lead to it, the root of the mount first, and itself.
    pub(crate) fn lineage(self: &Arc<Self>) -> Vec<Arc<Self>> {
        let mut lineage = vec![Arc::clone(self)];
        let mut parent = self.place.lock().parent.clone();
        while let Some(directory) = parent {
            let above = directory.place.lock().parent.clone();
            lineage.push(directory);
            parent = above;
        }
        lineage.reverse();
        lineage
    }

    /// Whether `other` is this directory or one above it.
    pub(crate) fn is_below(&self, other: &Self) -> bool {
        if self.is(other) {
            return true;
        }
        let mut parent = self.place.lock().parent.clone();
        while let Some(directory) = parent {
            if directory.is(other) {
                return true;
            }
            parent = directory.place.lock().parent.clone();
        }
        false
    }

    /// Whether something in the private directory stands for it.
    pub(crate) fn has_object(&self) -> bool {
        self.object.get().is_some()
    }

    /// What is kept of its content is out of date.
    pub(super) fn content_is_stale(&self) {
        self.stale.store(true, Ordering::Relaxed);
    }

    /// Whether it was out of date; not any more.
    pub(super) fn refresh(&self) -> bool {
        self.stale.swap(false, Ordering::Relaxed)
    }

    /// Whether both are the same node.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.node == other.node && Arc::ptr_eq(&self.files, &other.files)
    }

    /// The type bits of its mode. Errors: those of the file system.
    pub(crate) fn kind(&self) -> Result<u32, Errno> {
        if let Some(kind) = self.kind.get() {
            return Ok(*kind);
        }
        let attributes = self.files.ask()?.getattr(&Caller::root(), self.node, None)?;
        Ok(*self.kind.get_or_init(|| attributes.kind()))
    }

    /// Whether it is a directory.
    pub(crate) fn is_directory(&self) -> Result<bool, Errno> {
        Ok(self.kind()? == libc::S_IFDIR)
    }

    /// What stat(2) tells: the file system's word, but for what guests have written since.
    pub(crate) fn attributes(&self, caller: &Caller) -> Result<Attributes, Errno> {
        self.attributes_by(caller, None)
    }

    /// As [`Inode::attributes`], of an open file.
    pub(crate) fn attributes_by(
        &self,
        caller: &Caller,
        handle: Option<Handle>,
    ) -> Result<Attributes, Errno> {
        let fs = self.files.ask()?;
        // Locked before the file system is asked: what is written back meanwhile is in neither.
        let content = match self.kind.get() {
            None | Some(&libc::S_IFREG) => Some(self.content.lock()),
            Some(_) => None,
        };
        if let Some(content) = &content {
            content.note_reads(self)?;
        }
        let mut attributes = fs.getattr(caller, self.node, handle)?;
        attributes.dev = Some(self.files.dev_of(&attributes));
        if attributes.is_regular()
            && let Some(content) = content
        {
            content.correct(&mut attributes);
        }
        Ok(attributes)
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        if let Some(number) = self.object.get() {
            self.files.objects.discard(*number);
        }
        self.content.get_mut().end(&self.files, self.node);
        self.files.let_go(self.node, self.references.load(Ordering::Relaxed));
    }
}
