//! A file system in memory that comes from somewhere, an archive, and goes back there: at syncfs(2) and
//! when it is unmounted. What was not changed stays where it is.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::MutexGuard;
use umvu_abi::{
    Errno,
    files::{Attributes, Node},
};

use super::{
    Memory, Names,
    data::{Base, Data},
    inode::{Body, Inode},
    tree::Tree,
};

/// Where a file system goes.
pub(in crate::vufuse) trait Save: Send + Sync + fmt::Debug {
    /// Whether a file of a kind, the type bits of its mode, may have a name. Errors: `EPERM` for the
    /// kind, `EILSEQ` for the name.
    fn allows(&self, name: &[u8], kind: u32) -> Result<(), Errno>;

    /// Whether it has room for extended attributes.
    fn has_xattrs(&self) -> bool;

    /// Saves all files, in the order in which they were made. Errors: why that fails; what was saved
    /// before is still there then.
    fn save(&self, members: &[Member<'_>]) -> Result<(), Errno>;
}

/// What is known of one that is saved.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) save: Box<dyn Save>,
    pub(super) owner: u32,
    pub(super) magic: i64,
    pub(super) may_wait: bool,
    changed: AtomicBool,
}

/// What a file has that was there before.
pub(in crate::vufuse) enum Content {
    /// Names, and the numbers of the files.
    Directory(Vec<(Vec<u8>, u64)>),
    File(Arc<dyn Base>),
    Link(Vec<u8>),
    Special,
}

/// A file that was there before. Its number is `st_ino`, that of the root is 1.
pub(in crate::vufuse) struct Known {
    pub(in crate::vufuse) attributes: Attributes,
    pub(in crate::vufuse) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(in crate::vufuse) content: Content,
}

/// What a file has that is to be saved.
#[derive(Debug)]
pub(in crate::vufuse) enum View<'a> {
    Directory,
    File(&'a Data),
    Link(&'a [u8]),
    Special,
}

/// A name of a file that is to be saved.
#[derive(Debug)]
pub(in crate::vufuse) struct Member<'a> {
    /// From the root on, without a slash at the beginning; empty for the root.
    pub(in crate::vufuse) path: Vec<u8>,
    pub(in crate::vufuse) attributes: Attributes,
    pub(in crate::vufuse) xattrs: Vec<(&'a [u8], &'a [u8])>,
    pub(in crate::vufuse) content: View<'a>,
}

impl Memory {
    /// One of files that are there already. `size` limits what is changed of them, in bytes.
    pub(in crate::vufuse) fn saved(
        files: impl Iterator<Item = Known>,
        size: u64,
        save: Box<dyn Save>,
        (owner, magic, may_wait): (u32, i64, bool),
    ) -> Self {
        let inode = |file: Known| {
            let body = match file.content {
                Content::Directory(names) => Body::Directory(names.into_iter().collect::<Names>()),
                Content::File(base) => Body::File(Data::over(base, file.attributes.size)),
                Content::Link(target) => Body::Link(target),
                Content::Special => Body::Special(file.attributes.rdev),
            };
            (file.attributes.ino, Inode::known(&file.attributes, file.xattrs, body))
        };
        let mut inodes: Vec<(u64, Inode)> = files.map(inode).collect();
        for (_, inode) in inodes.iter_mut().filter(|(node, _)| *node == Node::ROOT.0) {
            inode.references = 1;
        }
        let saved = Saved { save, owner, magic, may_wait, changed: AtomicBool::new(false) };
        let tree = parking_lot::Mutex::new(Tree::of(inodes, Some(size)));
        Self { tree, waits: false, told: None, saved: Some(saved) }
    }

    /// The tree, to change it.
    pub(super) fn changing(&self) -> MutexGuard<'_, Tree> {
        let tree = self.tree.lock();
        if let Some(saved) = &self.saved {
            saved.changed.store(true, Ordering::Relaxed);
        }
        tree
    }

    /// Whether a file may be made. Errors: as [`Save::allows`].
    pub(super) fn allows(&self, name: &[u8], mode: u32) -> Result<(), Errno> {
        match &self.saved {
            Some(saved) => saved.save.allows(name, mode & libc::S_IFMT),
            None => Ok(()),
        }
    }

    /// Saves what has changed. Errors: as [`Save::save`].
    pub(super) fn save(&self) -> Result<(), Errno> {
        let Some(saved) = &self.saved else { return Ok(()) };
        let tree = self.tree.lock();
        if !saved.changed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut members = members(&tree)?;
        members.sort_by(|one, other| {
            (one.attributes.ino, &one.path).cmp(&(other.attributes.ino, &other.path))
        });
        saved.save.save(&members)?;
        saved.changed.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// All names of all files.
fn members(tree: &Tree) -> Result<Vec<Member<'_>>, Errno> {
    let mut members = Vec::new();
    let mut open = vec![(Node::ROOT.0, Vec::new())];
    while let Some((node, path)) = open.pop() {
        let inode = tree.get(node)?;
        let content = match &inode.body {
            Body::Directory(names) => {
                for (name, child) in names {
                    let mut below = path.clone();
                    if !below.is_empty() {
                        below.push(b'/');
                    }
                    below.extend_from_slice(name);
                    open.push((*child, below));
                }
                View::Directory
            }
            Body::File(data) => View::File(data),
            Body::Link(target) => View::Link(target),
            Body::Special(_) => View::Special,
        };
        let xattrs = inode.xattrs.iter().map(|(name, value)| (&**name, &**value)).collect();
        members.push(Member { path, attributes: inode.attributes(node), xattrs, content });
    }
    Ok(members)
}
