//! Images made by hand. Those of QEMU are in the end to end tests.

use super::{super::super::ram::Ram, *};

const BLOCK: u64 = 4096;
const BLOCKS: u32 = 16;
const MAP: u32 = 512;
const DATA: u32 = 1024;

fn put(image: &Ram, at: u64, value: u32) {
    image.write_at(at, &value.to_le_bytes()).expect("written");
}

/// A dynamic image of 16 blocks of 4 KiB, none of which is there.
fn image() -> Arc<Ram> {
    let image = Ram::new(Some(u64::from(DATA) + u64::from(BLOCKS) * BLOCK)).expect("memory");
    for (at, value) in [
        (0x40, 0xbeda_107f),
        (0x44, 0x1_0001),
        (0x48, 0x180),
        (0x4c, 1),
        (0x154, MAP),
        (0x158, DATA),
        (0x170, BLOCKS * 4096),
        (0x178, 4096),
        (0x180, BLOCKS),
    ] {
        put(&image, at, value);
    }
    image.write_at(u64::from(MAP), &[0xff; 64]).expect("written");
    Arc::new(image)
}

fn open(image: &Arc<Ram>) -> Result<Mapped<Vdi>, MountError> {
    super::open(Arc::clone(image) as Arc<dyn Backing>)
}

fn word(image: &Ram, at: u64) -> u32 {
    let mut bytes = [0; 4];
    image.read_at(at, &mut bytes).expect("read");
    u32::from_le_bytes(bytes)
}

#[test]
fn blocks_get_places_in_the_order_of_writing() {
    let image = image();
    let disk = open(&image).expect("an image");
    assert_eq!(disk.size(), Ok(16 * BLOCK));
    disk.write_at(5 * BLOCK + 4000, &[7; 200]).expect("written");
    disk.write_at(0, &[0; 4096]).expect("zeros take no room");
    disk.write_at(15 * BLOCK, &[9]).expect("written");
    let places = [5, 6, 15, 0].map(|block| word(&image, u64::from(MAP) + block * 4));
    assert_eq!(places, [0, 1, 2, u32::MAX]);
    assert_eq!(word(&image, ALLOCATED), 3);
    let again = open(&image).expect("an image");
    let mut bytes = [1; 300];
    assert_eq!(again.read_at(5 * BLOCK + 3950, &mut bytes), Ok(300));
    assert!(bytes[..50] == [0; 50] && bytes[50..250] == [7; 200] && bytes[250..] == [0; 50]);
    assert_eq!(again.read_at(16 * BLOCK - 1, &mut bytes), Ok(1));
    assert_eq!(again.write_at(16 * BLOCK - 1, &[1, 1]), Err(Errno::ENOSPC));
    again.discard(5 * BLOCK, BLOCK).expect("a hole");
    assert_eq!(again.read_at(5 * BLOCK + 4000, &mut bytes[..1]), Ok(1));
    assert_eq!(bytes[0], 0);
}

#[test]
fn a_place_that_was_lost_is_not_given_twice() {
    let image = image();
    put(&image, u64::from(MAP) + 4, 3);
    let disk = open(&image).expect("an image");
    disk.write_at(0, &[1]).expect("written");
    assert_eq!(word(&image, u64::from(MAP)), 4);
}

#[test]
fn what_is_no_image_says_so() {
    let errno = |at: u64, value: u32| {
        let image = image();
        put(&image, at, value);
        open(&image).err().map(|error| error.errno)
    };
    assert_eq!(errno(0x40, 1), Some(Errno::EINVAL));
    assert_eq!(errno(0x4c, 4), Some(Errno::EOPNOTSUPP));
    assert_eq!(errno(0x154, 0), Some(Errno::EINVAL));
    assert_eq!(errno(0x178, 0), Some(Errno::EINVAL));
    assert_eq!(errno(0x180, u32::MAX), Some(Errno::EINVAL));
    assert_eq!(errno(0x174, 1), Some(Errno::EINVAL));
    assert_eq!(errno(u64::from(MAP), BLOCKS), Some(Errno::EUCLEAN));
}

#[test]
fn damaged_images_are_not_written_outside() {
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040);
        state >> 33
    };
    for _ in 0..10_000 {
        let image = image();
        for _ in 0..=random() % 3 {
            let at = 0x40 + random() % (u64::from(DATA) - 0x40);
            let mut byte = [0];
            image.read_at(at, &mut byte).expect("read");
            byte[0] ^= 1 << (random() % 8);
            image.write_at(at, &byte).expect("written");
        }
        let Ok(disk) = open(&image) else { continue };
        let size = disk.size().expect("a size");
        let ours = random() % size.max(1);
        let mut bytes = [0; 5000];
        let _ = disk.read_at(ours, &mut bytes);
        let _ = disk.write_at(ours, &[1; 5000]);
        // The start is the header and the map, whatever happens.
        assert_eq!(word(&image, 0x40), 0xbeda_107f);
    }
}
