//! Any bytes on the wire: no panic, bounded memory.

use proptest::prelude::*;

use super::{super::inner::Inner, Frame, Lab, tcp::connected};

fn frame(kind: u16, protocol: u8, body: &[u8], fix: bool) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    bytes.extend_from_slice(&kind.to_be_bytes());
    let at = bytes.len();
    match kind {
        0x0800 => {
            bytes.extend_from_slice(&[0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0]);
            bytes.extend_from_slice(&[10, 0, 0, 2, 10, 0, 0, 1]);
            bytes.extend_from_slice(body);
            let total = u16::try_from(bytes.len() - at).expect("short");
            bytes[at + 2..at + 4].copy_from_slice(&total.to_be_bytes());
            if fix {
                super::super::packet::fill_header_checksum(&mut bytes[at..]);
            }
        }
        0x86dd => {
            let length = u16::try_from(body.len()).expect("short").to_be_bytes();
            bytes.extend_from_slice(&[0x60, 0, 0, 0, length[0], length[1], protocol, 255]);
            for last in [2, 1] {
                bytes.extend_from_slice(&[0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
            }
            bytes.extend_from_slice(body);
        }
        _ => bytes.extend_from_slice(body),
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_frame_makes_a_stack_panic(
        frames in prop::collection::vec(
            (
                prop_oneof![Just(0x0800u16), Just(0x86dd), Just(0x0806), any::<u16>()],
                prop_oneof![Just(1u8), Just(6), Just(17), Just(58), Just(44), Just(0), any::<u8>()],
                prop::collection::vec(any::<u8>(), 0..200),
                any::<bool>(),
                any::<bool>(),
            ),
            1..40,
        )
    ) {
        let lab = Lab::new(true);
        let (_client, _server) = connected(&lab, libc::AF_INET, "10.0.0.2:80");
        for (kind, protocol, body, fix, pending) in frames {
            let mut frame = Frame::from(frame(kind, protocol, &body, fix));
            frame.offload.checksum_pending = pending;
            lab.stacks[0].with(|inner| inner.frame_input(1, frame));
        }
        lab.pass(100_000);
        lab.stacks[0].with(Inner::turn);
        let flows = lab.stacks[0].with(|inner| inner.tcp.flows.len());
        prop_assert!(flows <= 1);
    }

    #[test]
    fn no_segment_makes_a_connection_panic(
        segments in prop::collection::vec(
            (any::<u8>(), -3000i64..3000, -3000i64..3000, any::<u16>(), 0usize..100, 5u8..16),
            1..60,
        )
    ) {
        let lab = Lab::new(true);
        let (client, _server) = connected(&lab, libc::AF_INET, "10.0.0.2:80");
        let port = umvu_abi::net::Socket::local(&client).expect("bound").ip().expect("v4").port();
        let (next, expects) = lab.stacks[0].with(|inner| {
            let flow = inner.tcp.flows.iter().next().expect("one").1;
            (flow.receive_next, flow.send_next)
        });
        for (flags, sequence, acknowledges, window, length, offset) in segments {
            let shift = |base: u32, by: i64| u32::try_from((i64::from(base) + by) & 0xffff_ffff).unwrap_or(0);
            let mut body = vec![0, 80];
            body.extend_from_slice(&port.to_be_bytes());
            body.extend_from_slice(&shift(next, sequence).to_be_bytes());
            body.extend_from_slice(&shift(expects, acknowledges).to_be_bytes());
            body.extend_from_slice(&[offset << 4, flags]);
            body.extend_from_slice(&window.to_be_bytes());
            body.extend_from_slice(&[0, 0, 0, 0]);
            body.resize(body.len() + length, flags);
            let mut frame = Frame::from(frame(0x0800, 6, &body, true));
            frame.offload.checksum_pending = true;
            lab.stacks[0].with(|inner| inner.frame_input(1, frame));
        }
        lab.pass(200_000);
        let _ = umvu_abi::net::StreamSocket::state(&client);
    }
}
