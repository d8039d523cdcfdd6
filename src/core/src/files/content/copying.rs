//! From a file system to a file of ours, and back.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use nix::{
    fcntl::{FallocateFlags, fallocate},
    sys::{stat::futimens, time::TimeSpec},
};
use umvu_abi::{
    Errno,
    files::{Caller, Handle, Seek, Time},
};

use super::super::Inode;

/// How much is read from a file system at once.
const CHUNK: usize = 1 << 20;

/// Copies the content from the file system into a file, which has so many bytes, and its time.
pub(super) fn copy(
    inode: &Arc<Inode>,
    handle: Handle,
    into: &File,
    length: Option<u64>,
) -> Result<(), Errno> {
    let fs = inode.files.ask()?;
    let mut found = fs.getattr(&Caller::root(), inode.node, Some(handle))?;
    let before = length.map_or_else(|| into.metadata().map(|found| found.len()), Ok)?;
    let mut chunk = Vec::new();
    // Up to where data was written last, and up to where all is done.
    let (mut written, mut at) = (0, 0);
    while at < found.size {
        let data = match fs.seek(inode.node, handle, at, Seek::Data) {
            Ok(data) => data.min(found.size),
            Err(Errno::ENXIO) => found.size,
            Err(errno) => return Err(errno),
        };
        clear(into, at, data, before)?;
        at = data;
        if at == found.size {
            break;
        }
        let end = fs.seek(inode.node, handle, at, Seek::Hole)?.min(found.size);
        while at < end {
            chunk.resize(CHUNK.min(usize::try_from(end - at).unwrap_or(CHUNK)), 0);
            let got = fs.read(inode.node, handle, at, &mut chunk)?;
            if got == 0 {
                if inode.files.traits.parts_names {
                    // As the kernel takes it from programs of FUSE: the file ends here.
                    found.size = at;
                }
                break;
            }
            into.write_all_at(&chunk[..got], at)?;
            at += got as u64;
            written = at;
        }
        if at < end {
            clear(into, at, found.size, before)?;
            break;
        }
    }
    let size = found.size.max(at);
    if before.max(written) != size {
        into.set_len(size)?;
    }
    set_mtime(into, found.mtime);
    Ok(())
}

/// Writes data to a file of a file system. Errors: those of the file system.
pub(super) fn write_all(
    inode: &Inode,
    handle: Handle,
    mut at: u64,
    mut data: &[u8],
) -> Result<(), Errno> {
    while !data.is_empty() {
        let wrote = inode.files.fs.write(inode.node, handle, at, data)?;
        if wrote == 0 {
            return Err(Errno::EIO);
        }
        at += wrote as u64;
        data = data.get(wrote..).unwrap_or_default();
    }
    Ok(())
}

/// Makes a range of a file, which was so long, a hole.
fn clear(file: &File, from: u64, to: u64, length: u64) -> Result<(), Errno> {
    let end = length.min(to);
    if from >= end {
        return Ok(());
    }
    let offset = |at: u64| i64::try_from(at).map_err(|_| Errno::EFBIG);
    let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let cleared = fallocate(file, punch, offset(from)?, offset(end - from)?);
    cleared.map_err(|errno| io::Error::from(errno).into())
}

/// Sets the time of modification.
pub(super) fn set_mtime(file: &File, mtime: Time) {
    let omit = TimeSpec::new(0, libc::UTIME_OMIT);
    let to = TimeSpec::new(mtime.seconds, i64::from(mtime.nanos));
    // Without it the file is written back once for nothing.
    let _ = futimens(file, &omit, &to);
}
