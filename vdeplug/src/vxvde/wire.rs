//! The datagrams of a distributed switch: VXLAN framing (RFC 7348) with one addition.
//!
//! Eight bytes of header (flags with the I bit, reserved, the network identifier) and a frame. A
//! header alone says that its sender leaves.

/// The length of the header.
pub(crate) const HEADER: usize = 8;
/// The largest network identifier.
pub(crate) const MAX_VNI: u32 = 0x00ff_ffff;

/// What a datagram says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    Frame(&'a [u8]),
    /// The sender leaves the network.
    Close,
}

/// Writes the header of a network.
pub(crate) fn header(vni: u32) -> [u8; HEADER] {
    let [_, high, middle, low] = (vni & MAX_VNI).to_be_bytes();
    [0x08, 0, 0, 0, high, middle, low, 0]
}

/// Reads a datagram; None if it is not of the network with this header.
///
/// A frame has more than its Ethernet header: the protocol knows no empty frames.
pub(crate) fn decode<'a>(datagram: &'a [u8], header: &[u8; HEADER]) -> Option<Message<'a>> {
    match datagram.strip_prefix(header)? {
        [] => Some(Message::Close),
        frame if frame.len() > 14 => Some(Message::Frame(frame)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_the_reference() {
        assert_eq!(header(1), [8, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(header(0x00ab_cdef), [8, 0, 0, 0, 0xab, 0xcd, 0xef, 0]);
    }

    #[test]
    fn only_the_own_network_is_heard() {
        let own = header(5);
        let mut datagram = own.to_vec();
        assert_eq!(decode(&datagram, &own), Some(Message::Close));
        datagram.extend([7; 14]);
        assert_eq!(decode(&datagram, &own), None, "a frame without payload");
        datagram.push(7);
        assert_eq!(decode(&datagram, &own), Some(Message::Frame(&[7; 15])));
        assert_eq!(decode(&datagram, &header(6)), None);
        datagram[7] = 1;
        assert_eq!(decode(&datagram, &own), None, "reserved bits are compared too");
    }
}
