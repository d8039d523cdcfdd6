//! Driving connections: what they send, their paths, their timers.
//!
//! A connection is *dirty* when it may have something to send. Dirty connections take turns after
//! a burst of input, so that a burst is answered by one acknowledgement.

use std::cmp::Reverse;

use smoltcp::{
    socket::tcp::State,
    time::{Duration, Instant},
};
use umvu_abi::Errno;

use super::{
    super::{
        inner::Inner,
        link::{Kind, Link, Outgoing},
        net::marked,
        packet::IpHeader,
    },
    emit::shape,
    flow::{FlowId, Owner},
    receiver::ACK_DELAY,
    segment::Segment,
    sender::Emit,
};

/// Packets a connection may send in one turn.
const TURN: usize = 64;
/// When to try again what a full queue put off.
const RETRY: Duration = Duration::from_millis(1);
/// How long a lonely half-closed connection is kept (`tcp_fin_timeout`).
const ORPHAN: Duration = Duration::from_secs(60);

impl Inner {
    /// Lets a dirty connection send, tells its owner the news, and sets its timer.
    pub(crate) fn flow_turn(&mut self, id: FlowId) {
        let now = self.now;
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        flow.dirty = false;
        if !flow.parked {
            flow.sender.expire(now);
            let progress = self.flow_send(id);
            self.flow_schedule(id, progress);
        }
        self.flow_news(id);
    }

    /// Sends what may be sent, up to a bound; tells whether there was anything.
    pub(crate) fn flow_send(&mut self, id: FlowId) -> bool {
        self.flow_send_at(id, Duration::ZERO)
    }

    /// Sends what may be sent, the acknowledgement that waits for company too: there will be none.
    pub(crate) fn flow_send_last(&mut self, id: FlowId) {
        self.flow_send_at(id, ACK_DELAY);
    }

    fn flow_send_at(&mut self, id: FlowId, ahead: Duration) -> bool {
        let now = self.now;
        let Some(flow) = self.tcp.flows.get_mut(id) else { return false };
        let Some(link) = self.links.get_mut(flow.path.link) else { return false };
        flow.stopped = link.congested();
        if flow.stopped {
            return false;
        }
        flow.engine.speak(link, &mut self.produced, now);
        let shape = shape(flow, link);
        let first = flow.sender.emit(&shape, now);
        // Data takes the acknowledgement with it, unless there is more to tell.
        let owes = flow.receiver.owes(now + ahead);
        let bare = flow.sender.is_open() && owes && (first.is_none() || flow.receiver.reports());
        let progress = bare || !self.produced.is_empty();
        self.flow_emit(id);
        if bare {
            self.send_ack(id);
        }
        let Some(first) = first else { return progress };
        self.flow_path(id);
        self.send_segment(id, &shape, first);
        for _ in 1..TURN {
            let Some(flow) = self.tcp.flows.get_mut(id) else { return true };
            if self.links.get(flow.path.link).is_none_or(Link::congested) {
                break;
            }
            let Some(next) = flow.sender.emit(&shape, now) else { return true };
            self.send_segment(id, &shape, next);
        }
        if let Some(flow) = self.tcp.flows.get_mut(id) {
            flow.stopped = true;
        }
        true
    }

    /// Brings the path of a connection up to date.
    pub(crate) fn flow_path(&mut self, id: FlowId) {
        let Some(flow) = self.tcp.flows.get(id) else { return };
        let mut path = flow.path;
        let (local, remote) = (flow.key.local().ip(), flow.key.remote().ip());
        if path.generation != self.generation {
            let way = marked(remote, Some(local), path.device, path.mark);
            if let Ok(hop) = self.route_flow(&way) {
                (path.link, path.next) = (hop.link, hop.next);
            }
            path.generation = self.generation;
            path.mac = None;
        }
        let Some(link) = self.links.get(path.link) else { return };
        if link.kind == Kind::Ethernet
            && (path.mac.is_none() || path.neighbours != link.neighbours.generation)
        {
            path.neighbours = link.neighbours.generation;
            path.mac = link.neighbours.known(path.next);
        }
        if let Some(flow) = self.tcp.flows.get_mut(id) {
            flow.path = path;
        }
    }

    /// Sets the timer of a connection.
    fn flow_schedule(&mut self, id: FlowId, progress: bool) {
        let now = self.now;
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        let mut at = [flow.engine.due(), flow.receiver.due()].into_iter().flatten().min();
        if flow.stopped || at.is_some_and(|at| at <= now) {
            if progress {
                self.tcp.touch(id);
                return;
            }
            // The link is congested, or smoltcp changed its mind: look again soon.
            at = Some(now + RETRY);
        }
        let others = [flow.deadline, flow.sender.due(), flow.keepalive_due()];
        let at = others.into_iter().flatten().chain(at).min();
        if let Some(at) = at
            && flow.scheduled.is_none_or(|scheduled| at < scheduled)
        {
            flow.scheduled = Some(at);
            self.tcp.remind(at, id);
        }
    }

    /// Does what time demands of the connections.
    pub(crate) fn expire_flows(&mut self) {
        let now = self.now;
        while let Some(Reverse((at, id))) = self.tcp.timers.peek().copied() {
            if at > now {
                break;
            }
            self.tcp.timers.pop();
            let Some(flow) = self.tcp.flows.get_mut(id) else { continue };
            if flow.scheduled == Some(at) {
                flow.scheduled = None;
                if !self.flow_overdue(id) {
                    self.tcp.touch(id);
                }
            }
        }
        for (key, wait) in self.tcp.waits.expire(now) {
            self.tcp.leave_port(key.local().port(), wait.reuse);
        }
    }

    /// Ends a connection that waited too long; tells whether it did.
    fn flow_overdue(&mut self, id: FlowId) -> bool {
        let now = self.now;
        let Some(flow) = self.tcp.flows.get_mut(id) else { return true };
        if flow.deadline.is_some_and(|deadline| deadline <= now) {
            if flow.deferred {
                self.flow_ready(id);
                return false;
            }
            self.flow_fail(id, Errno::ETIMEDOUT);
            return true;
        }
        let quiet = now - flow.heard;
        let stalled = flow.sender.is_busy() && now - flow.busy > flow.tuning.user_timeout;
        let mut dead = stalled && quiet > flow.tuning.user_timeout;
        if let Some((idle, interval, count)) = flow.tuning.keepalive {
            dead |= quiet > idle + interval * count;
        }
        if dead {
            self.flow_fail(id, Errno::ETIMEDOUT);
        } else if flow.keepalive_due().is_some_and(|at| at <= now) && flow.is_live() {
            flow.probes += 1;
            self.flow_probe(id);
        }
        dead
    }

    /// Sends a segment that the peer must answer.
    fn flow_probe(&mut self, id: FlowId) {
        self.flow_path(id);
        let Some(flow) = self.tcp.flows.get(id) else { return };
        let Some(link) = self.links.get(flow.path.link) else { return };
        let shape = shape(flow, link);
        self.send_segment(id, &shape, Emit::Probe);
    }

    /// When the connections need time next.
    pub(crate) fn flows_due(&self) -> Option<Instant> {
        let timer = self.tcp.timers.peek().map(|Reverse((at, _))| *at);
        [timer, self.tcp.waits.due()].into_iter().flatten().min()
    }

    /// Gives a connection without an owner a last deadline.
    pub(crate) fn flow_orphan(&mut self, id: FlowId) {
        let now = self.now;
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        flow.owner = Owner::Nobody;
        let limit = if flow.state() == State::FinWait2 { ORPHAN } else { ORPHAN * 2 };
        flow.deadline = Some(now + limit);
        self.tcp.touch(id);
    }

    /// Answers a segment with one of our own making.
    pub(crate) fn answer_segment(&mut self, link: usize, header: &IpHeader, answer: &Segment) {
        let bytes = answer.answer(header);
        let device = self.scope_device(header.source, link);
        self.send_ip(Outgoing { bytes, segment: None, unsummed: false }, device);
    }
}
