//! Captures: all frames of a plug, in a pcapng file that others may read while it grows.
//!
//! A [`CaptureFile`] holds one or several plugs, each of which is an interface there; [`Captured`]
//! is such a plug. `pcap://FILE{VNL}` is one too. What is written is what would be on a wire: long
//! segments are cut and checksums filled in. Each batch of frames is one write(2), so that the file
//! always ends with a whole block; what cannot be written ends the capture, not the network.
//!
//! Lock: that of the file, held while it is written.

mod blocks;

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{fd::BorrowedFd, unix::fs::OpenOptionsExt},
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use nix::errno::Errno;
use parking_lot::Mutex;

use self::blocks::Direction;
use crate::{
    error::OpenError,
    frame::Frame,
    transport::{Transport, Waker},
    vnl::Vnl,
};

/// Opens `pcap://FILE{VNL}`.
pub(crate) fn open(
    vnl: &Vnl,
    nested: &Vnl,
    inner: impl FnOnce(&Vnl) -> Result<Arc<dyn Transport>, OpenError>,
) -> Result<Arc<dyn Transport>, OpenError> {
    vnl.parameters.resolve("pcap", &[])?;
    let place = vnl.to_string();
    let file = CaptureFile::create(Path::new(&vnl.path))
        .map_err(OpenError::system(&place, "making the file"))?;
    let interface = Interface { name: "vde0", about: &nested.to_string(), mac: None };
    let plug = file.capture(&interface, inner(nested)?);
    Ok(Arc::new(plug.map_err(OpenError::system(&place, "writing the file"))?))
}

/// What a capture tells of an interface.
#[derive(Debug, Clone, Copy)]
pub struct Interface<'a> {
    /// Its name.
    pub name: &'a str,
    /// The network that it is joined to.
    pub about: &'a str,
    /// Its hardware address.
    pub mac: Option<[u8; 6]>,
}

/// A pcapng file that is written.
#[derive(Debug)]
pub struct CaptureFile {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// None: it could not be written.
    file: Option<File>,
    interfaces: u32,
    buffer: Vec<u8>,
}

impl CaptureFile {
    /// Makes a file, or empties it.
    ///
    /// # Errors
    /// Those of open(2), and `EINVAL` for what is no regular file: a capture must not wait for a
    /// reader.
    pub fn create(path: &Path) -> io::Result<Arc<Self>> {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        // Emptied only when it is known to be a file.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).custom_flags(flags).mode(0o600);
        let mut file = options.open(path)?;
        if !file.metadata()?.is_file() {
            return Err(Errno::EINVAL.into());
        }
        file.set_len(0)?;
        let mut buffer = Vec::new();
        blocks::section(&mut buffer, concat!("umvu ", env!("CARGO_PKG_VERSION")));
        file.write_all(&buffer)?;
        buffer.clear();
        let state = State { file: Some(file), interfaces: 0, buffer };
        Ok(Arc::new(Self { state: Mutex::new(state) }))
    }

    /// Has the frames of a plug written from now on.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn capture(
        self: &Arc<Self>,
        interface: &Interface<'_>,
        inner: Arc<dyn Transport>,
    ) -> io::Result<Captured> {
        let mut state = self.state.lock();
        let mut block = Vec::new();
        blocks::interface(&mut block, interface.name, interface.about, interface.mac);
        if let Some(file) = &mut state.file {
            file.write_all(&block)?;
        }
        let number = state.interfaces;
        state.interfaces += 1;
        Ok(Captured { inner, file: Arc::clone(self), number })
    }

    fn record<'a>(
        &self,
        interface: u32,
        direction: Direction,
        frames: impl ExactSizeIterator<Item = &'a Frame>,
    ) {
        if frames.len() == 0 {
            return;
        }
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut state = self.state.lock();
        let State { file: Some(file), buffer, .. } = &mut *state else { return };
        for frame in frames {
            if frame.offload.is_none() {
                blocks::packet(buffer, interface, time, direction, &frame.bytes);
            } else {
                let mut write =
                    |bytes: Vec<u8>| blocks::packet(buffer, interface, time, direction, &bytes);
                frame.clone().complete(&mut write);
            }
        }
        let written = file.write_all(buffer);
        buffer.clear();
        if let Err(error) = written {
            tracing::warn!(%error, "a capture ends: its file cannot be written");
            state.file = None;
        }
    }
}

/// A plug whose frames are captured.
#[derive(Debug)]
pub struct Captured {
    inner: Arc<dyn Transport>,
    file: Arc<CaptureFile>,
    number: u32,
}

impl Transport for Captured {
    fn send(&self, frames: &mut Vec<Frame>) {
        self.file.record(self.number, Direction::Outbound, frames.iter());
        self.inner.send(frames);
    }

    fn receive(&self, into: &mut VecDeque<Frame>, budget: usize) -> io::Result<usize> {
        let before = into.len();
        let received = self.inner.receive(into, budget);
        self.file.record(self.number, Direction::Inbound, into.range(before..));
        received
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.poll_fd()
    }

    fn set_waker(&self, waker: Waker) {
        self.inner.set_waker(waker);
    }

    fn accepts_offload(&self) -> bool {
        self.inner.accepts_offload()
    }

    fn inner(&self) -> Option<&dyn Transport> {
        Some(&*self.inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_refused_and_nothing_is_lost_by_that() {
        let directory = tempfile::tempdir().expect("a directory");
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let kept = OpenOptions::new().read(true).write(true).open(&pipe).expect("a pipe");
        let error = CaptureFile::create(&pipe).expect_err("a pipe");
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        drop(kept);
        let error = CaptureFile::create(directory.path()).expect_err("a directory");
        assert_eq!(error.raw_os_error(), Some(libc::EISDIR));
        let error = CaptureFile::create(Path::new("/nonexistent/x")).expect_err("no directory");
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn both_directions_of_several_plugs_are_in_one_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("all.pcapng");
        let file = CaptureFile::create(&path).expect("a file");
        let place = format!("switch://{}", directory.path().join("sw").display());
        let plugs = ["left", "right"].map(|name| {
            let inner = crate::open(&place, "test").expect("a plug");
            let interface = Interface { name, about: &place, mac: Some([2; 6]) };
            file.capture(&interface, inner).expect("a capture")
        });
        let before = std::fs::read(&path).expect("a file").len();
        plugs[0].send(&mut vec![Frame::from(vec![0xff; 60])]);
        let one = std::fs::read(&path).expect("a file").len() - before;
        let mut received = VecDeque::new();
        plugs[1].receive(&mut received, 9).expect("a plug");
        assert_eq!(received.len(), 1);
        let both = std::fs::read(&path).expect("a file").len() - before;
        assert_eq!(both, 2 * one, "written at once");
    }

    #[test]
    fn a_locator_names_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.pcapng");
        let vnl = format!("pcap://{}{{null://}}", path.display());
        let plug = crate::open(&vnl, "test").expect("a plug");
        plug.send(&mut vec![Frame::from(vec![0xff; 60])]);
        assert!(std::fs::read(&path).expect("a file").windows(60).any(|bytes| bytes == [0xff; 60]));
        let error =
            crate::open("pcap:///nonexistent/a{null://}", "test").expect_err("no directory");
        assert_eq!(error.errno(), libc::ENOENT);
    }
}
