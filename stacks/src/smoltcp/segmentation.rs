//! Long TCP segments cut into ordinary ones, for links that cannot take them.

use super::{
    link::Outgoing,
    packet::{HEADROOM, IpHeader, TCP, fill_header_checksum},
    pool,
};

/// Cuts a packet into segments of its `segment` size; their checksums are still to be filled in.
pub(crate) fn segments(packet: Outgoing) -> Vec<Outgoing> {
    let Some(cut) = packet.segment.map(|size| usize::from(size.get())) else { return vec![packet] };
    let ip = &packet.bytes[HEADROOM..];
    let Some(header) = IpHeader::parse(ip) else { return Vec::new() };
    let Some(offset) = ip.get(header.payload + 12).map(|byte| usize::from(byte >> 4) * 4) else {
        return Vec::new();
    };
    let start = header.payload + offset;
    if header.protocol != TCP || offset < 20 || start > header.total {
        return vec![packet];
    }
    let (head, data) = (&ip[..start], &ip[start..header.total]);
    let count = data.len().div_ceil(cut);
    let mut pieces = Vec::with_capacity(count);
    for (index, part) in data.chunks(cut).enumerate() {
        let mut bytes = pool::take(HEADROOM + start + part.len());
        bytes[HEADROOM..HEADROOM + start].copy_from_slice(head);
        bytes[HEADROOM + start..].copy_from_slice(part);
        let ip = &mut bytes[HEADROOM..];
        finish_header(ip, index);
        let tcp = &mut ip[header.payload..];
        let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]])
            .wrapping_add(u32::try_from(index * cut).unwrap_or(0));
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        if index + 1 < count {
            // FIN and PSH belong to the last one.
            tcp[13] &= !9;
        }
        pieces.push(Outgoing { bytes, segment: None, unsummed: true });
    }
    pool::give(packet.bytes);
    pieces
}

fn finish_header(ip: &mut [u8], index: usize) {
    if ip[0] >> 4 == 4 {
        let total = u16::try_from(ip.len()).unwrap_or(u16::MAX);
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        let id = u16::from_be_bytes([ip[4], ip[5]]).wrapping_add(u16::try_from(index).unwrap_or(0));
        ip[4..6].copy_from_slice(&id.to_be_bytes());
        fill_header_checksum(ip);
    } else {
        let length = u16::try_from(ip.len() - 40).unwrap_or(u16::MAX);
        ip[4..6].copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smoltcp::packet::Build;

    #[test]
    fn a_long_segment_becomes_ordinary_ones() {
        let build = Build {
            source: "10.0.0.1".parse().expect("literal"),
            destination: "10.0.0.2".parse().expect("literal"),
            protocol: TCP,
            ttl: 64,
            tos: 0,
            id: 1,
        };
        let (mut bytes, at) = build.packet(20 + 2500);
        bytes[at..].fill(0);
        bytes[at + 4..at + 8].copy_from_slice(&1000u32.to_be_bytes());
        bytes[at + 12] = 5 << 4;
        bytes[at + 13] = 0x19;
        let packet = Outgoing { bytes, segment: std::num::NonZeroU16::new(1000), unsummed: true };
        let pieces = segments(packet);
        let told: Vec<(usize, u8, u8)> = pieces
            .iter()
            .map(|piece| (piece.bytes.len() - at - 20, piece.bytes[at + 13], piece.bytes[at + 6]))
            .collect();
        assert_eq!(told, [(1000, 0x10, 3), (1000, 0x10, 7), (500, 0x19, 11)]);
    }
}
