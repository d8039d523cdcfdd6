//! The managed switch beside Debian's `vde_switch`: the same commands, the same frames.

mod common;

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use common::{
    Running, beside, directory, installed, open, path_text, receive_until, send, vde_switch,
    wait_for_path, wait_for_removal,
};
use vdeplug::{ManagedSwitch, SwitchSettings, Transport, management::Console};

/// A conversation at a management socket.
struct Talk(UnixStream);

impl Talk {
    fn begin(path: &Path) -> Self {
        wait_for_path(path);
        let stream = loop {
            // A socket that is bound may not listen yet.
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(_) => std::thread::yield_now(),
            }
        };
        let mut talk = Self(stream);
        talk.hear();
        talk
    }

    /// Reads up to the prompt, or the end.
    fn hear(&mut self) -> String {
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(b"\nvde$ ") && self.0.read(&mut byte).is_ok_and(|count| count > 0) {
            text.extend(byte);
        }
        String::from_utf8(text).expect("text")
    }

    fn say(&mut self, line: &str) -> String {
        // In one piece: vde_switch takes what one read gives as one command.
        self.0.write_all(format!("{line}\n").as_bytes()).expect("a listener");
        self.hear()
    }
}

/// The two switches, each with its directory and its management.
struct Both {
    _theirs: Running,
    _ours: (ManagedSwitch, Console),
    places: [PathBuf; 2],
    talks: [Talk; 2],
    _directory: tempfile::TempDir,
}

impl Both {
    fn start() -> Option<Self> {
        if !installed("vde_switch") {
            return None;
        }
        let directory = directory();
        let places = ["theirs", "ours"].map(|name| beside(&directory, name));
        let sockets = ["theirs.m", "ours.m"].map(|name| beside(&directory, name));
        let mut command = Command::new("vde_switch");
        command.arg("-s").arg(&places[0]).arg("-M").arg(&sockets[0]);
        let theirs = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::null()));
        let ours = ManagedSwitch::start(SwitchSettings::new(&places[1])).expect("a switch");
        let console = Console::listen(&ours, &sockets[1], 0o600, None).expect("a socket");
        let talks = sockets.map(|path| Talk::begin(&path));
        let _ours = (ours, console);
        Some(Self { _theirs: theirs, _ours, places, talks, _directory: directory })
    }

    /// Says a line to both; returns their answers.
    fn say(&mut self, line: &str) -> [String; 2] {
        self.talks.each_mut().map(|talk| talk.say(line))
    }
}

/// Replaces what is another on purpose or by chance: versions, ids, ages, texts of help.
fn alike(line: &str, answer: &str) -> String {
    let mut kept = String::new();
    for text in answer.lines() {
        let words: Vec<&str> = text.split(' ').collect();
        let place = |word: &str| words.iter().position(|w| *w == word).unwrap_or(usize::MAX - 1);
        let hidden = [place("ID") + 1, place("age") + 1, place("uptime") + 1, place("pid") + 1];
        let shown = words.iter().enumerate().filter(|(at, _)| !hidden.contains(at));
        let text = shown.map(|(_, word)| *word).collect::<Vec<_>>().join(" ");
        // The columns before the help, and before the address of the switch.
        let columns =
            if line.starts_with("help") || line.starts_with("debug/list") { 34 } else { 200 };
        let text = text.get(..columns.min(text.len())).unwrap_or_default();
        let text = text.split(" MAC ").next().unwrap_or_default();
        // A mistake of theirs.
        let text = text.replace("setgroup      N user", "setgroup      N group");
        if !text.contains("++ root") && !text.starts_with("MAC ") && !text.contains("qlen") {
            kept += &format!("{}\n", text.trim_end());
        }
    }
    kept
}

#[test]
fn both_answer_the_same_commands_with_the_same_words() {
    let Some(mut both) = Both::start() else { return };
    let plugs = both.places.clone().map(|place| {
        [1, 5, 5].map(|port| open(&format!("vde://{}[port={port}]", path_text(&place))))
    });
    const COMMANDS: &str = "
        port/print 2;port/print 40;port/print x;port/print -1;port/allprint 2;vlan/print;vlan/allprint
        vlan/create 10;vlan/create 10;vlan/create 4094;vlan/create 4095;vlan/create 0;vlan/create
        vlan/create x;vlan/addport 10 1;vlan/addport 10 1;vlan/addport 11 1;vlan/addport 10 99
        vlan/addport 10 9;vlan/addport 10;vlan/print;vlan/remove 10;port/setvlan 1 20
        port/setvlan 2 10;port/setvlan 99 10;port/setvlan;port/setvlan 1 10;port/setvlan 1 4095
        port/setvlan 1 4096;port/setvlan 1 10;vlan/print;vlan/print 10;vlan/print 010x;vlan/print 77
        vlan/allprint 10;vlan/remove 10;vlan/remove 77;vlan/delport 10 5;vlan/delport 10 1
        vlan/create 30;vlan/addport 30 5;vlan/remove 30;vlan/delport 30 5;vlan/remove 30
        port/create 3;port/create 3;port/create 32;port/createauto;port/createauto;port/allprint 3
        port/remove 3;port/remove 3;port/remove 1;port/remove 99;port/allocatable 2 1
        port/allprint 2;port/allocatable 2 0;port/allocatable 9 0;port/allocatable 2
        port/setuser 2 nosuchuser;port/setuser 9 root;port/setgroup 2 daemon;port/allprint 2
        port/setgroup 2 nosuchgroup;port/setgroup 2 NONE;port/setuser 2;port/epclose 5 999
        port/epclose 99 1;port/epclose 5;port/resetcounter;port/resetcounter 1;port/resetcounter 99
        port/setnumports 40;port/setnumports 2;port/setnumports 0;port/setnumports;port/showinfo
        port/sethub 1;port/showinfo;port/sethub 0;port/sethub x;hash/showinfo;hash/print
        hash/find 02:00:00:00:00:01;hash/find zz;hash/find;hash/find 02:00:00:00:00:01 10
        hash/setsize 100;hash/showinfo;hash/setsize 0;hash/setsize x;hash/setgcint 5
        hash/setexpire 50;hash/setminper 4;hash/showinfo;fstp/showinfo;fstp/print 77;fstp/setfstp 0
        debug/list;debug/add nosuch;debug/add port/+;debug/add port/+;debug/add port;debug/list
        port/create 11;debug/del port/ep;debug/del port/ep;debug/del nosuch;debug/del port
        plugin/list;plugin/add x;plugin/add;plugin/del x;load /nosuch;load;port /print;po/print
        port;PORT/print;?;nosuch;help;help port;help port/print;help nosuch;  port/showinfo
        port/print	5;port/print 5;port/showinfo more;# a comment;";
    for line in COMMANDS.split([';', '\n']).map(|line| line.trim_end().trim_start_matches("    ")) {
        let answers = both.say(line);
        let [theirs, ours] = answers.map(|answer| alike(line, &answer));
        assert_eq!(ours, theirs, "ours, then theirs, to `{line}`");
    }
    drop(plugs);
    assert_eq!(
        both.say("logout"),
        ["9999 END OF SESSION".to_owned(), "9999 END OF SESSION".to_owned()]
    );
}

/// Sends a frame in at one port of a switch; returns what comes out at the others: how each got it.
fn passes(plugs: &[Arc<dyn Transport>], from: usize, frame: &[u8]) -> Vec<(usize, Vec<u8>)> {
    send(&plugs[from], frame);
    // No frame reaches all, so none can mark the end: what is late shows as a difference.
    let mut out = Vec::new();
    for (number, plug) in plugs.iter().enumerate().filter(|(number, _)| *number != from) {
        let mut frames = std::collections::VecDeque::new();
        let settled = std::time::Instant::now() + std::time::Duration::from_millis(60);
        while std::time::Instant::now() < settled {
            plug.receive(&mut frames, 64).expect("a live plug");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        out.extend(frames.into_iter().map(|frame| (number, frame.bytes)));
    }
    out
}

fn tagged(to: u8, from: u8, tag: Option<u16>) -> Vec<u8> {
    let mut bytes = common::frame(to, from, b"");
    if let Some(tag) = tag {
        let [high, low] = tag.to_be_bytes();
        drop(bytes.splice(12..12, [0x81, 0, high, low]));
    }
    bytes
}

#[test]
fn both_pass_the_same_frames_between_vlans() {
    let Some(mut both) = Both::start() else { return };
    let plugs = both.places.clone().map(|place| {
        let plug = |port| open(&format!("vde://{}[port={port}]", path_text(&place)));
        (1..=5).map(plug).collect::<Vec<_>>()
    });
    for line in [
        "vlan/create 10",
        "vlan/create 20",
        "port/setvlan 2 10",
        "port/setvlan 3 10",
        "vlan/addport 10 4",
        "vlan/addport 20 4",
        "port/setvlan 5 20",
        "vlan/addport 10 5",
    ] {
        both.say(line);
    }
    for (from, to, tag) in [
        (0, 255, None),
        (0, 255, Some(0)),
        (0, 255, Some(10)),
        (0, 255, Some(77)),
        (1, 255, None),
        (1, 255, Some(10)),
        (1, 255, Some(0)),
        (3, 255, Some(10 | 5 << 13)),
        (3, 255, Some(20)),
        (3, 255, None),
        (4, 255, None),
        (4, 255, Some(10)),
        (2, 4, None),
        (2, 2, None),
        (2, 1, None),
        (2, 3, None),
        (3, 3, Some(10)),
    ] {
        let source = u8::try_from(from + 1).expect("small");
        let frame = tagged(to, source, tag);
        let [theirs, ours] = plugs.each_ref().map(|plugs| passes(plugs, from, &frame));
        assert_eq!(ours, theirs, "ours, then theirs: from {from} to {to}, tag {tag:?}");
    }
}

#[test]
fn a_port_that_is_closed_ends_its_plug_and_counts_what_passed() {
    let directory = directory();
    let place = beside(&directory, "sw");
    let switch = ManagedSwitch::start(SwitchSettings::new(&place)).expect("a switch");
    let left = open(&format!("vde://{}[port=1]", path_text(&place)));
    let right = switch.plug(Some(2), "test", "the right one").expect("a port");
    send(&left, &common::frame(255, 1, b"one"));
    send(&left, &common::frame(255, 1, b"last"));
    assert_eq!(receive_until(&right, &common::frame(255, 1, b"last")).len(), 1);
    let text = switch.execute("port/print 2").to_string();
    assert!(text.contains(" OUT: pkts          2          bytes                  120\n"), "{text}");
    assert!(text.contains("module test        : the right one\n"), "{text}");
    let text = switch.execute("port/print 1").to_string();
    let id = text.split("endpoint ID ").nth(1).and_then(|rest| rest.split(' ').next());
    assert_eq!(switch.execute(&format!("port/epclose 1 {}", id.expect("an id"))).status(), 0);
    assert_eq!(switch.execute("port/print 1").status(), libc::ENXIO);
    common::wait_for(&left, "the loss of the carrier", || {
        left.receive(&mut std::collections::VecDeque::new(), 1).expect("a plug that comes again");
        (!left.carrier()).then_some(())
    });
}

#[test]
fn a_directory_of_a_dead_switch_is_taken_over_and_a_live_one_is_not() {
    let directory = directory();
    let place = beside(&directory, "sw");
    let socket = beside(&directory, "m");
    let first = ManagedSwitch::start(SwitchSettings::new(&place)).expect("a switch");
    let console = Console::listen(&first, &socket, 0o640, None).expect("a socket");
    let error = ManagedSwitch::start(SwitchSettings::new(&place)).expect_err("a live switch");
    assert!(error.to_string().contains("another switch works there"), "{error}");
    let other = ManagedSwitch::start(SwitchSettings::new(beside(&directory, "other")));
    let other = other.expect("a switch");
    let error = Console::listen(&other, &socket, 0o600, None).expect_err("a live socket");
    assert!(error.to_string().contains("another switch has its management"), "{error}");
    drop((console, first));
    wait_for_removal(&place);
    assert!(!socket.exists());
    std::fs::write(&socket, "").expect("a file");
    let error = Console::listen(&other, &socket, 0o600, None).expect_err("a file");
    assert!(error.to_string().contains("something else"), "{error}");
    assert!(socket.exists());
    if installed("vde_switch") {
        drop(vde_switch(&place));
        assert!(place.join("ctl").exists(), "what a killed switch leaves");
        ManagedSwitch::start(SwitchSettings::new(&place)).expect("a switch");
    }
}

#[test]
fn nobody_has_to_ask_in_one_piece_and_nobody_can_ask_too_much() {
    let directory = directory();
    let socket = beside(&directory, "m");
    let settings = SwitchSettings::new(beside(&directory, "sw"));
    let switch = ManagedSwitch::start(settings).expect("a switch");
    let _console = Console::listen(&switch, &socket, 0o600, None).expect("a socket");
    let mut talk = Talk::begin(&socket);
    talk.0.write_all(b"port/sh").expect("a listener");
    assert!(talk.say("owinfo\nvlan/create 7").contains("Numports=32\n"));
    assert_eq!(talk.hear(), "1000 Success\n\nvde$ ");
    let mut flood = UnixStream::connect(&socket).expect("a listener");
    let _ = flood.write_all(&[b'x'; 100_000]);
    let mut rest = Vec::new();
    let _ = flood.read_to_end(&mut rest);
    assert!(talk.say("vlan/create 7").starts_with("1017 "), "the others go on");
}
