//! `kill -9` of the hypervisor at any instant of a lab: no guest lives on, and the next umvu clears
//! what was left.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::{scope, sleep},
    time::{Duration, Instant},
};

use crate::harness::{scratch, umvu};

/// How many instants are tried; UMVU_KILLS says otherwise.
const INSTANTS: u32 = 40;
/// The latest instant: the lab is about over by then.
const LAST: Duration = Duration::from_millis(1200);
const WORKERS: u32 = 4;

/// Two hosts on a switch, one that joins it as from outside, traffic, processes that come and go.
const LAB: &str = r#"
vumount -t vunetioth -o "switch://$W/sw,ip=10.0.0.1/24" smoltcp /dev/net/a
vumount -t vunetioth -o "switch://$W/sw,ip=10.0.0.2/24" smoltcp /dev/net/b
vumount -t vunetioth -o "vde://$W/sw" smoltcp /dev/net/c
vustack /dev/net/c sh -c 'ip addr add 10.0.0.3/24 dev vde0; ip link set vde0 up'
vustack /dev/net/a ping -c 1 -W 1 10.0.0.2 &
vustack /dev/net/c ping -c 1 -W 1 10.0.0.1 &
vustack /dev/net/b python3 -c 'import socket
listener = socket.socket(); listener.bind(("10.0.0.2", 80)); listener.listen()
datagram = socket.socket(type=socket.SOCK_DGRAM); datagram.bind(("10.0.0.2", 53))
while True: listener.accept()' &
for i in 1 2 3 4; do (setsid sleep 77 & sleep 77) & done
vustack /dev/net/a python3 -c 'import socket
while True:
    try: socket.create_connection(("10.0.0.2", 80), 1).close()
    except OSError: pass' &
vuumount /dev/net/c
while :; do vumount -t vunetnull none /dev/net/n; (exit 1); vuumount /dev/net/n; done
"#;

#[test]
fn a_hypervisor_killed_at_any_instant_leaves_nothing() {
    let instants = std::env::var("UMVU_KILLS").ok().and_then(|text| text.parse().ok());
    let instants = instants.unwrap_or(INSTANTS);
    let next = AtomicU32::new(0);
    scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= instants {
                        break;
                    }
                    // Spread evenly, in an order that mixes early and late ones.
                    let part = f64::from(number * 7919 % instants) / f64::from(instants);
                    Attempt::new(number).kill_after(LAST.mul_f64(part));
                }
            });
        }
    });
}

/// Not on plain Linux, where a guest has no hypervisor.
#[test]
fn a_guest_that_kills_its_hypervisor_ends_with_it() {
    let script = "(sleep 77 & setsid sleep 77) & \
                  kill -$SIGNAL $(sed -n 's/^TracerPid:[^0-9]*//p' /proc/self/status); sleep 77";
    for (number, signal) in (1000..).zip(["KILL", "TERM", "HUP", "ALRM", "ABRT"]) {
        let attempt = Attempt::new(number);
        let mut lab = attempt.command(&["-N"], script).env("SIGNAL", signal).spawn();
        let status = lab.as_mut().expect("umvu runs").wait().expect("it ends");
        assert!(!status.success(), "{signal}");
        attempt.expect_nothing_left(signal);
    }
}

/// One lab and its folder.
struct Attempt {
    number: u32,
    folder: PathBuf,
    marker: String,
}

impl Attempt {
    fn new(number: u32) -> Self {
        let folder = scratch("killed");
        let marker = format!("UMVU_KILLED={}", folder.display());
        fs::create_dir(folder.join("run")).expect("a new folder");
        Self { number, folder, marker }
    }

    fn kill_after(&self, delay: Duration) {
        let what = format!("instant {}: {delay:?}", self.number);
        let mode: &[&str] = if self.number % 4 == 3 { &["-N", "-S"] } else { &["-N"] };
        let mut lab = self.command(mode, LAB).spawn().expect("umvu runs");
        sleep(delay);
        lab.kill().expect("it can be killed");
        assert_eq!(lab.wait().expect("it ends").signal(), Some(9), "{what}");
        self.expect_nothing_left(&what);
    }

    /// No guest lives on, and another umvu finds a clear place.
    fn expect_nothing_left(&self, what: &str) {
        let begun = Instant::now();
        while let Some(guest) = self.guest() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}: lives on: {guest}");
            sleep(Duration::from_millis(5));
        }
        let again = r#"vumount -t vunetioth -o "switch://$W/sw" smoltcp /dev/net/a"#;
        let output = self.command(&["-N"], again).stderr(Stdio::piped()).output();
        let output = output.expect("umvu runs");
        assert!(output.status.success(), "{what}: {output:?}");
        let left = listing(&self.folder.join("run"));
        assert!(
            left.iter().all(|path| path.is_dir() && depth(path, &self.folder) == 2),
            "{what}: {left:?}"
        );
        assert!(!self.folder.join("sw").exists(), "{what}: {:?}", listing(&self.folder.join("sw")));
        fs::remove_dir_all(&self.folder).expect("ours");
    }

    fn command(&self, mode: &[&str], script: &str) -> Command {
        let (name, value) = self.marker.split_once('=').expect("it has one");
        let mut command = Command::new(umvu());
        command.args(mode).args(["-m", "vunet", "bash", "-c", script]);
        command.env("W", &self.folder).env("XDG_RUNTIME_DIR", self.folder.join("run"));
        command.env(name, value).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// A process that still has the marker in its environment.
    fn guest(&self) -> Option<String> {
        let entries = fs::read_dir("/proc").expect("proc is mounted");
        entries.flatten().map(|entry| entry.path()).find_map(|path| {
            let environment = fs::read(path.join("environ")).ok()?;
            let mut variables = environment.split(|byte| *byte == 0);
            variables.any(|one| one == self.marker.as_bytes()).then(|| {
                let line = fs::read(path.join("cmdline")).unwrap_or_default();
                format!("{} {}", path.display(), String::from_utf8_lossy(&line))
            })
        })
    }
}

/// All paths below a folder.
fn listing(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| std::iter::once(path.clone()).chain(listing(&path))).collect()
}

fn depth(path: &Path, folder: &Path) -> usize {
    path.strip_prefix(folder).map_or(0, |below| below.components().count())
}
