//! A connection: bytes go both ways between the guest's end and the stack.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use umvu_abi::{Errno, net::StreamState};
use umvu_reactor::{Interest, Registration};

use super::{
    super::{Virtual, ffi, unix},
    State, Stream,
};

/// How many transfers one run makes before it lets other sources run.
const ROUNDS: usize = 8;

/// `SO_SNDBUF` and `SO_RCVBUF` of a socket that was never told (`net.core.wmem_default`).
const DEFAULT_BUFFER: i32 = 212_992;

pub(super) struct Pipe {
    pub(super) end: OwnedFd,
    _registration: Registration,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// Both directions are shut: the guest has closed its end.
    pub(super) hung_up: bool,
    /// The guest's end-of-file has been passed on as FIN.
    guest_done: bool,
    /// The peer's FIN has been passed on to the guest.
    peer_done: bool,
    /// The guest closed its reading side: received data is dropped.
    deaf: bool,
    /// A connect(2) has returned 0: the next one is an error.
    pub(super) told: bool,
}

impl Stream {
    /// Moves bytes both ways; returns whether the guest has closed its end.
    pub(super) fn pump(&self, one: &Virtual, pipe: &mut Pipe) -> bool {
        for _ in 0..ROUNDS {
            let sent = self.take_from_guest(pipe);
            let received = self.give_to_guest(pipe);
            if pipe.guest_done && pipe.hung_up {
                return true;
            }
            if !sent && !received {
                return self.follow_peer(one, pipe);
            }
        }
        one.wake();
        false
    }

    /// Guest to stack. Returns whether bytes moved.
    fn take_from_guest(&self, pipe: &mut Pipe) -> bool {
        if !pipe.readable || pipe.guest_done {
            return false;
        }
        let mut ended = false;
        let mut reset = false;
        let end = &pipe.end;
        let readable = &mut pipe.readable;
        let moved = self.socket.transmit(&mut |room| match unix::receive(end, room) {
            Ok(0) => {
                ended = !room.is_empty();
                Ok(0)
            }
            Ok(count) => Ok(count),
            Err(error) => {
                *readable = false;
                reset = error.kind() == io::ErrorKind::ConnectionReset;
                Ok(0)
            }
        });
        // With SO_LINGER and no time a close is a reset, and no FIN goes before (socket(7)).
        reset |= ended && unix::is_hung_up(&pipe.end) && self.lingers_not();
        if reset {
            // The guest closed with unread data: Linux answers with RST (RFC 9293, 3.10.7.4).
            self.socket.reset();
            pipe.guest_done = true;
            pipe.deaf = true;
        } else if ended {
            pipe.guest_done = true;
            pipe.readable = false;
            let _ = self.socket.finish();
        }
        moved.is_ok_and(|count| count > 0)
    }

    fn lingers_not(&self) -> bool {
        let linger = self.socket.option(libc::SOL_SOCKET, libc::SO_LINGER, &[]);
        linger.is_ok_and(|linger| linger == [1_i32.to_ne_bytes(), [0; 4]].concat())
    }

    /// Stack to guest. Returns whether bytes moved.
    fn give_to_guest(&self, pipe: &mut Pipe) -> bool {
        if !pipe.writable {
            return false;
        }
        let end = &pipe.end;
        let writable = &mut pipe.writable;
        let deaf = &mut pipe.deaf;
        let moved = self.socket.receive(&mut |data| {
            if *deaf {
                return Ok(data.len());
            }
            match unix::send(end, data) {
                Ok(count) => Ok(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    *writable = false;
                    Ok(0)
                }
                Err(_) => {
                    *deaf = true;
                    Ok(data.len())
                }
            }
        });
        moved.is_ok_and(|count| count > 0)
    }

    /// Passes on what the peer did; returns whether the stream is over.
    fn follow_peer(&self, one: &Virtual, pipe: &mut Pipe) -> bool {
        match self.socket.state() {
            StreamState::Established { peer_closed } => {
                if peer_closed && !pipe.peer_done {
                    pipe.peer_done = true;
                    unix::shutdown_write(&pipe.end);
                }
                false
            }
            StreamState::Closed => {
                unix::shutdown_write(&pipe.end);
                true
            }
            StreamState::Broken(_) | StreamState::Refused(_) => {
                // Who has seen the end of the data gets no error for reading on.
                if !pipe.peer_done {
                    self.leave_unread_data(one);
                }
                true
            }
            StreamState::Fresh | StreamState::Connecting | StreamState::Listening => false,
        }
    }

    /// Puts a byte into our end's queue, through the guest's socket, so that closing our end shows
    /// as ECONNRESET.
    fn leave_unread_data(&self, one: &Virtual) {
        if let Some(socket) = self.find_again(one) {
            let _ = unix::send(&socket, &[0]);
        }
    }

    /// Follows a setsockopt(2) of `SO_SNDBUF` or `SO_RCVBUF`.
    pub(crate) fn resize(&self, guest: &OwnedFd) {
        if let State::Joined(pipe) = &*self.state.lock() {
            self.size(guest, libc::SO_SNDBUF);
            self.size(&pipe.end, libc::SO_RCVBUF);
        }
    }

    /// Gives one end of the pair, as its send buffer, what the guest has asked for by an option;
    /// as much as possible if it never has.
    pub(super) fn size(&self, end: &OwnedFd, option: i32) {
        let value = self.socket.option(libc::SOL_SOCKET, option, &[]).unwrap_or_default();
        match value.first_chunk().map(|value| i32::from_ne_bytes(*value)) {
            Some(doubled) if doubled != DEFAULT_BUFFER => {
                let half = (doubled / 2).to_ne_bytes();
                let _ = ffi::set_socket_option(end, libc::SO_SNDBUF, &half);
            }
            _ => unix::widen(end),
        }
    }

    pub(super) fn join_accepted(&self, one: &Virtual, end: OwnedFd) {
        self.size(&end, libc::SO_RCVBUF);
        if let Ok(pipe) = Pipe::new(one, end) {
            *self.state.lock() = State::Joined(pipe);
            one.wake();
        }
    }
}

impl Pipe {
    pub(super) fn new(one: &Virtual, end: OwnedFd) -> Result<Self, Errno> {
        // Urgent data of the guest is data: smoltcp knows no urgent pointer.
        let _ = ffi::set_socket_option(&end, libc::SO_OOBINLINE, &1_i32.to_ne_bytes());
        let registration = one.handle()?.watch(end.as_fd(), Interest::ReadWrite)?;
        Ok(Self {
            end,
            _registration: registration,
            readable: true,
            writable: true,
            hung_up: false,
            guest_done: false,
            peer_done: false,
            deaf: false,
            told: true,
        })
    }
}
