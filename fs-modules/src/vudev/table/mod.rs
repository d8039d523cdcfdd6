//! Partition tables: which there are on a disk, and where they are written.
//!
//! Wire formats only: nothing here is changed, and nothing panics, whatever a disk holds.

mod gpt;
mod mbr;

use std::collections::{BTreeMap, BTreeSet};

use umvu_abi::files::Backing;

/// Bytes in a sector.
pub(super) const SECTOR: u64 = 512;
/// `SECTOR`, as the length of a buffer.
const LENGTH: usize = 512;

type Sector = [u8; LENGTH];

/// A piece of a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Where it begins.
    pub(super) start: u64,
    /// How long it is.
    pub(super) size: u64,
}

/// What was found on a disk.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// By their numbers, as Linux gives them: MBR 1 to 4, logical ones from 5.
    pub(super) partitions: BTreeMap<u32, Extent>,
    /// The sectors that were looked at: a write to them makes another table.
    sectors: BTreeSet<u64>,
    /// What is wrong with it.
    pub(super) notice: Option<String>,
}

impl Table {
    /// Reads the table of a disk; none is one without partitions.
    pub(super) fn read(medium: &dyn Backing, size: u64) -> Self {
        let mut reader = Reader { medium, sectors: size / SECTOR, table: Self::default() };
        // Where a GPT would be, at both ends.
        let ends = (0..34).chain(reader.sectors.saturating_sub(33)..reader.sectors);
        reader.table.sectors.extend(ends);
        mbr::read(&mut reader);
        reader.table
    }

    /// Whether a write changes the table.
    pub(super) fn is_touched(&self, offset: u64, length: usize) -> bool {
        let end = offset.saturating_add(length as u64).div_ceil(SECTOR);
        let first = offset / SECTOR;
        first < end && self.sectors.range(first..end).next().is_some()
    }
}

/// A disk whose table is being read.
struct Reader<'a> {
    medium: &'a dyn Backing,
    sectors: u64,
    table: Table,
}

impl Reader<'_> {
    /// A sector; None behind the end or when it cannot be read.
    fn sector(&mut self, number: u64) -> Option<Sector> {
        if number >= self.sectors {
            return None;
        }
        self.table.sectors.insert(number);
        let mut sector = [0; LENGTH];
        let got = self.medium.read_at(number * SECTOR, &mut sector).ok()?;
        (got == LENGTH).then_some(sector)
    }

    /// Enters a partition, as far as the disk goes.
    fn add(&mut self, number: u32, first: u64, count: u64) {
        let count = count.min(self.sectors.saturating_sub(first));
        if count > 0 {
            let extent = Extent { start: first * SECTOR, size: count * SECTOR };
            self.table.partitions.insert(number, extent);
        }
    }

    fn complain(&mut self, what: String) {
        self.table.notice.get_or_insert(what);
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.map_or(0, |field| u32::from_le_bytes(*field))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.map_or(0, |field| u64::from_le_bytes(*field))
}

#[cfg(test)]
mod tests;
