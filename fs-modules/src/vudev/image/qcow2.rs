//! qcow2, the images of QEMU, by the library imago: also compressed ones, and those with an image
//! behind them, in any format that is known here.
#![expect(unsafe_code, reason = "the library's trait of storage has unsafe functions")]

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use imago::{
    DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, Storage,
    io_buffers::{IoVector, IoVectorMut},
    qcow2::Qcow2,
    raw::Raw,
    storage::{PreallocateMode, drivers::CommonStorageHelper},
};
use umvu_abi::{Errno, files::Backing, module::MountError};

use super::{Surroundings, big, known};

/// What a header says of an image that was not closed, or is known to be damaged.
const DIRTY: u64 = 1;
const CORRUPT: u64 = 2;
const CLUSTER_BITS: std::ops::RangeInclusive<u64> = 9..=21;
/// Of the width of a count.
const WIDEST_ORDER: u64 = 6;
const TABLE_LIMIT: u64 = 8 << 20;
/// The longest name of an image behind.
const NAME_LIMIT: u64 = 1023;

/// Opens an image. Errors: `EOPNOTSUPP`, `EUCLEAN`, `EIO`, those of opening the images behind it.
pub(super) fn open(
    image: Arc<dyn Backing>,
    around: &Surroundings<'_>,
) -> Result<Arc<dyn Backing>, MountError> {
    let behind = match backing_name(&image)? {
        Some(name) => {
            let (file, around) = around.file(&name, false)?;
            let disk = known(Arc::clone(&file), &around)?.unwrap_or(file);
            Some(access(|| Raw::builder(Medium::new(disk)).open(DenyImplicitOpenGate::default()))?)
        }
        None => None,
    };
    if around.writable {
        check_counts(&image)?;
    }
    let disk = access(|| {
        let builder = Qcow2::<Medium>::builder(Medium::new(Arc::clone(&image)));
        let builder = builder.write(around.writable).backing(behind);
        builder.open(DenyImplicitOpenGate::default())
    })?;
    Ok(Arc::new(Disk { disk, image }))
}

/// The name of the image behind, as the header has it. Errors: `EUCLEAN`, `EOPNOTSUPP`.
fn backing_name(image: &Arc<dyn Backing>) -> Result<Option<Vec<u8>>, MountError> {
    let mut header = [0; 104];
    image.read_at(0, &mut header)?;
    let (at, length) = (big(&header, 8, 8), big(&header, 16, 4));
    if big(&header, 32, 4) != 0 {
        let reason = "an encrypted qcow2 image: convert it (qemu-img convert)";
        return Err(MountError::new(Errno::EOPNOTSUPP, reason));
    }
    if at == 0 || length == 0 {
        return Ok(None);
    }
    let mut name = vec![0; usize::try_from(length.min(NAME_LIMIT)).unwrap_or(0)];
    if image.read_at(at, &mut name)? != name.len() || length > NAME_LIMIT {
        return Err(MountError::new(Errno::EUCLEAN, "the header of the qcow2 image is damaged"));
    }
    if name.starts_with(b"json:") {
        let reason = "an image behind it that is no file: convert it (qemu-img convert)";
        return Err(MountError::new(Errno::EOPNOTSUPP, reason));
    }
    Ok(Some(name))
}

/// Whether an image can be written to: the library goes round in circles where the counts of references
/// do not cover the image. Errors: `EUCLEAN`, `EIO`.
fn check_counts(image: &Arc<dyn Backing>) -> Result<(), MountError> {
    let damaged = || {
        let reason = "the counts of the qcow2 image are damaged: repair it (qemu-img check -r all), \
                      or mount it with -r";
        MountError::new(Errno::EUCLEAN, reason)
    };
    let mut header = [0; 104];
    image.read_at(0, &mut header)?;
    let is_newer = big(&header, 4, 4) > 2;
    let (bits, order) = (big(&header, 20, 4), if is_newer { big(&header, 96, 4) } else { 4 });
    let is_open = is_newer && big(&header, 72, 8) & (DIRTY | CORRUPT) != 0;
    if is_open || !CLUSTER_BITS.contains(&bits) || order > WIDEST_ORDER {
        return Err(damaged());
    }
    let cluster = 1_u64 << bits;
    let (at, length) = (big(&header, 48, 8), big(&header, 56, 4) * cluster);
    let counted = (cluster * 8) >> order;
    let clusters = image.size()?.div_ceil(cluster);
    let blocks = clusters.div_ceil(counted);
    if !at.is_multiple_of(cluster) || at == 0 || blocks > length / 8 || length > TABLE_LIMIT {
        return Err(damaged());
    }
    let mut table = vec![0; usize::try_from(blocks * 8).map_err(|_| damaged())?];
    let got = image.read_at(at, &mut table)?;
    let is_there = |entry: &[u8; 8]| {
        let place = u64::from_be_bytes(*entry);
        place != 0 && place.is_multiple_of(cluster) && place / cluster < clusters
    };
    if got == table.len() && table.as_chunks().0.iter().all(is_there) {
        Ok(())
    } else {
        Err(damaged())
    }
}

/// Runs the library, which is not to take anybody along.
fn access<T: imago::format::drivers::FormatDriverInstance<Storage = Medium> + 'static>(
    open: impl FnOnce() -> io::Result<T>,
) -> Result<FormatAccess<Medium>, MountError> {
    let opened = catch_unwind(AssertUnwindSafe(|| open().map(FormatAccess::new)));
    match opened {
        Ok(Ok(disk)) => Ok(disk),
        Ok(Err(error)) => {
            let errno = match error.kind() {
                io::ErrorKind::Unsupported => Errno::EOPNOTSUPP,
                _ => error.raw_os_error().map_or(Errno::EUCLEAN, Errno),
            };
            Err(MountError::new(errno, format!("the qcow2 image cannot be opened: {error}")))
        }
        Err(_) => Err(MountError::new(Errno::EUCLEAN, "the qcow2 image is damaged")),
    }
}

/// An image as the library sees it.
#[derive(Debug)]
struct Medium {
    image: Arc<dyn Backing>,
    helper: CommonStorageHelper,
}

impl Medium {
    fn new(image: Arc<dyn Backing>) -> Self {
        Self { image, helper: CommonStorageHelper::default() }
    }
}

impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("image")
    }
}

fn failed(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.0)
}

impl Storage for Medium {
    fn size(&self) -> io::Result<u64> {
        self.image.size().map_err(failed)
    }

    // SAFETY: the function is unsafe for the sake of concurrent writes, which the library keeps apart;
    // it has no other condition.
    unsafe fn pure_readv(&self, mut bufv: IoVectorMut<'_>, offset: u64) -> io::Result<()> {
        let length = usize::try_from(bufv.len()).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        let got = self.image.read_at(offset, &mut bytes).map_err(failed)?;
        bytes[got..].fill(0);
        bufv.copy_from_slice(&bytes);
        Ok(())
    }

    // SAFETY: as above.
    unsafe fn pure_writev(&self, bufv: IoVector<'_>, offset: u64) -> io::Result<()> {
        let length = usize::try_from(bufv.len()).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        bufv.copy_into_slice(&mut bytes);
        self.image.write_at(offset, &bytes).map_err(failed)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.image.flush().map_err(failed)
    }

    fn settle_writes(&self) -> io::Result<()> {
        Ok(())
    }

    // SAFETY: nothing is cached here.
    unsafe fn invalidate_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn get_storage_helper(&self) -> &CommonStorageHelper {
        &self.helper
    }

    fn resize(&self, new_size: u64, _: PreallocateMode) -> io::Result<()> {
        let size = self.size()?;
        match new_size.checked_sub(1) {
            Some(last) if new_size > size => self.image.write_at(last, &[0]).map_err(failed),
            _ => Ok(()),
        }
    }
}

/// The disk in an image.
struct Disk {
    disk: FormatAccess<Medium>,
    image: Arc<dyn Backing>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Qcow2")
    }
}

impl Disk {
    fn ask<T>(
        &self,
        work: impl FnOnce(&FormatAccess<Medium>) -> io::Result<T>,
    ) -> Result<T, Errno> {
        let done = catch_unwind(AssertUnwindSafe(|| work(&self.disk)));
        done.map_or(Err(Errno::EIO), |done| {
            done.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno))
        })
    }

    fn room(&self, offset: u64, length: usize) -> usize {
        let left = self.disk.size().saturating_sub(offset);
        usize::try_from(left).unwrap_or(usize::MAX).min(length)
    }
}

impl Backing for Disk {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let room = self.room(offset, buffer.len());
        self.ask(|disk| disk.read(&mut buffer[..room], offset))?;
        Ok(room)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let room = self.room(offset, data.len());
        self.ask(|disk| disk.write(&data[..room], offset))?;
        if room == data.len() { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.disk.size())
    }

    fn flush(&self) -> Result<(), Errno> {
        self.ask(|disk| disk.flush().and_then(|()| disk.sync()))
    }

    fn discard(&self, offset: u64, length: u64) -> Result<(), Errno> {
        let room = self.room(offset, usize::try_from(length).unwrap_or(usize::MAX));
        self.ask(|disk| disk.write_zeroes(offset, room as u64))
    }

    fn may_wait(&self) -> bool {
        self.image.may_wait()
    }
}
