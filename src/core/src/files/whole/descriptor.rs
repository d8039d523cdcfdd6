//! Files that guests have open by descriptors, and how they are taken away.

use std::{
    fmt, fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            ffi::OsStringExt,
            fs::{FileTypeExt, MetadataExt},
        },
    },
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::socket::{MsgFlags, send},
};
use umvu_abi::{
    Errno, Tid,
    files::{Caller, GuestFile, OpenFile},
};

use super::backing;
use crate::{
    Core,
    files::holders,
    paths::{
        magic::{lead, shown},
        resolve::Magic,
    },
};

/// How long guests may take to notice that a file is taken away.
const PATIENCE: Duration = Duration::from_secs(2);

/// A file by its number.
pub(super) struct Descriptor {
    core: Weak<Core>,
    identity: (u64, u64),
    link: PathBuf,
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Descriptor({})", self.link.display())
    }
}

impl Descriptor {
    /// What a guest has open at a number. Errors: `EBADF`.
    pub(super) fn of(core: &Weak<Core>, tid: Tid, descriptor: i32) -> Result<Self, Errno> {
        let path = format!("/proc/{tid}/fd/{descriptor}");
        let link = fs::read_link(&path).map_err(|_| Errno::EBADF)?;
        let found = fs::metadata(&path).map_err(|_| Errno::EBADF)?;
        Ok(Self { core: Weak::clone(core), identity: (found.dev(), found.ino()), link })
    }

    /// The processes that have it open, with one of their descriptors for it.
    fn holders(&self, core: &Core) -> Vec<(i32, i32)> {
        holders::of(core, |link| link == self.link)
    }
}

impl GuestFile for Descriptor {
    fn inode(&self) -> u64 {
        self.identity.1
    }

    fn is_open(&self) -> bool {
        self.core.upgrade().is_some_and(|core| !self.holders(&core).is_empty())
    }

    fn revoke(&self, end: Arc<OwnedFd>) {
        let Some(core) = self.core.upgrade() else { return };
        core.objects.revoke(self.link.as_os_str());
        let holders = self.holders(&core);
        let threads: Vec<Tid> =
            holders.iter().flat_map(|(process, _)| holders::threads_of(*process)).collect();
        let control = core.control.lock().clone();
        if let Some(control) = control {
            control.watch(&threads, PATIENCE);
        }
        for (process, descriptor) in holders {
            if let Ok(file) = umvu_tracer::fetch_descriptor(process, descriptor) {
                // When it is full there is something unread already.
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                let _ = send(file.as_raw_fd(), b"\0", flags);
            }
        }
        drop(end);
        core.objects.closed_revoked(self.link.as_os_str());
    }
}

/// What a guest has open at a number, to be used in its place. Errors: `EBADF`, `EINVAL` for what is neither a
/// regular file nor a block device, those of opening a virtual file once more.
pub(super) fn opened(core: &Core, tid: Tid, descriptor: i32) -> Result<OpenFile, Errno> {
    let path = format!("/proc/{tid}/fd/{descriptor}");
    let link = fs::read_link(&path).map_err(|_| Errno::EBADF)?.into_os_string().into_vec();
    let file = umvu_tracer::fetch_descriptor(core.paths.leader(tid).0, descriptor)?;
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL).map_err(io::Error::from)?);
    let writable = !flags.contains(OFlag::O_PATH) && flags & OFlag::O_ACCMODE == OFlag::O_RDWR;
    let shown = shown(core, tid, path.as_bytes()).unwrap_or_else(|| link.clone());
    if let Magic::Inode(inode) = lead(core, path.as_bytes(), link)? {
        let looks = inode.attributes(&Caller::root())?;
        if !matches!(looks.kind(), libc::S_IFREG | libc::S_IFBLK) {
            return Err(Errno::EINVAL);
        }
        let backing = backing::of_inode(core, &inode, Tid(0), writable)?;
        let dev = inode.files.dev_of(&looks);
        return Ok(OpenFile { backing, path: shown, writable, dev, ino: looks.ino });
    }
    let file = fs::File::from(file);
    let found = file.metadata()?;
    if !(found.is_file() || found.file_type().is_block_device()) {
        return Err(Errno::EINVAL);
    }
    let (dev, ino) = (found.dev(), found.ino());
    Ok(OpenFile { backing: backing::of_file(file), path: shown, writable, dev, ino })
}
