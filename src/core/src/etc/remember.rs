//! A guest whose paths are read once for a call, however often they are looked at.

use std::{os::fd::OwnedFd, sync::Arc};

use parking_lot::Mutex;
use umvu_abi::{Errno, GuestAddr, GuestFd, Tid};
use umvu_tracer::api::{Call, FileIdentity, Guest};

/// Passes everything on, and keeps the strings.
struct Remembering {
    guest: Arc<dyn Guest>,
    strings: Mutex<Vec<(GuestAddr, Vec<u8>)>>,
}

/// The same call, whose strings are read once.
pub(super) fn remembering(call: &Call) -> Call {
    let guest = Arc::clone(&call.guest);
    let guest = Arc::new(Remembering { guest, strings: Mutex::default() });
    Call { guest, ..call.clone() }
}

impl Guest for Remembering {
    fn tid(&self) -> Tid {
        self.guest.tid()
    }

    fn read(&self, from: GuestAddr, buffer: &mut [u8]) -> Result<(), Errno> {
        self.guest.read(from, buffer)
    }

    fn read_some(&self, from: GuestAddr, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.guest.read_some(from, buffer)
    }

    fn write(&self, to: GuestAddr, data: &[u8]) -> Result<(), Errno> {
        self.guest.write(to, data)
    }

    fn read_string(&self, from: GuestAddr, limit: usize) -> Result<Vec<u8>, Errno> {
        let mut strings = self.strings.lock();
        let known = strings.iter().find(|(at, text)| *at == from && text.len() < limit);
        if let Some((_, text)) = known {
            return Ok(text.clone());
        }
        let text = self.guest.read_string(from, limit)?;
        strings.push((from, text.clone()));
        Ok(text)
    }

    fn fetch_fd(&self, fd: GuestFd) -> Result<OwnedFd, Errno> {
        self.guest.fetch_fd(fd)
    }

    fn identify_fd(&self, fd: GuestFd) -> Result<FileIdentity, Errno> {
        self.guest.identify_fd(fd)
    }

    fn fd_link(&self, fd: GuestFd) -> Result<Vec<u8>, Errno> {
        self.guest.fd_link(fd)
    }

    fn cwd_link(&self) -> Result<Vec<u8>, Errno> {
        self.guest.cwd_link()
    }

    fn signal(&self, signal: i32) {
        self.guest.signal(signal);
    }
}
