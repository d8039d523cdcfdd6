//! `udp://`, `ptp://`, `seqpacket://`, `tap://` and `macvtap://`.

mod common;

use std::{
    collections::VecDeque,
    fs,
    os::{fd::AsRawFd, unix::net::UnixDatagram},
    sync::Arc,
};

use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept, bind, listen, recv,
    socket, socketpair,
};

use common::{
    VdePlug, arp_answer, arp_question, beside, directory, frame, in_private_network, installed,
    open, path_text, receive, send, send_until, wait_for,
};
use vdeplug::Transport;

#[test]
fn udp_cables_join_two_hosts() {
    if !in_private_network("udp_cables_join_two_hosts", "true") {
        return;
    }
    for (left, right) in [
        ("udp://2000->127.0.0.1:3000", "udp://127.0.0.1:3000->127.0.0.1:2000"),
        ("udp://2000->[::1]:3000", "udp://[::1]:3000->[::1]:2000"),
    ] {
        let left = open(left);
        // Refused for want of a peer; the cable does not break by that.
        send(&left, &frame(255, 1, b"early"));
        let right = open(right);
        let mut frames = VecDeque::new();
        left.receive(&mut frames, 9).expect("a live plug");
        send(&left, &frame(255, 1, b"hello"));
        assert_eq!(receive(&right), frame(255, 1, b"hello"));
        send(&right, &frame(1, 2, b"answer"));
        assert_eq!(receive(&left), frame(1, 2, b"answer"));
    }
    if installed("vde_plug") {
        let plug = open("udp://4000->127.0.0.1:5000");
        let mut debian = VdePlug::start("udp://127.0.0.1:5000->127.0.0.1:4000");
        debian.greet(&plug, &frame(255, 9, b"hello"));
        send(&plug, &frame(9, 1, b"answer"));
        debian.expect(&frame(9, 1, b"answer"));
    }
}

#[test]
fn a_udp_cable_knows_when_the_other_end_says_no() {
    if !in_private_network("a_udp_cable_knows_when_the_other_end_says_no", "true") {
        return;
    }
    let left = open("udp://2000->127.0.0.1:3000");
    assert!(left.carrier());
    let mut frames = VecDeque::new();
    let mut carrier_is = |wanted: bool| {
        wait_for(&left, "the carrier", || {
            left.receive(&mut frames, 9).expect("a live plug");
            (left.carrier() == wanted).then_some(())
        });
    };
    send(&left, &frame(255, 1, b"early"));
    carrier_is(false);
    // It asks by itself, and sees who is there although nobody sends.
    let right = open("udp://3000->127.0.0.1:2000");
    carrier_is(true);
    drop(right);
    send(&left, &frame(255, 1, b"late"));
    carrier_is(false);
    // Who is heard is there.
    let right = open("udp://3000->127.0.0.1:2000");
    send(&right, &frame(255, 2, b"hello"));
    carrier_is(true);
    // No way leads there while the interface is down.
    ip("link set lo down");
    carrier_is(false);
    ip("link set lo up");
    carrier_is(true);
}

#[test]
fn ptp_cables_have_two_ends() {
    let directory = directory();
    let path = beside(&directory, "cable");
    let place = format!("ptp://{}", path_text(&path));
    let first = open(&place);
    assert!(!first.carrier());
    // The second end waits for an answer, which the first gives when it is looked at.
    let opening = std::thread::spawn({
        let place = place.clone();
        move || open(&place)
    });
    let mut frames = VecDeque::new();
    wait_for(&first, "the other end", || {
        first.receive(&mut frames, 1).expect("a live plug");
        first.carrier().then_some(())
    });
    let second = opening.join().expect("the second end");
    assert!(second.carrier());
    send(&first, &frame(255, 1, b"hello"));
    assert_eq!(receive(&second), frame(255, 1, b"hello"));
    send(&second, &frame(1, 2, b"answer"));
    assert_eq!(receive(&first), frame(1, 2, b"answer"));

    let third = std::thread::spawn(move || vdeplug::open(&place, "test"));
    wait_for(&first, "the third end", || {
        first.receive(&mut frames, 1).expect("a live plug");
        third.is_finished().then_some(())
    });
    let error = third.join().expect("an answer").expect_err("a third end");
    assert_eq!(error.errno(), libc::EISCONN);
    assert!(error.to_string().contains("both ends of the cable are taken"), "{error}");

    // The second takes over listening when the first goes.
    drop(first);
    wait_for(&second, "the loss of the carrier", || {
        second.receive(&mut frames, 1).expect("a live plug");
        (!second.carrier()).then_some(())
    });
    wait_for(&second, "a place to meet", || {
        second.receive(&mut frames, 1).expect("a live plug");
        path.exists().then_some(())
    });
    drop(second);
    assert!(!path.exists());
}

#[test]
fn what_a_dead_end_left_is_replaced() {
    let directory = directory();
    let path = beside(&directory, "cable");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    drop(open(&format!("ptp://{}", path_text(&path))));
    assert!(!path.exists());
    drop(UnixDatagram::bind(&path).expect("a socket"));
    drop(open(&format!("ptp://{}", path_text(&path))));
    assert!(!path.exists());
}

#[test]
fn ptp_ends_of_older_releases_are_joined() {
    if !installed("vde_plug") {
        return;
    }
    let directory = directory();
    let path = beside(&directory, "cable");
    let place = format!("ptp://{}", path_text(&path));
    let mut debian = VdePlug::start(&place);
    common::wait_for_path(&path);
    if UnixDatagram::unbound().expect("a socket").connect(&path).is_err() {
        eprintln!("skipped: the vde_plug installed is not of an older release");
        return;
    }
    let plug = open(&place);
    debian.greet(&plug, &frame(255, 9, b"hello"));
    send(&plug, &frame(9, 1, b"answer"));
    debian.expect(&frame(9, 1, b"answer"));
    drop(plug);
    assert!(!fs::exists(beside(&directory, "cable+")).expect("a directory"));
}

#[test]
fn debian_plugs_meet_ours_on_a_socket() {
    if !installed("vde_plug") {
        return;
    }
    let flags = SockFlag::empty();
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("sockets");
    let mut debian = VdePlug::start(&format!("seqpacket://{}", theirs.as_raw_fd()));
    drop(theirs);
    let plug = open(&format!("seqpacket://{}", ours.as_raw_fd()));
    debian.greet(&plug, &frame(255, 9, b"hello"));
    send(&plug, &frame(9, 1, b"answer"));
    debian.expect(&frame(9, 1, b"answer"));
}

#[test]
fn a_listening_socket_is_called() {
    let directory = directory();
    let path = beside(&directory, "socket");
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None);
    let listener = listener.expect("a socket");
    bind(listener.as_raw_fd(), &UnixAddr::new(&path).expect("a short path")).expect("a path");
    listen(&listener, Backlog::new(1).expect("a small number")).expect("a listener");
    let plug = open(&format!("seqpacket://{}", path_text(&path)));
    let other = accept(listener.as_raw_fd()).expect("a caller");
    send(&plug, &frame(255, 1, b"hello"));
    let mut bytes = [0; 100];
    assert_eq!(recv(other, &mut bytes, MsgFlags::empty()), Ok(60));
    assert_eq!(bytes[..60], frame(255, 1, b"hello"));
    // When the other end is closed, it is called again.
    nix::unistd::close(other).expect("a socket");
    let mut frames = VecDeque::new();
    wait_for(&plug, "the loss of the carrier", || {
        plug.receive(&mut frames, 9).expect("a plug that reconnects");
        (!plug.carrier()).then_some(())
    });
    wait_for(&plug, "the carrier", || {
        plug.receive(&mut frames, 9).expect("a plug that reconnects");
        plug.carrier().then_some(())
    });
    let other = accept(listener.as_raw_fd()).expect("a caller");
    send(&plug, &frame(255, 1, b"again"));
    assert_eq!(recv(other, &mut bytes, MsgFlags::empty()), Ok(60));
    assert_eq!(bytes[..60], frame(255, 1, b"again"));
}

#[test]
fn tap_frames_reach_the_kernel_and_come_back() {
    if !in_private_network("tap_frames_reach_the_kernel_and_come_back", "true") {
        return;
    }
    let plug = match vdeplug::open("tap://test0", "test") {
        Ok(plug) => plug,
        Err(error) => {
            eprintln!("skipped: {error}");
            return;
        }
    };
    ip("address add 10.9.9.1/24 dev test0");
    ip("link set test0 up");
    expect_arp_answer(&plug);
    let error = vdeplug::open("tap://test0", "test").expect_err("a second owner");
    assert_eq!(error.errno(), libc::EBUSY);

    // The carrier is what the host does with its end.
    let mut frames = VecDeque::new();
    let mut carrier_is = |wanted: bool| {
        wait_for(&plug, "the carrier", || {
            plug.receive(&mut frames, 9).expect("a live plug");
            (plug.carrier() == wanted).then_some(())
        });
    };
    carrier_is(true);
    ip("link set test0 down");
    carrier_is(false);
    ip("link set test0 up");
    carrier_is(true);
    // What the plug made it makes again.
    ip("link delete test0");
    wait_for(&plug, "a new interface", || {
        plug.receive(&mut frames, 9).expect("a live plug");
        std::path::Path::new("/proc/sys/net/ipv4/conf/test0").exists().then_some(())
    });
    ip("link set test0 up");
    wait_for(&plug, "the carrier", || {
        plug.receive(&mut frames, 9).expect("a live plug");
        plug.carrier().then_some(())
    });
    drop(plug);
    // What others made they may make again.
    ip("tuntap add dev theirs mode tap");
    let plug = open("tap://theirs");
    ip("link delete theirs");
    wait_for(&plug, "the loss", || {
        plug.receive(&mut frames, 9).expect("a live plug");
        plug.tick(std::time::Instant::now());
        plug.send(&mut vec![vdeplug::Frame::from(vec![0; 60])]);
        (plug.drops() > 3).then_some(())
    });
    assert!(!std::path::Path::new("/proc/sys/net/ipv4/conf/theirs").exists());
    ip("tuntap add dev theirs mode tap");
    ip("link set theirs up");
    wait_for(&plug, "the carrier", || {
        plug.receive(&mut frames, 9).expect("a live plug");
        plug.carrier().then_some(())
    });
}

#[test]
fn macvtap_frames_go_out_at_the_interface_below() {
    let setup = "ip link add left type veth peer name right && ip link set left up && \
                 ip link set right up && ip address add 10.9.9.1/24 dev right";
    if !in_private_network("macvtap_frames_go_out_at_the_interface_below", setup) {
        return;
    }
    let made = std::process::Command::new("ip")
        .args("link add link left name mv0 address 02:00:00:00:00:09 type macvtap".split(' '))
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return eprintln!("skipped: the kernel has no macvtap");
    }
    ip("link set mv0 up");
    let plug = match vdeplug::open("macvtap://mv0", "test") {
        Ok(plug) => plug,
        // In a container the device may belong to another one, or not be there.
        Err(error) if [libc::ENOENT, libc::EACCES, libc::EPERM].contains(&error.errno()) => {
            return eprintln!("skipped: {error}");
        }
        Err(error) => panic!("{error}"),
    };
    // Unlike a tap's, its other end is the kernel's: `right`.
    expect_arp_answer(&plug);
}

fn ip(arguments: &str) {
    let done = std::process::Command::new("ip").args(arguments.split(' ')).status();
    assert!(done.expect("ip").success(), "ip {arguments}");
}

fn expect_arp_answer(plug: &Arc<dyn Transport>) {
    let question = arp_question([10, 9, 9, 2], [10, 9, 9, 1]);
    send_until(plug, plug, &question, |bytes| arp_answer(bytes, [10, 9, 9, 1]));
}
