//! The unit of everything here: one Ethernet frame and what its sender still owes it.
//!
//! [`Frame`] travels between plugs by move. A frame whose [`Offload`] is not empty is unfinished:
//! it may pass between ports of the same process, and [`Frame::complete`] (see `complete.rs`) must
//! run before it leaves the machine.

use std::num::NonZeroU16;

/// The shortest frame: an Ethernet header, without FCS.
pub const MIN_FRAME: usize = 14;
/// The longest frame on a wire (`VDE_ETHBUFSIZE`): 9216 bytes of payload, header and one VLAN tag.
pub const MAX_FRAME: usize = 9234;
/// The longest frame still to be cut into segments: the longest IP packet, header and two VLAN tags.
pub const MAX_OFFLOADED: usize = 65_535 + 14 + 8;

/// One Ethernet frame, without FCS, and what is still owed to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The frame from the destination address on.
    pub bytes: Vec<u8>,
    /// What the sender left to be done.
    pub offload: Offload,
}

/// Work that the sender of a [`Frame`] left to whoever puts it on a real wire.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offload {
    /// The TCP, UDP or ICMP checksum field has not been computed: the receiver must be on the
    /// same machine, or [`Frame::complete`] must run.
    pub checksum_pending: bool,
    /// A TCP frame larger than the MTU, to be cut into segments of this many payload bytes.
    pub segment_size: Option<NonZeroU16>,
}

impl Offload {
    /// Whether nothing is owed: the frame may go on a wire as it is.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, offload: Offload::default() }
    }
}

impl Frame {
    /// Whether the length is one that an Ethernet carries.
    #[must_use]
    pub fn has_valid_length(&self) -> bool {
        let longest = if self.offload.segment_size.is_some() { MAX_OFFLOADED } else { MAX_FRAME };
        (MIN_FRAME..=longest).contains(&self.bytes.len())
    }
}

/// Whether a datagram of this many bytes can be an Ethernet frame.
pub(crate) fn is_wire_length(length: usize) -> bool {
    (MIN_FRAME..=MAX_FRAME).contains(&length)
}

/// Whether so many bytes in a tunnel can be a frame, or one still to be cut.
pub(crate) fn is_tunnelled_length(length: usize) -> bool {
    (MIN_FRAME..=MAX_OFFLOADED).contains(&length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_limits_depend_on_the_offload() {
        assert!(!Frame::from(vec![0; 13]).has_valid_length());
        assert!(Frame::from(vec![0; 14]).has_valid_length());
        assert!(Frame::from(vec![0; 9234]).has_valid_length());
        assert!(!Frame::from(vec![0; 9235]).has_valid_length());
        let mut large = Frame::from(vec![0; MAX_OFFLOADED]);
        assert!(!large.has_valid_length());
        large.offload.segment_size = NonZeroU16::new(1460);
        assert!(large.has_valid_length());
        large.bytes.push(0);
        assert!(!large.has_valid_length());
    }
}
