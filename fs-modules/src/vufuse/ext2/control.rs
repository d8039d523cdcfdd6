//! ioctl(2) on files: their flags (ioctl_iflags(2), chattr(1)) and where their blocks are (fiemap, filefrag(8)).

use umvu_abi::{
    Errno,
    files::{Caller, Takes, Time},
};

use super::{
    data::{Refusal, Work},
    filsys::Run,
    inode::{Stamp, flag},
    superblock::feature,
    volume::Volume,
};

/// `FS_IOC_GETFLAGS`, `FS_IOC_SETFLAGS`, `FS_IOC_GETVERSION`: of an int, whatever the numbers say.
const GETFLAGS: u32 = 0x8008_6601;
const SETFLAGS: u32 = 0x4008_6602;
const GETVERSION: u32 = 0x8008_7601;
/// `FS_IOC_FIEMAP`.
const FIEMAP: u32 = 0xc020_660b;

/// The flags that are told, and those that can be changed (`EXT4_FL_USER_VISIBLE`, `EXT4_FL_USER_MODIFIABLE`).
const VISIBLE: u32 = 0x705b_dfff;
const MODIFIABLE: u32 = 0x604b_c0ff;
/// Flags of directories only (`S`, `T`, `F` of chattr(1) there), and those that all else but files can have.
const OF_DIRECTORIES: u32 = 0x0001_0000 | 0x0002_0000 | 0x4000_0000;
const OF_OTHERS: u32 = 0x40 | flag::NOATIME;
/// What a new file gets from its directory (`EXT4_FL_INHERITED`) of what can be changed: `s`, `u`, `c`, `S`, `d`,
/// `A`, `D`, and others without a letter.
const INHERITED: u32 = 0x0000_04cf | 0x0001_8000;
/// What would move the data of a file: `j`, `e`.
const OF_DATA: u32 = 0x4000 | flag::EXTENTS;

/// `struct fiemap` and `struct fiemap_extent`.
const MAP: usize = 32;
const EXTENT: usize = 56;
/// `FIEMAP_FLAG_SYNC`: what guests have written is here already.
const SYNC: u32 = 1;
/// `FIEMAP_EXTENT_LAST`, `_NOT_ALIGNED`, `_DATA_INLINE`, `_UNWRITTEN`, `_MERGED`.
const LAST: u32 = 1;
const NOT_ALIGNED: u32 = 0x100;
const INLINE: u32 = 0x200;
const UNWRITTEN: u32 = 0x800;
const MERGED: u32 = 0x1000;
/// How many extents are told at once.
const EXTENTS_LIMIT: usize = 65_536;

/// What the argument of a request is.
pub(super) fn takes(request: u32) -> Takes {
    match request {
        GETFLAGS | SETFLAGS | GETVERSION => Takes::Bytes(4),
        _ => Takes::AsItSays,
    }
}

/// Whether a request changes something.
pub(super) fn changes(request: u32) -> bool {
    request == SETFLAGS
}

/// A piece of a file as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    flags: u32,
}

impl Extent {
    fn encode(self) -> [u8; EXTENT] {
        let mut bytes = [0; EXTENT];
        bytes[..8].copy_from_slice(&self.logical.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.physical.to_ne_bytes());
        bytes[16..24].copy_from_slice(&self.length.to_ne_bytes());
        bytes[40..44].copy_from_slice(&self.flags.to_ne_bytes());
        bytes
    }
}

impl Work<'_> {
    /// Answers a request that changes nothing. Errors: `ENOTTY` for an unknown one, `EBADR`, `EINVAL`.
    pub(super) fn tell(&mut self, request: u32, argument: &mut Vec<u8>) -> Result<(), Errno> {
        match request {
            GETFLAGS => {
                let flags = self.volume.get(self.ino)?.raw.flags() & VISIBLE;
                *argument = flags.to_ne_bytes().to_vec();
                Ok(())
            }
            GETVERSION => {
                let generation = self.volume.get(self.ino)?.raw.generation();
                *argument = generation.to_ne_bytes().to_vec();
                Ok(())
            }
            FIEMAP => self.map(argument),
            _ => Err(Errno::ENOTTY),
        }
    }

    fn map(&mut self, argument: &mut Vec<u8>) -> Result<(), Errno> {
        let long = |at: usize| {
            argument[at..].first_chunk().map_or(0, |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes))
        };
        let word = |at: usize| {
            argument[at..].first_chunk().map_or(0, |bytes: &[u8; 4]| u32::from_ne_bytes(*bytes))
        };
        if argument.len() < MAP {
            return Err(Errno::EFAULT);
        }
        let (start, length, flags, room) = (long(0), long(8), word(16), word(24));
        if length == 0 {
            return Err(Errno::EINVAL);
        }
        if flags & !SYNC != 0 {
            return Err(Errno(libc::EBADR));
        }
        let room = usize::try_from(room).unwrap_or(0).min(EXTENTS_LIMIT);
        let mut extents = self.extents(start, start.saturating_add(length))?;
        if room > 0 && extents.len() > room {
            extents.truncate(room);
        } else if let Some(last) = extents.last_mut() {
            last.flags |= LAST;
        }
        let count = u32::try_from(extents.len()).unwrap_or(u32::MAX);
        argument.truncate(MAP);
        argument[20..24].copy_from_slice(&count.to_ne_bytes());
        if room > 0 {
            argument.extend(extents.into_iter().flat_map(Extent::encode));
        }
        Ok(())
    }

    /// The pieces of a file between two places, from whole block to whole block.
    fn extents(&mut self, start: u64, end: u64) -> Result<Vec<Extent>, Errno> {
        let raw = self.volume.get(self.ino)?.raw.clone();
        if raw.has(flag::INLINE_DATA) {
            let flags = INLINE | NOT_ALIGNED;
            let whole = Extent { logical: 0, physical: 0, length: raw.size(), flags };
            return Ok(if start < raw.size() { vec![whole] } else { Vec::new() });
        }
        let block = self.block();
        let (first, end) = (start / block, end.div_ceil(block));
        let kind = if raw.has(flag::EXTENTS) { 0 } else { MERGED };
        let clip = |run: &Run| {
            let logical = run.logical.max(first);
            let behind = (run.logical + run.length).min(end);
            (logical < behind).then(|| Extent {
                logical: logical * block,
                physical: (run.physical + (logical - run.logical)) * block,
                length: (behind - logical) * block,
                flags: kind | if run.is_blank { UNWRITTEN } else { 0 },
            })
        };
        Ok(self.runs()?.iter().filter_map(clip).collect())
    }

    /// `FS_IOC_SETFLAGS`. Errors: `EPERM` for who does not own the file, and for who may not make it
    /// immutable; `EOPNOTSUPP` for what the data would have to be moved for.
    pub(super) fn set_flags(
        &mut self,
        caller: &Caller,
        (owner, argument): (u32, &[u8]),
    ) -> Result<(), Refusal> {
        let wanted = argument.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        let attributes = self.volume.attributes(self.ino)?;
        if !caller.owns(&attributes) && caller.uid != owner {
            return Err(Errno::EPERM.into());
        }
        if wanted & !VISIBLE != 0 {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let fitting = wanted & fitting(attributes.kind());
        let before = self.volume.get(self.ino)?.raw.flags();
        let after = before & !MODIFIABLE | fitting & MODIFIABLE;
        let changed = before ^ after;
        let is_master = caller.is_privileged() || caller.uid == owner;
        if changed & (flag::IMMUTABLE | flag::APPEND) != 0 && !is_master {
            return Err(Errno::EPERM.into());
        }
        if changed & OF_DATA & !flag::EXTENTS != 0 {
            return Err(Errno::EOPNOTSUPP.into());
        }
        if (before ^ fitting) & flag::EXTENTS != 0 {
            self.change_map(fitting & flag::EXTENTS)?;
        }
        self.volume.change(self.ino, |raw| {
            raw.set_flags(after & !flag::EXTENTS | raw.flags() & flag::EXTENTS);
            raw.set_time(Stamp::Change, Time::now());
        })?;
        Ok(())
    }

    /// Tells in the other way where the blocks of a file are, of which there must be none. Errors:
    /// `EOPNOTSUPP`, `EINVAL` where the image knows one way only.
    fn change_map(&mut self, extents: u32) -> Result<(), Refusal> {
        if self.volume.shape().incompat & feature::EXTENTS == 0 {
            return Err(Errno::EINVAL.into());
        }
        let raw = &self.volume.get(self.ino)?.raw;
        let is_empty = raw.kind() == libc::S_IFREG && raw.size() == 0 && raw.has_blocks();
        if !(is_empty && self.runs()?.is_empty()) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        self.volume.change(self.ino, |raw| {
            raw.set_place(&[0; 60]);
            raw.set_flags(raw.flags() & !flag::EXTENTS);
            if extents != 0 {
                raw.set_extents();
            }
        })?;
        self.volume.get(self.ino)?.runs = None;
        Ok(())
    }
}

/// The flags that a kind of file can have.
fn fitting(kind: u32) -> u32 {
    match kind {
        libc::S_IFDIR => u32::MAX,
        libc::S_IFREG => !OF_DIRECTORIES,
        _ => OF_OTHERS,
    }
}

impl Volume {
    /// The flags that a new file gets from its directory.
    pub(super) fn inherited_flags(&mut self, directory: u32, kind: u32) -> Result<u32, Errno> {
        Ok(self.get(directory)?.raw.flags() & INHERITED & fitting(kind))
    }

    /// Whether names may be made in a directory. Errors: `EPERM` where it is immutable.
    pub(super) fn may_add(&mut self, directory: u32) -> Result<(), Errno> {
        if self.get(directory)?.raw.has(flag::IMMUTABLE) { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// Whether a name may be taken away, or lead elsewhere. Errors: `EPERM` where the directory or the file is
    /// immutable or only grows.
    pub(super) fn may_take(&mut self, (directory, name): (u32, &[u8])) -> Result<(), Errno> {
        let fixed = flag::IMMUTABLE | flag::APPEND;
        let file = match self.lookup((directory, name)) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return self.may_add(directory),
            Err(errno) => return Err(errno),
        };
        let is_fixed = self.get(directory)?.raw.has(fixed) || {
            self.found(file)?;
            let is_fixed = self.get(file)?.raw.has(fixed);
            self.forget(file, 1)?;
            is_fixed
        };
        if is_fixed { Err(Errno::EPERM) } else { Ok(()) }
    }
}
