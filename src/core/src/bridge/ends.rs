//! The two ends of a socket: the one that the guest has, and ours, joined to it.

use std::{os::fd::OwnedFd, path::Path};

use nix::sys::socket::{SockType, UnixAddr};
use umvu_abi::Errno;

use super::{Hub, ffi, unix};

/// The name of the socket at which ends are joined.
const RENDEZVOUS: &str = "r";

impl Hub {
    /// Joins the guest's stream socket to a new end of ours.
    pub(super) fn join(&self, guest: &OwnedFd) -> Result<OwnedFd, Errno> {
        let mut rendezvous = self.rendezvous.lock();
        let listener = match rendezvous.take() {
            Some(listener) => listener,
            None => open_rendezvous(&self.directory)?,
        };
        // Any process of this user may connect there too: those ends are dropped.
        while unix::is_readable(&listener) {
            drop(unix::accept(&listener));
        }
        unix::connect_path(guest, &self.directory.join(RENDEZVOUS))?;
        let end = loop {
            let end = unix::accept(&listener)?;
            if unix::is_ours(&end) {
                break end;
            }
        };
        // Only now: a connection that stays in the queue would be taken for the next guest's.
        *rendezvous = Some(listener);
        Ok(end)
    }

    /// The same for a socket that must not look connected yet: fills its send buffer with junk, whose
    /// size is returned beside the end.
    pub(super) fn hold(&self, guest: &OwnedFd) -> Result<(OwnedFd, usize), Errno> {
        let end = self.join(guest)?;
        Ok((end, unix::fill_with_junk(guest)?))
    }

    /// Lets the end of a pair of datagram sockets leave the guest's socket with unread data in its
    /// queue, which gives that one an error, and joins them again.
    pub(super) fn leave_unread(
        &self,
        end: &OwnedFd,
        end_path: &Path,
        guest: &Path,
    ) -> Result<(), Errno> {
        let stranger = unix::create(SockType::Datagram, true)?;
        ffi::disconnect(end)?;
        unix::send_to(&stranger, &[], &UnixAddr::new(end_path).map_err(unix::errno)?)?;
        if let Err(errno) = unix::connect_path(end, guest) {
            // The guest is gone: nobody must take the datagram for one of its own.
            while unix::receive(end, &mut []).is_ok() {}
            return Err(errno);
        }
        ffi::disconnect(end)?;
        unix::connect_path(end, guest)
    }

    /// The same for a guest's socket that is not connected: it is for a moment.
    pub(super) fn raise_unpaired(&self, guest: &OwnedFd, path: &Path) -> Result<(), Errno> {
        let end = unix::create(SockType::Datagram, true)?;
        let end_path = self.path('p', self.fresh_id());
        unix::bind_path(&end, &end_path)?;
        let raised = unix::connect_path(guest, &end_path)
            .and_then(|()| self.leave_unread(&end, &end_path, path))
            .and_then(|()| ffi::disconnect(guest));
        let _ = std::fs::remove_file(end_path);
        raised
    }
}

/// The socket at which ends are joined. Errors: those of making it in the private directory.
pub(super) fn open_rendezvous(directory: &Path) -> Result<OwnedFd, Errno> {
    let path = directory.join(RENDEZVOUS);
    let _ = std::fs::remove_file(&path);
    let rendezvous = unix::create(SockType::Stream, true)?;
    unix::bind_path(&rendezvous, &path)?;
    unix::listen(&rendezvous, 128)?;
    Ok(rendezvous)
}
