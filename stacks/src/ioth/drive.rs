//! What the plugin's thread does with a TCP socket: handshake, bytes both ways, accepting, closing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use umvu_abi::{Errno, SockAddr, net::Shutdown};
use umvu_reactor::{Ready, Source};

use super::{
    ffi::plugin::{Plugin, PluginFd, borrow},
    socket,
    stream::{Finish, Inner, PIECE, Phase, QUEUE, Stream},
};

/// How many calls one run makes before other sockets have their turn.
const ROUNDS: usize = 16;
/// How many connections wait to be taken.
pub(super) const BACKLOG: usize = 64;
/// How soon a plugin is asked again that has said EAGAIN, if its descriptor tells nothing.
const RETRY: Duration = Duration::from_millis(20);

impl Source for Stream {
    fn run(&self, ready: Ready) {
        let (Ok(plugin), Ok(fd)) = (self.common.host.running().plugin(), self.common.fd()) else {
            return;
        };
        let phase = {
            let mut inner = self.inner.lock();
            inner.readable |= ready.readable;
            // A run that nothing has caused is a retry.
            inner.writable |= ready.writable || ready == Ready::default();
            inner.phase
        };
        match phase {
            Phase::Connecting(to) => self.follow_handshake(&plugin, fd, &to),
            Phase::Listening => self.take_connections(&plugin, fd),
            Phase::Fresh | Phase::Refused(_) | Phase::Connected | Phase::Broken(_) => {}
        }
        if self.inner.lock().phase == Phase::Connected {
            self.push(&plugin, fd);
            self.pull(&plugin, fd);
        }
        self.conclude(&plugin, fd);
    }
}

impl Stream {
    /// On the plugin's thread: whether the handshake is over, and how.
    fn follow_handshake(&self, plugin: &Plugin, fd: PluginFd, to: &SockAddr) {
        // Its descriptor is writable, or in error, when it is over.
        let mut set = [PollFd::new(borrow(fd), PollFlags::POLLOUT)];
        if poll(&mut set, PollTimeout::ZERO).is_ok_and(|count| count == 0) {
            return;
        }
        let outcome = match plugin.take_error(fd) {
            Some(errno) => Err(errno),
            None if plugin.has_options() => match plugin.peer(fd) {
                Ok(_) | Err(Errno::ENOSYS) => Ok(()),
                Err(_) => return self.look_again(),
            },
            // Without SO_ERROR, another connect tells.
            None => match plugin.connect(fd, to) {
                Ok(()) | Err(Errno::EISCONN) => Ok(()),
                Err(Errno::EALREADY | Errno::EINPROGRESS) => return self.look_again(),
                Err(errno) => Err(errno),
            },
        };
        let mut inner = self.inner.lock();
        if !matches!(inner.phase, Phase::Connecting(_)) {
            return;
        }
        match outcome {
            Ok(()) => inner.connected(),
            Err(errno) => {
                inner.phase = Phase::Refused(errno);
                self.common.fail(errno);
            }
        }
        drop(inner);
        self.common.changed();
    }

    fn look_again(&self) {
        if let Some(handle) = self.common.handle() {
            handle.wake_at(Some(Instant::now() + RETRY));
        }
    }

    /// Plugin to queue.
    fn pull(&self, plugin: &Plugin, fd: PluginFd) {
        let running = Arc::clone(self.common.host.running());
        let mut piece = running.scratch(PIECE);
        let mut news = false;
        for round in 0.. {
            let room = {
                let inner = self.inner.lock();
                let wanted = inner.readable && !inner.ended && !inner.leaving;
                if wanted { QUEUE.saturating_sub(inner.received.len()).min(PIECE) } else { 0 }
            };
            if room == 0 {
                break;
            }
            if round == ROUNDS {
                self.common.wake();
                break;
            }
            let result = plugin.receive(fd, &mut piece[..room]);
            let mut inner = self.inner.lock();
            match result {
                Ok(0) => inner.ended = true,
                Ok(count) => inner.received.extend(&piece[..count]),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => {
                    inner.readable = false;
                    break;
                }
                Err(errno) => self.break_off(&mut inner, errno),
            }
            news = true;
        }
        if news {
            self.common.changed();
        }
    }

    /// Queue to plugin.
    fn push(&self, plugin: &Plugin, fd: PluginFd) {
        let mut news = false;
        for round in 0.. {
            let piece: Vec<u8> = {
                let inner = self.inner.lock();
                let (first, _) = inner.to_send.as_slices();
                let count = if inner.writable { first.len().min(PIECE) } else { 0 };
                first[..count].to_vec()
            };
            if piece.is_empty() {
                break;
            }
            if round == ROUNDS {
                self.common.wake();
                break;
            }
            let result = plugin.send(fd, &piece);
            let mut inner = self.inner.lock();
            match result {
                Ok(count) if count > 0 => drop(inner.to_send.drain(..count)),
                Err(Errno::EINTR) => continue,
                Ok(_) | Err(Errno::EAGAIN) => {
                    inner.writable = false;
                    drop(inner);
                    self.look_again();
                    break;
                }
                Err(errno) => self.break_off(&mut inner, errno),
            }
            news = true;
        }
        if news {
            self.common.changed();
        }
    }

    fn break_off(&self, inner: &mut Inner, errno: Errno) {
        inner.phase = Phase::Broken(errno);
        inner.to_send.clear();
        inner.readable = false;
        self.common.fail(errno);
    }

    /// Passes on that nothing more is sent, and lets go of the descriptor when nobody wants it.
    fn conclude(&self, plugin: &Plugin, fd: PluginFd) {
        let mut inner = self.inner.lock();
        let sent = inner.to_send.is_empty();
        let finish = sent && inner.finish == Finish::WhenSent && inner.phase == Phase::Connected;
        if finish {
            inner.finish = Finish::Done;
        }
        let over = inner.leaving && sent;
        drop(inner);
        if finish && !over {
            let _ = plugin.shutdown(fd, Shutdown::Write);
            self.common.changed();
        }
        if over && let Some(fd) = self.common.release() {
            self.common.host.running().close(plugin, fd);
        }
    }

    /// Takes the connections that wait in the plugin.
    fn take_connections(&self, plugin: &Plugin, fd: PluginFd) {
        let mut news = false;
        while self.inner.lock().waiting.len() < BACKLOG {
            let (new, peer) = match plugin.accept(fd) {
                Ok(accepted) => accepted,
                Err(Errno::EINTR | Errno::ECONNABORTED) => continue,
                Err(_) => break,
            };
            let running = self.common.host.running();
            running.opened(new);
            let stream = socket::prepare(plugin, new)
                .and_then(|()| Self::new(&self.common.host, &self.common.spec, new));
            let Ok(stream) = stream else {
                running.close(plugin, new);
                continue;
            };
            stream.inner.lock().connected();
            stream.common.wake();
            let unknown = || SockAddr::any(u16::try_from(self.common.spec.domain).unwrap_or(0));
            let peer = peer.or_else(|| plugin.peer(new).ok()).unwrap_or_else(unknown);
            self.inner.lock().waiting.push_back((stream, peer));
            news = true;
        }
        if news {
            self.common.changed();
        }
    }
}
