//! `umvu doctor`: what this host allows, each with its remedy.
//!
//! Whatever can be tried is tried: interception and namespaces by running umvu itself.

use std::{
    env, fs,
    fs::OpenOptions,
    net::UdpSocket,
    path::Path,
    process::{Command, Output, Stdio},
};

use nix::sys::{
    resource::{Resource, getrlimit},
    socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket},
    utsname::uname,
};

use super::output;

/// Below these, labs of some size run into the limits.
const MANY_DESCRIPTORS: u64 = 4096;
const MANY_PROCESSES: u64 = 512;
/// The first kernel with the fast wake-up of notifications, and the first that works at all:
/// `SECCOMP_ADDFD_FLAG_SEND`.
const FAST: (u32, u32) = (6, 6);
const OLDEST: (u32, u32) = (5, 14);

/// What was found about one thing.
enum Finding {
    /// It works.
    Good(String),
    /// Something that not everybody needs is missing: what, and its remedy.
    Missing(String, &'static str),
    /// umvu does not work here: why, and its remedy.
    Broken(String, &'static str),
}

use Finding::{Broken, Good, Missing};

/// Looks at one thing.
type Check = fn() -> Finding;

/// Prints a line for each thing; the exit status is 1 when umvu does not work on this host.
pub(super) fn run() -> u8 {
    let checks: [(&str, Check); 12] = [
        ("kernel", kernel),
        ("ptrace", ptrace),
        ("seccomp", || trial(&["-N", "-m", "vunet"], "needed unless umvu -S is used")),
        ("umvu -S", || trial(&["-N", "-S", "-m", "vunet"], "see the line ptrace")),
        ("namespaces", namespaces),
        ("/dev/net/tun", tun),
        ("multicast", multicast),
        ("ping sockets", ping_sockets),
        ("libvdeplug", library),
        ("its plugins", plugins),
        ("limits", limits),
        ("private folder", private_folder),
    ];
    let mut status = 0;
    for (name, check) in checks {
        let (word, text, remedy) = match check() {
            Good(text) => ("ok", text, None),
            Missing(text, remedy) => ("missing", text, Some(remedy)),
            Broken(text, remedy) => {
                status = 1;
                ("broken", text, Some(remedy))
            }
        };
        output::print(&format!("{word:8} {name:15} {text}\n"));
        if let Some(remedy) = remedy {
            output::print(&format!("{:24} -> {remedy}\n", ""));
        }
    }
    status
}

fn kernel() -> Finding {
    let Ok(name) = uname() else {
        return Broken("uname(2) fails".to_owned(), "run umvu on Linux");
    };
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let text = format!("Linux {release}, {}", name.machine().to_string_lossy());
    if version < OLDEST {
        Broken(text, "use Linux 5.14 or newer; umvu -S may work")
    } else if version < FAST {
        Missing(text, "Linux 6.6 or newer answers a call of a guest several times faster")
    } else {
        Good(text)
    }
}

fn ptrace() -> Finding {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    match scope.as_deref().map(str::trim) {
        Ok("2") if !nix::unistd::geteuid().is_root() => Broken(
            "yama lets only administrators trace (ptrace_scope 2)".to_owned(),
            "as root: sysctl kernel.yama.ptrace_scope=1",
        ),
        Ok("3") => Broken(
            "yama forbids tracing until the next boot (ptrace_scope 3)".to_owned(),
            "set kernel.yama.ptrace_scope=1 in /etc/sysctl.d and reboot",
        ),
        Ok(scope) => Good(format!("yama ptrace_scope {scope}: children may be traced")),
        Err(_) => Good("no yama".to_owned()),
    }
}

/// Runs a command inside umvu.
fn inside(options: &[&str], command: &[&str]) -> Result<Output, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let mut run = Command::new(program);
    run.args(options).args(command).stdin(Stdio::null());
    let done = run.output().map_err(|error| error.to_string())?;
    if done.status.success() { Ok(done) } else { Err(last_line(&done)) }
}

fn last_line(done: &Output) -> String {
    let text = String::from_utf8_lossy(&done.stderr);
    let line = text.lines().rfind(|line| !line.trim().is_empty());
    line.map_or_else(|| done.status.to_string(), str::to_owned)
}

fn trial(options: &[&str], remedy: &'static str) -> Finding {
    // A call that an armed view answers itself, and a file that is the kernel's.
    let script = "vu_lsmod && test -d /";
    match inside(options, &["sh", "-c", script]) {
        Ok(done) if done.stdout.starts_with(b"vunet") => {
            Good("a command with vunet loaded runs".to_owned())
        }
        Ok(_) => Broken("a command ran, but its calls were not answered".to_owned(), remedy),
        Err(error) => Broken(error, remedy),
    }
}

fn namespaces() -> Finding {
    let script = "vumount -t vunetvdestack null:// /dev/net/doctor";
    match inside(&["-N", "-m", "vunet"], &["sh", "-c", script]) {
        Ok(_) => Good("a vdestack starts".to_owned()),
        Err(error) if error.contains("/dev/net/tun") => {
            Good("allowed; vdestack lacks only /dev/net/tun, see there".to_owned())
        }
        Err(error) => Missing(
            format!("no vdestack: {}", error.trim_start_matches("vumount: ")),
            "other stacks do not need it; as root: sysctl kernel.unprivileged_userns_clone=1 \
             kernel.apparmor_restrict_unprivileged_userns=0 user.max_user_namespaces=10000",
        ),
    }
}

fn tun() -> Finding {
    match OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => Good("may be opened".to_owned()),
        Err(error) => Missing(
            format!(
                "{}, needed by tap://; a vdestack does with veth interfaces instead",
                output::describe(&error)
            ),
            "as root: modprobe tun; chmod 666 /dev/net/tun",
        ),
    }
}

fn multicast() -> Finding {
    // Connecting a datagram socket asks for a route and sends nothing.
    let routed = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.connect("239.0.0.1:14789"));
    match routed {
        Ok(()) => Good("there is a route to 239.0.0.1".to_owned()),
        Err(error) => Missing(
            format!("{}, needed by vxvde://", output::describe(&error)),
            "as root: ip route add 224.0.0.0/4 dev INTERFACE",
        ),
    }
}

fn ping_sockets() -> Finding {
    match socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Icmp,
    ) {
        Ok(_) => Good("may be opened: pings leave slirp://".to_owned()),
        Err(error) => Missing(
            format!("{}, needed by pings through slirp://", error.desc()),
            "as root: sysctl net.ipv4.ping_group_range='0 2147483647'",
        ),
    }
}

fn library() -> Finding {
    if vdeplug::libvdeplug::is_installed() {
        Good("can be loaded: it joins networks that umvu has no transport for".to_owned())
    } else {
        Missing(
            "not installed, needed by pcap:// and schemes of others".to_owned(),
            "as root: apt-get install libvdeplug2 libvdeplug-pcap",
        )
    }
}

fn plugins() -> Finding {
    let plugins = vdeplug::libvdeplug::PLUGINS.map(|(scheme, _)| scheme);
    let (here, absent): (Vec<_>, Vec<_>) =
        plugins.iter().partition(|scheme| vdeplug::libvdeplug::has_plugin(scheme));
    let list = |schemes: &[&str]| match schemes {
        [] => "none".to_owned(),
        schemes => schemes.join(" "),
    };
    // slirp://, vlan:// and agno:// are umvu's own.
    if absent.contains(&"pcap") {
        let text = format!("installed: {}; not installed: {}", list(&here), list(&absent));
        Missing(text, "as root: apt-get install libvdeplug-NAME, for example libvdeplug-pcap")
    } else {
        Good(format!("installed: {}; not installed: {}", list(&here), list(&absent)))
    }
}

fn limits() -> Finding {
    let hard = |resource| getrlimit(resource).map_or(u64::MAX, |(_, hard)| hard);
    let (files, processes) = (hard(Resource::RLIMIT_NOFILE), hard(Resource::RLIMIT_NPROC));
    let show = |limit| if limit == u64::MAX { "unlimited".to_owned() } else { format!("{limit}") };
    let text = format!("open files {}, processes {}", show(files), show(processes));
    if files < MANY_DESCRIPTORS || processes < MANY_PROCESSES {
        Missing(text, "raise them for large labs (limits.conf(5)): each socket takes a descriptor")
    } else {
        Good(text)
    }
}

fn private_folder() -> Finding {
    let candidates = [env::var_os("XDG_RUNTIME_DIR"), Some("/dev/shm".into()), Some("/tmp".into())];
    let writable = |folder: &Path| nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK);
    let found = candidates.into_iter().flatten().find(|it| writable(Path::new(it)).is_ok());
    match found {
        Some(folder) => Good(format!("in {}", Path::new(&folder).display())),
        None => Broken(
            "no place for sockets and generated directories".to_owned(),
            "set XDG_RUNTIME_DIR to a folder of yours",
        ),
    }
}
