//! The journal of ext3 and ext4, JBD2: [`replay`] brings an image to the state that was lasting, and
//! [`Journal::commit`] takes it to the next so that it is one or the other whatever happens.
//!
//! Here a transaction is written home as soon as it is lasting. So the journal holds one at most, and
//! needs no revocations.

mod commit;
mod format;
mod replay;
#[cfg(test)]
mod tests;

use umvu_abi::{Errno, files::Backing};

use self::format::Header;
pub(super) use self::{commit::write_home, replay::replay};

/// Where the journal is.
#[derive(Debug)]
pub(super) struct Place {
    /// The blocks of the journal's file, in their order; 0 is its superblock.
    pub(super) blocks: Vec<u64>,
    /// The size of a block.
    pub(super) block: usize,
    /// Where the image ends, in blocks.
    pub(super) end: u64,
}

impl Place {
    fn at(&self, number: u32) -> Result<u64, Errno> {
        let found = usize::try_from(number).ok().and_then(|number| self.blocks.get(number));
        let block = found.copied().filter(|block| *block < self.end).ok_or(Errno::EUCLEAN)?;
        Ok(block * self.block as u64)
    }

    fn read(&self, image: &dyn Backing, number: u32) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; self.block];
        if image.read_at(self.at(number)?, &mut bytes)? < self.block {
            return Err(Errno::EIO);
        }
        Ok(bytes)
    }
}

/// A journal that is empty between commits.
#[derive(Debug)]
pub(super) struct Journal {
    place: Place,
    header: Header,
}

impl Journal {
    /// Opens a journal without transactions. Errors: `EUCLEAN`, `EOPNOTSUPP` for features that are not
    /// known.
    pub(super) fn open(image: &dyn Backing, place: Place) -> Result<Self, Errno> {
        let header = Header::read(image, &place)?;
        Ok(Self { place, header })
    }

    /// How many blocks one commit can take.
    pub(super) fn capacity(&self) -> usize {
        let room = usize::try_from(self.header.last() - self.header.first()).unwrap_or(0);
        let tags = self.header.tags_in(self.place.block).max(1);
        // Its last block, and descriptors.
        room.saturating_sub(1 + room / tags + 1)
    }
}
