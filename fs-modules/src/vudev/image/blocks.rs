//! What images have in common that are a map of blocks.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use umvu_abi::{Errno, files::Backing};

/// An image in which each block of the disk has a place, or none.
pub(super) trait Blocks: fmt::Debug + Send + Sync {
    /// The image.
    fn image(&self) -> &Arc<dyn Backing>;

    /// The size of the disk.
    fn size(&self) -> u64;

    /// The size of a block, not 0.
    fn block(&self) -> u64;

    /// Where the data of a block is in the image; None for one that reads as zeros. Errors: `EIO`.
    fn place(&self, block: u64) -> Result<Option<u64>, Errno>;

    /// The disk that has a block without a place; None where that reads as zeros. Errors: `EIO`.
    fn below(&self, _block: u64) -> Result<Option<&Arc<dyn Backing>>, Errno> {
        Ok(None)
    }

    /// Gives a block without a place one, with this data in it. One at a time. Errors: `ENOSPC`, and
    /// those of the image.
    fn allocate(&self, block: u64, data: &[u8]) -> Result<(), Errno>;
}

/// The disk in such an image.
#[derive(Debug)]
pub(super) struct Mapped<B> {
    pub(super) blocks: B,
    /// Who gives blocks a place.
    allocating: Mutex<()>,
}

/// A piece of a request, in one block.
struct Piece {
    block: u64,
    /// Where in the block.
    offset: u64,
    length: usize,
}

impl<B: Blocks> Mapped<B> {
    pub(super) fn new(blocks: B) -> Self {
        Self { blocks, allocating: Mutex::default() }
    }

    /// Cuts a range at the ends of blocks.
    fn pieces(&self, offset: u64, length: usize) -> impl Iterator<Item = Piece> + use<B> {
        let block = self.blocks.block();
        let end = self.blocks.size().min(offset.saturating_add(length as u64));
        let mut at = offset;
        std::iter::from_fn(move || {
            let left = end.checked_sub(at).filter(|left| *left > 0)?;
            let inside = at % block;
            let length = usize::try_from(left.min(block - inside)).ok()?;
            let piece = Piece { block: at / block, offset: inside, length };
            at += piece.length as u64;
            Some(piece)
        })
    }

    fn allocate(&self, piece: &Piece, data: &[u8]) -> Result<(), Errno> {
        let _one = self.allocating.lock();
        if let Some(place) = self.blocks.place(piece.block)? {
            return self.blocks.image().write_at(place + piece.offset, data);
        }
        let start = usize::try_from(piece.offset).map_err(|_| Errno::EINVAL)?;
        let size = usize::try_from(self.blocks.block()).map_err(|_| Errno::EINVAL)?;
        let mut block = vec![0; size];
        if let Some(disk) = self.blocks.below(piece.block)? {
            disk.read_at(piece.block * self.blocks.block(), &mut block)?;
        }
        block[start..start + data.len()].copy_from_slice(data);
        self.blocks.allocate(piece.block, &block)
    }
}

impl<B: Blocks> Backing for Mapped<B> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut done = 0;
        for piece in self.pieces(offset, buffer.len()) {
            let into = &mut buffer[done..done + piece.length];
            // A block at the end of an image may not have been written as a whole.
            let got = match self.blocks.place(piece.block)? {
                Some(place) => self.blocks.image().read_at(place + piece.offset, into)?,
                None => match self.blocks.below(piece.block)? {
                    Some(disk) => {
                        disk.read_at(piece.block * self.blocks.block() + piece.offset, into)?
                    }
                    None => 0,
                },
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
            match self.blocks.place(piece.block)? {
                Some(place) => self.blocks.image().write_at(place + piece.offset, part)?,
                // It reads as zeros already.
                None if part.iter().all(|byte| *byte == 0)
                    && self.blocks.below(piece.block)?.is_none() => {}
                None => self.allocate(&piece, part)?,
            }
        }
        if left.is_empty() { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.blocks.size())
    }

    fn flush(&self) -> Result<(), Errno> {
        self.blocks.image().flush()
    }

    fn discard(&self, offset: u64, length: u64) -> Result<(), Errno> {
        let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
        for piece in self.pieces(offset, length) {
            if let Some(place) = self.blocks.place(piece.block)? {
                let at = place + piece.offset;
                self.blocks.image().discard(at, piece.length as u64)?;
            }
        }
        Ok(())
    }

    fn may_wait(&self) -> bool {
        self.blocks.image().may_wait()
    }
}
