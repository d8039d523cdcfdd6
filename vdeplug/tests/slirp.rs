//! The router of `slirp://`, met by hand-made frames.

mod common;

use std::net::TcpListener;

use common::{
    STATION, arp_answer, arp_question, exchange_pings, in_private_network, open, send, send_until,
};

const OWN: [u8; 4] = [10, 0, 2, 15];
const ROUTER: [u8; 4] = [10, 0, 2, 2];
const SYN_ACK: u8 = 0x12;
const RST_ACK: u8 = 0x14;

/// Sends a SYN to a port of the router until it is answered with these flags.
fn knock(vnl: &str, port: u16, answer: u8) {
    let plug = open(vnl);
    let question = arp_question(OWN, ROUTER);
    let router = send_until(&plug, &plug, &question, |bytes| arp_answer(bytes, ROUTER));
    let mut syn = Vec::new();
    etherparse::PacketBuilder::ethernet2(STATION, router)
        .ipv4(OWN, ROUTER, 64)
        .tcp(4000, port, 100, 8192)
        .syn()
        .write(&mut syn, &[])
        .expect("a packet");
    send_until(&plug, &plug, &syn, |bytes| {
        let tcp = bytes.get(34..48)?;
        let ports = [port.to_be_bytes(), 4000_u16.to_be_bytes()].concat();
        (bytes[23] == 6 && tcp[..4] == ports && tcp[13] == answer).then_some(())
    });
    // What ends with a plug ends for those who were connected through it.
    send(&plug, &syn);
}

#[test]
fn the_router_answers_pings() {
    let plug = open("slirp://");
    assert!(plug.carrier() && plug.poll_fd().is_some() && plug.accepts_offload());
    exchange_pings(&plug, OWN, ROUTER);
}

#[test]
fn a_listener_on_the_loopback_is_reached_only_if_that_is_allowed() {
    if !in_private_network("a_listener_on_the_loopback_is_reached_only_if_that_is_allowed", "true")
    {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:7777").expect("a listener");
    knock("slirp:///allow_host_loopback", 7777, SYN_ACK);
    listener.accept().expect("slirp connects in our name");
    listener.set_nonblocking(true).expect("a socket");
    for vnl in ["slirp://", "slirp:///disable_host_loopback"] {
        knock(vnl, 7777, RST_ACK);
        assert!(listener.accept().is_err(), "{vnl}");
    }
    knock("slirp:///allow_host_loopback", 7778, RST_ACK);
}

#[test]
fn a_port_that_is_taken_is_said() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = taken.local_addr().expect("an address");
    let vnl = format!("slirp:///tcpfwd={address}:10.0.2.15:80");
    let error = vdeplug::open(&vnl, "test").expect_err("it is taken");
    assert_eq!(error.errno(), libc::EADDRINUSE);
    assert!(error.to_string().ends_with("Address already in use (choose another port)"), "{error}");
}

/// Whatever a guest sends, the router goes on; in a network of its own, since it sends it on.
#[test]
fn no_frame_hurts_the_router() {
    if !in_private_network("no_frame_hurts_the_router", "ip route add default dev lo") {
        return;
    }
    let plug = open("slirp:///allow_host_loopback/cmdfwd=79:cat/udpfwd=127.0.0.1:9:10.0.2.15:9");
    let question = arp_question(OWN, ROUTER);
    let router = send_until(&plug, &plug, &question, |bytes| arp_answer(bytes, ROUTER));
    let seeds = seeds(router);
    let mut state = 1_u64;
    let mut next = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % below.max(1)
    };
    let mut received = std::collections::VecDeque::new();
    for round in 0..30_000 {
        let mut bytes = seeds[next(seeds.len())].clone();
        for _ in 0..next(6) {
            let at = 12 + next(bytes.len() - 12);
            bytes[at] = u8::try_from(next(256)).expect("a byte");
        }
        if next(4) == 0 {
            bytes.truncate(next(bytes.len() + 1));
        }
        let mut frame = vdeplug::Frame::from(bytes);
        // Checksums would keep most of it out.
        frame.offload.checksum_pending = true;
        plug.send(&mut vec![frame]);
        if round % 16 == 0 {
            plug.receive(&mut received, 64).expect("a live plug");
            received.clear();
        }
    }
    while plug.receive(&mut received, 64).expect("a live plug") == 64 {
        received.clear();
    }
    exchange_pings(&plug, OWN, ROUTER);
}

/// Frames of every kind that the router reads.
fn seeds(router: [u8; 6]) -> Vec<Vec<u8>> {
    let build = || etherparse::PacketBuilder::ethernet2(STATION, router);
    let v6 = |last: u8| [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let mut seeds = vec![arp_question(OWN, ROUTER)];
    let mut add = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        write(&mut bytes);
        seeds.push(bytes);
    };
    for to in [ROUTER, [10, 0, 2, 3], [10, 0, 2, 4], [192, 0, 2, 1]] {
        let v4 = || build().ipv4(OWN, to, 64);
        for (port, payload) in [(53, &[7; 30][..]), (67, &[1; 300]), (79, &[0; 8])] {
            add(&|out| v4().udp(68, port).write(out, payload).expect("a packet"));
        }
        for port in [79, 53] {
            let tcp = || v4().tcp(4000, port, 1, 999);
            add(&|out| tcp().syn().write(out, &[]).expect("a packet"));
            add(&|out| tcp().ack(1).write(out, b"data").expect("a packet"));
            add(&|out| tcp().rst().write(out, &[]).expect("a packet"));
        }
        add(&|out| v4().icmpv4_echo_request(1, 2).write(out, &[9; 50]).expect("a packet"));
        let narrow =
            etherparse::Icmpv4Type::Unknown { type_u8: 3, code_u8: 4, bytes5to8: [0, 0, 5, 0] };
        add(&|out| v4().icmpv4(narrow.clone()).write(out, &[0x45; 48]).expect("a packet"));
    }
    for kind in [2, 128, 133, 134, 135, 136] {
        let message =
            etherparse::Icmpv6Type::Unknown { type_u8: kind, code_u8: 0, bytes5to8: [0; 4] };
        for length in [0, 16, 24, 60] {
            add(&|out| {
                let packet = build().ipv6(v6(9), v6(2), 255).icmpv6(message);
                packet.write(out, &v6(2).repeat(4)[..length]).expect("a packet");
            });
        }
    }
    seeds
}
