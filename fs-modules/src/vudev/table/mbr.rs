//! The master boot record: four entries, one of which may lead to a chain of extended ones.

use super::{Reader, Sector, gpt, u32_at};

const ENTRIES: usize = 446;
const ENTRY: usize = 16;
const PROTECTIVE: u8 = 0xee;
/// What Linux shows of an extended partition: enough for a boot loader.
const EXTENDED_SECTORS: u64 = 2;
/// Longer chains are loops.
const MOST_LOGICAL: usize = 256;

#[derive(Debug, Clone, Copy)]
struct Entry {
    kind: u8,
    first: u64,
    count: u64,
}

impl Entry {
    fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }
}

fn entries(sector: &Sector) -> [Entry; 4] {
    [0, 1, 2, 3].map(|index| {
        let at = ENTRIES + index * ENTRY;
        Entry {
            kind: sector[at + 4],
            first: u32_at(sector, at + 8).into(),
            count: u32_at(sector, at + 12).into(),
        }
    })
}

fn is_signed(sector: &Sector) -> bool {
    sector[510..] == [0x55, 0xaa]
}

/// Whether each entry may be one to boot from, or not: otherwise this is some other boot sector.
fn is_plausible(sector: &Sector) -> bool {
    (0..4).all(|index| matches!(sector[ENTRIES + index * ENTRY], 0 | 0x80))
}

/// Reads the table from the first sector of the disk.
pub(super) fn read(disk: &mut Reader<'_>) {
    let Some(sector) = disk.sector(0) else { return };
    if !is_signed(&sector) {
        disk.complain(format!("Bad MBR signature {:x} {:x}", sector[510], sector[511]));
        return;
    }
    let primary = entries(&sector);
    if primary.iter().any(|entry| entry.kind == PROTECTIVE) {
        gpt::read(disk);
        return;
    }
    if !is_plausible(&sector) {
        return;
    }
    for (number, entry) in (1..).zip(primary) {
        let shown = if entry.is_extended() { EXTENDED_SECTORS } else { u64::MAX };
        disk.add(number, entry.first, entry.count.min(shown));
    }
    let mut next = 5;
    for entry in primary.into_iter().filter(Entry::is_extended).filter(|entry| entry.count > 0) {
        logical(disk, entry.first, &mut next);
    }
}

/// Follows a chain of extended boot records: each has a partition, relative to itself, and a link,
/// relative to the first.
fn logical(disk: &mut Reader<'_>, base: u64, next: &mut u32) {
    let mut here = base;
    for _ in 0..MOST_LOGICAL {
        let Some(sector) = disk.sector(here).filter(is_signed) else { return };
        let entries = entries(&sector);
        for entry in entries.iter().filter(|entry| !entry.is_extended() && entry.count > 0) {
            disk.add(*next, here + entry.first, entry.count);
            *next += 1;
        }
        match entries.iter().find(|entry| entry.is_extended() && entry.count > 0) {
            Some(link) if link.first > 0 => here = base + link.first,
            _ => return,
        }
    }
}
