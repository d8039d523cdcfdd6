//! TCP: connections found by both their ends.
//!
//! * [`input`] finds the connection of a segment, or makes one for a listener;
//! * [`drive`] gives segments to the halves of a connection and lets them send, [`arrive`] looks
//!   whether a segment is one of it;
//! * [`sender`] and [`receiver`] are the halves, [`emit`] makes their packets;
//! * smoltcp does the handshake and the states ([`engine`]);
//! * [`state`] acts on what became of a connection;
//! * [`calls`] and [`socket`] serve the guest.

pub(crate) mod arrive;
pub(crate) mod calls;
pub(crate) mod close;
pub(crate) mod drive;
pub(crate) mod emit;
pub(crate) mod engine;
pub(crate) mod flow;
pub(crate) mod info;
pub(crate) mod input;
pub(crate) mod key;
pub(crate) mod memory;
pub(crate) mod options;
pub(crate) mod receiver;
pub(crate) use vdeplug::ip::segment;
pub(crate) mod sender;
pub(crate) mod sock;
pub(crate) mod socket;
pub(crate) mod state;
pub(crate) mod times;
pub(crate) mod timewait;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    hash::BuildHasher,
};

use smoltcp::time::Instant;

use super::{
    hash::{Map, Seeded},
    ports::Ports,
    slab::Slab,
};
use flow::{Flow, FlowId};
use key::FlowKey;
use sock::{Sock, SockId};
use timewait::TimeWaits;

/// Timers that are kept however stale they may be.
const FEW: usize = 1024;

/// How many connections hold a local port beside the sockets bound to it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    users: u32,
    /// Those made without SO_REUSEADDR.
    rigid: u32,
}

/// The TCP part of a stack.
#[derive(Debug, Default)]
pub(crate) struct Tcp {
    /// The guests' sockets.
    pub(crate) socks: Slab<Sock>,
    /// Connections, owned or not.
    pub(crate) flows: Slab<Flow>,
    /// Connections by their ends.
    pub(crate) demux: Map<FlowKey, FlowId>,
    /// Listeners by port.
    pub(crate) listeners: Map<u16, Vec<SockId>>,
    /// Ports taken by bind(2) and listen(2).
    pub(crate) ports: Ports,
    /// Ports used by connections.
    pub(crate) usage: Map<u16, Usage>,
    /// Where the clock of the timestamps of each pair of ends begins (RFC 7323, 5.4).
    pub(crate) clocks: Seeded,
    /// Connections that ended here first.
    pub(crate) waits: TimeWaits,
    /// Connections that may have something to send.
    pub(crate) dirty: VecDeque<FlowId>,
    /// When to look at which connection; entries may be stale.
    pub(crate) timers: BinaryHeap<Reverse<(Instant, FlowId)>>,
}

impl Tcp {
    /// Queues a connection for its turn to send.
    pub(crate) fn touch(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(id)
            && !flow.dirty
        {
            flow.dirty = true;
            self.dirty.push_back(id);
        }
    }

    /// Has a connection looked at then. Those that have ended leave their times behind, which are
    /// dropped when they are the greater part.
    fn remind(&mut self, at: Instant, id: FlowId) {
        self.timers.push(Reverse((at, id)));
        if self.timers.len() > FEW + 2 * self.flows.len() {
            let flows = &self.flows;
            let holds = |id, at| flows.get(id).is_some_and(|flow| flow.scheduled == Some(at));
            self.timers.retain(|Reverse((at, id))| holds(*id, *at));
        }
    }

    /// What the clock of a connection between two ends begins with.
    pub(crate) fn clock_of(&self, key: &FlowKey) -> u32 {
        let [a, b, c, d, ..] = self.clocks.hash_one(key).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Counts a connection on its local port.
    pub(crate) fn use_port(&mut self, port: u16, reuse: bool) {
        let usage = self.usage.entry(port).or_default();
        usage.users += 1;
        usage.rigid += u32::from(!reuse);
    }

    /// Ends that.
    pub(crate) fn leave_port(&mut self, port: u16, reuse: bool) {
        if let Some(usage) = self.usage.get_mut(&port) {
            usage.users = usage.users.saturating_sub(1);
            usage.rigid = usage.rigid.saturating_sub(u32::from(!reuse));
            if usage.users == 0 {
                self.usage.remove(&port);
            }
        }
    }

    /// Whether connections keep a port from being bound.
    pub(crate) fn port_is_used(&self, port: u16, reuse: bool) -> bool {
        self.usage.get(&port).is_some_and(|usage| usage.rigid > 0 || (!reuse && usage.users > 0))
    }
}
