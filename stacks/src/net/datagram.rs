//! An emulated datagram socket behind the blocking calls.

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
    net::{Datagram, DatagramSocket, SendControl, Shutdown},
};

use super::{
    bell::{Bell, Watcher},
    endpoint::{Endpoint, Interest, Readiness, Received, Take},
    halt::Halt,
};

pub(super) struct Datagrams {
    socket: Arc<dyn DatagramSocket>,
    bell: Arc<Bell>,
    /// A datagram that was taken off the queue to look at it.
    next: Mutex<Option<Datagram>>,
    /// An error that was taken to see whether there is one.
    error: Mutex<Option<Errno>>,
    shut_read: AtomicBool,
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.socket.close();
    }
}

impl Datagrams {
    pub(super) fn new(socket: Arc<dyn DatagramSocket>, bell: Arc<Bell>, halt: &Halt) -> Self {
        halt.tell(&bell);
        Self {
            socket,
            bell,
            next: Mutex::new(None),
            error: Mutex::new(None),
            shut_read: AtomicBool::new(false),
        }
    }

    fn failure(&self) -> Option<Errno> {
        self.error.lock().take().or_else(|| self.socket.take_error())
    }
}

/// Copies a datagram.
fn copy(datagram: &Datagram, buffer: &mut [u8]) -> Received {
    let length = datagram.data.len().min(buffer.len());
    buffer[..length].copy_from_slice(&datagram.data[..length]);
    Received { length, full_length: datagram.data.len(), meta: datagram.meta }
}

impl Endpoint for Datagrams {
    fn bind(&self, addr: &SockAddr) -> Result<(), Errno> {
        self.socket.bind(addr)
    }

    fn connect(&self, addr: &SockAddr) -> Result<(), Errno> {
        self.socket.connect(Some(addr).filter(|addr| **addr != SockAddr::Unspec))
    }

    fn connected(&self) -> Result<(), Errno> {
        Ok(())
    }

    fn listen(&self, _backlog: u32) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn accept(&self) -> Result<(Box<dyn Endpoint>, SockAddr), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn receive(&self, buffer: &mut [u8], take: Take) -> Result<Received, Errno> {
        if let Some(errno) = self.failure() {
            return Err(errno);
        }
        let mut next = self.next.lock();
        let datagram = next.take().or_else(|| self.socket.receive());
        let Some(datagram) = datagram else {
            let ended = self.shut_read.load(Ordering::SeqCst);
            return if ended { Ok(Received::part(0)) } else { Err(Errno::EAGAIN) };
        };
        let received = copy(&datagram, buffer);
        if take == Take::Peek {
            *next = Some(datagram);
        }
        Ok(received)
    }

    fn send(
        &self,
        data: &[u8],
        to: Option<&SockAddr>,
        control: &SendControl,
    ) -> Result<usize, Errno> {
        if let Some(errno) = self.error.lock().take() {
            return Err(errno);
        }
        self.socket.send(data, to, control)
    }

    fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        self.socket.shutdown(how)?;
        if how != Shutdown::Write {
            self.shut_read.store(true, Ordering::SeqCst);
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
        const SIOCINQ: u32 = 0x541b;
        match &*self.next.lock() {
            Some(next) if request == SIOCINQ => {
                let length = i32::try_from(next.data.len()).unwrap_or(i32::MAX);
                *argument = length.to_ne_bytes().to_vec();
                Ok(0)
            }
            _ => self.socket.ioctl(request, argument),
        }
    }

    fn readiness(&self) -> Readiness {
        let mut next = self.next.lock();
        if next.is_none() {
            *next = self.socket.receive();
        }
        let mut error = self.error.lock();
        if error.is_none() {
            *error = self.socket.take_error();
        }
        let ended = self.shut_read.load(Ordering::SeqCst);
        Readiness {
            readable: next.is_some() || error.is_some() || ended,
            writable: true,
            peer_closed: ended,
            hangup: false,
            error: error.is_some(),
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
