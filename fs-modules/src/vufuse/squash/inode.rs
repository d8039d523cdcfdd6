//! Inodes, each read where a reference says that it is.

use umvu_abi::{
    Errno,
    files::{Attributes, Time},
};

use super::{store::Cursor, superblock::NONE};

/// The longest target of a symbolic link, as in Linux.
const TARGET: u32 = 4096;

/// Where the data of a file is.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileData {
    pub(super) start: u64,
    pub(super) size: u64,
    /// The number of the fragment that has the end of the file, and where in it.
    pub(super) fragment: Option<(u32, u32)>,
}

/// Where the names of a directory are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    pub(super) block: u32,
    pub(super) offset: u16,
    pub(super) length: u32,
}

/// What only files of one kind have.
#[derive(Debug)]
pub(super) enum Body {
    File(FileData),
    Directory(Names),
    Link(Vec<u8>),
    Special,
}

/// An inode.
#[derive(Debug)]
pub(super) struct Inode {
    /// With the places of owner and group in the table of ids.
    pub(super) attributes: Attributes,
    pub(super) xattrs: Option<u32>,
    pub(super) body: Body,
}

/// A device number as the image has it.
fn device(number: u32) -> u64 {
    libc::makedev((number & 0xf_ff00) >> 8, number & 0xff | (number >> 12) & 0xf_ff00)
}

/// The type bits of a type in an image, which may be one of the extended ones.
pub(super) fn kind(number: u16) -> Result<u32, Errno> {
    Ok(match number {
        1 | 8 => libc::S_IFDIR,
        2 | 9 => libc::S_IFREG,
        3 | 10 => libc::S_IFLNK,
        4 | 11 => libc::S_IFBLK,
        5 | 12 => libc::S_IFCHR,
        6 | 13 => libc::S_IFIFO,
        7 | 14 => libc::S_IFSOCK,
        _ => return Err(Errno::EIO),
    })
}

/// Reads an inode; the cursor stands at the list of the blocks of a file afterwards.
pub(super) fn read(from: &mut Cursor<'_>) -> Result<Inode, Errno> {
    let number = from.u16()?;
    let mode = kind(number)? | u32::from(from.u16()? & 0o7777);
    let [uid, gid] = [u32::from(from.u16()?), u32::from(from.u16()?)];
    let time = Time { seconds: i64::from(from.u32()?), nanos: 0 };
    let mut attributes = Attributes {
        mode,
        uid,
        gid,
        atime: time,
        mtime: time,
        ctime: time,
        ino: u64::from(from.u32()?),
        nlink: 1,
        ..Attributes::default()
    };
    let mut xattrs = NONE;
    let extended = number > 7;
    let body = match number {
        1 => {
            let block = from.u32()?;
            attributes.nlink = from.u32()?;
            let (length, offset) = (u32::from(from.u16()?), from.u16()?);
            Body::Directory(Names { block, offset, length })
        }
        8 => {
            attributes.nlink = from.u32()?;
            let (length, block, _parent) = (from.u32()?, from.u32()?, from.u32()?);
            let (_indices, offset) = (from.u16()?, from.u16()?);
            xattrs = from.u32()?;
            Body::Directory(Names { block, offset, length })
        }
        2 => {
            let (start, fragment, offset) = (u64::from(from.u32()?), from.u32()?, from.u32()?);
            let size = u64::from(from.u32()?);
            attributes.blocks = size.div_ceil(512);
            let fragment = (fragment != NONE).then_some((fragment, offset));
            Body::File(FileData { start, size, fragment })
        }
        9 => {
            let (start, size, sparse) = (from.u64()?, from.u64()?, from.u64()?);
            attributes.nlink = from.u32()?;
            attributes.blocks = size.saturating_sub(sparse).div_ceil(512);
            let (fragment, offset) = (from.u32()?, from.u32()?);
            xattrs = from.u32()?;
            let fragment = (fragment != NONE).then_some((fragment, offset));
            Body::File(FileData { start, size, fragment })
        }
        3 | 10 => {
            attributes.nlink = from.u32()?;
            let length = from.u32()?;
            if length > TARGET {
                return Err(Errno::EIO);
            }
            let target = from.bytes(usize::try_from(length).map_err(|_| Errno::EIO)?)?;
            if extended {
                xattrs = from.u32()?;
            }
            Body::Link(target)
        }
        _ => {
            attributes.nlink = from.u32()?;
            if matches!(attributes.kind(), libc::S_IFBLK | libc::S_IFCHR) {
                attributes.rdev = device(from.u32()?);
            }
            if extended {
                xattrs = from.u32()?;
            }
            Body::Special
        }
    };
    attributes.size = match &body {
        Body::File(data) => data.size,
        Body::Directory(names) => u64::from(names.length),
        Body::Link(target) => target.len() as u64,
        Body::Special => 0,
    };
    Ok(Inode { attributes, xattrs: (xattrs != NONE).then_some(xattrs), body })
}
