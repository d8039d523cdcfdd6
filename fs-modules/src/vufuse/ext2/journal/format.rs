//! The blocks of JBD2: big-endian numbers at fixed places.

use umvu_abi::{Errno, files::Backing};

use super::Place;

const MAGIC: u32 = 0xc03b_3998;
pub(super) const DESCRIPTOR: u32 = 1;
pub(super) const COMMIT: u32 = 2;
pub(super) const REVOKE: u32 = 5;

pub(super) const ESCAPED: u32 = 1;
pub(super) const SAME_UUID: u32 = 2;
pub(super) const LAST_TAG: u32 = 8;

const WIDE: u32 = 2;
const CSUM_V2: u32 = 8;
const CSUM_V3: u32 = 0x10;
const FAST_COMMIT: u32 = 0x20;
/// Revocations, wide numbers, commits that are not waited for, checksums, fast commits.
const KNOWN: u32 = 1 | WIDE | 4 | CSUM_V2 | CSUM_V3 | FAST_COMMIT;

const START: usize = 28;
const CHECKSUM: usize = 0xfc;

pub(super) fn get(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|it| it.try_into().ok()).map_or(0, u32::from_be_bytes)
}

pub(super) fn put(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(to) = bytes.get_mut(at..at + 4) {
        to.copy_from_slice(&value.to_be_bytes());
    }
}

/// CRC-32C, without the inversions of its ends.
pub(super) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

/// The kind and the transaction of a block of the journal; None for other content.
pub(super) fn kind(block: &[u8]) -> Option<(u32, u32)> {
    (get(block, 0) == MAGIC).then(|| (get(block, 4), get(block, 8)))
}

/// Whether data looks like a block of the journal.
pub(super) fn looks_like_ours(data: &[u8]) -> bool {
    get(data, 0) == MAGIC
}

/// Begins a block of the journal.
pub(super) fn begin(size: usize, kind: u32, sequence: u32) -> Vec<u8> {
    let mut block = vec![0; size];
    put(&mut block, 0, MAGIC);
    put(&mut block, 4, kind);
    put(&mut block, 8, sequence);
    block
}

/// The superblock of a journal.
#[derive(Debug, Clone)]
pub(super) struct Header {
    bytes: Vec<u8>,
    features: u32,
}

/// A tag of a descriptor: a block of the image whose new content is in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) block: u64,
    pub(super) flags: u32,
    pub(super) checksum: u32,
}

impl Header {
    /// Errors: `EUCLEAN`, `EOPNOTSUPP` for features that are not known.
    pub(super) fn read(image: &dyn Backing, place: &Place) -> Result<Self, Errno> {
        let bytes = place.read(image, 0)?;
        let features = match kind(&bytes) {
            Some((4, _)) => get(&bytes, 40),
            Some((3, _)) => 0,
            _ => return Err(Errno::EUCLEAN),
        };
        let header = Self { bytes, features };
        let length = u32::try_from(place.blocks.len()).unwrap_or(u32::MAX);
        let sizes = get(&header.bytes, 12) as usize == place.block
            && get(&header.bytes, 16) <= length
            && header.first() >= 1
            && header.first() + 2 < header.last();
        if features & !KNOWN != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let checked = !header.has_checksums() || header.checksum() == get(&header.bytes, CHECKSUM);
        if sizes && checked { Ok(header) } else { Err(Errno::EUCLEAN) }
    }

    pub(super) fn has_fast_commits(&self) -> bool {
        self.features & FAST_COMMIT != 0
    }

    pub(super) fn has_checksums(&self) -> bool {
        self.features & (CSUM_V2 | CSUM_V3) != 0
    }

    pub(super) fn is_wide(&self) -> bool {
        self.features & WIDE != 0
    }

    /// The first block of the log, and the one behind its last.
    pub(super) fn first(&self) -> u32 {
        get(&self.bytes, 20)
    }

    pub(super) fn last(&self) -> u32 {
        let fast = match get(&self.bytes, 84) {
            _ if !self.has_fast_commits() => 0,
            0 => 256,
            count => count,
        };
        get(&self.bytes, 16).saturating_sub(fast)
    }

    /// The first transaction in the log, and the block it begins at; 0 when there is none.
    pub(super) fn sequence(&self) -> u32 {
        get(&self.bytes, 24)
    }

    pub(super) fn start(&self) -> u32 {
        get(&self.bytes, START)
    }

    /// What checksums begin with.
    pub(super) fn seed(&self) -> u32 {
        crc32c(!0, self.bytes.get(48..64).unwrap_or_default())
    }

    fn checksum(&self) -> u32 {
        let mut bytes = self.bytes.get(..1024).unwrap_or_default().to_vec();
        put(&mut bytes, CHECKSUM, 0);
        crc32c(!0, &bytes)
    }

    /// Says in the image where the log begins. Errors: `EIO`.
    pub(super) fn set(
        &mut self,
        image: &dyn Backing,
        place: &Place,
        sequence: u32,
        start: u32,
    ) -> Result<(), Errno> {
        put(&mut self.bytes, 24, sequence);
        put(&mut self.bytes, START, start);
        if self.has_checksums() {
            let checksum = self.checksum();
            put(&mut self.bytes, CHECKSUM, checksum);
        }
        image.write_at(place.at(0)?, self.bytes.get(..1024).unwrap_or_default())
    }

    fn tag_size(&self) -> usize {
        let wide = if self.is_wide() { 4 } else { 0 };
        match self.features {
            features if features & CSUM_V3 != 0 => 16,
            features if features & CSUM_V2 != 0 => 10 + wide,
            _ => 8 + wide,
        }
    }

    fn tail(&self) -> usize {
        if self.has_checksums() { 4 } else { 0 }
    }

    /// How many tags a descriptor of a block holds.
    pub(super) fn tags_in(&self, block: usize) -> usize {
        // One has a UUID behind it.
        block.saturating_sub(12 + 16 + self.tail()) / self.tag_size()
    }

    /// The tags of a descriptor.
    pub(super) fn tags(&self, block: &[u8]) -> Vec<Tag> {
        let (size, end) = (self.tag_size(), block.len().saturating_sub(self.tail()));
        let (mut at, mut tags) = (12, Vec::new());
        while at + size <= end {
            let low = u64::from(get(block, at));
            let v3 = self.features & CSUM_V3 != 0;
            let (flags, checksum) = if v3 {
                (get(block, at + 4), get(block, at + 12))
            } else {
                (get(block, at + 4) & 0xffff, get(block, at + 4) >> 16)
            };
            let high = if self.is_wide() { u64::from(get(block, at + 8)) } else { 0 };
            tags.push(Tag { block: low | high << 32, flags, checksum });
            at += size + if flags & SAME_UUID == 0 { 16 } else { 0 };
            if flags & LAST_TAG != 0 {
                break;
            }
        }
        tags
    }

    /// Writes tags into a descriptor, whose first has room for the UUID.
    pub(super) fn put_tags(&self, block: &mut [u8], tags: &[Tag]) {
        let (size, mut at) = (self.tag_size(), 12);
        for tag in tags {
            let [low, high] =
                [tag.block & 0xffff_ffff, tag.block >> 32].map(|it| u32::try_from(it).unwrap_or(0));
            put(block, at, low);
            if self.features & CSUM_V3 != 0 {
                put(block, at + 4, tag.flags);
                put(block, at + 12, tag.checksum);
            } else {
                let checksum = if self.has_checksums() { tag.checksum & 0xffff } else { 0 };
                put(block, at + 4, checksum << 16 | tag.flags);
            }
            if self.is_wide() {
                put(block, at + 8, high);
            }
            at += size + if tag.flags & SAME_UUID == 0 { 16 } else { 0 };
        }
    }

    /// The checksum of a tag's data.
    pub(super) fn tag_checksum(&self, sequence: u32, data: &[u8]) -> u32 {
        crc32c(crc32c(self.seed(), &sequence.to_be_bytes()), data)
    }

    /// Whether the data of a tag is what it should be.
    pub(super) fn holds(&self, tag: &Tag, sequence: u32, data: &[u8]) -> bool {
        let wanted = self.tag_checksum(sequence, data);
        match self.features {
            features if features & CSUM_V3 != 0 => tag.checksum == wanted,
            features if features & CSUM_V2 != 0 => tag.checksum == wanted & 0xffff,
            _ => true,
        }
    }

    /// Whether the checksum in a block of the journal is right.
    pub(super) fn is_sound(&self, block: &[u8], at: usize) -> bool {
        !self.has_checksums() || self.block_checksum(block, at) == get(block, at)
    }

    /// The checksum of a block of the journal that has it at a place.
    pub(super) fn block_checksum(&self, block: &[u8], at: usize) -> u32 {
        let mut bytes = block.to_vec();
        put(&mut bytes, at, 0);
        crc32c(self.seed(), &bytes)
    }
}
