//! recv(2) on a stream, made for the guest: with an address, which TCP leaves empty and AF_UNIX
//! fills with its own; with `MSG_TRUNC`, which throws bytes of TCP away; with control messages.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant, SystemTime},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, recv},
};
use umvu_abi::{Errno, control::Messages};
use umvu_tracer::api::{Action, Call};

use super::{
    super::{
        receive::{self, Request, answer},
        unix,
    },
    State, Stream,
};

/// The most that one call receives.
const LIMIT: usize = 1 << 20;
/// How often a receive that waits looks whether its guest has been interrupted.
const GLANCE: Duration = Duration::from_millis(20);

impl Stream {
    /// Whether a recvmsg(2) is to be told more than the data: what is left (`TCP_INQ`), when it came.
    pub(crate) fn tells_more(&self, request: &Request) -> bool {
        request.control.1 > 0 && self.extras().wants_any()
    }

    fn extras(&self) -> Extras {
        let flag = |level, name| {
            self.socket.option(level, name, &[]).is_ok_and(|value| value.iter().any(|b| *b != 0))
        };
        Extras {
            left: flag(libc::SOL_TCP, libc::TCP_INQ),
            stamp: flag(libc::SOL_SOCKET, libc::SO_TIMESTAMP),
            stamp_ns: flag(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS),
            arrived: match &*self.state.lock() {
                State::Joined(pipe) => pipe.arrived,
                _ => None,
            },
        }
    }

    /// recvfrom(2) and recvmsg(2) with an address, `MSG_ERRQUEUE`, `MSG_TRUNC`. Errors: the kernel's,
    /// `EAGAIN`, `ENOTCONN`.
    pub(crate) fn receive(&self, call: &Call, request: Request) -> Result<Action, Errno> {
        if request.wants_errors() {
            return Err(Errno::EAGAIN);
        }
        if self.socket.peer().is_err() && !self.is_joined() && !self.is_over() {
            return Err(Errno::ENOTCONN);
        }
        let guest = call.guest.fetch_fd(call.fd(0))?;
        let room = request.buffers.iter().fold(0_usize, |sum, (_, len)| sum.saturating_add(*len));
        let mut taking = Taking {
            limit: unix::receive_timeout(&guest).map(|limit| Instant::now() + limit),
            guest,
            flags: MsgFlags::from_bits_truncate(request.flags) | MsgFlags::MSG_DONTWAIT,
            room: room.min(LIMIT),
            data: Vec::new(),
            extras: if request.control.1 > 0 { self.extras() } else { Extras::default() },
        };
        let waits = !request.dont_wait() && !unix::is_nonblocking(&taking.guest);
        match taking.go_on() {
            Err(Errno::EAGAIN) if waits => {}
            result => return Ok(taking.end(result, &request)),
        }
        let completer = (call.defer)();
        let work = move || {
            let result = loop {
                taking.wait();
                taking.extras.arrived = Some(SystemTime::now());
                // What comes now is for the restarted call.
                if completer.cancelled() {
                    break Err(Errno::EINTR);
                }
                match taking.go_on() {
                    Err(Errno::EAGAIN) if !taking.is_late() => {}
                    result => break result,
                }
            };
            match result {
                Err(_) if taking.data.is_empty() && completer.cancelled() => completer.forget(),
                result => completer.complete(taking.end(result, &request)),
            }
        };
        // Without a thread the completer is dropped, and the call returns EIO.
        let _ = std::thread::Builder::new().name("umvu-receive".into()).spawn(work);
        Ok(Action::Pending)
    }
}

/// A receive that is under way.
struct Taking {
    guest: OwnedFd,
    flags: MsgFlags,
    room: usize,
    limit: Option<Instant>,
    data: Vec<u8>,
    extras: Extras,
}

/// What a receive tells beside the data.
#[derive(Debug, Clone, Copy, Default)]
struct Extras {
    left: bool,
    stamp: bool,
    stamp_ns: bool,
    arrived: Option<SystemTime>,
}

impl Extras {
    fn wants_any(self) -> bool {
        self.left || self.stamp || self.stamp_ns
    }

    /// The control messages, in Linux's order.
    fn messages(self, guest: &OwnedFd) -> Messages {
        let mut messages = Messages::default();
        if let Some(arrived) = self.arrived {
            if self.stamp_ns {
                receive::stamp(arrived, true, &mut messages);
            } else if self.stamp {
                receive::stamp(arrived, false, &mut messages);
            }
        }
        if self.left {
            let left = rustix::io::ioctl_fionread(guest).unwrap_or(0);
            let left = i32::try_from(left).unwrap_or(i32::MAX);
            messages.push(libc::SOL_TCP, libc::TCP_INQ, &left.to_ne_bytes());
        }
        messages
    }
}

impl Taking {
    /// Receives what there is: something, or with `MSG_WAITALL` everything. Errors: `EAGAIN` when
    /// it has to wait, and the kernel's.
    fn go_on(&mut self) -> Result<(), Errno> {
        let all = self.flags.contains(MsgFlags::MSG_WAITALL);
        let peeks = self.flags.contains(MsgFlags::MSG_PEEK);
        loop {
            if peeks {
                self.data.clear();
            }
            let have = self.data.len();
            self.data.resize(self.room, 0);
            let got = recv(self.guest.as_raw_fd(), &mut self.data[have..], self.flags);
            self.data.truncate(have + got.unwrap_or(0));
            let count = got.map_err(|errno| Errno::from_io(&io::Error::from(errno)))?;
            if count == 0 || !all || self.data.len() >= self.room {
                return Ok(());
            }
            if peeks {
                return Err(Errno::EAGAIN);
            }
        }
    }

    /// What the call returns: what it has, else the error.
    fn end(self, result: Result<(), Errno>, request: &Request) -> Action {
        let result = if self.data.is_empty() { result } else { Ok(()) };
        let messages = self.extras.messages(&self.guest);
        answer(result.map(|()| request.stream_data(self.data, messages)))
    }

    fn is_late(&self) -> bool {
        self.limit.is_some_and(|limit| limit <= Instant::now())
    }

    fn wait(&self) {
        // What is there already does not wake a wait for more.
        if self.data.is_empty() || !self.flags.contains(MsgFlags::MSG_PEEK) {
            let mut set = [PollFd::new(self.guest.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut set, PollTimeout::try_from(GLANCE).unwrap_or(PollTimeout::ZERO));
        } else {
            std::thread::sleep(GLANCE);
        }
    }
}
