//! The contract of devices.

use std::fmt;

use super::{Caller, Handle, Opened, Takes};
use crate::Errno;

/// What kind of a special file a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// `S_IFCHR`: reads and writes have no position.
    Character,
    /// `S_IFBLK`: reads and writes at offsets of a fixed size.
    Block,
}

/// What stat(2) tells about a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looks {
    /// Its kind.
    pub kind: DeviceKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// `st_rdev`.
    pub rdev: u64,
    /// The size of a block device, in bytes.
    pub size: u64,
}

/// What sysfs tells about a disk or partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Where a partition begins on its disk, in bytes.
    pub start: u64,
    /// It cannot be written to.
    pub read_only: bool,
}

/// A virtual device. Mounted at `/dev/hda` it is number 0; `/dev/hda1` is its sub-device 1, unless
/// [`Device::sub_name`] says otherwise.
pub trait Device: Send + Sync + fmt::Debug {
    /// How a device or sub-device looks; None when there is no such sub-device.
    fn looks(&self, sub: u32) -> Option<Looks>;

    /// The numbers of the sub-devices there are now, for the listing of the directory.
    fn sub_devices(&self) -> Vec<u32> {
        Vec::new()
    }

    /// The name of a sub-device beside the device, which is called `base`.
    fn sub_name(&self, base: &str, sub: u32) -> String {
        format!("{base}{sub}")
    }

    /// The sub-device of a name, as [`Device::sub_name`] makes it; there need be none.
    fn sub_named(&self, base: &str, name: &str) -> Option<u32> {
        let sub = name.strip_prefix(base)?.parse().ok()?;
        (self.sub_name(base, sub) == name).then_some(sub)
    }

    /// Which of the device and its sub-devices are disks: the device itself. The core asks again when it is
    /// told that there are others (`Outside::disks_changed`).
    fn disks(&self) -> Vec<u32> {
        vec![0]
    }

    /// The sub-devices that are partitions of a disk: all.
    fn partitions(&self, _disk: u32) -> Vec<u32> {
        self.sub_devices()
    }

    /// What sysfs tells of a disk in a directory of its own kind, which has these files.
    fn attributes(&self, _disk: u32) -> Option<(&'static str, Vec<(&'static str, String)>)> {
        None
    }

    /// What sysfs tells about a disk, or the partition that a sub-device is; None for other devices.
    fn block(&self, _sub: u32) -> Option<Block> {
        None
    }

    /// Whether calls may wait for guests or for the network; then they run on threads of their own.
    fn may_wait(&self) -> bool {
        false
    }

    /// Opens. `flags` are those of open(2). Errors: `ENXIO`, `EROFS`, `EBUSY`.
    fn open(&self, _caller: &Caller, _sub: u32, _flags: i32) -> Result<Handle, Errno> {
        Ok(Handle(0))
    }

    /// What serves an open in place of reads and writes here: then [`Device::open`] is not called,
    /// and the handle is never released. With [`Data::HostDressed`](super::Data::HostDressed) the
    /// device's [`ioctl`](Device::ioctl) gets the handle. Errors: as there.
    fn serve(&self, _caller: &Caller, _sub: u32, _flags: i32) -> Result<Option<Opened>, Errno> {
        Ok(None)
    }

    /// Lets an opened device go.
    fn release(&self, _sub: u32, _handle: Handle) {}

    /// Reads at an offset, which character devices ignore; 0 at the end. Errors: `EIO`, `EINVAL`.
    fn read(
        &self,
        _sub: u32,
        _handle: Handle,
        _offset: u64,
        _buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    /// Writes at an offset. Errors: `EIO`, `ENOSPC` behind the end, `EINVAL`.
    fn write(
        &self,
        _sub: u32,
        _handle: Handle,
        _offset: u64,
        _data: &[u8],
    ) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    /// Brings what was written to where it lasts: fsync(2). Errors: `EIO`.
    fn flush(&self, _sub: u32) -> Result<(), Errno> {
        Ok(())
    }

    /// What the argument of a request is.
    fn takes(&self, _sub: u32, _request: u32) -> Takes {
        Takes::AsItSays
    }

    /// Answers ioctl(2). `argument` holds, unless [`Device::takes`] says otherwise, what the request's
    /// number says it reads, or up to 16 bytes at the pointer for the old requests that do not say;
    /// what it holds afterwards is written back. Errors: `ENOTTY`.
    fn ioctl(
        &self,
        _caller: &Caller,
        _sub: u32,
        _handle: Handle,
        _request: u32,
        _argument: &mut Vec<u8>,
    ) -> Result<i64, Errno> {
        Err(Errno::ENOTTY)
    }

    /// The device is taken away.
    fn stop(&self) {}
}
