//! `vufusearchive`: an archive.
//!
//! `vumount -t vufusearchive [-o ro|rw+,size=N,nobackup,nosave] archive /mnt`: tar, cpio and ar, also
//! compressed as a whole, zip and 7z. The mount reads the names; what cannot be read where it is in the image is unpacked when it is wanted
//! ([`units`]). So the mount of a compressed tar archive unpacks it once, into a file that nobody else
//! sees; memory is taken for the names only. The node of a file is its place in the [`tree`].
//!
//! With `rw+` the files become those of a file system in memory, whose content is still here where it was not
//! changed ([`Base`]). It is written anew as a whole ([`write`]), at syncfs(2) and at the end.
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
mod write;
mod zip;

use std::sync::{Arc, atomic::AtomicBool};

use parking_lot::Mutex;
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
    input::{Input, Place},
    seven::Seven,
    tree::{Body, Defaults, Inode, Target, Tree},
    units::{Packed, Units},
    write::{Format, Writer},
    zip::Zip,
};
use super::{
    image::{self, Access},
    mem::{Base, Content as Kept, Known, Memory},
    read_only,
};
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
/// `EROFS` for one that cannot be written, those of open(2).
pub fn mount(
    request: &MountRequest,
    outside: &Arc<dyn Outside>,
) -> Result<Arc<dyn FileSystem>, MountError> {
    let mut options = Options::of(request);
    let room = options.size("size")?.unwrap_or(ROOM);
    let [discards, alone] = ["nosave", "nobackup"].map(|name| options.flag(name));
    // Not told when writing was not asked for: most archives are to be read.
    let writes = options.flag("rw+") && request.flags & libc::MS_RDONLY == 0;
    outside.take_time()?;
    let caller = outside.caller();
    let defaults = Defaults { owner: [caller.uid, caller.gid], time: Time::now() };
    let say = |archive: &Archive| {
        if let Some(remark) = &archive.remark {
            outside.notice(&format!("vufusearchive: {}: {remark}", request.source));
        }
    };
    if !writes {
        return read_only::mount(request, outside, options, |image| {
            let archive = Archive::new(image, defaults, room)?;
            say(&archive);
            Ok::<_, read_only::Refusal>(archive)
        });
    }
    options.finish()?;
    let image = image::open(request, outside, Access::Write)?;
    let refused = |refusal: read_only::Refusal| refusal.of(&request.source);
    let archive = Archive::new(Arc::clone(&image), defaults, room).map_err(refused)?;
    say(&archive);
    let format = archive.writable(&image).map_err(|reason| {
        let reason = format!("{}: {reason}; mount without rw+", request.source);
        MountError::new(Errno::EROFS, reason)
    })?;
    let writer = Writer {
        outside: Arc::clone(outside),
        path: outside.absolute(request.source.as_bytes())?,
        format,
        units: Arc::clone(&archive.units),
        has_root: archive.tree.has_root,
        backup: AtomicBool::new(!alone),
        discards,
        held: Mutex::new(image),
    };
    Ok(Arc::new(archive.in_memory(room, writer)?))
}

/// The file system.
#[derive(Debug)]
pub struct Archive {
    tree: Tree,
    units: Arc<Units>,
    /// What it is, if such can be written.
    format: Option<Format>,
    size: u64,
    /// Who has mounted it, and may read all of it.
    owner: u32,
    /// What the user should know though it is mounted.
    remark: Option<String>,
}

/// The content of a file of an archive, for one that is written.
#[derive(Debug)]
struct Member {
    content: content::Content,
    units: Arc<Units>,
    size: u64,
}

impl Base for Member {
    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.content.read(&self.units, self.size, at, buffer)
    }

    fn next(&self, at: u64, what: Seek) -> Option<u64> {
        self.content.next(at, self.size, what)
    }

    fn unit(&self) -> Option<usize> {
        self.content.unit
    }
}

/// A format that can be written, if it can, and what is wrong with the archive. Errors: it cannot be read.
type Read = (Option<Format>, Result<Option<String>, String>);

/// Adds the members of an archive that is one stream, and tells whether it is one.
fn stream(
    place: &Place,
    unit: Option<usize>,
    filter: Option<Filter>,
    tree: &mut Tree,
) -> Option<Read> {
    if tar::begins(place) {
        Some((Some(Format::Tar(filter)), tar::read(place, unit, tree)))
    } else if cpio::begins(place) {
        Some((Some(Format::Cpio(filter)), cpio::read(place, unit, tree)))
    } else if ar::begins(place) {
        Some((None, ar::read(place, unit, tree)))
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
        let mut format = None;
        let units = if let Some((found, wrong)) = stream(&place, None, None, &mut tree) {
            format = found;
            remarks.extend(wrong?);
            units(Packed::Plain)
        } else if head.starts_with(b"7z\xbc\xaf\x27\x1c") {
            let mut seven = Seven::new(place)?;
            seven.read(&mut tree)?;
            encrypted = seven.encrypted;
            units(Packed::Seven(Box::new(seven)))
        } else if let Some(filter) = Filter::of(head) {
            let units = units(Packed::Stream);
            let place = Place::Unpacked(units.unpacked(0)?);
            let found = stream(&place, Some(0), Some(filter), &mut tree);
            let (found, wrong) = found.ok_or_else(|| format!("compressed, but {KINDS}"))?;
            format = found;
            remarks.extend(wrong?);
            units
        } else {
            let mut zip = match Zip::new(place) {
                Ok(zip) => zip,
                Err(error) if head.starts_with(b"PK") => return Err(error.into()),
                Err(_) => return Err(KINDS.to_owned().into()),
            };
            zip.read(&mut tree)?;
            encrypted = zip.encrypted;
            format = Some(Format::Zip);
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
        let (units, owner) = (Arc::new(units), defaults.owner[0]);
        Ok(Self { tree, units, format, size, owner, remark })
    }

    /// The format in which it can be written. Errors: why it cannot.
    fn writable(&self, image: &Arc<dyn Backing>) -> Result<Format, String> {
        let format = self.format.ok_or("only tar, cpio and zip archives are written")?;
        if let Some(remark) = &self.remark {
            return Err(format!("to write it would lose something ({remark})"));
        }
        if let Format::Tar(Some(filter)) | Format::Cpio(Some(filter)) = format {
            let from = Input::new(Place::Image(Arc::clone(image)));
            let from = from.map_err(|errno| errno.to_string())?;
            if filter::is_twofold(filter, from).map_err(|error| error.to_string())? {
                return Err("it is compressed more than once".to_owned());
            }
        }
        Ok(format)
    }

    /// As a file system that can be changed. Errors: `EIO`.
    fn in_memory(self, room: u64, writer: Writer) -> Result<Memory, Errno> {
        let mut files = Vec::new();
        for node in 1..=self.tree.count() as u64 {
            let inode = self.tree.get(Node(node))?;
            // Others have taken its names.
            if inode.attributes.nlink == 0 {
                continue;
            }
            let mut attributes = inode.attributes;
            let content = match &inode.body {
                Body::Directory(names) => {
                    let names = names.iter();
                    Kept::Directory(
                        names.map(|(name, at)| (name.to_vec(), 1 + *at as u64)).collect(),
                    )
                }
                Body::File(content) => Kept::File(Arc::new(Member {
                    content: content.clone(),
                    units: Arc::clone(&self.units),
                    size: attributes.size,
                })),
                Body::Link(_) => {
                    let target = self.target(inode)?;
                    attributes.size = target.len() as u64;
                    Kept::Link(target)
                }
                Body::Special => Kept::Special,
            };
            files.push(Known { attributes, xattrs: inode.xattrs.clone(), content });
        }
        Ok(Memory::saved(files.into_iter(), room, Box::new(writer), (self.owner, MAGIC, true)))
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
        read_only::open(&inode.attributes)
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
