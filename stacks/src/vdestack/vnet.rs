//! The header that a tap with `IFF_VNET_HDR` puts before each frame (`struct virtio_net_hdr`): what
//! the kernel's [`Offload`] is called.

use std::num::NonZeroU16;

use crate::smoltcp::{
    packet::{HEADROOM, IpHeader, TCP, UDP, payload_sum},
    wire::{Frame, Offload},
};

/// The length of the header.
pub(crate) const LENGTH: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const TCP_V4: u8 = 1;
const TCP_V6: u8 = 4;
/// `VIRTIO_NET_HDR_GSO_ECN`, a flag in the type.
const ECN: u8 = 0x80;

/// Reads the header before a frame from the kernel; what cannot be said by an [`Offload`] is done.
pub(crate) fn read(head: [u8; LENGTH], mut bytes: Vec<u8>) -> Option<Frame> {
    let word = |at: usize| u16::from_ne_bytes([head[at], head[at + 1]]);
    let mut offload = Offload::default();
    if matches!(head[1] & !ECN, TCP_V4 | TCP_V6) {
        offload.segment_size = NonZeroU16::new(word(4));
    }
    if head[0] & NEEDS_CHECKSUM != 0 {
        let (start, place) = (usize::from(word(6)), usize::from(word(6)) + usize::from(word(8)));
        let plain = ip(&bytes).is_some_and(|header| HEADROOM + header.payload == start);
        if plain {
            offload.checksum_pending = true;
        } else {
            // A packet in a packet: the sum of the pseudo header is in the field already.
            let sum = !smoltcp::wire::checksum::data(bytes.get(start..)?);
            bytes.get_mut(place..place + 2)?.copy_from_slice(&sum.to_be_bytes());
        }
    }
    Some(Frame { bytes, offload })
}

/// Makes the header for a frame to the kernel, and fills in what it expects there. None when only
/// a completed frame will do.
pub(crate) fn write(frame: &mut Frame) -> Option<[u8; LENGTH]> {
    let mut head = [0; LENGTH];
    if frame.offload.is_none() {
        return Some(head);
    }
    let header = ip(&frame.bytes)?;
    let start = HEADROOM + header.payload;
    let place = if header.protocol == TCP { 16 } else { 6 };
    head[0] = NEEDS_CHECKSUM;
    head[6..8].copy_from_slice(&u16::try_from(start).ok()?.to_ne_bytes());
    head[8..10].copy_from_slice(&u16::try_from(place).ok()?.to_ne_bytes());
    if let Some(size) = frame.offload.segment_size {
        let offset = frame.bytes.get(start + 12)? >> 4;
        let header_length = u16::try_from(start + usize::from(offset) * 4).ok()?;
        head[1] = if header.source.is_ipv4() { TCP_V4 } else { TCP_V6 };
        head[2..4].copy_from_slice(&header_length.to_ne_bytes());
        head[4..6].copy_from_slice(&size.get().to_ne_bytes());
    }
    let pseudo = pseudo_sum(&header);
    frame.bytes.get_mut(start + place..start + place + 2)?.copy_from_slice(&pseudo.to_be_bytes());
    Some(head)
}

/// The header of a whole TCP or UDP packet in a frame.
fn ip(frame: &[u8]) -> Option<IpHeader> {
    let header = IpHeader::parse(frame.get(HEADROOM..)?)?;
    (header.fragment.is_none() && matches!(header.protocol, TCP | UDP)).then_some(header)
}

/// The sum of the pseudo header alone.
fn pseudo_sum(header: &IpHeader) -> u16 {
    // The sum over a pseudo header of length 0, and the length added as the sum adds it.
    let without = payload_sum(header.source, header.destination, header.protocol, &[]);
    let length = u16::try_from(header.total - header.payload).unwrap_or(u16::MAX);
    smoltcp::wire::checksum::combine(&[without, length])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smoltcp::packet::{Build, fill_payload_checksum};

    fn segment() -> (Vec<u8>, usize) {
        let build = Build {
            source: "10.0.0.1".parse().expect("literal"),
            destination: "10.0.0.2".parse().expect("literal"),
            protocol: TCP,
            ttl: 64,
            tos: 0,
            id: 1,
        };
        let (mut bytes, at) = build.packet(20 + 300);
        bytes[at..].fill(7);
        bytes[at + 12] = 5 << 4;
        (bytes, at)
    }

    #[test]
    fn the_header_survives_both_ways() {
        let (bytes, at) = segment();
        let offload = Offload { checksum_pending: true, segment_size: NonZeroU16::new(100) };
        let mut frame = Frame { bytes, offload };
        let head = write(&mut frame).expect("plain TCP");
        assert_eq!((head[0], head[1]), (1, TCP_V4));
        // The kernel adds up from there: the field holds the sum of the pseudo header.
        let summed = !smoltcp::wire::checksum::data(&frame.bytes[at..]);
        let (mut right, _) = segment();
        let header = IpHeader::parse(&right[HEADROOM..]).expect("well formed");
        fill_payload_checksum(&header, &mut right[at..]);
        assert_eq!(summed.to_be_bytes(), right[at + 16..at + 18]);
        assert_eq!(read(head, frame.bytes).expect("valid").offload, offload);
    }

    #[test]
    fn wild_headers_do_not_panic() {
        let (bytes, _) = segment();
        for byte in 0..=255 {
            let _ = read([byte; LENGTH], bytes.clone());
            let _ = read([byte; LENGTH], vec![byte; 20]);
        }
    }
}
