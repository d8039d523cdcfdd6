//! recv(2) on a stream, made for the guest: with an address, which TCP leaves empty and AF_UNIX
//! fills with its own.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, recv},
};
use umvu_abi::Errno;
use umvu_tracer::api::{Action, Call};

use super::{
    super::{
        receive::{Request, answer},
        unix,
    },
    Stream,
};

/// The most that one call receives.
const LIMIT: usize = 1 << 20;
/// How often a receive that waits looks whether its guest has been interrupted.
const GLANCE: Duration = Duration::from_millis(20);

impl Stream {
    /// recvfrom(2) and recvmsg(2) with an address or `MSG_ERRQUEUE`. Errors: the kernel's,
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
        answer(result.map(|()| request.stream_data(self.data)))
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
