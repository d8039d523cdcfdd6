//! [`Connection`]: a plug that libvdeplug holds, as a value that closes itself.
//!
//! The library's functions may block; only threads of their own call them (see `pump.rs`).
#![expect(unsafe_code, reason = "calls of a C library")]

use std::{
    collections::VecDeque,
    ffi::{CString, c_int},
    fmt, io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::{self, NonNull},
    time::Instant,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, recv},
};
use vde_sys::{LIBVDEPLUG_INTERFACE_VERSION, Libvdeplug, VDECONN};

use crate::{
    frame::{MAX_FRAME, is_wire_length},
    library::pump::{Far, Gone},
    transport::Drops,
};

/// Room for what a plugin may put around a frame before it takes it off again.
const ROOM: usize = MAX_FRAME + 64;
/// So many times in a row may a readable descriptor have nothing to read; then its end is there.
const MOST_EMPTY: u32 = 16;

/// An open connection.
pub(super) struct Connection {
    library: &'static Libvdeplug,
    plug: NonNull<VDECONN>,
    empty: u32,
    /// Whether the descriptor that tells of the far end's life can be read.
    watched: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("plug", &self.plug).finish_non_exhaustive()
    }
}

// SAFETY: nothing of the library is bound to the thread that opened a connection; a value is used
// by one thread at a time, because all methods that call it with effect need `&mut`.
unsafe impl Send for Connection {}

impl Connection {
    /// Opens the locator, however long that takes.
    pub(super) fn open(library: &'static Libvdeplug, vnl: &str, about: &str) -> nix::Result<Self> {
        let text = |text: &str| CString::new(text).map_err(|_| Errno::EINVAL);
        // The library's own buffers: some releases cut the text in place.
        let mut vnl = text(vnl)?.into_bytes_with_nul();
        let mut about = text(about)?.into_bytes_with_nul();
        let version = c_int::try_from(LIBVDEPLUG_INTERFACE_VERSION).map_err(|_| Errno::EINVAL)?;
        Errno::clear();
        // SAFETY: both texts end with a zero byte and outlive the call; no arguments may be null.
        let plug = unsafe {
            let (vnl, about) = (vnl.as_mut_ptr().cast(), about.as_mut_ptr().cast());
            library.vde_open_real(vnl, about, version, ptr::null_mut())
        };
        let plug = NonNull::new(plug).ok_or_else(Errno::last)?;
        Ok(Self { library, plug, empty: 0, watched: true })
    }

    /// The descriptor that polls readable when frames wait.
    fn data(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the connection is open.
        borrow(self, unsafe { self.library.vde_datafd(self.plug.as_ptr()) })
    }

    /// The descriptor that ends with the far end, if there is another one for that.
    fn control(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the connection is open.
        let control = borrow(self, unsafe { self.library.vde_ctlfd(self.plug.as_ptr()) });
        let data = self.data().map(|fd| fd.as_raw_fd());
        control.filter(|fd| self.watched && Some(fd.as_raw_fd()) != data)
    }

    /// Reads what nobody expects; its end is the far end's.
    fn is_cut_off(&mut self) -> bool {
        let Some(control) = self.control().map(|fd| fd.as_raw_fd()) else { return false };
        match recv(control, &mut [0; 256], MsgFlags::MSG_DONTWAIT) {
            Ok(0) => true,
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => false,
            Err(Errno::ENOTSOCK | Errno::EOPNOTSUPP) => {
                self.watched = false;
                false
            }
            Err(_) => true,
        }
    }

    /// What `poll(2)` says of the data descriptor now.
    fn look(&self) -> PollFlags {
        let Some(data) = self.data() else { return PollFlags::empty() };
        let mut descriptors = [PollFd::new(data, PollFlags::POLLIN)];
        let _ = poll(&mut descriptors, PollTimeout::ZERO);
        descriptors[0].revents().unwrap_or(PollFlags::empty())
    }
}

/// Borrows a descriptor of an open connection; None if it has none.
fn borrow(_owner: &Connection, descriptor: c_int) -> Option<BorrowedFd<'_>> {
    // SAFETY: the library keeps its descriptors open as long as the connection.
    (descriptor >= 0).then(|| unsafe { BorrowedFd::borrow_raw(descriptor) })
}

impl Far for Connection {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.data().into_iter().chain(self.control()).collect()
    }

    fn due(&mut self, _now: Instant) -> Option<Instant> {
        None
    }

    fn send(&mut self, packets: Vec<Vec<u8>>, drops: &Drops) {
        for packet in packets {
            // SAFETY: the connection is open, and the packet has as many bytes as it says.
            let sent = unsafe {
                let plug = self.plug.as_ptr();
                self.library.vde_send(plug, packet.as_ptr().cast(), packet.len(), 0)
            };
            drops.add(usize::from(sent < 0));
        }
    }

    fn receive(
        &mut self,
        into: &mut VecDeque<Vec<u8>>,
        budget: usize,
        drops: &Drops,
    ) -> Result<bool, Gone> {
        if self.is_cut_off() {
            return Err(Gone);
        }
        let mut buffer = [0; ROOM];
        for _ in 0..budget {
            let seen = self.look();
            if seen.is_empty() {
                return Ok(false);
            }
            // SAFETY: the connection is open, and the buffer has as many bytes as it says.
            let length = unsafe {
                let plug = self.plug.as_ptr();
                self.library.vde_recv(plug, buffer.as_mut_ptr().cast(), buffer.len(), 0)
            };
            let error = Errno::last();
            match usize::try_from(length) {
                Ok(length) if is_wire_length(length) => {
                    self.empty = 0;
                    into.push_back(buffer[..length].to_vec());
                }
                // One byte, or none: the plugin kept the frame for itself.
                Ok(length) => {
                    drops.add(usize::from(length > 1));
                    self.empty = if length > 0 { 0 } else { self.empty + 1 };
                }
                Err(_) if passes(error) => self.empty += 1,
                Err(_) => return Err(Gone),
            }
            let ended = seen.intersects(PollFlags::POLLHUP | PollFlags::POLLERR);
            if self.empty > MOST_EMPTY || (ended && self.empty > 0) {
                return Err(Gone);
            }
        }
        Ok(true)
    }
}

/// Whether an error says nothing about the connection's life.
fn passes(error: Errno) -> bool {
    use Errno::{
        EAGAIN, ECONNREFUSED, EHOSTUNREACH, EINTR, EMSGSIZE, ENETDOWN, ENETUNREACH, ENOBUFS,
    };
    [EAGAIN, ECONNREFUSED, EHOSTUNREACH, EINTR, EMSGSIZE, ENETDOWN, ENETUNREACH, ENOBUFS]
        .contains(&error)
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: the connection is open, and this is its last use.
        if unsafe { self.library.vde_close(self.plug.as_ptr()) } != 0 {
            tracing::debug!(error = %io::Error::last_os_error(), "libvdeplug cannot close a plug");
        }
    }
}
