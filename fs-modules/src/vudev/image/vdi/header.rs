//! The header of a VDI image, version 1: little-endian fields at fixed places.

use umvu_abi::{Errno, module::MountError};

use super::super::little;

/// How much of the image is read for it.
pub(super) const LENGTH: usize = 512;
/// Where the number of blocks that have a place is kept.
pub(super) const ALLOCATED: u64 = 0x184;

const MAGIC: u32 = 0xbeda_107f;
const VERSION: u32 = 1;
const DYNAMIC: u32 = 1;
const FIXED: u32 = 2;
const DIFFERENCES: u32 = 4;
const SECTOR: u32 = 512;
/// VirtualBox and QEMU make blocks of 1 MiB.
const LARGEST_BLOCK: u32 = 256 << 20;

/// Whether this is the start of an image.
pub(super) fn has_magic(bytes: &[u8; LENGTH]) -> bool {
    little(bytes, 0x40, 4) == u64::from(MAGIC)
}

/// Where things are in an image, in bytes, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The map: a `u32` for each block of the disk.
    pub(super) map: u64,
    /// The blocks.
    pub(super) data: u64,
    /// The size of the disk.
    pub(super) size: u64,
    /// The size of a block.
    pub(super) block: u64,
    /// What is before the data of each block.
    pub(super) extra: u64,
    /// The blocks of the disk.
    pub(super) blocks: u32,
    /// The blocks that have a place in the image.
    pub(super) allocated: u32,
}

impl Header {
    /// Reads a header; `size` is that of the image. Errors: `EINVAL` for what is no image,
    /// `EOPNOTSUPP` for one that needs others.
    pub(super) fn parse(bytes: &[u8; LENGTH], size: u64) -> Result<Self, MountError> {
        let invalid = |what: &str| MountError::new(Errno::EINVAL, what);
        let word = |at: usize| u32::try_from(little(bytes, at, 4)).unwrap_or(0);
        if !has_magic(bytes) || word(0x44) >> 16 != VERSION {
            return Err(invalid("not a VDI image of version 1"));
        }
        match word(0x4c) {
            DYNAMIC | FIXED => {}
            DIFFERENCES => {
                let reason = "a VDI snapshot, of which only the differences are here";
                return Err(MountError::new(Errno::EOPNOTSUPP, reason));
            }
            _ => return Err(invalid("neither a dynamic nor a fixed VDI image")),
        }
        let header = Self {
            map: word(0x154).into(),
            data: word(0x158).into(),
            size: little(bytes, 0x170, 8),
            block: word(0x178).into(),
            extra: word(0x17c).into(),
            blocks: word(0x180),
            allocated: word(0x184),
        };
        let sectors = [word(0x178), word(0x17c)].iter().all(|size| size.is_multiple_of(SECTOR));
        let is_sound = sectors
            && (SECTOR..=LARGEST_BLOCK).contains(&word(0x178))
            && header.map >= u64::from(word(0x48)) + 0x48
            && header.map + u64::from(header.blocks) * 4 <= header.data.min(size)
            && header.size <= u64::from(header.blocks) * header.block
            && header.allocated <= header.blocks;
        if is_sound { Ok(header) } else { Err(invalid("the header of the VDI image is damaged")) }
    }

    /// Where the data of the block with this place is.
    pub(super) fn at(&self, place: u32) -> u64 {
        self.data + u64::from(place) * (self.extra + self.block) + self.extra
    }
}
