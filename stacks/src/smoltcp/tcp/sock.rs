//! A guest's TCP socket as the stack keeps it, from socket(2) to close(2).

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use umvu_abi::{Errno, net::SocketEvents};

use super::{
    super::{ports::Host, slab::Id, sockopt::Options},
    flow::FlowId,
};
use crate::bpf::Program;

pub(crate) type SockId = Id<Sock>;

/// What a listener keeps.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    /// How many connections may wait to be accepted.
    pub(crate) backlog: usize,
    /// Established connections in order of arrival.
    pub(crate) ready: VecDeque<FlowId>,
    /// Connections whose handshake is under way.
    pub(crate) pending: usize,
}

/// Where a socket stands.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Neither connected nor listening.
    Fresh,
    /// The last connect(2) failed and the guest has not learned it yet.
    Refused(Errno),
    /// The handshake is under way.
    Connecting(FlowId),
    /// Data flows, or flowed in one direction at least.
    Connected(FlowId),
    /// Accepts connections.
    Listening(Listener),
    /// The connection broke; received bytes may be left in it.
    Broken(Errno, FlowId),
    /// Both sides closed; received bytes may be left in it.
    Closed(FlowId),
    /// The guest has closed it.
    Over,
}

/// A TCP socket.
pub(crate) struct Sock {
    /// `AF_INET` or `AF_INET6`.
    pub(crate) family: u16,
    /// Told of changes.
    pub(crate) events: Arc<dyn SocketEvents>,
    /// Where it stands.
    pub(crate) phase: Phase,
    /// Its options.
    pub(crate) options: Options,
    /// The pending error.
    pub(crate) error: Option<Errno>,
    /// The port and addresses that bind(2) or listen(2) took; port 0 for an address alone.
    pub(crate) bound: Option<(Host, u16)>,
    /// Whether bind(2) named that port: it stays when the connection is over.
    pub(crate) keeps_port: bool,
    /// The port of the last connection, which getsockname(2) tells after it.
    pub(crate) last_port: u16,
    /// What looks at the segments before the socket does (`SO_ATTACH_FILTER`).
    pub(crate) filter: Option<Program>,
    /// The ends of the connection, while and after there is one.
    pub(crate) ends: Option<(SocketAddr, SocketAddr)>,
}

impl std::fmt::Debug for Sock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sock").field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl Sock {
    /// Makes a fresh socket.
    pub(crate) fn new(family: u16, events: Arc<dyn SocketEvents>, options: Options) -> Self {
        Self {
            family,
            events,
            phase: Phase::Fresh,
            options,
            error: None,
            bound: None,
            keeps_port: false,
            last_port: 0,
            filter: None,
            ends: None,
        }
    }

    /// The port that bind(2) or listen(2) took.
    pub(crate) fn port(&self) -> Option<u16> {
        self.bound.map(|(_, port)| port).filter(|port| *port != 0)
    }

    /// The connection, when there is or was one.
    pub(crate) fn flow(&self) -> Option<FlowId> {
        match self.phase {
            Phase::Connecting(flow)
            | Phase::Connected(flow)
            | Phase::Broken(_, flow)
            | Phase::Closed(flow) => Some(flow),
            Phase::Fresh | Phase::Refused(_) | Phase::Listening(_) | Phase::Over => None,
        }
    }
}
