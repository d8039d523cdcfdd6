//! Tables made by hand, and nonsense. Those of real tools are in the end to end tests.

use super::{super::ram::Ram, *};

const SECTORS: u64 = 4096;

fn ram() -> Ram {
    Ram::new(Some(SECTORS * SECTOR)).expect("memory")
}

fn put_entry(sector: &mut Sector, index: usize, kind: u8, first: u32, count: u32) {
    let at = 446 + index * 16;
    sector[at + 4] = kind;
    sector[at + 8..at + 12].copy_from_slice(&first.to_le_bytes());
    sector[at + 12..at + 16].copy_from_slice(&count.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
}

fn found(ram: &Ram) -> Vec<(u32, u64, u64)> {
    let table = Table::read(ram, SECTORS * SECTOR);
    let rows = table.partitions.iter();
    rows.map(|(number, piece)| (*number, piece.start / SECTOR, piece.size / SECTOR)).collect()
}

#[test]
fn logical_partitions_count_from_five() {
    let ram = ram();
    let mut sector = [0; LENGTH];
    put_entry(&mut sector, 0, 0x83, 64, 100);
    put_entry(&mut sector, 2, 0x05, 1000, 2000);
    ram.write_at(0, &sector).expect("written");
    let mut first = [0; LENGTH];
    put_entry(&mut first, 0, 0x83, 8, 50);
    put_entry(&mut first, 1, 0x05, 500, 100);
    ram.write_at(1000 * SECTOR, &first).expect("written");
    let mut second = [0; LENGTH];
    put_entry(&mut second, 0, 0x82, 8, 9000);
    ram.write_at(1500 * SECTOR, &second).expect("written");
    let expected = [(1, 64, 100), (3, 1000, 2), (5, 1008, 50), (6, 1508, SECTORS - 1508)];
    assert_eq!(found(&ram), expected);
    let table = Table::read(&ram, SECTORS * SECTOR);
    assert!(table.is_touched(1500 * SECTOR, 1) && !table.is_touched(1501 * SECTOR, 512));
}

#[test]
fn a_chain_in_a_circle_ends() {
    let ram = ram();
    let mut sector = [0; LENGTH];
    put_entry(&mut sector, 0, 0x0f, 100, 200);
    ram.write_at(0, &sector).expect("written");
    let mut link = [0; LENGTH];
    put_entry(&mut link, 1, 0x05, 1, 10);
    ram.write_at(100 * SECTOR, &link).expect("written");
    ram.write_at(101 * SECTOR, &link).expect("written");
    assert_eq!(found(&ram), [(1, 100, 2)]);
}

/// A table with one partition, with its header at a sector and the entries behind or before it.
fn put_gpt(ram: &Ram, header_at: u64, entries_at: u64) {
    let mut protective = [0; LENGTH];
    put_entry(&mut protective, 0, 0xee, 1, u32::MAX);
    ram.write_at(0, &protective).expect("written");
    let mut entries = vec![0; 128 * 128];
    entries[128..144].fill(7);
    entries[160..168].copy_from_slice(&40_u64.to_le_bytes());
    entries[168..176].copy_from_slice(&99_u64.to_le_bytes());
    ram.write_at(entries_at * SECTOR, &entries).expect("written");
    let mut header = [0; LENGTH];
    header[..8].copy_from_slice(b"EFI PART");
    header[12..16].copy_from_slice(&92_u32.to_le_bytes());
    header[24..32].copy_from_slice(&header_at.to_le_bytes());
    header[72..80].copy_from_slice(&entries_at.to_le_bytes());
    header[80..84].copy_from_slice(&128_u32.to_le_bytes());
    header[84..88].copy_from_slice(&128_u32.to_le_bytes());
    header[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
    let checksum = crc32fast::hash(&header[..92]);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
    ram.write_at(header_at * SECTOR, &header).expect("written");
}

#[test]
fn the_copy_serves_when_the_first_table_is_damaged() {
    let ram = ram();
    put_gpt(&ram, 1, 2);
    assert_eq!(found(&ram), [(2, 40, 60)]);
    ram.write_at(2 * SECTOR, &[1]).expect("written");
    assert_eq!(found(&ram), []);
    let notice = Table::read(&ram, SECTORS * SECTOR).notice;
    assert_eq!(notice.as_deref(), Some("Bad GPT header or checksum"));
    put_gpt(&ram, SECTORS - 1, SECTORS - 33);
    assert_eq!(found(&ram), [(2, 40, 60)]);
}

#[test]
fn nonsense_is_no_table() {
    let ram = ram();
    let mut state = 1_u64;
    for _ in 0..200 {
        let mut bytes = vec![0; 40 * LENGTH];
        for byte in &mut bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = state.to_be_bytes()[0];
        }
        for sector in bytes.chunks_exact_mut(LENGTH) {
            sector[510..].copy_from_slice(&[0x55, 0xaa]);
            for index in 0..4 {
                let at = 446 + index * 16;
                sector[at] = 0;
                sector[at + 4] = [0, 5, 0x83, 0x0f][usize::from(sector[at + 4] % 4)];
                sector[at + 10..at + 12].fill(0);
                sector[at + 9] &= 0xf;
            }
        }
        ram.write_at(0, &bytes).expect("written");
        let table = Table::read(&ram, SECTORS * SECTOR);
        for extent in table.partitions.values() {
            assert!(extent.start + extent.size <= SECTORS * SECTOR);
        }
    }
}

#[test]
fn a_disk_of_no_size_has_no_table() {
    assert!(Table::read(&ram(), 0).partitions.is_empty());
}
