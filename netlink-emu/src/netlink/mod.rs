//! netlink(7) sockets: rtnetlink, sock_diag, and polite answers of the other protocols.
//!
//! Theory of operation. `socket::NetlinkSocket` is the socket: it splits what was sent into
//! messages (`message`), hands each to its protocol's `Service`, frames the answers, and queues
//! them. Services decode (`attributes`), ask the `HostNet`, and encode. The [`NetlinkHub`] of a
//! stack knows all sockets and distributes changes to multicast groups.
//!
//! A request that takes a while, one that opens a network, is carried out by a thread (`slow`).
//!
//! A dump is not queued but kept as an iterator that the reader pulls, one at a time per socket as
//! in the kernel, so that a guest cannot make the stack hold more than one snapshot per socket.

pub(crate) mod attributes;
mod cause;
mod diag;
mod generic;
mod hub;
pub(crate) mod message;
mod options;
mod queue;
pub(crate) mod route;
mod slow;
mod socket;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use umvu_abi::{
    Errno,
    net::{DatagramSocket, SocketEvents},
};

use crate::host::{Failure, HostNet};

pub use hub::NetlinkHub;
pub use socket::NetlinkSocket;

use message::Request;

/// How many bytes of a datagram are whole messages.
#[cfg(any(test, fuzzing))]
pub(crate) fn messages_of(data: &[u8]) -> usize {
    message::split(data).map(|(_, raw)| message::align(raw.len())).sum()
}

/// What a protocol answers to one request.
enum Answer {
    /// Done; an acknowledgement follows if it was asked for.
    Done,
    /// Messages: type and payload.
    Messages(Vec<Body>),
    /// A dump; what is left out by a filter of the kernel's own is marked as filtered.
    Dump {
        /// The messages.
        bodies: Box<dyn Iterator<Item = Body> + Send>,
        /// `NLM_F_DUMP_FILTERED`.
        filtered: Filtered,
    },
}

/// Which messages of a dump say that something was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filtered {
    No,
    /// All but the one that ends it.
    Entries,
    All,
}

impl Filtered {
    fn entries_if(some: bool) -> Self {
        if some { Self::Entries } else { Self::No }
    }

    fn all_if(some: bool) -> Self {
        if some { Self::All } else { Self::No }
    }
}

impl Answer {
    fn dump<I>(bodies: I) -> Self
    where
        I: Iterator<Item = Body> + Send + 'static,
    {
        Self::Dump { bodies: Box::new(bodies), filtered: Filtered::No }
    }

    fn nothing() -> Self {
        Self::dump(std::iter::empty())
    }
}

/// The type and payload of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) kind: u16,
    pub(crate) payload: Vec<u8>,
}

/// A netlink protocol.
trait Service: Send + Sync {
    /// Answers one request.
    fn handle(&self, host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure>;

    /// Whether the end of a dump comes with its last messages, where there is room: what the kernel
    /// does depends on how old the code is that answers.
    fn ends_with_data(&self, _request: &Request<'_>) -> bool {
        false
    }

    /// Whether the answer may take so long that a thread has to wait for it.
    fn is_slow(&self, _host: &dyn HostNet, _request: &Request<'_>) -> bool {
        false
    }
}

/// Makes a netlink socket of a stack. Errors: `EPROTONOSUPPORT` for protocols that no stack has.
pub fn open(
    protocol: i32,
    host: Arc<dyn HostNet>,
    hub: &Arc<NetlinkHub>,
    events: Arc<dyn SocketEvents>,
) -> Result<Arc<dyn DatagramSocket>, Errno> {
    let service: Box<dyn Service> = match protocol {
        libc::NETLINK_ROUTE => Box::new(route::Route),
        libc::NETLINK_SOCK_DIAG => Box::new(diag::Diag),
        libc::NETLINK_GENERIC => Box::new(generic::Generic),
        libc::NETLINK_KOBJECT_UEVENT => Box::new(generic::Silent),
        _ => return Err(Errno::EPROTONOSUPPORT),
    };
    Ok(NetlinkSocket::new(protocol, service, host, Arc::clone(hub), events))
}
