//! Times of access: when a read changes them (`relatime_need_update` of Linux).
//!
//! Guests read in the kernel, which notes it at the file of ours that keeps the content. That is set back to
//! a time long gone ([`UNREAD`]) whenever it has been looked at, so that any later one tells of a read since.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use nix::sys::{stat::futimens, time::TimeSpec};
use umvu_abi::files::{Attributes, Caller, Time};

use super::{Inode, MountedFiles, flags::Flags};

/// The time of access of what nobody has read, in seconds: older than any that counts.
const UNREAD: i64 = 1;
const DAY: i64 = 24 * 60 * 60;

/// Opens a file of ours so that what we read of it is not noted. Errors: those of open(2).
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOATIME).open(path)
}

/// Whether it matters in a mount when its files are read.
pub(super) fn matter(files: &MountedFiles) -> bool {
    let flags = files.flags();
    files.traits.keeps_access_times && !flags.has(libc::MS_NOATIME) && !flags.read_only()
}

/// Forgets who has read a file of ours.
pub(super) fn forget(file: &File) {
    let omit = TimeSpec::new(0, libc::UTIME_OMIT);
    let _ = futimens(file, &TimeSpec::new(UNREAD, 0), &omit);
}

/// When a guest has read a file of ours; None for not at all.
pub(super) fn since(file: &File) -> Option<Time> {
    let found = file.metadata().ok()?;
    let nanos = u32::try_from(found.atime_nsec()).unwrap_or(0);
    (found.atime() != UNREAD).then(|| Time { seconds: found.atime(), nanos })
}

/// Whether a read at a moment changes the time of access of a file, which looks so then.
pub(super) fn is_due(flags: Flags, looks: &Attributes, read: Time) -> bool {
    let Attributes { atime, mtime, ctime, .. } = *looks;
    let is_old = || atime <= mtime || atime <= ctime || read.seconds - atime.seconds >= DAY;
    match () {
        () if flags.has(libc::MS_NOATIME) || atime == read => false,
        () if flags.has(libc::MS_NODIRATIME) && looks.is_directory() => false,
        () => !flags.has(libc::MS_RELATIME) || is_old(),
    }
}

impl Inode {
    /// A directory was listed, or a symbolic link read.
    pub(crate) fn was_read(self: &Arc<Self>) {
        let files = &self.files;
        if !matter(files) {
            return;
        }
        let now = Time::now();
        if let Ok(fs) = files.ask()
            && let Ok(looks) = fs.getattr(&Caller::root(), self.node, None)
            && is_due(files.flags(), &looks, now)
        {
            let _ = fs.accessed(self.node, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(atime: i64, mtime: i64, ctime: i64) -> Attributes {
        let time = |seconds| Time { seconds, nanos: 0 };
        Attributes {
            mode: libc::S_IFDIR,
            atime: time(atime),
            mtime: time(mtime),
            ctime: time(ctime),
            ..Attributes::default()
        }
    }

    #[test]
    fn relatime_is_that_of_linux() {
        let now = Time { seconds: 1_000_000, nanos: 0 };
        let due = |flags, looks: Attributes| is_due(Flags::of(flags), &looks, now);
        assert!(due(0, looks(900_000, 900_000, 100)));
        assert!(due(0, looks(999_000, 100, 999_001)));
        assert!(due(0, looks(900_000, 100, 100)));
        assert!(!due(0, looks(999_000, 100, 100)));
        assert!(due(libc::MS_STRICTATIME, looks(999_000, 100, 100)));
        assert!(!due(libc::MS_NOATIME, looks(100, 900_000, 100)));
        assert!(!due(libc::MS_NODIRATIME, looks(100, 900_000, 100)));
    }
}
