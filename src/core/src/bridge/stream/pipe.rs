//! A connection: bytes go both ways between the guest's end and the stack.

use std::{io, os::fd::OwnedFd, time::SystemTime};

use nix::poll::PollFlags;
use umvu_abi::{Errno, net::StreamState};
use umvu_reactor::{Interest, Registration};

use super::{
    super::{Virtual, alive, ffi, unix},
    State, Stream,
};

/// How many transfers one run makes before it lets other sources run.
const ROUNDS: usize = 8;
/// After so many bytes for the guest it is looked how many it has read.
const TOLD: usize = 64 * 1024;

pub(super) struct Pipe {
    end: Registration,
    /// Our end has the send buffer that it is to have.
    sized: bool,
    /// The reactor tells when the guest has made room.
    watched: bool,
    pub(super) readable: bool,
    /// The last read has taken as much as there was room for.
    filled: bool,
    /// The guest's end-of-file or urgent data is among what can be read.
    pub(super) marked: bool,
    pub(super) writable: bool,
    /// Both directions are shut: the guest has closed its end.
    pub(super) hung_up: bool,
    /// The guest has shut its end for writing, and may still have it.
    pub(super) shut: bool,
    /// The guest's end-of-file has been passed on as FIN.
    guest_done: bool,
    /// The peer's FIN has been passed on to the guest.
    pub(super) peer_done: bool,
    /// The guest closed its reading side: received data is dropped.
    deaf: bool,
    /// Bytes given to the guest since the stack was told how many it has not read.
    given: usize,
    /// When data last arrived for the guest.
    pub(super) arrived: Option<SystemTime>,
    /// A connect(2) has returned 0: the next one is an error.
    pub(super) told: bool,
}

/// When bytes are to go that fill no segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Push {
    Now,
    /// With those that follow.
    Later,
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
        let end = pipe.end.fd();
        let readable = &mut pipe.readable;
        // A read ends before the urgent byte, unless it begins with it. Of one that has come since the
        // last read nobody has told.
        let mut urgent = false;
        if pipe.marked || pipe.filled {
            let ahead = unix::look_ahead(end);
            if !ahead.contains(PollFlags::POLLIN) {
                *readable = false;
                return false;
            }
            urgent = ahead.contains(PollFlags::POLLPRI) && ffi::is_at_mark(end);
        }
        if urgent {
            self.socket.mark_urgent();
        }
        let filled = &mut pipe.filled;
        *filled = false;
        let moved = self.socket.transmit(&mut |room| {
            if *filled {
                return Ok(0);
            }
            let most = if urgent { room.len().min(1) } else { room.len() };
            let room = &mut room[..most];
            match unix::receive(end, room) {
                Ok(0) => {
                    ended = !room.is_empty();
                    Ok(0)
                }
                Ok(count) => {
                    // Less than there is room for was all of it, unless a mark has stopped the read.
                    *filled = count == room.len();
                    *readable = *filled || pipe.marked;
                    Ok(count)
                }
                Err(error) => {
                    *readable = false;
                    reset = error.kind() == io::ErrorKind::ConnectionReset;
                    Ok(0)
                }
            }
        });
        // With SO_LINGER and no time a close is a reset, and no FIN goes before (socket(7)).
        reset |= ended && self.lingers_not() && unix::is_hung_up(pipe.end.fd());
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

    /// Sends bytes that others are to follow in the same segment (`MSG_MORE`), behind what the guest has
    /// written before; returns how many the stack has taken, 0 when the kernel is to take them.
    pub(crate) fn send_more(&self, data: &[u8]) -> usize {
        let mut state = self.state.lock();
        let State::Joined(pipe) = &mut *state else { return 0 };
        pipe.readable = true;
        while self.take_from_guest(pipe) {}
        if pipe.readable || pipe.guest_done || pipe.shut {
            return 0;
        }
        self.queue(data, Push::Later)
    }

    /// Has the stack send bytes; returns how many it takes.
    pub(super) fn queue(&self, data: &[u8], push: Push) -> usize {
        let mut left = data;
        let mut fill = |room: &mut [u8]| {
            let (now, later) = left.split_at(room.len().min(left.len()));
            room[..now.len()].copy_from_slice(now);
            left = later;
            Ok(now.len())
        };
        let queued = match push {
            Push::Now => self.socket.transmit(&mut fill),
            Push::Later => self.socket.transmit_more(&mut fill),
        };
        queued.unwrap_or(0)
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
        let registration = &pipe.end;
        let end = registration.fd();
        let writable = &mut pipe.writable;
        let deaf = &mut pipe.deaf;
        let sized = &mut pipe.sized;
        let watched = &mut pipe.watched;
        let mut give = |data: &[u8], send: fn(&OwnedFd, &[u8]) -> io::Result<usize>| {
            if *deaf {
                return Ok(data.len());
            }
            loop {
                match send(end, data) {
                    Ok(count) => return Ok(count),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        // Most never come here, so that only now they are worth a call.
                        if std::mem::replace(sized, true) {
                            *writable = false;
                            if !std::mem::replace(watched, true) {
                                let _ = registration.change(Interest::ReadWrite);
                            }
                            return Ok(0);
                        }
                        unix::widen(end);
                    }
                    Err(_) => {
                        *deaf = true;
                        return Ok(data.len());
                    }
                }
            }
        };
        let moved = self.socket.receive(&mut |data| give(data, unix::send)).unwrap_or(0);
        let urgent = self.socket.receive_urgent(&mut |data| give(data, unix::send_urgent));
        let moved = moved + urgent.unwrap_or(0);
        if moved > 0 {
            pipe.arrived = Some(SystemTime::now());
            pipe.given += moved;
        }
        if pipe.given >= TOLD && !pipe.deaf {
            pipe.given = 0;
            self.socket.note_unread(ffi::unread(pipe.end.fd()));
        }
        moved > 0
    }

    /// Passes on what the peer did; returns whether the stream is over.
    fn follow_peer(&self, one: &Virtual, pipe: &mut Pipe) -> bool {
        match self.socket.state() {
            StreamState::Established { peer_closed } => {
                if peer_closed && !pipe.peer_done {
                    pipe.peer_done = true;
                    unix::shutdown_write(pipe.end.fd());
                }
                false
            }
            StreamState::Closed => {
                unix::shutdown_write(pipe.end.fd());
                true
            }
            StreamState::Broken(_) | StreamState::Refused(_) => {
                // Who has seen the end of the data gets no error for reading on.
                if !pipe.peer_done {
                    self.leave_unread_data(one, pipe);
                }
                true
            }
            StreamState::Fresh | StreamState::Connecting | StreamState::Listening => false,
        }
    }

    /// Puts a byte into our end's queue, through the guest's socket, so that closing our end shows
    /// as ECONNRESET.
    fn leave_unread_data(&self, one: &Virtual, pipe: &Pipe) {
        let socket = self.find_again(one).or_else(|| {
            // It has accepted it by itself, or given it to another process.
            let inode = Some(one.inode()).filter(|inode| *inode != 0);
            let inode = inode.or_else(|| pipe.inode().and_then(alive::peer_of))?;
            one.hub.upgrade()?.watcher.search(inode)
        });
        if let Some(socket) = socket {
            let _ = unix::send(&socket, &[0]);
        }
    }

    /// Follows a setsockopt(2) of `SO_SNDBUF` or `SO_RCVBUF`.
    pub(crate) fn resize(&self, guest: &OwnedFd) {
        if let State::Joined(pipe) = &mut *self.state.lock() {
            // The kernel wakes who waits for room only when there is much.
            unix::widen(guest);
            self.size_guest(guest);
            pipe.sized = self.size(pipe.end.fd(), libc::SO_RCVBUF);
        }
    }

    /// Gives the guest's end, as its send buffer, what it has asked for; as much as possible if it
    /// never has.
    pub(super) fn size_guest(&self, guest: &OwnedFd) {
        if !self.size(guest, libc::SO_SNDBUF) {
            unix::widen(guest);
        }
    }

    /// Gives one end of the pair, as its send buffer, what the guest has asked for by an option;
    /// returns whether it has.
    fn size(&self, end: &OwnedFd, option: i32) -> bool {
        let Some(doubled) = self.socket.asked_buffer(option) else { return false };
        let half = (doubled / 2).to_ne_bytes();
        let _ = ffi::set_socket_option(end, libc::SO_SNDBUF, &half);
        true
    }

    /// Begins to pump for a connection with this end of ours.
    pub(super) fn pipe(&self, one: &Virtual, end: OwnedFd) -> Result<Pipe, Errno> {
        let sized = self.size(&end, libc::SO_RCVBUF);
        Pipe::new(one, end, sized)
    }

    pub(super) fn join_accepted(&self, one: &Virtual, end: OwnedFd) {
        if let Ok(pipe) = self.pipe(one, end) {
            *self.state.lock() = State::Joined(pipe);
            one.wake();
        }
    }
}

impl Pipe {
    fn new(one: &Virtual, end: OwnedFd, sized: bool) -> Result<Self, Errno> {
        // A read stops before the urgent byte of a guest, and takes it then as any other.
        let _ = ffi::set_socket_option(&end, libc::SO_OOBINLINE, &1_i32.to_ne_bytes());
        Ok(Self {
            end: one.handle()?.watch_owned(end, Interest::Read)?,
            sized,
            watched: false,
            readable: false,
            filled: false,
            marked: false,
            writable: true,
            hung_up: false,
            shut: false,
            guest_done: false,
            peer_done: false,
            deaf: false,
            given: 0,
            arrived: None,
            told: true,
        })
    }

    /// The inode of our end.
    pub(super) fn inode(&self) -> Option<u64> {
        unix::inode(self.end.fd()).ok()
    }
}
