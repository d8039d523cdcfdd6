//! Networks that libvdeplug joins: every scheme without a transport of our own, by the library's
//! plugins; and `libvdeplug://{VNL}`, any locator by the library alone.
//!
//! The library is loaded at run time, when it is first needed (`vde_sys`); without it everything
//! else works. Its functions may block, so each plug has a thread that opens the connection, carries
//! frames between it and a socket, and opens it again when it is lost ([`pump`]); the plug's owner
//! sees the other end of the socket only. `connection.rs` calls the library, `plugins.rs` knows what
//! is installed, and `nested.rs` lends a network of ours to a plugin that transforms frames.
//!
//! Lock: the waker's, which is called with no lock held.

mod connection;
mod nested;
pub mod plugins;
mod pump;

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        epoll::{Epoll, EpollCreateFlags},
        socket::{Shutdown, shutdown},
    },
};
use parking_lot::Mutex;

use self::{
    connection::Connection,
    nested::{Inner, cable},
    pump::{Ended, carry},
};
use crate::{
    batch,
    error::OpenError,
    frame::Frame,
    outlet::Outlet,
    transport::{Drops, Transport, Waker, WakerSlot},
    vnl::Vnl,
};

/// How long the library may take to open a plug.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a plug that is given up waits for the library to close it.
const FAREWELL: Duration = Duration::from_millis(500);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// Opens `libvdeplug://{VNL}`, or the same without braces.
pub(crate) fn open_forced(vnl: &Vnl, about: &str) -> Result<Arc<dyn Transport>, OpenError> {
    let text = vnl.path.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let text = text.unwrap_or(&vnl.path).to_owned();
    open(Source { text, inner: None, about: about.to_owned() }, "")
}

/// Opens a locator whose scheme is not one of the `natives`, which an error message lists.
///
/// A network inside it is opened by `nested`, unless that gives none.
pub(crate) fn open_foreign(
    text: &str,
    about: &str,
    natives: &str,
    nested: impl FnOnce(&Vnl) -> Option<Result<Arc<dyn Transport>, OpenError>>,
) -> Result<Arc<dyn Transport>, OpenError> {
    let mut source = Source { text: text.to_owned(), inner: None, about: about.to_owned() };
    // What does not read as a locator may have a syntax of its own.
    if let Ok(mut vnl) = text.parse::<Vnl>()
        && let Some(inner) = vnl.nested.take()
    {
        plugins::library(text, source.scheme(), natives)?;
        if let Some(inner) = nested(&inner) {
            source = Source { text: vnl.to_string(), inner: Some(Inner(inner?)), ..source };
        }
    }
    open(source, natives)
}

/// What to open, again and again.
#[derive(Debug)]
struct Source {
    /// A locator; if there is an inner network, one that lacks its braces.
    text: String,
    inner: Option<Inner>,
    about: String,
}

impl Source {
    fn scheme(&self) -> &str {
        self.text.split_once("://").map_or("vde", |(scheme, _)| scheme)
    }

    /// Opens a connection, however long that takes.
    fn connect(&self, natives: &str) -> Result<Connection, OpenError> {
        let library = plugins::library(&self.text, self.scheme(), natives)?;
        plugins::keep(&self.text);
        let opened = match &self.inner {
            None => Connection::open(library, &self.text, &self.about),
            Some(inner) => {
                let end = inner.lend().map_err(OpenError::system(&self.text, "making a cable"))?;
                let text = format!("{}{{seqpacket://{}}}", self.text, end.number);
                plugins::keep("seqpacket://");
                let opened = Connection::open(library, &text, &self.about);
                opened.inspect_err(|_| end.take_back())
            }
        };
        opened.map_err(|errno| self.failure(errno, natives))
    }

    fn failure(&self, errno: Errno, natives: &str) -> OpenError {
        match errno {
            Errno::EPROTONOSUPPORT => {
                // Perhaps it is the plugin of a locator inside that is missing.
                let schemes = self.text.split('{').filter_map(|part| part.split_once("://"));
                let absent = schemes.map(|(scheme, _)| scheme).find(|s| !plugins::has_plugin(s));
                plugins::missing(&self.text, absent.unwrap_or(self.scheme()), natives)
            }
            Errno::UnknownErrno => OpenError::Refused {
                place: self.text.clone(),
                problem: "libvdeplug does not open it and gives no reason".to_owned(),
                errno: libc::EINVAL,
            },
            errno => {
                let remedy = |errno| match errno {
                    libc::EPERM | libc::EACCES => Some("it may need root or a user namespace"),
                    libc::EINVAL => Some("see the manual page of the plugin: libvdeplug_NAME(1)"),
                    _ => None,
                };
                OpenError::system_with(&self.text, "opening it by libvdeplug", remedy)(errno)
            }
        }
    }
}

fn open(source: Source, natives: &str) -> Result<Arc<dyn Transport>, OpenError> {
    let place = source.text.clone();
    let (near, far) = cable().map_err(OpenError::system(&place, "making a cable"))?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
    let outlet = epoll.and_then(|epoll| {
        let epoll = Arc::new(epoll);
        Ok((Outlet::new(near, Arc::clone(&epoll), 0)?, epoll))
    });
    let (outlet, epoll) = outlet.map_err(OpenError::system(&place, "watching the cable"))?;
    let shared = Arc::new(Shared::default());
    let (opened, outcome) = mpsc::channel();
    let (ends, ended) = mpsc::channel();
    let worker = Worker { source, socket: far, shared: Arc::clone(&shared) };
    let natives = natives.to_owned();
    let work = move || {
        worker.run(&natives, &opened);
        drop(ends);
    };
    let thread = thread::Builder::new().name("libvdeplug".into()).spawn(work);
    thread.map_err(OpenError::system(&place, "starting a thread"))?;
    match outcome.recv_timeout(PATIENCE) {
        Ok(Ok(())) => {
            Ok(Arc::new(LibraryPlug { place, epoll, outlet, shared, ended: Mutex::new(ended) }))
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(OpenError::Refused {
            place,
            problem: format!(
                "libvdeplug has not opened it within {} seconds (is the far end there?)",
                PATIENCE.as_secs()
            ),
            errno: libc::ETIMEDOUT,
        }),
    }
}

/// What a plug and its thread share.
#[derive(Debug, Default)]
struct Shared {
    carrier: AtomicBool,
    /// Whether a loss is final.
    strict: AtomicBool,
    waker: WakerSlot,
    drops: Drops,
}

impl Shared {
    fn set_carrier(&self, carrier: bool) {
        if self.carrier.swap(carrier, Ordering::AcqRel) != carrier {
            self.waker.wake();
        }
    }
}

/// The thread that talks to the library.
struct Worker {
    source: Source,
    /// Ends with the plug.
    socket: OwnedFd,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(self, natives: &str, opened: &Sender<Result<(), OpenError>>) {
        let mut connection = match self.source.connect(natives) {
            Ok(connection) => connection,
            Err(error) => return drop(opened.send(Err(error))),
        };
        self.shared.set_carrier(true);
        // Nobody may be waiting any more; then the socket has ended.
        let _ = opened.send(Ok(()));
        while carry(&self.socket, &mut connection, &self.shared.drops) == Ended::Far {
            drop(connection);
            tracing::info!(place = %self.source.text, "the connection is lost");
            self.shared.set_carrier(false);
            if self.shared.strict.load(Ordering::Acquire) {
                tracing::warn!(place = %self.source.text, "the connection is lost for good (strict)");
                return;
            }
            connection = match self.reconnect(natives) {
                Some(connection) => connection,
                None => return,
            };
            tracing::info!(place = %self.source.text, "connected again");
            self.shared.set_carrier(true);
        }
    }

    /// Connects again, however long that takes; None if the plug is gone.
    fn reconnect(&self, natives: &str) -> Option<Connection> {
        let mut pause = FIRST_RETRY;
        loop {
            self.idle(pause)?;
            match self.source.connect(natives) {
                Ok(connection) => return Some(connection),
                Err(error) => tracing::debug!(%error, "not yet connected again"),
            }
            pause = LAST_RETRY.min(pause * 2);
        }
    }

    /// Drops what is sent meanwhile; None if the plug is gone.
    fn idle(&self, pause: Duration) -> Option<()> {
        let end = Instant::now() + pause;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX);
            let mut descriptors = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut descriptors, timeout) {
                Ok(0) => return Some(()),
                Ok(_) => {}
                Err(_) => continue,
            }
            let mut count = |_| self.shared.drops.add(1);
            let received =
                batch::receive_frames(self.socket.as_fd(), 64, &self.shared.drops, &mut count);
            let events = descriptors[0].revents().unwrap_or(PollFlags::empty());
            if events.contains(PollFlags::POLLHUP) && received.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}

/// A plug that libvdeplug holds.
#[derive(Debug)]
struct LibraryPlug {
    place: String,
    epoll: Arc<Epoll>,
    outlet: Outlet,
    shared: Arc<Shared>,
    /// Disconnected when the thread has ended.
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Transport for LibraryPlug {
    fn send(&self, frames: &mut Vec<Frame>) {
        let packets = batch::wire_ready(frames, &self.shared.drops);
        if self.carrier() {
            self.outlet.send(packets, &self.shared.drops);
        } else {
            self.shared.drops.add(packets.len());
        }
    }

    fn receive(&self, into: &mut VecDeque<Frame>, budget: usize) -> io::Result<usize> {
        self.outlet.flush(&self.shared.drops);
        let mut push = |frame| into.push_back(frame);
        let socket = self.outlet.socket();
        let count = batch::receive_frames(socket, budget, &self.shared.drops, &mut push);
        match count {
            Ok(count) if count > 0 || !self.outlet.has_hung_up() => Ok(count),
            Ok(_) | Err(_) => {
                let text = format!("{}: libvdeplug has given up", self.place);
                Err(io::Error::new(io::ErrorKind::BrokenPipe, text))
            }
        }
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.0.as_fd())
    }

    fn set_waker(&self, waker: Waker) {
        self.shared.waker.set(waker);
    }

    fn set_strict(&self) {
        self.shared.strict.store(true, Ordering::Release);
    }

    fn carrier(&self) -> bool {
        self.shared.carrier.load(Ordering::Acquire)
    }

    fn backlog(&self) -> usize {
        self.outlet.backlog()
    }

    fn drops(&self) -> u64 {
        self.shared.drops.get()
    }
}

impl Drop for LibraryPlug {
    /// Ends the thread, and gives the library a moment to say farewell to the network.
    fn drop(&mut self) {
        let _ = shutdown(self.outlet.socket().as_raw_fd(), Shutdown::Both);
        if self.ended.get_mut().recv_timeout(FAREWELL) == Err(RecvTimeoutError::Timeout) {
            tracing::debug!(place = %self.place, "libvdeplug is still busy closing");
        }
    }
}
