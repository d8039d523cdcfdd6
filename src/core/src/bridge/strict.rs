//! Sockets whose data calls are trapped for a while: what AF_UNIX would answer is not what the
//! socket's own protocol does.
//!
//! The data of a socket goes through the kernel, untrapped. Some states have no like in AF_UNIX: an
//! error of ICMP that a send or a receive is to tell, datagrams that must not be cut up or are put
//! together first. Then the calls on that one descriptor are trapped in the processes that are known
//! to have it, before anybody can see the state; whoever else has it sees what the kernel says.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use umvu_abi::GuestFd;
use umvu_tracer::{
    Control,
    api::{Call, Guest},
};

use super::unix;
use crate::files::holders;

/// The calls that move the data of a socket, take a connection or end one, and are not trapped otherwise.
const CALLS: [i64; 9] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_close,
];
/// How long guests may take to be watched; it is rather less than a millisecond on an idle machine.
const PATIENCE: Duration = Duration::from_millis(250);

/// How many threads may be followed at once, and how soon one more; each costs some 60 us.
const FOLLOWED: (u32, Duration) = (256, Duration::from_micros(15_625));
/// The same for sockets that are watched because of a reset: the number of the descriptor is watched for
/// ever, whatever it is used for later.
const RESETS: (u32, Duration) = (32, Duration::from_secs(10));

/// Says when something may be done again.
pub(super) struct Allowance {
    most: u32,
    every: Duration,
    left: u32,
    since: Instant,
}

impl Allowance {
    /// So often at once, and once more after each period.
    fn new((most, every): (u32, Duration)) -> Self {
        Self { most, every, left: most, since: Instant::now() }
    }

    /// Whether it may be done once more; it counts then.
    fn take(&mut self) -> bool {
        let earned = self.since.elapsed().as_micros() / self.every.as_micros().max(1);
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(self.most);
            self.left = self.most.min(self.left.saturating_add(earned));
            self.since = Instant::now();
        }
        let may = self.left > 0;
        self.left -= u32::from(may);
        may
    }
}

/// How long after a search for a socket the next one may follow, in times of what it has taken: it looks
/// at all descriptors of all guests.
const SEARCH_SHARE: u32 = 20;

/// When guests may be searched again.
pub(super) struct Searches(Instant);

impl Default for Searches {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Watcher {
    /// The socket with this inode, wherever a guest has it; None also when that was asked too often.
    pub(super) fn search(&self, inode: u64) -> Option<OwnedFd> {
        let begun = Instant::now();
        if self.searches.lock().0 > begun {
            return None;
        }
        let found = self.control.get()?.processes().into_iter().find_map(|(process, guest)| {
            let fd = GuestFd(*holders::of_socket(process, inode).first()?);
            let fd = guest.fetch_fd(fd).ok()?;
            (unix::inode(&fd) == Ok(inode)).then_some(fd)
        });
        self.searches.lock().0 = Instant::now() + begun.elapsed() * SEARCH_SHARE;
        found
    }
}

impl super::Hub {
    /// Whether the thread that has made a stream socket is to be followed: until it connects, AF_UNIX
    /// has other errors than TCP.
    pub(crate) fn is_to_follow(&self) -> bool {
        self.watcher.used.store(true, Ordering::Release);
        self.watcher.allowance.lock().take()
    }
}

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
        Self { guest: Arc::downgrade(&call.guest), fd: call.fd(0) }
    }
}

/// Who has calls trapped.
pub(crate) struct Watcher {
    control: OnceLock<Control>,
    used: AtomicBool,
    allowance: Mutex<Allowance>,
    resets: Mutex<Allowance>,
    searches: Mutex<Searches>,
}

impl Default for Watcher {
    fn default() -> Self {
        Self {
            control: OnceLock::new(),
            used: AtomicBool::new(false),
            allowance: Mutex::new(Allowance::new(FOLLOWED)),
            resets: Mutex::new(Allowance::new(RESETS)),
            searches: Mutex::default(),
        }
    }
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

    /// The same for a socket whose connection the peer has reset, unless that was done too often.
    pub(super) fn watch_reset(&self, place: &Place, inode: u64) {
        if self.resets.lock().take() {
            self.watch(place, inode);
        }
    }

    /// Whether guests have but one descriptor for the socket with this inode; if not, the calls on all of
    /// them are trapped.
    pub(crate) fn is_last(&self, inode: u64) -> bool {
        let processes = self.control.get().map(Control::processes).unwrap_or_default();
        let held = |(process, guest): (i32, Arc<dyn Guest>)| {
            let all = holders::of_socket(process, inode).into_iter();
            all.map(move |fd| Place::new(Arc::downgrade(&guest), GuestFd(fd)))
        };
        let places: Vec<Place> = processes.into_iter().flat_map(held).collect();
        if places.len() > 1 {
            places.iter().for_each(|place| self.watch(place, inode));
        }
        places.len() <= 1
    }

    /// Has the data calls, accepts and closes on a descriptor trapped, if the socket with this inode is still there.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_used_up_and_comes_back() {
        let mut allowance = Allowance::new((3, Duration::from_secs(1000)));
        assert_eq!((0..100).filter(|_| allowance.take()).count(), 3);
        allowance.every = Duration::from_nanos(1);
        std::thread::sleep(Duration::from_millis(1));
        assert!(allowance.take() && allowance.left == 2);
    }
}
