//! `vufusesquash`: a squashfs image, read only.
//!
//! `vumount -t vufusesquash [-o offset=N] image.sqfs /mnt`: format 4.0, all compressors of mksquashfs (gzip,
//! lzma, lzo, xz, lz4, zstd). The mount reads the super block and the owners; what is else needed is
//! unpacked block by block and kept while it is used ([`store`]). The node of a file is where its inode
//! is in the image, so nothing has to be remembered for it.
//!
//! Locks: each cache has one of its own, which is held for a look-up only.

mod codec;
mod data;
mod directory;
#[cfg(any(test, fuzzing))]
pub mod hostile;
mod inode;
mod lzo;
mod store;
mod superblock;
mod xattr;

use std::sync::Arc;

use parking_lot::Mutex;
use umvu_abi::{
    Errno,
    files::{
        Attributes, Backing, Caller, DirEntry, Entry, FileSystem, Handle, Node, Opened, Outside,
        StatFs, Traits,
    },
    module::{MountError, MountRequest},
};

use self::{
    codec::Codec,
    data::Layout,
    inode::{Body, Inode},
    store::{Cursor, Store},
    superblock::Superblock,
    xattr::Attribute,
};
use super::{
    lru::Lru,
    read_only::{self, Directories},
};
use crate::options::Options;

/// `SQUASHFS_MAGIC`.
const MAGIC: i64 = 0x7371_7368;
/// What nodes that are not the root are more than the reference of their inode.
const ABOVE: u64 = 2;
/// How many blocks of files are kept.
const KEPT: usize = 1 << 20;

/// Mounts an image. Errors: `EINVAL` for what is no such image, those of open(2).
pub fn mount(
    request: &MountRequest,
    outside: &Arc<dyn Outside>,
) -> Result<Arc<dyn FileSystem>, MountError> {
    let mut options = Options::of(request);
    let base = options.size("offset")?.unwrap_or(0);
    read_only::mount(request, outside, options, |image| Squash::new(image, base))
}

/// The file system.
#[derive(Debug)]
pub struct Squash {
    store: Store,
    superblock: Superblock,
    ids: Vec<u32>,
    directories: Directories,
    layouts: Mutex<Lru<u64, Arc<Layout>>>,
}

impl Squash {
    /// Looks at an image. Errors: what is wrong with it.
    pub fn new(image: Arc<dyn Backing>, base: u64) -> Result<Self, String> {
        let mut head = [0; superblock::LENGTH];
        let size = image.size().map_err(|errno| errno.to_string())?.saturating_sub(base);
        let read = image.read_at(base, &mut head).map_err(|errno| errno.to_string())?;
        let superblock = Superblock::parse(&head)?;
        if size < superblock.size || read < head.len() {
            let reason = format!("cut off: has {size} of {} bytes; copy it anew", superblock.size);
            return Err(reason);
        }
        let codec = Codec::of(superblock.compressor)
            .ok_or_else(|| format!("unknown compressor {}", superblock.compressor))?;
        let block = usize::try_from(superblock.block_size).map_err(|error| error.to_string())?;
        let store = Store::new(image, base, superblock.size, block, codec);
        let broken = |_| "broken squashfs image (look with unsquashfs -s)".to_owned();
        let ids = superblock::ids(&store, &superblock).map_err(broken)?;
        let (directories, layouts) = (Directories::default(), Mutex::new(Lru::new(KEPT)));
        let files = Self { store, superblock, ids, directories, layouts };
        let root = files.inode(Node::ROOT).map_err(broken)?;
        if root.attributes.is_directory() { Ok(files) } else { Err(broken(Errno::EIO)) }
    }

    fn reference(&self, node: Node) -> u64 {
        if node == Node::ROOT { self.superblock.root } else { node.0.wrapping_sub(ABOVE) }
    }

    fn inode(&self, node: Node) -> Result<Inode, Errno> {
        self.read_inode(node).map(|(inode, _)| inode)
    }

    fn read_inode(&self, node: Node) -> Result<(Inode, Cursor<'_>), Errno> {
        let table = self.superblock.inode_table;
        let mut from = Cursor::at(&self.store, table, self.reference(node))?;
        let mut inode = inode::read(&mut from)?;
        let id = |index: u32| {
            let index = usize::try_from(index).map_err(|_| Errno::EIO)?;
            self.ids.get(index).copied().ok_or(Errno::EIO)
        };
        let attributes = &mut inode.attributes;
        (attributes.uid, attributes.gid) = (id(attributes.uid)?, id(attributes.gid)?);
        attributes.blksize = self.superblock.block_size;
        Ok((inode, from))
    }

    fn directory(&self, node: Node) -> Result<read_only::Names, Errno> {
        self.directories.names(self.reference(node), || {
            let Body::Directory(names) = self.inode(node)?.body else { return Err(Errno::ENOTDIR) };
            directory::read(&self.store, self.superblock.directory_table, names)
        })
    }

    fn layout(&self, node: Node) -> Result<Arc<Layout>, Errno> {
        let key = self.reference(node);
        if let Some(layout) = self.layouts.lock().get(&key) {
            return Ok(layout);
        }
        let (inode, mut from) = self.read_inode(node)?;
        let Body::File(data) = inode.body else { return Err(Errno::EINVAL) };
        let layout = Layout::read(&mut from, data, u64::from(self.superblock.block_size))?;
        let layout = Arc::new(layout);
        self.layouts.lock().put(key, Arc::clone(&layout), layout.weight());
        Ok(layout)
    }

    /// The extended attributes that a caller may see.
    fn xattrs(&self, caller: &Caller, node: Node) -> Result<Vec<Attribute>, Errno> {
        let table = self.superblock.xattr_table;
        let Some(list) = self.inode(node)?.xattrs.filter(|_| table != u64::MAX) else {
            return Ok(Vec::new());
        };
        let mut found = xattr::read(&self.store, table, list)?;
        if !caller.is_privileged() {
            found.retain(|(name, _)| !name.starts_with(b"trusted."));
        }
        Ok(found)
    }
}

impl FileSystem for Squash {
    fn traits(&self) -> Traits {
        Traits { may_wait: self.store.may_wait(), read_only: true, ..Traits::default() }
    }

    fn lookup(&self, _: &Caller, parent: Node, name: &[u8]) -> Result<Entry, Errno> {
        let node = read_only::find(&self.directory(parent)?, name)?;
        Ok(Entry::lasting(node, self.inode(node)?.attributes))
    }

    fn getattr(&self, _: &Caller, node: Node, _: Option<Handle>) -> Result<Attributes, Errno> {
        Ok(self.inode(node)?.attributes)
    }

    fn readlink(&self, _: &Caller, node: Node) -> Result<Vec<u8>, Errno> {
        match self.inode(node)?.body {
            Body::Link(target) => Ok(target),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open(&self, _: &Caller, node: Node, _: i32) -> Result<Opened, Errno> {
        read_only::open(&self.inode(node)?.attributes)
    }

    fn read(&self, node: Node, _: Handle, at: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.layout(node)?.read_at(&self.store, &self.superblock, at, buffer)
    }

    fn readdir(
        &self,
        _: &Caller,
        node: Node,
        _: Handle,
        each: &mut dyn FnMut(DirEntry),
    ) -> Result<(), Errno> {
        read_only::list(&self.directory(node)?, each);
        Ok(())
    }

    fn statfs(&self, _: Node) -> Result<StatFs, Errno> {
        Ok(StatFs {
            kind: MAGIC,
            block_size: self.superblock.block_size,
            blocks: self.superblock.size.div_ceil(u64::from(self.superblock.block_size)),
            files: u64::from(self.superblock.inodes),
            name_length: 256,
            ..StatFs::default()
        })
    }

    fn getxattr(&self, caller: &Caller, node: Node, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let found = self.xattrs(caller, node)?.into_iter().find(|(this, _)| this == name);
        found.map(|(_, value)| value).ok_or(Errno::ENODATA)
    }

    fn listxattr(&self, caller: &Caller, node: Node) -> Result<Vec<Vec<u8>>, Errno> {
        Ok(self.xattrs(caller, node)?.into_iter().map(|(name, _)| name).collect())
    }
}
