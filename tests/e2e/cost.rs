//! What a call of a guest costs the hypervisor, counted in its own system calls by strace(1).

use std::{
    fs,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::harness::{scratch, umvu};

const CALLS: u64 = 1000;

/// Counts the calls of the hypervisor's threads while a guest runs `count` rounds of a statement.
fn host_calls(name: &str, statement: &str, count: u64) -> u64 {
    let folder = scratch(name);
    let (ready, go, log) = (folder.join("ready"), folder.join("go"), folder.join("log"));
    let program = format!(
        "import os, socket, time\ns = socket.socket()\nopen('{}', 'w').close()\n\
         while not os.path.exists('{}'): time.sleep(0.1)\nfor _ in range({count}): {statement}\n",
        ready.display(),
        go.display()
    );
    fs::write(folder.join("program"), program).expect("scratch is writable");
    let script = format!(
        "vumount -t vunetsmoltcp null:// /dev/net/a && exec vustack /dev/net/a python3 {}",
        folder.join("program").display()
    );
    let mut guest = Command::new(umvu())
        .args(["-N", "-m", "vunet", "sh", "-c", &script])
        .spawn()
        .expect("umvu runs");
    wait_for("the guest", || ready.exists());
    let mut strace = Command::new("strace")
        .args(["-qfc", "-U", "calls", "-o"])
        .arg(&log)
        .args(["-p", &guest.id().to_string()])
        .stderr(Stdio::null())
        .spawn()
        .expect("strace runs");
    let traced = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", guest.id())).expect("it runs");
        tasks.flatten().all(|task| {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        })
    };
    wait_for("strace", traced);
    fs::write(&go, "").expect("scratch is writable");
    assert!(guest.wait().expect("it ends").success());
    assert!(strace.wait().expect("it ends").success());
    let text = fs::read_to_string(&log).expect("strace has written");
    let total = text.lines().find_map(|line| line.trim().strip_suffix(" total"));
    total.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no total: {text}"))
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "no sign of {what}");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_call_of_a_guest_takes_few_calls_of_the_host() {
    let none = host_calls("none", "pass", CALLS);
    // Taking the notification and answering it are two of them.
    let cases = [
        ("setsockopt", "s.setsockopt(6, 1, 1)", 4),
        ("getsockname", "s.getsockname()", 5),
        ("stat", "os.stat('/proc/self/status')", 3),
        // Guests judge such a path themselves after a while.
        #[cfg(target_arch = "x86_64")]
        ("short-cut", "os.stat('/etc/passwd')", 0),
        ("native", "os.getppid()", 0),
    ];
    for (name, statement, limit) in cases {
        let calls = host_calls(name, statement, CALLS).saturating_sub(none);
        // The waiting before and the event loop add a few calls in all.
        assert!(calls <= limit * CALLS + CALLS / 2, "{name}: {calls} for {CALLS}");
        assert!(calls >= limit * CALLS / 2, "{name}: {calls} for {CALLS}: was it trapped?");
    }
}
