//! Tests of [`Frame::complete`], judged by an independent parser.

use std::num::NonZeroU16;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::{Layout, fold};
use crate::frame::{Frame, Offload};

fn completed(frame: Frame) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    frame.complete(&mut |bytes| frames.push(bytes));
    frames
}

fn offloaded(bytes: Vec<u8>, segment_size: u16) -> Frame {
    let segment_size = NonZeroU16::new(segment_size);
    Frame { bytes, offload: Offload { checksum_pending: true, segment_size } }
}

/// Checks every length and checksum of a frame and returns its TCP header and payload.
fn verify_tcp(bytes: &[u8]) -> (etherparse::TcpHeader, u16, Vec<u8>) {
    let packet = SlicedPacket::from_ethernet(bytes).expect("a well-formed frame");
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!("no TCP") };
    let header = tcp.to_header();
    let payload = tcp.payload();
    let (id, expected) = match packet.net.expect("an IP packet") {
        NetSlice::Ipv4(ip) => {
            let ip = ip.header().to_header();
            assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
            (ip.identification, header.calc_checksum_ipv4(&ip, payload))
        }
        NetSlice::Ipv6(ip) => (0, header.calc_checksum_ipv6(&ip.header().to_header(), payload)),
        other => panic!("not IP: {other:?}"),
    };
    assert_eq!(expected.expect("a checksum"), header.checksum);
    (header, id, payload.to_vec())
}

fn tcp_frame(v6: bool, vlan: bool, payload: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = |version: bool| -> etherparse::IpHeaders {
        if version {
            let mut ip = etherparse::Ipv6Header { hop_limit: 64, ..Default::default() };
            ip.source = [0xfd; 16];
            ip.destination = [0xfe; 16];
            etherparse::IpHeaders::Ipv6(ip, Default::default())
        } else {
            let mut ip = etherparse::Ipv4Header::new(
                0,
                64,
                etherparse::IpNumber::TCP,
                [10, 0, 0, 1],
                [10, 0, 0, 2],
            )
            .expect("a header");
            ip.identification = 0xfffe;
            etherparse::IpHeaders::Ipv4(ip, Default::default())
        }
    };
    let step = if vlan {
        ethernet.single_vlan(etherparse::VlanId::try_new(5).expect("an id")).ip(ip(v6))
    } else {
        ethernet.ip(ip(v6))
    };
    let tcp = step.tcp(1, 2, 0xffff_fff0, 9).ack(7).psh().fin().cwr().options_raw(&[1, 1, 1, 1]);
    let mut bytes = Vec::new();
    tcp.expect("options").write(&mut bytes, payload).expect("a packet");
    // What an offloading sender leaves in the field must not matter.
    let checksum = bytes.len() - payload.len() - 24 + 16;
    bytes[checksum..checksum + 2].copy_from_slice(&[0xab, 0xcd]);
    bytes
}

#[test]
fn finished_frames_pass_unchanged() {
    assert_eq!(completed(Frame::from(vec![7; 60])), vec![vec![7; 60]]);
}

#[test]
fn large_frames_become_correct_segments() {
    for (v6, vlan) in [(false, false), (true, false), (false, true), (true, true)] {
        let payload: Vec<u8> = (0..4001u32).map(|i| i.to_le_bytes()[0]).collect();
        let parts = completed(offloaded(tcp_frame(v6, vlan, &payload), 1000));
        assert_eq!(parts.len(), 5);
        let mut joined = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let (tcp, id, data) = verify_tcp(part);
            let done = u32::try_from(joined.len()).expect("a small frame");
            assert_eq!(tcp.sequence_number, 0xffff_fff0_u32.wrapping_add(done));
            assert_eq!((tcp.fin, tcp.psh), (index == 4, index == 4));
            assert_eq!(tcp.cwr, index == 0);
            assert!(tcp.ack);
            if !v6 {
                let index = u16::try_from(index).expect("a small index");
                assert_eq!(id, 0xfffe_u16.wrapping_add(index));
            }
            joined.extend(data);
        }
        assert_eq!(joined, payload);
    }
}

#[test]
fn small_tcp_frames_get_only_a_checksum() {
    let parts = completed(offloaded(tcp_frame(false, false, b"small"), 1000));
    assert_eq!(parts.len(), 1);
    let (tcp, _, data) = verify_tcp(&parts[0]);
    assert_eq!((tcp.fin, tcp.psh, tcp.cwr), (true, true, true));
    assert_eq!(data, b"small");
}

#[test]
fn padding_after_the_packet_stays_out_of_the_checksum() {
    let mut bytes = tcp_frame(false, false, b"");
    bytes.extend_from_slice(b"padding");
    let parts = completed(offloaded(bytes, 1000));
    verify_tcp(&parts[0]);
    assert!(parts[0].ends_with(b"padding"));
}

#[test]
fn udp_and_icmp_checksums_are_filled() {
    let ethernet = || PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let mut udp4 = Vec::new();
    ethernet().ipv4([1, 2, 3, 4], [5, 6, 7, 8], 9).udp(1, 2).write(&mut udp4, b"odd").unwrap();
    let mut udp6 = Vec::new();
    ethernet().ipv6([1; 16], [2; 16], 9).udp(1, 2).write(&mut udp6, b"even").unwrap();
    let mut ping4 = Vec::new();
    let ip4 = ethernet().ipv4([1, 2, 3, 4], [5, 6, 7, 8], 9);
    ip4.icmpv4_echo_request(1, 2).write(&mut ping4, b"ping").unwrap();
    let mut ping6 = Vec::new();
    let ip6 = ethernet().ipv6([1; 16], [2; 16], 9);
    ip6.icmpv6_echo_request(1, 2).write(&mut ping6, b"ping").unwrap();
    for (right, field) in [(udp4, 40), (udp6, 60), (ping4, 36), (ping6, 56)] {
        let mut pending = right.clone();
        pending[field..field + 2].fill(0x55);
        let mut frame = Frame::from(pending);
        frame.offload.checksum_pending = true;
        assert_eq!(completed(frame), vec![right]);
    }
}

#[test]
fn a_zero_udp_checksum_is_sent_as_ones() {
    let mut bytes = Vec::new();
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    ethernet.ipv4([0, 0, 0, 0], [0, 0, 0, 0], 9).udp(0, 0).write(&mut bytes, &[0, 0]).unwrap();
    // Pseudo-header and header sum to 17 + 10 + 10: complete it to 0xffff.
    bytes[42..44].copy_from_slice(&(0xffff_u16 - 37).to_be_bytes());
    bytes[40..42].fill(0);
    let mut frame = Frame::from(bytes);
    frame.offload.checksum_pending = true;
    assert_eq!(completed(frame)[0][40..42], [0xff, 0xff]);
}

#[test]
fn what_a_kernel_left_to_do_in_a_tunnel_is_seen() {
    for v6 in [false, true] {
        let whole = tcp_frame(v6, false, &[7; 4000]);
        let [finished] =
            completed(offloaded_checksum(whole.clone())).try_into().expect("one frame");
        assert_eq!(Frame::from_tunnel(finished.clone()), Some(Frame::from(finished.clone())));
        // As the kernel leaves it: the sum of the pseudo-header, not yet complemented.
        let mut partial = finished.clone();
        let layout = Layout::of(&partial).expect("TCP");
        let field = layout.checksum_offset().expect("TCP");
        let [high, low] = fold(layout.pseudo_header(&partial));
        partial[field..field + 2].copy_from_slice(&[!high, !low]);
        let frame = Frame::from_tunnel(partial).expect("a frame");
        assert!(frame.offload.checksum_pending);
        let parts = completed(frame);
        assert_eq!(parts.len(), 3);
        let payload: Vec<u8> = parts.iter().flat_map(|part| verify_tcp(part).2).collect();
        assert_eq!(payload, [7; 4000]);
    }
    assert_eq!(Frame::from_tunnel(vec![0; 10_000]), None, "too long for a finished frame");
}

fn offloaded_checksum(bytes: Vec<u8>) -> Frame {
    Frame { bytes, offload: Offload { checksum_pending: true, segment_size: None } }
}

#[test]
fn fragments_pass_unchanged() {
    let mut bytes = tcp_frame(false, false, b"fragment");
    bytes[20] = 0x20;
    assert_eq!(completed(offloaded(bytes.clone(), 2)), vec![bytes]);
}

proptest! {
    #[test]
    fn no_input_panics_and_no_byte_is_invented(
        bytes in proptest::collection::vec(any::<u8>(), 0..300), size in any::<u16>()
    ) {
        let length = bytes.len();
        for part in completed(offloaded(bytes, size)) {
            prop_assert!(part.len() <= length);
        }
    }

    #[test]
    fn damaged_packets_do_not_panic(
        v6 in any::<bool>(), vlan in any::<bool>(), size in any::<u16>(),
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        damage in proptest::collection::vec((0usize..120, any::<u8>()), 0..6),
        cut in 0usize..400,
    ) {
        let mut bytes = tcp_frame(v6, vlan, &payload);
        for (at, value) in damage {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(cut.max(14));
        completed(offloaded(bytes, size));
    }

    #[test]
    fn segments_carry_the_payload_exactly(
        v6 in any::<bool>(), vlan in any::<bool>(), size in 1u16..2000,
        payload in proptest::collection::vec(any::<u8>(), 0..5000),
    ) {
        let mut joined = Vec::new();
        for part in completed(offloaded(tcp_frame(v6, vlan, &payload), size)) {
            let (_, _, data) = verify_tcp(&part);
            prop_assert!(data.len() <= usize::from(size));
            joined.extend(data);
        }
        prop_assert_eq!(joined, payload);
    }
}
