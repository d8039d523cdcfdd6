//! A disk: a block device over a [`Backing`], with the partitions of its table as sub-devices.
//!
//! Lock order: `table` is held while the medium is read; nothing else is taken under it.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use umvu_abi::{
    Errno,
    files::{Backing, Block, Caller, Device, Handle, Looks},
};

use super::{
    identity::Identity,
    ioctl::{self, Deed},
    table::{Extent, SECTOR, Table},
};

/// How much is written at once when a range is filled with zeros.
const CHUNK: usize = 1 << 20;

/// Whether a disk has partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Partitioning {
    /// It is one piece.
    None,
    /// As its table says.
    Table,
}

/// The device.
#[derive(Debug)]
pub(super) struct Disk {
    /// None once the disk is taken away.
    medium: RwLock<Option<Arc<dyn Backing>>>,
    may_wait: bool,
    identity: Identity,
    size: u64,
    partitioning: Partitioning,
    /// The medium cannot be written to.
    sealed: bool,
    /// The sub-devices that `BLKROSET` has made read-only.
    read_only: Mutex<BTreeSet<u32>>,
    table: Mutex<Table>,
    /// The table has been written to since it was read.
    stale: AtomicBool,
}

impl Disk {
    /// Makes a disk of the whole sectors of a medium. Errors: `EIO`.
    pub(super) fn new(
        medium: Arc<dyn Backing>,
        identity: Identity,
        sealed: bool,
        partitioning: Partitioning,
    ) -> Result<Self, Errno> {
        let size = medium.size()? / SECTOR * SECTOR;
        Ok(Self {
            may_wait: medium.may_wait(),
            medium: RwLock::new(Some(medium)),
            identity,
            size,
            partitioning,
            sealed,
            read_only: Mutex::default(),
            table: Mutex::default(),
            stale: AtomicBool::new(partitioning == Partitioning::Table),
        })
    }

    /// Errors: `ENXIO` once the disk is taken away.
    fn medium(&self) -> Result<Arc<dyn Backing>, Errno> {
        self.medium.read().clone().ok_or(Errno::ENXIO)
    }

    /// What is wrong with the table.
    pub(super) fn notice(&self) -> Option<String> {
        self.with_table(|table| table.notice.clone())
    }

    /// The table as it is on the disk now.
    fn with_table<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        let mut table = self.table.lock();
        if self.stale.swap(false, Ordering::AcqRel) {
            *table = match self.medium() {
                Ok(medium) => Table::read(medium.as_ref(), self.size),
                Err(_) => Table::default(),
            };
        }
        look(&table)
    }

    fn extent(&self, sub: u32) -> Option<Extent> {
        match sub {
            0 => Some(Extent { start: 0, size: self.size }),
            _ => self.with_table(|table| table.partitions.get(&sub).copied()),
        }
    }

    fn is_read_only(&self, sub: u32) -> bool {
        self.sealed || {
            let set = self.read_only.lock();
            set.contains(&0) || set.contains(&sub)
        }
    }

    /// Notes that bytes of the disk have changed.
    fn note_change(&self, at: u64, length: usize) {
        if self.partitioning == Partitioning::Table && self.table.lock().is_touched(at, length) {
            self.forget_table();
        }
    }

    /// The table is read again when it is next needed; now, where that may have to wait: who lists a
    /// directory must not.
    fn forget_table(&self) {
        self.stale.store(true, Ordering::Release);
        if self.may_wait {
            self.with_table(|_| ());
        }
    }

    /// A range of an ioctl, in bytes of the disk. Errors: `EINVAL` unless it is of whole sectors
    /// inside, `EPERM` on what is read-only.
    fn range(&self, sub: u32, offset: u64, length: u64) -> Result<u64, Errno> {
        let extent = self.extent(sub).ok_or(Errno::ENXIO)?;
        if self.is_read_only(sub) {
            return Err(Errno::EPERM);
        }
        let end = offset.checked_add(length).ok_or(Errno::EINVAL)?;
        if !(offset | length).is_multiple_of(SECTOR) || end > extent.size {
            return Err(Errno::EINVAL);
        }
        Ok(extent.start + offset)
    }

    fn zero(&self, mut at: u64, length: u64) -> Result<(), Errno> {
        let medium = self.medium()?;
        if medium.discard(at, length).is_ok() {
            return Ok(());
        }
        let zeros = vec![0; CHUNK];
        let mut left = length;
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            medium.write_at(at, &zeros[..count])?;
            at += count as u64;
            left -= count as u64;
        }
        Ok(())
    }

    fn act(&self, caller: &Caller, sub: u32, deed: Deed) -> Result<(), Errno> {
        match deed {
            Deed::Flush => self.medium()?.flush(),
            Deed::SetBlock(size) if size.is_power_of_two() && (512..=65_536).contains(&size) => {
                Ok(())
            }
            Deed::SetBlock(_) => Err(Errno::EINVAL),
            Deed::Nothing => Ok(()),
            Deed::Reread if sub != 0 || self.partitioning == Partitioning::None => {
                Err(Errno::EINVAL)
            }
            Deed::Reread => {
                self.forget_table();
                Ok(())
            }
            Deed::SetReadOnly(_) if !caller.is_privileged() && caller.uid != self.owner() => {
                Err(Errno::EACCES)
            }
            Deed::SetReadOnly(true) => {
                self.read_only.lock().insert(sub);
                Ok(())
            }
            Deed::SetReadOnly(false) => {
                self.read_only.lock().remove(&sub);
                Ok(())
            }
            Deed::Discard(offset, length) => {
                let at = self.range(sub, offset, length)?;
                self.medium()?.discard(at, length)?;
                self.note_change(at, usize::try_from(length).unwrap_or(usize::MAX));
                Ok(())
            }
            Deed::Zero(offset, length) => {
                let at = self.range(sub, offset, length)?;
                self.zero(at, length)?;
                self.note_change(at, usize::try_from(length).unwrap_or(usize::MAX));
                Ok(())
            }
        }
    }

    fn owner(&self) -> u32 {
        self.identity.looks(0, 0).uid
    }
}

impl Device for Disk {
    fn looks(&self, sub: u32) -> Option<Looks> {
        let extent = self.extent(sub)?;
        Some(self.identity.looks(sub, extent.size))
    }

    fn sub_devices(&self) -> Vec<u32> {
        self.with_table(|table| table.partitions.keys().copied().collect())
    }

    fn block(&self, sub: u32) -> Option<Block> {
        let Extent { start, .. } = self.extent(sub)?;
        Some(Block { start, read_only: self.is_read_only(sub) })
    }

    fn may_wait(&self) -> bool {
        self.may_wait
    }

    fn open(&self, _: &Caller, sub: u32, _: i32) -> Result<Handle, Errno> {
        self.extent(sub).map(|_| Handle(0)).ok_or(Errno::ENXIO)
    }

    fn read(&self, sub: u32, _: Handle, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let extent = self.extent(sub).ok_or(Errno::ENXIO)?;
        let left = extent.size.saturating_sub(offset);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if count == 0 {
            return Ok(0);
        }
        self.medium()?.read_at(extent.start + offset, &mut buffer[..count])
    }

    fn write(&self, sub: u32, _: Handle, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        let extent = self.extent(sub).ok_or(Errno::ENXIO)?;
        // As Linux, which refuses the write and not the opening.
        if self.is_read_only(sub) {
            return Err(Errno::EPERM);
        }
        let left = extent.size.saturating_sub(offset);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
        if count == 0 {
            return if data.is_empty() { Ok(0) } else { Err(Errno::ENOSPC) };
        }
        let at = extent.start + offset;
        self.medium()?.write_at(at, &data[..count])?;
        self.note_change(at, count);
        Ok(count)
    }

    fn flush(&self, _: u32) -> Result<(), Errno> {
        // A disk that is taken away has been flushed then.
        self.medium().map_or(Ok(()), |medium| medium.flush())
    }

    fn ioctl(
        &self,
        caller: &Caller,
        sub: u32,
        _: Handle,
        request: u32,
        argument: &mut Vec<u8>,
    ) -> Result<i64, Errno> {
        if let Some(deed) = ioctl::deed(request, argument) {
            return self.act(caller, sub, deed).map(|()| 0);
        }
        let extent = self.extent(sub).ok_or(Errno::ENXIO)?;
        *argument = ioctl::tell(request, extent, self.is_read_only(sub))?;
        Ok(0)
    }

    fn stop(&self) {
        let medium = self.medium.write().take();
        // Nobody is left to be told of an error.
        let _ = medium.map(|medium| medium.flush());
    }
}

#[cfg(test)]
mod tests;
