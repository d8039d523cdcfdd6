//! `switch://` and `hub://`: plugs of this process and clients of others.

mod common;

use std::{
    collections::VecDeque, os::unix::net::UnixListener, path::Path, process::Command, sync::Arc,
};

use common::{
    PlainClient, Running, VdePlug, beside, directory, frame, installed, open, path_text, receive,
    receive_until, send, send_until, vde_switch, wait_for,
};
use vdeplug::{Frame, Transport};

#[test]
fn plugs_of_one_process_exchange_frames_by_any_name_of_the_path() {
    let directory = directory();
    let path = path_text(&beside(&directory, "sw"));
    let left = open(&format!("switch://{path}"));
    let right = open(&format!("switch://{}/./sw", path_text(directory.path())));
    assert!(left.poll_fd().is_none() && left.accepts_offload());
    send(&left, &frame(255, 1, b"hello"));
    assert_eq!(receive(&right), frame(255, 1, b"hello"));
}

#[test]
fn offloaded_frames_pass_between_plugs_as_they_are_and_complete_to_other_clients() {
    let directory = directory();
    let path = path_text(&beside(&directory, "sw"));
    let left = open(&format!("switch://{path}"));
    let right = open(&format!("switch://{path}"));
    let client = open(&format!("vde://{path}"));
    assert!(client.poll_fd().is_some() && client.accepts_offload());
    let plain = PlainClient::join(Path::new(&path));
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [0xff; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(1, 2, 3, 4)
        .write(&mut bytes, &[7; 30_000])
        .expect("a packet");
    let segment_size = std::num::NonZeroU16::new(1000);
    let large = Frame { bytes, offload: vdeplug::Offload { checksum_pending: true, segment_size } };
    left.send(&mut vec![large.clone()]);
    let mut received = VecDeque::new();
    right.receive(&mut received, 2).expect("a live plug");
    assert_eq!(received, std::slice::from_ref(&large));
    send(&left, &frame(255, 1, b"last"));
    received.clear();
    wait_for(&client, "the frame", || {
        client.receive(&mut received, 64).expect("a live plug");
        (received.len() == 2).then_some(())
    });
    assert_eq!(received[0], large);
    let parts = std::iter::repeat_with(|| plain.receive());
    let parts: Vec<_> = parts.take_while(|bytes| *bytes != frame(255, 1, b"last")).collect();
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [1054; 30]);
    // The other way: what a client leaves to be done comes as it is.
    client.send(&mut vec![large.clone()]);
    received.clear();
    wait_for(&client, "the frame of the client", || {
        left.receive(&mut received, 64).expect("a live plug");
        (!received.is_empty()).then_some(())
    });
    assert_eq!(received, [large]);
}

#[test]
fn links_of_one_host_carry_all_or_take_turns() {
    for (scheme, each) in [("multi", 4), ("bonding", 2)] {
        let directory = directory();
        let path = path_text(&beside(&directory, "node"));
        let host = open(&format!("{scheme}://{path}"));
        let links = [(); 2].map(|()| open(&format!("vde://{path}")));
        for n in 0..4 {
            send(&host, &frame(2, 1, &[n]));
        }
        for link in &links {
            let mut frames = VecDeque::new();
            wait_for(link, "frames of the host", || {
                link.receive(&mut frames, 64).expect("a live plug");
                (frames.len() >= each).then_some(())
            });
            assert_eq!(frames.len(), each, "{scheme}");
        }
        // Who is at the other end of a link hears the host, and nobody else.
        send(&links[0], &frame(255, 2, b"to the host"));
        assert_eq!(receive(&host), frame(255, 2, b"to the host"));
        for last in [&b"last"[..], b"last"] {
            send(&host, &frame(255, 1, last));
        }
        assert!(receive_until(&links[1], &frame(255, 1, b"last")).is_empty(), "{scheme}");
        assert!(receive_until(&links[0], &frame(255, 1, b"last")).is_empty(), "{scheme}");
        if installed("vde_plug") {
            drop(links);
            let mut debian = VdePlug::start(&format!("vde://{path}"));
            debian.greet(&host, &frame(255, 9, b"hello"));
            wait_for(&host, "a frame at the only link", || {
                send(&host, &frame(9, 1, b"answer"));
                debian.is_readable().then_some(())
            });
            debian.expect(&frame(9, 1, b"answer"));
        }
    }
}

#[test]
fn the_directory_lives_as_long_as_a_plug() {
    let directory = directory();
    let path = beside(&directory, "sw");
    let first = open(&format!("switch://{}", path_text(&path)));
    let second = open(&format!("switch://{}", path_text(&path)));
    let client = open(&format!("vde://{}", path_text(&path)));
    drop(first);
    assert!(path.join("ctl").exists() && client.carrier());
    drop(second);
    assert!(!path.exists());
    let mut frames = VecDeque::new();
    wait_for(&client, "the loss of the carrier", || {
        client.receive(&mut frames, 1).expect("a plug that reconnects");
        (!client.carrier()).then_some(())
    });
}

#[test]
fn clients_reconnect_to_a_new_switch() {
    let directory = directory();
    let path = path_text(&beside(&directory, "sw"));
    let first = open(&format!("switch://{path}"));
    let client = open(&format!("vde://{path}"));
    drop(first);
    let second = open(&format!("switch://{path}"));
    let mut frames = VecDeque::new();
    let mut lost = false;
    wait_for(&client, "the new carrier", || {
        client.receive(&mut frames, 1).expect("a plug that reconnects");
        lost |= !client.carrier();
        (lost && client.carrier()).then_some(())
    });
    send(&client, &frame(255, 1, b"hello"));
    assert_eq!(receive(&second), frame(255, 1, b"hello"));
}

#[test]
fn debian_programs_join() {
    if !installed("vde_plug") {
        return;
    }
    let directory = directory();
    for scheme in ["switch", "hub"] {
        let path = path_text(&beside(&directory, scheme));
        let plug = open(&format!("{scheme}://{path}"));
        let mut debian = VdePlug::start(&format!("vde://{path}"));
        debian.greet(&plug, &frame(255, 9, b"hello"));
        send(&plug, &frame(9, 1, b"answer"));
        debian.expect(&frame(9, 1, b"answer"));
        let mut second = VdePlug::start(&path);
        second.greet(&plug, &frame(1, 8, b"to us only"));
        // Two clients meet as well.
        debian.send(&frame(8, 9, b"neighbour"));
        second.expect(&frame(8, 9, b"neighbour"));
        // A client that leaves takes its socket with it.
        let sockets = |name: &str| {
            let entries = std::fs::read_dir(&path).expect("a directory").flatten();
            entries.filter(|e| e.file_name().to_string_lossy().starts_with(name)).count()
        };
        assert_eq!((sockets("fd"), sockets(".")), (2, 0));
        drop(second);
        wait_for(&plug, "the client to leave", || (sockets("fd") == 1).then_some(()));
    }
}

#[test]
fn a_switch_of_another_program_is_joined() {
    if !installed("vde_switch") || !installed("vde_plug") {
        return;
    }
    let directory = directory();
    let path = beside(&directory, "sw");
    let _switch = vde_switch(&path);
    let left = open(&format!("switch://{}", path_text(&path)));
    let right = open(&format!("hub://{}", path_text(&path)));
    assert!(left.poll_fd().is_some());
    send(&left, &frame(255, 1, b"hello"));
    assert_eq!(receive(&right), frame(255, 1, b"hello"));

    // The same kind of switch, made by the C library.
    let path = path_text(&beside(&directory, "node"));
    let mut debian = VdePlug::start(&format!("switch://{path}"));
    common::wait_for_path(Path::new(&path).join("ctl").as_path());
    let plug = open(&format!("switch://{path}"));
    debian.greet(&plug, &frame(255, 9, b"hello"));
    send(&plug, &frame(9, 1, b"answer"));
    debian.expect(&frame(9, 1, b"answer"));
}

#[test]
fn what_a_dead_process_left_is_replaced() {
    let directory = directory();
    let path = beside(&directory, "sw");
    std::fs::create_dir(&path).expect("a directory");
    drop(UnixListener::bind(path.join("ctl")).expect("a socket"));
    let plug = open(&format!("switch://{}", path_text(&path)));
    let client = open(&format!("vde://{}", path_text(&path)));
    send(&client, &frame(255, 1, b"hello"));
    assert_eq!(receive(&plug), frame(255, 1, b"hello"));
    drop(plug);
    // A thread that serves the client may be the last to leave.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while path.exists() {
        assert!(std::time::Instant::now() < end, "the switch is left behind");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn another_process_joins_and_takes_over() {
    // The helper below, run as a process of its own, makes the switch and is killed.
    let directory = directory();
    let path = beside(&directory, "sw");
    let program = std::env::current_exe().expect("the test program");
    let mut command = Command::new(program);
    command.args(["--exact", "helper_that_keeps_a_switch", "--nocapture"]);
    command.env("VDEPLUG_TEST_SWITCH", &path).stdout(std::process::Stdio::null());
    let maker = Running::start(&mut command);
    common::wait_for_path(&path.join("ctl"));
    let joined = open(&format!("switch://{}", path_text(&path)));
    assert!(joined.poll_fd().is_some(), "a client of the other process");
    // The other process may have a switch, but not yet its own plug in it.
    let echo = frame(255, 2, b"echo");
    send_until(&joined, &joined, &frame(255, 1, b"echo"), |got| (got == echo).then_some(()));
    drop(maker);
    let taken = open(&format!("switch://{}", path_text(&path)));
    assert!(taken.poll_fd().is_none(), "the new maker");
    let mut frames = VecDeque::new();
    wait_for(&joined, "frames of the new maker", || {
        send(&taken, &frame(255, 1, b"hello"));
        joined.receive(&mut frames, 64).expect("a plug that reconnects");
        frames.iter().any(|got| got.bytes == frame(255, 1, b"hello")).then_some(())
    });
    drop(taken);
    assert!(path.exists(), "whoever is left keeps it");
    drop(joined);
    assert!(!path.exists());
}

#[test]
fn who_joined_takes_over_a_switch_whose_maker_leaves() {
    let directory = directory();
    let path = beside(&directory, "sw");
    let place = format!("switch://{}", path_text(&path));
    let (made, joined) = (open(&place), open(&format!("vde://{}", path_text(&path))));
    let mut command = Command::new(std::env::current_exe().expect("the test program"));
    command.args(["--exact", "helper_that_keeps_a_switch", "--nocapture"]);
    command.env("VDEPLUG_TEST_SWITCH", &path).stdout(std::process::Stdio::null());
    let other = Running::start(&mut command);
    let echoes = |plug: &Arc<dyn Transport>| {
        let mut frames = VecDeque::new();
        wait_for(plug, "an echo", || {
            send(plug, &frame(255, 1, b"echo"));
            plug.receive(&mut frames, 64).expect("a plug that reconnects");
            frames.drain(..).any(|got| got.bytes == frame(255, 2, b"echo")).then_some(())
        });
    };
    echoes(&made);
    drop(made);
    // What came before is still received; so the echo must be one to what is sent afterwards.
    let (mut frames, mut lost) = (VecDeque::new(), false);
    wait_for(&joined, "the new maker", || {
        joined.receive(&mut frames, 64).expect("a plug that reconnects");
        lost |= !joined.carrier();
        (lost && joined.carrier()).then_some(())
    });
    // By its path only it is joined, never made.
    echoes(&joined);
    let again = open(&place);
    assert!(again.poll_fd().is_some(), "a client of the new maker");
    echoes(&again);
    drop(other);
    // Now it is our turn again, and the one who joined by the path comes along.
    let mut frames = VecDeque::new();
    wait_for(&joined, "frames from the new maker", || {
        again.tick(std::time::Instant::now());
        again.receive(&mut frames, 64).expect("a plug that reconnects");
        frames.clear();
        send(&again, &frame(255, 1, b"hello"));
        joined.receive(&mut frames, 64).expect("a plug that reconnects");
        frames.iter().any(|got| got.bytes == frame(255, 1, b"hello")).then_some(())
    });
    drop((joined, again));
    assert!(!path.exists());
}

#[test]
fn helper_that_keeps_a_switch() {
    let Some(path) = std::env::var_os("VDEPLUG_TEST_SWITCH") else { return };
    let plug = open(&format!("switch://{}", path.to_string_lossy()));
    loop {
        let _ = receive(&plug);
        send(&plug, &frame(255, 2, b"echo"));
    }
}

#[test]
fn a_thousand_ports_reach_each_other() {
    let directory = directory();
    let path = format!("hub://{}", path_text(&beside(&directory, "hub")));
    let hub: Vec<_> = (0..1000).map(|_| open(&path)).collect();
    send(&hub[0], &frame(255, 1, b"all"));
    for plug in &hub[1..] {
        let mut received = VecDeque::new();
        assert_eq!(plug.receive(&mut received, 9).ok(), Some(1));
    }
    drop(hub);
    let path = format!("switch://{}", path_text(&beside(&directory, "sw")));
    let ports: Vec<_> = (0..1000_u16).map(|_| open(&path)).collect();
    let address = |n: u16| [[2, 0, 0, 0], [0, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]]].concat();
    let bytes = |to: u16, from: u16| {
        let mut bytes = address(to)[2..].to_vec();
        bytes[0] = 2;
        bytes.extend(&address(from)[2..]);
        bytes[6] = 2;
        bytes.resize(60, 0);
        Frame::from(bytes)
    };
    let drain = |plug: &Arc<dyn Transport>| {
        let mut received = VecDeque::new();
        plug.receive(&mut received, usize::MAX).expect("a live plug")
    };
    for n in 0..1000_u16 {
        // Addressed to itself: learned, and sent nowhere.
        ports[usize::from(n)].send(&mut vec![bytes(n, n)]);
    }
    assert!(ports.iter().all(|plug| drain(plug) == 0));
    for n in 0..1000_u16 {
        ports[usize::from(n)].send(&mut vec![bytes((n + 7) % 1000, n)]);
    }
    assert!(ports.iter().all(|plug| drain(plug) == 1), "each frame went to its port only");
}

#[test]
fn wakers_tell_of_the_first_frame_only() {
    let directory = directory();
    let path = format!("switch://{}", path_text(&beside(&directory, "sw")));
    let (left, right) = (open(&path), open(&path));
    let (sender, woken) = std::sync::mpsc::channel();
    right.set_waker(Arc::new(move || sender.send(()).unwrap_or_default()));
    send(&left, &frame(255, 1, b"1"));
    send(&left, &frame(255, 1, b"2"));
    assert_eq!(woken.try_iter().count(), 1);
    let mut received = VecDeque::new();
    assert_eq!(right.receive(&mut received, 9).ok(), Some(2));
    send(&left, &frame(255, 1, b"3"));
    assert_eq!(woken.try_iter().count(), 1);
}

#[test]
fn a_path_that_cannot_be_a_switch_says_so() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let place = format!("switch://{}", path_text(file.path()));
    let error = vdeplug::open(&place, "test").expect_err("a file");
    assert_eq!(error.errno(), libc::ENOTDIR);
    assert!(error.to_string().ends_with("(the path must be a directory or not exist)"), "{error}");
}

#[test]
fn those_who_connect_and_say_nothing_keep_nobody_out() {
    let root = tempfile::tempdir().expect("a directory");
    let place = format!("switch://{}/sw", root.path().display());
    let _owner = vdeplug::open(&place, "owner").expect("a new switch");
    let control = root.path().join("sw/ctl");
    let silent: Vec<_> = (0..300)
        .map(|_| std::os::unix::net::UnixStream::connect(&control).expect("it listens"))
        .collect();
    let joined = format!("vde://{}/sw", root.path().display());
    vdeplug::open(&joined, "guest").expect("a port is left");
    drop(silent);
}
