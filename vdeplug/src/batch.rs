//! Many datagrams per system call.
//!
//! [`receive_frames`], [`receive_long`] and [`send`] wrap `recvmmsg(2)` and `sendmmsg(2)` for non-blocking sockets where a
//! datagram is a frame. Received datagrams land in a buffer that all sockets of a thread share;
//! only the bytes that arrived are copied out of it, so a plug costs no buffers while it is idle.

use std::{
    cell::RefCell,
    io::{IoSlice, IoSliceMut},
    os::fd::{AsRawFd, BorrowedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrLike, recvmmsg, sendmmsg},
};

use crate::{
    frame::{Frame, MAX_FRAME, is_wire_length},
    transport::Drops,
};

/// How many datagrams one system call moves at most.
const BATCH: usize = 64;
/// Space for a frame of the longest kind, and some more so that truncation shows.
const SLOT: usize = MAX_FRAME + 6;
/// Space for what a kernel may put into a tunnel: the longest datagram there is.
const LONG_SLOT: usize = 1 << 16;
/// How many of those one system call reads at most.
const LONG_BATCH: usize = 16;

thread_local! {
    static SLOTS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What one call of [`receive_long`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// How many datagrams were read.
    pub(crate) datagrams: usize,
    /// Whether the socket may hold more.
    pub(crate) more: bool,
}

/// Reads up to `budget` datagrams of any length, one system call, and passes each with its sender
/// to `each`.
pub(crate) fn receive_long<S: SockaddrLike + Copy>(
    socket: BorrowedFd<'_>,
    budget: usize,
    each: &mut dyn FnMut(&[u8], Option<S>),
) -> nix::Result<Received> {
    receive_slots(socket, budget.min(LONG_BATCH), LONG_SLOT, each)
}

/// The same for datagrams that are frames. Longer ones are passed as one byte, which is no frame.
fn receive<S: SockaddrLike + Copy>(
    socket: BorrowedFd<'_>,
    budget: usize,
    each: &mut dyn FnMut(&[u8], Option<S>),
) -> nix::Result<Received> {
    receive_slots(socket, budget.min(BATCH), SLOT, each)
}

fn receive_slots<S: SockaddrLike + Copy>(
    socket: BorrowedFd<'_>,
    count: usize,
    slot: usize,
    each: &mut dyn FnMut(&[u8], Option<S>),
) -> nix::Result<Received> {
    if count == 0 {
        return Ok(Received { datagrams: 0, more: true });
    }
    SLOTS.with_borrow_mut(|slots| {
        slots.resize(slots.len().max(count * slot), 0);
        let mut headers = MultiHeaders::<S>::preallocate(count, None);
        let mut buffers: Vec<_> =
            slots.chunks_exact_mut(slot).take(count).map(|b| [IoSliceMut::new(b)]).collect();
        let descriptor = socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        let messages = match recvmmsg(descriptor, &mut headers, buffers.iter_mut(), flags, None) {
            Ok(messages) => messages,
            // After a signal the descriptor is still readable, and the caller will be back.
            Err(Errno::EAGAIN | Errno::EINTR) => {
                return Ok(Received { datagrams: 0, more: false });
            }
            Err(error) => return Err(error),
        };
        let mut datagrams = 0;
        for message in messages {
            datagrams += 1;
            let whole = !message.flags.contains(MsgFlags::MSG_TRUNC);
            let bytes = message.iovs().next().unwrap_or_default();
            each(if whole { bytes } else { &[0] }, message.address);
        }
        Ok(Received { datagrams, more: datagrams == count })
    })
}

/// Passes up to `budget` frames from a connected datagram socket to `each`; returns how many.
pub(crate) fn receive_frames(
    socket: BorrowedFd<'_>,
    budget: usize,
    drops: &Drops,
    each: &mut dyn FnMut(Frame),
) -> nix::Result<usize> {
    let mut count = 0;
    loop {
        // A connection that ended reads as empty datagrams without end.
        let mut ended = true;
        let received = receive::<()>(socket, budget - count, &mut |bytes, _| {
            ended &= bytes.is_empty();
            if is_wire_length(bytes.len()) {
                count += 1;
                each(Frame::from(bytes.to_vec()));
            } else {
                drops.add(usize::from(!bytes.is_empty()));
            }
        });
        match received {
            Ok(Received { more: true, .. }) if count < budget && !ended => {}
            Ok(_) => return Ok(count),
            // What was read must not be lost; the error shows again at the next call.
            Err(_) if count > 0 => return Ok(count),
            Err(error) => return Err(error),
        }
    }
}

/// What came of [`send`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sent {
    /// How many datagrams are done with.
    pub(crate) done: usize,
    /// Why the socket refused the last of those that it refused for good.
    pub(crate) refusal: Option<Errno>,
}

/// Sends datagrams until the socket takes no more.
///
/// A datagram that the socket refuses for good is counted in `drops` and done with.
pub(crate) fn send<const PARTS: usize, S: SockaddrLike + Copy>(
    socket: BorrowedFd<'_>,
    packets: &[[IoSlice<'_>; PARTS]],
    addresses: &[Option<S>],
    drops: &Drops,
) -> Sent {
    let mut sent = Sent::default();
    let mut overdue = None;
    while sent.done < packets.len() {
        let end = packets.len().min(sent.done + BATCH);
        let mut headers = MultiHeaders::<S>::preallocate(end - sent.done, None);
        let descriptor = socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let none: [ControlMessage<'_>; 0] = [];
        let to = &addresses[sent.done..end];
        match sendmmsg(descriptor, &mut headers, &packets[sent.done..end], to, none, flags) {
            Ok(messages) => sent.done += messages.count().max(1),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN | Errno::ENOBUFS) => break,
            Err(error) => {
                // The first time, it may be what an earlier datagram earned.
                if is_from_afar(error) && overdue != Some(sent.done) {
                    overdue = Some(sent.done);
                } else {
                    drops.add(1);
                    sent.done += 1;
                }
                sent.refusal = Some(error);
            }
        }
    }
    sent
}

/// Whether an error is what an ICMP message said of a datagram sent earlier.
pub(crate) fn is_from_afar(error: Errno) -> bool {
    use Errno::{ECONNREFUSED, EHOSTDOWN, EHOSTUNREACH, ENETUNREACH};
    matches!(error, ECONNREFUSED | EHOSTUNREACH | ENETUNREACH | EHOSTDOWN)
}

/// Completes the frames of a batch, dropping those of a length that no wire carries.
pub(crate) fn wire_ready(frames: &mut Vec<Frame>, drops: &Drops) -> Vec<Vec<u8>> {
    let mut ready = Vec::with_capacity(frames.len());
    for frame in frames.drain(..) {
        if !frame.has_valid_length() {
            drops.add(1);
            continue;
        }
        frame.complete(&mut |bytes| {
            if is_wire_length(bytes.len()) {
                ready.push(bytes);
            } else {
                drops.add(1);
            }
        });
    }
    ready
}

/// Sends whole frames through a connected socket.
pub(crate) fn send_all<'a>(
    socket: BorrowedFd<'_>,
    packets: impl Iterator<Item = &'a Vec<u8>>,
    drops: &Drops,
) -> Sent {
    let slices: Vec<_> = packets.map(|bytes| [IoSlice::new(bytes)]).collect();
    let to: Vec<Option<()>> = vec![None; slices.len()];
    send(socket, &slices, &to, drops)
}
