//! The packets of a connection on their way out.

use std::num::NonZeroU16;

use super::{
    super::{
        device::LONGEST,
        inner::Inner,
        link::{Link, Outgoing},
        packet::{Build, HEADROOM, TCP, keep_whole},
        pool,
    },
    flow::{Flow, FlowId, Tuning},
    options::Tail,
    segment::{ACK, FIN, PSH, RST, SYN, Segment, URG},
    sender::{Emit, Shape},
};

/// Bytes of a TCP header without options.
const HEADER: usize = 20;
/// The least segment size that a peer may ask for (Linux's `TCP_MIN_SND_MSS`), and the one of a
/// peer that asks for none.
const LEAST: u16 = 48;
const DEFAULT: u16 = 536;

/// A segment to be sent; the rest of its header follows from the connection.
struct Head {
    sequence: u32,
    flags: u8,
    window: u16,
    tail: Tail,
    /// The position and the length of its data.
    data: (u64, usize),
    /// Bytes of the segments that it is to be cut into.
    cut: usize,
    /// The urgent pointer.
    urgent: Option<u16>,
}

/// Bytes of the headers of a segment without options.
fn headers(flow: &Flow) -> usize {
    HEADER + if flow.key.local().is_ipv4() { 20 } else { 40 }
}

/// What the packets of a connection may carry.
pub(crate) fn shape(flow: &Flow, link: &Link) -> Shape {
    let headers = headers(flow);
    let peer = match flow.sender.offer().mss {
        None | Some(0) => DEFAULT,
        Some(peer) => peer.max(LEAST),
    };
    let own = link.caps.max_transmission_unit.min(flow.most).saturating_sub(headers);
    let mss = own.min(peer.into()).saturating_sub(flow.overhead()).max(1) as u64;
    let room = (LONGEST - headers - flow.overhead()) as u64;
    let long = flow.key.local().is_ipv4() && link.takes_long();
    let most = if long { (room / mss * mss).max(mss) } else { mss };
    let Tuning { nodelay, corked, .. } = flow.tuning;
    Shape { mss, most, far: !link.offload || flow.is_far(), nodelay, corked }
}

impl Inner {
    /// Sends what smoltcp wants to be sent for a connection: a SYN with our offer, a RST with our
    /// numbers. Acknowledgements are the receiving half's matter, and the FIN is the sending half's,
    /// once the handshake is complete.
    pub(crate) fn flow_emit(&mut self, id: FlowId) {
        if self.produced.is_empty() {
            return;
        }
        let mut produced = std::mem::take(&mut self.produced);
        self.flow_path(id);
        for packet in produced.drain(..) {
            let ip = &packet.bytes[HEADROOM..];
            let at = if ip[0] >> 4 == 4 { 20 } else { 40 };
            if let Some(segment) = Segment::parse(&ip[at..]) {
                self.send_sign(id, &segment);
            }
            pool::give(packet.bytes);
        }
        self.produced = produced;
    }

    fn send_sign(&mut self, id: FlowId, segment: &Segment) {
        let now = self.now;
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        let Segment { mut sequence, flags, .. } = *segment;
        let flags = flags & (SYN | RST | ACK);
        let mut tail = Tail::with(None);
        let mut window = 0;
        if segment.is(SYN, SYN) {
            flow.syn_sent(sequence, now);
            let Some(link) = self.links.get(flow.path.link) else { return };
            let mss = link.caps.max_transmission_unit.min(flow.most) - headers(flow);
            let mss = u16::try_from(mss).unwrap_or(u16::MAX);
            let answers = segment.is(ACK, ACK);
            let offer = flow.offer(mss, answers);
            tail = Tail::offer(&offer, flow.times.stamps(now));
            let opening = u16::try_from(flow.receiver.opening()).unwrap_or(u16::MAX);
            // Whole segments; timestamps are known to take room in them when the peer has sent some.
            let overhead = if answers { flow.overhead() } else { 0 };
            let unit = mss.saturating_sub(u16::try_from(overhead).unwrap_or(0)).max(1);
            window = if opening < unit { opening } else { opening / unit * unit };
        } else if flow.sender.is_open() {
            if !segment.is(RST, RST) {
                return;
            }
            sequence = flow.sender.next_sequence();
        }
        let head = Head { sequence, flags, window, tail, data: (0, 0), cut: 0, urgent: None };
        self.send_head(id, head);
    }

    /// Sends an acknowledgement, with all that is to be reported.
    pub(crate) fn send_ack(&mut self, id: FlowId) {
        self.flow_path(id);
        let now = self.now;
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        let mut tail = Tail::with(flow.times.stamps(now));
        if flow.sender.offer().sack {
            tail = tail.report(flow.receiver.blocks(tail.room()));
        }
        let (sequence, window) = (flow.sender.next_sequence(), flow.receiver.tell());
        let urgent = flow.sender.urgent_pointer(flow.sender.next_position());
        let head = Head { sequence, flags: ACK, window, tail, data: (0, 0), cut: 0, urgent };
        self.send_head(id, head);
    }

    /// Sends a segment of the sending half; the path is up to date.
    pub(crate) fn send_segment(&mut self, id: FlowId, shape: &Shape, emit: Emit) {
        let now = self.now;
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        let (sequence, flags, data, again) = match emit {
            Emit::Probe => (flow.sender.una_sequence().wrapping_sub(1), ACK, (0, 0), false),
            Emit::Data { from, length, fin, push, again } => {
                let flags = ACK | if fin { FIN } else { 0 } | if push { PSH } else { 0 };
                (flow.sender.sequence(from), flags, (from, length), again)
            }
        };
        let tail = Tail::with(flow.times.stamps(now));
        let cut = usize::try_from(shape.mss).unwrap_or(LONGEST);
        if again {
            self.counts.tcp.retransmitted += data.1.div_ceil(cut).max(1) as u64;
        }
        let window = flow.receiver.tell();
        let urgent = match emit {
            Emit::Probe => None,
            Emit::Data { from, .. } => flow.sender.urgent_pointer(from),
        };
        self.send_head(id, Head { sequence, flags, window, tail, data, cut, urgent });
    }

    fn send_head(&mut self, id: FlowId, head: Head) {
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        let build = Build {
            source: flow.key.local().ip(),
            destination: flow.key.remote().ip(),
            protocol: TCP,
            ttl: flow.tuning.ttl.max(1),
            tos: flow.tuning.tos,
            id: 0,
        };
        let tail = head.tail.as_slice();
        let (from, length) = head.data;
        let (mut bytes, at) = build.packet(HEADER + tail.len() + length);
        if build.source.is_ipv4() {
            keep_whole(&mut bytes[HEADROOM..]);
        }
        let segment = Segment {
            source: flow.key.local().port(),
            destination: flow.key.remote().port(),
            sequence: head.sequence,
            acknowledges: if head.flags & ACK == 0 { 0 } else { flow.receiver.sequence() },
            flags: head.flags,
            window: head.window,
            length,
        };
        let (start, data) = bytes[at..].split_at_mut(HEADER + tail.len());
        segment.write(&mut start[..HEADER]);
        start[HEADER..].copy_from_slice(tail);
        start[12] += u8::try_from(tail.len() / 4).unwrap_or(0) << 4;
        if let Some(pointer) = head.urgent {
            start[13] |= URG;
            start[18..20].copy_from_slice(&pointer.to_be_bytes());
        }
        if length > 0 {
            flow.sender.read(from, data);
        }
        let pieces = u32::try_from(length.div_ceil(head.cut.max(1)).max(1)).unwrap_or(1);
        let out = &mut flow.statistics.segments_out;
        *out = out.wrapping_add(pieces);
        let size = u16::try_from(head.cut).ok().and_then(NonZeroU16::new);
        let segment = size.filter(|_| length > head.cut);
        let path = flow.path;
        let packet = Outgoing { bytes, segment, unsummed: true };
        self.counts.sends(&packet);
        self.send_on_path(path.link, path.next, path.mac, packet);
    }
}
