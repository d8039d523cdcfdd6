//! `vde://` against Debian's `vde_switch`.

mod common;

use std::os::unix::fs::FileTypeExt;

use common::{
    beside, directory, frame, installed, open, path_text, receive, receive_until, send, vde_switch,
    vde_switch_with, wait_for,
};

#[test]
fn two_plugs_of_a_vde_switch_exchange_frames() {
    if !installed("vde_switch") {
        return;
    }
    let directory = directory();
    let path = beside(&directory, "sw");
    let _switch = vde_switch(&path);
    let left = open(&path_text(&path));
    let right = open(&format!("vde://{}", path_text(&path)));
    assert!(left.carrier() && right.carrier());
    send(&left, &frame(255, 1, b"hello"));
    assert_eq!(receive(&right), frame(255, 1, b"hello"));
    send(&right, &frame(1, 2, b"answer"));
    assert_eq!(receive(&left), frame(1, 2, b"answer"));
}

#[test]
fn a_burst_longer_than_the_socket_queue_arrives_whole_and_in_order() {
    if !installed("vde_switch") {
        return;
    }
    let directory = directory();
    let path = beside(&directory, "sw");
    let _switch = vde_switch(&path);
    let (left, right) = (open(&path_text(&path)), open(&path_text(&path)));
    // Frames that the switch need not flood, so that it drops none for its own reasons.
    send(&right, &frame(255, 2, b""));
    receive(&left);
    let burst: Vec<_> = (0..200_u8).map(|n| frame(2, 1, &[n])).collect();
    left.send(&mut burst.iter().cloned().map(Into::into).collect());
    let last = frame(2, 1, b"last");
    send(&left, &last);
    let mut got = Vec::new();
    let mut frames = std::collections::VecDeque::new();
    wait_for(&right, "the burst", || {
        // The sender's owner would be woken for room; here it is polled.
        left.receive(&mut frames, 1).expect("a live plug");
        right.receive(&mut frames, 64).expect("a live plug");
        got.extend(frames.drain(..).map(|frame| frame.bytes));
        got.contains(&last).then_some(())
    });
    assert_eq!(left.drops(), 0);
    // The switch itself may drop, but it does not reorder.
    let mut expected = burst.iter();
    assert!(got[..got.len() - 1].iter().all(|bytes| expected.any(|e| e == bytes)));
}

#[test]
fn a_fixed_port_can_be_asked_for() {
    if !installed("vde_switch") {
        return;
    }
    let directory = directory();
    let path = beside(&directory, "sw");
    let _switch = vde_switch_with(&path, &["-n", "400"]);
    for (locator, name) in [("[7]", "007."), ("[port=300]", "300.")] {
        let _plug = open(&format!("{}{locator}", path_text(&path)));
        let names = std::fs::read_dir(&path).expect("a directory").flatten();
        let ports: Vec<_> = names
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name != "ctl")
            .collect();
        assert!(ports.iter().any(|port| port.starts_with(name)), "{ports:?}");
        assert!(ports.iter().all(|port| !port.starts_with('.')), "ours is gone: {ports:?}");
    }
}

#[test]
fn the_carrier_follows_the_switch_and_the_descriptor_stays() {
    if !installed("vde_switch") {
        return;
    }
    let directory = directory();
    let path = beside(&directory, "sw");
    let switch = vde_switch(&path);
    let plug = open(&path_text(&path));
    let descriptor = |plug: &std::sync::Arc<dyn vdeplug::Transport>| {
        plug.poll_fd().map(|fd| std::os::fd::AsRawFd::as_raw_fd(&fd))
    };
    let before = descriptor(&plug);
    let (sender, changes) = std::sync::mpsc::channel();
    plug.set_waker(std::sync::Arc::new(move || sender.send(()).unwrap_or_default()));
    drop(switch);
    let mut frames = std::collections::VecDeque::new();
    wait_for(&plug, "the loss of the carrier", || {
        plug.receive(&mut frames, 1).expect("a plug that reconnects");
        (!plug.carrier()).then_some(())
    });
    changes.recv().expect("the waker tells");
    send(&plug, &frame(255, 1, b"lost"));
    assert_eq!(plug.drops(), 1);
    // A killed switch leaves its directory behind, where a new one cannot start.
    std::fs::remove_dir_all(&path).expect("a directory");
    let _switch = vde_switch(&path);
    wait_for(&plug, "the carrier", || {
        plug.receive(&mut frames, 1).expect("a plug that reconnects");
        plug.carrier().then_some(())
    });
    changes.recv().expect("the waker tells");
    assert_eq!(descriptor(&plug), before);
    let other = open(&path_text(&path));
    send(&plug, &frame(255, 1, b"back"));
    assert_eq!(receive(&other), frame(255, 1, b"back"));
}

#[test]
fn unfinished_frames_are_completed_on_the_way() {
    if !installed("vde_switch") {
        return;
    }
    let directory = directory();
    let path = beside(&directory, "sw");
    let _switch = vde_switch(&path);
    let (left, right) = (open(&path_text(&path)), open(&path_text(&path)));
    assert!(!left.accepts_offload());
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [0xff; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(1, 2, 3, 4)
        .write(&mut bytes, &[7; 3000])
        .expect("a packet");
    let segment_size = std::num::NonZeroU16::new(1000);
    let offload = vdeplug::Offload { checksum_pending: true, segment_size };
    left.send(&mut vec![vdeplug::Frame { bytes, offload }]);
    send(&left, &frame(255, 1, b"last"));
    let parts = receive_until(&right, &frame(255, 1, b"last"));
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [1054; 3]);
}
