//! All netlink sockets of a stack: their port ids and multicast groups.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Weak, atomic::AtomicUsize},
};

use parking_lot::Mutex;
use umvu_abi::Errno;

use super::{cause, route::notify, slow::Seat, socket::NetlinkSocket};
use crate::values::Change;

/// Distributes the changes of one stack to the sockets that listen.
///
/// [`Self::publish`] may be called with the stack's lock held: it takes the locks of this hub and
/// of sockets, in this order, and calls no [`HostNet`](crate::HostNet).
#[derive(Default)]
pub struct NetlinkHub {
    members: Mutex<Members>,
    /// The bytes that wait in all sockets.
    queued: Arc<AtomicUsize>,
    /// The threads that carry out requests.
    seats: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Members {
    sockets: Vec<Weak<NetlinkSocket>>,
    /// `(protocol, port)` in use.
    ports: HashSet<(i32, u32)>,
    /// The port id that was given last to one who did not ask for a certain one.
    last: u32,
}

/// The port ids that the kernel chooses are negative numbers.
const FIRST_PORT: u32 = 1 << 31;

impl fmt::Debug for NetlinkHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetlinkHub").field("sockets", &self.members.lock().sockets.len()).finish()
    }
}

impl NetlinkHub {
    /// Makes a hub without sockets.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Tells the listeners what happened.
    pub fn publish(&self, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        let listeners: Vec<Arc<NetlinkSocket>> = self
            .sockets()
            .into_iter()
            .filter(|socket| socket.protocol() == libc::NETLINK_ROUTE && socket.listens())
            .collect();
        if listeners.is_empty() && !cause::echoes() {
            return;
        }
        for change in changes {
            let Some((group, body)) = notify::encode(change) else { continue };
            let data = cause::notice(body.kind, notify::flags(change), &body.payload);
            for socket in &listeners {
                socket.deliver(group, &data);
            }
        }
    }

    fn sockets(&self) -> Vec<Arc<NetlinkSocket>> {
        self.members.lock().sockets.iter().filter_map(Weak::upgrade).collect()
    }

    /// The sockets as `/proc/net/netlink` shows them: protocol, port id, groups 1 to 32.
    #[must_use]
    pub fn listing(&self) -> Vec<(i32, u32, u32)> {
        self.sockets()
            .iter()
            .map(|socket| {
                let (port, groups) = socket.identity();
                (socket.protocol(), port, groups)
            })
            .collect()
    }

    pub(super) fn queued(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.queued)
    }

    /// The right to have a thread carry out a request; None when too many do so.
    pub(super) fn seat(&self) -> Option<Seat> {
        Seat::take(&self.seats)
    }

    pub(super) fn join(&self, socket: &Arc<NetlinkSocket>) {
        let mut members = self.members.lock();
        if members.sockets.len() == members.sockets.capacity() {
            members.sockets.retain(|held| held.strong_count() > 0);
        }
        members.sockets.push(Arc::downgrade(socket));
    }

    /// Whether a socket has a port id.
    pub(super) fn is_taken(&self, protocol: i32, port: u32) -> bool {
        self.members.lock().ports.contains(&(protocol, port))
    }

    /// Reserves a port id: the wanted one, or with 0 a free one. Errors: `EADDRINUSE`.
    pub(super) fn reserve(&self, protocol: i32, wanted: u32) -> Result<u32, Errno> {
        let mut members = self.members.lock();
        let is_free = |port: &u32| !members.ports.contains(&(protocol, *port));
        let port = if wanted == 0 {
            let next = members.last.saturating_add(1).max(FIRST_PORT);
            (next..=u32::MAX).chain(FIRST_PORT..next).find(is_free)
        } else {
            Some(wanted).filter(is_free)
        };
        let port = port.ok_or(Errno::EADDRINUSE)?;
        members.ports.insert((protocol, port));
        if wanted == 0 {
            members.last = port;
        }
        Ok(port)
    }

    pub(super) fn release(&self, protocol: i32, port: u32) {
        self.members.lock().ports.remove(&(protocol, port));
    }
}
