//! What is read of the superblock before libext2fs does, and the numbers of its fields.

use umvu_abi::{
    Errno,
    files::{Backing, StatFs},
};

/// Where the superblock is, and how long it is.
pub(super) const AT: u64 = 1024;
pub(super) const LENGTH: usize = 1024;

/// `EXT4_SUPER_MAGIC`.
const MAGIC: u16 = 0xef53;

/// Offsets of fields.
pub(super) mod field {
    pub(in super::super) const BLOCKS: usize = 0x4;
    pub(in super::super) const BLOCKS_HIGH: usize = 0x150;
    pub(in super::super) const STATE: usize = 0x3a;
    pub(in super::super) const INCOMPAT: usize = 0x60;
    pub(in super::super) const RO_COMPAT: usize = 0x64;
    pub(in super::super) const LAST_ORPHAN: usize = 0xe8;
    pub(in super::super) const MOUNT_TIME: usize = 0x2c;
    pub(in super::super) const MOUNT_COUNT: usize = 0x34;
}

/// Bits of the features.
pub(super) mod feature {
    pub(in super::super) const HAS_JOURNAL: u32 = 0x4;
    pub(in super::super) const FILETYPE: u32 = 0x2;
    pub(in super::super) const RECOVER: u32 = 0x4;
    pub(in super::super) const EXTENTS: u32 = 0x40;
    pub(in super::super) const WIDE: u32 = 0x80;
    pub(in super::super) const JOURNAL_DEV: u32 = 0x8;
    pub(in super::super) const MMP: u32 = 0x100;
    pub(in super::super) const EA_INODE: u32 = 0x400;
    pub(in super::super) const ENCRYPT: u32 = 0x1_0000;
    pub(in super::super) const CASEFOLD: u32 = 0x2_0000;
    pub(in super::super) const LARGE_FILE: u32 = 0x2;
    pub(in super::super) const HUGE_FILE: u32 = 0x8;
    pub(in super::super) const DIR_NLINK: u32 = 0x20;
    pub(in super::super) const QUOTA: u32 = 0x100;
    pub(in super::super) const READ_ONLY: u32 = 0x1000;
    pub(in super::super) const PROJECT: u32 = 0x2000;
    pub(in super::super) const SHARED_BLOCKS: u32 = 0x4000;
    pub(in super::super) const VERITY: u32 = 0x8000;
    pub(in super::super) const ORPHAN_PRESENT: u32 = 0x1_0000;
}

/// `EXT2_VALID_FS`: unmounted as it should be.
pub(super) const VALID: u16 = 1;

/// How an image is laid out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    /// The bytes that the file system takes, and the image has.
    pub(super) size: u64,
    /// The size of a block: 1024 to 65536.
    pub(super) block: usize,
    /// Blocks in a cluster.
    pub(super) cluster: u64,
    pub(super) blocks: u64,
    pub(super) inodes: u32,
    pub(super) inode_size: usize,
    pub(super) compat: u32,
    pub(super) incompat: u32,
    pub(super) ro_compat: u32,
    pub(super) journal_inode: u32,
}

/// A copy of the superblock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Superblock(pub(super) [u8; LENGTH]);

/// How many clusters are kept back at most.
const SPARED_CLUSTERS: u64 = 4096;

impl Superblock {
    pub(super) fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    pub(super) fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// A number whose halves are at two places; the upper one counts with 64-bit block numbers only.
    fn wide(&self, low: usize, high: usize) -> u64 {
        let high = if self.u32(field::INCOMPAT) & feature::WIDE != 0 { self.u32(high) } else { 0 };
        u64::from(self.u32(low)) | u64::from(high) << 32
    }

    /// Reads it. Errors: `EINVAL` for what is no file system of the kind, `EIO`.
    pub(super) fn read(image: &dyn Backing) -> Result<Self, Errno> {
        let mut bytes = [0; LENGTH];
        if image.read_at(AT, &mut bytes)? < LENGTH {
            return Err(Errno::EINVAL);
        }
        let found = Self(bytes);
        if found.u16(0x38) == MAGIC { Ok(found) } else { Err(Errno::EINVAL) }
    }

    /// Errors: `EUCLEAN` for what cannot be, also when the image is shorter than the file system.
    pub(super) fn geometry(&self, image: &dyn Backing) -> Result<Geometry, Errno> {
        let (block, cluster) = (self.u32(0x18), self.u32(0x1c));
        let bigalloc = self.u32(field::RO_COMPAT) & 0x200 != 0;
        if block > 6 || bigalloc && (cluster < block || cluster > 20) {
            return Err(Errno::EUCLEAN);
        }
        let revision = self.u32(0x4c);
        let size_of = |block: u32| 1024_usize << block;
        let blocks = self.wide(0x4, 0x150);
        let size = blocks.checked_mul(size_of(block) as u64).ok_or(Errno::EUCLEAN)?;
        if size > image.size()? || blocks == 0 || blocks > 1 << 48 {
            return Err(Errno::EUCLEAN);
        }
        let inode_size = if revision == 0 { 128 } else { usize::from(self.u16(0x58)) };
        if !inode_size.is_power_of_two() || !(128..=size_of(block)).contains(&inode_size) {
            return Err(Errno::EUCLEAN);
        }
        Ok(Geometry {
            size,
            block: size_of(block),
            cluster: if bigalloc { 1 << (cluster - block) } else { 1 },
            blocks,
            inodes: self.u32(0),
            inode_size,
            compat: self.u32(0x5c),
            incompat: self.u32(field::INCOMPAT),
            ro_compat: self.u32(field::RO_COMPAT),
            journal_inode: self.u32(0xe0),
        })
    }

    /// As statfs(2) tells it, in the way of Linux: without what the structures take.
    pub(super) fn statfs(&self, shape: &Geometry) -> StatFs {
        let overhead = u64::from(self.u32(0x248)) * shape.cluster;
        let free = self.wide(0xc, 0x158);
        // Linux keeps some clusters back for what extents may take more than was foreseen.
        let spared = match shape.incompat & feature::EXTENTS {
            0 => 0,
            _ => (shape.blocks / shape.cluster / 50).min(SPARED_CLUSTERS) * shape.cluster,
        };
        StatFs {
            kind: i64::from(MAGIC),
            block_size: u32::try_from(shape.block).unwrap_or(u32::MAX),
            blocks: shape.blocks.saturating_sub(overhead),
            free,
            available: free.saturating_sub(self.wide(0x8, 0x154) + spared),
            files: u64::from(shape.inodes),
            free_files: u64::from(self.u32(0x10)),
            name_length: 255,
        }
    }
}

impl Geometry {
    /// The first feature that rules writing out, and what can be done about it.
    pub(super) fn hinders_writing(&self) -> Option<&'static str> {
        let incompat = [
            (feature::MMP, "multiple mount protection (tune2fs -O ^mmp)"),
            (feature::EA_INODE, "attributes in inodes of their own (ea_inode)"),
            (feature::ENCRYPT, "encryption"),
            (feature::CASEFOLD, "names without case (casefold)"),
            (feature::JOURNAL_DEV, "being a journal of another file system"),
        ];
        let ro_compat = [
            (feature::QUOTA, "quotas (tune2fs -O ^quota)"),
            (feature::PROJECT, "project quotas (tune2fs -O ^project)"),
            (feature::READ_ONLY, "being read-only (tune2fs -O ^read-only)"),
            (feature::SHARED_BLOCKS, "shared blocks"),
            (feature::VERITY, "verity"),
            (feature::ORPHAN_PRESENT, "orphans in a file (e2fsck -p)"),
        ];
        let in_set = |set: u32, known: &[(u32, &'static str)]| {
            known.iter().find(|(bit, _)| set & bit != 0).map(|(_, text)| *text)
        };
        in_set(self.incompat, &incompat).or_else(|| in_set(self.ro_compat, &ro_compat))
    }

    pub(super) fn has_journal(&self) -> bool {
        self.compat & feature::HAS_JOURNAL != 0
    }
}
