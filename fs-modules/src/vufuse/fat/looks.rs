//! What files look like: FAT has neither owners nor modes, so the mount tells them.

use hadris_fs::{DateTime, Metadata, NodeId};
use umvu_abi::{
    Errno,
    files::{Attributes, Caller, SetTime, Time},
    module::MountError,
};

use crate::options::Options;

/// What a mount tells of all files: as mount(8) has it for vfat.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looks {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The permission bits that files, and that directories do not have.
    masks: [u32; 2],
}

impl Looks {
    /// Takes the options of a mount. Errors: `EINVAL`.
    pub(super) fn of(options: &mut Options, caller: &Caller) -> Result<Self, MountError> {
        let uid = options.number("uid", 10)?.unwrap_or(caller.uid);
        let gid = options.number("gid", 10)?.unwrap_or(caller.gid);
        let mask = options.number("umask", 8)?.unwrap_or(caller.umask);
        let masks = [
            options.number("fmask", 8)?.unwrap_or(mask) & 0o777,
            options.number("dmask", 8)?.unwrap_or(mask) & 0o777,
        ];
        Ok(Self { uid, gid, masks })
    }

    /// The permission bits of a file.
    fn mode(&self, is_directory: bool, is_read_only: bool) -> u32 {
        let all = if is_read_only && !is_directory { 0o555 } else { 0o777 };
        all & !self.masks[usize::from(is_directory)]
    }

    /// The attributes of a file.
    pub(super) fn attributes(&self, node: u64, meta: &Metadata) -> Attributes {
        let is_directory = meta.file_type().is_dir();
        let is_read_only = meta.attributes().contains(hadris_fs::Attributes::READ_ONLY);
        let kind = if is_directory { libc::S_IFDIR } else { libc::S_IFREG };
        let mtime = meta.modified().map(time).unwrap_or_default();
        Attributes {
            ino: node,
            mode: kind | self.mode(is_directory, is_read_only),
            nlink: 1,
            uid: self.uid,
            gid: self.gid,
            size: if is_directory { meta.allocated() } else { meta.len() },
            blocks: meta.allocated().div_ceil(512),
            blksize: 4096,
            atime: meta.accessed().map_or(mtime, time),
            mtime,
            ctime: mtime,
            btime: meta.created().map(time),
            ..Attributes::default()
        }
    }

    /// Whether a mode makes a file read-only; None for what FAT cannot tell, which is passed over as by
    /// Linux ("strange, but this is too old behavior"). Errors: `EPERM` for the bits above those of
    /// permission.
    pub(super) fn read_only(&self, file: &Attributes, mode: u32) -> Result<Option<bool>, Errno> {
        if mode & 0o7000 != 0 {
            return Err(Errno::EPERM);
        }
        let all = self.mode(file.is_directory(), false);
        let wanted = mode & all;
        if wanted & 0o555 != file.mode & 0o555 {
            return Ok(None);
        }
        Ok(match wanted & 0o222 {
            write if write == all & 0o222 => Some(false),
            0 if !file.is_directory() => Some(true),
            _ => None,
        })
    }
}

/// What nodes that are not the root are more than the number that the library has for them.
const ABOVE: u64 = 2;

/// The number of a node.
pub(super) fn number(root: NodeId, id: NodeId) -> u64 {
    if id == root { 1 } else { id.get().wrapping_add(ABOVE) }
}

/// What the library calls a node. Errors: `EIO`.
pub(super) fn id(root: NodeId, node: u64) -> Result<NodeId, Errno> {
    if node == 1 { Ok(root) } else { NodeId::new(node.wrapping_sub(ABOVE)).ok_or(Errno::EIO) }
}

fn time(from: DateTime) -> Time {
    Time { seconds: from.unix_seconds(), nanos: from.nanoseconds() }
}

/// A time to set. Errors: `EINVAL`.
pub(super) fn date(from: SetTime) -> Result<DateTime, Errno> {
    let time = match from {
        SetTime::Now => Time::now(),
        SetTime::To(time) => time,
    };
    DateTime::new(time.seconds, time.nanos).map_err(|_| Errno::EINVAL)
}
