//! connect(2) under way: the guest waits in the call, or polls a socket whose buffer is full of junk.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use umvu_abi::{Errno, SockAddr, net::StreamState};
use umvu_tracer::api::{Action, Call, Completer};

use super::{
    super::{Hub, Virtual, unix},
    Answers, State, Stream, answer, fresh_end,
    pipe::Push,
};

pub(super) struct Connecting {
    /// The guest's end, while somebody is in connect(2). It is not kept longer, since a socket
    /// that we hold never looks closed.
    pub(super) guest: Option<OwnedFd>,
    /// Our end and the junk in it; none while somebody is in connect(2).
    pub(super) joined: Option<(OwnedFd, usize)>,
    pub(super) waiter: Option<Waiter>,
}

/// A connect(2) that waits.
pub(super) struct Waiter {
    pub(super) completer: Completer,
    /// When SO_SNDTIMEO ends the wait, and with which error.
    pub(super) deadline: Option<Instant>,
    pub(super) late: Errno,
    /// What is sent once there is a connection.
    first: Option<Vec<u8>>,
}

impl Stream {
    /// connect(2). Blocking: answered when the handshake ends; else `EINPROGRESS`. With bytes that are to
    /// be sent first, a blocking one returns how many were (`MSG_FASTOPEN`).
    pub(crate) fn connect(
        &self,
        one: &Virtual,
        hub: &Arc<Hub>,
        (call, guest): (&Call, OwnedFd),
        addr: &SockAddr,
        first: Option<Vec<u8>>,
    ) -> Result<Action, Errno> {
        let nonblocking = unix::is_nonblocking(&guest);
        if *addr == SockAddr::Unspec {
            return Ok(self.dissolve(hub, &guest));
        }
        let mut state = self.state.lock();
        match &mut *state {
            State::Connecting(connecting) => {
                if nonblocking || connecting.waiter.is_some() {
                    return Err(Errno::EALREADY);
                }
                connecting.waiter = Some(Waiter::new(call, &guest, Errno::EALREADY, None));
                connecting.guest = Some(guest);
                drop(state);
                one.wake();
                return Ok(Action::Pending);
            }
            State::Joined(pipe) if !pipe.told => {
                pipe.told = true;
                return Ok(Action::value(0));
            }
            State::Joined(_) | State::Listening(_) | State::Reset | State::Finished => {
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
        self.connects.store(true, Ordering::Relaxed);
        *self.seen.lock() = Some((Arc::downgrade(&call.guest), call.fd(0)));
        if matches!(self.socket.state(), StreamState::Established { .. }) {
            // By a loopback interface. Linux says EINPROGRESS then too.
            let joined = hub.join(&guest).and_then(|end| {
                self.size_guest(&guest);
                self.pipe(one, end)
            });
            let mut pipe = joined.inspect_err(|_| {
                self.socket.reset();
                *state = State::Spent;
            })?;
            pipe.told = !nonblocking;
            *state = State::Joined(pipe);
            drop(state);
            one.wake();
            let error = Action::error(Errno::EINPROGRESS);
            return Ok(if nonblocking { error } else { self.opened(first) });
        }
        let waiter = (!nonblocking).then(|| Waiter::new(call, &guest, Errno::EINPROGRESS, first));
        *state = State::Connecting(Connecting { guest: Some(guest), joined: None, waiter });
        drop(state);
        if nonblocking {
            return self.connect_later(one, hub);
        }
        one.wake();
        Ok(Action::Pending)
    }

    /// A connect(2) that does not wait. Between two stacks of ours the handshake ends in the turn
    /// that it brings about; else the guest polls until it ends.
    fn connect_later(&self, one: &Virtual, hub: &Arc<Hub>) -> Result<Action, Errno> {
        hub.reactor.take_turn();
        let mut answers = Answers::new();
        let mut state = self.state.lock();
        if let State::Connecting(connecting) = &mut *state
            && connecting.waiter.is_none()
            && connecting.guest.is_some()
        {
            if matches!(self.socket.state(), StreamState::Established { .. }) {
                self.follow_handshake(one, hub, &mut state, &mut answers);
            } else if let Some(guest) = connecting.guest.take() {
                match hub.hold(&guest) {
                    Ok(joined) => connecting.joined = Some(joined),
                    Err(errno) => {
                        self.socket.reset();
                        *state = State::Spent;
                        return Err(errno);
                    }
                }
            }
            drop(state);
            one.wake();
        }
        answer(answers);
        Ok(Action::error(Errno::EINPROGRESS))
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
                    self.size_guest(guest);
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
                    .and_then(|end| self.pipe(one, end))
                    .map(|mut pipe| {
                        pipe.told = waiter.is_some();
                        *state = State::Joined(pipe);
                    })
                    .inspect_err(|_| self.socket.reset())
            }
            StreamState::Refused(errno) | StreamState::Broken(errno) => {
                // Our end closes here with the junk unread: the guest's poll sees the error, and
                // SO_ERROR tells which.
                let held = match (&connecting.guest, &waiter) {
                    (Some(guest), None) => hub.hold(guest).is_ok(),
                    _ => connecting.joined.is_some(),
                };
                *state = match held {
                    true if waiter.is_some() => State::Spent,
                    true => State::Failed,
                    false => State::Fresh,
                };
                if waiter.is_some() {
                    let _ = self.socket.take_error();
                }
                Err(errno)
            }
            _ => Err(Errno::ECONNABORTED),
        };
        let answer = |waiter: Waiter| match result {
            Ok(()) => (waiter.completer, self.opened(waiter.first)),
            Err(errno) => (waiter.completer, Action::error(errno)),
        };
        answers.extend(waiter.map(answer));
    }

    /// What a connect(2) returns that has succeeded.
    fn opened(&self, first: Option<Vec<u8>>) -> Action {
        let sent = first.map_or(0, |data| self.queue(&data, Push::Now));
        Action::value(i64::try_from(sent).unwrap_or(i64::MAX))
    }
}

impl Connecting {
    /// The answer for the connect(2) that waits, if one does.
    pub(super) fn give_up(&mut self, errno: Errno) -> Option<(Completer, Action)> {
        self.waiter.take().map(|waiter| (waiter.completer, Action::error(errno)))
    }
}

impl Waiter {
    fn new(call: &Call, guest: &OwnedFd, late: Errno, first: Option<Vec<u8>>) -> Self {
        let deadline = unix::send_timeout(guest).map(|timeout| Instant::now() + timeout);
        Self { completer: (call.defer)(), deadline, late, first }
    }
}
