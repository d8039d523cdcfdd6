//! ioctl(2) of block devices: `<linux/fs.h>`, `HDIO_GETGEO` of `<linux/hdreg.h>`.
//!
//! [`tell`] answers what only tells; what acts is decoded to a [`Deed`].

use umvu_abi::Errno;

use super::table::{Extent, SECTOR};

const HDIO_GETGEO: u32 = 0x301;
const BLKROSET: u32 = 0x125d;
const BLKROGET: u32 = 0x125e;
const BLKRRPART: u32 = 0x125f;
const BLKGETSIZE: u32 = 0x1260;
const BLKFLSBUF: u32 = 0x1261;
const BLKRASET: u32 = 0x1262;
const BLKRAGET: u32 = 0x1263;
const BLKFRASET: u32 = 0x1264;
const BLKFRAGET: u32 = 0x1265;
const BLKSECTGET: u32 = 0x1267;
const BLKSSZGET: u32 = 0x1268;
const BLKPG: u32 = 0x1269;
const BLKDISCARD: u32 = 0x1277;
const BLKIOMIN: u32 = 0x1278;
const BLKIOOPT: u32 = 0x1279;
const BLKALIGNOFF: u32 = 0x127a;
const BLKPBSZGET: u32 = 0x127b;
const BLKDISCARDZEROES: u32 = 0x127c;
const BLKROTATIONAL: u32 = 0x127e;
const BLKZEROOUT: u32 = 0x127f;
const BLKSECDISCARD: u32 = 0x127d;
const BLKGETZONESZ: u32 = 0x8004_1284;
const BLKGETNRZONES: u32 = 0x8004_1285;
const BLKBSZGET: u32 = 0x8008_1270;
const BLKBSZSET: u32 = 0x4008_1271;
const BLKGETSIZE64: u32 = 0x8008_1272;

/// Sectors in each request: as a loop device.
const MOST_SECTORS: u16 = 2560;
const READ_AHEAD: u64 = 256;
const BLOCK: u32 = 4096;
const HEADS: u64 = 255;
const SECTORS_OF_TRACK: u64 = 63;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// `BLKFLSBUF`.
    Flush,
    /// `BLKRRPART`, and `BLKPG`, whose partitions are those of the table.
    Reread,
    /// `BLKROSET`.
    SetReadOnly(bool),
    /// `BLKDISCARD`: offset and length in bytes.
    Discard(u64, u64),
    /// `BLKZEROOUT`.
    Zero(u64, u64),
    /// `BLKBSZSET`: the size of the blocks of a cache that there is not.
    SetBlock(u64),
    /// Hints about caches that there are none of.
    Nothing,
}

/// What a request does; None when it only tells something.
pub(super) fn deed(request: u32, argument: &[u8]) -> Option<Deed> {
    let word = |at: usize| {
        let bytes = argument.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    };
    Some(match request {
        BLKFLSBUF => Deed::Flush,
        BLKRRPART | BLKPG => Deed::Reread,
        BLKROSET => Deed::SetReadOnly(word(0) & 0xffff_ffff != 0),
        BLKDISCARD => Deed::Discard(word(0), word(8)),
        BLKZEROOUT => Deed::Zero(word(0), word(8)),
        BLKBSZSET => Deed::SetBlock(word(0) & 0xffff_ffff),
        BLKRASET | BLKFRASET => Deed::Nothing,
        _ => return None,
    })
}

/// Tells about a disk or partition. Errors: `ENOTTY`.
pub(super) fn tell(request: u32, extent: Extent, read_only: bool) -> Result<Vec<u8>, Errno> {
    let sectors = extent.size / SECTOR;
    let sector = u32::try_from(SECTOR).unwrap_or(512);
    Ok(match request {
        // Linux has it for disks that can, and no zones for those without.
        BLKSECDISCARD => return Err(Errno::EOPNOTSUPP),
        BLKGETZONESZ | BLKGETNRZONES => 0_u32.to_ne_bytes().to_vec(),
        BLKROGET => u32::from(read_only).to_ne_bytes().to_vec(),
        BLKGETSIZE => sectors.to_ne_bytes().to_vec(),
        BLKGETSIZE64 => extent.size.to_ne_bytes().to_vec(),
        BLKSSZGET | BLKPBSZGET | BLKIOMIN => sector.to_ne_bytes().to_vec(),
        BLKIOOPT | BLKALIGNOFF | BLKDISCARDZEROES => 0_u32.to_ne_bytes().to_vec(),
        BLKBSZGET => BLOCK.to_ne_bytes().to_vec(),
        BLKRAGET | BLKFRAGET => READ_AHEAD.to_ne_bytes().to_vec(),
        BLKSECTGET => MOST_SECTORS.to_ne_bytes().to_vec(),
        BLKROTATIONAL => 0_u16.to_ne_bytes().to_vec(),
        HDIO_GETGEO => geometry(sectors, extent.start / SECTOR),
        _ => return Err(Errno::ENOTTY),
    })
}

/// `struct hd_geometry`: heads, sectors of a track, cylinders, the first sector.
fn geometry(sectors: u64, start: u64) -> Vec<u8> {
    let byte = |number: u64| u8::try_from(number).unwrap_or(u8::MAX);
    let cylinders = u16::try_from(sectors / (HEADS * SECTORS_OF_TRACK)).unwrap_or(u16::MAX);
    let mut told = vec![byte(HEADS), byte(SECTORS_OF_TRACK)];
    told.extend(cylinders.to_ne_bytes());
    // The field behind is aligned.
    told.extend([0; 4]);
    told.extend(start.to_ne_bytes());
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENT: Extent = Extent { start: 2048 * SECTOR, size: 1 << 30 };

    #[test]
    fn sizes_are_as_wide_as_the_kernel_writes_them() {
        let told = |request| tell(request, EXTENT, true).expect("a request");
        assert_eq!(told(BLKGETSIZE), (2_097_152_u64).to_ne_bytes());
        assert_eq!(told(BLKGETSIZE64), (1_u64 << 30).to_ne_bytes());
        assert_eq!(told(BLKSSZGET), 512_u32.to_ne_bytes());
        assert_eq!(told(BLKROGET), 1_u32.to_ne_bytes());
        assert_eq!(told(BLKSECTGET).len(), 2);
        assert_eq!(told(HDIO_GETGEO), [&[255, 63, 130, 0, 0, 0, 0, 0, 0, 8][..], &[0; 6]].concat());
        assert_eq!(tell(BLKSECDISCARD, EXTENT, false), Err(Errno::EOPNOTSUPP));
        assert_eq!(tell(0x5331, EXTENT, false), Err(Errno::ENOTTY));
    }

    #[test]
    fn ranges_are_two_words() {
        let range = [1_u64.to_ne_bytes(), 2_u64.to_ne_bytes()].concat();
        assert_eq!(deed(BLKDISCARD, &range), Some(Deed::Discard(1, 2)));
        assert_eq!(deed(BLKDISCARD, &[]), Some(Deed::Discard(0, 0)));
        assert_eq!(deed(BLKGETSIZE, &[]), None);
    }
}
