//! UDP, ping, raw and packet sockets between two stacks.

use umvu_abi::{
    Errno, SockAddr,
    net::{DatagramSocket, Socket},
    sockaddr::LinkAddr,
};

use super::{Lab, NONE, addr};

fn echo_request(kind: u8) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0xaa, 0xbb, 0, 1];
    message.extend_from_slice(b"hello");
    message
}

#[test]
fn udp_carries_datagrams_of_any_size_over_both_families() {
    let lab = Lab::new(false);
    for (family, own, target) in [
        (libc::AF_INET, "0.0.0.0:53", "10.0.0.2:53"),
        (libc::AF_INET6, "[::]:54", "[fc00::2]:54"),
        (libc::AF_INET6, "[::]:55", "[::ffff:10.0.0.2]:55"),
    ] {
        let server = lab.datagram(1, family, libc::SOCK_DGRAM, 0);
        server.bind(&addr(own)).expect("free");
        let client = lab.datagram(0, family, libc::SOCK_DGRAM, 0);
        for length in [0, 1, 1400, 1473, 9000, 65_507] {
            let data: Vec<u8> = (0..length).map(|i: u32| i.to_le_bytes()[0]).collect();
            assert_eq!(client.send(&data, Some(&addr(target)), &NONE), Ok(data.len()));
            lab.run();
            let got = server.receive().expect("arrived");
            assert!(got.data == data, "{length} bytes");
            assert_eq!(got.meta.ttl, 64);
            assert_eq!(got.meta.ifindex, 2);
            assert_eq!(server.send(b"re", Some(&got.meta.source), &NONE), Ok(2));
            lab.run();
            assert_eq!(client.receive().expect("answered").data, b"re");
        }
        assert_eq!(client.send(&vec![0; 65_536], Some(&addr(target)), &NONE), Err(Errno::EMSGSIZE));
    }
}

#[test]
fn a_connected_socket_learns_of_closed_ports_and_hears_its_peer_only() {
    let lab = Lab::new(true);
    let client = lab.datagram(0, libc::AF_INET, libc::SOCK_DGRAM, 0);
    assert_eq!(client.send(b"x", None, &NONE), Err(Errno::EDESTADDRREQ));
    client.connect(Some(&addr("10.0.0.2:9"))).expect("routed");
    client.send(b"x", None, &NONE).expect("sent");
    lab.run();
    assert_eq!(client.take_error(), Some(Errno::ECONNREFUSED));
    let stranger = lab.datagram(1, libc::AF_INET, libc::SOCK_DGRAM, 0);
    stranger.send(b"x", Some(&client.local().expect("bound")), &NONE).expect("sent");
    lab.run();
    assert_eq!(client.receive(), None);
    let peer = lab.datagram(1, libc::AF_INET, libc::SOCK_DGRAM, 0);
    peer.bind(&addr("10.0.0.2:9")).expect("free");
    peer.send(b"y", Some(&client.local().expect("bound")), &NONE).expect("sent");
    lab.run();
    assert_eq!(client.receive().expect("arrived").data, b"y");
}

#[test]
fn broadcast_needs_permission_and_reaches_everybody() {
    let lab = Lab::new(true);
    // As on Linux, both need a route.
    lab.gateway();
    let client = lab.datagram(0, libc::AF_INET, libc::SOCK_DGRAM, 0);
    let everybody = addr("10.0.0.255:67");
    assert_eq!(client.send(b"x", Some(&everybody), &NONE), Err(Errno::EACCES));
    let one = 1i32.to_ne_bytes();
    client.set_option(libc::SOL_SOCKET, libc::SO_BROADCAST, &one).expect("known");
    let servers = [0, 1].map(|side| {
        let server = lab.datagram(side, libc::AF_INET, libc::SOCK_DGRAM, 0);
        server.bind(&addr("0.0.0.0:67")).expect("free");
        server
    });
    for target in ["10.0.0.255:67", "255.255.255.255:67"] {
        client.send(b"x", Some(&addr(target)), &NONE).expect("allowed");
        lab.run();
        for server in &servers {
            assert_eq!(server.receive().expect("arrived").data, b"x", "{target}");
        }
    }
}

#[test]
fn a_group_is_heard_by_those_who_joined() {
    let lab = Lab::new(true);
    // As on Linux, both need a route.
    lab.gateway();
    let server = lab.datagram(1, libc::AF_INET, libc::SOCK_DGRAM, 0);
    server.bind(&addr("0.0.0.0:5353")).expect("free");
    let client = lab.datagram(0, libc::AF_INET, libc::SOCK_DGRAM, 0);
    let group = addr("224.0.0.251:5353");
    client.send(b"early", Some(&group), &NONE).expect("sent");
    lab.run();
    assert_eq!(server.receive(), None);
    let membership = [224, 0, 0, 251, 10, 0, 0, 2];
    server.set_option(libc::SOL_IP, libc::IP_ADD_MEMBERSHIP, &membership).expect("a link");
    client.send(b"now", Some(&group), &NONE).expect("sent");
    lab.run();
    let got = server.receive().expect("arrived");
    assert_eq!((got.data.as_slice(), got.meta.ttl), (b"now".as_slice(), 1));
}

#[test]
fn ping_sockets_get_the_answers_to_their_requests() {
    let lab = Lab::new(true);
    for (family, protocol, target, kind) in [
        (libc::AF_INET, libc::IPPROTO_ICMP, "10.0.0.2:0", 8),
        (libc::AF_INET6, libc::IPPROTO_ICMPV6, "[fc00::2]:0", 128),
    ] {
        let ping = lab.datagram(0, family, libc::SOCK_DGRAM, protocol);
        assert_eq!(ping.send(&[0; 16], Some(&addr(target)), &NONE), Err(Errno::EINVAL));
        ping.send(&echo_request(kind), Some(&addr(target)), &NONE).expect("sent");
        lab.run();
        let got = ping.receive().expect("answered");
        let ident = ping.local().expect("bound").ip().expect("internet").port();
        assert_eq!(got.data[4..6], ident.to_be_bytes());
        assert_eq!(got.data[6..], echo_request(kind)[6..]);
    }
}

#[test]
fn raw_sockets_see_packets_and_unknown_protocols_are_refused() {
    let lab = Lab::new(true);
    let raw = lab.datagram(0, libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP);
    let mut request = echo_request(8);
    let sum = !smoltcp::wire::checksum::data(&request);
    request[2..4].copy_from_slice(&sum.to_be_bytes());
    raw.send(&request, Some(&addr("10.0.0.2:0")), &NONE).expect("sent");
    lab.run();
    let got = raw.receive().expect("answered");
    assert_eq!((got.data[0], got.data[20]), (0x45, 0));
    let odd = lab.datagram(0, libc::AF_INET, libc::SOCK_RAW, 200);
    odd.send(b"data", Some(&addr("10.0.0.2:0")), &NONE).expect("sent");
    lab.run();
    let refusal = raw.receive().expect("an ICMP error");
    assert_eq!(refusal.data[20..22], [3, 2]);
}

#[test]
fn packet_sockets_see_and_send_frames() {
    let lab = Lab::new(true);
    let all = i32::from(3u16.to_be());
    let tap = lab.datagram(1, libc::AF_PACKET, libc::SOCK_RAW, all);
    let client = lab.datagram(0, libc::AF_INET, libc::SOCK_DGRAM, 0);
    client.send(b"x", Some(&addr("10.0.0.2:7")), &NONE).expect("sent");
    lab.run();
    let frames: Vec<_> = std::iter::from_fn(|| tap.receive()).collect();
    assert_eq!(frames[0].data[12..14], [8, 6]);
    assert!(frames.iter().any(|frame| frame.data[12..14] == [8, 0]));
    let SockAddr::Packet(name) = frames[0].meta.source else { panic!("a packet name") };
    assert_eq!((name.pkttype, name.ifindex, name.hatype), (1, 2, 1));
    let send = lab.datagram(0, libc::AF_PACKET, libc::SOCK_DGRAM, 0);
    let to = LinkAddr {
        protocol: 0x88b5,
        ifindex: 2,
        halen: 6,
        addr: [2, 0, 0, 0, 0, 2, 0, 0],
        ..LinkAddr::default()
    };
    send.send(b"experiment", Some(&SockAddr::Packet(to)), &NONE).expect("sent");
    lab.run();
    let last = std::iter::from_fn(|| tap.receive()).last().expect("arrived");
    assert_eq!(last.data[12..], *b"\x88\xb5experiment");
}
