//! Driving smoltcp and the sending half: a packet in, packets out, timers.
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
        device::Port,
        inner::Inner,
        link::{Kind, Link, Outgoing},
        packet::IpHeader,
    },
    emit::{Merge, shape},
    flow::{FlowId, Owner},
    options::{Blocks, Offer},
    segment::{ACK, PSH, RST, Segment},
};

/// Packets a connection may send in one turn.
const TURN: usize = 64;
/// How long the acknowledgement of a lone segment may wait.
const ACK_DELAY: Duration = Duration::from_millis(10);
/// When to try again what a full queue put off.
const RETRY: Duration = Duration::from_millis(1);
/// How long a lonely half-closed connection is kept (`tcp_fin_timeout`).
const ORPHAN: Duration = Duration::from_secs(60);

impl Inner {
    /// Gives a packet to a connection. What it says of our data is for the sending half; smoltcp,
    /// which knows of none, gets the number that it expects.
    pub(crate) fn flow_input(&mut self, id: FlowId, ip: &mut [u8], segment: &Segment, long: bool) {
        let now = self.now;
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        let Some(link) = self.links.get_mut(flow.path.link) else { return };
        flow.note_received(segment, now);
        let at = if ip[0] >> 4 == 4 { usize::from(ip[0] & 15) * 4 } else { 40 };
        let tcp = &mut ip[at..];
        if let Some(offer) = Offer::parse(tcp) {
            flow.sender.syn_received(offer);
        }
        let opens = !flow.sender.is_open();
        if !opens && segment.is(ACK | RST, ACK) {
            let said = flow.sender.acknowledged(segment, &Blocks::parse(tcp), now);
            if flow.needs_no_more(segment, said) {
                self.tcp.touch(id);
                return;
            }
            let number = flow.sender.small(said);
            if number != segment.acknowledges {
                tcp[8..12].copy_from_slice(&number.to_be_bytes());
            }
        }
        // A long segment stands for many. And who only listens has nothing to send the
        // acknowledgement with: its peer may wait for it with a small buffer.
        let at_once = long || (segment.is(PSH, PSH) && flow.only_listens());
        if at_once {
            flow.socket().set_ack_delay(None);
        }
        let mut port = Port { caps: &link.caps, incoming: Some(ip), produced: &mut self.produced };
        link.engine.poll_ingress_single(now, &mut port, &mut flow.set);
        let state = flow.peek().state();
        let changed = state != flow.seen;
        if opens && changed && state_is_synchronized(state) {
            let mss = shape(flow, link).mss;
            flow.open(mss, segment, now);
        }
        if !self.produced.is_empty() {
            self.flow_emit(id, Merge::Nothing);
        }
        if changed {
            self.flow_changed(id, segment);
        }
        self.tcp.touch(id);
    }

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
        let shape = shape(flow, link);
        let first = flow.sender.emit(&shape, now);
        // Data takes the acknowledgement with it.
        let ahead = if first.is_some() { ACK_DELAY } else { ahead };
        for _ in 0..TURN {
            let before = self.produced.len();
            let mut port = Port { caps: &link.caps, incoming: None, produced: &mut self.produced };
            link.engine.poll_egress(now + ahead, &mut port, &mut flow.set);
            if self.produced.len() == before {
                break;
            }
        }
        flow.socket().set_ack_delay(Some(ACK_DELAY));
        let progress = !self.produced.is_empty();
        if progress {
            self.flow_emit(id, if first.is_some() { Merge::Bare } else { Merge::Nothing });
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
            if let Ok(hop) = self.route_from(remote, local, path.device) {
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
        let Some(link) = self.links.get_mut(flow.path.link) else { return };
        let mut at = link.engine.poll_at(now, &flow.set);
        if flow.stopped || at.is_some_and(|at| at <= now) {
            if progress {
                self.tcp.touch(id);
                return;
            }
            // The link is congested, or smoltcp changed its mind: look again soon.
            at = Some(now + RETRY);
        }
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        let at = [at, flow.deadline, flow.sender.due()].into_iter().flatten().min();
        if let Some(at) = at
            && flow.scheduled.is_none_or(|scheduled| at < scheduled)
        {
            flow.scheduled = Some(at);
            self.tcp.timers.push(Reverse((at, id)));
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
            self.flow_fail(id, Errno::ETIMEDOUT);
            return true;
        }
        let quiet = now - flow.heard;
        let stalled = flow.sender.is_busy() && now - flow.busy > flow.tuning.user_timeout;
        let mut dead = stalled && quiet > flow.tuning.user_timeout;
        if let Some((idle, interval, count)) = flow.tuning.keepalive {
            dead |= quiet > idle + interval * count;
            let next = if quiet >= idle { interval } else { idle };
            flow.socket().set_keep_alive(Some(next));
        }
        if dead {
            self.flow_fail(id, Errno::ETIMEDOUT);
        }
        dead
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
        let limit = if flow.peek().state() == State::FinWait2 { ORPHAN } else { ORPHAN * 2 };
        flow.deadline = Some(now + limit);
        self.tcp.touch(id);
    }

    /// Answers a segment with one of our own making.
    pub(crate) fn answer_segment(&mut self, link: usize, header: &IpHeader, answer: &Segment) {
        let bytes = answer.answer(header, self.rng.next16());
        let device = self.scope_device(header.source, link);
        self.send_ip(Outgoing { bytes, segment: None, unsummed: false }, device);
    }
}

/// Whether both sides know each other's numbers.
fn state_is_synchronized(state: State) -> bool {
    !matches!(state, State::Closed | State::Listen | State::SynSent | State::SynReceived)
}
