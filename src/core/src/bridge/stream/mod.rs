//! A virtual TCP socket: the pump between the guest's AF_UNIX stream and the stack's engine.
//!
//! Theory of operation. The guest polls, reads and writes its own kernel socket. While a
//! non-blocking connect is under way its send buffer is full of junk, so that it is not writable;
//! once established the junk is drained. The peer's FIN becomes shutdown(2) of our end; the
//! guest's end-of-file becomes FIN. A reset is a close with unread data in the queue, which the
//! kernel reports as ECONNRESET. A listener is the guest's own socket, listening at a private
//! path; each established connection is one connect(2) to it. Such a socket cannot be joined twice:
//! after a failed connect or the end of a listener the next connect or listen puts a fresh one under
//! the guest's descriptor.

mod connecting;
mod lingering;
mod listening;
mod pipe;
mod receive;

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use umvu_abi::{
    Errno, GuestFd,
    net::{Shutdown, StreamSocket, StreamState},
};
use umvu_reactor::Ready;
use umvu_tracer::api::{Action, Call, Completer, Guest};

use self::{connecting::Connecting, lingering::Lingering, listening::Listener, pipe::Pipe};
use super::{Hub, Place, Virtual, alive, unix};

/// The bridge of one stream.
pub(crate) struct Stream {
    /// The stack's side.
    pub(crate) socket: Arc<dyn StreamSocket>,
    state: Mutex<State>,
    /// Where the guest's end was seen, to reach it again while that guest lives.
    seen: Mutex<Option<(Weak<dyn Guest>, GuestFd)>>,
    /// The guest has called connect(2).
    connects: AtomicBool,
    /// A close(2) that waits; locked after the state.
    lingering: Mutex<Option<Lingering>>,
}

/// Which way data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the guest.
    In,
    /// From the guest.
    Out,
}

enum State {
    Fresh,
    /// As good as fresh, but the guest's end has been used.
    Spent,
    Connecting(Connecting),
    Joined(Pipe),
    Listening(Listener),
    /// A connect(2) that did not wait has failed; the next one says so, and leaves it spent.
    Failed,
    /// The peer has reset the connection: the first call says so.
    Reset,
    /// The connection is over.
    Finished,
}

/// Completers to answer once the lock is released.
type Answers = Vec<(Completer, Action)>;

fn answer(answers: Answers) {
    for (completer, action) in answers {
        completer.complete(action);
    }
}

impl Stream {
    /// A stream that has no end of ours yet.
    pub(super) fn fresh(socket: Arc<dyn StreamSocket>) -> Self {
        Self {
            socket,
            state: Mutex::new(State::Fresh),
            seen: Mutex::new(None),
            lingering: Mutex::new(None),
            connects: AtomicBool::new(false),
        }
    }

    /// shutdown(2). A connection's end is shut down by the kernel, and ours sees it; a listener
    /// stops listening and a handshake is given up. Errors: `ENOTCONN`.
    pub(crate) fn shutdown(&self, hub: &Hub, call: &Call, how: Shutdown) -> Result<Action, Errno> {
        let mut answers = Answers::new();
        let mut state = self.state.lock();
        let action = match &mut *state {
            State::Joined(pipe) => {
                pipe.shut |= how != Shutdown::Read;
                Action::Forward
            }
            State::Listening(_) if how == Shutdown::Write => Action::value(0),
            State::Listening(listener) => {
                let guest = call.guest.fetch_fd(call.fd(0))?;
                listener.stop(&mut answers);
                *state = State::Spent;
                self.socket.reset();
                listening::refuse_waiting(hub, &guest);
                Action::value(0)
            }
            State::Connecting(connecting) => {
                answers.extend(connecting.give_up(Errno::ECONNRESET));
                *state = State::Spent;
                self.socket.reset();
                Action::value(0)
            }
            State::Fresh | State::Spent | State::Failed | State::Reset | State::Finished => {
                return Err(Errno::ENOTCONN);
            }
        };
        drop(state);
        answer(answers);
        Ok(action)
    }

    /// connect(2) with AF_UNSPEC: whatever the socket is, it ends, and can be used anew.
    fn dissolve(&self, hub: &Hub, guest: &OwnedFd) -> Action {
        let mut answers = Answers::new();
        let mut state = self.state.lock();
        match &mut *state {
            State::Fresh | State::Spent | State::Failed => {}
            State::Joined(_) | State::Reset | State::Finished => {}
            State::Connecting(connecting) => answers.extend(connecting.give_up(Errno::ECONNRESET)),
            State::Listening(listener) => {
                listener.stop(&mut answers);
                listening::refuse_waiting(hub, guest);
            }
        }
        if !matches!(*state, State::Fresh) {
            *state = State::Spent;
        }
        self.socket.reset();
        drop(state);
        answer(answers);
        Action::value(0)
    }

    /// Takes the pending error, as SO_ERROR does; polls of the guest's end then show none either.
    pub(crate) fn take_error(&self, guest: &OwnedFd) -> Option<Errno> {
        let errno = self.socket.take_error()?;
        unix::take_error(guest);
        Some(errno)
    }

    /// Runs `work` while nothing else uses the guest's socket.
    pub(crate) fn exclusively<R>(&self, work: impl FnOnce() -> R) -> R {
        let _state = self.state.lock();
        work()
    }

    /// Gives up calls that their guests have taken back.
    pub(super) fn drop_cancelled(&self) {
        let mut given_up = Vec::new();
        match &mut *self.state.lock() {
            State::Connecting(connecting)
                if connecting.waiter.as_ref().is_some_and(|w| w.completer.cancelled()) =>
            {
                given_up.extend(connecting.waiter.take().map(|waiter| waiter.completer));
                connecting.guest = None;
            }
            State::Listening(listener) => {
                let kept = std::mem::take(&mut listener.acceptors);
                for acceptor in kept {
                    if acceptor.completer.cancelled() {
                        given_up.push(acceptor.completer);
                    } else {
                        listener.acceptors.push_back(acceptor);
                    }
                }
            }
            _ => {}
        }
        given_up.into_iter().for_each(Completer::forget);
    }

    /// Whether the guest's end of a connection has all the room that there is.
    pub(crate) fn is_widened(&self) -> bool {
        self.is_joined() && self.socket.asked_buffer(libc::SO_SNDBUF).is_none()
    }

    /// Whether bytes are pumped between the guest and the stack.
    pub(super) fn is_joined(&self) -> bool {
        matches!(*self.state.lock(), State::Joined(_))
    }

    /// What a call says that moves data, where that is not what AF_UNIX would say: there is no connection,
    /// or a connect that did not wait has failed.
    pub(crate) fn refusal(&self, guest: &OwnedFd, way: Way, urgent: bool) -> Option<Errno> {
        match (&*self.state.lock(), way) {
            (State::Failed, _) | (State::Reset, Way::Out) => {}
            // What came before is read first.
            (State::Reset, Way::In) if unix::is_empty(guest) => {}
            (State::Fresh | State::Spent | State::Listening(_), Way::Out) => {
                return Some(Errno::EPIPE);
            }
            // That there is no urgent data is said first.
            (State::Fresh | State::Spent, Way::In) if urgent => return Some(Errno::EINVAL),
            (State::Fresh | State::Spent | State::Listening(_), Way::In) => {
                return Some(Errno::ENOTCONN);
            }
            _ => return None,
        }
        self.take_error(guest)
    }

    /// Whether there was a connection.
    fn is_over(&self) -> bool {
        matches!(*self.state.lock(), State::Reset | State::Finished)
    }

    /// The guest is gone, or the stack is.
    pub(super) fn discard(&self, _hub: &Hub) {
        let mut answers = Answers::new();
        let previous = std::mem::replace(&mut *self.state.lock(), State::Finished);
        self.end_linger(true, &mut answers);
        match previous {
            State::Connecting(mut connecting) => {
                answers.extend(connecting.give_up(Errno::ECONNABORTED));
            }
            State::Listening(mut listener) => listener.stop(&mut answers),
            _ => {}
        }
        answer(answers);
    }

    /// Does what is due: on the reactor.
    pub(super) fn run(&self, one: &Virtual, hub: &Arc<Hub>, ready: Ready) {
        let mut answers = Answers::new();
        let mut state = self.state.lock();
        if self.is_refused(&state) {
            drop(state);
            self.foresee_refusal(one, hub);
            state = self.state.lock();
        }
        if let State::Connecting(_) = &*state {
            self.follow_handshake(one, hub, &mut state, &mut answers);
        }
        let (mut over, mut closed, mut reset) = (false, false, false);
        let (mut seen, mut ended) = (None, None);
        match &mut *state {
            State::Joined(pipe) => {
                pipe.readable |= ready.readable;
                pipe.writable |= ready.writable;
                pipe.hung_up |= ready.hangup;
                pipe.marked |= ready.marked;
                over = self.pump(one, pipe);
                closed = pipe.hung_up && !pipe.shut;
                if over && !closed && one.inode() == 0 {
                    seen = pipe.inode().and_then(alive::peer_of);
                }
                if over {
                    let told = !pipe.peer_done && self.connects.load(Ordering::Relaxed);
                    reset = told && self.socket.state() == StreamState::Broken(Errno::ECONNRESET);
                    let next = if reset { State::Reset } else { State::Finished };
                    ended = Some(std::mem::replace(&mut *state, next));
                }
            }
            State::Listening(listener) => self.accept_ready(one, hub, listener, &mut answers),
            _ => {}
        }
        let due = self.end_waits(hub, &mut state, &mut answers);
        let due = due.into_iter().chain(self.end_linger(over, &mut answers)).min();
        if let (Some(due), Ok(handle)) = (due, one.handle()) {
            handle.wake_at(Some(due));
        }
        drop(state);
        if reset && let Some((guest, fd)) = self.seen.lock().clone() {
            hub.watcher.watch_reset(&Place::new(guest, fd), one.inode());
        }
        // The guest sees it only now.
        drop(ended);
        answer(answers);
        if over {
            self.socket.close();
            if let Some(inode) = seen {
                hub.make_known(one, inode);
            }
            if closed {
                hub.forget(one);
            } else {
                hub.retire(one);
            }
        }
    }

    /// Whether a connect that did not wait is about to be seen failed.
    fn is_refused(&self, state: &State) -> bool {
        matches!(state, State::Connecting(connecting) if connecting.waiter.is_none())
            && matches!(self.socket.state(), StreamState::Refused(_))
    }

    /// The next call on the socket tells how it has failed, and AF_UNIX knows one way only.
    fn foresee_refusal(&self, one: &Virtual, hub: &Hub) {
        if let Some((guest, fd)) = self.seen.lock().clone() {
            hub.watcher.watch(&Place::new(guest, fd), one.inode());
        }
    }

    /// Answers the calls whose time is over; returns when to look again.
    fn end_waits(&self, hub: &Hub, state: &mut State, answers: &mut Answers) -> Option<Instant> {
        match state {
            State::Connecting(connecting) => {
                let deadline = connecting.waiter.as_ref()?.deadline?;
                if deadline > Instant::now() {
                    return Some(deadline);
                }
                let waiter = connecting.waiter.take()?;
                answers.push((waiter.completer, Action::error(waiter.late)));
                // The handshake goes on, and the guest may now wait for it by poll(2).
                if let Some(guest) = connecting.guest.take()
                    && connecting.joined.is_none()
                {
                    connecting.joined = hub.hold(&guest).ok();
                }
                None
            }
            State::Listening(listener) => listener.end_waits(answers),
            _ => None,
        }
    }

    /// The guest's end, if it is still where it was seen.
    fn find_again(&self, one: &Virtual) -> Option<OwnedFd> {
        let (guest, fd) = self.seen.lock().clone()?;
        let found = guest.upgrade()?.fetch_fd(fd).ok()?;
        (unix::inode(&found) == Ok(one.inode())).then_some(found)
    }

    /// The inode of our end.
    pub(super) fn end_inode(&self) -> Option<u64> {
        match &*self.state.lock() {
            State::Joined(pipe) => pipe.inode(),
            _ => None,
        }
    }

    /// Remembers where the guest's end is.
    pub(crate) fn note_seen(&self, call: &Call, fd: GuestFd) {
        let mut seen = self.seen.lock();
        if seen.is_none() {
            *seen = Some((Arc::downgrade(&call.guest), fd));
        }
    }
}

/// What the guest is to be given instead of its end, unless that can be used. From now on the socket
/// is fresh, but for whoever still has the former end.
fn fresh_end(one: &Virtual, state: &mut State, guest: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    if matches!(state, State::Fresh) && unix::inode(guest)? == one.inode() {
        return Ok(None);
    }
    let fd = unix::like(guest)?;
    one.take_end(&fd)?;
    *state = State::Fresh;
    Ok(Some(fd))
}
