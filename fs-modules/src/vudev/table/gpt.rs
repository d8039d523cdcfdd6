//! The GUID partition table (UEFI specification, chapter 5): a header at the second sector, and a
//! copy at the last.

use super::{LENGTH, Reader, SECTOR, Sector, u32_at, u64_at};

const SIGNATURE: &[u8] = b"EFI PART";
const HEADER: usize = 92;
/// The checksum in the header counts as zero.
const CHECKSUM: std::ops::Range<usize> = 16..20;
const ENTRY: usize = 128;
/// As many entries as anybody has.
const MOST_ENTRIES: usize = 1024;

/// Reads the table: the copy when the first one is damaged, as Linux does.
pub(super) fn read(disk: &mut Reader<'_>) {
    let last = disk.sectors.saturating_sub(1);
    let Some(entries) = at(disk, 1).or_else(|| at(disk, last)) else {
        disk.complain("Bad GPT header or checksum".to_owned());
        return;
    };
    let size = entries.size;
    for (number, entry) in (1..).zip(entries.bytes.chunks_exact(size)) {
        let (first, last) = (u64_at(entry, 32), u64_at(entry, 40));
        let is_used = entry[..16].iter().any(|byte| *byte != 0);
        if is_used && last >= first {
            disk.add(number, first, (last - first).saturating_add(1));
        }
    }
}

struct Entries {
    size: usize,
    bytes: Vec<u8>,
}

/// The entries of a table whose header is at a sector, if its checksums hold.
fn at(disk: &mut Reader<'_>, number: u64) -> Option<Entries> {
    let header = disk.sector(number)?;
    if !is_header(&header, number) {
        return None;
    }
    let first = u64_at(&header, 72);
    let count = usize::try_from(u32_at(&header, 80)).ok()?;
    let size = usize::try_from(u32_at(&header, 84)).ok()?;
    if count > MOST_ENTRIES || !(ENTRY..=LENGTH).contains(&size) || !size.is_power_of_two() {
        return None;
    }
    let length = count * size;
    let mut bytes = Vec::new();
    for sector in 0..(length as u64).div_ceil(SECTOR) {
        bytes.extend(disk.sector(first.checked_add(sector)?)?);
    }
    bytes.truncate(length);
    (crc32fast::hash(&bytes) == u32_at(&header, 88)).then_some(Entries { size, bytes })
}

fn is_header(header: &Sector, number: u64) -> bool {
    let length = usize::try_from(u32_at(header, 12)).unwrap_or(0);
    if !header.starts_with(SIGNATURE) || !(HEADER..=LENGTH).contains(&length) {
        return false;
    }
    let mut bare = *header;
    bare[CHECKSUM].fill(0);
    let checksum = u32_at(header, CHECKSUM.start);
    crc32fast::hash(&bare[..length]) == checksum && u64_at(header, 24) == number
}
