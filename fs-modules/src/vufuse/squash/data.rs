//! The data of files: whole blocks, and an end that may be in a fragment with the ends of others.

use std::{
    sync::{Arc, LazyLock},
    thread,
};

use umvu_abi::Errno;

use super::{
    inode::FileData,
    store::{Cursor, Store},
    superblock::{Superblock, entry},
};

/// How many blocks a file may have: 512 GiB at blocks of 128 KiB.
const MANY: u64 = 4 << 20;
/// The bits of a packed length.
const LENGTH: u32 = (1 << 24) - 1;

/// Whether two blocks can be unpacked at the same time; to find out reads several files of the host.
static SEVERAL_PROCESSORS: LazyLock<bool> =
    LazyLock::new(|| thread::available_parallelism().is_ok_and(|processors| processors.get() > 1));

/// Where the blocks of a file are.
#[derive(Debug)]
pub(super) struct Layout {
    data: FileData,
    /// Place and packed length of each; a length of 0 is a hole.
    blocks: Vec<(u64, u32)>,
}

/// A part of one block that a read wants.
struct Piece<'a> {
    number: usize,
    inside: usize,
    /// The length of the whole block.
    length: usize,
    out: &'a mut [u8],
}

impl Layout {
    /// Reads the list of blocks behind an inode. Errors: `EFBIG`, `EIO`.
    pub(super) fn read(from: &mut Cursor<'_>, data: FileData, block: u64) -> Result<Self, Errno> {
        let whole = data.size / block;
        let count = if data.fragment.is_some() { whole } else { data.size.div_ceil(block) };
        if count > MANY {
            return Err(Errno::EFBIG);
        }
        let mut blocks = Vec::new();
        let mut at = data.start;
        for _ in 0..count {
            let size = from.u32()?;
            blocks.push((at, size));
            at = at.checked_add(u64::from(size & LENGTH)).ok_or(Errno::EIO)?;
        }
        Ok(Self { data, blocks })
    }

    /// How much it weighs in a cache.
    pub(super) fn weight(&self) -> usize {
        1 + self.blocks.len()
    }

    /// Reads; short at the end only.
    pub(super) fn read_at(
        &self,
        store: &Store,
        superblock: &Superblock,
        at: u64,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        let rest = usize::try_from(self.data.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let length = buffer.len().min(rest);
        let pieces = self.pieces(store.block_size(), at, &mut buffer[..length])?;
        let get = |piece: Piece<'_>| self.get(store, superblock, piece);
        if pieces.len() >= 4 && *SEVERAL_PROCESSORS {
            both(pieces, &get)?;
        } else {
            pieces.into_iter().try_for_each(get)?;
        }
        Ok(length)
    }

    fn pieces<'a>(
        &self,
        block: usize,
        at: u64,
        mut buffer: &'a mut [u8],
    ) -> Result<Vec<Piece<'a>>, Errno> {
        let mut pieces = Vec::new();
        let mut at = at;
        while !buffer.is_empty() {
            let number = usize::try_from(at / block as u64).map_err(|_| Errno::EIO)?;
            let inside = usize::try_from(at % block as u64).map_err(|_| Errno::EIO)?;
            let begin = number as u64 * block as u64;
            let length = usize::try_from(self.data.size - begin).unwrap_or(block).min(block);
            let (out, later) = buffer.split_at_mut((length - inside).min(buffer.len()));
            buffer = later;
            at += out.len() as u64;
            pieces.push(Piece { number, inside, length, out });
        }
        Ok(pieces)
    }

    fn get(&self, store: &Store, superblock: &Superblock, piece: Piece<'_>) -> Result<(), Errno> {
        let Piece { number, inside, length, out } = piece;
        let (block, inside) = match self.blocks.get(number) {
            Some((_, size)) if size & LENGTH == 0 => {
                out.fill(0);
                return Ok(());
            }
            Some((at, size)) if out.len() == length => return store.unpack(*at, *size, out),
            Some((at, size)) => (store.block(*at, *size, Some(length))?, inside),
            None => {
                let (block, offset) = self.fragment(store, superblock)?;
                (block, offset.checked_add(inside).ok_or(Errno::EIO)?)
            }
        };
        let end = inside.checked_add(out.len()).ok_or(Errno::EIO)?;
        out.copy_from_slice(block.get(inside..end).ok_or(Errno::EIO)?);
        Ok(())
    }

    fn fragment(&self, store: &Store, of: &Superblock) -> Result<(Arc<[u8]>, usize), Errno> {
        let (number, offset) = self.data.fragment.ok_or(Errno::EIO)?;
        if number >= of.fragments {
            return Err(Errno::EIO);
        }
        let mut from = entry(store, of.fragment_table, number, 16)?;
        let (at, size) = (from.u64()?, from.u32()?);
        let offset = usize::try_from(offset).map_err(|_| Errno::EIO)?;
        Ok((store.block(at, size, None)?, offset))
    }
}

/// Gets pieces on two processors.
fn both<'a>(
    mut pieces: Vec<Piece<'a>>,
    get: &(dyn Fn(Piece<'a>) -> Result<(), Errno> + Sync),
) -> Result<(), Errno> {
    let other = pieces.split_off(pieces.len() / 2);
    thread::scope(|scope| {
        let helper = thread::Builder::new()
            .spawn_scoped(scope, move || other.into_iter().try_for_each(get))
            .map_err(|_| Errno::EAGAIN)?;
        pieces.into_iter().try_for_each(get)?;
        helper.join().map_err(|_| Errno::EIO)?
    })
}
