//! The super block, and the tables it tells of.

use umvu_abi::Errno;

use super::store::{Cursor, Store};

/// "There is no such table", "no fragment", "no attributes".
pub(super) const NONE: u32 = u32::MAX;
/// The length of the super block.
pub(super) const LENGTH: usize = 96;

/// What the super block says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Superblock {
    pub(super) inodes: u32,
    pub(super) block_size: u32,
    pub(super) fragments: u32,
    pub(super) compressor: u16,
    pub(super) ids: u16,
    pub(super) root: u64,
    pub(super) size: u64,
    /// Where tables begin; all bits set when there is none.
    pub(super) id_table: u64,
    pub(super) xattr_table: u64,
    pub(super) inode_table: u64,
    pub(super) directory_table: u64,
    pub(super) fragment_table: u64,
}

impl Superblock {
    /// Reads it. Errors: what is wrong, to be said behind the name of the image.
    pub(super) fn parse(bytes: &[u8; LENGTH]) -> Result<Self, String> {
        let number = |at: usize, length: usize| {
            let piece = &bytes[at..at + length];
            piece.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let half = |at| (number(at, 2) & 0xffff) as u16;
        let word = |at| (number(at, 4) & 0xffff_ffff) as u32;
        let long = |at| number(at, 8);
        if &bytes[..4] != b"hsqs" {
            return Err("no squashfs image (use one that mksquashfs has made)".to_owned());
        }
        let (major, minor, log) = (half(28), half(30), half(22));
        if (major, minor) != (4, 0) {
            return Err(format!("squashfs of version {major}.{minor}; make it anew as 4.0"));
        }
        let block_size = word(12);
        if !(12..=20).contains(&log) || block_size != 1 << log {
            return Err(format!("broken squashfs image: blocks of {block_size} bytes"));
        }
        Ok(Self {
            inodes: word(4),
            block_size,
            fragments: word(16),
            compressor: half(20),
            ids: half(26),
            root: long(32),
            size: long(40),
            id_table: long(48),
            xattr_table: long(56),
            inode_table: long(64),
            directory_table: long(72),
            fragment_table: long(80),
        })
    }
}

/// An entry of a table whose blocks of metadata a list of places names: where to read it.
pub(super) fn entry<'a>(
    store: &'a Store,
    places: u64,
    index: u32,
    length: u32,
) -> Result<Cursor<'a>, Errno> {
    let each = 8192 / length;
    let place = places.checked_add(u64::from(index / each) * 8).ok_or(Errno::EIO)?;
    let mut block = [0; 8];
    store.exact(place, &mut block)?;
    let offset = usize::try_from(index % each * length).map_err(|_| Errno::EIO)?;
    Ok(Cursor::new(store, u64::from_le_bytes(block), offset))
}

/// Reads all owners and groups.
pub(super) fn ids(store: &Store, superblock: &Superblock) -> Result<Vec<u32>, Errno> {
    let one = |index| entry(store, superblock.id_table, index, 4)?.u32();
    (0..u32::from(superblock.ids)).map(one).collect()
}
