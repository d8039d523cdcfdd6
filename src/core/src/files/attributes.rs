//! From what the host says about a file to [`Attributes`].

use std::{fs::Metadata, os::unix::fs::MetadataExt};

use umvu_abi::files::{Attributes, Time};

fn time(seconds: i64, nanos: i64) -> Time {
    Time { seconds, nanos: u32::try_from(nanos).unwrap_or(0) }
}

/// The modification time of a file of the host.
pub(crate) fn mtime(found: &Metadata) -> Time {
    time(found.mtime(), found.mtime_nsec())
}

/// What a file of the host looks like, its device number included.
pub(crate) fn of_host(found: &Metadata) -> Attributes {
    let btime = found.created().ok().and_then(|at| {
        let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(Time { seconds: since.as_secs().try_into().ok()?, nanos: since.subsec_nanos() })
    });
    Attributes {
        dev: Some(found.dev()),
        ino: found.ino(),
        mode: found.mode(),
        nlink: u32::try_from(found.nlink()).unwrap_or(u32::MAX),
        uid: found.uid(),
        gid: found.gid(),
        rdev: found.rdev(),
        size: found.size(),
        blocks: found.blocks(),
        blksize: u32::try_from(found.blksize()).unwrap_or(4096),
        atime: time(found.atime(), found.atime_nsec()),
        mtime: mtime(found),
        ctime: time(found.ctime(), found.ctime_nsec()),
        btime,
    }
}
