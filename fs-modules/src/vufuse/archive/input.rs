//! Where bytes are: in the image, or unpacked in a file of ours.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    sync::Arc,
};

use umvu_abi::{Errno, files::Backing};

/// A sequence of bytes that can be read anywhere.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Image(Arc<dyn Backing>),
    Unpacked(Arc<File>),
}

impl Place {
    /// Reads at an offset; short at the end. Errors: `EIO`.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Image(image) => image.read_at(offset, buffer),
            Self::Unpacked(file) => Ok(file.read_at(buffer, offset)?),
        }
    }

    /// Fills a buffer. Errors: `EIO`, also at the end.
    pub(super) fn fill(&self, mut offset: u64, mut buffer: &mut [u8]) -> Result<(), Errno> {
        while !buffer.is_empty() {
            let count = match self.read_at(offset, buffer)? {
                0 => return Err(Errno::EIO),
                count => count,
            };
            offset += count as u64;
            buffer = &mut buffer[count..];
        }
        Ok(())
    }

    /// The length. Errors: `EIO`.
    pub(super) fn size(&self) -> Result<u64, Errno> {
        match self {
            Self::Image(image) => image.size(),
            Self::Unpacked(file) => Ok(file.metadata()?.len()),
        }
    }
}

/// Reads a place from a position on.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) place: Place,
    at: u64,
    size: u64,
}

impl Input {
    /// At the beginning. Errors: `EIO`.
    pub(super) fn new(place: Place) -> Result<Self, Errno> {
        let size = place.size()?;
        Ok(Self { place, at: 0, size })
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.place.read_at(self.at, buffer)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Input {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(Errno::EINVAL)?;
        Ok(self.at)
    }
}
