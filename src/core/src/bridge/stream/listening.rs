//! A listener: the guest's own socket, listening at a private path; each established connection is
//! one connect(2) to it.

use std::{
    collections::VecDeque,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::socket::UnixAddr;
use umvu_abi::Errno;
use umvu_tracer::api::{Action, Call, Completer};

use super::{
    super::{Hub, Kind, Place, Virtual, ffi, unix},
    Answers, State, Stream, fresh_end,
};

/// How soon a full accept queue of a guest is tried again.
const ACCEPT_RETRY: Duration = Duration::from_millis(2);

/// Makes the answer of an accept(2) from the new descriptor.
pub(crate) type AcceptFinish = Box<dyn FnOnce(Result<OwnedFd, Errno>) -> Action + Send>;

pub(super) struct Listener {
    path: PathBuf,
    /// An accepted connection that does not fit the guest's queue yet.
    waiting: Option<(Arc<Virtual>, OwnedFd)>,
    pub(super) acceptors: VecDeque<Acceptor>,
}

pub(super) struct Acceptor {
    guest: OwnedFd,
    pub(super) completer: Completer,
    finish: AcceptFinish,
    /// When SO_RCVTIMEO ends the wait.
    deadline: Option<Instant>,
}

impl Stream {
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
        let path = hub.path('l', one.id);
        let name = UnixAddr::new(&path).map_err(unix::errno)?;
        self.socket.listen(backlog)?;
        let listening = unix::bind(&guest, &name).and_then(|()| unix::listen(&guest, backlog));
        one.observer.listens(name);
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

    /// Has accepts trapped on a listener whose connections get from it what AF_UNIX does not hand on. Not
    /// with a lock held that a handler takes.
    pub(crate) fn watch_accepts(&self, one: &Virtual, hub: &Hub, call: &Call) {
        let listens = matches!(*self.state.lock(), State::Listening(_));
        if listens && self.handed_on().next().is_some() {
            hub.watcher.watch(&Place::of(call), one.inode());
        }
    }

    /// Gives the guest's end of a connection what its listener has handed on.
    pub(crate) fn hand_on(&self, guest: &OwnedFd) {
        for (name, value) in self.handed_on() {
            let _ = ffi::set_socket_option(guest, name, &value);
        }
    }

    /// The options that the guest's end of a connection has too, and that are set.
    fn handed_on(&self) -> impl Iterator<Item = (i32, Vec<u8>)> {
        let set = |name| {
            let value = self.socket.option(libc::SOL_SOCKET, name, &[]).ok()?;
            value.iter().any(|byte| *byte != 0).then_some((name, value))
        };
        [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO, libc::SO_OOBINLINE].into_iter().filter_map(set)
    }

    /// accept4(2) when the guest wants the peer's address; `finish` makes the answer.
    pub(crate) fn accept(
        &self,
        one: &Virtual,
        (call, guest): (&Call, OwnedFd),
        finish: AcceptFinish,
    ) -> Action {
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

    /// Hands established connections to the guest's accept queue, and from there to the accepts
    /// that wait here.
    pub(super) fn accept_ready(
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
                    one.observer.queued();
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
}

impl Listener {
    /// Nobody listens any more.
    pub(super) fn stop(&mut self, answers: &mut Answers) {
        let _ = std::fs::remove_file(&self.path);
        for acceptor in self.acceptors.drain(..) {
            answers.push((acceptor.completer, Action::error(Errno::EINVAL)));
        }
        if let Some((one, _)) = self.waiting.take() {
            one.socket().close();
        }
    }

    /// Answers the accepts whose time is over; returns when to look again.
    pub(super) fn end_waits(&mut self, answers: &mut Answers) -> Option<Instant> {
        if self.acceptors.is_empty() && self.waiting.is_none() {
            return None;
        }
        let now = Instant::now();
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

/// Our end of an accepted connection: its name is how the guest's end is recognised.
fn accepted_end(hub: &Hub, new: &Virtual) -> Result<OwnedFd, Errno> {
    let end = unix::create(nix::sys::socket::SockType::Stream, true)?;
    unix::bind(&end, &hub.names.flow(new.id)?)?;
    Ok(end)
}

/// Ends the listening of a guest's socket, which wakes the accepts that wait in the kernel, and
/// resets the connections that nobody has accepted.
pub(super) fn refuse_waiting(hub: &Hub, guest: &OwnedFd) {
    unix::shutdown(guest);
    while let Ok(accepted) = unix::accept(guest) {
        if let Some(one) = hub.flow_of(&accepted) {
            if let Kind::Stream(stream) = &one.kind {
                stream.socket.reset();
            }
            hub.discard(&one);
        }
    }
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
    let before = ffi::socket_option(guest, libc::SO_RCVTIMEO)?;
    let mut brief = before.clone();
    let (seconds, micros) = brief.split_at_mut(8);
    seconds.fill(0);
    micros.copy_from_slice(&1_000_i64.to_ne_bytes());
    ffi::set_socket_option(guest, libc::SO_RCVTIMEO, &brief)?;
    let result = unix::accept(guest);
    ffi::set_socket_option(guest, libc::SO_RCVTIMEO, &before)?;
    result
}
