//! The packets of a connection on their way out: what smoltcp made, with our numbers, and the
//! segments of the sending half.

use std::num::NonZeroU16;

use super::{
    super::{
        device::{LONGEST, Produced},
        inner::Inner,
        link::{Link, Outgoing},
        packet::{Build, HEADROOM, TCP, fill_header_checksum},
        pool,
    },
    flow::{Flow, FlowId, Tuning},
    segment::{ACK, FIN, PSH, RST, SYN, Segment},
    sender::{Emit, Shape},
};

/// Bytes of a TCP header without options.
const HEADER: usize = 20;
/// The least segment size that a peer may ask for (Linux's `TCP_MIN_SND_MSS`), and the one of a
/// peer that asks for none.
const LEAST: u16 = 48;
const DEFAULT: u16 = 536;

/// What to do with bare acknowledgements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merge {
    /// Send them.
    Nothing,
    /// Data follows, which says the same.
    Bare,
}

/// What the packets of a connection may carry.
pub(crate) fn shape(flow: &Flow, link: &Link) -> Shape {
    let is_ipv4 = flow.key.local().is_ipv4();
    let headers = HEADER + if is_ipv4 { 20 } else { 40 };
    let peer = match flow.sender.offer().mss {
        None | Some(0) => DEFAULT,
        Some(peer) => peer.max(LEAST),
    };
    let own = link.caps.max_transmission_unit.min(flow.most).saturating_sub(headers).max(1);
    let mss = own.min(peer.into()) as u64;
    let long = is_ipv4 && link.takes_long();
    let most = if long { ((LONGEST - headers) as u64 / mss * mss).max(mss) } else { mss };
    let Tuning { nodelay, corked, .. } = flow.tuning;
    Shape { mss, most, far: !link.offload, nodelay, corked }
}

impl Inner {
    /// Sends what smoltcp produced for a connection.
    pub(crate) fn flow_emit(&mut self, id: FlowId, merge: Merge) {
        let mut produced = std::mem::take(&mut self.produced);
        self.flow_path(id);
        for Produced { mut bytes, .. } in produced.drain(..) {
            let Some(flow) = self.tcp.flows.get_mut(id) else { break };
            let version = bytes[HEADROOM] >> 4;
            let at = HEADROOM + if version == 4 { 20 } else { 40 };
            let Some(segment) = Segment::parse(&bytes[at..]) else { continue };
            let told = (flow.receive_next, flow.window);
            flow.note_told(&segment, self.now);
            let news = told != (flow.receive_next, flow.window);
            if flow.sender.is_open() && !segment.is(SYN, SYN) {
                if !segment.is(RST, RST) && !flow.translate(&mut bytes, at, &segment, news, merge) {
                    pool::give(bytes);
                    continue;
                }
                let number = match segment {
                    Segment { length: 1, .. } => flow.sender.una_sequence().wrapping_sub(1),
                    _ => flow.sender.next_sequence(),
                };
                bytes[at + 4..at + 8].copy_from_slice(&number.to_be_bytes());
            }
            let ip = &mut bytes[HEADROOM..];
            if version == 4 {
                ip[1] = flow.tuning.tos;
                fill_header_checksum(ip);
            } else if flow.tuning.tos != 0 {
                ip[0] = 0x60 | (flow.tuning.tos >> 4);
                ip[1] = flow.tuning.tos << 4;
            }
            let path = flow.path;
            let packet = Outgoing { bytes, segment: None, unsummed: true };
            self.counts.sends(&packet);
            self.send_on_path(path.link, path.next, path.mac, packet);
        }
        self.produced = produced;
    }

    /// Sends a segment of the sending half; the path is up to date.
    pub(crate) fn send_segment(&mut self, id: FlowId, shape: &Shape, emit: Emit) {
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        let (sequence, length, flags, again) = match emit {
            Emit::Probe => (flow.sender.una_sequence().wrapping_sub(1), 0, ACK, false),
            Emit::Data { from, length, fin, push, again } => {
                let flags = ACK | if fin { FIN } else { 0 } | if push { PSH } else { 0 };
                (flow.sender.sequence(from), length, flags, again)
            }
        };
        let build = Build {
            source: flow.key.local().ip(),
            destination: flow.key.remote().ip(),
            protocol: TCP,
            ttl: flow.tuning.ttl.max(1),
            tos: flow.tuning.tos,
            id: 0,
        };
        let (mut bytes, at) = build.packet(HEADER + length);
        if build.source.is_ipv4() {
            // Not to be fragmented: routers shall say how much they take (RFC 1191).
            bytes[HEADROOM + 6] = 0x40;
            fill_header_checksum(&mut bytes[HEADROOM..]);
        }
        let head = Segment {
            source: flow.key.local().port(),
            destination: flow.key.remote().port(),
            sequence,
            acknowledges: flow.receive_next,
            flags,
            window: flow.window,
            length,
        };
        head.write(&mut bytes[at..at + HEADER]);
        if let Emit::Data { from, .. } = emit {
            flow.sender.read(from, &mut bytes[at + HEADER..]);
        }
        let mss = usize::try_from(shape.mss).unwrap_or(LONGEST);
        let pieces = u32::try_from(length.div_ceil(mss).max(1)).unwrap_or(1);
        let out = &mut flow.statistics.segments_out;
        *out = out.wrapping_add(pieces);
        let size = u16::try_from(shape.mss).ok().and_then(NonZeroU16::new);
        let segment = if length > mss { size } else { None };
        let path = flow.path;
        self.counts.tcp.retransmitted += if again { u64::from(pieces) } else { 0 };
        let packet = Outgoing { bytes, segment, unsummed: true };
        self.counts.sends(&packet);
        self.send_on_path(path.link, path.next, path.mac, packet);
    }
}

impl Flow {
    /// Makes a segment of smoltcp one of ours; false when there is nothing to be sent.
    ///
    /// Its FIN is only an acknowledgement: the sending half sends one when its time comes. The byte
    /// of a keep-alive is left out: it would be a byte of our data.
    fn translate(
        &self,
        bytes: &mut Vec<u8>,
        at: usize,
        segment: &Segment,
        news: bool,
        merge: Merge,
    ) -> bool {
        let bare = bytes[at + 12] >> 4 == 5;
        let wanted = match segment {
            Segment { length: 0, .. } if segment.is(FIN, FIN) => news,
            Segment { length: 0, .. } => true,
            _ => {
                bytes.truncate(at + HEADER);
                shorten(&mut bytes[HEADROOM..], segment.length);
                return true;
            }
        };
        bytes[at + 13] &= !FIN;
        wanted && !(bare && merge == Merge::Bare)
    }
}

/// Writes the length of a packet that lost some bytes at its end.
fn shorten(ip: &mut [u8], by: usize) {
    let at = if ip[0] >> 4 == 4 { 2 } else { 4 };
    let length = u16::from_be_bytes([ip[at], ip[at + 1]]);
    let length = length.saturating_sub(u16::try_from(by).unwrap_or(u16::MAX));
    ip[at..at + 2].copy_from_slice(&length.to_be_bytes());
}
