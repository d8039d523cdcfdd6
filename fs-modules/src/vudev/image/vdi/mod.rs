//! VDI, the disk images of VirtualBox, fixed and dynamic ones.
//!
//! An image is a header, a map with the place of each block, and the blocks in the order in which
//! they were first written to. The map is held in memory. A new block is written first, then counted
//! in the header, then entered in the map: when the writer is killed in between, at most the room of
//! one block is lost.

mod header;

use std::sync::Arc;

use parking_lot::Mutex;
use umvu_abi::{Errno, files::Backing, module::MountError};

use self::header::{ALLOCATED, Header, LENGTH};
use super::blocks::{Blocks, Mapped};

/// From here on an entry of the map is no place: the block reads as zeros.
const NO_PLACE: u32 = 0xffff_fffe;

/// The disk in an image.
#[derive(Debug)]
pub(super) struct Vdi {
    image: Arc<dyn Backing>,
    header: Header,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    map: Vec<u32>,
    /// The next place.
    next: u32,
}

/// Whether this is the start of an image.
pub(super) fn is_image(start: &[u8; LENGTH]) -> bool {
    header::has_magic(start)
}

/// Opens the disk. Errors: `EINVAL` for what is no image, `EOPNOTSUPP`, `EIO`.
pub(super) fn open(image: Arc<dyn Backing>) -> Result<Mapped<Vdi>, MountError> {
    Vdi::open(image).map(Mapped::new)
}

impl Vdi {
    fn open(image: Arc<dyn Backing>) -> Result<Self, MountError> {
        let mut start = [0; LENGTH];
        image.read_at(0, &mut start)?;
        let header = Header::parse(&start, image.size()?)?;
        let mut bytes = vec![0; usize::try_from(header.blocks).unwrap_or(0) * 4];
        if image.read_at(header.map, &mut bytes)? != bytes.len() {
            return Err(Errno::EIO.into());
        }
        let entries = bytes.as_chunks().0.iter();
        let map: Vec<u32> = entries.map(|entry| u32::from_le_bytes(*entry)).collect();
        let places = map.iter().copied().filter(|place| *place < NO_PLACE);
        if places.clone().any(|place| place >= header.blocks) {
            let reason = "the map of the VDI image is damaged";
            return Err(MountError::new(Errno::EUCLEAN, reason));
        }
        let used = places.max().map_or(0, |place| place + 1);
        let state = Mutex::new(State { map, next: header.allocated.max(used) });
        Ok(Self { image, header, state })
    }

    fn state_of(&self, block: u64) -> Option<u32> {
        let block = usize::try_from(block).ok()?;
        self.state.lock().map.get(block).copied().filter(|place| *place < NO_PLACE)
    }
}

impl Blocks for Vdi {
    fn image(&self) -> &Arc<dyn Backing> {
        &self.image
    }

    fn size(&self) -> u64 {
        self.header.size
    }

    fn block(&self) -> u64 {
        self.header.block
    }

    fn place(&self, block: u64) -> Result<Option<u64>, Errno> {
        Ok(self.state_of(block).map(|place| self.header.at(place)))
    }

    /// Errors: `ENOSPC` on a damaged image, whose places are used up.
    fn allocate(&self, block: u64, data: &[u8]) -> Result<(), Errno> {
        let mut state = self.state.lock();
        let place = state.next;
        if place >= self.header.blocks {
            return Err(Errno::ENOSPC);
        }
        self.image.write_at(self.header.at(place), data)?;
        self.image.write_at(ALLOCATED, &(place + 1).to_le_bytes())?;
        state.next = place + 1;
        self.image.write_at(self.header.map + block * 4, &place.to_le_bytes())?;
        let entry = usize::try_from(block).ok().and_then(|block| state.map.get_mut(block));
        *entry.ok_or(Errno::EINVAL)? = place;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
