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
