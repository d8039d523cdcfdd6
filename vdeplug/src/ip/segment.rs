//! TCP segments that the stack reads and writes itself: resets, answers from TIME-WAIT (RFC 9293).

use super::packet::{Build, HEADROOM, IpHeader, TCP, fill_payload_checksum, keep_whole};

/// Header flag: no more data follows.
pub const FIN: u8 = 1;
/// The sequence numbers begin.
pub const SYN: u8 = 2;
/// The connection is refused or broken.
pub const RST: u8 = 4;
/// The receiver is to have it at once.
pub const PSH: u8 = 8;
/// The acknowledgement number counts.
pub const ACK: u8 = 16;
/// The urgent pointer counts.
pub const URG: u8 = 32;

/// What the stack looks at in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Sender's port.
    pub source: u16,
    /// Receiver's port.
    pub destination: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledges: u32,
    /// The flags byte.
    pub flags: u8,
    /// The window, not scaled.
    pub window: u16,
    /// Bytes of data.
    pub length: usize,
}

impl Segment {
    /// Reads a segment; None when it is malformed.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let head: &[u8; 20] = payload.first_chunk()?;
        let offset = usize::from(head[12] >> 4) * 4;
        if offset < 20 || offset > payload.len() {
            return None;
        }
        Some(Self {
            source: u16::from_be_bytes([head[0], head[1]]),
            destination: u16::from_be_bytes([head[2], head[3]]),
            sequence: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
            acknowledges: u32::from_be_bytes([head[8], head[9], head[10], head[11]]),
            flags: head[13],
            window: u16::from_be_bytes([head[14], head[15]]),
            length: payload.len() - offset,
        })
    }

    /// Whether all the flags of `mask` in `value` are set and the others of `mask` are not.
    pub fn is(&self, mask: u8, value: u8) -> bool {
        self.flags & mask == value
    }

    /// The sequence number after this segment.
    pub fn end(&self) -> u32 {
        let controls = u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0);
        self.sequence
            .wrapping_add(u32::try_from(self.length).unwrap_or(u32::MAX))
            .wrapping_add(controls)
    }

    /// The reset that answers this segment (RFC 9293, 3.5.2); None for a reset.
    pub fn reset(&self) -> Option<Self> {
        if self.flags & RST != 0 {
            return None;
        }
        let with_ack = self.flags & ACK != 0;
        Some(Self {
            source: self.destination,
            destination: self.source,
            sequence: if with_ack { self.acknowledges } else { 0 },
            acknowledges: if with_ack { 0 } else { self.end() },
            flags: if with_ack { RST } else { RST | ACK },
            window: 0,
            length: 0,
        })
    }

    /// Writes the header, without options and checksum, into 20 bytes.
    pub fn write(&self, head: &mut [u8]) {
        head.fill(0);
        head[0..2].copy_from_slice(&self.source.to_be_bytes());
        head[2..4].copy_from_slice(&self.destination.to_be_bytes());
        head[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        head[8..12].copy_from_slice(&self.acknowledges.to_be_bytes());
        head[12] = 5 << 4;
        head[13] = self.flags;
        head[14..16].copy_from_slice(&self.window.to_be_bytes());
    }

    /// Makes the packet that carries this segment (without data) as an answer to `header`.
    pub fn answer(&self, header: &IpHeader) -> Vec<u8> {
        let build = Build {
            source: header.destination,
            destination: header.source,
            protocol: TCP,
            ttl: 64,
            tos: 0,
            id: 0,
        };
        let (mut bytes, at) = build.packet(20);
        if build.source.is_ipv4() {
            keep_whole(&mut bytes[HEADROOM..]);
        }
        self.write(&mut bytes[at..]);
        if let Some(parsed) = IpHeader::parse(&bytes[HEADROOM..]) {
            fill_payload_checksum(&parsed, &mut bytes[at..]);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: u8, length: usize) -> Segment {
        let (sequence, acknowledges, window) = (100, 7, 0);
        Segment { source: 1, destination: 2, sequence, acknowledges, flags, window, length }
    }

    #[test]
    fn a_reset_answers_as_the_rfc_says() {
        let to_syn = segment(SYN, 0).reset().expect("an answer");
        assert_eq!((to_syn.flags, to_syn.acknowledges, to_syn.sequence), (RST | ACK, 101, 0));
        let to_data = segment(ACK, 10).reset().expect("an answer");
        assert_eq!((to_data.flags, to_data.sequence), (RST, 7));
        assert_eq!(segment(RST, 0).reset(), None);
    }
}
