//! [`VdePlug`]: the client's end of a connection to a switch, and how it survives the switch.
//!
//! One frame is one datagram on a Unix socket; a stream to the switch stays open as long as the
//! connection lives. When the switch goes away the carrier is lost, and [`Transport::tick`] tries
//! to connect again, less and less often. The plug presents one epoll descriptor that stays the
//! same across connections; it is also where the backlog waits for room (see `outlet.rs`).
//!
//! Locks: the state (read to send and receive, written to change it), then the outlet's backlog.
//! The waker is called with no lock held.

use std::{
    collections::VecDeque,
    io, mem,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
        socket::{MsgFlags, recv},
    },
};
use parking_lot::RwLock;

use crate::{
    batch,
    error::OpenError,
    frame::Frame,
    outlet::Outlet,
    transport::{Drops, Transport, Waker, WakerSlot},
    vde::handshake::{Connection, Handshake, Progress, Target},
};

/// How long a switch may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(8);
/// How often a connection is looked at even if nothing arrives.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A plug in a switch of another process.
#[derive(Debug)]
pub(crate) struct VdePlug {
    target: Target,
    epoll: Arc<Epoll>,
    state: RwLock<State>,
    waker: WakerSlot,
    drops: Drops,
}

#[derive(Debug)]
enum State {
    Connected(Link),
    Asking { handshake: Handshake, until: Instant, backoff: Duration },
    Lost { retry: Option<Instant>, backoff: Duration },
}

#[derive(Debug)]
struct Link {
    stream: UnixStream,
    outlet: Outlet,
}

impl VdePlug {
    /// Connects, waiting for the answer of the switch.
    pub(crate) fn connect(target: Target) -> Result<Self, OpenError> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(OpenError::system(&target.place, "making an epoll descriptor"))?;
        let epoll = Arc::new(epoll);
        let mut handshake = Handshake::start(&target)?;
        let until = Instant::now() + PATIENCE;
        let connection = loop {
            wait_readable(handshake.stream(), until)
                .map_err(OpenError::system(&target.place, "waiting for the switch's answer"))?;
            match handshake.advance()? {
                Progress::Waiting(again) => handshake = again,
                Progress::Done(connection) => break connection,
            }
        };
        watch(&epoll, connection.stream.as_fd())
            .and_then(|()| Link::new(connection, &epoll))
            .map_err(OpenError::system(&target.place, "watching the connection"))
            .map(|link| Self {
                target,
                epoll,
                state: RwLock::new(State::Connected(link)),
                waker: WakerSlot::default(),
                drops: Drops::default(),
            })
    }

    /// Does what the state asks for; without a time, only what needs none.
    fn settle(&self, now: Option<Instant>) {
        let mut state = self.state.write();
        let before = matches!(*state, State::Connected(_));
        let taken = mem::replace(&mut *state, State::Lost { retry: None, backoff: FIRST_RETRY });
        *state = match taken {
            State::Connected(link) if !link.has_hung_up() => State::Connected(link),
            State::Connected(_) => {
                tracing::info!(place = %self.target.place, "the switch is gone");
                State::Lost { retry: now.map(|now| now + FIRST_RETRY), backoff: FIRST_RETRY }
            }
            State::Asking { handshake, until, backoff } => {
                self.advance(handshake, until, backoff, now)
            }
            State::Lost { retry: Some(retry), backoff } if now.is_some_and(|now| now >= retry) => {
                self.ask(now.unwrap_or(retry), backoff)
            }
            State::Lost { retry, backoff } => {
                State::Lost { retry: retry.or(now.map(|now| now + backoff)), backoff }
            }
        };
        let after = matches!(*state, State::Connected(_));
        drop(state);
        if before != after {
            self.waker.wake();
        }
    }

    fn ask(&self, now: Instant, backoff: Duration) -> State {
        let started = Handshake::start(&self.target).map_err(|error| error.to_string());
        let watched = started.and_then(|handshake| {
            watch(&self.epoll, handshake.stream()).map_err(|e| e.to_string()).map(|()| handshake)
        });
        match watched {
            Ok(handshake) => State::Asking { handshake, until: now + PATIENCE, backoff },
            Err(error) => {
                tracing::debug!(error, "the switch is still gone");
                again_later(Some(now), backoff)
            }
        }
    }

    fn advance(
        &self,
        handshake: Handshake,
        until: Instant,
        backoff: Duration,
        now: Option<Instant>,
    ) -> State {
        match handshake.advance() {
            Ok(Progress::Waiting(handshake)) if now.is_none_or(|now| now < until) => {
                State::Asking { handshake, until, backoff }
            }
            Ok(Progress::Done(connection)) => match Link::new(connection, &self.epoll) {
                Ok(link) => {
                    tracing::info!(place = %self.target.place, "connected to the switch again");
                    State::Connected(link)
                }
                Err(_) => again_later(now, backoff),
            },
            Ok(Progress::Waiting(_)) | Err(_) => again_later(now, backoff),
        }
    }
}

fn again_later(now: Option<Instant>, backoff: Duration) -> State {
    let backoff = (backoff * 2).min(LAST_RETRY);
    State::Lost { retry: now.map(|now| now + backoff), backoff }
}

fn watch(epoll: &Epoll, stream: BorrowedFd<'_>) -> nix::Result<()> {
    epoll.add(stream, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP, 0))
}

fn wait_readable(descriptor: BorrowedFd<'_>, until: Instant) -> nix::Result<()> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(Errno::ETIMEDOUT),
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

impl Link {
    /// Takes over a connection whose stream the epoll instance already watches.
    fn new(connection: Connection, epoll: &Arc<Epoll>) -> nix::Result<Self> {
        let outlet = Outlet::new(connection.data, Arc::clone(epoll), 1)?;
        Ok(Self { stream: connection.stream, outlet })
    }

    /// Whether the switch closed the stream. What it may have written there is of no interest.
    fn has_hung_up(&self) -> bool {
        let mut bytes = [0; 256];
        loop {
            match recv(self.stream.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return true,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return error != Errno::EAGAIN,
            }
        }
    }
}

impl Transport for VdePlug {
    fn send(&self, frames: &mut Vec<Frame>) {
        let packets = batch::wire_ready(frames, &self.drops);
        match &*self.state.read() {
            State::Connected(link) => link.outlet.send(packets, &self.drops),
            State::Asking { .. } | State::Lost { .. } => self.drops.add(packets.len()),
        }
    }

    fn receive(&self, into: &mut VecDeque<Frame>, budget: usize) -> io::Result<usize> {
        if let State::Connected(link) = &*self.state.read() {
            link.outlet.flush(&self.drops);
            let received =
                batch::receive_frames(link.outlet.socket(), budget, &self.drops, &mut |frame| {
                    into.push_back(frame);
                });
            // An error of the data socket means that the far end closed it: the stream will tell.
            let count = received.unwrap_or(0);
            if count > 0 || budget == 0 {
                return Ok(count);
            }
        }
        // Woken for nothing: something happened on the stream.
        self.settle(None);
        Ok(0)
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.0.as_fd())
    }

    fn set_waker(&self, waker: Waker) {
        self.waker.set(waker);
    }

    fn carrier(&self) -> bool {
        matches!(*self.state.read(), State::Connected(_))
    }

    fn tick(&self, now: Instant) -> Option<Instant> {
        self.settle(Some(now));
        Some(match &*self.state.read() {
            State::Connected(_) => now + HEARTBEAT,
            State::Asking { until, .. } => (*until).min(now + HEARTBEAT),
            State::Lost { retry, .. } => retry.unwrap_or(now + FIRST_RETRY),
        })
    }

    fn backlog(&self) -> usize {
        match &*self.state.read() {
            State::Connected(link) => link.outlet.backlog(),
            State::Asking { .. } | State::Lost { .. } => 0,
        }
    }

    fn drops(&self) -> u64 {
        self.drops.get()
    }
}
