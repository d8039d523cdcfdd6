//! A descriptor that shows the readiness of a socket to poll(2), select(2) and epoll(7).
//!
//! The program holds one end of a pair of AF_UNIX streams. A byte from the other end makes it
//! readable; junk in its send buffer makes it not writable; a shut down or closed other end shows
//! the peer's end, and one that is closed with junk unread an error.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, recv, send, setsockopt, shutdown,
    socketpair, sockopt,
};
use umvu_stacks::net::Readiness;

/// More than the smallest send buffer lets a writable socket hold.
const JUNK: [u8; 2048] = [0; 2048];
/// Never wait, never raise a signal.
const NOW: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);

/// The pair, and what it shows.
#[derive(Debug)]
pub(crate) struct Signal {
    /// The program's end, once more: the program may close its own at any time.
    held: OwnedFd,
    /// Our end; None once the end was shown.
    own: Option<OwnedFd>,
    shown: Readiness,
}

impl Signal {
    /// Makes a pair that shows a writable socket; gives the program's end, with its flags, too.
    pub(crate) fn new(flags: SockFlag) -> io::Result<(Self, OwnedFd)> {
        let kept = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, kept)?;
        setsockopt(&theirs, sockopt::SndBuf, &0)?;
        let held = theirs.try_clone()?;
        let shown = Readiness { writable: true, ..Readiness::default() };
        set_flags(&theirs, flags)?;
        Ok((Self { held, own: Some(ours), shown }, theirs))
    }

    /// The program's end.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.held.as_fd()
    }

    /// Whether the end was shown, after which nothing else can be.
    pub(crate) fn is_spent(&self) -> bool {
        self.own.is_none() || self.shown.peer_closed
    }

    /// Shows what `now` says. `afresh` shows readability once more where it is shown already, for
    /// those who wait for edges.
    pub(crate) fn show(&mut self, now: Readiness, afresh: bool) {
        if now.peer_closed && now.hangup {
            return self.end(now.error);
        }
        let Some(own) = &self.own else { return };
        let (own, held) = (own.as_raw_fd(), self.held.as_raw_fd());
        if now.peer_closed && !self.shown.peer_closed {
            let _ = shutdown(own, Shutdown::Write);
        }
        if now.readable && (afresh || !self.shown.readable) {
            let _ = send(own, &[0], NOW);
        } else if !now.readable && self.shown.readable {
            drain(held);
        }
        if now.writable && !self.shown.writable {
            drain(own);
        } else if !now.writable && self.shown.writable {
            fill(held);
        }
        self.shown = now;
    }

    /// Shows the end of a connection, or of a listener: it hangs up.
    pub(crate) fn end(&mut self, error: bool) {
        if let Some(own) = self.own.take() {
            drain(own.as_raw_fd());
            if error {
                // Closed with this unread, our end resets the program's; that stays writable.
                let _ = send(self.held.as_raw_fd(), &[0], NOW);
            }
        } else if self.shown.error && !error {
            // The error was taken: it is shown no longer.
            let _ = nix::sys::socket::getsockopt(&self.held, sockopt::SocketError);
        }
        self.shown = Readiness { error, ..self.shown };
    }
}

/// Takes everything off a queue.
fn drain(fd: RawFd) {
    let mut buffer = [0; 4096];
    while recv(fd, &mut buffer, NOW).is_ok_and(|count| count > 0) {}
}

/// Fills a send buffer.
fn fill(fd: RawFd) {
    while send(fd, &JUNK, NOW).is_ok() {}
}

/// Gives the program's end the flags of socket(2).
fn set_flags(fd: &OwnedFd, flags: SockFlag) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
    if flags.contains(SockFlag::SOCK_NONBLOCK) {
        fcntl(fd, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))?;
    }
    if !flags.contains(SockFlag::SOCK_CLOEXEC) {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    fn flags(fd: &OwnedFd) -> PollFlags {
        let all = PollFlags::POLLIN | PollFlags::POLLOUT;
        let mut fds = [PollFd::new(fd.as_fd(), all)];
        poll(&mut fds, PollTimeout::ZERO).expect("poll works");
        fds[0].revents().expect("known flags")
    }

    #[test]
    fn readiness_comes_and_goes() {
        let (mut signal, fd) = Signal::new(SockFlag::empty()).expect("a pair");
        let ready = |readable, writable| Readiness { readable, writable, ..Readiness::default() };
        assert_eq!(flags(&fd), PollFlags::POLLOUT);
        for (readable, writable, seen) in [
            (true, true, PollFlags::POLLIN | PollFlags::POLLOUT),
            (true, false, PollFlags::POLLIN),
            (false, false, PollFlags::empty()),
            (false, true, PollFlags::POLLOUT),
        ] {
            for _ in 0..1000 {
                signal.show(ready(readable, writable), true);
            }
            assert_eq!(flags(&fd), seen);
        }
    }

    #[test]
    fn the_end_is_a_hang_up_and_a_failure_an_error() {
        let over = Readiness {
            readable: true,
            writable: true,
            peer_closed: true,
            hangup: true,
            error: false,
        };
        let both = PollFlags::POLLIN | PollFlags::POLLOUT;
        for error in [false, true] {
            let (mut signal, fd) = Signal::new(SockFlag::empty()).expect("a pair");
            signal.show(Readiness { writable: false, ..Readiness::default() }, false);
            signal.show(Readiness { error, ..over }, false);
            let fault = if error { PollFlags::POLLERR } else { PollFlags::empty() };
            assert_eq!(flags(&fd), both | PollFlags::POLLHUP | fault);
            assert!(signal.is_spent());
            signal.show(over, false);
            assert_eq!(flags(&fd), both | PollFlags::POLLHUP);
        }
    }
}
