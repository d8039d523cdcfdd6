//! `vxlan://` between network namespaces: with the kernel's vxlan device, and among ourselves.

mod common;

use std::{process::Command, sync::Arc};

use common::{
    Running, VdePlug, frame, in_private_network, installed, open, receive, receive_until, send,
    wait_for,
};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use vdeplug::Transport;

/// A cable to another network, whose only process ends with this one.
const CABLE: &str = "ip link add v0 type veth peer name v1; ip address add 192.168.77.1/24 dev v0; \
                     ip -6 address add fd77::1/64 dev v0 nodad; ip link set v0 up";

const OWN: [u8; 6] = [2, 1, 1, 1, 1, 1];

/// The host at the other end of the cable.
struct Host(Running);

impl Host {
    fn start() -> Self {
        let host = Self(Running::start(Command::new("unshare").args(["-n", "sleep", "100"])));
        let own = std::fs::read_link("/proc/self/ns/net").expect("a network");
        let theirs = format!("/proc/{}/ns/net", host.0.0.id());
        while std::fs::read_link(&theirs).is_ok_and(|theirs| theirs == own) {
            std::thread::yield_now();
        }
        run(Command::new("ip").args(["link", "set", "v1", "netns", &host.0.0.id().to_string()]));
        host.ip("address add 192.168.77.2/24 dev v1");
        host.ip("-6 address add fd77::2/64 dev v1 nodad");
        host.ip("link set v1 up");
        host
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.0.0.id().to_string(), "-n", program]);
        command
    }

    fn ip(&self, arguments: &str) {
        run(self.command("ip").args(arguments.split(' ')));
    }

    /// Makes the kernel's device `vx0` with the address 10.7.7.2.
    fn vxlan(&self, options: &str) {
        self.ip(&format!("link add vx0 type vxlan {options}"));
        self.ip("address add 10.7.7.2/24 dev vx0");
        self.ip("link set vx0 up");
    }
}

fn run(command: &mut Command) {
    assert!(command.status().expect("a program").success(), "{command:?}");
}

/// Answers what concerns 10.7.7.1 as a host would: ARP and echo requests.
fn answer(request: &[u8]) -> Option<Vec<u8>> {
    let sender: [u8; 6] = request[6..12].try_into().ok()?;
    if request[12..14] == [8, 6] && request[21] == 1 && request[38..42] == [10, 7, 7, 1] {
        return Some(arp(2, sender, &request[22..32]));
    }
    let packet = SlicedPacket::from_ethernet(request).ok()?;
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Icmpv4(icmp))) =
        (packet.net, packet.transport)
    else {
        return None;
    };
    let header = ip.header();
    let etherparse::Icmpv4Type::EchoRequest(echo) = icmp.header().icmp_type else { return None };
    let reply = PacketBuilder::ethernet2(OWN, sender)
        .ipv4(header.destination(), header.source(), 64)
        .icmpv4_echo_reply(echo.id, echo.seq);
    let mut bytes = Vec::new();
    reply.write(&mut bytes, icmp.payload()).expect("a packet");
    Some(bytes)
}

/// An ARP message of 10.7.7.1 to the station whose two addresses are given.
fn arp(operation: u8, to: [u8; 6], target: &[u8]) -> Vec<u8> {
    let kind = [8, 6, 0, 1, 8, 0, 6, 4, 0, operation];
    [&to[..], &OWN, &kind, &OWN, &[10, 7, 7, 1], target].concat()
}

/// Has the host ping us, then pings it.
fn exchange_pings(plug: &Arc<dyn Transport>, host: &Host) {
    let mut ping = host.command("ping");
    let mut ping =
        Running::start(ping.args(["-q", "-c", "3", "-i", "0.2", "-w", "20", "10.7.7.1"]));
    let mut frames = std::collections::VecDeque::new();
    let status = wait_for(plug, "the host's ping", || {
        plug.receive(&mut frames, 64).expect("a live plug");
        for reply in frames.drain(..).filter_map(|frame| answer(&frame.bytes)) {
            send(plug, &reply);
        }
        ping.0.try_wait().expect("a child")
    });
    assert!(status.success(), "the host's ping got no answer");

    send(plug, &arp(1, [0xff; 6], &[0, 0, 0, 0, 0, 0, 10, 7, 7, 2]));
    let station: [u8; 6] = loop {
        let bytes = receive(plug);
        if bytes[12..14] == [8, 6] && bytes[21] == 2 {
            break bytes[22..28].try_into().expect("six bytes");
        }
    };
    let builder = PacketBuilder::ethernet2(OWN, station)
        .ipv4([10, 7, 7, 1], [10, 7, 7, 2], 64)
        .icmpv4_echo_request(7, 1);
    let mut request = Vec::new();
    builder.write(&mut request, b"a payload that comes back").expect("a packet");
    send(plug, &request);
    loop {
        let bytes = receive(plug);
        if bytes[..6] == OWN && bytes.ends_with(b"a payload that comes back") {
            return;
        }
    }
}

fn meets_the_kernel(test: &str, cases: &[(&str, &str)]) {
    if !installed("nsenter") || !installed("ping") || !in_private_network(test, CABLE) {
        return;
    }
    let host = Host::start();
    let mut probe = host.command("ip");
    probe.args(["link", "add", "vx9", "type", "vxlan", "id", "9", "dstport", "9"]);
    if !probe.status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: the kernel has no vxlan devices");
        return;
    }
    for (vnl, device) in cases {
        host.vxlan(device);
        exchange_pings(&open(vnl), &host);
        host.ip("link del vx0");
    }
}

#[test]
fn the_kernel_is_met_on_a_multicast_group() {
    let cases = [
        ("vxlan:///if=v0", "id 1 group 239.0.0.1 dev v1 dstport 4789"),
        (
            "vxlan://239.9.9.9/if=v0/port=14789/vni=16777215",
            "id 16777215 group 239.9.9.9 dev v1 dstport 14789",
        ),
        ("vxlan:///v6/if=v0", "id 1 group ff05:56de::1 dev v1 dstport 4789"),
    ];
    meets_the_kernel("the_kernel_is_met_on_a_multicast_group", &cases);
}

#[test]
fn the_kernel_is_met_by_a_distributed_switch() {
    let cases = [
        ("vxvde:///if=v0", "id 1 group 239.0.0.1 dev v1 dstport 14789"),
        ("vxvde:///if=v0", "id 1 group 239.0.0.1 dev v1 dstport 14789 nolearning"),
        (
            "vxvde://239.9.9.9/if=v0/port=8472/vni=77",
            "id 77 group 239.9.9.9 dev v1 dstport 8472 srcport 8472 8473",
        ),
        ("vxvde:///v6/if=v0", "id 1 group ff05:56de::1 dev v1 dstport 14789"),
    ];
    meets_the_kernel("the_kernel_is_met_by_a_distributed_switch", &cases);
}

#[test]
fn the_kernel_is_met_at_its_address() {
    let cases = [
        ("vxlan://192.168.77.2", "id 1 remote 192.168.77.1 dev v1 dstport 4789"),
        ("vxlan://fd77::2/vni=3", "id 3 remote fd77::1 dev v1 dstport 4789"),
    ];
    meets_the_kernel("the_kernel_is_met_at_its_address", &cases);
}

#[test]
fn debian_ends_are_understood() {
    if !installed("vde_plug") || !in_private_network("debian_ends_are_understood", CABLE) {
        return;
    }
    let host = Host::start();
    let plug = open("vxlan:///if=v0/vni=77");
    let mut command = host.command("vde_plug");
    command.arg("vxlan:///if=v1/vni=77");
    let mut debian = VdePlug::run(command);
    debian.greet(&plug, &frame(255, 9, b"hello"));
    send(&plug, &frame(9, 1, b"private"));
    debian.expect(&frame(9, 1, b"private"));
    // Its frames for stations that it has heard go astray, also between two of its kind.
    debian.send(&frame(5, 9, b"to anybody"));
    receive_until(&plug, &frame(5, 9, b"to anybody"));
}

#[test]
fn a_host_has_one_end_of_a_network() {
    if !in_private_network("a_host_has_one_end_of_a_network", "true") {
        return;
    }
    let error = vdeplug::open("vxlan://", "test").expect_err("no route");
    let expected = "vxlan://: no route to 239.0.0.1 (name the interface as /if=NAME, or ip route \
                    add 239.0.0.0/8 dev NAME)";
    assert_eq!((error.to_string().as_str(), error.errno()), (expected, libc::ENOENT));
    run(Command::new("ip").args(["link", "add", "v0", "type", "veth", "peer", "name", "v1"]));
    let error = vdeplug::open("vxlan:///if=v0", "test").expect_err("no address");
    assert!(error.to_string().ends_with("(give the interface an IPv4 address)"), "{error}");
    let error = vdeplug::open("vxlan://192.0.2.1", "test").expect_err("no route");
    assert!(error.to_string().contains("no route to 192.0.2.1 ("), "{error}");
    let _plug = open("vxlan:///if=lo");
    let error = vdeplug::open("vxlan:///if=lo/vni=2", "test").expect_err("a second end");
    let expected = "vxlan:///if=lo/vni=2: binding to UDP port 4789: Address already in use (a \
                    host has one end of a vxlan: end the other one, choose another /port=, or use \
                    vxvde://)";
    assert_eq!((error.to_string().as_str(), error.errno()), (expected, libc::EADDRINUSE));
    // IPv6 has ports of its own.
    drop(open("vxlan://::1"));
}

#[test]
fn own_multicasts_do_not_come_back_and_other_networks_are_not_heard() {
    const NAME: &str = "own_multicasts_do_not_come_back_and_other_networks_are_not_heard";
    if !in_private_network(NAME, "true") {
        return;
    }
    let plug = open("vxlan:///if=lo/port=4002");
    let stranger = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let tell = |header: [u8; 8], bytes: &[u8]| {
        let datagram = [&header[..], bytes].concat();
        stranger.send_to(&datagram, "127.0.0.1:4002").expect("a datagram");
    };
    send(&plug, &frame(255, 1, b"own"));
    tell([8, 0, 0, 0, 0, 0, 2, 0], &frame(255, 9, b"another network"));
    tell([0, 0, 0, 0, 0, 0, 1, 0], &frame(255, 9, b"no network"));
    tell([8, 0, 0, 0, 0, 0, 1, 0], b"short");
    tell([8, 0, 0, 0, 0, 0, 1, 0], b"");
    tell([0x88, 9, 9, 9, 0, 0, 1, 9], &frame(255, 9, b"ours"));
    assert_eq!(receive(&plug), frame(255, 9, b"ours"));
    assert_eq!(plug.drops(), 4);
}
