//! Two hundred lost connections of each kind leave descriptors, threads, processes and files as
//! they were.

mod common;

use std::{
    collections::VecDeque,
    fs,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use common::{Running, beside, directory, in_private_network, open, path_text, wait_for};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept, bind, listen, socket,
};
use vdeplug::Transport;

const ROUNDS: u32 = 200;

/// What a process has that may leak.
#[derive(Debug, PartialEq, Eq)]
struct Possessions {
    descriptors: usize,
    threads: usize,
    files: usize,
}

impl Possessions {
    fn count(folder: &Path) -> Self {
        let entries = |path: &Path| fs::read_dir(path).map_or(0, Iterator::count);
        Self {
            descriptors: entries(Path::new("/proc/self/fd")),
            threads: entries(Path::new("/proc/self/task")),
            files: entries(folder) + entries(&folder.join("sw")),
        }
    }
}

/// A plug and a clock that runs ahead, so that nobody waits for the next try.
struct Subject {
    plug: Arc<dyn Transport>,
    now: Instant,
}

impl Subject {
    fn new(plug: Arc<dyn Transport>) -> Self {
        Self { plug, now: Instant::now() }
    }

    fn wait_for_carrier(&mut self, wanted: bool) {
        let mut frames = VecDeque::new();
        wait_for(&self.plug, "the carrier", || {
            if self.plug.carrier() != wanted {
                self.plug.receive(&mut frames, 64).expect("a plug that reconnects");
            }
            if wanted && !self.plug.carrier() {
                self.now += Duration::from_secs(60);
                self.plug.tick(self.now);
            }
            (self.plug.carrier() == wanted).then_some(())
        });
    }
}

/// Runs a round again and again; what the process has after the third it has after the last.
fn soak(what: &str, rounds: u32, folder: &Path, mut round: impl FnMut()) {
    (0..3).for_each(|_| round());
    let before = Possessions::count(folder);
    (0..rounds).for_each(|_| round());
    assert_eq!(Possessions::count(folder), before, "{what}");
}

#[test]
fn reconnections_leave_nothing_behind() {
    if !in_private_network("reconnections_leave_nothing_behind", "ip route add 239.0.0.0/8 dev lo")
    {
        return;
    }
    ports_of_a_switch();
    calls();
    cables();
    commands();
    sockets();
    taps();
    seats();
    openings();
}

fn ports_of_a_switch() {
    let directory = directory();
    let path = path_text(&beside(&directory, "sw"));
    let mut switch = Some(open(&format!("switch://{path}")));
    let mut port = Subject::new(open(&format!("wirefilter://[delay=1]{{vde://{path}}}")));
    soak("vde", ROUNDS, directory.path(), || {
        drop(switch.take());
        port.wait_for_carrier(false);
        switch = Some(open(&format!("switch://{path}")));
        port.wait_for_carrier(true);
    });
}

fn listener(path: &Path) -> OwnedFd {
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None);
    let listener = listener.expect("a socket");
    bind(listener.as_raw_fd(), &UnixAddr::new(path).expect("a short path")).expect("a path");
    listen(&listener, Backlog::new(4).expect("a small number")).expect("a listener");
    listener
}

fn calls() {
    let directory = directory();
    let path = beside(&directory, "socket");
    let listener = listener(&path);
    let mut caller = Subject::new(open(&format!("seqpacket://{}", path_text(&path))));
    soak("seqpacket", ROUNDS, directory.path(), || {
        let other = accept(listener.as_raw_fd()).expect("a caller");
        nix::unistd::close(other).expect("a socket");
        caller.wait_for_carrier(false);
        caller.wait_for_carrier(true);
    });
}

fn cables() {
    let directory = directory();
    let place = format!("ptp://{}", path_text(&beside(&directory, "cable")));
    let first = open(&place);
    let second = second_end(&place, &first);
    let mut ends = Some((first, Subject::new(second)));
    soak("ptp", ROUNDS, directory.path(), || {
        // Who listens goes, the other end takes its place, and a new one comes.
        let (first, mut second) = ends.take().expect("two ends");
        drop(first);
        second.wait_for_carrier(false);
        second.now += Duration::from_secs(60);
        second.plug.tick(second.now);
        let next = second_end(&place, &second.plug);
        ends = Some((second.plug, Subject::new(next)));
    });
}

/// Opens the second end of a cable, which waits until the first one answers.
fn second_end(place: &str, first: &Arc<dyn Transport>) -> Arc<dyn Transport> {
    let opening = std::thread::spawn({
        let place = place.to_owned();
        move || open(&place)
    });
    let mut frames = VecDeque::new();
    wait_for(first, "the other end", || {
        first.receive(&mut frames, 1).expect("a live plug");
        first.carrier().then_some(())
    });
    opening.join().expect("the second end")
}

fn commands() {
    let directory = directory();
    let plug = open("cmd://true");
    let (mut frames, mut now) = (VecDeque::new(), Instant::now());
    soak("cmd", ROUNDS, directory.path(), || {
        // Each command ends at once, and is started again when its time has come.
        wait_for(&plug, "the end of the command", || {
            plug.receive(&mut frames, 64).expect("a plug that reconnects");
            plug.send(&mut vec![vdeplug::Frame::from(vec![0; 60])]);
            (!plug.carrier()).then_some(())
        });
        now += Duration::from_secs(60);
        plug.tick(now);
        plug.tick(now);
    });
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).status();
    assert!(done.expect("ip").success(), "ip {arguments}");
}

fn sockets() {
    let directory = directory();
    let places = ["udp://4000->127.0.0.2:4000", "vxvde:///if=lo", "vxlan:///if=lo"];
    let mut plugs = places.map(|place| Subject::new(open(place)));
    soak("udp, vxvde, vxlan", ROUNDS, directory.path(), || {
        ip("link set lo down");
        plugs.iter_mut().for_each(|plug| plug.wait_for_carrier(false));
        ip("link set lo up");
        ip("route replace 239.0.0.0/8 dev lo");
        plugs.iter_mut().for_each(|plug| plug.wait_for_carrier(true));
    });
}

fn taps() {
    let directory = directory();
    let plug = match vdeplug::open("tap://test0", "test") {
        Ok(plug) => plug,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let mut tap = Subject::new(plug);
    ip("link set test0 up");
    soak("tap", ROUNDS, directory.path(), || {
        tap.wait_for_carrier(true);
        ip("link delete test0");
        tap.wait_for_carrier(false);
        while !Path::new("/proc/sys/net/ipv4/conf/test0").exists() {
            tap.now += Duration::from_secs(60);
            tap.plug.tick(tap.now);
        }
        ip("link set test0 up");
    });
}

/// A switch whose maker is another process, again and again; then it is ours for a moment.
fn seats() {
    let directory = directory();
    let path = beside(&directory, "sw");
    let mut round = || {
        let mut maker = Command::new(std::env::current_exe().expect("the test program"));
        maker.args(["--exact", "helper_that_keeps_a_switch", "--nocapture"]);
        maker.env("VDEPLUG_TEST_SWITCH", &path).stdout(std::process::Stdio::null());
        let maker = Running::start(&mut maker);
        common::wait_for_path(&path.join("ctl"));
        let mut seat = Subject::new(open(&format!("switch://{}", path_text(&path))));
        drop(maker);
        wait_for(&seat.plug, "the switch", || {
            seat.now += Duration::from_secs(60);
            seat.plug.tick(seat.now);
            let threads = fs::read_dir("/proc/self/task").expect("threads").flatten();
            let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
            let mut names = threads.filter_map(name);
            names.any(|name| name.trim() == "vde-switch").then_some(())
        });
        drop(seat);
        assert!(!path.exists());
    };
    soak("switch", ROUNDS / 10, directory.path(), &mut round);
}

#[test]
fn helper_that_keeps_a_switch() {
    let Some(path) = std::env::var_os("VDEPLUG_TEST_SWITCH") else { return };
    let _plug = open(&format!("switch://{}", path.to_string_lossy()));
    std::thread::sleep(Duration::from_secs(30));
}

/// What is opened and closed, or cannot be opened.
fn openings() {
    let directory = directory();
    let path = path_text(&beside(&directory, "sw"));
    let places = [
        format!("switch://{path}"),
        format!("wirefilter://[loss=5]{{hub://{path}}}"),
        format!("strict://{{multi://{path}}}"),
        format!("vde://{path}"),
        format!("ptp://{path}"),
        "udp://4000->127.0.0.2:4000".to_owned(),
        "vxvde:///if=lo".to_owned(),
        "cmd://cat".to_owned(),
        "tap://".to_owned(),
        "wirefilter://[loss=200]{null://}".to_owned(),
    ];
    soak("openings", ROUNDS, directory.path(), || {
        for place in &places {
            drop(vdeplug::open(place, "test"));
        }
    });
}
