//! The blocks of an image: read, unpacked and kept for a while.
//!
//! Metadata is in blocks of 8 KiB, each behind its packed length; data is in blocks whose packed lengths
//! their file, or the table of fragments, tells.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use umvu_abi::{Errno, files::Backing};

use super::codec::Codec;
use crate::vufuse::lru::Lru;

/// The length of a block of metadata.
const METADATA: usize = 8192;
/// How many bytes of metadata are kept, and of data.
const KEPT: [usize; 2] = [8 << 20, 32 << 20];
/// A block of data that is not packed.
const PLAIN: u32 = 1 << 24;

/// A block of metadata.
#[derive(Debug)]
struct Block {
    bytes: Vec<u8>,
    /// Where the next one begins.
    next: u64,
}

/// An image.
pub(super) struct Store {
    image: Arc<dyn Backing>,
    /// Where it begins, for one that is behind something else.
    base: u64,
    size: u64,
    block_size: usize,
    codec: Codec,
    metadata: Mutex<Lru<u64, Arc<Block>>>,
    data: Mutex<Lru<u64, Arc<[u8]>>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({:?})", self.image)
    }
}

impl Store {
    pub(super) fn new(
        image: Arc<dyn Backing>,
        base: u64,
        size: u64,
        block_size: usize,
        codec: Codec,
    ) -> Self {
        let [metadata, data] = KEPT;
        let (metadata, data) = (Mutex::new(Lru::new(metadata)), Mutex::new(Lru::new(data)));
        Self { image, base, size, block_size, codec, metadata, data }
    }

    pub(super) fn block_size(&self) -> usize {
        self.block_size
    }

    pub(super) fn may_wait(&self) -> bool {
        self.image.may_wait()
    }

    /// Reads what must be there.
    pub(super) fn exact(&self, at: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        let end = at.checked_add(buffer.len() as u64).ok_or(Errno::EIO)?;
        let from = self.base.checked_add(at).ok_or(Errno::EIO)?;
        if end > self.size || self.image.read_at(from, buffer)? < buffer.len() {
            return Err(Errno::EIO);
        }
        Ok(())
    }

    fn metadata(&self, at: u64) -> Result<Arc<Block>, Errno> {
        if let Some(block) = self.metadata.lock().get(&at) {
            return Ok(block);
        }
        let mut head = [0; 2];
        self.exact(at, &mut head)?;
        let head = u16::from_le_bytes(head);
        let length = match usize::from(head & 0x7fff) {
            0 => 0x8000,
            length => length,
        };
        if length > METADATA {
            return Err(Errno::EIO);
        }
        let mut packed = vec![0; length];
        self.exact(at + 2, &mut packed)?;
        let bytes = if head & 0x8000 == 0 {
            let mut bytes = vec![0; METADATA];
            let length = self.codec.unpack(&packed, &mut bytes)?;
            bytes.truncate(length);
            bytes
        } else {
            packed
        };
        let block = Arc::new(Block { bytes, next: at + 2 + length as u64 });
        self.metadata.lock().put(at, Arc::clone(&block), METADATA);
        Ok(block)
    }

    /// Unpacks a block of data at a place of the image into `out`, which it fills. `size` is its packed
    /// length, with a bit that says that it is not packed.
    pub(super) fn unpack(&self, at: u64, size: u32, out: &mut [u8]) -> Result<(), Errno> {
        let length = usize::try_from(size & (PLAIN - 1)).map_err(|_| Errno::EIO)?;
        if length > self.block_size {
            return Err(Errno::EIO);
        }
        if size & PLAIN != 0 {
            return if length == out.len() { self.exact(at, out) } else { Err(Errno::EIO) };
        }
        let mut packed = vec![0; length];
        self.exact(at, &mut packed)?;
        if self.codec.unpack(&packed, out)? == out.len() { Ok(()) } else { Err(Errno::EIO) }
    }

    /// A block of data of a known length, or of one up to the size of blocks.
    pub(super) fn block(
        &self,
        at: u64,
        size: u32,
        length: Option<usize>,
    ) -> Result<Arc<[u8]>, Errno> {
        if let Some(block) = self.data.lock().get(&at) {
            return Ok(block);
        }
        let block: Arc<[u8]> = match length {
            Some(length) => {
                let mut bytes = vec![0; length];
                self.unpack(at, size, &mut bytes)?;
                bytes.into()
            }
            None => self.unpack_whole(at, size)?.into(),
        };
        self.data.lock().put(at, Arc::clone(&block), block.len());
        Ok(block)
    }

    fn unpack_whole(&self, at: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let length = usize::try_from(size & (PLAIN - 1)).map_err(|_| Errno::EIO)?;
        if length > self.block_size {
            return Err(Errno::EIO);
        }
        let mut packed = vec![0; length];
        self.exact(at, &mut packed)?;
        if size & PLAIN != 0 {
            return Ok(packed);
        }
        let mut bytes = vec![0; self.block_size];
        let length = self.codec.unpack(&packed, &mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// A place in metadata, which is read from there on.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    store: &'a Store,
    /// Where the block begins that is read, and the block once something was read from it.
    at: u64,
    block: Option<Arc<Block>>,
    offset: usize,
}

impl<'a> Cursor<'a> {
    /// At an offset in the block that begins at a place of the image.
    pub(super) fn new(store: &'a Store, at: u64, offset: usize) -> Self {
        Self { store, at, block: None, offset }
    }

    /// At a reference: the place of a block behind the beginning of a table, and 16 bits of offset.
    pub(super) fn at(store: &'a Store, table: u64, reference: u64) -> Result<Self, Errno> {
        let block = table.checked_add(reference >> 16).ok_or(Errno::EIO)?;
        Ok(Self::new(store, block, usize::from((reference & 0xffff) as u16)))
    }

    pub(super) fn fill(&mut self, mut out: &mut [u8]) -> Result<(), Errno> {
        while !out.is_empty() {
            let block = match &self.block {
                Some(block) => block,
                None => self.block.insert(self.store.metadata(self.at)?),
            };
            let rest = block.bytes.get(self.offset..).ok_or(Errno::EIO)?;
            let count = rest.len().min(out.len());
            let (now, later) = out.split_at_mut(count);
            now.copy_from_slice(&rest[..count]);
            out = later;
            self.offset += count;
            if self.offset == block.bytes.len() {
                if block.bytes.is_empty() {
                    return Err(Errno::EIO);
                }
                (self.at, self.offset) = (block.next, 0);
                self.block = None;
            }
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Errno> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Errno> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Errno> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Errno> {
        self.array().map(u64::from_le_bytes)
    }

    /// So many bytes, of at most 64 KiB.
    pub(super) fn bytes(&mut self, length: usize) -> Result<Vec<u8>, Errno> {
        if length > 1 << 16 {
            return Err(Errno::EIO);
        }
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }
}
