//! Extended attributes: lists that files with the same ones share.

use umvu_abi::Errno;

use super::{
    store::{Cursor, Store},
    superblock::entry,
};

/// A name and its value.
pub(super) type Attribute = (Vec<u8>, Vec<u8>);

/// The value is elsewhere.
const ELSEWHERE: u16 = 0x100;
/// How long all names and values of a file may be.
const LONGEST: usize = 1 << 20;

/// Reads all attributes of a list, with their names in full. Errors: `EIO`.
pub(super) fn read(store: &Store, table: u64, list: u32) -> Result<Vec<Attribute>, Errno> {
    let mut head = [0; 16];
    store.exact(table, &mut head)?;
    let (place, lists) = head.split_at(8);
    let place = u64::from_le_bytes(place.try_into().map_err(|_| Errno::EIO)?);
    if list >= u32::from_le_bytes(lists[..4].try_into().map_err(|_| Errno::EIO)?) {
        return Err(Errno::EIO);
    }
    let mut about = entry(store, table + 16, list, 16)?;
    let (reference, count) = (about.u64()?, about.u32()?);
    let mut from = Cursor::at(store, place, reference)?;
    let (mut found, mut length) = (Vec::new(), 0);
    for _ in 0..count {
        let (kind, size) = (from.u16()?, from.u16()?);
        let prefix = match kind & 0xff {
            0 => "user.",
            1 => "trusted.",
            2 => "security.",
            _ => return Err(Errno::EIO),
        };
        let mut name = prefix.as_bytes().to_vec();
        name.extend(from.bytes(usize::from(size))?);
        let here = value(&mut from)?;
        let value = if kind & ELSEWHERE == 0 {
            here
        } else {
            let reference = here.try_into().map_err(|_| Errno::EIO)?;
            value(&mut Cursor::at(store, place, u64::from_le_bytes(reference))?)?
        };
        length += name.len() + value.len();
        if length > LONGEST {
            return Err(Errno::EIO);
        }
        found.push((name, value));
    }
    Ok(found)
}

fn value(from: &mut Cursor<'_>) -> Result<Vec<u8>, Errno> {
    let length = from.u32()?;
    from.bytes(usize::try_from(length).map_err(|_| Errno::EIO)?)
}
