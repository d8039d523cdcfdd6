//! UDP-Lite (RFC 3828, udplite(7)): UDP whose checksum may cover the beginning of a datagram only.

use umvu_abi::Errno;

use super::{
    super::{
        inner::Inner,
        input::Cast,
        opttable::{SOL_UDPLITE, UDPLITE_RECV_CSCOV, UDPLITE_SEND_CSCOV},
        packet::{HEADROOM, IpHeader, partial_sum},
        sockopt::Class,
        tcp::input::Arrival,
    },
    Dgram, DgramId,
};

const HEADER: usize = 8;

impl Inner {
    /// Writes into a packet how much of its payload is covered, and the checksum over that.
    pub(crate) fn udplite_cover(&self, id: DgramId, bytes: &mut [u8]) -> Result<(), Errno> {
        let sock = self.dgrams.socks.get(id).ok_or(Errno::EBADF)?;
        let wanted = sock.options.int(SOL_UDPLITE, UDPLITE_SEND_CSCOV);
        let header = IpHeader::parse(&bytes[HEADROOM..]).ok_or(Errno::EMSGSIZE)?;
        let payload = &mut bytes[HEADROOM + header.payload..];
        let covered = match usize::try_from(wanted) {
            Ok(covered) if covered > 0 => covered.min(payload.len()),
            _ => payload.len(),
        };
        let field = u16::try_from(covered).map_err(|_| Errno::EMSGSIZE)?;
        payload[4..6].copy_from_slice(&field.to_be_bytes());
        payload[6..8].fill(0);
        let sum = match !partial_sum(&header, payload, covered) {
            0 => 0xffff,
            sum => sum,
        };
        payload[6..8].copy_from_slice(&sum.to_be_bytes());
        Ok(())
    }

    /// Takes a datagram for this host.
    pub(crate) fn udplite_input(&mut self, arrival: &Arrival<'_>, cast: Cast) {
        let payload = arrival.payload();
        let Some(covered) = covered(payload) else { return };
        // Each datagram has a checksum.
        if payload[6..8] == [0, 0] || partial_sum(arrival.header, payload, covered) != 0xffff {
            return;
        }
        self.udp_arrived(Class::UdpLite, arrival, cast, &payload[HEADER..]);
    }
}

impl Dgram {
    /// Whether so much of a datagram is covered as UDPLITE_RECV_CSCOV asks for.
    pub(crate) fn takes_coverage(&self, arrival: &Arrival<'_>) -> bool {
        if self.class != Class::UdpLite {
            return true;
        }
        let payload = arrival.payload();
        let wanted = self.options.int(SOL_UDPLITE, UDPLITE_RECV_CSCOV);
        let (Some(covered), Ok(wanted)) = (covered(payload), usize::try_from(wanted)) else {
            return false;
        };
        covered == payload.len() || covered >= wanted
    }
}

/// How many bytes of a datagram its checksum covers; none when it is malformed.
fn covered(payload: &[u8]) -> Option<usize> {
    let head = payload.first_chunk::<HEADER>()?;
    match usize::from(u16::from_be_bytes([head[4], head[5]])) {
        0 => Some(payload.len()),
        covered if covered < HEADER || covered > payload.len() => None,
        covered => Some(covered),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_is_all_or_what_the_header_says_or_malformed() {
        let datagram = |field: u16| [&[0; 4][..], &field.to_be_bytes(), &[0; 6]].concat();
        assert_eq!(covered(&datagram(0)), Some(12));
        assert_eq!(covered(&datagram(8)), Some(8));
        assert_eq!(covered(&datagram(12)), Some(12));
        for malformed in [1, 7, 13, 0xffff] {
            assert_eq!(covered(&datagram(malformed)), None);
        }
        assert_eq!(covered(&[0; 7]), None);
    }
}
