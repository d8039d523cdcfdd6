//! The image as the disk of the library: blocks of 512 bytes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use hadris_fs::{Error, ErrorKind};
use hadris_io::ErrorType;
use hadris_storage::{BlockIndex, BlockSize, sync::BlockDevice};
use umvu_abi::{Errno, files::Backing};

/// The length of a block, in bytes.
const BLOCK: u32 = 512;

/// An error of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failed(pub(super) Errno);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Failed {}

/// An image.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) image: Arc<dyn Backing>,
    pub(super) writes: bool,
    blocks: u64,
    /// Whether the library's wishes to have all of it brought to the disk are followed.
    pub(super) flushes: Arc<AtomicBool>,
}

impl Device {
    /// Of an image. Errors: `EIO`.
    pub(super) fn new(image: Arc<dyn Backing>, writes: bool) -> Result<Self, Errno> {
        let blocks = image.size()? / u64::from(BLOCK);
        Ok(Self { image, writes, blocks, flushes: Arc::default() })
    }
}

/// Where bytes begin, which must be in the image.
fn place(device: &Device, first: BlockIndex, length: usize) -> Result<u64, Error<Failed>> {
    let begin = first.get().checked_mul(u64::from(BLOCK));
    let end = begin.and_then(|begin| begin.checked_add(length as u64));
    match (begin, end) {
        (Some(begin), Some(end)) if end <= device.blocks * u64::from(BLOCK) => Ok(begin),
        _ => Err(Error::new(ErrorKind::InvalidInput, "behind the end of the image")),
    }
}

impl ErrorType for Device {
    type Error = Failed;
}

impl BlockDevice for Device {
    fn block_size(&self) -> BlockSize {
        BlockSize::new(BLOCK).expect("a power of two")
    }

    fn block_count(&self) -> u64 {
        self.blocks
    }

    fn writable(&self) -> bool {
        self.writes
    }

    fn read_blocks(&mut self, first: BlockIndex, buffer: &mut [u8]) -> Result<(), Error<Failed>> {
        let begin = place(self, first, buffer.len())?;
        match self.image.read_at(begin, buffer) {
            Ok(count) if count == buffer.len() => Ok(()),
            Ok(_) => Err(Error::device(Failed(Errno::EIO), "the image is cut off")),
            Err(errno) => Err(Error::device(Failed(errno), "reading the image")),
        }
    }

    fn write_blocks(&mut self, first: BlockIndex, buffer: &[u8]) -> Result<(), Error<Failed>> {
        let begin = place(self, first, buffer.len())?;
        let written = self.image.write_at(begin, buffer);
        written.map_err(|errno| Error::device(Failed(errno), "writing the image"))
    }

    fn flush(&mut self) -> Result<(), Error<Failed>> {
        if !self.flushes.load(Ordering::Relaxed) {
            return Ok(());
        }
        let flushed = self.image.flush();
        flushed.map_err(|errno| Error::device(Failed(errno), "bringing the image to the disk"))
    }
}
