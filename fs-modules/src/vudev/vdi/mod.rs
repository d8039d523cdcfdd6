//! `vudevvdi`: the disk images of VirtualBox, fixed and dynamic ones.
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

/// A piece of a request, in one block.
struct Piece {
    block: usize,
    /// Where in the block.
    offset: u64,
    length: usize,
}

impl Vdi {
    /// Opens the disk. Errors: `EINVAL` for what is no image, `EOPNOTSUPP`, `EIO`.
    pub(super) fn open(image: Arc<dyn Backing>) -> Result<Self, MountError> {
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

    /// Cuts a range at the ends of blocks.
    fn pieces(&self, offset: u64, length: usize) -> impl Iterator<Item = Piece> + use<> {
        let block = self.header.block;
        let end = self.header.size.min(offset.saturating_add(length as u64));
        let mut at = offset;
        std::iter::from_fn(move || {
            let left = end.checked_sub(at).filter(|left| *left > 0)?;
            let inside = at % block;
            let piece = Piece {
                block: usize::try_from(at / block).ok()?,
                offset: inside,
                length: usize::try_from(left.min(block - inside)).ok()?,
            };
            at += piece.length as u64;
            Some(piece)
        })
    }

    fn place(state: &State, block: usize) -> Option<u32> {
        state.map.get(block).copied().filter(|place| *place < NO_PLACE)
    }

    /// Gives a block a place, with this data in it. Errors: `ENOSPC` on a damaged image, whose
    /// places are used up, and those of the image.
    fn allocate(&self, state: &mut State, piece: &Piece, data: &[u8]) -> Result<(), Errno> {
        let place = state.next;
        if place >= self.header.blocks {
            return Err(Errno::ENOSPC);
        }
        let start = usize::try_from(piece.offset).map_err(|_| Errno::EINVAL)?;
        let mut block = vec![0; usize::try_from(self.header.block).map_err(|_| Errno::EINVAL)?];
        block[start..start + data.len()].copy_from_slice(data);
        self.image.write_at(self.header.at(place), &block)?;
        self.image.write_at(ALLOCATED, &(place + 1).to_le_bytes())?;
        state.next = place + 1;
        let entry = self.header.map + piece.block as u64 * 4;
        self.image.write_at(entry, &place.to_le_bytes())?;
        state.map[piece.block] = place;
        Ok(())
    }
}

impl Backing for Vdi {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut done = 0;
        for piece in self.pieces(offset, buffer.len()) {
            let into = &mut buffer[done..done + piece.length];
            let place = Self::place(&self.state.lock(), piece.block);
            // A block at the end of an image may not have been written as a whole.
            let got = match place {
                Some(place) => self.image.read_at(self.header.at(place) + piece.offset, into)?,
                None => 0,
            };
            into[got..].fill(0);
            done += piece.length;
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let mut left = data;
        for piece in self.pieces(offset, data.len()) {
            let (part, rest) = left.split_at(piece.length);
            left = rest;
            let mut state = self.state.lock();
            match Self::place(&state, piece.block) {
                Some(place) => {
                    drop(state);
                    self.image.write_at(self.header.at(place) + piece.offset, part)?;
                }
                // It reads as zeros already.
                None if part.iter().all(|byte| *byte == 0) => {}
                None => self.allocate(&mut state, &piece, part)?,
            }
        }
        if left.is_empty() { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.header.size)
    }

    fn flush(&self) -> Result<(), Errno> {
        self.image.flush()
    }

    fn discard(&self, offset: u64, length: u64) -> Result<(), Errno> {
        let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
        for piece in self.pieces(offset, length) {
            let place = Self::place(&self.state.lock(), piece.block);
            if let Some(place) = place {
                let at = self.header.at(place) + piece.offset;
                self.image.discard(at, piece.length as u64)?;
            }
        }
        Ok(())
    }

    fn may_wait(&self) -> bool {
        self.image.may_wait()
    }
}

#[cfg(test)]
mod tests;
