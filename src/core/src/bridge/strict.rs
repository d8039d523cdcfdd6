//! Sockets whose data calls are trapped for a while: what AF_UNIX would answer is not what the
//! socket's own protocol does.
//!
//! The data of a socket goes through the kernel, untrapped. Some states have no like in AF_UNIX: an
//! error of ICMP that a send or a receive is to tell, datagrams that must not be cut up or are put
//! together first. Then the calls on that one descriptor are trapped in the processes that are known
//! to have it, before anybody can see the state; whoever else has it sees what the kernel says.

use std::{
    sync::{
        OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use umvu_abi::GuestFd;
use umvu_tracer::{
    Control,
    api::{Call, Guest},
};

use super::unix;
use crate::files::holders;

/// The calls that move the data of a socket and are not trapped otherwise.
const CALLS: [i64; 6] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
];
/// How long guests may take to be watched; it is rather less than a millisecond on an idle machine.
const PATIENCE: Duration = Duration::from_millis(250);

/// A descriptor of a guest.
#[derive(Clone)]
pub(crate) struct Place {
    guest: Weak<dyn Guest>,
    fd: GuestFd,
}

impl Place {
    pub(super) fn new(guest: Weak<dyn Guest>, fd: GuestFd) -> Self {
        Self { guest, fd }
    }

    /// The descriptor in the first argument.
    pub(crate) fn of(call: &Call) -> Self {
        Self { guest: std::sync::Arc::downgrade(&call.guest), fd: call.fd(0) }
    }
}

/// Who has calls trapped.
#[derive(Default)]
pub(crate) struct Watcher {
    control: OnceLock<Control>,
    used: AtomicBool,
}

impl Watcher {
    /// From now on calls can be trapped.
    pub(crate) fn set(&self, control: Control) {
        let _ = self.control.set(control);
    }

    /// Whether any socket has ever been strict: if none, nobody has to look for one.
    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Acquire)
    }

    /// Has the data calls on a descriptor trapped, if the socket with this inode is still there.
    /// Not with a lock held that a handler takes.
    pub(crate) fn watch(&self, place: &Place, inode: u64) {
        self.used.store(true, Ordering::Release);
        let (Some(control), Some(guest)) = (self.control.get(), place.guest.upgrade()) else {
            return;
        };
        if guest.fetch_fd(place.fd).is_ok_and(|fd| unix::inode(&fd) == Ok(inode)) {
            let threads = holders::threads_of(guest.tid().0);
            control.watch_descriptor(&threads, &CALLS, place.fd, PATIENCE);
        }
    }
}
