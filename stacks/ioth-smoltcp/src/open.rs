//! A socket that the program has: the stack's, and the descriptor that shows its readiness.

use std::{
    io,
    os::fd::{AsRawFd, IntoRawFd, RawFd},
    sync::{Arc, OnceLock},
    time::Instant,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, SockFlag, recv, setsockopt, sockopt},
    sys::time::TimeVal,
};
use parking_lot::Mutex;
use umvu_abi::{Errno, control::Wanted};
use umvu_reactor::{Handle, Ready, Source};
use umvu_stacks::net::{Readiness, Socket, Watcher};

use crate::{
    registry::{self, Host},
    signal::Signal,
    sys,
};

/// What a descriptor of the program stands for.
pub(crate) struct Open {
    /// The stack's socket, which never waits.
    pub(crate) socket: Socket,
    /// The stack it belongs to.
    pub(crate) host: Arc<Host>,
    /// The control messages that were asked for.
    pub(crate) wanted: Mutex<Wanted>,
    signal: Mutex<Signal>,
    watcher: OnceLock<Watcher>,
    handle: OnceLock<Handle>,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.get() {
            self.socket.unwatch(watcher);
        }
    }
}

impl Source for Open {
    fn run(&self, _ready: Ready) {
        self.refresh_with(true);
    }
}

impl Open {
    /// Gives the program a descriptor for a socket. `flags` are those of socket(2).
    pub(crate) fn install(host: Arc<Host>, socket: Socket, flags: SockFlag) -> io::Result<RawFd> {
        socket.set_nonblocking(true);
        let (signal, theirs) = Signal::new(flags)?;
        let open = Arc::new(Self {
            socket,
            host,
            wanted: Mutex::default(),
            signal: Mutex::new(signal),
            watcher: OnceLock::new(),
            handle: OnceLock::new(),
        });
        let source: Arc<dyn Source> = Arc::clone(&open) as Arc<dyn Source>;
        let handle = open.host.reactor.handle(&source);
        let waking = handle.clone();
        let watcher: Watcher = Arc::new(move || waking.wake());
        open.socket.watch(Arc::clone(&watcher));
        let _ = (open.handle.set(handle), open.watcher.set(watcher));
        open.refresh();
        let fd = theirs.into_raw_fd();
        registry::insert(fd, open);
        Ok(fd)
    }

    /// Has the descriptor show how things are after a call.
    pub(crate) fn refresh(&self) {
        self.refresh_with(false);
    }

    fn refresh_with(&self, afresh: bool) {
        let mut signal = self.signal.lock();
        signal.show(self.socket.readiness(), afresh);
    }

    /// Has the descriptor show that a listener ended.
    pub(crate) fn end(&self) {
        self.signal.lock().end(false);
    }

    /// Makes the descriptor `fd` usable again, after it has shown an end, for a new connection.
    pub(crate) fn renew(&self, fd: RawFd) -> io::Result<()> {
        let mut signal = self.signal.lock();
        if signal.is_spent() {
            let flags = if self.is_nonblocking_end(&signal) {
                SockFlag::SOCK_NONBLOCK
            } else {
                SockFlag::empty()
            };
            let (fresh, theirs) = Signal::new(flags | SockFlag::SOCK_CLOEXEC)?;
            sys::replace(fd, &theirs)?;
            *signal = fresh;
            let ready = self.socket.readiness();
            signal.show(Readiness { hangup: false, ..ready }, false);
        }
        Ok(())
    }

    fn is_nonblocking_end(&self, signal: &Signal) -> bool {
        let flags = fcntl(signal.fd(), FcntlArg::F_GETFL).unwrap_or(0);
        OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK)
    }

    /// The file status flags of the descriptor (`F_GETFL`).
    pub(crate) fn flags(&self) -> Result<OFlag, Errno> {
        let flags = fcntl(self.signal.lock().fd(), FcntlArg::F_GETFL);
        flags.map(OFlag::from_bits_retain).map_err(|errno| Errno(errno as i32))
    }

    /// Sets the file status flags of the descriptor (`F_SETFL`).
    pub(crate) fn set_flags(&self, flags: OFlag) -> Result<(), Errno> {
        let set = fcntl(self.signal.lock().fd(), FcntlArg::F_SETFL(flags));
        set.map(|_| ()).map_err(|errno| Errno(errno as i32))
    }

    /// Whether a call with these `MSG_*` flags waits.
    pub(crate) fn waits(&self, flags: i32) -> bool {
        flags & libc::MSG_DONTWAIT == 0 && !self.is_nonblocking_end(&self.signal.lock())
    }

    /// Has waits for data end after the socket's timeout: the kernel keeps the time.
    pub(crate) fn follow_timeout(&self) -> io::Result<()> {
        let timeout = self.socket.read_timeout().unwrap_or_default();
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let value = TimeVal::new(seconds, i64::from(timeout.subsec_micros()));
        Ok(setsockopt(&self.signal.lock().fd(), sockopt::ReceiveTimeout, &value)?)
    }

    /// Waits until there is something to read or to accept.
    /// Errors: `EAGAIN` when the timeout has passed, `EINTR`.
    pub(crate) fn wait_to_read(&self) -> Result<(), Errno> {
        let fd = self.signal.lock().fd().try_clone_to_owned()?;
        // As a receive of the kernel's own, it goes on, or not, after a handler of a signal.
        match recv(fd.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK) {
            Ok(_) | Err(nix::Error::ECONNRESET) => Ok(()),
            Err(errno) => Err(Errno(errno as i32)),
        }
    }

    /// Waits until there is room to write or a connection is made or refused.
    /// Errors: `EAGAIN` when the timeout has passed.
    pub(crate) fn wait_to_write(&self, deadline: Option<Instant>) -> Result<(), Errno> {
        let fd = self.signal.lock().fd().try_clone_to_owned()?;
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let patience = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
            });
            let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(&fd), PollFlags::POLLOUT)];
            match poll(&mut fds, patience) {
                Ok(0) if left.is_some_and(|left| left.is_zero()) => return Err(Errno::EAGAIN),
                Ok(0) | Err(nix::Error::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(Errno(errno as i32)),
            }
        }
    }
}
