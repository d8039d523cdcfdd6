//! Segments of a connection: whether they are part of it, and what each half is to hear
//! (RFC 9293, 3.10.7; RFC 5961; RFC 7323).

use smoltcp::socket::tcp::State;

use super::{
    super::inner::Inner,
    emit::shape,
    flow::FlowId,
    options::Options,
    receiver::{Fit, Taken},
    segment::{ACK, FIN, PSH, RST, SYN, Segment, URG},
    sender::Said,
};

impl Inner {
    /// Gives a segment, of which `tcp` are the bytes, to a connection; `long` when it stands for
    /// several.
    pub(crate) fn flow_input(&mut self, id: FlowId, tcp: &[u8], segment: &Segment, long: bool) {
        let now = self.now;
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        flow.note_received(segment, now);
        let options = Options::parse(tcp);
        if flow.sender.is_open() || self.flow_handshake(id, segment, &options) {
            let payload = &tcp[tcp.len() - segment.length..];
            if segment.is(URG, URG) {
                self.flow_urgent(id, segment, u16::from_be_bytes([tcp[18], tcp[19]]));
            }
            self.flow_segment(id, segment, &options, (payload, long));
        }
        self.tcp.touch(id);
    }

    /// A segment of the handshake; tells whether that is complete and the segment may carry more.
    fn flow_handshake(&mut self, id: FlowId, segment: &Segment, options: &Options) -> bool {
        let now = self.now;
        let Some(flow) = self.tcp.flows.get_mut(id) else { return false };
        let before = flow.state();
        let flags = segment.flags & (SYN | RST | ACK);
        let mut sequence = segment.sequence;
        if before == State::SynReceived && !segment.is(SYN, SYN) {
            match flow.receiver.fit(segment) {
                _ if flow.times.is_old(options.stamps, now) && !segment.is(RST, RST) => {
                    return false;
                }
                // The first data may come before the acknowledgement, or that may be lost.
                Fit::Within if !segment.is(RST, RST) => sequence = flow.receiver.small(),
                Fit::Exact => {}
                Fit::Within | Fit::Outside => return false,
            }
        }
        let Some(link) = self.links.get_mut(flow.path.link) else { return false };
        let heard = (flags, sequence, segment.acknowledges);
        flow.engine.hear(&flow.key, heard, link, &mut self.produced, now);
        let state = flow.state();
        let changed = state != before;
        if changed && matches!(before, State::Listen | State::SynSent) {
            flow.agree(segment, options, now);
        }
        let opens = changed && is_synchronized(state);
        if opens {
            let mss = shape(flow, link).mss;
            flow.open(mss, segment, now);
            if before == State::SynSent {
                flow.receiver.acknowledge();
            }
        }
        self.flow_emit(id);
        if changed {
            self.flow_changed(id, segment);
        }
        opens && !segment.is(SYN, SYN)
    }

    /// A segment of an open connection that has an urgent pointer.
    fn flow_urgent(&mut self, id: FlowId, segment: &Segment, pointer: u16) {
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        if flow.takes_data() && flow.receiver.fit(segment) != Fit::Outside {
            flow.receiver.note_urgent(segment, pointer);
        }
    }

    /// A segment of an open connection.
    fn flow_segment(
        &mut self,
        id: FlowId,
        segment: &Segment,
        options: &Options,
        (payload, long): (&[u8], bool),
    ) {
        let now = self.now;
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        let resets = segment.is(RST, RST);
        let fit = flow.receiver.fit(segment);
        if !resets && (fit == Fit::Outside || flow.times.is_old(options.stamps, now)) {
            let bare = segment.length == 0 && segment.is(FIN, 0) || segment.is(SYN, SYN);
            return if bare {
                flow.sender.overtaken(segment, &options.blocks);
                flow.receiver.challenge(now);
            } else {
                flow.receiver.repeat(segment);
                self.send_ack(id);
            };
        }
        match fit {
            Fit::Exact if resets => {
                let small = flow.receiver.small();
                return self.flow_hear(id, (RST, small, 0), segment);
            }
            Fit::Outside if resets => return,
            _ if resets || segment.is(SYN, SYN) => return flow.receiver.challenge(now),
            _ if segment.is(ACK, 0) => return,
            _ => {}
        }
        if flow.receiver.is_awaited(segment) {
            flow.times.keep(options.stamps, now);
        }
        let echo = flow.times.echo(options.stamps);
        let said = flow.sender.acknowledged(segment, &options.blocks, echo, now);
        if let Said::Ahead = said {
            return flow.receiver.challenge(now);
        }
        if let Some(echo) = echo {
            flow.note_round_trip(segment, echo, now);
        }
        if flow.changes_by(said) {
            let heard = (ACK, flow.receiver.small(), flow.sender.small(said));
            self.flow_hear(id, heard, segment);
        }
        if segment.length > 0 || segment.is(FIN, FIN) {
            self.flow_data(id, segment, payload, long);
        }
    }

    /// The data and the FIN of a segment.
    fn flow_data(&mut self, id: FlowId, segment: &Segment, payload: &[u8], long: bool) {
        let now = self.now;
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        if !flow.takes_data() {
            return flow.receiver.repeat(segment);
        }
        let small = flow.receiver.small();
        let listens = segment.is(PSH, PSH) && flow.only_listens();
        let taken = flow.receiver.take(segment, payload, (long, listens), now);
        if flow.deferred && (flow.receiver.queued() > 0 || flow.receiver.has_ended()) {
            self.flow_ready(id);
        }
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        if flow.receiver.has_ended() {
            let said = if flow.sender.is_finished() { Said::Fin } else { Said::Nothing };
            let heard = (FIN | ACK, small, flow.sender.small(said));
            self.flow_hear(id, heard, segment);
        }
        if taken == Taken::Report {
            self.send_ack(id);
        }
    }

    /// Tells smoltcp something, and acts on what it makes of it.
    fn flow_hear(&mut self, id: FlowId, heard: (u8, u32, u32), segment: &Segment) {
        let now = self.now;
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        let Some(link) = self.links.get_mut(flow.path.link) else { return };
        flow.engine.hear(&flow.key, heard, link, &mut self.produced, now);
        let changed = flow.state() != flow.seen;
        self.flow_emit(id);
        if changed {
            self.flow_changed(id, segment);
        }
    }
}

/// Whether both sides know each other's numbers.
fn is_synchronized(state: State) -> bool {
    !matches!(state, State::Closed | State::Listen | State::SynSent | State::SynReceived)
}
