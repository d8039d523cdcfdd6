//! `wirefilter://[...]{VNL}`: a network behind a bad link.
//!
//! Each direction is a [`Channel`] of the impairment engine (`impair/`), which decides what is
//! lost and when the rest comes out; a timer in the plug's epoll instance rings when it is time.
//! `options.rs` reads what `wirefilter(1)` calls loss, delay and so on.
//!
//! Lock: the line, both channels and the timer; the network inside is called with it held. The
//! waker is that of the network inside.

mod options;

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use parking_lot::Mutex;

use self::options::Options;
use crate::{
    batch,
    error::OpenError,
    frame::Frame,
    impair::{Channel, Random},
    timer::Timer,
    transport::{Drops, Transport, Waker},
    vnl::Vnl,
};

/// Frames that are taken from the network inside in one turn.
const TURN: usize = 256;
/// An interface that is busy for so long has a queue.
const PATIENCE: Duration = Duration::from_millis(1);

/// Opens `wirefilter://[delay=/loss=...]{VNL}`.
pub(crate) fn open(
    vnl: &Vnl,
    inner: impl FnOnce(&Vnl) -> Result<Arc<dyn Transport>, OpenError>,
) -> Result<Arc<dyn Transport>, OpenError> {
    let options = Options::of(vnl)?;
    let place = vnl.to_string();
    let nested = vnl.nested.as_deref().filter(|_| vnl.path.is_empty());
    let nested = nested.ok_or_else(|| OpenError::Refused {
        place: place.clone(),
        problem: "needs a network in braces, for example \
                  wirefilter://[delay=100/loss=5]{switch:///tmp/sw}"
            .to_owned(),
        errno: libc::EINVAL,
    })?;
    let inner = inner(nested)?;
    let filter = Wirefilter::new(inner, options);
    Ok(Arc::new(filter.map_err(OpenError::system(&place, "making a timer"))?))
}

/// A plug in a network behind a bad link.
#[derive(Debug)]
struct Wirefilter {
    inner: Arc<dyn Transport>,
    line: Mutex<Line>,
    epoll: Epoll,
    started: Instant,
    drops: Drops,
}

#[derive(Debug)]
struct Line {
    outward: Channel,
    inward: Channel,
    timer: Timer,
}

impl Wirefilter {
    fn new(inner: Arc<dyn Transport>, options: Options) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = Timer::new()?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        if let Some(descriptor) = inner.poll_fd() {
            epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, 1))?;
        }
        let seed = options.seed.unwrap_or_else(|| RandomState::new().hash_one(0_u8));
        let mut seeds = Random::new(seed);
        let line = Line {
            outward: Channel::new(options.outward, seeds.bits()),
            inward: Channel::new(options.inward, seeds.bits()),
            timer,
        };
        let (line, drops) = (Mutex::new(line), Drops::default());
        Ok(Self { inner, line, epoll, started: Instant::now(), drops })
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Passes on what has come out of the outward channel.
    fn flush(&self, line: &mut Line, now: Duration) {
        let mut out = Vec::new();
        while let Some(bytes) = line.outward.take(now) {
            out.push(Frame::from(bytes));
        }
        if !out.is_empty() {
            self.inner.send(&mut out);
        }
    }

    /// Takes in what the network inside has; returns whether there may be more.
    fn admit(&self, line: &mut Line, now: Duration) -> io::Result<bool> {
        let mut frames = VecDeque::new();
        let found = self.inner.receive(&mut frames, TURN)?;
        // Frames of this process may be unfinished.
        for bytes in batch::wire_ready(&mut frames.drain(..).collect(), &self.drops) {
            line.inward.offer(bytes, now);
        }
        Ok(found == TURN)
    }

    fn set_timer(line: &mut Line, now: Duration, at_once: bool) {
        let next = [line.outward.due(), line.inward.due(), at_once.then_some(now)];
        line.timer.set(next.into_iter().flatten().min(), now);
    }
}

impl Transport for Wirefilter {
    fn send(&self, frames: &mut Vec<Frame>) {
        let packets = batch::wire_ready(frames, &self.drops);
        let mut line = self.line.lock();
        let now = self.now();
        for bytes in packets {
            line.outward.offer(bytes, now);
        }
        self.flush(&mut line, now);
        Self::set_timer(&mut line, now, false);
    }

    fn receive(&self, into: &mut VecDeque<Frame>, budget: usize) -> io::Result<usize> {
        let mut line = self.line.lock();
        let now = self.now();
        let admitted = self.admit(&mut line, now);
        self.flush(&mut line, now);
        let mut count = 0;
        while count < budget
            && let Some(bytes) = line.inward.take(now)
        {
            into.push_back(Frame::from(bytes));
            count += 1;
        }
        let more = matches!(admitted, Ok(true));
        Self::set_timer(&mut line, now, more);
        match admitted {
            // What is under way arrives although the network is gone.
            Err(error) if count == 0 && line.inward.is_empty() => Err(error),
            _ => Ok(count),
        }
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.0.as_fd())
    }

    fn set_waker(&self, waker: Waker) {
        self.inner.set_waker(waker);
    }

    fn inner(&self) -> Option<&dyn Transport> {
        Some(&*self.inner)
    }

    fn backlog(&self) -> usize {
        let line = self.line.lock();
        let waits = line.outward.busy(self.now()) > PATIENCE;
        self.inner.backlog() + if waits { line.outward.len() } else { 0 }
    }

    fn drops(&self) -> u64 {
        let line = self.line.lock();
        self.drops.get() + line.outward.drops() + line.inward.drops() + self.inner.drops()
    }
}
