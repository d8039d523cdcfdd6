//! What the tests share: waiting without sleeping, frames, child processes, private networks.
#![allow(dead_code, clippy::allow_attributes, reason = "each test program uses a part")]

use std::{
    collections::VecDeque,
    io::{Read, Write},
    os::{
        fd::AsFd,
        unix::net::{UnixDatagram, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vdeplug::{Frame, Transport};

/// The end of all waiting; reached only when a test fails.
const FOREVER: Duration = Duration::from_secs(30);

/// A frame from station `from` to station `to` (255: all) with a payload.
pub(crate) fn frame(to: u8, from: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![if to == 255 { 0xff } else { 2 }; 6];
    bytes[1..].fill(if to == 255 { 0xff } else { to });
    bytes.extend([2, from, from, from, from, from, 0x88, 0xb5]);
    bytes.extend(payload);
    bytes.resize(bytes.len().max(60), 0);
    bytes
}

/// Waits until `condition` gives something, polling the plug meanwhile.
pub(crate) fn wait_for<T>(
    plug: &Arc<dyn Transport>,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + FOREVER;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "still waiting for {what}");
        let due = plug.tick(Instant::now());
        let left = due.map_or(10, |due| due.saturating_duration_since(Instant::now()).as_millis());
        let timeout = PollTimeout::from(u16::try_from(left.min(10)).unwrap_or(10));
        match plug.poll_fd() {
            Some(fd) => drop(poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout)),
            None => std::thread::yield_now(),
        }
    }
}

/// Receives one frame.
pub(crate) fn receive(plug: &Arc<dyn Transport>) -> Vec<u8> {
    let mut frames = VecDeque::new();
    wait_for(plug, "a frame", || {
        plug.receive(&mut frames, 1).expect("a live plug");
        frames.pop_front().map(|frame| frame.bytes)
    })
}

/// Receives frames until the one that ends a test's traffic; returns those before it.
pub(crate) fn receive_until(plug: &Arc<dyn Transport>, last: &[u8]) -> Vec<Vec<u8>> {
    let mut before = Vec::new();
    loop {
        match receive(plug) {
            bytes if bytes == last => return before,
            bytes => before.push(bytes),
        }
    }
}

/// Sends a frame now and then at `from` until a frame that fits comes to `to`: for networks of
/// which parts may not have started yet.
pub(crate) fn send_until<T>(
    from: &Arc<dyn Transport>,
    to: &Arc<dyn Transport>,
    bytes: &[u8],
    mut fits: impl FnMut(&[u8]) -> Option<T>,
) -> T {
    let mut frames = VecDeque::new();
    let mut next = Instant::now();
    wait_for(to, "an answer", || {
        if Instant::now() >= next {
            send(from, bytes);
            next = Instant::now() + Duration::from_millis(50);
        }
        to.receive(&mut frames, 64).expect("a live plug");
        frames.drain(..).find_map(|frame| fits(&frame.bytes))
    })
}

pub(crate) fn send(plug: &Arc<dyn Transport>, bytes: &[u8]) {
    plug.send(&mut vec![Frame::from(bytes.to_vec())]);
}

/// Opens a plug; a switch that has bound its socket may not listen yet.
pub(crate) fn open(vnl: &str) -> Arc<dyn Transport> {
    let begun = Instant::now();
    loop {
        match vdeplug::open(vnl, "test") {
            Ok(plug) => return plug,
            Err(error) if begun.elapsed().as_secs() >= 10 => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Whether a program is installed; says so if not.
pub(crate) fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(program).exists());
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// Waits until a path exists.
pub(crate) fn wait_for_path(path: &Path) {
    let end = Instant::now() + FOREVER;
    while !path.exists() {
        assert!(Instant::now() < end, "{} does not appear", path.display());
        std::thread::yield_now();
    }
}

/// Waits until a path is gone.
pub(crate) fn wait_for_removal(path: &Path) {
    let end = Instant::now() + FOREVER;
    while path.exists() {
        assert!(Instant::now() < end, "{} does not disappear", path.display());
        std::thread::yield_now();
    }
}

/// A child process, killed with this value.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory for sockets with a short path.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("vp").tempdir_in("/tmp").expect("a directory")
}

/// `vde_switch` on a directory of its own.
pub(crate) fn vde_switch(path: &Path) -> Running {
    vde_switch_with(path, &[])
}

/// The same, with options.
pub(crate) fn vde_switch_with(path: &Path, options: &[&str]) -> Running {
    let mut command = Command::new("vde_switch");
    command.args(options);
    // With a daemon's input it would end at once: it reads commands there.
    command.args(["-s".as_ref(), path.as_os_str()]).stdin(Stdio::piped()).stdout(Stdio::null());
    let running = Running::start(&mut command);
    wait_for_path(&path.join("ctl"));
    running
}

/// `vde_plug`, whose standard streams carry frames with a length before each.
pub(crate) struct VdePlug {
    pub(crate) process: Running,
    input: ChildStdin,
    output: ChildStdout,
}

impl VdePlug {
    pub(crate) fn start(vnl: &str) -> Self {
        let mut command = Command::new("vde_plug");
        command.arg(vnl);
        Self::run(command)
    }

    /// Runs a command that ends in `vde_plug`.
    pub(crate) fn run(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Running::start(&mut command);
        let input = process.0.stdin.take().expect("a pipe");
        let output = process.0.stdout.take().expect("a pipe");
        Self { process, input, output }
    }

    pub(crate) fn send(&mut self, frame: &[u8]) {
        let length = u16::try_from(frame.len()).expect("a frame's length");
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(frame);
        self.input.write_all(&bytes).expect("a running vde_plug");
    }

    pub(crate) fn receive(&mut self) -> Vec<u8> {
        let mut descriptors = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut descriptors, PollTimeout::from(30_000_u16));
        assert_eq!(ready, Ok(1), "vde_plug is silent");
        let mut length = [0; 2];
        self.output.read_exact(&mut length).expect("a running vde_plug");
        let mut frame = vec![0; usize::from(u16::from_be_bytes(length))];
        self.output.read_exact(&mut frame).expect("a running vde_plug");
        frame
    }

    /// Receives until a certain frame comes.
    pub(crate) fn expect(&mut self, frame: &[u8]) {
        while self.receive() != frame {}
    }

    /// Sends a frame again and again until `plug` receives it: then both are connected.
    pub(crate) fn greet(&mut self, plug: &Arc<dyn Transport>, hello: &[u8]) {
        let mut frames = VecDeque::new();
        wait_for(plug, "a greeting", || {
            self.send(hello);
            plug.receive(&mut frames, 64).expect("a live plug");
            frames.iter().any(|frame| frame.bytes == hello).then_some(())
        });
    }

    /// Whether frames wait to be received.
    pub(crate) fn is_readable(&self) -> bool {
        let mut descriptors = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
        poll(&mut descriptors, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

/// A client of a switch that knows nothing but the sockets of `vde_switch`.
pub(crate) struct PlainClient {
    _control: UnixStream,
    data: UnixDatagram,
}

impl PlainClient {
    pub(crate) fn join(switch: &Path) -> Self {
        let mut control = UnixStream::connect(switch.join("ctl")).expect("a switch");
        let path = switch.join(".plain");
        let data = UnixDatagram::bind(&path).expect("a directory to write to");
        let mut request = [0xfeed_face_u32, 3, 0].map(u32::to_ne_bytes).concat();
        let mut address = [&1_u16.to_ne_bytes(), path.as_os_str().as_encoded_bytes()].concat();
        address.resize(110, 0);
        request.extend(address);
        control.write_all(&request).expect("a switch");
        let mut reply = [0; 110];
        control.read_exact(&mut reply).expect("an address");
        let name = reply[2..].split(|byte| *byte == 0).next().expect("bytes");
        data.connect(std::str::from_utf8(name).expect("a path")).expect("a port");
        std::fs::remove_file(&path).expect("our own");
        data.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        Self { _control: control, data }
    }

    pub(crate) fn receive(&self) -> Vec<u8> {
        let mut bytes = [0; 10_000];
        let length = self.data.recv(&mut bytes).expect("a frame");
        bytes[..length].to_vec()
    }
}

/// Runs one test of this program again in a private network with the loopback up; returns
/// whether this is already that run.
pub(crate) fn in_private_network(test: &str, setup: &str) -> bool {
    const MARK: &str = "VDEPLUG_TEST_IN_PRIVATE_NETWORK";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let program = std::env::current_exe().expect("the test program");
    let script = format!("ip link set lo up; {setup}; exec \"$0\" --exact {test} --nocapture");
    let probe = Command::new("unshare").args(["-Urn", "true"]).status();
    if !probe.is_ok_and(|status| status.success()) || !installed("ip") {
        eprintln!("skipped: no private network can be made here");
        return false;
    }
    let mut command = Command::new("unshare");
    command.args(["-Urn", "sh", "-c", &script]).arg(program).env(MARK, "1");
    let status = command.status().expect("unshare");
    assert!(status.success(), "{test} failed in its private network");
    false
}

pub(crate) fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

pub(crate) fn beside(directory: &tempfile::TempDir, name: &str) -> PathBuf {
    directory.path().join(name)
}

/// The station that asks and pings in tests of networks with a host on them.
pub(crate) const STATION: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// A question of [`STATION`] at `own`: who has `wanted`?
pub(crate) fn arp_question(own: [u8; 4], wanted: [u8; 4]) -> Vec<u8> {
    let packet = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &STATION, &own, &[0; 6], &wanted].concat();
    [&[0xff; 6][..], &STATION, &[8, 6], &packet].concat()
}

/// Returns the address in an answer to it.
pub(crate) fn arp_answer(bytes: &[u8], wanted: [u8; 4]) -> Option<[u8; 6]> {
    let answer = bytes.get(20..32)?;
    let fits = bytes[12..14] == [8, 6] && answer[..2] == [0, 2] && answer[8..] == wanted;
    fits.then(|| answer[2..8].try_into().expect("six bytes"))
}

/// Finds the station that has `host`, and pings it with packets of several sizes.
pub(crate) fn exchange_pings(plug: &Arc<dyn Transport>, own: [u8; 4], host: [u8; 4]) {
    let question = arp_question(own, host);
    let station = send_until(plug, plug, &question, |bytes| arp_answer(bytes, host));
    for (number, length) in [(1, 10), (2, 1000), (3, 1472)] {
        let payload: Vec<u8> = (0..=255_u8).cycle().take(length).collect();
        let mut ping = Vec::new();
        etherparse::PacketBuilder::ethernet2(STATION, station)
            .ipv4(own, host, 64)
            .icmpv4_echo_request(7, number)
            .write(&mut ping, &payload)
            .expect("a packet");
        let echo = send_until(plug, plug, &ping, |bytes| {
            let reply = bytes.get(34..42)?;
            let ours = [&[0, 7][..], &number.to_be_bytes()].concat();
            (bytes[26..30] == host && reply[0] == 0 && reply[4..] == ours)
                .then(|| bytes[42..42 + length].to_vec())
        });
        assert_eq!(echo, payload);
    }
}
