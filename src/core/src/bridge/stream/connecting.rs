//! connect(2) under way: the guest waits in the call, or polls a socket whose buffer is full of junk.

use std::{os::fd::OwnedFd, sync::Arc, time::Instant};

use umvu_abi::{Errno, SockAddr, net::StreamState};
use umvu_tracer::api::{Action, Call, Completer};

use super::{
    super::{Hub, Virtual, unix},
    Answers, State, Stream, fresh_end,
    pipe::Pipe,
};

pub(super) struct Connecting {
    /// The guest's end, while somebody waits in connect(2). It is not kept longer, since a socket
    /// that we hold never looks closed.
    pub(super) guest: Option<OwnedFd>,
    /// Our end and the junk in it; none for a blocking connect.
    pub(super) joined: Option<(OwnedFd, usize)>,
    pub(super) waiter: Option<Waiter>,
}

/// A connect(2) that waits.
pub(super) struct Waiter {
    pub(super) completer: Completer,
    /// When SO_SNDTIMEO ends the wait, and with which error.
    pub(super) deadline: Option<Instant>,
    pub(super) late: Errno,
}

impl Stream {
    /// connect(2). Blocking: answered when the handshake ends; else `EINPROGRESS`.
    pub(crate) fn connect(
        &self,
        one: &Virtual,
        hub: &Arc<Hub>,
        call: &Call,
        addr: &SockAddr,
    ) -> Result<Action, Errno> {
        let guest = call.guest.fetch_fd(call.fd(0))?;
        let nonblocking = unix::is_nonblocking(&guest);
        if *addr == SockAddr::Unspec {
            return Ok(self.dissolve(&guest));
        }
        let mut state = self.state.lock();
        match &mut *state {
            State::Connecting(connecting) => {
                if nonblocking || connecting.waiter.is_some() {
                    return Err(Errno::EALREADY);
                }
                connecting.waiter = Some(Waiter::new(call, &guest, Errno::EALREADY));
                connecting.guest = Some(guest);
                drop(state);
                one.wake();
                return Ok(Action::Pending);
            }
            State::Joined(pipe) if !pipe.told => {
                pipe.told = true;
                return Ok(Action::value(0));
            }
            State::Joined(_) | State::Listening(_) | State::Finished => {
                return Err(Errno::EISCONN);
            }
            State::Failed => {
                *state = State::Spent;
                return Err(self.socket.take_error().unwrap_or(Errno::ECONNABORTED));
            }
            State::Fresh | State::Spent => {}
        }
        if let Some(end) = fresh_end(one, &mut state, &guest)? {
            drop(state);
            return hub.renew(one, call.fd(0), end);
        }
        self.socket.connect(addr)?;
        *self.seen.lock() = Some((Arc::downgrade(&call.guest), call.fd(0)));
        let (guest, joined, waiter, action) = if nonblocking {
            let joined = hub.join(&guest).and_then(|end| Ok((end, unix::fill_with_junk(&guest)?)));
            let joined = joined.inspect_err(|_| {
                self.socket.reset();
                *state = State::Spent;
            })?;
            (None, Some(joined), None, Action::error(Errno::EINPROGRESS))
        } else {
            let waiter = Waiter::new(call, &guest, Errno::EINPROGRESS);
            (Some(guest), None, Some(waiter), Action::Pending)
        };
        *state = State::Connecting(Connecting { guest, joined, waiter });
        drop(state);
        one.wake();
        Ok(action)
    }

    pub(super) fn follow_handshake(
        &self,
        one: &Virtual,
        hub: &Arc<Hub>,
        state: &mut State,
        answers: &mut Answers,
    ) {
        let outcome = self.socket.state();
        if outcome == StreamState::Connecting {
            return;
        }
        let State::Connecting(connecting) = std::mem::replace(state, State::Spent) else { return };
        let waiter = connecting.waiter;
        let result = match outcome {
            StreamState::Established { .. } => {
                let guest = connecting.guest.or_else(|| self.find_again(one));
                // First of all: once the junk is gone, the guest writes, and as much as it would
                // into a TCP socket.
                if let Some(guest) = &guest {
                    self.size(guest, libc::SO_SNDBUF);
                }
                let joined = match (connecting.joined, &guest) {
                    (Some((end, junk)), _) => {
                        unix::drain_junk(&end, junk);
                        Ok(end)
                    }
                    (None, Some(guest)) => hub.join(guest),
                    (None, None) => Err(Errno::ECONNABORTED),
                };
                joined
                    .inspect(|end| self.size(end, libc::SO_RCVBUF))
                    .and_then(|end| Pipe::new(one, end))
                    .map(|mut pipe| {
                        pipe.told = waiter.is_some();
                        *state = State::Joined(pipe);
                    })
                    .inspect_err(|_| self.socket.reset())
            }
            StreamState::Refused(errno) | StreamState::Broken(errno) => {
                // Our end closes here with the junk unread: the guest's poll sees the error, and
                // SO_ERROR tells which.
                *state = match connecting.joined {
                    Some(_) if waiter.is_some() => State::Spent,
                    Some(_) => State::Failed,
                    None => State::Fresh,
                };
                if waiter.is_some() {
                    let _ = self.socket.take_error();
                }
                Err(errno)
            }
            _ => Err(Errno::ECONNABORTED),
        };
        answers.extend(waiter.map(|waiter| (waiter.completer, Action::done(result))));
    }
}

impl Connecting {
    /// The answer for the connect(2) that waits, if one does.
    pub(super) fn give_up(&mut self, errno: Errno) -> Option<(Completer, Action)> {
        self.waiter.take().map(|waiter| (waiter.completer, Action::error(errno)))
    }
}

impl Waiter {
    pub(super) fn new(call: &Call, guest: &OwnedFd, late: Errno) -> Self {
        let deadline = unix::send_timeout(guest).map(|timeout| Instant::now() + timeout);
        Self { completer: (call.defer)(), deadline, late }
    }
}
