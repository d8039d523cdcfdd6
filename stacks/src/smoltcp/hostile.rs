//! Hostile frames on a stack: what fuzz targets and property tests share.
//!
//! Nothing here may panic or grow without bounds, whatever comes from the wire.

use umvu_abi::{
    SockAddr,
    net::{DatagramSocket, Socket, StreamSocket},
    sockaddr::LinkAddr,
};

use super::{
    inner::Inner,
    packet::fill_header_checksum,
    testing::{Lab, addr, connected},
    wire::Frame,
};
use crate::bpf::{Packet, Program};

/// A frame to be made: its EtherType (0: the body is the whole frame), protocol, [`mark`]s, the
/// fragment field of IPv4, and the bytes behind the IP header.
pub type Crafted = (u16, u8, u8, u16, Vec<u8>);

/// What a [`Crafted`] frame is like.
pub mod mark {
    /// The header's checksum is right.
    pub const SUMMED: u8 = 1;
    /// The frame comes from the same machine: its checksums need not be right.
    pub const PENDING: u8 = 2;
    /// It is for the second stack, which listens, and not for the first.
    pub const SECOND: u8 = 4;
    /// The IPv4 header has options: the first 20 bytes of the body.
    pub const OPTIONS: u8 = 8;
    /// Time passes before it comes.
    pub const LATER: u8 = 16;
    /// The lengths of the IP header are as the first bytes of the body say.
    pub const LYING: u8 = 32;
}

/// A TCP segment to be made: flags, shifts of sequence and acknowledgement from what is expected,
/// window, size, data offset.
pub type Segment = (u8, i32, i32, u16, u16, u8);

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// Sends frames to stacks with sockets of every sort.
pub fn frames(list: &[Crafted]) {
    let lab = Lab::new(true);
    lab.gateway();
    let (client, server) = connected(&lab, libc::AF_INET, "10.0.0.2:80");
    let datagrams: Vec<_> = [0, 1].into_iter().flat_map(|side| open(&lab, side)).collect();
    for crafted in list {
        let (frame, marks) = made(crafted);
        if marks & mark::LATER != 0 {
            lab.pass(1500);
        }
        let side = usize::from(marks & mark::SECOND != 0);
        lab.stacks[side].with(|inner| inner.frame_input(1, frame));
    }
    lab.run();
    for socket in &datagrams {
        let mut received = 0;
        while let Some(datagram) = socket.receive() {
            assert!(datagram.data.len() <= 65_535);
            received += 1;
        }
        assert!(received <= 20 * (list.len() + 10), "datagrams out of nothing");
    }
    lab.pass(100_000);
    for stack in &lab.stacks {
        stack.with(Inner::turn);
        // The connection, and what a backlog of five lets in.
        assert!(stack.with(|inner| inner.tcp.flows.len()) <= 16);
    }
    let _ = (client.state(), server.state());
}

/// Runs any bytes as a filter, on any packet.
pub fn filter(program: &[u8], packet: &[u8]) {
    if let Ok(program) = Program::parse(program) {
        let network = packet.len() / 2;
        let packet = Packet { bytes: packet, network, has_link: true, ..Packet::default() };
        program.run(&packet);
    }
}

/// Sends segments to the two ends of a connection.
pub fn segments(list: &[Segment]) {
    let lab = Lab::new(true);
    let (client, server) = connected(&lab, libc::AF_INET, "10.0.0.2:80");
    let port = client.local().ok().and_then(|local| local.ip()).expect("bound").port();
    let (next, expects) = lab.stacks[0].with(|inner| {
        let flow = inner.tcp.flows.iter().next().expect("one").1;
        (flow.receiver.sequence(), flow.sender.next_sequence())
    });
    for (flags, sequence, acknowledges, window, size, offset) in list {
        let mut body = vec![0, 80];
        body.extend_from_slice(&port.to_be_bytes());
        body.extend_from_slice(&next.wrapping_add_signed(*sequence).to_be_bytes());
        body.extend_from_slice(&expects.wrapping_add_signed(*acknowledges).to_be_bytes());
        body.extend_from_slice(&[offset << 4, *flags]);
        body.extend_from_slice(&window.to_be_bytes());
        body.extend_from_slice(&[0, 0, 0, 0]);
        body.resize(body.len() + usize::from(size % 9000), *flags);
        let (frame, _) = made(&(IPV4, 6, mark::SUMMED | mark::PENDING, 0, body));
        lab.stacks[0].with(|inner| inner.frame_input(1, frame));
        let _ = client.transmit(&mut |room| Ok(room.len().min(100)));
    }
    lab.pass(200_000);
    let _ = (client.state(), server.state());
}

/// Datagram sockets that take in whatever comes: UDP, ICMP, raw and packet sockets.
fn open(lab: &Lab, side: usize) -> Vec<Box<dyn DatagramSocket>> {
    let any = [addr("0.0.0.0:53"), addr("[::]:53")];
    let kinds = [
        (libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDP, Some(any[0])),
        (libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDP, Some(any[1])),
        (libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP, None),
        (libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP, None),
        (libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6, None),
        (libc::AF_PACKET, libc::SOCK_RAW, i32::from(3u16.to_be()), None),
    ];
    let opened = kinds.map(|(family, kind, protocol, address)| {
        let socket = lab.datagram(side, family, kind, protocol);
        for (level, name) in
            [(libc::SOL_IP, libc::IP_RECVERR), (libc::SOL_IPV6, libc::IPV6_RECVERR)]
        {
            let _ = socket.set_option(level, name, &1i32.to_ne_bytes());
        }
        if let Some(address) = address {
            // The IPv6 socket would take the port of both families.
            let _ = socket.set_option(libc::SOL_IPV6, libc::IPV6_V6ONLY, &1i32.to_ne_bytes());
            socket.bind(&address).expect("free");
        }
        if family == libc::AF_PACKET {
            let all = LinkAddr { protocol: 3, ..LinkAddr::default() };
            let _ = socket.bind(&SockAddr::Packet(all));
        }
        Box::new(socket) as Box<dyn DatagramSocket>
    });
    opened.into()
}

fn made((kind, protocol, marks, fragment, body): &Crafted) -> (Frame, u8) {
    let side = if marks & mark::SECOND == 0 { 1 } else { 2 };
    let mut bytes = vec![2, 0, 0, 0, 0, side, 2, 0, 0, 0, 0, 3 - side];
    match *kind {
        0 => bytes.clone_from(body),
        IPV4 => {
            bytes.extend_from_slice(&IPV4.to_be_bytes());
            let words = if marks & mark::OPTIONS == 0 { 5 } else { 10 };
            let total = 20 + body.len();
            let total = u16::try_from(total).unwrap_or(u16::MAX).to_be_bytes();
            let [fragment_high, fragment_low] = fragment.to_be_bytes();
            bytes.extend_from_slice(&[0x40 | words, 0, total[0], total[1], 0, 1]);
            bytes.extend_from_slice(&[fragment_high, fragment_low, 64, *protocol, 0, 0]);
            bytes.extend_from_slice(&[10, 0, 0, 3 - side, 10, 0, 0, side]);
            bytes.extend_from_slice(body);
            lie(&mut bytes, 16, *marks, body);
            let header = usize::from(words) * 4;
            if marks & mark::SUMMED != 0 && bytes.len() >= 14 + header {
                fill_header_checksum(&mut bytes[14..]);
            }
        }
        IPV6 => {
            bytes.extend_from_slice(&IPV6.to_be_bytes());
            let length = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
            bytes.extend_from_slice(&[0x60, 0, 0, 0, length[0], length[1], *protocol, 255]);
            for last in [3 - side, side] {
                bytes.extend_from_slice(&[0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
            }
            bytes.extend_from_slice(body);
            lie(&mut bytes, 18, *marks, body);
        }
        kind => {
            bytes.extend_from_slice(&kind.to_be_bytes());
            bytes.extend_from_slice(body);
        }
    }
    let mut frame = Frame::from(bytes);
    frame.offload.checksum_pending = marks & mark::PENDING != 0;
    (frame, *marks)
}

/// Overwrites the length field of an IP header.
fn lie(bytes: &mut [u8], at: usize, marks: u8, body: &[u8]) {
    if marks & mark::LYING != 0
        && let Some(length) = body.first_chunk::<2>()
    {
        bytes[at..at + 2].copy_from_slice(length);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// What stands behind an IP header: headers that begin well, and anything.
    fn body() -> impl Strategy<Value = (u8, Vec<u8>)> {
        let head = prop_oneof![
            // ICMP and ICMPv6: type, code; echo, errors, neighbours, routers.
            (0u8..20, any::<u8>()).prop_map(|(kind, code)| (1u8, vec![kind, code, 0, 0])),
            (0u8..5, any::<u8>()).prop_map(|(kind, code)| (58u8, vec![kind, code, 0, 0])),
            (128u8..145, Just(0u8)).prop_map(|(kind, code)| (58u8, vec![kind, code, 0, 0])),
            // UDP, with lengths that fit or not.
            any::<u16>().prop_map(|length| {
                let [high, low] = length.to_be_bytes();
                (17u8, vec![0, 53, 0, 53, high, low, 0, 0])
            }),
            Just((17u8, vec![0, 53, 0, 53, 0, 8, 0, 0])),
            // TCP to the listener.
            (any::<[u8; 11]>(), any::<u8>()).prop_map(|(numbers, flags)| {
                let mut head = vec![7, 7, 0, 80];
                head.extend_from_slice(&numbers[..8]);
                head.extend_from_slice(&[0x50, flags, 1, 0, 0, 0, 0, 0]);
                (6u8, head)
            }),
            // Extension headers, fragments among them.
            (any::<u8>(), 0u8..4, any::<[u8; 6]>())
                .prop_map(|(next, length, rest)| { (0u8, [&[next, length][..], &rest].concat()) }),
            (prop_oneof![Just(17u8), Just(58), Just(44)], any::<u16>()).prop_map(|(next, at)| {
                let [high, low] = at.to_be_bytes();
                (44u8, vec![next, 0, high, low, 0, 0, 0, 1])
            }),
            any::<u8>().prop_map(|protocol| (protocol, Vec::new())),
        ];
        let size = prop_oneof![6 => 0usize..64, 1 => 500usize..1600, 1 => 8900usize..9019];
        (head, size.prop_flat_map(|size| vec(any::<u8>(), size)))
            .prop_map(|((protocol, head), rest)| (protocol, [head, rest].concat()))
    }

    fn crafted() -> impl Strategy<Value = Crafted> {
        let kind = prop_oneof![
            3 => Just(IPV4), 3 => Just(IPV6), 1 => Just(0x0806u16), 1 => Just(0), 1 => any::<u16>()
        ];
        let fragment =
            prop_oneof![4 => Just(0u16), 1 => Just(0x2000), 1 => Just(1), 1 => any::<u16>()];
        let marks = prop_oneof![3 => 0u8..8, 1 => any::<u8>()];
        (kind, body(), marks, fragment).prop_map(|(kind, (protocol, body), marks, fragment)| {
            (kind, protocol, marks | mark::SUMMED, fragment, body)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

        #[test]
        fn any_frames_are_survived(list in vec(crafted(), 1..12)) {
            frames(&list);
        }

        #[test]
        fn any_segments_are_survived(
            list in vec(
                (any::<u8>(), -3000i32..3000, -3000i32..3000, any::<u16>(), 0u16..100, 5u8..16),
                1..40,
            )
        ) {
            segments(&list);
        }
    }
}
