//! A socket of the kernel behind the blocking calls: it is non-blocking, and waits are poll(2).

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{self, sockopt},
};
use umvu_abi::{
    Errno, SockAddr,
    control::{self, Messages},
    net::{DatagramMeta, SendControl, Shutdown},
};

use super::{
    bell::Watcher,
    endpoint::{Endpoint, Interest, Readiness, Received, Take},
    halt::Halt,
};
use crate::ffi::call::{self, End};

pub(super) struct Kernel {
    fd: OwnedFd,
    /// Whether it is a byte stream, for which `MSG_TRUNC` throws data away.
    stream: bool,
    halt: Halt,
}

impl Kernel {
    /// Takes over a socket, and makes it non-blocking. Errors: those of fcntl(2).
    pub(super) fn new(fd: OwnedFd, kind: i32, halt: Halt) -> Result<Self, Errno> {
        let flags = fcntl(&fd, FcntlArg::F_GETFL).map_err(errno)?;
        let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
        fcntl(&fd, FcntlArg::F_SETFL(flags)).map_err(errno)?;
        Ok(Self { fd, stream: kind == libc::SOCK_STREAM, halt })
    }
}

fn errno(errno: nix::Error) -> Errno {
    Errno(errno as i32)
}

/// A name of a family that no stack serves says nothing.
fn decode(name: &[u8]) -> SockAddr {
    SockAddr::decode(name).unwrap_or(SockAddr::Unspec)
}

/// The longest wait until `deadline` that poll(2) can be asked for; it ends no earlier.
pub(super) fn patience(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    let left = deadline.saturating_duration_since(Instant::now());
    let left = left.min(Duration::from_secs(3600)) + Duration::from_micros(999);
    PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX)
}

impl Endpoint for Kernel {
    fn bind(&self, addr: &SockAddr) -> Result<(), Errno> {
        call::bind(self.fd.as_fd(), &addr.encode())
    }

    fn connect(&self, addr: &SockAddr) -> Result<(), Errno> {
        call::connect(self.fd.as_fd(), &addr.encode())
    }

    fn connected(&self) -> Result<(), Errno> {
        if call::happened(self.fd.as_fd(), libc::POLLOUT) == 0 {
            return Err(Errno::EAGAIN);
        }
        self.take_error()?.map_or(Ok(()), Err)
    }

    fn listen(&self, backlog: u32) -> Result<(), Errno> {
        call::listen(self.fd.as_fd(), backlog)
    }

    fn accept(&self) -> Result<(Box<dyn Endpoint>, SockAddr), Errno> {
        let (fd, name) = call::accept(self.fd.as_fd())?;
        let accepted = Self { fd, stream: self.stream, halt: self.halt.clone() };
        Ok((Box::new(accepted), decode(&name)))
    }

    fn receive(&self, buffer: &mut [u8], take: Take) -> Result<Received, Errno> {
        let peek = if take == Take::Peek { libc::MSG_PEEK } else { 0 };
        let whole = if self.stream { 0 } else { libc::MSG_TRUNC };
        let message = call::receive(self.fd.as_fd(), buffer, peek | whole)?;
        let source = decode(&message.name);
        let destination = SockAddr::any(source.family());
        let mut meta = DatagramMeta { source, destination, ifindex: 0, ttl: 0, tos: 0 };
        if let SockAddr::Packet(link) = source {
            meta.ifindex = link.ifindex;
        }
        control::read_meta(&message.control, &mut meta);
        let length = message.length.min(buffer.len());
        Ok(Received { length, full_length: message.length, meta })
    }

    fn send(
        &self,
        data: &[u8],
        to: Option<&SockAddr>,
        control: &SendControl,
    ) -> Result<usize, Errno> {
        let name = to.map(SockAddr::encode).unwrap_or_default();
        let family = match to {
            Some(to) => to.family(),
            None if *control == SendControl::default() => 0,
            None => self.local()?.family(),
        };
        let control = Messages::of(control, family);
        call::send(self.fd.as_fd(), data, &name, control.as_bytes(), libc::MSG_NOSIGNAL)
    }

    fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        let how = match how {
            Shutdown::Read => socket::Shutdown::Read,
            Shutdown::Write => socket::Shutdown::Write,
            Shutdown::Both => socket::Shutdown::Both,
        };
        socket::shutdown(self.fd.as_raw_fd(), how).map_err(errno)
    }

    fn local(&self) -> Result<SockAddr, Errno> {
        call::name(self.fd.as_fd(), End::Local).map(|name| decode(&name))
    }

    fn peer(&self) -> Result<SockAddr, Errno> {
        call::name(self.fd.as_fd(), End::Peer).map(|name| decode(&name))
    }

    fn set_option(&self, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        call::set_option(self.fd.as_fd(), level, name, value)
    }

    fn option(&self, level: i32, name: i32, given: &[u8]) -> Result<Vec<u8>, Errno> {
        call::option(self.fd.as_fd(), level, name, given)
    }

    fn take_error(&self) -> Result<Option<Errno>, Errno> {
        let value = socket::getsockopt(&self.fd, sockopt::SocketError).map_err(errno)?;
        Ok(Some(Errno(value)).filter(|errno| errno.0 != 0))
    }

    fn ioctl(&self, _request: u32, _argument: &mut Vec<u8>) -> Result<i32, Errno> {
        Err(Errno::ENOTTY)
    }

    fn readiness(&self) -> Readiness {
        let all = libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP;
        let found = call::happened(self.fd.as_fd(), all);
        let has = |event| found & event != 0;
        Readiness {
            readable: has(libc::POLLIN),
            writable: has(libc::POLLOUT),
            peer_closed: has(libc::POLLRDHUP),
            hangup: has(libc::POLLHUP),
            error: has(libc::POLLERR),
        }
    }

    fn mark(&self) -> u64 {
        0
    }

    fn wait(&self, _mark: u64, interest: Interest, deadline: Option<Instant>) -> Result<(), Errno> {
        let mut fds = [
            PollFd::new(self.fd.as_fd(), events(interest)),
            PollFd::new(self.halt.fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, patience(deadline)) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(failure) => Err(errno(failure)),
        }
    }

    fn watch(&self, _watcher: Watcher) -> bool {
        false
    }

    fn unwatch(&self, _watcher: &Watcher) {}

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }
}

/// The events that answer a wait.
pub(super) fn events(interest: Interest) -> PollFlags {
    match interest {
        Interest::Read => PollFlags::POLLIN,
        Interest::Write => PollFlags::POLLOUT,
        Interest::Both => PollFlags::POLLIN | PollFlags::POLLOUT,
    }
}
