//! What a guest sees of the hypervisor when it uses no virtual thing: nothing.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::harness::{EVERYWHERE, INSIDE, Place, run, scratch, succeed, umvu};

#[test]
fn the_exit_status_is_the_commands() {
    for place in EVERYWHERE {
        assert_eq!(run(place, "exit 0").status, Some(0), "{place:?}");
        assert_eq!(run(place, "exit 7").status, Some(7), "{place:?}");
    }
    for place in [Place::Transparent, Place::Armed, Place::Ptrace] {
        assert_eq!(run(place, "kill -TERM $$").status, Some(128 + 15), "{place:?}");
        assert_eq!(run(place, "kill -KILL $$").status, Some(128 + 9), "{place:?}");
    }
}

#[test]
fn an_unknown_command_is_127_with_one_line() {
    let output = Command::new(umvu()).args(["-N", "no-such-command"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(127));
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text, "umvu: no-such-command: command not found\n");
}

#[test]
fn programs_give_the_same_output_everywhere() {
    let scripts = [
        "printf 'b\\na\\n' | sort",
        "seq 1 20000 | md5sum",
        "for i in 1 2 3; do (echo $i) & wait; done",
        "find /usr/share/doc -maxdepth 1 -name 'b*' | sort | head",
        "cat /etc/passwd | cut -d: -f1 | sort | head -3; stat -c '%n %s %a' /etc/passwd",
        "cd /usr/bin && ls -l env | cut -c1-10; readlink -f /proc/self/exe | xargs basename",
        "python3 -c 'import threading\nr=[]\nt=[threading.Thread(target=r.append,args=(i,)) for i in range(20)]\n[x.start() for x in t]; [x.join() for x in t]; print(sorted(r))'",
        "python3 -c 'import subprocess; print(subprocess.run([\"echo\",\"hi\"],capture_output=True))'",
        "printf '#!/bin/sh\\necho script $1\\n' > $TMPDIR/s.$$; chmod +x $TMPDIR/s.$$; $TMPDIR/s.$$ x; rm $TMPDIR/s.$$",
    ];
    let folder = scratch("outputs");
    for script in scripts {
        let script = format!("export TMPDIR={}; {script}", folder.display());
        let native = run(Place::Native, &script);
        assert_eq!(native.status, Some(0), "{script}");
        for place in [Place::Transparent, Place::Armed, Place::Ptrace] {
            assert_eq!(run(place, &script), native, "{place:?}: {script}");
        }
    }
}

#[test]
fn all_descendants_are_waited_for() {
    for place in INSIDE {
        let out =
            succeed(place, "(sleep 0.3; echo late) & setsid sh -c 'sleep 0.2; echo daemon' &");
        assert!(out.contains("late") && out.contains("daemon"), "{place:?}: {out}");
    }
}

#[test]
fn a_signal_storm_never_interrupts_what_linux_does_not_interrupt() {
    let script = "python3 -c '
import os, signal
count = 0
def handler(*_):
    global count
    count += 1
signal.signal(signal.SIGALRM, handler)
signal.siginterrupt(signal.SIGALRM, True)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(256)
bad = sum(libc.stat(b\"/etc/passwd\", buffer) != 0 for _ in range(20000))
signal.setitimer(signal.ITIMER_REAL, 0)
print(bad, count > 0)'";
    for place in EVERYWHERE {
        assert_eq!(succeed(place, script), "0 True\n", "{place:?}");
    }
}

#[test]
fn opening_and_listing_is_never_interrupted_but_a_fifo_is() {
    let script = r#"
        W=$(mktemp -d); mkdir "$W/real" "$W/memory" "$W/bound"
        trap '[ -z "$MODULES" ] || vuumount "$W/bound"; rm -rf "$W" 2>/dev/null' EXIT
        [ -z "$MODULES" ] || { vu_insmod $MODULES; vumount -t vufusemem none "$W/memory"
            vumount --bind "$W/real" "$W/bound"; }
        for dir in real memory bound; do
            mkdir -p "$W/$dir/sub"; : >> "$W/$dir/file"; [ -p "$W/$dir/fifo" ] || mkfifo "$W/$dir/fifo"
        done
        python3 - "$W" <<'END'
import ctypes, errno, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
count = 0
def handler(*_):
    global count
    count += 1
signal.signal(signal.SIGALRM, handler)
signal.siginterrupt(signal.SIGALRM, True)
signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
buffer = ctypes.create_string_buffer(4096)
bad = {}
def check(name, result):
    if result < 0:
        bad[name, errno.errorcode[ctypes.get_errno()]] = True
    return result
for _ in range(150):
    for place in ("real", "memory", "bound"):
        for name in (".", "sub", "file", "fifo"):
            path = f"{sys.argv[1]}/{place}/{name}".encode()
            check(f"stat {place}/{name}", libc.stat(path, buffer))
            fd = check(f"open {place}/{name}", libc.open(path, os.O_RDONLY | os.O_NONBLOCK))
            check(f"fstat {place}/{name}", libc.fstat(fd, buffer))
            if name in (".", "sub"):
                check(f"getdents {place}/{name}", libc.syscall(217 if os.uname().machine == "x86_64" else 61, fd, buffer, 4096))
            libc.close(fd)
    check("open /dev/null", fd := libc.open(b"/dev/null", os.O_RDONLY))
    libc.close(fd)
print(bad, count > 0)
for place in ("real", "memory", "bound"):
    path = f"{sys.argv[1]}/{place}/fifo".encode()
    print(libc.open(path, os.O_RDONLY), errno.errorcode[ctypes.get_errno()])
signal.setitimer(signal.ITIMER_REAL, 0)
END"#;
    // Without mountreal the bind mount is the kernel's.
    let places = [
        (Place::Native, ""),
        (Place::Armed, "vufuse mountreal"),
        (Place::Armed, "vufuse"),
        (Place::Ptrace, "vufuse mountreal"),
    ];
    for (place, modules) in places {
        let mounts = format!("MODULES='{modules}'\n");
        let expected = "{} True\n-1 EINTR\n-1 EINTR\n-1 EINTR\n";
        assert_eq!(succeed(place, &format!("{mounts}{script}")), expected, "{place:?}");
    }
}

#[test]
fn killing_the_hypervisor_leaves_no_guest_and_no_file() {
    for mode in [&["-N"][..], &["-N", "-S"]] {
        for delay in [1, 5, 10, 20, 50, 100, 150] {
            let marker = format!("31.{}{delay}", std::process::id());
            let script = format!(
                "for i in 1 2 3 4 5; do (sleep {marker} & exec sleep {marker}) & done; \
                 setsid sleep {marker} & wait"
            );
            let mut child = Command::new(umvu())
                .args(mode)
                .args(["-m", "vunet", "bash", "-c", &script])
                .stderr(Stdio::null())
                .spawn()
                .expect("umvu runs");
            sleep(Duration::from_millis(delay));
            child.kill().expect("it can be killed");
            assert_eq!(child.wait().expect("it ends").signal(), Some(9));
            let begun = Instant::now();
            while is_running(&marker) {
                assert!(begun.elapsed() < Duration::from_secs(20), "a guest lives on: {marker}");
                sleep(Duration::from_millis(10));
            }
        }
    }
    assert_eq!(run(Place::Armed, "true").status, Some(0));
}

fn is_running(marker: &str) -> bool {
    let entries = std::fs::read_dir("/proc").expect("proc is mounted");
    entries.flatten().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").trim() == format!("sleep {marker}")
    })
}

#[test]
fn rings_do_not_slip_past_the_filter() {
    let script = "python3 -c '
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall(425, 8, 0), ctypes.get_errno())'";
    for place in INSIDE {
        assert_eq!(succeed(place, script), "-1 38\n", "{place:?}");
    }
}

#[test]
fn init_files_run_inside_before_the_command() {
    let folder = scratch("rc");
    let rc = folder.join("rc");
    std::fs::write(&rc, "#!/bin/sh\nvu_insmod vunet\necho rc\n").expect("writable");
    let command = |executable: bool| {
        let mode = if executable { 0o755 } else { 0o644 };
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&rc, permissions).expect("ours");
        let arguments = ["-f", rc.to_str().expect("text"), "vu_lsmod"];
        let output = Command::new(umvu()).args(arguments).output().expect("umvu runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(command(true), "rc\nvunet: vu virtual networking\n");
    assert_eq!(command(false), "");
}

#[test]
fn the_doctor_finds_that_umvu_works_here() {
    let output = Command::new(umvu()).arg("doctor").output().expect("umvu runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for name in ["seccomp", "umvu -S", "libvdeplug", "its plugins"] {
        let line = text.lines().find(|line| line.contains(name)).unwrap_or_default();
        assert!(line.starts_with("ok"), "{text}");
    }
}

#[test]
fn the_name_of_a_program_may_be_any_bytes() {
    let folder = scratch("names");
    let script = r#"
        name=$PWD/$'\xff\xc5'; cp $(readlink -f /bin/sh) "$name"
        "$name" -c 'vu_insmod vunet; umask 027; mkdir d; vu_lsmod; stat -c %a d; rmdir d'"#;
    for mode in [&["-N"][..], &["-N", "-S"]] {
        let mut command = Command::new(umvu());
        command.args(mode).args(["bash", "-c", script]).current_dir(&folder);
        let output = command.output().expect("umvu runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "vunet: vu virtual networking\n750\n");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{mode:?}");
    }
}
