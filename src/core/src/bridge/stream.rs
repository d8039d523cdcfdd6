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

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use umvu_abi::{
    Errno, GuestFd, SockAddr,
    net::{Shutdown, StreamSocket, StreamState},
};
use umvu_reactor::{Interest, Ready, Registration};
use umvu_tracer::api::{Action, Call, Completer, Guest};

use super::{Hub, Kind, Virtual, unix};

/// How many transfers one run makes before it lets other sources run.
const ROUNDS: usize = 8;
/// `SO_SNDBUF` and `SO_RCVBUF` of a socket that was never told (`net.core.wmem_default`).
const DEFAULT_BUFFER: i32 = 212_992;
/// How soon a full accept queue of a guest is tried again.
const ACCEPT_RETRY: Duration = Duration::from_millis(2);

/// The bridge of one stream.
pub(crate) struct Stream {
    /// The stack's side.
    pub(crate) socket: Arc<dyn StreamSocket>,
    state: Mutex<State>,
    /// Where the guest's end was seen, to reach it again while that guest lives.
    seen: Mutex<Option<(Weak<dyn Guest>, GuestFd)>>,
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
    /// The connection is over.
    Finished,
}

struct Connecting {
    /// The guest's end, while somebody waits in connect(2). It is not kept longer, since a socket
    /// that we hold never looks closed.
    guest: Option<OwnedFd>,
    /// Our end and the junk in it; none for a blocking connect.
    joined: Option<(OwnedFd, usize)>,
    waiter: Option<Waiter>,
}

/// A connect(2) that waits.
struct Waiter {
    completer: Completer,
    /// When SO_SNDTIMEO ends the wait, and with which error.
    deadline: Option<Instant>,
    late: Errno,
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
    /// A connect(2) has returned 0: the next one is an error.
    told: bool,
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
    /// When SO_RCVTIMEO ends the wait.
    deadline: Option<Instant>,
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

    /// listen(2).
    pub(crate) fn listen(
        &self,
        one: &Virtual,
        hub: &Hub,
        call: &Call,
        backlog: u32,
    ) -> Result<Action, Errno> {
        let guest = call.guest.fetch_fd(call.fd(0))?;
        let mut state = self.state.lock();
        match &*state {
            State::Listening(_) => {
                self.socket.listen(backlog)?;
                return unix::listen(&guest, backlog).map(|()| Action::value(0));
            }
            State::Fresh | State::Spent => {}
            _ => return Err(Errno::EINVAL),
        }
        if let Some(end) = fresh_end(one, &mut state, &guest)? {
            drop(state);
            return hub.renew(one, call.fd(0), end);
        }
        self.socket.listen(backlog)?;
        let path = hub.path('l', one.id);
        let listening = unix::bind_path(&guest, &path).and_then(|()| unix::listen(&guest, backlog));
        listening.inspect_err(|_| {
            let _ = std::fs::remove_file(&path);
            self.socket.reset();
            *state = State::Spent;
        })?;
        *state = State::Listening(Listener { path, waiting: None, acceptors: VecDeque::new() });
        drop(state);
        one.wake();
        Ok(Action::value(0))
    }

    /// accept4(2) when the guest wants the peer's address; `finish` makes the answer.
    pub(crate) fn accept(&self, one: &Virtual, call: &Call, finish: AcceptFinish) -> Action {
        let guest = match call.guest.fetch_fd(call.fd(0)) {
            Ok(guest) => guest,
            Err(errno) => return errno.into(),
        };
        let mut state = self.state.lock();
        let State::Listening(listener) = &mut *state else { return Errno::EINVAL.into() };
        if unix::is_nonblocking(&guest) {
            // The guest may have made it blocking again by now.
            return finish(accept_at_once(&guest));
        }
        if listener.acceptors.is_empty() && unix::is_readable(&guest) {
            match accept_at_once(&guest) {
                Err(Errno::EAGAIN) => {}
                result => return finish(result),
            }
        }
        let completer = (call.defer)();
        let deadline = unix::receive_timeout(&guest).map(|timeout| Instant::now() + timeout);
        listener.acceptors.push_back(Acceptor { guest, completer, finish, deadline });
        drop(state);
        one.wake();
        Action::Pending
    }

    /// shutdown(2). A connection's end is shut down by the kernel, and ours sees it; a listener
    /// stops listening and a handshake is given up. Errors: `ENOTCONN`.
    pub(crate) fn shutdown(&self, how: Shutdown) -> Result<Action, Errno> {
        let mut answers = Answers::new();
        let mut state = self.state.lock();
        let action = match &mut *state {
            State::Joined(_) => Action::Forward,
            State::Listening(_) if how == Shutdown::Write => Action::value(0),
            State::Listening(listener) => {
                listener.stop(&mut answers);
                *state = State::Spent;
                self.socket.reset();
                // Wakes the accepts that wait in the kernel.
                Action::Forward
            }
            State::Connecting(connecting) => {
                answers.extend(connecting.give_up(Errno::ECONNRESET));
                *state = State::Spent;
                self.socket.reset();
                Action::value(0)
            }
            State::Fresh | State::Spent | State::Failed | State::Finished => {
                return Err(Errno::ENOTCONN);
            }
        };
        drop(state);
        answer(answers);
        Ok(action)
    }

    /// connect(2) with AF_UNSPEC: whatever the socket is, it ends, and can be used anew.
    fn dissolve(&self, guest: &OwnedFd) -> Action {
        let mut answers = Answers::new();
        let mut state = self.state.lock();
        match &mut *state {
            State::Fresh | State::Spent | State::Failed => {}
            State::Joined(_) | State::Finished => {}
            State::Connecting(connecting) => answers.extend(connecting.give_up(Errno::ECONNRESET)),
            State::Listening(listener) => {
                listener.stop(&mut answers);
                // Wakes the accepts that wait in the kernel.
                unix::shutdown(guest);
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

    /// Whether bytes are pumped between the guest and the stack.
    pub(super) fn is_joined(&self) -> bool {
        matches!(*self.state.lock(), State::Joined(_))
    }

    /// The guest is gone, or the stack is.
    pub(super) fn discard(&self, _hub: &Hub) {
        let mut answers = Answers::new();
        let previous = std::mem::replace(&mut *self.state.lock(), State::Finished);
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
        let due = self.end_waits(hub, &mut state, &mut answers);
        if let (Some(due), Ok(handle)) = (due, one.handle()) {
            handle.wake_at(Some(due));
        }
        drop(state);
        answer(answers);
        if over {
            self.socket.close();
            hub.retire(one);
        }
    }

    /// Answers the calls whose time is over; returns when to look again.
    fn end_waits(&self, hub: &Hub, state: &mut State, answers: &mut Answers) -> Option<Instant> {
        let now = Instant::now();
        match state {
            State::Connecting(connecting) => {
                let deadline = connecting.waiter.as_ref()?.deadline?;
                if deadline > now {
                    return Some(deadline);
                }
                let waiter = connecting.waiter.take()?;
                answers.push((waiter.completer, Action::error(waiter.late)));
                // The handshake goes on, and the guest may now wait for it by poll(2).
                if let Some(guest) = connecting.guest.take()
                    && connecting.joined.is_none()
                {
                    let hold = |end| Ok((end, unix::fill_with_junk(&guest)?));
                    connecting.joined = hub.join(&guest).and_then(hold).ok();
                }
                None
            }
            State::Listening(listener) => listener.end_waits(now, answers),
            _ => None,
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
                    .map(|pipe| *state = State::Joined(Pipe { told: waiter.is_some(), ..pipe }))
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

    /// Moves bytes both ways; returns whether the guest has closed its end.
    fn pump(&self, one: &Virtual, pipe: &mut Pipe) -> bool {
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
                self.leave_unread_data(one);
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

    /// The guest's end, if it is still where it was seen.
    fn find_again(&self, one: &Virtual) -> Option<OwnedFd> {
        let (guest, fd) = self.seen.lock().clone()?;
        let found = guest.upgrade()?.fetch_fd(fd).ok()?;
        (unix::inode(&found) == Ok(one.inode())).then_some(found)
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
    fn size(&self, end: &OwnedFd, option: i32) {
        let value = self.socket.option(libc::SOL_SOCKET, option, &[]).unwrap_or_default();
        match value.first_chunk().map(|value| i32::from_ne_bytes(*value)) {
            Some(doubled) if doubled != DEFAULT_BUFFER => {
                let half = (doubled / 2).to_ne_bytes();
                let _ = super::ffi::set_socket_option(end, libc::SO_SNDBUF, &half);
            }
            _ => unix::widen(end),
        }
    }

    /// The inode of our end.
    pub(super) fn end_inode(&self) -> Option<u64> {
        match &*self.state.lock() {
            State::Joined(pipe) => unix::inode(&pipe.end).ok(),
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
                    break;
                }
                Err(_) => {
                    // The guest has closed its listener.
                    if let Kind::Stream(stream) = &new.kind {
                        stream.socket.reset();
                    }
                    hub.discard(&new);
                    hub.sweep_soon();
                    break;
                }
            }
        }
        serve_acceptors(listener, answers);
    }

    fn join_accepted(&self, one: &Virtual, end: OwnedFd) {
        self.size(&end, libc::SO_RCVBUF);
        if let Ok(pipe) = Pipe::new(one, end) {
            *self.state.lock() = State::Joined(pipe);
            one.wake();
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

impl Connecting {
    /// The answer for the connect(2) that waits, if one does.
    fn give_up(&mut self, errno: Errno) -> Option<(Completer, Action)> {
        self.waiter.take().map(|waiter| (waiter.completer, Action::error(errno)))
    }
}

impl Waiter {
    fn new(call: &Call, guest: &OwnedFd, late: Errno) -> Self {
        let deadline = unix::send_timeout(guest).map(|timeout| Instant::now() + timeout);
        Self { completer: (call.defer)(), deadline, late }
    }
}

impl Listener {
    /// Nobody listens any more.
    fn stop(&mut self, answers: &mut Answers) {
        let _ = std::fs::remove_file(&self.path);
        for acceptor in self.acceptors.drain(..) {
            answers.push((acceptor.completer, Action::error(Errno::EINVAL)));
        }
        if let Some((one, _)) = self.waiting.take() {
            one.socket().close();
        }
    }

    /// Answers the accepts whose time is over; returns when to look again.
    fn end_waits(&mut self, now: Instant, answers: &mut Answers) -> Option<Instant> {
        for acceptor in std::mem::take(&mut self.acceptors) {
            if acceptor.deadline.is_some_and(|deadline| deadline <= now) {
                answers.push((acceptor.completer, (acceptor.finish)(Err(Errno::EAGAIN))));
            } else {
                self.acceptors.push_back(acceptor);
            }
        }
        let retry = self.waiting.as_ref().map(|_| now + ACCEPT_RETRY);
        let deadlines = self.acceptors.iter().filter_map(|acceptor| acceptor.deadline);
        deadlines.chain(retry).min()
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
            told: true,
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
