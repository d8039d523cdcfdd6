//! Disks over memory.

use umvu_abi::{files::DeviceKind, module::MountRequest};

use super::{super::ram::Ram, *};
use crate::options::Options;

const HANDLE: Handle = Handle(0);

fn disk(partitioning: Partitioning) -> Disk {
    let mut options = Options::of(&MountRequest {
        source: String::new(),
        target: String::new(),
        fstype: String::new(),
        flags: 0,
        data: String::new(),
        environment: Vec::new(),
        view: String::new(),
    });
    let identity =
        Identity::of(&mut options, DeviceKind::Block, &Caller::root()).expect("no options");
    let ram = Ram::new(Some(1 << 20)).expect("memory");
    Disk::new(Arc::new(ram), identity, false, partitioning).expect("a size")
}

/// A boot record with one partition of 16 sectors from the 64th on.
fn record() -> [u8; 512] {
    let mut sector = [0; 512];
    sector[446 + 4] = 0x83;
    sector[446 + 8] = 64;
    sector[446 + 12] = 16;
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

#[test]
fn the_table_counts_from_the_moment_it_is_written() {
    let disk = disk(Partitioning::Table);
    assert_eq!(disk.notice().as_deref(), Some("Bad MBR signature 0 0"));
    assert!(disk.looks(1).is_none() && disk.sub_devices().is_empty());
    disk.write(0, HANDLE, 0, &record()).expect("written");
    assert_eq!(disk.sub_devices(), [1]);
    assert_eq!(disk.looks(1).map(|looks| looks.size), Some(16 * SECTOR));
    assert_eq!(disk.write(1, HANDLE, 15 * SECTOR, &[7; 1024]), Ok(512));
    assert_eq!(disk.write(1, HANDLE, 16 * SECTOR, &[7]), Err(Errno::ENOSPC));
    let mut byte = [0];
    assert_eq!(disk.read(0, HANDLE, 80 * SECTOR - 1, &mut byte), Ok(1));
    assert_eq!(byte, [7]);
    assert_eq!(disk.read(1, HANDLE, 16 * SECTOR, &mut byte), Ok(0));
    disk.write(0, HANDLE, 0, &[0; 512]).expect("written");
    assert_eq!(disk.read(1, HANDLE, 0, &mut byte), Err(Errno::ENXIO));
}

#[test]
fn a_disk_without_partitions_has_none() {
    let disk = disk(Partitioning::None);
    disk.write(0, HANDLE, 0, &record()).expect("written");
    assert!(disk.looks(1).is_none());
}

#[test]
fn ranges_end_with_the_partition() {
    const BLKZEROOUT: u32 = 0x127f;
    let disk = disk(Partitioning::Table);
    disk.write(0, HANDLE, 0, &record()).expect("written");
    disk.write(1, HANDLE, 0, &[7; 1024]).expect("written");
    let zero = |offset: u64, length: u64| {
        let mut range = [offset.to_ne_bytes(), length.to_ne_bytes()].concat();
        disk.ioctl(&Caller::root(), 1, Handle(0), BLKZEROOUT, &mut range)
    };
    assert_eq!(zero(512, 512), Ok(0));
    assert_eq!(zero(512, 16 * SECTOR), Err(Errno::EINVAL));
    assert_eq!(zero(1, 512), Err(Errno::EINVAL));
    assert_eq!(zero(u64::MAX - 511, 1024), Err(Errno::EINVAL));
    let mut bytes = [1; 1024];
    disk.read(1, HANDLE, 0, &mut bytes).expect("read");
    assert!(bytes[..512] == [7; 512] && bytes[512..] == [0; 512]);
}

#[test]
fn what_is_read_only_is_not_written() {
    let disk = disk(Partitioning::None);
    let set = |on: u32| {
        disk.ioctl(
            &Caller::root(),
            0,
            Handle(0),
            0x125d,
            &mut on.to_ne_bytes().repeat(2)[..8].to_vec(),
        )
    };
    assert_eq!(set(1), Ok(0));
    assert_eq!(disk.write(0, HANDLE, 0, &[1]), Err(Errno::EPERM));
    assert_eq!(set(0), Ok(0));
    assert_eq!(disk.write(0, HANDLE, 0, &[1]), Ok(1));
}
