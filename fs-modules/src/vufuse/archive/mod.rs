//! `vufusearchive`: an archive, read only.
//!
//! `vumount -t vufusearchive [-o size=N] archive /mnt`: tar, cpio and ar, also compressed as a whole, zip and
//! 7z. The mount reads the names; what cannot be read where it is in the image is unpacked when it is wanted
//! ([`units`]). So the mount of a compressed tar archive unpacks it once, into a file that nobody else
//! sees; memory is taken for the names only. The node of a file is its place in the [`tree`].
//!
//! Locks: `turn` of the units, then their own, which is held for a look-up only.

mod ar;
mod content;
mod cpio;
mod filter;
#[cfg(any(test, fuzzing))]
pub mod hostile;
mod input;
mod pax;
mod seven;
mod tar;
mod tree;
mod units;
mod zip;

use std::sync::Arc;

use umvu_abi::{
    Errno,
    files::{
        Attributes, Backing, Caller, DirEntry, EXECUTE, Entry, FileSystem, Handle, Node, Opened,
        Outside, Seek, StatFs, Time, Traits, WRITE,
    },
    module::{MountError, MountRequest},
};

use self::{
    filter::Filter,
    input::Place,
    seven::Seven,
    tree::{Body, Defaults, Inode, Target, Tree},
    units::{Packed, Units},
    zip::Zip,
};
use super::read_only;
use crate::options::Options;

/// `FUSE_SUPER_MAGIC`, as archivemount shows.
const MAGIC: i64 = 0x6573_5546;
/// How much may be unpacked at once, unless it is told, in bytes.
const ROOM: u64 = 4 << 30;
/// How long the target of a link may be (`PATH_MAX`).
const LONGEST: u64 = 4096;
/// What is said of a file that is none of these.
const KINDS: &str = "no archive (of tar, cpio, ar, zip or 7z)";

/// Mounts an archive. Errors: `EINVAL` for what is none, `ENOSPC` when it needs more room than it may have,
/// those of open(2).
pub fn mount(
    request: &MountRequest,
    outside: &Arc<dyn Outside>,
) -> Result<Arc<dyn FileSystem>, MountError> {
    let mut options = Options::of(request);
    let room = options.size("size")?.unwrap_or(ROOM);
    outside.take_time()?;
    let caller = outside.caller();
    let defaults = Defaults { owner: [caller.uid, caller.gid], time: Time::now() };
    read_only::mount(request, outside, options, |image| {
        let archive = Archive::new(image, defaults, room)?;
        if let Some(remark) = &archive.remark {
            outside.notice(&format!("vufusearchive: {}: {remark}", request.source));
        }
        Ok::<_, read_only::Refusal>(archive)
    })
}

/// The file system.
#[derive(Debug)]
pub struct Archive {
    tree: Tree,
    units: Units,
    size: u64,
    /// Who has mounted it, and may read all of it.
    owner: u32,
    /// What the user should know though it is mounted.
    remark: Option<String>,
}

/// Adds the members of an archive that is one stream, and tells whether it is one. What is wrong with it is
/// returned.
fn stream(
    place: &Place,
    unit: Option<usize>,
    tree: &mut Tree,
) -> Option<Result<Option<String>, String>> {
    if tar::begins(place) {
        Some(tar::read(place, unit, tree))
    } else if cpio::begins(place) {
        Some(cpio::read(place, unit, tree))
    } else if ar::begins(place) {
        Some(ar::read(place, unit, tree))
    } else {
        None
    }
}

impl Archive {
    /// Reads what an archive has in it. Errors: what is wrong with it.
    fn new(
        image: Arc<dyn Backing>,
        defaults: Defaults,
        room: u64,
    ) -> Result<Self, read_only::Refusal> {
        let mut tree = Tree::new(defaults);
        let place = Place::Image(Arc::clone(&image));
        let size = place.size().map_err(std::io::Error::from)?;
        let mut head = [0; 8];
        let length = place.read_at(0, &mut head).map_err(std::io::Error::from)?;
        let head = &head[..length];
        let units = |packed| Units::new(Arc::clone(&image), packed, room);
        let mut remarks = Vec::new();
        let mut encrypted = 0;
        let units = if let Some(wrong) = stream(&place, None, &mut tree) {
            remarks.extend(wrong?);
            units(Packed::Plain)
        } else if head.starts_with(b"7z\xbc\xaf\x27\x1c") {
            let mut seven = Seven::new(place)?;
            seven.read(&mut tree)?;
            encrypted = seven.encrypted;
            units(Packed::Seven(Box::new(seven)))
        } else if Filter::of(head).is_some() {
            let units = units(Packed::Stream);
            let place = Place::Unpacked(units.unpacked(0)?);
            let wrong = stream(&place, Some(0), &mut tree);
            remarks.extend(wrong.ok_or_else(|| format!("compressed, but {KINDS}"))??);
            units
        } else {
            let mut zip = match Zip::new(place) {
                Ok(zip) => zip,
                Err(error) if head.starts_with(b"PK") => return Err(error.into()),
                Err(_) => return Err(KINDS.to_owned().into()),
            };
            zip.read(&mut tree)?;
            encrypted = zip.encrypted;
            units(Packed::Zip(zip))
        };
        tree.finish()?;
        if encrypted > 0 {
            remarks.push(format!("{encrypted} members are encrypted and cannot be read"));
        }
        if tree.left_out > 0 {
            let reason = "they lead out of it, or others are in their way";
            remarks.push(format!("{} members are not shown: {reason}", tree.left_out));
        }
        if tree.damaged > 0 {
            remarks.push(format!("{} members are damaged", tree.damaged));
        }
        let remark = Some(remarks.join("; ")).filter(|remark| !remark.is_empty());
        Ok(Self { tree, units, size, owner: defaults.owner[0], remark })
    }

    fn target(&self, inode: &Inode) -> Result<Vec<u8>, Errno> {
        match &inode.body {
            Body::Link(Target::Known(target)) => Ok(target.clone()),
            Body::Link(Target::Stored(content)) => {
                let size = inode.attributes.size;
                if size > LONGEST {
                    return Err(Errno::EIO);
                }
                let mut target = vec![0; usize::try_from(size).map_err(|_| Errno::EIO)?];
                content.read(&self.units, size, 0, &mut target)?;
                Ok(target)
            }
            _ => Err(Errno::EINVAL),
        }
    }
}

impl FileSystem for Archive {
    fn traits(&self) -> Traits {
        Traits {
            may_wait: self.units.may_wait(),
            read_only: true,
            checks_access: true,
            ..Traits::default()
        }
    }

    fn lookup(&self, _: &Caller, parent: Node, name: &[u8]) -> Result<Entry, Errno> {
        let index = *self.tree.names(parent)?.get(name).ok_or(Errno::ENOENT)?;
        let node = Node(1 + index as u64);
        Ok(Entry::lasting(node, self.tree.get(node)?.attributes))
    }

    fn getattr(&self, _: &Caller, node: Node, _: Option<Handle>) -> Result<Attributes, Errno> {
        Ok(self.tree.get(node)?.attributes)
    }

    /// Who has mounted the archive can read all of it anyway.
    fn access(&self, caller: &Caller, node: Node, wanted: u32) -> Result<(), Errno> {
        let attributes = &self.tree.get(node)?.attributes;
        let runs = attributes.is_directory() || attributes.mode & 0o111 != 0;
        match () {
            () if wanted & WRITE != 0 => Err(Errno::EROFS),
            () if caller.uid == self.owner && (wanted & EXECUTE == 0 || runs) => Ok(()),
            () if caller.may(attributes, wanted) => Ok(()),
            () => Err(Errno::EACCES),
        }
    }

    fn readlink(&self, _: &Caller, node: Node) -> Result<Vec<u8>, Errno> {
        self.target(self.tree.get(node)?)
    }

    fn open(&self, _: &Caller, node: Node, _: i32) -> Result<Opened, Errno> {
        let inode = self.tree.get(node)?;
        if let Body::File(content) = &inode.body {
            content.prepare(&self.units)?;
        }
        read_only::open(inode.attributes.kind())
    }

    fn read(&self, node: Node, _: Handle, at: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let inode = self.tree.get(node)?;
        match &inode.body {
            Body::File(content) => content.read(&self.units, inode.attributes.size, at, buffer),
            _ => Err(Errno::EINVAL),
        }
    }

    fn seek(&self, node: Node, _: Handle, offset: u64, what: Seek) -> Result<u64, Errno> {
        let inode = self.tree.get(node)?;
        let (Body::File(content), size) = (&inode.body, inode.attributes.size) else {
            return Err(Errno::EINVAL);
        };
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        content.next(offset, size, what).ok_or(Errno::ENXIO)
    }

    fn readdir(
        &self,
        _: &Caller,
        node: Node,
        _: Handle,
        each: &mut dyn FnMut(DirEntry),
    ) -> Result<(), Errno> {
        for (name, index) in self.tree.names(node)? {
            let ino = 1 + *index as u64;
            let kind = self.tree.get(Node(ino))?.attributes.kind();
            each(DirEntry { name: name.to_vec(), ino, kind });
        }
        Ok(())
    }

    fn statfs(&self, _: Node) -> Result<StatFs, Errno> {
        Ok(StatFs {
            kind: MAGIC,
            block_size: 4096,
            blocks: self.size.div_ceil(4096),
            files: self.tree.count() as u64,
            name_length: 255,
            ..StatFs::default()
        })
    }

    fn getxattr(&self, caller: &Caller, node: Node, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut found = self.tree.get(node)?.xattrs.iter().filter(|(it, _)| shown(caller, it));
        found.find(|(it, _)| it == name).map(|(_, value)| value.clone()).ok_or(Errno::ENODATA)
    }

    fn listxattr(&self, caller: &Caller, node: Node) -> Result<Vec<Vec<u8>>, Errno> {
        let names = self.tree.get(node)?.xattrs.iter().map(|(name, _)| name);
        Ok(names.filter(|name| shown(caller, name)).cloned().collect())
    }
}

/// Whether a caller may see an extended attribute.
fn shown(caller: &Caller, name: &[u8]) -> bool {
    caller.is_privileged() || !name.starts_with(b"trusted.")
}
