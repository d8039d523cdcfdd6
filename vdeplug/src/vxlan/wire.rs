//! The datagrams of VXLAN, RFC 7348 section 5: eight bytes of header and a frame.
//!
//! The header is flags with the I bit, reserved bytes, the network identifier, a reserved byte.
//! `vxvde/wire.rs` adds a message to it.

/// The length of the header.
pub(crate) const HEADER: usize = 8;
/// The largest network identifier.
pub(crate) const MAX_VNI: u32 = 0x00ff_ffff;
/// The network identifier is valid.
const FLAG_I: u8 = 0x08;

/// Writes the header of a network.
pub(crate) fn header(vni: u32) -> [u8; HEADER] {
    let [_, high, middle, low] = (vni & MAX_VNI).to_be_bytes();
    [FLAG_I, 0, 0, 0, high, middle, low, 0]
}

/// Returns the frame in a datagram; None if it is not of the network with this header.
///
/// Reserved bits may be anything, as the RFC demands.
pub(crate) fn decode<'a>(datagram: &'a [u8], header: &[u8; HEADER]) -> Option<&'a [u8]> {
    let (theirs, frame) = datagram.split_first_chunk::<HEADER>()?;
    (theirs[0] & FLAG_I != 0 && theirs[4..7] == header[4..7]).then_some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_the_rfc() {
        assert_eq!(header(1), [8, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(header(0x00ab_cdef), [8, 0, 0, 0, 0xab, 0xcd, 0xef, 0]);
    }

    #[test]
    fn only_the_own_network_is_heard_whatever_is_reserved() {
        let own = header(5);
        assert_eq!(decode(&own[..7], &own), None, "a truncated header");
        assert_eq!(decode(&own, &own), Some(&[][..]));
        assert_eq!(decode(&[0xf8, 1, 2, 3, 0, 0, 5, 4, 9], &own), Some(&[9][..]));
        assert_eq!(decode(&[0xf7, 0, 0, 0, 0, 0, 5, 0, 9], &own), None, "no I bit");
        assert_eq!(decode(&[8, 0, 0, 0, 0, 0, 6, 0, 9], &own), None, "another network");
    }
}
