//! ICMP and ICMPv6 errors as bytes (RFC 792, RFC 4443).

use smoltcp::wire::checksum;

use super::packet::{ICMP, ICMPV6, IpHeader};

/// An error as both families know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No route to the destination.
    NetUnreachable,
    /// Its neighbour does not answer.
    HostUnreachable,
    /// Nobody takes the protocol.
    ProtocolUnreachable,
    /// Nobody listens on the port.
    PortUnreachable,
    /// The packet must not be cut up and is longer than this.
    TooBig(u32),
    /// It travelled too far.
    TimeExceeded,
}

impl Trouble {
    fn v4(self) -> (u8, u8, u32) {
        match self {
            Self::NetUnreachable => (3, 0, 0),
            Self::HostUnreachable => (3, 1, 0),
            Self::ProtocolUnreachable => (3, 2, 0),
            Self::PortUnreachable => (3, 3, 0),
            Self::TooBig(mtu) => (3, 4, mtu),
            Self::TimeExceeded => (11, 0, 0),
        }
    }

    fn v6(self) -> (u8, u8, u32) {
        match self {
            Self::NetUnreachable => (1, 0, 0),
            Self::HostUnreachable => (1, 3, 0),
            // The offset of the next-header field.
            Self::ProtocolUnreachable => (4, 1, 6),
            Self::PortUnreachable => (1, 4, 0),
            Self::TooBig(mtu) => (2, 0, mtu),
            Self::TimeExceeded => (3, 0, 0),
        }
    }

    /// Makes the message that tells of it, with its checksum still to be filled in: the family is that
    /// of the packet.
    #[must_use]
    pub fn message(self, header: &IpHeader, ip: &[u8]) -> Vec<u8> {
        let v6 = header.source.is_ipv6();
        let (kind, code, info) = if v6 { self.v6() } else { self.v4() };
        let most = if v6 { 1280 - 48 } else { 548 };
        let mut out = vec![kind, code, 0, 0];
        out.extend_from_slice(&info.to_be_bytes());
        out.extend_from_slice(&ip[..header.total.min(ip.len()).min(most)]);
        out
    }
}

/// Whether the sender of a packet may be told what is wrong with it without doing harm (RFC 1122,
/// 3.2.2; RFC 4443, 2.4).
#[must_use]
pub fn may_be_told_of(header: &IpHeader, ip: &[u8]) -> bool {
    !(header.destination.is_multicast()
        || header.source.is_multicast()
        || header.source.is_unspecified()
        || header.fragment.is_some_and(|fragment| fragment.offset != 0)
        || is_icmp_error(header, ip))
}

/// Reads the header of a quoted packet, of which only the beginning may be there.
pub fn quoted_header(quoted: &[u8]) -> Option<IpHeader> {
    let mut copy = quoted.to_vec();
    match copy.first()? >> 4 {
        4 if copy.len() >= 20 => {
            let length = u16::try_from(copy.len()).ok()?;
            copy[2..4].copy_from_slice(&length.to_be_bytes());
        }
        6 if copy.len() >= 40 => {
            let length = u16::try_from(copy.len() - 40).ok()?;
            copy[4..6].copy_from_slice(&length.to_be_bytes());
        }
        _ => return None,
    }
    IpHeader::parse(&copy)
}

fn is_icmp_error(header: &IpHeader, ip: &[u8]) -> bool {
    let Some(kind) = ip.get(header.payload) else { return false };
    match header.protocol {
        ICMP => !matches!(kind, 0 | 8 | 13..=18),
        ICMPV6 => *kind < 128,
        _ => false,
    }
}

/// Fills in the checksum of an ICMP (IPv4) message.
pub fn fill_icmp_checksum(body: &mut [u8]) {
    body[2..4].fill(0);
    let sum = !checksum::data(body);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
}
