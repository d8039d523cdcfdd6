//! `vxvde://` in private networks, among ourselves and with Debian's `vde_plug`.

mod common;

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, UdpSocket},
};

use common::{VdePlug, frame, in_private_network, installed, open, receive, receive_until, send};

const ROUTES: &str = "ip route add 239.0.0.0/8 dev lo; ip -6 route add local ff05::/16 dev lo";

/// A listener to the group that is no member: it sees what is multicast.
fn eavesdrop() -> UdpSocket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None);
    let socket = socket.expect("a socket");
    socket.set_reuse_address(true).expect("an option");
    let group = Ipv4Addr::new(239, 0, 0, 1);
    socket.bind(&std::net::SocketAddrV4::new(group, 14_789).into()).expect("the port");
    socket.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED).expect("the group");
    socket.into()
}

fn datagram(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 2000];
    let length = socket.recv(&mut bytes).expect("a datagram");
    bytes.truncate(length);
    bytes
}

#[test]
fn members_learn_from_each_other() {
    if !in_private_network("members_learn_from_each_other", ROUTES) {
        return;
    }
    let others = eavesdrop();
    let [a, b, c] = ["vxvde://", "vxvde://239.0.0.1", "vxvde:///port=14789/vni=1"].map(open);
    send(&a, &frame(255, 1, b"hello"));
    assert_eq!(receive(&b), frame(255, 1, b"hello"));
    assert_eq!(receive(&c), frame(255, 1, b"hello"));
    let expected = [&[8, 0, 0, 0, 0, 0, 1, 0], frame(255, 1, b"hello").as_slice()].concat();
    assert_eq!(datagram(&others), expected);
    // A known station is answered in private: neither c nor the group hears it.
    send(&b, &frame(1, 2, b"private"));
    assert_eq!(receive(&a), frame(1, 2, b"private"));
    send(&b, &frame(255, 2, b"public"));
    assert!(datagram(&others).ends_with(&frame(255, 2, b"public")));
    assert!(receive_until(&c, &frame(255, 2, b"public")).is_empty());
    assert!(receive_until(&a, &frame(255, 2, b"public")).is_empty(), "not its own frames");
    // Who leaves is forgotten at once.
    drop(a);
    assert_eq!(datagram(&others), [8, 0, 0, 0, 0, 0, 1, 0]);
    let mut frames = VecDeque::new();
    common::wait_for(&b, "the end of a", || {
        b.receive(&mut frames, 9).expect("a live plug");
        send(&b, &frame(1, 2, b"anybody?"));
        c.receive(&mut frames, 9).expect("a live plug");
        (!frames.is_empty()).then_some(())
    });
}

#[test]
fn networks_of_other_numbers_and_junk_are_not_heard() {
    if !in_private_network("networks_of_other_numbers_and_junk_are_not_heard", ROUTES) {
        return;
    }
    let [one, two, again] = ["vxvde:///vni=1", "vxvde:///vni=2", "vxvde:///vni=1"].map(open);
    let stranger = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    for junk in [&b""[..], b"\x08\0\0\0\0\0\x01", &[0xff; 100], b"\x08\0\0\0\0\0\x01\0short"] {
        stranger.send_to(junk, "239.0.0.1:14789").expect("a route");
    }
    send(&two, &frame(255, 2, b"other"));
    send(&one, &frame(255, 1, b"own"));
    assert_eq!(receive(&again), frame(255, 1, b"own"));
}

#[test]
fn ipv6_groups_work_alike() {
    if !in_private_network("ipv6_groups_work_alike", ROUTES) {
        return;
    }
    let [a, b] = ["vxvde:///v6", "vxvde://ff05:56de::1"].map(open);
    send(&a, &frame(255, 1, b"hello"));
    assert_eq!(receive(&b), frame(255, 1, b"hello"));
    send(&b, &frame(1, 2, b"answer"));
    assert_eq!(receive(&a), frame(1, 2, b"answer"));
}

#[test]
fn the_interface_makes_up_for_a_missing_route() {
    if !in_private_network("the_interface_makes_up_for_a_missing_route", "true") {
        return;
    }
    let error = vdeplug::open("vxvde://", "test").expect_err("no route");
    let expected = "vxvde://: no multicast route (ip route add 239.0.0.0/8 dev lo, or run in a \
                    namespace of its own)";
    assert_eq!(error.to_string(), expected);
    let [a, b] = ["vxvde:///if=lo", "vxvde:///if=lo/bind=127.0.0.1"].map(open);
    send(&a, &frame(255, 1, b"hello"));
    assert_eq!(receive(&b), frame(255, 1, b"hello"));
    send(&b, &frame(1, 2, b"answer"));
    assert_eq!(receive(&a), frame(1, 2, b"answer"));
}

#[test]
fn debian_members_are_understood() {
    if !installed("vde_plug") || !in_private_network("debian_members_are_understood", ROUTES) {
        return;
    }
    for vnl in ["vxvde://", "vxvde:///v6/vni=77", "vxvde://239.5.5.5/port=5555/grp=300"] {
        let plug = open(vnl);
        let mut debian = VdePlug::start(vnl);
        debian.greet(&plug, &frame(255, 9, b"hello"));
        send(&plug, &frame(9, 1, b"private"));
        debian.expect(&frame(9, 1, b"private"));
        debian.send(&frame(1, 9, b"answer"));
        receive_until(&plug, &frame(1, 9, b"answer"));
    }
}

#[test]
fn a_burst_of_multicasts_to_oneself_does_not_hide_the_frames_of_others() {
    const NAME: &str = "a_burst_of_multicasts_to_oneself_does_not_hide_the_frames_of_others";
    if !in_private_network(NAME, ROUTES) {
        return;
    }
    let [a, b] = ["vxvde://", "vxvde://"].map(open);
    for n in 0..100 {
        send(&a, &frame(255, 1, &[n]));
    }
    send(&b, &frame(255, 2, b"from b"));
    assert_eq!(receive(&a), frame(255, 2, b"from b"));
}
