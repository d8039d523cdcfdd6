use std::sync::Arc;

use parking_lot::Mutex;
use umvu_abi::{Errno, files::Backing};

use super::{Journal, Place, format::put, replay};

const BLOCK: usize = 1024;
/// The blocks of the image; the journal is its second half.
const BLOCKS: u64 = 80;

/// An image that takes so many writes and then none: the session was killed.
#[derive(Debug)]
struct Image {
    bytes: Mutex<Vec<u8>>,
    writes: Mutex<usize>,
}

impl Backing for Image {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let at = usize::try_from(offset).expect("small");
        buffer.copy_from_slice(&self.bytes.lock()[at..at + buffer.len()]);
        Ok(buffer.len())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let mut writes = self.writes.lock();
        *writes = writes.checked_sub(1).ok_or(Errno::EIO)?;
        let at = usize::try_from(offset).expect("small");
        self.bytes.lock()[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(BLOCKS * BLOCK as u64)
    }

    fn flush(&self) -> Result<(), Errno> {
        Ok(())
    }
}

fn place() -> Place {
    Place { blocks: (40..BLOCKS).collect(), block: BLOCK, end: BLOCKS }
}

/// An image of zeros with an empty journal of these features.
fn image(features: u32, writes: usize) -> Image {
    let mut bytes = vec![0; 80 * BLOCK];
    let header = &mut bytes[40 * BLOCK..];
    for (at, value) in
        [(0, 0xc03b_3998), (4, 4), (12, 1024), (16, 40), (20, 1), (24, 7), (40, features)]
    {
        put(header, at, value);
    }
    header[48..64].copy_from_slice(b"0123456789abcdef");
    if features & 0x18 != 0 {
        let checksum = !crc32c::crc32c_append(0, &header[..1024]);
        put(header, 0xfc, checksum);
    }
    Image { bytes: Mutex::new(bytes), writes: Mutex::new(writes) }
}

/// Blocks with new content; the first begins as a block of the journal does.
fn batch() -> Vec<(u64, Arc<[u8]>)> {
    let data = |number: u8| {
        let mut data = vec![number; BLOCK];
        if number == 1 {
            put(&mut data, 0, 0xc03b_3998);
        }
        Arc::from(data)
    };
    (1..20).map(|number| (u64::from(number) * 2, data(number))).collect()
}

fn replayed(image: &Image) -> Vec<u8> {
    *image.writes.lock() = usize::MAX;
    let home = |number: u64, data: Vec<u8>| image.write_at(number * BLOCK as u64, &data);
    if let Some(emptied) = replay(image, &place(), home).expect("a sound journal") {
        emptied.settle(image, &place()).expect("room");
    }
    Journal::open(image, place()).expect("it goes on");
    image.bytes.lock()[..40 * BLOCK].to_vec()
}

#[test]
fn it_is_all_or_nothing_wherever_it_ends() {
    // None, wide numbers, checksums of both kinds.
    for features in [0, 2, 8, 0x10, 0x12] {
        let whole = image(features, usize::MAX);
        let mut journal = Journal::open(&whole, place()).expect("it is sound");
        journal.commit(&whole, &batch()).expect("room");
        let all = whole.bytes.lock()[..40 * BLOCK].to_vec();
        assert_eq!((all[2 * BLOCK + 9], all[38 * BLOCK]), (1, 19));
        let mut seen = [0, 0];
        for writes in 0.. {
            let image = image(features, writes);
            let mut journal = Journal::open(&image, place()).expect("it is sound");
            let done = journal.commit(&image, &batch()).is_ok();
            let found = replayed(&image);
            assert!(found == all || found.iter().all(|byte| *byte == 0), "{features} {writes}");
            seen[usize::from(found == all)] += 1;
            if done {
                break;
            }
        }
        assert!(seen.iter().all(|count| *count > 10), "{seen:?}");
    }
}

#[test]
fn what_a_journal_says_of_blocks_that_are_not_there_is_damage() {
    let image = image(0, usize::MAX);
    let mut journal = Journal::open(&image, place()).expect("it is sound");
    *image.writes.lock() = 22;
    assert_eq!(journal.commit(&image, &batch()), Err(Errno::EIO));
    // The log is whole and not home; the first tag leads outside.
    put(&mut image.bytes.lock()[41 * BLOCK..], 12, 80);
    let home = |_, _| Ok(());
    assert_eq!(replay(&image, &place(), home).err(), Some(Errno::EUCLEAN));
    put(&mut image.bytes.lock()[40 * BLOCK..], 28, 99);
    assert_eq!(replay(&image, &place(), home).err(), Some(Errno::EUCLEAN));
    put(&mut image.bytes.lock()[40 * BLOCK..], 40, 0x400);
    assert_eq!(replay(&image, &place(), home).err(), Some(Errno::EOPNOTSUPP));
}
