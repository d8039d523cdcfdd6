//! An image for streams, as an OVA has it: each grain is compressed by itself, and can only be read.
//!
//! The directory may be told at the end only, in a copy of the header; before each grain is its place in the
//! disk and its length.

use std::{collections::VecDeque, io::Read, sync::Arc};

use flate2::read::ZlibDecoder;
use parking_lot::Mutex;
use umvu_abi::{Errno, files::Backing, module::MountError};

use super::{
    super::little,
    SECTOR,
    sparse::{ENTRIES, HEADER, LARGEST_GRAIN, ZEROS, text_of},
};

/// The directory is told at the end.
const AT_END: u64 = u64::MAX;
/// How far before the end the copy of the header is: behind it is the mark of the end.
const FOOTER: u64 = 1024;
/// What is before a grain: a sector of the disk, and a length.
const MARK: usize = 12;
/// How many unpacked grains are kept.
const KEPT: usize = 32;
/// The method of compression, zlib's.
const DEFLATE: u64 = 1;

/// The disk in an image.
#[derive(Debug)]
pub(super) struct Stream {
    image: Arc<dyn Backing>,
    size: u64,
    grain: u64,
    directory: u64,
    /// The oldest first.
    kept: Mutex<VecDeque<(u64, Arc<[u8]>)>>,
}

impl Stream {
    /// Opens an image with this header; returns the text in it too. Errors: `EUCLEAN`, `EIO`.
    pub(super) fn open(
        image: Arc<dyn Backing>,
        header: &[u8; HEADER],
    ) -> Result<(Self, String), MountError> {
        let damaged = || MountError::new(Errno::EUCLEAN, "the header of the VMDK image is damaged");
        let sectors = |bytes: &[u8], at| little(bytes, at, 8).checked_mul(SECTOR);
        let whole = image.size()?;
        let directory = if little(header, 56, 8) == AT_END {
            let mut footer = [0; HEADER];
            image.read_at(whole.checked_sub(FOOTER).ok_or_else(damaged)?, &mut footer)?;
            if !footer.starts_with(b"KDMV") {
                let reason = "the VMDK image for streams has lost its end: copy it anew";
                return Err(MountError::new(Errno::EUCLEAN, reason));
            }
            sectors(&footer, 56)
        } else {
            sectors(header, 56)
        };
        let directory = directory.filter(|at| *at >= HEADER as u64 && *at < whole);
        let (size, grain) = (sectors(header, 12), sectors(header, 20));
        let (Some(directory), Some(size), Some(grain)) = (directory, size, grain) else {
            return Err(damaged());
        };
        let is_sound = grain.is_power_of_two()
            && (SECTOR..=LARGEST_GRAIN).contains(&grain)
            && little(header, 44, 4) == ENTRIES
            && size <= (1 << 32) * SECTOR
            && little(header, 77, 2) == DEFLATE;
        if !is_sound {
            return Err(damaged());
        }
        let text = text_of(image.as_ref(), header)?;
        let kept = Mutex::new(VecDeque::new());
        Ok((Self { image, size, grain, directory, kept }, text))
    }

    /// Errors: `EIO` when it is not there.
    fn exact(&self, at: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        if self.image.read_at(at, buffer)? == buffer.len() { Ok(()) } else { Err(Errno::EIO) }
    }

    fn sector(&self, at: u64) -> Result<u64, Errno> {
        let mut entry = [0; 4];
        self.exact(at, &mut entry)?;
        Ok(u64::from(u32::from_le_bytes(entry)))
    }

    /// A grain; None for one of zeros. Errors: `EIO`.
    fn unpacked(&self, grain: u64) -> Result<Option<Arc<[u8]>>, Errno> {
        if let Some((_, data)) = self.kept.lock().iter().find(|(number, _)| *number == grain) {
            return Ok(Some(Arc::clone(data)));
        }
        let table = self.sector(self.directory + grain / ENTRIES * 4)?;
        let place = match table {
            0 => 0,
            table => self.sector(table * SECTOR + grain % ENTRIES * 4)?,
        };
        if place <= ZEROS {
            return Ok(None);
        }
        let mut mark = [0; MARK];
        self.exact(place * SECTOR, &mut mark)?;
        let length = little(&mark, 8, 4);
        // What does not get smaller gets a little larger.
        if little(&mark, 0, 8).checked_mul(SECTOR) != Some(grain * self.grain)
            || length > 2 * self.grain + SECTOR
        {
            return Err(Errno::EIO);
        }
        let mut packed = vec![0; usize::try_from(length).map_err(|_| Errno::EIO)?];
        self.exact(place * SECTOR + MARK as u64, &mut packed)?;
        let mut data = Vec::new();
        let unpacked = ZlibDecoder::new(&*packed).take(self.grain).read_to_end(&mut data);
        unpacked.map_err(|_| Errno::EIO)?;
        let data: Arc<[u8]> = data.into();
        let mut kept = self.kept.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((grain, Arc::clone(&data)));
        Ok(Some(data))
    }
}

impl Backing for Stream {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let rest = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = rest.min(buffer.len());
        let mut done = 0;
        while done < length {
            let at = offset + done as u64;
            let inside = usize::try_from(at % self.grain).map_err(|_| Errno::EIO)?;
            let whole = usize::try_from(self.grain).map_err(|_| Errno::EIO)?;
            let part = &mut buffer[done..length.min(done + whole - inside)];
            part.fill(0);
            // The last grain may be shorter.
            if let Some(grain) = self.unpacked(at / self.grain)?
                && let Some(data) = grain.get(inside..)
            {
                let count = data.len().min(part.len());
                part[..count].copy_from_slice(&data[..count]);
            }
            done += part.len();
        }
        Ok(length)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.size)
    }

    fn flush(&self) -> Result<(), Errno> {
        Ok(())
    }

    fn may_wait(&self) -> bool {
        self.image.may_wait()
    }
}
