//! `vufusefatfs`: file systems of the kinds FAT12, FAT16, FAT32 and exFAT on an image.
//!
//! `vumount -t vufusefatfs [-o ro|rw+,uid=,gid=,umask=,fmask=,dmask=,time_offset=] image /mnt`. The structures
//! are the work of hadris-fat, which writes each change to the image at once and in an order that fsck can
//! repair; the [`volume`] adds what Linux has and FAT has not: files that lose their name while they are
//! open.
//!
//! Locks: one for the volume, held for a call.

mod device;
#[cfg(any(test, fuzzing))]
pub mod hostile;
mod looks;
#[cfg(test)]
mod random;
mod volume;

use std::sync::Arc;

use hadris_fs::{ErrorKind, RenameMode};
use parking_lot::Mutex;
use umvu_abi::{
    Errno,
    files::{
        Attributes, Backing, Caller, Changes, DirEntry, Entry, FileSystem, Handle, Node, Opened,
        Outside, StatFs, Time, Traits,
    },
    module::{MountError, MountRequest},
};

use self::{device::Device, looks::Looks, volume::Volume};
use super::{
    image::{self, Access},
    read_only,
};
use crate::options::Options;

/// Mounts an image. Errors: those of open(2), `EBUSY` for one that is mounted, `EINVAL` for what is no file
/// system of the kinds, `EUCLEAN` for one that has to be checked.
pub fn mount(
    request: &MountRequest,
    outside: &Arc<dyn Outside>,
) -> Result<Arc<dyn FileSystem>, MountError> {
    let mut options = Options::of(request);
    let access = image::access(request, &mut options, outside);
    let looks = Looks::of(&mut options, &outside.caller())?;
    let minutes = match options.value("time_offset").map(|text| text.parse()) {
        None => 0,
        Some(Ok(minutes)) => minutes,
        Some(Err(_)) => {
            let reason = "vufusefatfs: time_offset= takes minutes east of Greenwich (as 60, -300)";
            return Err(MountError::new(Errno::EINVAL, reason));
        }
    };
    options.finish()?;
    let image = image::open(request, outside, access)?;
    let fat = Fat::open(image, access, looks, minutes)
        .map_err(|error| MountError::new(error.errno, format!("{}: {error}", request.source)))?;
    if fat.volume.lock().as_ref().is_some_and(|volume| volume.was_dirty) {
        outside.notice(&format!(
            "vufusefatfs: {}: was not unmounted as it should be; unmount it and run fsck -a",
            request.source
        ));
    }
    Ok(Arc::new(fat))
}

/// The file system.
#[derive(Debug)]
struct Fat {
    /// None once it is taken away.
    volume: Mutex<Option<Volume>>,
    may_wait: bool,
    writes: bool,
}

impl Fat {
    /// Looks at an image. Errors: as [`mount`].
    fn open(
        image: Arc<dyn Backing>,
        access: Access,
        looks: Looks,
        minutes: i16,
    ) -> Result<Self, MountError> {
        let (may_wait, writes) = (image.may_wait(), access == Access::Write);
        let device = Device::new(image, writes)?;
        let volume = Volume::open(device, looks, minutes).map_err(|error| {
            let reason = match error.kind() {
                ErrorKind::NotRecognized => "is no FAT or exFAT file system",
                ErrorKind::Corrupt => "the file system is damaged or cut off; run fsck",
                _ => error.message(),
            };
            MountError::new(volume::errno(&error), reason)
        })?;
        Ok(Self { volume: Mutex::new(Some(volume)), may_wait, writes })
    }

    /// Does something with the volume. Errors: `EIO` once it is taken away.
    fn with<T>(&self, act: impl FnOnce(&mut Volume) -> Result<T, Errno>) -> Result<T, Errno> {
        act(self.volume.lock().as_mut().ok_or(Errno::EIO)?)
    }
}

impl FileSystem for Fat {
    fn traits(&self) -> Traits {
        Traits {
            may_wait: self.may_wait,
            read_only: !self.writes,
            folds_case: true,
            keeps_access_times: true,
            ..Traits::default()
        }
    }

    fn options(&self) -> Option<String> {
        Some(String::new())
    }

    fn lookup(&self, _: &Caller, parent: Node, name: &[u8]) -> Result<Entry, Errno> {
        self.with(|volume| volume.lookup((parent, name)))
    }

    fn forget(&self, node: Node, count: u64) {
        if let Err(errno) = self.with(|volume| volume.forget(node, count)) {
            tracing::debug!("vufusefatfs: forget {}: {errno}", node.0);
        }
    }

    fn getattr(&self, _: &Caller, node: Node, _: Option<Handle>) -> Result<Attributes, Errno> {
        self.with(|volume| volume.attributes(node))
    }

    fn setattr(
        &self,
        _: &Caller,
        node: Node,
        _: Option<Handle>,
        changes: &Changes,
    ) -> Result<Attributes, Errno> {
        self.with(|volume| volume.change(node, changes))
    }

    fn mknod(
        &self,
        _: &Caller,
        parent: Node,
        name: &[u8],
        mode: u32,
        _: u64,
    ) -> Result<Entry, Errno> {
        if mode & libc::S_IFMT != libc::S_IFREG {
            return Err(Errno::EPERM);
        }
        self.with(|volume| volume.make((parent, name), false))
    }

    fn mkdir(&self, _: &Caller, parent: Node, name: &[u8], _: u32) -> Result<Entry, Errno> {
        self.with(|volume| volume.make((parent, name), true))
    }

    fn unlink(&self, _: &Caller, parent: Node, name: &[u8]) -> Result<(), Errno> {
        self.with(|volume| volume.unlink((parent, name)))
    }

    fn rmdir(&self, _: &Caller, parent: Node, name: &[u8]) -> Result<(), Errno> {
        self.with(|volume| volume.rmdir((parent, name)))
    }

    fn rename(
        &self,
        _: &Caller,
        from: (Node, &[u8]),
        to: (Node, &[u8]),
        flags: u32,
    ) -> Result<(), Errno> {
        let mode = match flags {
            0 => RenameMode::Replace,
            libc::RENAME_NOREPLACE => RenameMode::NoReplace,
            _ => return Err(Errno::EINVAL),
        };
        self.with(|volume| volume.rename(from, to, mode))
    }

    fn open(&self, _: &Caller, node: Node, _: i32) -> Result<Opened, Errno> {
        read_only::open(&self.with(|volume| volume.attributes(node))?)
    }

    fn accessed(&self, node: Node, time: Time) -> Result<(), Errno> {
        self.with(|volume| volume.accessed(node, time))
    }

    fn read(&self, node: Node, _: Handle, at: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.with(|volume| volume.read(node, at, buffer))
    }

    fn write(&self, node: Node, _: Handle, at: u64, data: &[u8]) -> Result<usize, Errno> {
        self.with(|volume| volume.write(node, at, data))
    }

    fn flush(&self, node: Node, _: Handle) -> Result<(), Errno> {
        self.with(|volume| volume.settle(node))
    }

    fn fsync(&self, _: Node, _: Handle, _: bool) -> Result<(), Errno> {
        self.with(Volume::sync)
    }

    fn readdir(
        &self,
        _: &Caller,
        node: Node,
        _: Handle,
        each: &mut dyn FnMut(DirEntry),
    ) -> Result<(), Errno> {
        self.with(|volume| volume.list(node, each))
    }

    fn fsyncdir(&self, _: Node, _: bool) -> Result<(), Errno> {
        self.with(Volume::sync)
    }

    fn statfs(&self, _: Node) -> Result<StatFs, Errno> {
        self.with(Volume::statfs)
    }

    fn sync(&self) -> Result<(), Errno> {
        self.with(Volume::sync)
    }

    fn stop(&self) {
        let Some(mut volume) = self.volume.lock().take() else { return };
        if let Err(errno) = volume.finish() {
            tracing::error!("vufusefatfs: not unmounted as it should be: {errno}; run fsck");
        }
    }
}
