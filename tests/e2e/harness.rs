//! Runs shell scripts natively and inside umvu, in both interception modes.

use std::{
    path::PathBuf,
    process::{Command, Output},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// Where a script runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Plain Linux.
    Native,
    /// umvu with no module.
    Transparent,
    /// umvu with vunet loaded.
    Armed,
    /// umvu -S with vunet loaded.
    Ptrace,
}

/// The two ways to intercept calls.
pub(crate) const INSIDE: [Place; 2] = [Place::Armed, Place::Ptrace];
/// Everywhere a program may run.
pub(crate) const EVERYWHERE: [Place; 4] =
    [Place::Native, Place::Transparent, Place::Armed, Place::Ptrace];

/// Two hosts, each with `lo` and `vde0`, all down, on one switch: `on_a` and `on_b` run a command
/// there, `$A` and `$B` are the words before a command in the background (so that `$!` is its own
/// pid). `$W` is a folder that goes away at the end.
const TWO_HOSTS: &str = r#"
W=$(mktemp -d); trap 'rm -rf "$W"' EXIT
vumount -t vunetioth -o "switch://$W/sw" smoltcp /dev/net/a || exit 90
vumount -t vunetioth -o "switch://$W/sw" smoltcp /dev/net/b || exit 90
A='vustack /dev/net/a'
B='vustack /dev/net/b'
on_a() { $A "$@"; }
on_b() { $B "$@"; }
"#;
/// The same of two kernel namespaces and a veth pair.
const TWO_NAMESPACES: &str = r#"
mount -t tmpfs none /run || exit 90
W=$(mktemp -d -p /run)
ip netns add b || exit 90
ip link add vde0 type veth peer name vde0 netns b || exit 90
A=
B='ip netns exec b'
on_a() { $A "$@"; }
on_b() { $B "$@"; }
"#;
/// Brings the links of both hosts up and gives them addresses of IPv4 and IPv6.
const CONFIGURE: &str = r#"
for host in a b; do
    [ $host = a ] && number=1 || number=2
    on_$host ip link set lo up &&
    on_$host ip addr add 10.0.0.$number/24 dev vde0 &&
    on_$host ip addr add fd00::$number/64 dev vde0 nodad &&
    on_$host ip link set vde0 up || exit 91
done
until_ok() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1)); [ $tries -lt 100 ] || { echo "gave up: $*" >&2; exit 92; }; sleep 0.1
    done
}
"#;

/// The program under test.
pub(crate) fn umvu() -> &'static str {
    env!("CARGO_BIN_EXE_umvu")
}

/// What a script did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Place {
    /// The words before a command that make it run in this place.
    pub(crate) fn prefix(self) -> &'static [&'static str] {
        const TRANSPARENT: &[&str] = &[env!("CARGO_BIN_EXE_umvu"), "-N"];
        const ARMED: &[&str] = &[env!("CARGO_BIN_EXE_umvu"), "-N", "-m", "vunet"];
        const PTRACE: &[&str] = &[env!("CARGO_BIN_EXE_umvu"), "-N", "-S", "-m", "vunet"];
        match self {
            Self::Native => &[],
            Self::Transparent => TRANSPARENT,
            Self::Armed => ARMED,
            Self::Ptrace => PTRACE,
        }
    }
}

/// Runs a shell script in a place; a script that hangs is ended after two minutes.
pub(crate) fn run(place: Place, script: &str) -> Done {
    run_after(place.prefix(), script)
}

fn run_after(prefix: &[&str], script: &str) -> Done {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "120"]).args(prefix);
    command.args(["bash", "-c", script]).env("LC_ALL", "C");
    command.output().expect("timeout(1) runs").into()
}

/// Runs a script that must succeed; returns what it printed.
#[track_caller]
pub(crate) fn succeed(place: Place, script: &str) -> String {
    expect_success(place, script, run(place, script))
}

#[track_caller]
fn expect_success(place: Place, script: &str, done: Done) -> String {
    assert_eq!(done.status, Some(0), "{place:?}: {script}\n{}{}", done.out, done.err);
    done.out
}

/// Runs a script on two fresh hosts; on plain Linux they are two namespaces.
pub(crate) fn on_two_fresh_hosts(place: Place, script: &str) -> Done {
    match place {
        Place::Native => run_after(&["unshare", "-rnm"], &format!("{TWO_NAMESPACES}{script}")),
        _ => run(place, &format!("{TWO_HOSTS}{script}")),
    }
}

/// Runs a script, which must succeed, on two hosts with addresses; returns what it printed.
#[track_caller]
pub(crate) fn on_two_hosts(place: Place, script: &str) -> String {
    let script = format!("{CONFIGURE}{script}");
    let done = on_two_fresh_hosts(place, &script);
    expect_success(place, &script, done)
}

/// Where scripts on two hosts can run: plain Linux too, if it lets us make namespaces.
pub(crate) fn with_hosts() -> Vec<Place> {
    static NAMESPACES: OnceLock<bool> = OnceLock::new();
    let namespaces = *NAMESPACES.get_or_init(|| {
        let script = format!("{TWO_NAMESPACES}on_b ip link");
        run_after(&["unshare", "-rnm"], &script).status == Some(0)
    });
    let native = namespaces.then_some(Place::Native);
    native.into_iter().chain(INSIDE).collect()
}

/// A path of its own for each caller, below the build's scratch folder.
pub(crate) fn scratch(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("{name}-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&path).expect("the build's folder is writable");
    path
}
