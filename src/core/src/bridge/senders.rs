//! The sockets that datagrams come from: one for each origin, named after it.
//!
//! The kernel reports the sender's name to whoever receives, so the name carries what a control
//! message would: source, destination, interface, TTL. Making one costs tens of microseconds;
//! the recent ones are kept.

use std::{
    collections::{HashMap, VecDeque},
    os::fd::OwnedFd,
    sync::Arc,
};

use nix::sys::socket::SockType;
use parking_lot::Mutex;
use umvu_abi::{Errno, net::DatagramMeta};

use super::{names::Names, unix};

const KEPT: usize = 256;

/// The recent senders, shared by all datagram sockets.
#[derive(Default)]
pub(crate) struct Senders {
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    by_origin: HashMap<DatagramMeta, Arc<OwnedFd>>,
    oldest_first: VecDeque<DatagramMeta>,
}

impl Senders {
    /// The sender for an origin, made if need be. Errors: those of socket(2) and bind(2).
    pub(crate) fn get(&self, names: &Names, meta: &DatagramMeta) -> Result<Arc<OwnedFd>, Errno> {
        let mut recent = self.recent.lock();
        if let Some(found) = recent.by_origin.get(meta) {
            return Ok(Arc::clone(found));
        }
        let socket = unix::create(SockType::Datagram, true)?;
        unix::bind(&socket, &names.origin(meta)?)?;
        unix::shutdown_read(&socket);
        unix::widen(&socket);
        let socket = Arc::new(socket);
        if recent.oldest_first.len() >= KEPT
            && let Some(oldest) = recent.oldest_first.pop_front()
        {
            recent.by_origin.remove(&oldest);
        }
        recent.oldest_first.push_back(*meta);
        recent.by_origin.insert(*meta, Arc::clone(&socket));
        Ok(socket)
    }
}
