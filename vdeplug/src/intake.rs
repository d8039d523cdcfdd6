//! [`Intake`]: frames from sockets without a copy, for whoever passes them on at once.
//!
//! The system writes each datagram into a buffer that becomes the frame; who has sent a frame
//! [`give`]s its buffer back to the thread. Frames that are longer than a buffer are put together
//! from it and from a place that all share. Compare `batch.rs`, whose callers keep what they get.

use std::{
    cell::RefCell,
    io::IoSliceMut,
    os::fd::{AsRawFd, BorrowedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, MultiHeaders, recvmmsg},
};

use crate::{
    frame::{Frame, MAX_FRAME, is_wire_length},
    transport::Drops,
};

/// How many datagrams one system call reads: a Unix socket mostly holds fewer.
const BATCH: usize = 16;
/// What most frames fit in.
const BUFFER: usize = 2048;
/// Space for the rest of the longest frame, and one byte more so that truncation shows.
const OVERFLOW: usize = MAX_FRAME + 1 - BUFFER;
/// Buffers that a thread keeps.
const MOST_BUFFERS: usize = 64;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Gives back the buffer of a frame that is not needed any more.
pub(crate) fn give(buffer: Vec<u8>) {
    if (BUFFER..=2 * BUFFER).contains(&buffer.capacity()) {
        BUFFERS.with_borrow_mut(|buffers| {
            if buffers.len() < MOST_BUFFERS {
                buffers.push(buffer);
            }
        });
    }
}

/// Returns a frame to be kept for long in no more space than it needs.
pub(crate) fn keep(bytes: Vec<u8>) -> Vec<u8> {
    if bytes.capacity() < BUFFER || bytes.len() * 2 > bytes.capacity() {
        return bytes;
    }
    let kept = bytes.to_vec();
    give(bytes);
    kept
}

/// Returns an empty buffer with room for so many bytes.
pub(crate) fn spare(length: usize) -> Vec<u8> {
    if length > BUFFER {
        return Vec::with_capacity(length);
    }
    let mut buffer = BUFFERS.with_borrow_mut(Vec::pop);
    buffer.as_mut().map(Vec::clear);
    buffer.unwrap_or_else(|| Vec::with_capacity(BUFFER))
}

fn buffer() -> Vec<u8> {
    let mut buffer = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default();
    buffer.resize(BUFFER, 0);
    buffer
}

/// What one thread reads with.
pub(crate) struct Intake {
    headers: MultiHeaders<()>,
    overflow: Vec<u8>,
    buffers: Vec<Vec<u8>>,
    /// Of the last call.
    lengths: Vec<usize>,
}

impl Intake {
    pub(crate) fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            overflow: vec![0; BATCH * OVERFLOW],
            buffers: Vec::new(),
            lengths: Vec::new(),
        }
    }

    /// Adds up to about `budget` frames from a connected datagram socket to `frames`.
    pub(crate) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        budget: usize,
        drops: &Drops,
        frames: &mut Vec<Frame>,
    ) -> nix::Result<()> {
        let before = frames.len();
        loop {
            match self.read(socket) {
                Ok(()) => {}
                // After a signal the descriptor is still readable, and the caller will be back.
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
                // What was read must not be lost; the error shows again at the next call.
                Err(_) if frames.len() > before => return Ok(()),
                Err(error) => return Err(error),
            }
            self.take(drops, frames);
            // A connection that ended reads as empty datagrams without end.
            let ended = self.lengths.iter().all(|length| *length == 0);
            let more = self.lengths.len() == BATCH;
            if !more || ended || frames.len() - before >= budget {
                return Ok(());
            }
        }
    }

    /// Reads datagrams into the first buffers.
    fn read(&mut self, socket: BorrowedFd<'_>) -> nix::Result<()> {
        self.lengths.clear();
        self.buffers.resize_with(BATCH, buffer);
        let overflow = self.overflow.chunks_exact_mut(OVERFLOW);
        let pairs = self.buffers.iter_mut().zip(overflow);
        let mut slices: Vec<_> =
            pairs.map(|(buffer, rest)| [IoSliceMut::new(buffer), IoSliceMut::new(rest)]).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        let read = recvmmsg(socket.as_raw_fd(), &mut self.headers, slices.iter_mut(), flags, None)?;
        for message in read {
            // One that is too long for any frame is none.
            let whole = !message.flags.contains(MsgFlags::MSG_TRUNC);
            self.lengths.push(if whole { message.bytes } else { 1 });
        }
        Ok(())
    }

    /// Makes frames of what was read.
    fn take(&mut self, drops: &Drops, frames: &mut Vec<Frame>) {
        let overflow = self.overflow.chunks_exact(OVERFLOW);
        let read = self.buffers.drain(..self.lengths.len()).zip(&self.lengths).zip(overflow);
        for ((mut buffer, length), overflow) in read {
            if !is_wire_length(*length) {
                drops.add(usize::from(*length > 0));
                give(buffer);
                continue;
            }
            match length.checked_sub(BUFFER) {
                Some(rest) => buffer.extend_from_slice(&overflow[..rest]),
                None => buffer.truncate(*length),
            }
            frames.push(Frame::from(buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsFd, unix::net::UnixDatagram};

    use super::*;

    #[test]
    fn frames_of_all_lengths_come_as_they_were_and_buffers_come_back() {
        let (left, right) = UnixDatagram::pair().expect("sockets");
        let mut intake = Intake::new();
        let drops = Drops::default();
        for round in 0..3_u8 {
            let sent: Vec<Vec<u8>> = [14, 60, 1514, 2047, 2048, 2049, 9000, 9234]
                .into_iter()
                .zip(round..)
                .map(|(length, byte): (usize, u8)| vec![byte; length])
                .collect();
            let mut frames = Vec::new();
            for bytes in &sent {
                left.send(bytes).expect("room");
                intake.receive(right.as_fd(), 8, &drops, &mut frames).expect("a socket");
            }
            let got: Vec<_> = frames.iter().map(|frame| frame.bytes.clone()).collect();
            assert_eq!(got, sent);
            frames.into_iter().for_each(|frame| give(frame.bytes));
        }
        assert!(BUFFERS.with_borrow(|buffers| (1..=MOST_BUFFERS).contains(&buffers.len())));
        assert_eq!(drops.get(), 0);
    }

    #[test]
    fn what_is_no_frame_is_dropped_and_an_empty_socket_is_no_error() {
        let (left, right) = UnixDatagram::pair().expect("sockets");
        let mut intake = Intake::new();
        let drops = Drops::default();
        let mut frames = Vec::new();
        for length in [13, 9235, 20_000] {
            left.send(&vec![7; length]).expect("room");
        }
        right.set_nonblocking(true).expect("a socket");
        intake.receive(right.as_fd(), 64, &drops, &mut frames).expect("a socket");
        intake.receive(right.as_fd(), 64, &drops, &mut frames).expect("an empty socket");
        assert_eq!((frames.len(), drops.get()), (0, 3));
    }

    #[test]
    fn what_is_kept_for_long_takes_no_more_than_it_needs() {
        let mut short = buffer();
        short.truncate(60);
        assert!(keep(short).capacity() < 100);
        assert!(keep(buffer()).capacity() >= BUFFER, "nothing to gain");
    }
}
