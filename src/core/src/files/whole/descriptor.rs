//! Files that guests have open by descriptors, and how they are taken away.

use std::{
    fmt, fs,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use nix::sys::socket::{MsgFlags, send};
use umvu_abi::{Errno, Tid, files::GuestFile};

use crate::{Core, files::holders};

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
