//! What becomes of a connection: established, refused, reset, ended; and who is told.

use smoltcp::socket::tcp::State;
use umvu_abi::Errno;

use super::{
    super::inner::Inner,
    flow::{FlowId, Owner},
    segment::{RST, Segment},
    sock::{Phase, SockId},
    timewait::TimeWaits,
};

impl Inner {
    /// Acts on a change of state that a segment brought about.
    pub(crate) fn flow_changed(&mut self, id: FlowId, segment: &Segment) {
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        let before = flow.seen;
        let state = flow.state();
        flow.seen = state;
        flow.news = true;
        if state == State::Closed {
            let tcp = &mut self.counts.tcp;
            match before {
                State::SynSent | State::SynReceived => tcp.failed += 1,
                State::Established | State::CloseWait => tcp.reset += 1,
                _ => {}
            }
        }
        let opening = matches!(before, State::Listen | State::SynSent | State::SynReceived);
        match state {
            State::Established | State::CloseWait if opening => self.flow_opened(id),
            State::TimeWait => {
                self.flow_send_last(id);
                self.flow_rest(id);
            }
            State::Closed if opening => self.flow_fail(id, Errno::ECONNREFUSED),
            State::Listen => self.flow_remove(id),
            State::Closed if segment.is(RST, RST) && before == State::CloseWait => {
                self.flow_fail(id, Errno::EPIPE);
            }
            State::Closed if segment.is(RST, RST) && before != State::LastAck => {
                self.flow_fail(id, Errno::ECONNRESET);
            }
            State::Closed => self.flow_over(id),
            State::FinWait2 if flow.owner == Owner::Nobody => self.flow_orphan(id),
            _ => {}
        }
    }

    /// The handshake is complete.
    fn flow_opened(&mut self, id: FlowId) {
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        flow.deadline = None;
        if let (Owner::Listener(_), Some(wait)) = (flow.owner, flow.tuning.defer) {
            flow.deferred = true;
            flow.deadline = Some(self.now + wait);
            return;
        }
        self.flow_ready(id);
    }

    /// The owner can have the connection.
    pub(crate) fn flow_ready(&mut self, id: FlowId) {
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        flow.deadline = None;
        flow.deferred = false;
        match flow.owner {
            Owner::Socket(sock) => {
                if let Some(sock) = self.tcp.socks.get_mut(sock) {
                    sock.phase = Phase::Connected(id);
                }
            }
            Owner::Listener(sock) => {
                self.counts.tcp.passive += 1;
                if let Some(sock) = self.tcp.socks.get_mut(sock)
                    && let Phase::Listening(listener) = &mut sock.phase
                {
                    listener.pending = listener.pending.saturating_sub(1);
                    listener.ready.push_back(id);
                    sock.events.changed();
                }
            }
            Owner::Nobody => {}
        }
    }

    /// The connection ends with an error.
    pub(crate) fn flow_fail(&mut self, id: FlowId, errno: Errno) {
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        flow.error = Some(errno);
        let owner = flow.owner;
        match owner {
            Owner::Socket(owner) => {
                self.flow_park(id);
                let Some(sock) = self.tcp.socks.get_mut(owner) else { return };
                sock.error = Some(errno);
                if matches!(sock.phase, Phase::Connecting(_)) {
                    sock.phase = Phase::Refused(errno);
                    self.tcp_loosen(owner);
                    if let Some(flow) = self.tcp.flows.remove(id) {
                        flow.recycle();
                    }
                } else {
                    sock.phase = Phase::Broken(errno, id);
                }
                if let Some(sock) = self.tcp.socks.get(owner) {
                    sock.events.changed();
                }
            }
            Owner::Listener(owner) if self.listener_holds(owner, id) => self.flow_park(id),
            Owner::Listener(_) | Owner::Nobody => self.flow_remove(id),
        }
    }

    /// The connection ended in order, the peer's acknowledgement of our FIN included.
    fn flow_over(&mut self, id: FlowId) {
        let Some(flow) = self.tcp.flows.get(id) else { return };
        match flow.owner {
            Owner::Socket(owner) => {
                self.flow_park(id);
                if let Some(sock) = self.tcp.socks.get_mut(owner) {
                    sock.phase = Phase::Closed(id);
                    sock.events.changed();
                }
            }
            Owner::Listener(owner) if self.listener_holds(owner, id) => self.flow_park(id),
            Owner::Listener(_) | Owner::Nobody => self.flow_remove(id),
        }
    }

    /// The connection enters TIME-WAIT: a record takes its place.
    fn flow_rest(&mut self, id: FlowId) {
        let Some(flow) = self.tcp.flows.get(id) else { return };
        let (key, reuse) = (flow.key, flow.tuning.reuse);
        let record =
            TimeWaits::record(flow.sender.next_sequence(), flow.receiver.sequence(), reuse);
        let rests = !flow.parked;
        self.flow_over(id);
        if rests {
            self.tcp.use_port(key.local().port(), reuse);
            for (key, wait) in self.tcp.waits.insert(key, record, self.now) {
                self.tcp.leave_port(key.local().port(), wait.reuse);
            }
        }
    }

    fn listener_holds(&self, owner: SockId, id: FlowId) -> bool {
        self.tcp.socks.get(owner).is_some_and(|sock| match &sock.phase {
            Phase::Listening(listener) => listener.ready.contains(&id),
            _ => false,
        })
    }

    /// Takes a connection out of the tables; what it received can still be read.
    pub(crate) fn flow_park(&mut self, id: FlowId) {
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        if flow.parked {
            return;
        }
        flow.parked = true;
        flow.deadline = None;
        flow.scheduled = None;
        let (key, reuse) = (flow.key, flow.tuning.reuse);
        self.tcp.demux.remove(&key);
        self.tcp.leave_port(key.local().port(), reuse);
    }

    /// Forgets a connection.
    pub(crate) fn flow_remove(&mut self, id: FlowId) {
        self.flow_park(id);
        let Some(flow) = self.tcp.flows.remove(id) else { return };
        if let Owner::Listener(owner) = flow.owner
            && let Some(sock) = self.tcp.socks.get_mut(owner)
            && let Phase::Listening(listener) = &mut sock.phase
        {
            let ready = listener.ready.len();
            listener.ready.retain(|other| *other != id);
            if listener.ready.len() == ready {
                listener.pending = listener.pending.saturating_sub(1);
            }
        }
        flow.recycle();
    }

    /// Tells the owner of a connection what it does not know yet.
    pub(crate) fn flow_news(&mut self, id: FlowId) {
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        let Owner::Socket(owner) = flow.owner else {
            if flow.owner == Owner::Nobody && !flow.parked && flow.receiver.queued() > 0 {
                // Data for a socket that is closed: the peer must learn it.
                self.flow_abort(id);
            }
            return;
        };
        let (queued, room) = (flow.receiver.queued(), flow.send_room());
        let enough = room >= flow.send_limit() / 3;
        let mut tell = std::mem::take(&mut flow.news);
        tell |= queued > flow.told;
        flow.told = queued;
        if flow.starved && enough {
            flow.starved = false;
            tell = true;
        }
        if tell && let Some(sock) = self.tcp.socks.get(owner) {
            sock.events.changed();
        }
    }
}
