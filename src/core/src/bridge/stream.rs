//! A virtual TCP socket: the pump between the guest's AF_UNIX stream and the stack's engine.
//!
//! Theory of operation. The guest polls, reads and writes its own kernel socket. While a
//! non-blocking connect is under way its send buffer is full of junk, so that it is not writable;
//! once established the junk is drained. The peer's FIN becomes shutdown(2) of our end; the
//! guest's end-of-file becomes FIN. A reset is a close with unread data in the queue, which the
//! kernel reports as ECONNRESET. A listener is the guest's own socket, listening at a private
//! path; each established connection is one connect(2) to it.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use umvu_abi::{
    Errno, GuestFd, SockAddr,
    net::{StreamSocket, StreamState},
};
use umvu_reactor::{Interest, Ready, Registration};
use umvu_tracer::api::{Action, Call, Completer, Guest};

use super::{Hub, Kind, Virtual, unix};

/// How many transfers one run makes before it lets other sources run.
const ROUNDS: usize = 8;
/// How soon a full accept queue of a guest is tried again.
const ACCEPT_RETRY: Duration = Duration::from_millis(2);

/// The bridge of one stream.
pub(crate) struct Stream {
    /// The stack's side.
    pub(crate) socket: Arc<dyn StreamSocket>,
    state: Mutex<State>,
    /// Where the guest's end was last seen, to reach it for a reset.
    seen: Mutex<Option<(Arc<dyn Guest>, GuestFd)>>,
}

enum State {
    Fresh,
    Connecting(Connecting),
    Joined(Pipe),
    Listening(Listener),
    /// A connect(2) that did not wait has failed: the guest's end cannot be used again.
    Failed,
    /// The connection is over.
    Finished,
}

struct Connecting {
    guest: OwnedFd,
    /// Our end and the junk in it; none for a blocking connect.
    joined: Option<(OwnedFd, usize)>,
    waiter: Option<Completer>,
}

struct Pipe {
    end: OwnedFd,
    _registration: Registration,
    readable: bool,
    writable: bool,
    /// Both directions are shut: the guest has closed its end.
    hung_up: bool,
    /// The guest's end-of-file has been passed on as FIN.
    guest_done: bool,
    /// The peer's FIN has been passed on to the guest.
    peer_done: bool,
    /// The guest closed its reading side: received data is dropped.
    deaf: bool,
}

struct Listener {
    path: PathBuf,
    /// An accepted connection that does not fit the guest's queue yet.
    waiting: Option<(Arc<Virtual>, OwnedFd)>,
    acceptors: VecDeque<Acceptor>,
}

struct Acceptor {
    guest: OwnedFd,
    completer: Completer,
    finish: AcceptFinish,
}

/// Makes the answer of an accept(2) from the new descriptor.
pub(crate) type AcceptFinish = Box<dyn FnOnce(Result<OwnedFd, Errno>) -> Action + Send>;

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
        Self { socket, state: Mutex::new(State::Fresh), seen: Mutex::new(None) }
    }

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
        let mut state = self.state.lock();
        match &mut *state {
            State::Connecting(connecting) => {
                if nonblocking || connecting.waiter.is_some() {
                    return Err(Errno::EALREADY);
                }
                connecting.waiter = Some((call.defer)());
                drop(state);
                one.wake();
                return Ok(Action::Pending);
            }
            State::Joined(_) | State::Listening(_) | State::Finished => {
                return Err(Errno::EISCONN);
            }
            State::Failed => return Err(Errno::ECONNABORTED),
            State::Fresh => {}
        }
        self.socket.connect(addr)?;
        *self.seen.lock() = Some((Arc::clone(&call.guest), call.fd(0)));
        let (joined, waiter, action) = if nonblocking {
            let end = hub.join(&guest)?;
            let junk = unix::fill_with_junk(&guest)?;
            (Some((end, junk)), None, Action::error(Errno::EINPROGRESS))
        } else {
            (None, Some((call.defer)()), Action::Pending)
        };
        *state = State::Connecting(Connecting { guest, joined, waiter });
        drop(state);
        one.wake();
        Ok(action)
    }

    /// listen(2).
    pub(crate) fn listen(
        &self,
        one: &Virtual,
        hub: &Hub,
        call: &Call,
        backlog: u32,
    ) -> Result<(), Errno> {
        let guest = call.guest.fetch_fd(call.fd(0))?;
        let mut state = self.state.lock();
        match &*state {
            State::Listening(_) => {
                self.socket.listen(backlog)?;
                return unix::listen(&guest, backlog);
            }
            State::Fresh => {}
            _ => return Err(Errno::EINVAL),
        }
        self.socket.listen(backlog)?;
        let path = hub.path('l', one.id);
        unix::bind_path(&guest, &path)?;
        unix::listen(&guest, backlog)?;
        *state = State::Listening(Listener { path, waiting: None, acceptors: VecDeque::new() });
        drop(state);
        one.wake();
        Ok(())
    }

    /// accept4(2) when the guest wants the peer's address; `finish` makes the answer.
    pub(crate) fn accept(&self, call: &Call, finish: AcceptFinish) -> Action {
        let guest = match call.guest.fetch_fd(call.fd(0)) {
            Ok(guest) => guest,
            Err(errno) => return errno.into(),
        };
        let mut state = self.state.lock();
        let State::Listening(listener) = &mut *state else { return Errno::EINVAL.into() };
        if unix::is_nonblocking(&guest) {
            return finish(unix::accept(&guest));
        }
        if listener.acceptors.is_empty() && unix::is_readable(&guest) {
            match accept_at_once(&guest) {
                Err(Errno::EAGAIN) => {}
                result => return finish(result),
            }
        }
        let completer = (call.defer)();
        listener.acceptors.push_back(Acceptor { guest, completer, finish });
        Action::Pending
    }

    /// Whether the stream is connected, for shutdown(2).
    pub(crate) fn is_joined(&self) -> bool {
        matches!(&*self.state.lock(), State::Joined(_))
    }

    /// Gives up calls that their guests have taken back.
    pub(super) fn drop_cancelled(&self) {
        let mut given_up = Vec::new();
        match &mut *self.state.lock() {
            State::Connecting(connecting)
                if connecting.waiter.as_ref().is_some_and(Completer::cancelled) =>
            {
                given_up.extend(connecting.waiter.take());
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

    /// The guest is gone, or the stack is.
    pub(super) fn discard(&self, _hub: &Hub) {
        let mut answers = Answers::new();
        let previous = std::mem::replace(&mut *self.state.lock(), State::Finished);
        match previous {
            State::Connecting(mut connecting) => {
                let waiter = connecting.waiter.take();
                answers.extend(waiter.map(|w| (w, Action::error(Errno::ECONNABORTED))));
            }
            State::Listening(listener) => {
                let _ = std::fs::remove_file(&listener.path);
                for acceptor in listener.acceptors {
                    answers.push((acceptor.completer, Action::error(Errno::EINVAL)));
                }
                if let Some((one, _)) = listener.waiting {
                    one.socket().close();
                }
            }
            State::Fresh | State::Joined(_) | State::Failed | State::Finished => {}
        }
        answer(answers);
    }

    /// Does what is due: on the reactor.
    pub(super) fn run(&self, one: &Virtual, hub: &Arc<Hub>, ready: Ready) {
        let mut answers = Answers::new();
        let mut state = self.state.lock();
        if let State::Connecting(_) = &*state {
            self.follow_handshake(one, hub, &mut state, &mut answers);
        }
        let mut over = false;
        match &mut *state {
            State::Joined(pipe) => {
                pipe.readable |= ready.readable;
                pipe.writable |= ready.writable;
                pipe.hung_up |= ready.hangup;
                over = self.pump(one, pipe);
                if over {
                    *state = State::Finished;
                }
            }
            State::Listening(listener) => self.accept_ready(one, hub, listener, &mut answers),
            _ => {}
        }
        drop(state);
        answer(answers);
        if over {
            self.socket.close();
            hub.retire(one);
        }
    }

    fn follow_handshake(
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
        let State::Connecting(connecting) = std::mem::replace(state, State::Fresh) else { return };
        let waiter = connecting.waiter;
        let result = match outcome {
            StreamState::Established { .. } => {
                let joined = match connecting.joined {
                    Some((end, junk)) => {
                        unix::drain_junk(&end, junk);
                        Ok(end)
                    }
                    None => hub.join(&connecting.guest),
                };
                unix::widen(&connecting.guest);
                joined.and_then(|end| Pipe::new(one, end)).map(|pipe| *state = State::Joined(pipe))
            }
            StreamState::Refused(errno) | StreamState::Broken(errno) => {
                if connecting.joined.is_some() {
                    // Our end closes here with the junk unread: the guest's poll sees the error,
                    // and SO_ERROR tells which.
                    *state = State::Failed;
                }
                if waiter.is_some() {
                    let _ = self.socket.take_error();
                }
                Err(errno)
            }
            _ => Err(Errno::ECONNABORTED),
        };
        answers.extend(waiter.map(|waiter| (waiter, Action::done(result))));
    }

    /// Moves bytes both ways; returns whether the guest has closed its end.
    fn pump(&self, one: &Virtual, pipe: &mut Pipe) -> bool {
        for _ in 0..ROUNDS {
            let sent = self.take_from_guest(pipe);
            let received = self.give_to_guest(pipe);
            if pipe.guest_done && pipe.hung_up {
                return true;
            }
            if !sent && !received {
                return self.follow_peer(pipe);
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
    fn follow_peer(&self, pipe: &mut Pipe) -> bool {
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
                self.leave_unread_data();
                true
            }
            StreamState::Fresh | StreamState::Connecting | StreamState::Listening => false,
        }
    }

    /// Puts a byte into our end's queue, through the guest's socket, so that closing our end shows
    /// as ECONNRESET.
    fn leave_unread_data(&self) {
        let seen = self.seen.lock().take();
        if let Some((guest, fd)) = seen
            && let Ok(socket) = guest.fetch_fd(fd)
        {
            let _ = unix::send(&socket, &[0]);
        }
    }

    /// Remembers where the guest's end is.
    pub(crate) fn note_seen(&self, call: &Call, fd: GuestFd) {
        let mut seen = self.seen.lock();
        if seen.is_none() {
            *seen = Some((Arc::clone(&call.guest), fd));
        }
    }

    /// Hands established connections to the guest's accept queue, and from there to the accepts
    /// that wait here.
    fn accept_ready(
        &self,
        one: &Virtual,
        hub: &Arc<Hub>,
        listener: &mut Listener,
        answers: &mut Answers,
    ) {
        loop {
            if listener.waiting.is_none() {
                match hub.enter_accepted(one, self.socket.as_ref()) {
                    Ok(Some(new)) => match accepted_end(hub, &new) {
                        Ok(end) => listener.waiting = Some((new, end)),
                        Err(_) => hub.discard(&new),
                    },
                    Ok(None) | Err(_) => break,
                }
            }
            let Some((new, end)) = listener.waiting.take() else { break };
            match unix::connect_path(&end, &listener.path) {
                Ok(()) => {
                    if let Kind::Stream(stream) = &new.kind {
                        stream.join_accepted(&new, end);
                    }
                }
                Err(Errno::EAGAIN) => {
                    listener.waiting = Some((new, end));
                    if let Ok(handle) = one.handle() {
                        handle.wake_at(Some(Instant::now() + ACCEPT_RETRY));
                    }
                    break;
                }
                Err(_) => {
                    // The guest has closed its listener.
                    if let Kind::Stream(stream) = &new.kind {
                        stream.socket.reset();
                    }
                    hub.discard(&new);
                    hub.sweep_later(one);
                    break;
                }
            }
        }
        serve_acceptors(listener, answers);
    }

    fn join_accepted(&self, one: &Virtual, end: OwnedFd) {
        unix::widen(&end);
        if let Ok(pipe) = Pipe::new(one, end) {
            *self.state.lock() = State::Joined(pipe);
            one.wake();
        }
    }
}

impl Pipe {
    fn new(one: &Virtual, end: OwnedFd) -> Result<Self, Errno> {
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
        })
    }
}

/// Our end of an accepted connection: its name is how the guest's end is recognised.
fn accepted_end(hub: &Hub, new: &Virtual) -> Result<OwnedFd, Errno> {
    let end = unix::create(nix::sys::socket::SockType::Stream, true)?;
    unix::bind(&end, &hub.names.flow(new.id)?)?;
    Ok(end)
}

fn serve_acceptors(listener: &mut Listener, answers: &mut Answers) {
    while let Some(first) = listener.acceptors.pop_front() {
        if first.completer.cancelled() {
            first.completer.forget();
            continue;
        }
        if !unix::is_readable(&first.guest) {
            listener.acceptors.push_front(first);
            return;
        }
        match accept_at_once(&first.guest) {
            Err(Errno::EAGAIN) => {
                listener.acceptors.push_front(first);
                return;
            }
            result => answers.push((first.completer, (first.finish)(result))),
        }
    }
}

/// accept(2) on a blocking socket that has just polled readable. Another acceptor may be faster:
/// a receive timeout, which the guest's own waits no longer see, bounds the wait.
fn accept_at_once(guest: &OwnedFd) -> Result<OwnedFd, Errno> {
    let before = super::ffi::socket_option(guest, libc::SO_RCVTIMEO)?;
    let mut brief = before.clone();
    let (seconds, micros) = brief.split_at_mut(8);
    seconds.fill(0);
    micros.copy_from_slice(&1_000_i64.to_ne_bytes());
    super::ffi::set_socket_option(guest, libc::SO_RCVTIMEO, &brief)?;
    let result = unix::accept(guest);
    super::ffi::set_socket_option(guest, libc::SO_RCVTIMEO, &before)?;
    result
}
