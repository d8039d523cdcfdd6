//! The names of a directory: runs of entries whose inodes are in the same block.

use umvu_abi::Errno;

use super::{
    ABOVE,
    inode::{Names, kind},
    store::{Cursor, Store},
};
use crate::vufuse::read_only::Name;

/// How many names a directory may have.
const MANY: usize = 4 << 20;
/// What the length of a directory counts for `.` and `..`, which are not stored.
const UNSTORED: u32 = 3;

/// Reads all names. Errors: `EIO`.
pub(super) fn read(store: &Store, table: u64, names: Names) -> Result<Vec<Name>, Errno> {
    let place = u64::from(names.block) << 16 | u64::from(names.offset);
    let mut from = Cursor::at(store, table, place)?;
    let mut rest = names.length.saturating_sub(UNSTORED);
    let mut found = Vec::new();
    while rest > 0 {
        let (count, block, base) = (from.u32()?, from.u32()?, from.u32()?);
        rest = rest.checked_sub(12).ok_or(Errno::EIO)?;
        if count >= 256 {
            return Err(Errno::EIO);
        }
        for _ in 0..=count {
            let (offset, delta) = (from.u16()?, from.u16()?.cast_signed());
            let (number, length) = (from.u16()?, u32::from(from.u16()?) + 1);
            rest = rest.checked_sub(8 + length).ok_or(Errno::EIO)?;
            let name = from.bytes(usize::try_from(length).map_err(|_| Errno::EIO)?)?;
            let ino = u64::from(base.wrapping_add_signed(i32::from(delta)));
            if length > 255 || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
                return Err(Errno::EIO);
            }
            let node = (u64::from(block) << 16 | u64::from(offset)) + ABOVE;
            found.push(Name { name: name.into(), node, ino, kind: kind(number)? });
        }
        if found.len() > MANY {
            return Err(Errno::EIO);
        }
    }
    Ok(found)
}
