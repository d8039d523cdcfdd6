//! An emulated TCP socket behind the blocking calls.

use std::{
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use umvu_abi::{
    Errno, SockAddr,
    net::{Accepted, SendControl, Shutdown, StreamSocket, StreamState},
};

use super::{
    bell::{Bell, Watcher},
    endpoint::{Endpoint, Interest, Readiness, Received, Take},
    halt::Halt,
};

pub(super) struct Stream {
    socket: Arc<dyn StreamSocket>,
    bell: Arc<Bell>,
    halt: Halt,
    /// A connection that was taken off the accept queue to see whether there is one.
    waiting: Mutex<Option<(Accepted, Arc<Bell>)>>,
    shut_read: AtomicBool,
    shut_write: AtomicBool,
    /// Whether the error that ended the connection was taken.
    told: AtomicBool,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.socket.close();
    }
}

impl Stream {
    pub(super) fn new(socket: Arc<dyn StreamSocket>, bell: Arc<Bell>, halt: Halt) -> Self {
        halt.tell(&bell);
        Self {
            socket,
            bell,
            halt,
            waiting: Mutex::new(None),
            shut_read: AtomicBool::new(false),
            shut_write: AtomicBool::new(false),
            told: AtomicBool::new(false),
        }
    }

    /// Takes a connection off the accept queue.
    fn next(&self) -> Option<(Accepted, Arc<Bell>)> {
        let bell = Arc::new(Bell::default());
        let accepted = self.socket.accept(&mut || Arc::clone(&bell) as _)?;
        Some((accepted, bell))
    }

    /// Whether a connection waits to be accepted.
    fn can_accept(&self) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.is_none() {
            *waiting = self.next();
        }
        waiting.is_some()
    }

    /// Copies received bytes; 0 when there are none.
    fn copy(&self, buffer: &mut [u8], take: Take) -> usize {
        let mut done = 0;
        let mut seen = 0;
        let _ = self.socket.receive(&mut |bytes| {
            // A peek takes nothing, and so is offered the first piece only.
            let count = bytes.len().min(buffer.len() - done);
            buffer[done..done + count].copy_from_slice(&bytes[..count]);
            done += count;
            seen = done;
            Ok(if take == Take::Peek { 0 } else { count })
        });
        seen
    }

    fn has_data(&self) -> bool {
        let mut any = false;
        let _ = self.socket.receive(&mut |bytes| {
            any |= !bytes.is_empty();
            Ok(0)
        });
        any
    }

    /// The error of a connection that has failed; None when it was told already.
    fn failure(&self) -> Option<Errno> {
        let errno = self.socket.take_error();
        self.told.fetch_or(errno.is_some(), Ordering::SeqCst);
        errno
    }
}

impl Endpoint for Stream {
    fn bind(&self, addr: &SockAddr) -> Result<(), Errno> {
        self.socket.bind(addr)
    }

    fn connect(&self, addr: &SockAddr) -> Result<(), Errno> {
        self.socket.connect(addr)?;
        self.shut_read.store(false, Ordering::SeqCst);
        self.shut_write.store(false, Ordering::SeqCst);
        self.told.store(false, Ordering::SeqCst);
        match self.connected() {
            Err(Errno::EAGAIN) if *addr != SockAddr::Unspec => Err(Errno::EINPROGRESS),
            Err(Errno::ECONNABORTED) if *addr == SockAddr::Unspec => Ok(()),
            other => other,
        }
    }

    fn connected(&self) -> Result<(), Errno> {
        match self.socket.state() {
            StreamState::Connecting => Err(Errno::EAGAIN),
            StreamState::Refused(errno) => {
                self.failure();
                Err(errno)
            }
            StreamState::Fresh => Err(self.failure().unwrap_or(Errno::ECONNABORTED)),
            _ => Ok(()),
        }
    }

    fn listen(&self, backlog: u32) -> Result<(), Errno> {
        self.socket.listen(backlog)
    }

    fn accept(&self) -> Result<(Box<dyn Endpoint>, SockAddr), Errno> {
        let held = self.waiting.lock().take();
        match held.or_else(|| self.next()) {
            Some((accepted, bell)) => {
                let stream = Self::new(accepted.socket, bell, self.halt.clone());
                Ok((Box::new(stream), accepted.peer))
            }
            None if self.socket.state() == StreamState::Listening => Err(Errno::EAGAIN),
            None => Err(Errno::EINVAL),
        }
    }

    fn receive(&self, buffer: &mut [u8], take: Take) -> Result<Received, Errno> {
        if buffer.is_empty() {
            return Ok(Received::part(0));
        }
        // What the state promises is looked for after it, so that no last byte is missed.
        let state = self.socket.state();
        let count = self.copy(buffer, take);
        if count > 0 || self.shut_read.load(Ordering::SeqCst) {
            return Ok(Received::part(count));
        }
        match state {
            // A reset that comes after the peer's FIN breaks only what is written.
            StreamState::Established { peer_closed: true }
            | StreamState::Closed
            | StreamState::Broken(Errno::EPIPE) => Ok(Received::part(0)),
            StreamState::Established { .. } | StreamState::Connecting => Err(Errno::EAGAIN),
            StreamState::Fresh | StreamState::Listening => Err(Errno::ENOTCONN),
            StreamState::Refused(_) | StreamState::Broken(_) => {
                self.failure().map_or(Ok(Received::part(0)), Err)
            }
        }
    }

    fn send(
        &self,
        data: &[u8],
        _to: Option<&SockAddr>,
        _control: &SendControl,
    ) -> Result<usize, Errno> {
        if self.shut_write.load(Ordering::SeqCst) {
            return Err(Errno::EPIPE);
        }
        let mut left = data;
        let sent = self.socket.transmit(&mut |room| {
            let count = room.len().min(left.len());
            room[..count].copy_from_slice(&left[..count]);
            left = &left[count..];
            Ok(count)
        });
        match sent {
            Ok(count) if count > 0 || data.is_empty() => return Ok(count),
            Ok(_) | Err(_) => {}
        }
        match self.socket.state() {
            StreamState::Connecting => Err(Errno::EAGAIN),
            StreamState::Established { .. } if sent.is_ok() => Err(Errno::EAGAIN),
            StreamState::Refused(_) | StreamState::Broken(_) => {
                Err(self.failure().unwrap_or(Errno::EPIPE))
            }
            _ => Err(Errno::EPIPE),
        }
    }

    fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        match self.socket.state() {
            StreamState::Listening if how != Shutdown::Write => self.socket.reset(),
            StreamState::Listening => {}
            StreamState::Established { .. } => {
                if how != Shutdown::Read {
                    self.socket.finish()?;
                    self.shut_write.store(true, Ordering::SeqCst);
                }
                if how != Shutdown::Write {
                    self.shut_read.store(true, Ordering::SeqCst);
                }
            }
            _ => return Err(Errno::ENOTCONN),
        }
        self.bell.ring();
        Ok(())
    }

    fn local(&self) -> Result<SockAddr, Errno> {
        self.socket.local()
    }

    fn peer(&self) -> Result<SockAddr, Errno> {
        self.socket.peer()
    }

    fn set_option(&self, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        self.socket.set_option(level, name, value)
    }

    fn option(&self, level: i32, name: i32, given: &[u8]) -> Result<Vec<u8>, Errno> {
        self.socket.option(level, name, given)
    }

    fn take_error(&self) -> Result<Option<Errno>, Errno> {
        Ok(self.failure())
    }

    fn ioctl(&self, request: u32, argument: &mut Vec<u8>) -> Result<i32, Errno> {
        self.socket.ioctl(request, argument)
    }

    fn readiness(&self) -> Readiness {
        let over = Readiness { readable: true, writable: true, ..Readiness::default() };
        let shut_read = self.shut_read.load(Ordering::SeqCst);
        let shut_write = self.shut_write.load(Ordering::SeqCst);
        match self.socket.state() {
            StreamState::Fresh => {
                Readiness { writable: true, hangup: true, ..Readiness::default() }
            }
            StreamState::Connecting => Readiness::default(),
            StreamState::Refused(_) | StreamState::Broken(_) => {
                let error = !self.told.load(Ordering::SeqCst);
                Readiness { peer_closed: true, hangup: true, error, ..over }
            }
            StreamState::Closed => Readiness { peer_closed: true, hangup: true, ..over },
            StreamState::Listening => {
                Readiness { readable: self.can_accept(), ..Readiness::default() }
            }
            StreamState::Established { peer_closed } => {
                let ended = peer_closed || shut_read;
                Readiness {
                    readable: ended || self.has_data(),
                    writable: shut_write || self.socket.wants_data(),
                    peer_closed: ended,
                    hangup: ended && shut_write,
                    error: false,
                }
            }
        }
    }

    fn mark(&self) -> u64 {
        self.bell.count()
    }

    fn wait(&self, mark: u64, _interest: Interest, deadline: Option<Instant>) -> Result<(), Errno> {
        self.bell.wait(mark, deadline);
        Ok(())
    }

    fn watch(&self, watcher: Watcher) -> bool {
        self.bell.watch(watcher);
        true
    }

    fn unwatch(&self, watcher: &Watcher) {
        self.bell.unwatch(watcher);
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
