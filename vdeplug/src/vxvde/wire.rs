//! The datagrams of a distributed switch: those of VXLAN with one addition.
//!
//! A header alone says that its sender leaves.

use crate::vxlan::wire::HEADER;

/// What a datagram says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    Frame(&'a [u8]),
    /// The sender leaves the network.
    Close,
}

/// Reads a datagram; None if it is not of the network with this header, byte for byte.
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
    use crate::vxlan::wire::header;

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
