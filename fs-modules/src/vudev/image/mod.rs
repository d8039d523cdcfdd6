//! `vudevvdi`: disks in image files, which are known by what is in them.
//!
//! Formats that are a map of blocks ([`blocks`]) differ in where the map is and where a new block goes.

mod blocks;
#[cfg(any(test, fuzzing))]
pub mod hostile;
mod qcow2;
mod vdi;
mod vhd;
mod vmdk;

use std::sync::Arc;

use umvu_abi::{
    Errno,
    files::{Backing, Outside},
    module::MountError,
};

/// How many images may stand behind each other.
const CHAIN_LIMIT: usize = 16;
/// How much of an image is looked at.
const START: usize = 512;

/// The other files that an image names.
pub(super) struct Surroundings<'a> {
    outside: &'a dyn Outside,
    /// The directory of the image, with a slash at its end.
    folder: Vec<u8>,
    writable: bool,
    depth: usize,
}

impl<'a> Surroundings<'a> {
    /// Of the image at an absolute path.
    pub(super) fn new(outside: &'a dyn Outside, path: &[u8], writable: bool) -> Self {
        Self { outside, folder: folder_of(path), writable, depth: 0 }
    }

    /// Opens a file that an image names relative to its own directory; returns what it names for that
    /// file. Errors: those of open(2), `ELOOP` when too many stand behind each other.
    fn file(&self, name: &[u8], writable: bool) -> Result<(Arc<dyn Backing>, Self), MountError> {
        if self.depth == CHAIN_LIMIT {
            return Err(MountError::new(Errno::ELOOP, "too many images behind each other"));
        }
        let name = name.strip_prefix(b"file:").unwrap_or(name);
        let path =
            if name.starts_with(b"/") { name.to_vec() } else { [&self.folder, name].concat() };
        let opened = self.outside.backing(&path, writable).map_err(|errno| {
            MountError::new(errno, format!("{}: {errno}", String::from_utf8_lossy(&path)))
        });
        let folder = folder_of(&path);
        Ok((opened?, Self { folder, writable, depth: self.depth + 1, ..*self }))
    }
}

fn folder_of(path: &[u8]) -> Vec<u8> {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    path[..slash.map_or(0, |slash| slash + 1)].to_vec()
}

/// Opens the disk in an image. Errors: `EINVAL` for what is none, `EOPNOTSUPP` for what is not known of
/// one, `EUCLEAN`, `EIO`.
pub(super) fn open(
    image: Arc<dyn Backing>,
    around: &Surroundings<'_>,
) -> Result<Arc<dyn Backing>, MountError> {
    known(image, around)?.ok_or_else(|| {
        let reason = "no VDI, VMDK, VHD or qcow2 image (a raw one mounts as vudevpartx)";
        MountError::new(Errno::EINVAL, reason)
    })
}

/// As [`open`]; None for a format that is not known.
fn known(
    image: Arc<dyn Backing>,
    around: &Surroundings<'_>,
) -> Result<Option<Arc<dyn Backing>>, MountError> {
    let mut start = [0; START];
    image.read_at(0, &mut start)?;
    if start.starts_with(b"QFI\xfb") {
        return qcow2::open(image, around).map(Some);
    }
    if start.starts_with(b"KDMV") || vmdk::is_descriptor(&start) {
        return vmdk::open(image, around).map(Some);
    }
    if start.starts_with(b"vhdxfile") {
        let reason = "a VHDX image: convert it (qemu-img convert -O qcow2)";
        return Err(MountError::new(Errno::EOPNOTSUPP, reason));
    }
    if vdi::is_image(&start) {
        return Ok(Some(Arc::new(vdi::open(image)?)));
    }
    vhd::open(&image)
}

/// A field of so many bytes, the least one first.
fn little(bytes: &[u8], at: usize, size: usize) -> u64 {
    let field = bytes.get(at..at + size).unwrap_or_default();
    field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A field of so many bytes, the greatest one first.
fn big(bytes: &[u8], at: usize, size: usize) -> u64 {
    let field = bytes.get(at..at + size).unwrap_or_default();
    field.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
