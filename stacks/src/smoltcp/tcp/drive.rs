//! Driving smoltcp: a packet in, packets out, timers.
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
        link::{Kind, Outgoing},
        packet::{HEADROOM, IpHeader, fill_header_checksum},
        segmentation::segments,
    },
    flow::{FlowId, Owner},
    segment::{ACK, FIN, PSH, RST, SYN, Segment},
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
    /// Gives a packet to a connection.
    pub(crate) fn flow_input(&mut self, id: FlowId, ip: &[u8], segment: &Segment, long: bool) {
        let now = self.now;
        let moved = self.flow_admit(id, ip, segment);
        let ip = moved.as_deref().unwrap_or(ip);
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        let Some(link) = self.links.get_mut(flow.path.link) else { return };
        flow.note_received(segment, now);
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
        if !self.produced.is_empty() {
            self.flow_emit(id);
        }
        if changed {
            self.flow_changed(id, segment);
        }
        self.tcp.touch(id);
    }

    /// Makes a bare acknowledgement acceptable whose number is not quite what smoltcp expects.
    /// A peer may have sent a few bytes more than fit, since windows are rounded; where the buffers
    /// of both sides are full, nothing would go on if its acknowledgements were dropped for that
    /// (RFC 9293, 3.10.7.4: valid acknowledgements are special).
    fn flow_admit(&mut self, id: FlowId, ip: &[u8], segment: &Segment) -> Option<Vec<u8>> {
        if segment.length != 0 || !segment.is(SYN | FIN | RST | ACK, ACK) {
            return None;
        }
        let misplaced = |inner: &Self| inner.tcp.flows.get(id)?.misplaced(segment).then_some(());
        misplaced(self)?;
        // What was received and not acknowledged yet is not what it is ahead of.
        self.flow_send_last(id);
        misplaced(self)?;
        let next = self.tcp.flows.get(id)?.receive_next;
        let tcp = if ip[0] >> 4 == 4 { usize::from(ip[0] & 15) * 4 } else { 40 };
        let mut moved = ip.to_vec();
        moved.get_mut(tcp + 4..tcp + 8)?.copy_from_slice(&next.to_be_bytes());
        Some(moved)
    }

    /// Lets a dirty connection send, tells its owner the news, and sets its timer.
    pub(crate) fn flow_turn(&mut self, id: FlowId) {
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        flow.dirty = false;
        if !flow.parked {
            flow.finish_in_time();
            let progress = self.flow_send(id);
            self.flow_schedule(id, progress);
        }
        self.flow_news(id);
    }

    /// Sends what may be sent, up to a bound; tells whether there was anything.
    pub(crate) fn flow_send(&mut self, id: FlowId) -> bool {
        self.flow_send_at(id, self.now)
    }

    /// Sends what may be sent, the acknowledgement that waits for company too: there will be none.
    pub(crate) fn flow_send_last(&mut self, id: FlowId) {
        self.flow_send_at(id, self.now + ACK_DELAY);
    }

    fn flow_send_at(&mut self, id: FlowId, now: Instant) -> bool {
        let Some(flow) = self.tcp.flows.get_mut(id) else { return false };
        let Some(link) = self.links.get_mut(flow.path.link) else { return false };
        if link.congested() {
            return false;
        }
        for _ in 0..TURN {
            let before = self.produced.len();
            let mut port = Port { caps: &link.caps, incoming: None, produced: &mut self.produced };
            link.engine.poll_egress(now, &mut port, &mut flow.set);
            if self.produced.len() == before {
                break;
            }
        }
        flow.socket().set_ack_delay(Some(ACK_DELAY));
        let progress = !self.produced.is_empty();
        if progress {
            self.flow_emit(id);
        }
        progress
    }

    /// Sends what smoltcp produced for a connection.
    pub(crate) fn flow_emit(&mut self, id: FlowId) {
        let mut produced = std::mem::take(&mut self.produced);
        self.flow_path(id);
        for packet in produced.drain(..) {
            let mut bytes = packet.bytes;
            let Some(flow) = self.tcp.flows.get_mut(id) else { break };
            let version = bytes[HEADROOM] >> 4;
            let payload = if version == 4 { 20 } else { 40 };
            let tcp = &mut bytes[HEADROOM + payload..];
            if let Some(segment) = Segment::parse(tcp) {
                if let Some(sequence) = flow.newest(&segment) {
                    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
                }
                self.counts.tcp.retransmitted += u64::from(flow.note_sent(&segment, self.now));
            }
            let ip = &mut bytes[HEADROOM..];
            if version == 4 {
                ip[1] = flow.tuning.tos;
                fill_header_checksum(ip);
            } else if flow.tuning.tos != 0 {
                ip[0] = 0x60 | (flow.tuning.tos >> 4);
                ip[1] = flow.tuning.tos << 4;
            }
            let (path, most) = (flow.path, flow.most);
            let mut packet = Outgoing { bytes, segment: packet.segment, unsummed: true };
            self.counts.sends(&packet);
            if packet.bytes.len() - HEADROOM > most && cap(&mut packet, payload, most) {
                // The path is narrower than the link, which smoltcp does not know.
                if self.links.get(path.link).is_some_and(|link| !link.offload) {
                    for piece in segments(packet) {
                        self.send_on_path(path.link, path.next, path.mac, piece);
                    }
                    continue;
                }
            }
            self.send_on_path(path.link, path.next, path.mac, packet);
        }
        self.produced = produced;
    }

    /// Brings the path of a connection up to date.
    fn flow_path(&mut self, id: FlowId) {
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
        if at.is_some_and(|at| at <= now) {
            if progress {
                self.tcp.touch(id);
                return;
            }
            // The link is congested, or smoltcp changed its mind: look again soon.
            at = Some(now + RETRY);
        }
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        let at = [at, flow.deadline].into_iter().flatten().min();
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
        let stalled = flow.peek().send_queue() > 0 && now - flow.busy > flow.tuning.user_timeout;
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

/// Has a packet cut into segments whose packets have at most `most` bytes; false when it carries
/// too little for that.
fn cap(packet: &mut Outgoing, tcp: usize, most: usize) -> bool {
    let Some(offset) = packet.bytes.get(HEADROOM + tcp + 12) else { return false };
    let room = most.saturating_sub(tcp + usize::from(offset >> 4) * 4);
    let size = u16::try_from(room).ok().and_then(std::num::NonZeroU16::new);
    packet.segment = [size, packet.segment].into_iter().flatten().min();
    size.is_some()
}
