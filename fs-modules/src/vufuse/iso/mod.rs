//! `vufuseiso`: an ISO 9660 image, read only.
//!
//! `vumount -t vufuseiso image.iso /mnt`: Rock Ridge, else Joliet, else plain names in small letters, as
//! Linux chooses. Directories are read when they are looked at and kept for a while; the node of a
//! file is where its record is in the image.

#[cfg(any(test, fuzzing))]
pub mod hostile;
mod record;
mod rock;
mod volume;

use std::sync::Arc;

use umvu_abi::{
    Errno,
    files::{
        Attributes, Backing, Caller, DirEntry, Entry, FileSystem, Handle, Node, Opened, Outside,
        StatFs, Traits,
    },
    module::{MountError, MountRequest},
};

use self::{
    record::{Record, next_sector},
    rock::Rock,
    volume::{Names, SECTOR, Volume, exact},
};
use super::read_only::{self, Directories, Name};
use crate::options::Options;

/// `ISOFS_SUPER_MAGIC`.
const MAGIC: i64 = 0x9660;
/// How many records one file may have, of 4 GiB each.
const PARTS: usize = 1024;

/// Mounts an image. Errors: `EINVAL` for what is no such image, those of open(2).
pub fn mount(
    request: &MountRequest,
    outside: &Arc<dyn Outside>,
) -> Result<Arc<dyn FileSystem>, MountError> {
    read_only::mount(request, outside, Options::of(request), Iso::new)
}

/// The file system.
#[derive(Debug)]
pub struct Iso {
    image: Arc<dyn Backing>,
    volume: Volume,
    directories: Directories,
}

impl Iso {
    /// Looks at an image. Errors: what is wrong with it.
    pub fn new(image: Arc<dyn Backing>) -> Result<Self, String> {
        let volume = Volume::find(&*image)?;
        let files = Self { image, volume, directories: Directories::default() };
        let broken = |_| "broken ISO 9660 image (look with isoinfo -d -i)".to_owned();
        files.directory(Node::ROOT).map_err(broken)?;
        Ok(files)
    }

    fn record(&self, node: Node) -> Result<Record, Errno> {
        let at = if node == Node::ROOT { self.volume.root } else { node.0 };
        Record::read(&*self.image, at)
    }

    fn rock(&self, record: &Record) -> Result<Option<Rock>, Errno> {
        let Names::Rock(skip) = self.volume.names else { return Ok(None) };
        Rock::read(&*self.image, record, skip).map(Some)
    }

    fn attributes(&self, node: Node, record: &Record) -> Result<(Attributes, Option<Rock>), Errno> {
        let kind = if record.is_directory { libc::S_IFDIR | 0o555 } else { libc::S_IFREG | 0o444 };
        let size = if record.continues {
            self.parts(node)?.iter().map(|part| part.1).sum()
        } else {
            u64::from(record.size)
        };
        let time = record.time;
        let mut attributes = Attributes {
            ino: node.0,
            mode: kind,
            nlink: 1,
            size,
            blocks: size.div_ceil(512),
            blksize: 2048,
            atime: time,
            mtime: time,
            ctime: time,
            ..Attributes::default()
        };
        // The root's own record has no room for fields; the one that it has of itself has.
        let rock = match node {
            Node::ROOT => self.rock(&Record::read(&*self.image, record.start())?)?,
            _ => self.rock(record)?,
        };
        if let Some(rock) = &rock {
            rock.apply(&mut attributes);
        }
        if attributes.is_directory() == record.is_directory {
            Ok((attributes, rock))
        } else {
            Err(Errno::EIO)
        }
    }

    /// The places and lengths of the content of a file, one for each of its records.
    fn parts(&self, node: Node) -> Result<Vec<(u64, u64)>, Errno> {
        let mut record = self.record(node)?;
        let mut parts = vec![(record.start(), u64::from(record.size))];
        while record.continues && parts.len() < PARTS {
            record = match Record::read(&*self.image, record.next()) {
                Err(Errno::ENOENT) => Record::read(&*self.image, next_sector(record.at))?,
                record => record?,
            };
            parts.push((record.start(), u64::from(record.size)));
        }
        Ok(parts)
    }

    fn directory(&self, node: Node) -> Result<read_only::Names, Errno> {
        self.directories.names(node.0, || {
            let record = self.record(node)?;
            if record.is_directory { self.names(&record) } else { Err(Errno::ENOTDIR) }
        })
    }

    fn names(&self, directory: &Record) -> Result<Vec<Name>, Errno> {
        let (mut at, mut names) = (directory.start(), Vec::new());
        let end = at + u64::from(directory.size);
        let mut goes_on = false;
        while at < end {
            let record = match Record::read(&*self.image, at) {
                Err(Errno::ENOENT) => {
                    at = next_sector(at);
                    continue;
                }
                record => record?,
            };
            at = if record.next() % SECTOR == 0 { next_sector(record.at) } else { record.next() };
            let is_rest = std::mem::replace(&mut goes_on, record.continues);
            if !is_rest && !matches!(record.name[..], [0 | 1]) && !record.name.is_empty() {
                names.extend(self.name(&record)?);
            }
        }
        Ok(names)
    }

    /// The name of a record; None for one that is shown elsewhere.
    fn name(&self, record: &Record) -> Result<Option<Name>, Errno> {
        let mut node = record.at;
        let (kind, mut name) = match self.rock(record)? {
            Some(rock) if rock.is_moved => return Ok(None),
            Some(Rock { child: Some(sector), name, .. }) => {
                node = u64::from(sector) * SECTOR;
                (libc::S_IFDIR, name)
            }
            rock => {
                let mode = if record.is_directory { libc::S_IFDIR } else { libc::S_IFREG };
                let mut attributes = Attributes { mode, ..Attributes::default() };
                if let Some(rock) = &rock {
                    rock.apply(&mut attributes);
                }
                (attributes.kind(), rock.map_or_else(Vec::new, |rock| rock.name))
            }
        };
        if name.is_empty() {
            name = match self.volume.names {
                Names::Joliet => joliet(&record.name),
                _ => plain(&record.name),
            };
        }
        if name.is_empty() || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
            return Err(Errno::EIO);
        }
        Ok(Some(Name { name: name.into(), node, ino: node, kind }))
    }
}

/// A name without version: small letters, and no full stop at the end.
fn plain(name: &[u8]) -> Vec<u8> {
    let name = name.split(|byte| *byte == b';').next().unwrap_or_default();
    name.strip_suffix(b".").unwrap_or(name).to_ascii_lowercase()
}

/// A name in UCS-2.
fn joliet(name: &[u8]) -> Vec<u8> {
    let units = name.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let text: String =
        char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    text.strip_suffix(";1").unwrap_or(&text).into()
}

impl FileSystem for Iso {
    fn traits(&self) -> Traits {
        Traits { may_wait: self.image.may_wait(), read_only: true, ..Traits::default() }
    }

    fn lookup(&self, caller: &Caller, parent: Node, name: &[u8]) -> Result<Entry, Errno> {
        let node = read_only::find(&self.directory(parent)?, name)?;
        Ok(Entry::lasting(node, self.getattr(caller, node, None)?))
    }

    fn getattr(&self, _: &Caller, node: Node, _: Option<Handle>) -> Result<Attributes, Errno> {
        Ok(self.attributes(node, &self.record(node)?)?.0)
    }

    fn readlink(&self, _: &Caller, node: Node) -> Result<Vec<u8>, Errno> {
        match self.attributes(node, &self.record(node)?)? {
            (attributes, Some(rock)) if attributes.is_link() => Ok(rock.target),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open(&self, caller: &Caller, node: Node, _: i32) -> Result<Opened, Errno> {
        read_only::open(&self.getattr(caller, node, None)?)
    }

    fn read(&self, node: Node, _: Handle, at: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let (mut begin, mut done) = (0, 0);
        for (start, length) in self.parts(node)? {
            let end = begin + length;
            let from = at.saturating_add(done as u64);
            if (begin..end).contains(&from) && done < buffer.len() {
                let rest = usize::try_from(end - from).unwrap_or(usize::MAX);
                let count = rest.min(buffer.len() - done);
                exact(&*self.image, start + (from - begin), &mut buffer[done..done + count])?;
                done += count;
            }
            begin = end;
        }
        Ok(done)
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
        let blocks = u64::from(self.volume.blocks);
        let stat = StatFs { kind: MAGIC, block_size: 2048, blocks, ..StatFs::default() };
        Ok(StatFs { name_length: 255, ..stat })
    }
}
