//! A TCP socket of a plugin, as the bridge sees it.
//!
//! Theory of operation. Two threads meet in [`Inner`]: the plugin's moves bytes between the plugin
//! and two bounded queues ([`StreamSocket::receive`] and [`StreamSocket::transmit`] are their other
//! ends), follows the handshake and accepts connections (all that is in [`super::drive`]); the
//! bridge's looks at the state and asks for what it wants. The plugin is never called while `Inner` is locked, so a plugin that does not
//! come back stops its own thread only.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use umvu_abi::{
    Errno, SockAddr,
    net::{Accepted, Socket, SocketEvents, SocketSpec, StreamSocket, StreamState},
};
use umvu_reactor::Source;

use super::{
    drive::BACKLOG,
    ffi::plugin::{Plugin, PluginFd},
    host::{Host, Running},
    socket::{self, Common},
};

/// How many bytes wait in each direction.
pub(super) const QUEUE: usize = 256 << 10;
/// How many bytes one call moves.
pub(super) const PIECE: usize = 64 << 10;

/// A TCP socket.
pub(crate) struct Stream {
    pub(super) common: Common,
    pub(super) inner: Mutex<Inner>,
    this: Weak<Self>,
}

/// What both threads see.
pub(super) struct Inner {
    pub(super) phase: Phase,
    pub(super) received: VecDeque<u8>,
    pub(super) to_send: VecDeque<u8>,
    /// The plugin may have something; it may take something.
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The peer has finished.
    pub(super) ended: bool,
    pub(super) finish: Finish,
    /// Nobody reads or writes any more: the descriptor is closed once all is sent.
    pub(super) leaving: bool,
    pub(super) waiting: VecDeque<(Arc<Stream>, SockAddr)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Fresh,
    Connecting(SockAddr),
    Refused(Errno),
    Listening,
    Connected,
    Broken(Errno),
}

/// Where our end of sending is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    No,
    WhenSent,
    Done,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            phase: Phase::Fresh,
            received: VecDeque::new(),
            to_send: VecDeque::new(),
            readable: false,
            writable: true,
            ended: false,
            finish: Finish::No,
            leaving: false,
            waiting: VecDeque::new(),
        }
    }
}

impl Stream {
    /// Wraps a descriptor that the plugin has just made. Errors: `EOPNOTSUPP`.
    pub(crate) fn new(
        host: &Arc<Host>,
        spec: &SocketSpec,
        fd: PluginFd,
    ) -> Result<Arc<Self>, Errno> {
        let common = Common::new(host, spec);
        let stream = Arc::new_cyclic(|this| Self {
            common,
            inner: Mutex::default(),
            this: Weak::clone(this),
        });
        stream.common.attach(&stream.source()?, fd)?;
        Ok(stream)
    }

    /// What the socket has in common with others.
    pub(crate) fn common(&self) -> &Common {
        &self.common
    }

    fn source(&self) -> Result<Arc<dyn Source>, Errno> {
        self.this.upgrade().map(|this| this as Arc<dyn Source>).ok_or(Errno::EBADF)
    }

    /// A descriptor for a socket that has lost its own by a reset. Errors: the plugin's.
    fn renew(&self) -> Result<(), Errno> {
        if self.common.fd().is_ok() {
            return Ok(());
        }
        let spec = self.common.spec;
        let open = move |plugin: &Plugin, running: &Running| socket::open(plugin, running, &spec);
        let fd = self.common.host.call("socket", open)?;
        self.common.attach(&self.source()?, fd).inspect_err(|_| self.drop_descriptor(fd))
    }

    fn drop_descriptor(&self, fd: PluginFd) {
        self.common.host.post(move |plugin, running| running.close(plugin, fd));
    }

    /// Closes the descriptor on the plugin's thread, the connection reset if there is one.
    fn cut_off(&self) {
        let Some(fd) = self.common.release() else { return };
        self.common.host.post(move |plugin, running| {
            let mut linger = [0; 8];
            linger[0] = 1;
            // SO_LINGER with a time of 0: close(2) resets.
            let _ = plugin.set_option(fd, libc::SOL_SOCKET, libc::SO_LINGER, &linger);
            running.close(plugin, fd);
        });
    }
}

impl Inner {
    pub(super) fn connected(&mut self) {
        self.phase = Phase::Connected;
        (self.readable, self.writable) = (true, true);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(fd) = self.common.release() {
            self.drop_descriptor(fd);
        }
    }
}

impl Socket for Stream {
    fn bind(&self, addr: &SockAddr) -> Result<(), Errno> {
        self.renew()?;
        self.common.bind(addr)
    }

    fn local(&self) -> Result<SockAddr, Errno> {
        self.renew()?;
        self.common.local()
    }

    fn peer(&self) -> Result<SockAddr, Errno> {
        self.common.peer().map_err(|errno| match errno {
            Errno::EBADF => Errno::ENOTCONN,
            errno => errno,
        })
    }

    fn set_option(&self, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        self.renew()?;
        self.common.set_option(level, name, value)
    }

    fn option(&self, level: i32, name: i32, given: &[u8]) -> Result<Vec<u8>, Errno> {
        if (level, name) == (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) {
            let listening = self.inner.lock().phase == Phase::Listening;
            return Ok(i32::from(listening).to_ne_bytes().to_vec());
        }
        self.common.option(level, name, given)
    }

    fn ioctl(&self, request: u32, argument: &mut Vec<u8>) -> Result<i32, Errno> {
        self.common.ioctl(request, argument)
    }

    fn take_error(&self) -> Option<Errno> {
        let mut inner = self.inner.lock();
        if matches!(inner.phase, Phase::Refused(_)) {
            inner.phase = Phase::Fresh;
        }
        drop(inner);
        self.common.take_error()
    }

    fn close(&self) {
        let mut inner = self.inner.lock();
        inner.leaving = true;
        inner.received.clear();
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        drop(waiting);
        // What is queued is still sent, though nobody else has the socket.
        if let (Ok(fd), Ok(source)) = (self.common.fd(), self.source()) {
            self.common.host.running().keep(fd, source);
        }
        self.common.wake();
    }
}

impl StreamSocket for Stream {
    fn state(&self) -> StreamState {
        let inner = self.inner.lock();
        match inner.phase {
            Phase::Fresh => StreamState::Fresh,
            Phase::Connecting(_) => StreamState::Connecting,
            Phase::Refused(errno) => StreamState::Refused(errno),
            Phase::Listening => StreamState::Listening,
            Phase::Broken(errno) => StreamState::Broken(errno),
            Phase::Connected => {
                let peer_closed = inner.ended && inner.received.is_empty();
                if peer_closed && inner.finish == Finish::Done {
                    StreamState::Closed
                } else {
                    StreamState::Established { peer_closed }
                }
            }
        }
    }

    fn connect(&self, addr: &SockAddr) -> Result<(), Errno> {
        self.renew()?;
        let (to, this) = (*addr, self.this.upgrade().ok_or(Errno::EBADF)?);
        self.common.call("connect", move |plugin, fd| {
            match plugin.connect(fd, &to) {
                Ok(()) => this.inner.lock().connected(),
                Err(Errno::EINPROGRESS | Errno::EALREADY) => {
                    this.inner.lock().phase = Phase::Connecting(to);
                }
                Err(errno) => return Err(errno),
            }
            Ok(())
        })?;
        self.common.wake();
        Ok(())
    }

    fn listen(&self, backlog: u32) -> Result<(), Errno> {
        self.renew()?;
        let this = self.this.upgrade().ok_or(Errno::EBADF)?;
        self.common.call("listen", move |plugin, fd| {
            plugin.listen(fd, backlog)?;
            this.inner.lock().phase = Phase::Listening;
            Ok(())
        })?;
        self.common.wake();
        Ok(())
    }

    fn accept(&self, events: &mut dyn FnMut() -> Arc<dyn SocketEvents>) -> Option<Accepted> {
        let mut inner = self.inner.lock();
        let (socket, peer) = inner.waiting.pop_front()?;
        let was_full = inner.waiting.len() + 1 == BACKLOG;
        drop(inner);
        if was_full {
            self.common.wake();
        }
        socket.common.observe(events());
        Some(Accepted { socket, peer })
    }

    fn transmit(&self, fill: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        let mut inner = self.inner.lock();
        match inner.phase {
            Phase::Connected if inner.finish == Finish::No => {}
            Phase::Connected | Phase::Broken(_) => return Err(Errno::EPIPE.into()),
            _ => return Err(Errno::ENOTCONN.into()),
        }
        let room = QUEUE.saturating_sub(inner.to_send.len()).min(PIECE);
        if room == 0 {
            return Ok(0);
        }
        let mut piece = vec![0; room];
        let count = fill(&mut piece)?.min(room);
        inner.to_send.extend(&piece[..count]);
        drop(inner);
        if count > 0 {
            self.common.wake();
        }
        Ok(count)
    }

    fn receive(&self, drain: &mut dyn FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
        let mut inner = self.inner.lock();
        let before = inner.received.len();
        let mut total = 0;
        loop {
            let (piece, _) = inner.received.as_slices();
            let offered = piece.len();
            if offered == 0 {
                break;
            }
            let taken = match drain(piece) {
                Ok(taken) => taken.min(offered),
                Err(error) if total == 0 => return Err(error),
                Err(_) => break,
            };
            inner.received.drain(..taken);
            total += taken;
            if taken < offered {
                break;
            }
        }
        let more = inner.readable && before >= QUEUE / 2;
        drop(inner);
        if more && total > 0 {
            self.common.wake();
        }
        Ok(total)
    }

    fn finish(&self) -> Result<(), Errno> {
        let mut inner = self.inner.lock();
        if inner.phase != Phase::Connected {
            return Err(Errno::ENOTCONN);
        }
        if inner.finish == Finish::No {
            inner.finish = Finish::WhenSent;
        }
        drop(inner);
        self.common.wake();
        Ok(())
    }

    fn reset(&self) {
        let old = std::mem::take(&mut *self.inner.lock());
        drop(old);
        self.cut_off();
    }

    fn wants_data(&self) -> bool {
        let inner = self.inner.lock();
        let open = inner.phase == Phase::Connected && inner.finish == Finish::No;
        open && inner.to_send.len() < QUEUE
    }
}
