//! A part of a file as a medium.

use std::sync::Arc;

use umvu_abi::{
    Errno,
    files::{Backing, Claim},
};

use super::super::table::SECTOR;

/// So many bytes from an offset on.
#[derive(Debug)]
pub(super) struct Window {
    file: Arc<dyn Backing>,
    offset: u64,
    size: u64,
}

impl Window {
    /// The whole sectors of a file from an offset on, at most `limit` bytes unless that is 0. Errors: `EIO`.
    pub(super) fn new(file: &Arc<dyn Backing>, offset: u64, limit: u64) -> Result<Self, Errno> {
        let left = file.size()?.saturating_sub(offset);
        let size = if limit == 0 { left } else { left.min(limit) } / SECTOR * SECTOR;
        Ok(Self { file: Arc::clone(file), offset, size })
    }

    /// Where so many bytes are in the file. Errors: `EINVAL` behind the end.
    fn place(&self, at: u64, length: u64) -> Result<u64, Errno> {
        let end = at.checked_add(length).ok_or(Errno::EINVAL)?;
        if end > self.size { Err(Errno::EINVAL) } else { Ok(self.offset + at) }
    }
}

impl Backing for Window {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let left = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let count = left.min(buffer.len());
        let got = self.file.read_at(self.offset.saturating_add(at), &mut buffer[..count])?;
        // A file that has become shorter since.
        buffer[got..count].fill(0);
        Ok(count)
    }

    fn write_at(&self, at: u64, data: &[u8]) -> Result<(), Errno> {
        self.file.write_at(self.place(at, data.len() as u64)?, data)
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.size)
    }

    fn flush(&self) -> Result<(), Errno> {
        self.file.flush()
    }

    fn discard(&self, at: u64, length: u64) -> Result<(), Errno> {
        self.file.discard(self.place(at, length)?, length)
    }

    fn claim(&self, claim: Claim) -> Result<(), Errno> {
        self.file.claim(claim)
    }

    fn may_wait(&self) -> bool {
        self.file.may_wait()
    }
}
