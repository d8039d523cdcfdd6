//! [`Plug`]: a plug whose connection may be lost and comes back by itself.
//!
//! What the transports have in common is here: one descriptor that stays the same across
//! connections (an epoll instance that their sockets are registered in), the carrier and who is
//! told about it, tries that become rarer, and the strict mode, in which a loss is final. What
//! differs they say as a [`Dial`] (how to connect), perhaps a [`Call`] (a connection that is being
//! made) and a [`Link`] (a connection).
//!
//! Locks: the state (read to send and receive, written to change it), then those of a link. The
//! waker is called with no lock of the plug held.

mod backoff;
mod watched;

use std::{
    collections::VecDeque,
    fmt, io, mem,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::epoll::{Epoll, EpollCreateFlags},
};
use parking_lot::RwLock;

pub(crate) use self::{
    backoff::{Backoff, COMMAND, LOCAL, Pace},
    watched::Watched,
};
use crate::{
    error::OpenError,
    frame::Frame,
    transport::{Drops, Transport, Waker, WakerSlot},
};

/// How long the far end may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a connection is looked at even if nothing arrives.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);

/// How to connect. Nothing here blocks but for the start of a process.
pub(crate) trait Dial: Send + Sync + fmt::Debug {
    /// Makes a connection, or starts to.
    fn dial(&self, desk: &Desk) -> Result<Progress, OpenError>;

    /// The pauses between tries.
    fn pace(&self) -> Pace {
        LOCAL
    }

    /// Whether a lost connection can be made again.
    fn can_redial(&self) -> bool {
        true
    }
}

/// What came of a try.
#[derive(Debug)]
pub(crate) enum Progress {
    Connected(Box<dyn Link>),
    Calling(Box<dyn Call>),
}

/// A connection that is being made.
pub(crate) trait Call: Send + Sync + fmt::Debug {
    /// Goes on when the descriptor, or time, gives reason to.
    fn advance(self: Box<Self>) -> Result<Progress, OpenError>;

    /// What polls readable when there is something to go on with; the plug's epoll watches it too.
    fn descriptor(&self) -> BorrowedFd<'_>;
}

/// A connection. It registers its descriptors in the epoll instance of its [`Desk`], and removes
/// them when dropped.
pub(crate) trait Link: Send + Sync + fmt::Debug {
    /// Sends all frames, draining the vector.
    fn send(&self, frames: &mut Vec<Frame>, drops: &Drops);

    /// Moves up to `budget` frames into `into`; returns how many.
    fn receive(
        &self,
        into: &mut VecDeque<Frame>,
        budget: usize,
        drops: &Drops,
    ) -> Result<usize, Lost>;

    /// Looks for what frames do not tell. Called when none were there, and every now and then.
    fn check(&self, now: Instant) -> Result<(), Lost>;

    /// Whether somebody is at the far end.
    fn carrier(&self) -> bool {
        true
    }

    /// Whether frames may still owe something, as [`Transport::accepts_offload`] says.
    fn accepts_offload(&self) -> bool {
        false
    }

    /// How many frames wait for a far end that is slow.
    fn backlog(&self) -> usize {
        0
    }

    /// When to be checked again.
    fn due(&self, now: Instant) -> Instant {
        now + HEARTBEAT
    }
}

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost(pub(crate) String);

impl From<&str> for Lost {
    fn from(why: &str) -> Self {
        Self(why.to_owned())
    }
}

/// What a plug lends to its connections.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) epoll: Arc<Epoll>,
    waker: Arc<WakerSlot>,
}

impl Desk {
    /// Returns the waker for connections without a descriptor.
    pub(crate) fn waker(&self) -> Waker {
        let waker = Arc::clone(&self.waker);
        Arc::new(move || waker.wake())
    }
}

/// A plug with a connection, now or later.
#[derive(Debug)]
pub(crate) struct Plug {
    place: String,
    dial: Box<dyn Dial>,
    desk: Desk,
    line: RwLock<Line>,
    /// The carrier that the owner knows of.
    told: AtomicBool,
    strict: AtomicBool,
    drops: Drops,
}

#[derive(Debug)]
struct Line {
    state: State,
    backoff: Backoff,
}

#[derive(Debug)]
enum State {
    Up { link: Box<dyn Link>, since: Instant },
    Calling { call: Box<dyn Call>, until: Instant },
    Down { retry: Instant },
    Over(Lost),
}

/// The end of the connection that was made at that time; another thread may have made a new one.
#[derive(Debug)]
struct News {
    why: Lost,
    since: Instant,
}

fn news_of(news: Option<News>, connected: Instant) -> Result<(), Lost> {
    match news {
        Some(News { why, since }) if since == connected => Err(why),
        _ => Ok(()),
    }
}

impl State {
    fn carrier(&self) -> bool {
        matches!(self, Self::Up { link, .. } if link.carrier())
    }
}

impl Plug {
    /// Connects, waiting for the answer of the far end.
    pub(crate) fn open(place: &str, dial: impl Dial + 'static) -> Result<Self, OpenError> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(OpenError::system(place, "making an epoll descriptor"))?;
        let desk = Desk { epoll: Arc::new(epoll), waker: Arc::default() };
        let mut progress = dial.dial(&desk)?;
        let until = Instant::now() + PATIENCE;
        let link = loop {
            match progress {
                Progress::Connected(link) => break link,
                Progress::Calling(call) => {
                    wait_readable(call.descriptor(), until)
                        .map_err(OpenError::system(place, "waiting for an answer"))?;
                    progress = call.advance()?;
                }
            }
        };
        let told = AtomicBool::new(link.carrier());
        let backoff = Backoff::new(dial.pace());
        let state = State::Up { link, since: Instant::now() };
        Ok(Self {
            place: place.to_owned(),
            dial: Box::new(dial),
            desk,
            line: RwLock::new(Line { state, backoff }),
            told,
            strict: AtomicBool::new(false),
            drops: Drops::default(),
        })
    }

    /// Does what the state asks for at `now`; returns when to come back.
    fn settle(&self, now: Instant, news: Option<News>) -> Option<Instant> {
        let mut line = self.line.write();
        // What stands there meanwhile is seen by nobody: the lock is ours.
        let taken = mem::replace(&mut line.state, State::Down { retry: now });
        line.state = match taken {
            State::Up { link, since } => {
                match news_of(news, since).and_then(|()| link.check(now)) {
                    Ok(()) if self.is_final_loss(&*link) => {
                        self.give_up("the other end is gone".into())
                    }
                    Ok(()) => State::Up { link, since },
                    Err(why) => {
                        drop(link);
                        let lasted = now.saturating_duration_since(since);
                        self.lose(why, now + line.backoff.lost(lasted))
                    }
                }
            }
            State::Calling { call, until } => match call.advance() {
                Ok(Progress::Calling(call)) if now < until => State::Calling { call, until },
                Ok(Progress::Connected(link)) => State::Up { link, since: now },
                Ok(Progress::Calling(_)) => self.again(&mut line.backoff, now, "no answer"),
                Err(error) => self.again(&mut line.backoff, now, &error.to_string()),
            },
            State::Down { retry } if now >= retry => match self.dial.dial(&self.desk) {
                Ok(Progress::Connected(link)) => State::Up { link, since: now },
                Ok(Progress::Calling(call)) => State::Calling { call, until: now + PATIENCE },
                Err(error) => self.again(&mut line.backoff, now, &error.to_string()),
            },
            waiting @ (State::Down { .. } | State::Over(_)) => waiting,
        };
        let due = match &line.state {
            State::Up { link, .. } => Some(link.due(now)),
            State::Calling { until, .. } => Some((*until).min(now + HEARTBEAT)),
            State::Down { retry } => Some(*retry),
            State::Over(_) => None,
        };
        let carrier = line.state.carrier();
        drop(line);
        self.tell(carrier);
        due
    }

    fn is_final_loss(&self, link: &dyn Link) -> bool {
        !link.carrier() && self.told.load(Ordering::SeqCst) && self.strict.load(Ordering::SeqCst)
    }

    fn lose(&self, why: Lost, retry: Instant) -> State {
        if self.strict.load(Ordering::SeqCst) {
            return self.give_up(why);
        }
        tracing::info!(place = %self.place, why = why.0, "the connection is lost");
        if self.dial.can_redial() { State::Down { retry } } else { State::Over(why) }
    }

    fn give_up(&self, why: Lost) -> State {
        tracing::warn!(place = %self.place, why = why.0, "the connection is lost for good (strict)");
        State::Over(why)
    }

    fn again(&self, backoff: &mut Backoff, now: Instant, why: &str) -> State {
        tracing::debug!(place = %self.place, why, "cannot connect yet");
        State::Down { retry: now + backoff.failed() }
    }

    /// Wakes the owner if the carrier is news to it.
    fn tell(&self, carrier: bool) {
        if self.told.load(Ordering::SeqCst) != carrier
            && self.told.swap(carrier, Ordering::SeqCst) != carrier
        {
            tracing::info!(place = %self.place, carrier, "the carrier changed");
            self.desk.waker.wake();
        }
    }
}

impl Transport for Plug {
    fn send(&self, frames: &mut Vec<Frame>) {
        match &self.line.read().state {
            State::Up { link, .. } => link.send(frames, &self.drops),
            State::Calling { .. } | State::Down { .. } | State::Over(_) => {
                self.drops.add(frames.len());
                frames.clear();
            }
        }
    }

    fn receive(&self, into: &mut VecDeque<Frame>, budget: usize) -> io::Result<usize> {
        let line = self.line.read();
        let news = match &line.state {
            State::Up { link, since } => match link.receive(into, budget, &self.drops) {
                Ok(count) if count > 0 || budget == 0 => {
                    let carrier = link.carrier();
                    drop(line);
                    self.tell(carrier);
                    return Ok(count);
                }
                Ok(_) => None,
                Err(why) => Some(News { why, since: *since }),
            },
            State::Over(why) => {
                let text = format!("{}: {}", self.place, why.0);
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, text));
            }
            State::Calling { .. } | State::Down { .. } => None,
        };
        drop(line);
        // Woken for nothing: something happened to the connection.
        self.settle(Instant::now(), news);
        Ok(0)
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.desk.epoll.0.as_fd())
    }

    fn set_waker(&self, waker: Waker) {
        self.desk.waker.set(waker);
    }

    fn set_strict(&self) {
        self.strict.store(true, Ordering::SeqCst);
    }

    fn carrier(&self) -> bool {
        self.line.read().state.carrier()
    }

    fn accepts_offload(&self) -> bool {
        matches!(&self.line.read().state, State::Up { link, .. } if link.accepts_offload())
    }

    fn tick(&self, now: Instant) -> Option<Instant> {
        self.settle(now, None)
    }

    fn backlog(&self) -> usize {
        match &self.line.read().state {
            State::Up { link, .. } => link.backlog(),
            State::Calling { .. } | State::Down { .. } | State::Over(_) => 0,
        }
    }

    fn drops(&self) -> u64 {
        self.drops.get()
    }
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

#[cfg(test)]
mod tests;
