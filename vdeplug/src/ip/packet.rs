//! IP headers as values, and packets made from them (RFC 791, RFC 8200).
//!
//! Every packet of a stack lies in a buffer with room for an Ethernet header in front, so that it
//! becomes a frame without being copied.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::wire::{IpProtocol, checksum};

use super::pool;

/// Where the IP header starts in a buffer.
pub const HEADROOM: usize = 14;
/// Protocol number of ICMP, as the others of protocols(5).
pub const ICMP: u8 = 1;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// Protocol number of UDP-Lite.
pub const UDPLITE: u8 = 136;

/// The place of a fragment in its packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// The identification shared by all fragments of the packet.
    pub id: u32,
    /// The offset of this one's payload, in bytes.
    pub offset: usize,
    /// Whether more follow.
    pub more: bool,
}

/// What the stack needs from an IP header, of either version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpHeader {
    /// Who sent the packet.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// The protocol of the payload, extension headers skipped.
    pub protocol: u8,
    /// Where the payload starts, counted from the IP header.
    pub payload: usize,
    /// The length of the packet.
    pub total: usize,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// Set when the packet is a fragment.
    pub fragment: Option<Fragment>,
    /// Whether the sender forbids fragmentation on the way.
    pub dont_fragment: bool,
}

impl IpHeader {
    /// Reads the header of the packet at the start of `ip`; None when it is malformed.
    pub fn parse(ip: &[u8]) -> Option<Self> {
        match ip.first()? >> 4 {
            4 => Self::parse_v4(ip),
            6 => Self::parse_v6(ip),
            _ => None,
        }
    }

    fn parse_v4(ip: &[u8]) -> Option<Self> {
        let head: &[u8; 20] = ip.first_chunk()?;
        let header = usize::from(head[0] & 15) * 4;
        let total = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if header < 20 || total < header || total > ip.len() {
            return None;
        }
        let flags = u16::from_be_bytes([head[6], head[7]]);
        let fragment = (flags & 0x3fff != 0).then(|| Fragment {
            id: u32::from(u16::from_be_bytes([head[4], head[5]])),
            offset: usize::from(flags & 0x1fff) * 8,
            more: flags & 0x2000 != 0,
        });
        Some(Self {
            source: Ipv4Addr::new(head[12], head[13], head[14], head[15]).into(),
            destination: Ipv4Addr::new(head[16], head[17], head[18], head[19]).into(),
            protocol: head[9],
            payload: header,
            total,
            ttl: head[8],
            tos: head[1],
            fragment,
            dont_fragment: flags & 0x4000 != 0,
        })
    }

    fn parse_v6(ip: &[u8]) -> Option<Self> {
        let head: &[u8; 40] = ip.first_chunk()?;
        let total = 40 + usize::from(u16::from_be_bytes([head[4], head[5]]));
        if total > ip.len() {
            return None;
        }
        let source: [u8; 16] = head[8..24].try_into().ok()?;
        let destination: [u8; 16] = head[24..40].try_into().ok()?;
        let mut header = Self {
            source: Ipv6Addr::from(source).into(),
            destination: Ipv6Addr::from(destination).into(),
            protocol: head[6],
            payload: 40,
            total,
            ttl: head[7],
            tos: (head[0] << 4) | (head[1] >> 4),
            fragment: None,
            dont_fragment: true,
        };
        header.skip_extensions(&ip[..total])?;
        Some(header)
    }

    /// Moves `payload` and `protocol` behind the extension headers (RFC 8200, section 4).
    fn skip_extensions(&mut self, ip: &[u8]) -> Option<()> {
        const HOP_BY_HOP: u8 = 0;
        const ROUTING: u8 = 43;
        const FRAGMENT: u8 = 44;
        const DESTINATION: u8 = 60;
        loop {
            let extension: &[u8; 8] = match self.protocol {
                HOP_BY_HOP | ROUTING | DESTINATION | FRAGMENT => {
                    ip.get(self.payload..)?.first_chunk()?
                }
                _ => return Some(()),
            };
            if self.protocol == FRAGMENT {
                let place = u16::from_be_bytes([extension[2], extension[3]]);
                self.protocol = extension[0];
                self.payload += 8;
                self.fragment = Some(Fragment {
                    id: u32::from_be_bytes([
                        extension[4],
                        extension[5],
                        extension[6],
                        extension[7],
                    ]),
                    offset: usize::from(place & 0xfff8),
                    more: place & 1 != 0,
                });
                return Some(());
            }
            self.protocol = extension[0];
            self.payload += 8 + usize::from(extension[1]) * 8;
            if self.payload > ip.len() {
                return None;
            }
        }
    }
}

/// What to write into the header of a packet made here.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    /// The source address, of the same family as `destination`.
    pub source: IpAddr,
    /// Where the packet goes.
    pub destination: IpAddr,
    /// The protocol of the payload.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// The identification (IPv4).
    pub id: u16,
}

impl Build {
    /// Makes a packet with room for `length` bytes of payload; returns the buffer and where the
    /// payload starts. The IPv4 header checksum is filled in; the don't-fragment bit is not set.
    pub fn packet(&self, length: usize) -> (Vec<u8>, usize) {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.packet_v4(source, destination, length)
            }
            (source, destination) => self.packet_v6(as_v6(source), as_v6(destination), length),
        }
    }

    fn packet_v4(&self, from: Ipv4Addr, to: Ipv4Addr, length: usize) -> (Vec<u8>, usize) {
        let mut buffer = pool::take(HEADROOM + 20 + length);
        let head = &mut buffer[HEADROOM..HEADROOM + 20];
        head.fill(0);
        head[0] = 0x45;
        head[1] = self.tos;
        head[2..4].copy_from_slice(&length16(20 + length));
        head[4..6].copy_from_slice(&self.id.to_be_bytes());
        head[8] = self.ttl;
        head[9] = self.protocol;
        head[12..16].copy_from_slice(&from.octets());
        head[16..20].copy_from_slice(&to.octets());
        fill_header_checksum(&mut buffer[HEADROOM..]);
        (buffer, HEADROOM + 20)
    }

    fn packet_v6(&self, from: Ipv6Addr, to: Ipv6Addr, length: usize) -> (Vec<u8>, usize) {
        let mut buffer = pool::take(HEADROOM + 40 + length);
        let head = &mut buffer[HEADROOM..HEADROOM + 40];
        head[0] = 0x60 | (self.tos >> 4);
        head[1] = self.tos << 4;
        head[2..4].fill(0);
        head[4..6].copy_from_slice(&length16(length));
        head[6] = self.protocol;
        head[7] = self.ttl;
        head[8..24].copy_from_slice(&from.octets());
        head[24..40].copy_from_slice(&to.octets());
        (buffer, HEADROOM + 40)
    }
}

fn length16(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// Computes the checksum of an IPv4 header anew. `ip` starts with a valid header.
pub fn fill_header_checksum(ip: &mut [u8]) {
    let header = usize::from(ip[0] & 15) * 4;
    ip[10..12].fill(0);
    let sum = !checksum::data(&ip[..header]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Forbids routers to cut an IPv4 packet: they shall say how much they take (RFC 1191). `ip` starts with
/// a valid header.
pub fn keep_whole(ip: &mut [u8]) {
    ip[6] |= 0x40;
    fill_header_checksum(ip);
}

/// Whether the checksum of an IPv4 header is right. `ip` starts with a header that was parsed.
pub fn header_checksum_holds(ip: &[u8]) -> bool {
    let header = usize::from(ip[0] & 15) * 4;
    checksum::data(&ip[..header]) == 0xffff
}

/// The sum over pseudo header and payload, not complemented: 0xffff over a right packet.
pub fn payload_sum(source: IpAddr, destination: IpAddr, protocol: u8, data: &[u8]) -> u16 {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let pseudo = checksum::pseudo_header(
        &source.into(),
        &destination.into(),
        IpProtocol::from(protocol),
        length,
    );
    checksum::combine(&[pseudo, checksum::data(data)])
}

/// The same where only the first `covered` bytes of `data` are summed (RFC 3828).
pub fn partial_sum(header: &IpHeader, data: &[u8], covered: usize) -> u16 {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let pseudo = checksum::pseudo_header(
        &header.source.into(),
        &header.destination.into(),
        IpProtocol::from(header.protocol),
        length,
    );
    checksum::combine(&[pseudo, checksum::data(&data[..covered])])
}

/// Where the checksum lies in the payload of a protocol that has one over the pseudo header.
pub fn checksum_place(protocol: u8) -> Option<usize> {
    match protocol {
        TCP => Some(16),
        UDP => Some(6),
        ICMPV6 => Some(2),
        _ => None,
    }
}

/// Fills in the checksum of a TCP, UDP or ICMPv6 payload.
pub fn fill_payload_checksum(header: &IpHeader, payload: &mut [u8]) {
    let Some(place) = checksum_place(header.protocol) else { return };
    if payload.len() < place + 2 {
        return;
    }
    payload[place..place + 2].fill(0);
    let sum = !payload_sum(header.source, header.destination, header.protocol, payload);
    let sum = if sum == 0 && header.protocol == UDP { 0xffff } else { sum };
    payload[place..place + 2].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(source: &str, destination: &str) -> Build {
        Build {
            source: source.parse().expect("literal"),
            destination: destination.parse().expect("literal"),
            protocol: UDP,
            ttl: 64,
            tos: 0x12,
            id: 7,
        }
    }

    #[test]
    fn a_built_header_parses_back() {
        for (from, to) in [("10.0.0.1", "10.0.0.2"), ("fc00::1", "fc00::2")] {
            let built = build(from, to);
            let (mut buffer, payload) = built.packet(12);
            buffer[payload..].fill(3);
            let header = IpHeader::parse(&buffer[HEADROOM..]).expect("well formed");
            assert_eq!((header.source, header.destination), (built.source, built.destination));
            assert_eq!((header.protocol, header.ttl, header.tos), (UDP, 64, 0x12));
            assert_eq!(header.total - header.payload, 12);
            fill_payload_checksum(&header, &mut buffer[payload..]);
            let sum = payload_sum(header.source, header.destination, UDP, &buffer[payload..]);
            assert_eq!(sum, 0xffff);
        }
    }

    #[test]
    fn the_header_checksum_is_checked() {
        let (mut buffer, _) = build("10.0.0.1", "10.0.0.2").packet(0);
        assert!(header_checksum_holds(&buffer[HEADROOM..]));
        buffer[HEADROOM + 8] -= 1;
        assert!(!header_checksum_holds(&buffer[HEADROOM..]));
    }

    #[test]
    fn short_packets_are_refused() {
        let (buffer, _) = build("fc00::1", "fc00::2").packet(8);
        for length in 0..48 {
            assert_eq!(IpHeader::parse(&buffer[HEADROOM..HEADROOM + length]), None);
        }
    }
}
