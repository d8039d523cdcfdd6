//! A sparse piece: a directory of tables, which have the sector of each grain.
//!
//! A new grain goes to the end of the file; then it is entered in its table, and in the table's double
//! that most images have.

use std::sync::Arc;

use umvu_abi::{Errno, files::Backing, module::MountError};

use super::{
    super::{blocks::Blocks, little},
    SECTOR,
};

pub(super) const HEADER: usize = 512;
/// Entries of a table.
pub(super) const ENTRIES: u64 = 512;
/// The bytes of a table.
const TABLE: usize = 2048;
pub(super) const LARGEST_GRAIN: u64 = 32 << 20;
const TEXT_LIMIT: u64 = 64 << 10;
/// Bits of the flags.
const HAS_DOUBLE: u64 = 1 << 1;
const HAS_ZEROS: u64 = 1 << 2;
const COMPRESSED: u64 = 1 << 16;
const MARKERS: u64 = 1 << 17;
/// An entry of a grain of zeros, where the flags say so.
pub(super) const ZEROS: u64 = 1;

#[derive(Debug)]
pub(super) struct Sparse {
    image: Arc<dyn Backing>,
    size: u64,
    grain: u64,
    /// Where the directory is, and its double.
    directories: Vec<u64>,
    /// What is before the grains.
    overhead: u64,
    has_zeros: bool,
    /// The disk of which this one has the differences.
    below: Option<Arc<dyn Backing>>,
}

/// Whether an image with this header is one for streams.
pub(super) fn is_stream(header: &[u8; HEADER]) -> bool {
    little(header, 8, 4) & (COMPRESSED | MARKERS) != 0 || little(header, 77, 2) != 0
}

/// The text in an image with this header; empty when there is none. Errors: `EUCLEAN`, `EIO`.
pub(super) fn text_of(image: &dyn Backing, header: &[u8; HEADER]) -> Result<String, MountError> {
    let sectors = |at: usize| little(header, at, 8).checked_mul(SECTOR);
    let length = sectors(36).unwrap_or(0).min(TEXT_LIMIT);
    let mut text = vec![0; usize::try_from(length).unwrap_or(0)];
    let at = sectors(28).ok_or_else(|| {
        MountError::new(Errno::EUCLEAN, "the header of the VMDK image is damaged")
    })?;
    let got = image.read_at(at, &mut text)?;
    text.truncate(got);
    Ok(String::from_utf8_lossy(&text).replace('\0', ""))
}

impl Sparse {
    /// Opens a piece; returns the text in it too. Errors: `EOPNOTSUPP`, `EUCLEAN`, `EIO`.
    pub(super) fn open(image: Arc<dyn Backing>) -> Result<(Self, String), MountError> {
        let damaged = || MountError::new(Errno::EUCLEAN, "the header of the VMDK image is damaged");
        let mut header = [0; HEADER];
        image.read_at(0, &mut header)?;
        let sectors = |at: usize| little(&header, at, 8).checked_mul(SECTOR);
        let flags = little(&header, 8, 4);
        if !header.starts_with(b"KDMV") || !(1..=3).contains(&little(&header, 4, 4)) {
            return Err(damaged());
        }
        if is_stream(&header) {
            let reason = "a piece of a VMDK image for streams: convert it (qemu-img convert)";
            return Err(MountError::new(Errno::EOPNOTSUPP, reason));
        }
        let (size, grain) = (sectors(12).ok_or_else(damaged)?, sectors(20).ok_or_else(damaged)?);
        let whole = image.size()?;
        let is_inside = |at: &u64| *at >= HEADER as u64 && *at < whole;
        let main = sectors(56).filter(is_inside).ok_or_else(damaged)?;
        let double = sectors(48).filter(|_| flags & HAS_DOUBLE != 0).filter(is_inside);
        let is_sound = grain.is_power_of_two()
            && (SECTOR..=LARGEST_GRAIN).contains(&grain)
            && little(&header, 44, 4) == ENTRIES
            // Places are sectors of 32 bits.
            && size <= (1 << 32) * SECTOR;
        if !is_sound {
            return Err(damaged());
        }
        let text = text_of(image.as_ref(), &header)?;
        let directories = std::iter::once(main).chain(double).collect();
        let overhead = sectors(64).ok_or_else(damaged)?;
        let has_zeros = flags & HAS_ZEROS != 0;
        let below = None;
        Ok((Self { image, size, grain, directories, overhead, has_zeros, below }, text))
    }

    /// The same, with the differences to another disk.
    pub(super) fn over(self, disk: Arc<dyn Backing>) -> Self {
        Self { below: Some(disk), ..self }
    }

    /// The sector in an entry. Errors: `EIO` when it is not there.
    fn entry(&self, at: u64) -> Result<u64, Errno> {
        let mut entry = [0; 4];
        if self.image.read_at(at, &mut entry)? != entry.len() {
            return Err(Errno::EIO);
        }
        Ok(u32::from_le_bytes(entry).into())
    }

    fn set_entry(&self, at: u64, place: u64) -> Result<(), Errno> {
        let sector = u32::try_from(place / SECTOR).map_err(|_| Errno::ENOSPC)?;
        self.image.write_at(at, &sector.to_le_bytes())
    }

    /// Where the entry of a grain is; None as long as its table is not there.
    fn entry_of(&self, directory: u64, grain: u64) -> Result<Option<u64>, Errno> {
        let table = self.entry(directory + grain / ENTRIES * 4)? * SECTOR;
        match table {
            0 => Ok(None),
            // Neither over the header nor outside.
            _ if table < HEADER as u64 || table + ENTRIES * 4 > self.image.size()? => {
                Err(Errno::EIO)
            }
            _ => Ok(Some(table + grain % ENTRIES * 4)),
        }
    }

    fn end(&self) -> Result<u64, Errno> {
        Ok(self.image.size()?.max(self.overhead).next_multiple_of(self.grain))
    }
}

impl Blocks for Sparse {
    fn image(&self) -> &Arc<dyn Backing> {
        &self.image
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn block(&self) -> u64 {
        self.grain
    }

    fn place(&self, grain: u64) -> Result<Option<u64>, Errno> {
        let Some(at) = self.entry_of(self.directories[0], grain)? else { return Ok(None) };
        let sector = self.entry(at)?;
        match sector {
            0 => Ok(None),
            ZEROS if self.has_zeros => Ok(None),
            // The end of the last grain may not have been written.
            _ if sector * SECTOR < self.overhead || sector * SECTOR >= self.image.size()? => {
                Err(Errno::EIO)
            }
            _ => Ok(Some(sector * SECTOR)),
        }
    }

    fn below(&self, grain: u64) -> Result<Option<&Arc<dyn Backing>>, Errno> {
        let Some(disk) = &self.below else { return Ok(None) };
        let at = self.entry_of(self.directories[0], grain)?;
        let is_told = at.map(|at| self.entry(at)).transpose()?.is_some_and(|sector| sector != 0);
        Ok((!is_told).then_some(disk))
    }

    fn allocate(&self, grain: u64, data: &[u8]) -> Result<(), Errno> {
        let place = self.end()?;
        self.image.write_at(place, data)?;
        // The double first: what the main table does not have is not there.
        for directory in self.directories.iter().rev() {
            let at = match self.entry_of(*directory, grain)? {
                Some(at) => at,
                None => {
                    let table = self.end()?;
                    let empty = [0; TABLE];
                    self.image.write_at(table, &empty)?;
                    self.set_entry(directory + grain / ENTRIES * 4, table)?;
                    table + grain % ENTRIES * 4
                }
            };
            self.set_entry(at, place)?;
        }
        Ok(())
    }
}
