//! Networks that libvdeplug joins.

mod common;

use std::{
    collections::VecDeque,
    fs,
    io::{Read, Write},
    os::unix::fs::symlink,
    process::Command,
    sync::Arc,
};

use common::{
    beside, directory, exchange_pings, frame, in_private_network, open, path_text, receive,
    receive_until, send, vde_switch, wait_for,
};

#[test]
fn slirp_of_the_library_answers_for_its_router() {
    let plug = open("libvdeplug://slirp://");
    assert!(plug.carrier() && plug.poll_fd().is_some());
    exchange_pings(&plug, [10, 0, 2, 15], [10, 0, 2, 2]);
}

#[test]
fn the_library_alone_joins_any_network() {
    let directory = directory();
    let path = beside(&directory, "sw");
    let _switch = vde_switch(&path);
    let theirs = open(&format!("libvdeplug://{{vde://{}[7]}}", path_text(&path)));
    let ours = open(&path_text(&path));
    send(&ours, &frame(255, 1, b"hello"));
    assert_eq!(receive(&theirs), frame(255, 1, b"hello"));
    send(&theirs, &frame(1, 2, b"answer"));
    assert_eq!(receive(&ours), frame(1, 2, b"answer"));
    let names = fs::read_dir(&path).expect("a directory").flatten().map(|entry| entry.file_name());
    assert!(names.into_iter().any(|name| name.to_string_lossy().starts_with("007.")));
}

#[test]
fn a_lost_connection_of_the_library_comes_back() {
    let directory = directory();
    let path = beside(&directory, "sw");
    let switch = vde_switch(&path);
    let plug = open(&format!("libvdeplug://vde://{}", path_text(&path)));
    let (sender, changes) = std::sync::mpsc::channel();
    plug.set_waker(Arc::new(move || sender.send(()).unwrap_or_default()));
    drop(switch);
    changes.recv().expect("the waker tells");
    assert!(!plug.carrier());
    send(&plug, &frame(255, 1, b"lost"));
    assert_eq!(plug.drops(), 1);
    fs::remove_dir_all(&path).expect("a directory");
    let _switch = vde_switch(&path);
    changes.recv().expect("the waker tells");
    assert!(plug.carrier());
    let other = open(&path_text(&path));
    send(&plug, &frame(255, 1, b"back"));
    assert_eq!(receive(&other), frame(255, 1, b"back"));
}

#[test]
fn a_plug_that_goes_is_closed_by_the_library() {
    let directory = directory();
    let path = beside(&directory, "node");
    let plug = open(&format!("libvdeplug://{{switch://{}}}", path_text(&path)));
    assert!(path.join("ctl").exists());
    drop(plug);
    assert!(!path.join("ctl").exists(), "libvdeplug's switch takes its socket down");
}

#[test]
fn a_burst_through_the_library_arrives_whole_and_in_order() {
    let directory = directory();
    let path = beside(&directory, "node");
    let theirs = open(&format!("libvdeplug://{{hub://{}}}", path_text(&path)));
    let ours = open(&path_text(&path));
    let burst: Vec<_> = (0..250_u8).map(|n| frame(255, 1, &[n; 1400])).collect();
    let last = frame(255, 1, b"last");
    ours.send(&mut burst.iter().chain([&last]).cloned().map(Into::into).collect());
    let mut got = Vec::new();
    let mut frames = VecDeque::new();
    wait_for(&theirs, "the burst", || {
        ours.receive(&mut frames, 1).expect("a live plug");
        theirs.receive(&mut frames, 64).expect("a live plug");
        got.extend(frames.drain(..).map(|frame| frame.bytes));
        got.contains(&last).then_some(())
    });
    assert_eq!(got.len(), burst.len() + 1);
    assert_eq!(got[..burst.len()], burst);
}

#[test]
fn errors_of_the_library_are_one_line() {
    let error = |text: &str| vdeplug::open(text, "test").expect_err(text).to_string();
    if !vdeplug::libvdeplug::has_plugin("vdesl") {
        assert_eq!(
            error("vdesl:///dev/ttyS0"),
            "vdesl:///dev/ttyS0: libvdeplug_vdesl.so is not installed (apt-get install libvdeplug-vdesl)"
        );
    }
    assert!(error("libvdeplug://{nosuch://x}").starts_with("nosuch://: no such transport"));
    assert!(error("nosuch://{null://}").contains("by plugins of libvdeplug: vdesl://"));
    assert!(error("libvdeplug://slirp:///nosuch=1").starts_with("slirp:///nosuch=1: "));
    let absent = error("libvdeplug://{vde:///nonexistent/sw}");
    assert_eq!(
        absent,
        "vde:///nonexistent/sw: opening it by libvdeplug: No such file or directory"
    );
}

#[test]
fn an_open_that_hangs_is_given_up() {
    // It connects to a socket whose owner never accepts nor answers.
    let directory = directory();
    let path = beside(&directory, "sw");
    fs::create_dir(&path).expect("a directory");
    let _silent = std::os::unix::net::UnixListener::bind(path.join("ctl")).expect("a socket");
    let vnl = format!("libvdeplug://{{vde://{}}}", path_text(&path));
    let error = vdeplug::open(&vnl, "test").expect_err("nobody answers");
    assert_eq!(error.errno(), libc::ETIMEDOUT);
    assert!(error.to_string().ends_with("within 10 seconds (is the far end there?)"), "{error}");
}

/// A plugin that transforms frames, under a name that is none of ours, uses a switch of ours.
#[test]
fn two_plugs_share_a_switch_of_ours_through_a_plugin() {
    const PLUGINS: &str = "VDEPLUGIN_PATH";
    let test = "two_plugs_share_a_switch_of_ours_through_a_plugin";
    if std::env::var_os(PLUGINS).is_none() {
        // The library reads the variable: it must be there from the start.
        let directory = directory();
        drop(open("libvdeplug://null://"));
        let maps = fs::read_to_string("/proc/self/maps").expect("our own files");
        let library = maps.lines().find_map(|line| line.split_once("/libvdeplug.so"));
        let library = library.expect("it was loaded").0;
        let plugins = format!("{}/vdeplug", &library[library.find('/').expect("a path")..]);
        for (name, file) in [("other", "vlan"), ("seqpacket", "seqpacket")] {
            let link = beside(&directory, &format!("libvdeplug_{name}.so"));
            symlink(format!("{plugins}/libvdeplug_{file}.so"), link).expect("a link");
        }
        let mut command = Command::new(std::env::current_exe().expect("the test program"));
        command.args(["--exact", test, "--nocapture"]).env(PLUGINS, directory.path());
        assert!(command.status().expect("the test program").success());
        return;
    }
    let directory = directory();
    let path = path_text(&beside(&directory, "sw"));
    let wire = open(&format!("switch://{path}"));
    let plugs = [1, 2].map(|_| open(&format!("other://4{{switch://{path}}}")));
    send(&plugs[0], &frame(255, 1, b"hello"));
    assert_eq!(receive(&plugs[1]), frame(255, 1, b"hello"));
    assert_eq!(receive(&wire)[12..16], [0x81, 0, 0, 4]);
    send(&plugs[1], &frame(1, 2, b"answer"));
    assert_eq!(receive(&plugs[0]), frame(1, 2, b"answer"));
}

#[test]
fn pcap_joins_an_interface() {
    let setup =
        "ip link add left type veth peer name right; ip link set left up; ip link set right up";
    if !in_private_network("pcap_joins_an_interface", setup) {
        return;
    }
    let (left, right) = (open("pcap://left"), open("pcap://right"));
    send(&left, &frame(255, 1, b"hello"));
    receive_until(&right, &frame(255, 1, b"hello"));
    send(&right, &frame(1, 2, b"answer"));
    receive_until(&left, &frame(1, 2, b"answer"));
}

/// What is quoted, and the options, are the plugin's to read.
#[test]
fn options_reach_the_plugin() {
    if !in_private_network("options_reach_the_plugin", "true") {
        return;
    }
    let _plug = open("libvdeplug://slirp:///tcpfwd=127.0.0.1:8080:10.0.2.15:80/hostname='a b'");
    let mut stream = std::net::TcpStream::connect("127.0.0.1:8080").expect("slirp listens");
    stream.set_nonblocking(true).expect("a socket");
    let _ = stream.write(b"x");
    assert!(stream.read(&mut [0]).is_err(), "nobody has answered");
}
