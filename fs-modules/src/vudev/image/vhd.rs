//! VHD, the images of Virtual PC and Hyper-V, version 1: big-endian fields, a footer at the end.
//!
//! A fixed image is the disk and the footer. A dynamic one begins with a copy of the footer; a header
//! tells where the map is, which has the sector of each block. A block is a bitmap and the data. A new
//! one takes the place of the footer, which moves to the end; then it is entered in the map.

use std::sync::Arc;

use umvu_abi::{Errno, files::Backing, module::MountError};

use super::{
    big,
    blocks::{Blocks, Mapped},
};

const SECTOR: u64 = 512;
const FOOTER: usize = 512;
const HEADER: usize = 1024;
const NO_PLACE: u64 = 0xffff_ffff;
const LARGEST_BLOCK: u64 = 256 << 20;
/// Types of images.
const FIXED: u64 = 2;
const DYNAMIC: u64 = 3;
const DIFFERENCES: u64 = 4;

/// Opens an image; None for what is none. Errors: `EOPNOTSUPP`, `EUCLEAN`, `EIO`.
pub(super) fn open(image: &Arc<dyn Backing>) -> Result<Option<Arc<dyn Backing>>, MountError> {
    let damaged = || MountError::new(Errno::EUCLEAN, "the header of the VHD image is damaged");
    let Some(at) = image.size()?.checked_sub(FOOTER as u64) else { return Ok(None) };
    let mut footer = [0; FOOTER];
    image.read_at(at, &mut footer)?;
    if !footer.starts_with(b"conectix") {
        // The footer is lost: its copy says what it was.
        image.read_at(0, &mut footer)?;
        if !footer.starts_with(b"conectix") {
            return Ok(None);
        }
        let reason = "the VHD image has lost its end: repair it (qemu-img check, qemu-img convert)";
        return Err(MountError::new(Errno::EUCLEAN, reason));
    }
    let size = big(&footer, 48, 8) / SECTOR * SECTOR;
    if !is_whole(&footer, 64) {
        return Err(damaged());
    }
    match big(&footer, 60, 4) {
        FIXED if size <= at => {
            return Ok(Some(Arc::new(Fixed { image: Arc::clone(image), size })));
        }
        DYNAMIC => {}
        DIFFERENCES => {
            let reason = "a VHD image of differences to another one: convert it (qemu-img convert)";
            return Err(MountError::new(Errno::EOPNOTSUPP, reason));
        }
        _ => return Err(damaged()),
    }
    let mut header = [0; HEADER];
    let got = image.read_at(big(&footer, 16, 8), &mut header)?;
    let (table, entries) = (big(&header, 16, 8), big(&header, 28, 4));
    let block = big(&header, 32, 4);
    let is_sound = got == HEADER
        && header.starts_with(b"cxsparse")
        && is_whole(&header, 36)
        && block.is_power_of_two()
        && (SECTOR..=LARGEST_BLOCK).contains(&block)
        && size <= entries * block
        && table.checked_add(entries * 4).is_some_and(|end| end <= at);
    if !is_sound {
        return Err(damaged());
    }
    let bitmap = (block / SECTOR).div_ceil(8).next_multiple_of(SECTOR);
    let dynamic = Dynamic { image: Arc::clone(image), footer, table, size, block, bitmap };
    Ok(Some(Arc::new(Mapped::new(dynamic))))
}

/// Whether the checksum at this place is right.
fn is_whole(bytes: &[u8], at: usize) -> bool {
    let others = bytes.iter().enumerate().filter(|(n, _)| !(at..at + 4).contains(n));
    let sum = others.fold(0_u32, |sum, (_, byte)| sum.wrapping_add(u32::from(*byte)));
    u64::from(!sum) == big(bytes, at, 4)
}

/// A fixed image: the disk without the footer.
#[derive(Debug)]
struct Fixed {
    image: Arc<dyn Backing>,
    size: u64,
}

impl Fixed {
    fn room(&self, offset: u64, length: usize) -> usize {
        let left = self.size.saturating_sub(offset);
        usize::try_from(left).unwrap_or(usize::MAX).min(length)
    }
}

impl Backing for Fixed {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let room = self.room(offset, buffer.len());
        self.image.read_at(offset, &mut buffer[..room])
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let room = self.room(offset, data.len());
        self.image.write_at(offset, &data[..room])?;
        if room == data.len() { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.size)
    }

    fn flush(&self) -> Result<(), Errno> {
        self.image.flush()
    }

    fn discard(&self, offset: u64, length: u64) -> Result<(), Errno> {
        let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
        self.image.discard(offset, self.room(offset, length) as u64)
    }

    fn may_wait(&self) -> bool {
        self.image.may_wait()
    }
}

#[derive(Debug)]
struct Dynamic {
    image: Arc<dyn Backing>,
    footer: [u8; FOOTER],
    /// Where the map is.
    table: u64,
    size: u64,
    block: u64,
    /// What is before the data of a block.
    bitmap: u64,
}

impl Blocks for Dynamic {
    fn image(&self) -> &Arc<dyn Backing> {
        &self.image
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn block(&self) -> u64 {
        self.block
    }

    fn place(&self, block: u64) -> Result<Option<u64>, Errno> {
        let mut entry = [0; 4];
        if self.image.read_at(self.table + block * 4, &mut entry)? != entry.len() {
            return Err(Errno::EIO);
        }
        let sector = u64::from(u32::from_be_bytes(entry));
        let place = sector * SECTOR + self.bitmap;
        match sector {
            NO_PLACE => Ok(None),
            // Outside of the image it must not be written to.
            _ if place + self.block > self.image.size()? => Err(Errno::EIO),
            _ => Ok(Some(place)),
        }
    }

    fn allocate(&self, block: u64, data: &[u8]) -> Result<(), Errno> {
        let at = self.image.size()?.checked_sub(FOOTER as u64).ok_or(Errno::EIO)?;
        let at = at.next_multiple_of(SECTOR);
        let sector = u32::try_from(at / SECTOR).map_err(|_| Errno::ENOSPC)?;
        let bitmap = usize::try_from(self.bitmap).map_err(|_| Errno::EINVAL)?;
        // Each sector of the block has data.
        self.image.write_at(at, &[&vec![0xff; bitmap], data, &self.footer].concat())?;
        self.image.write_at(self.table + block * 4, &sector.to_be_bytes())
    }
}
