//! [`Frame::complete`]: segmentation and checksums, done in software.
//!
//! A frame is understood as far as needed: Ethernet, up to two VLAN tags, IPv4 with options or
//! IPv6 with extension headers, then TCP, UDP or ICMP. What is not understood (other protocols,
//! IP fragments, truncated headers) passes unchanged: this code never refuses a frame.
//!
//! See RFC 1071 for the checksum, RFC 8200 section 8.1 for the IPv6 pseudo-header.

use std::num::NonZeroU16;

use crate::frame::Frame;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const VLAN_TAGS: [u16; 2] = [0x8100, 0x88a8];

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// The payload of a TCP segment that fits into a VXLAN on Ethernet, over IPv6 too.
const TUNNELLED_SEGMENT: NonZeroU16 = NonZeroU16::new(1370).expect("not zero");

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

impl Frame {
    /// Cuts and fills checksums so that the frames may go on a real wire; calls `emit` for each.
    ///
    /// A frame that owes nothing is emitted unchanged. In the segments of a large TCP frame the
    /// sequence number, the flags (CWR only in the first, FIN and PSH only in the last), the IPv4
    /// identification, the lengths and all checksums are those a sender without offload would
    /// have written.
    pub fn complete(mut self, emit: &mut dyn FnMut(Vec<u8>)) {
        if self.offload.is_none() {
            return emit(self.bytes);
        }
        let Some(layout) = Layout::of(&self.bytes) else { return emit(self.bytes) };
        if let Some(size) = self.offload.segment_size
            && let Some(payload) = layout.tcp_payload(&self.bytes)
            && layout.end - payload > usize::from(size.get())
        {
            return segment(&self.bytes, &layout, payload, size, emit);
        }
        if self.offload.checksum_pending {
            layout.fill_checksum(&mut self.bytes);
        }
        emit(self.bytes);
    }

    /// Takes over a frame that a kernel put into a tunnel; None if it is too long for a frame.
    ///
    /// A kernel leaves checksums, and the cutting of TCP, to the interface that the tunnel goes
    /// through; a virtual interface does nothing about them. Then the field of the checksum holds
    /// the sum of the pseudo-header alone. (A checksum that happens to be this number is computed
    /// once more, to the same.)
    pub(crate) fn from_tunnel(bytes: Vec<u8>) -> Option<Self> {
        let mut frame = Self::from(bytes);
        if let Some(layout) = Layout::of(&frame.bytes)
            && layout.has_sum_of_pseudo_header(&frame.bytes)
        {
            frame.offload.checksum_pending = true;
            let payload = layout.tcp_payload(&frame.bytes);
            let is_long =
                payload.is_some_and(|at| layout.end - at > TUNNELLED_SEGMENT.get().into());
            frame.offload.segment_size = is_long.then_some(TUNNELLED_SEGMENT);
        }
        frame.has_valid_length().then_some(frame)
    }
}

/// Cuts `frame`, whose TCP payload starts at `payload`, into segments of `size` bytes.
fn segment(
    frame: &[u8],
    layout: &Layout,
    payload: usize,
    size: NonZeroU16,
    emit: &mut dyn FnMut(Vec<u8>),
) {
    let (headers, data) = frame[..layout.end].split_at(payload);
    let size = usize::from(size.get());
    let last = data.len().div_ceil(size) - 1;
    for (index, chunk) in data.chunks(size).enumerate() {
        let mut bytes = Vec::with_capacity(payload + chunk.len());
        bytes.extend_from_slice(headers);
        bytes.extend_from_slice(chunk);
        let mut part = Layout { end: bytes.len(), ..*layout };
        part.set_ip_length(&mut bytes);
        if index > 0 {
            part.advance_identification(&mut bytes, index);
            part.advance_sequence(&mut bytes, index * size);
            bytes[part.transport + 13] &= !CWR;
        }
        if index < last {
            bytes[part.transport + 13] &= !(FIN | PSH);
        }
        part.fill_ip_checksum(&mut bytes);
        part.fill_checksum(&mut bytes);
        emit(bytes);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V4,
    V6,
}

/// Where the headers of a frame are. All offsets lie inside the frame and are in order.
#[derive(Debug, Clone, Copy)]
struct Layout {
    version: Version,
    ip: usize,
    transport: usize,
    /// The end of the IP packet: padding of the frame may follow.
    end: usize,
    protocol: u8,
}

impl Layout {
    fn of(frame: &[u8]) -> Option<Self> {
        let mut ip = 14;
        let mut ethertype = read_u16(frame, 12)?;
        for _ in 0..2 {
            if VLAN_TAGS.contains(&ethertype) {
                ethertype = read_u16(frame, ip + 2)?;
                ip += 4;
            }
        }
        match ethertype {
            ETHERTYPE_IPV4 => Self::of_ipv4(frame, ip),
            ETHERTYPE_IPV6 => Self::of_ipv6(frame, ip),
            _ => None,
        }
    }

    fn of_ipv4(frame: &[u8], ip: usize) -> Option<Self> {
        let first = *frame.get(ip)?;
        let transport = ip + usize::from(first & 0x0f) * 4;
        let end = ip + usize::from(read_u16(frame, ip + 2)?);
        let fragment = read_u16(frame, ip + 6)? & 0x3fff;
        let sane = first >> 4 == 4 && transport >= ip + 20 && transport <= end;
        if !sane || end > frame.len() || fragment != 0 {
            return None;
        }
        Some(Self { version: Version::V4, ip, transport, end, protocol: frame[ip + 9] })
    }

    fn of_ipv6(frame: &[u8], ip: usize) -> Option<Self> {
        let end = ip + 40 + usize::from(read_u16(frame, ip + 4)?);
        if frame.get(ip)? >> 4 != 6 || end > frame.len() {
            return None;
        }
        let mut protocol = frame[ip + 6];
        let mut transport = ip + 40;
        // Hop-by-hop, routing and destination options; a routing header with segments left would
        // make the destination of the pseudo-header another one than that of the packet.
        while let 0 | 43 | 60 = protocol {
            let header = frame.get(transport..transport + 8)?;
            if protocol == 43 && header[3] != 0 {
                return None;
            }
            protocol = header[0];
            transport += (usize::from(header[1]) + 1) * 8;
        }
        (transport <= end).then_some(Self { version: Version::V6, ip, transport, end, protocol })
    }

    /// The offset of the TCP payload; None if this is not TCP.
    fn tcp_payload(&self, frame: &[u8]) -> Option<usize> {
        if self.protocol != TCP || self.end < self.transport + 20 {
            return None;
        }
        let header = usize::from(frame[self.transport + 12] >> 4) * 4;
        let payload = self.transport + header;
        (header >= 20 && payload <= self.end).then_some(payload)
    }

    fn checksum_offset(&self) -> Option<usize> {
        let (field, shortest) = match (self.version, self.protocol) {
            (_, TCP) => (16, 20),
            (_, UDP) => (6, 8),
            (Version::V4, ICMP) | (Version::V6, ICMPV6) => (2, 4),
            _ => return None,
        };
        (self.end >= self.transport + shortest).then_some(self.transport + field)
    }

    /// Computes the checksum of the transport header and writes it.
    fn fill_checksum(&self, frame: &mut [u8]) {
        let Some(field) = self.checksum_offset() else { return };
        frame[field..field + 2].fill(0);
        let mut total = if self.protocol == ICMP { 0 } else { self.pseudo_header(frame) };
        total += sum(&frame[self.transport..self.end]);
        let mut checksum = fold(total);
        if self.protocol == UDP && checksum == [0, 0] {
            checksum = [0xff, 0xff];
        }
        frame[field..field + 2].copy_from_slice(&checksum);
    }

    fn has_sum_of_pseudo_header(&self, frame: &[u8]) -> bool {
        let Some(field) = self.checksum_offset().filter(|_| matches!(self.protocol, TCP | UDP))
        else {
            return false;
        };
        let [high, low] = fold(self.pseudo_header(frame));
        frame[field..field + 2] == [!high, !low]
    }

    fn pseudo_header(&self, frame: &[u8]) -> u64 {
        let addresses = match self.version {
            Version::V4 => self.ip + 12..self.ip + 20,
            Version::V6 => self.ip + 8..self.ip + 40,
        };
        // An IP packet is shorter than 2^17 bytes, so the length never saturates.
        let length = u64::try_from(self.end - self.transport).unwrap_or(0);
        sum(&frame[addresses]) + length + u64::from(self.protocol)
    }

    fn fill_ip_checksum(&self, frame: &mut [u8]) {
        if self.version == Version::V4 {
            let field = self.ip + 10;
            frame[field..field + 2].fill(0);
            let checksum = fold(sum(&frame[self.ip..self.transport_of_ipv4(frame)]));
            frame[field..field + 2].copy_from_slice(&checksum);
        }
    }

    fn transport_of_ipv4(&self, frame: &[u8]) -> usize {
        self.ip + usize::from(frame[self.ip] & 0x0f) * 4
    }

    fn set_ip_length(&mut self, frame: &mut [u8]) {
        let (field, length) = match self.version {
            Version::V4 => (self.ip + 2, self.end - self.ip),
            Version::V6 => (self.ip + 4, self.end - self.ip - 40),
        };
        // A segment is shorter than the packet it was cut from, whose length fitted.
        let length = u16::try_from(length).unwrap_or(u16::MAX);
        frame[field..field + 2].copy_from_slice(&length.to_be_bytes());
    }

    fn advance_identification(&self, frame: &mut [u8], by: usize) {
        if self.version == Version::V4 {
            let field = &mut frame[self.ip + 4..self.ip + 6];
            let by = u16::try_from(by).unwrap_or(0);
            let value = u16::from_be_bytes([field[0], field[1]]).wrapping_add(by);
            field.copy_from_slice(&value.to_be_bytes());
        }
    }

    fn advance_sequence(&self, frame: &mut [u8], by: usize) {
        let field = &mut frame[self.transport + 4..self.transport + 8];
        let by = u32::try_from(by).unwrap_or(0);
        let value = u32::from_be_bytes([field[0], field[1], field[2], field[3]]).wrapping_add(by);
        field.copy_from_slice(&value.to_be_bytes());
    }
}

fn read_u16(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(offset)?, *bytes.get(offset + 1)?]))
}

/// The sum of the big-endian words of `bytes`, odd lengths padded with zero, not yet folded.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(4);
    let mut tail = [0; 4];
    tail[..words.remainder().len()].copy_from_slice(words.remainder());
    let last = u64::from(u32::from_be_bytes(tail));
    words.map(|w| u64::from(u32::from_be_bytes([w[0], w[1], w[2], w[3]]))).sum::<u64>() + last
}

/// The one's complement of `total` folded to 16 bits, as it goes on the wire.
fn fold(mut total: u64) -> [u8; 2] {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    let [.., high, low] = total.to_be_bytes();
    [!high, !low]
}

#[cfg(test)]
#[path = "complete_tests.rs"]
mod tests;
