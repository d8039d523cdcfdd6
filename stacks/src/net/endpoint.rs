//! What a socket of any stack can do without waiting: the contract between the blocking calls and
//! the three kinds of sockets.

use std::{os::fd::BorrowedFd, time::Instant};

use umvu_abi::{
    Errno, SockAddr,
    net::{DatagramMeta, SendControl, Shutdown},
};

use super::bell::Watcher;

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Data, a connection to accept, or the end.
    Read,
    /// Room for data, or the end of connect(2).
    Write,
    /// Either.
    Both,
}

impl Interest {
    pub(super) fn reads(self) -> bool {
        self != Self::Write
    }

    pub(super) fn writes(self) -> bool {
        self != Self::Read
    }
}

/// What can be done with a socket without waiting, as poll(2) tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness {
    /// `POLLIN`: a receive or an accept does not wait.
    pub readable: bool,
    /// `POLLOUT`: a send does not wait.
    pub writable: bool,
    /// `POLLRDHUP`: the peer sends no more.
    pub peer_closed: bool,
    /// `POLLHUP`: both directions are closed.
    pub hangup: bool,
    /// `POLLERR`: an error waits to be taken.
    pub error: bool,
}

impl Readiness {
    /// Whether it answers a wait for `interest`; errors and hang-ups answer every wait.
    #[must_use]
    pub fn satisfies(self, interest: Interest) -> bool {
        (interest.reads() && self.readable)
            || (interest.writes() && self.writable)
            || self.hangup
            || self.error
    }
}

/// What a receive brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// How many bytes were copied; 0 from a stream is its end.
    pub length: usize,
    /// How long the datagram was: more than `length` when the buffer was too small for it.
    pub full_length: usize,
    /// Where a datagram came from and how; from a stream, nothing is known. Sockets of the
    /// kernel know more than the source only after [`Socket::set_details`](super::Socket::set_details).
    pub meta: DatagramMeta,
}

impl Received {
    /// A part of a stream.
    pub(super) fn part(length: usize) -> Self {
        let nobody = SockAddr::Unspec;
        let meta = DatagramMeta { source: nobody, destination: nobody, ifindex: 0, ttl: 0, tos: 0 };
        Self { length, full_length: length, meta }
    }
}

/// Whether a receive leaves what it reads in the queue (`MSG_PEEK`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    Remove,
    Peek,
}

/// A socket that never waits: what cannot be done now is `EAGAIN`.
pub(super) trait Endpoint: Send + Sync {
    fn bind(&self, addr: &SockAddr) -> Result<(), Errno>;

    /// Starts a connection, or sets the default destination. Errors: `EINPROGRESS` when it is
    /// under way.
    fn connect(&self, addr: &SockAddr) -> Result<(), Errno>;

    /// How a connection that was under way has ended. Errors: `EAGAIN` while it is.
    fn connected(&self) -> Result<(), Errno>;

    fn listen(&self, backlog: u32) -> Result<(), Errno>;

    fn accept(&self) -> Result<(Box<dyn Endpoint>, SockAddr), Errno>;

    fn receive(&self, buffer: &mut [u8], take: Take) -> Result<Received, Errno>;

    fn send(
        &self,
        data: &[u8],
        to: Option<&SockAddr>,
        control: &SendControl,
    ) -> Result<usize, Errno>;

    fn shutdown(&self, how: Shutdown) -> Result<(), Errno>;

    fn local(&self) -> Result<SockAddr, Errno>;

    fn peer(&self) -> Result<SockAddr, Errno>;

    fn set_option(&self, level: i32, name: i32, value: &[u8]) -> Result<(), Errno>;

    fn option(&self, level: i32, name: i32, given: &[u8]) -> Result<Vec<u8>, Errno>;

    fn take_error(&self) -> Result<Option<Errno>, Errno>;

    fn ioctl(&self, request: u32, argument: &mut Vec<u8>) -> Result<i32, Errno>;

    fn readiness(&self) -> Readiness;

    /// Counts changes; taken before an attempt, given to [`wait`](Self::wait) after it.
    fn mark(&self) -> u64;

    /// Waits for a change since `mark`, for at most until the deadline.
    fn wait(&self, mark: u64, interest: Interest, deadline: Option<Instant>) -> Result<(), Errno>;

    /// Has a function called at each change. False when the kernel tells of them, by `fd`.
    fn watch(&self, watcher: Watcher) -> bool;

    fn unwatch(&self, watcher: &Watcher);

    /// The kernel's socket, if it is one.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}
