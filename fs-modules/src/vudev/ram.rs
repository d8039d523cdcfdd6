//! The memory of `vudevramdisk`: a file of memfd_create(2), which takes what is written only.

use std::{fs::File, os::unix::fs::FileExt};

use rustix::fs::{FallocateFlags, MemfdFlags};
use umvu_abi::{Errno, files::Backing, module::MountError};

use super::table::SECTOR;

/// 32 MiB.
const DEFAULT_SECTORS: u64 = 64 << 10;

/// A disk in memory.
#[derive(Debug)]
pub(super) struct Ram {
    file: File,
    size: u64,
}

fn errno(error: rustix::io::Errno) -> Errno {
    std::io::Error::from(error).into()
}

impl Ram {
    /// Makes one of whole sectors. Errors: `EINVAL` for none, `EFBIG`.
    pub(super) fn new(size: Option<u64>) -> Result<Self, MountError> {
        let size = size.unwrap_or(DEFAULT_SECTORS * SECTOR) / SECTOR * SECTOR;
        if size == 0 {
            let reason = format!("vudevramdisk: size: at least {SECTOR} bytes");
            return Err(MountError::new(Errno::EINVAL, reason));
        }
        let file = File::from(
            rustix::fs::memfd_create("vudevramdisk", MemfdFlags::CLOEXEC).map_err(errno)?,
        );
        file.set_len(size).map_err(Errno::from)?;
        Ok(Self { file, size })
    }

    /// Puts an MBR without partitions.
    pub(super) fn put_mbr(&self) -> Result<(), Errno> {
        let mut sector = [0; 512];
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        self.write_at(0, &sector)
    }
}

impl Backing for Ram {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        Ok(self.file.read_at(buffer, offset)?)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        Ok(self.file.write_all_at(data, offset)?)
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.size)
    }

    fn flush(&self) -> Result<(), Errno> {
        Ok(())
    }

    fn discard(&self, offset: u64, length: u64) -> Result<(), Errno> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&self.file, flags, offset, length).map_err(errno)
    }
}
