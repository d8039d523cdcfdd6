//! The commands: messages, exit statuses, and the system-call interface they share with VUOS.

use std::{os::unix::process::CommandExt, process::Command};

use crate::harness::{INSIDE, Place, run, succeed, umvu};

/// Runs a command outside umvu, under its own name.
fn outside(name: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(umvu()).arg0(name).args(arguments).output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn outside_umvu_commands_say_what_they_need() {
    let message = "This is a VUOS command.It works only inside a vuos virtual namespace\n";
    for (name, arguments) in [
        ("vu_lsmod", &[][..]),
        ("vu_insmod", &["vunet"]),
        ("vu_rmmod", &["vunet"]),
        ("vumount", &["-t", "vunetnull", "none", "/dev/net/null"]),
        ("vuumount", &["/dev/net/null"]),
        ("vudebug", &[]),
    ] {
        let (status, text) = outside(name, arguments);
        assert_eq!(status, Some(2), "{name}");
        assert!(text.starts_with(message) && text.contains("Usage"), "{name}: {text}");
    }
    let (status, text) = outside("vustack", &["/dev/net/null", "true"]);
    assert_eq!((status, text.as_str()), (Some(1), "vustack is a vuos command\n"));
}

#[test]
fn vuname_is_uname_outside() {
    let ours = Command::new(umvu()).arg0("vuname").arg("-srm").output().expect("it runs");
    let theirs = Command::new("uname").arg("-srm").output().expect("it runs");
    assert_eq!(ours.stdout, theirs.stdout);
}

#[test]
fn modules_are_loaded_listed_and_unloaded() {
    let script = "vu_lsmod; vu_insmod vunet; vu_lsmod; vu_insmod vunet; echo $?; vu_rmmod vunet; \
                  vu_lsmod; vu_rmmod vunet; echo $?; vu_insmod nothing; echo $?; \
                  vu_insmod -p vunet; vu_rmmod vunet; echo $?";
    let done = run(Place::Transparent, script);
    assert_eq!(done.out, "vunet: vu virtual networking\n1\n1\n1\n1\n");
    assert!(done.err.contains("vunet: already loaded"), "{}", done.err);
    assert!(done.err.contains("vunet: not loaded"), "{}", done.err);
    assert!(done.err.contains("nothing: no such module"), "{}", done.err);
    assert!(done.err.contains("vunet: loaded permanently"), "{}", done.err);
}

#[test]
fn a_call_right_after_the_one_that_arms_the_view_is_answered() {
    let many =
        format!("for n in $(seq 100); do {} sh -c 'vu_insmod vunet vudev' || exit; done", umvu());
    assert_eq!(run(Place::Native, &many).err, "");
}

#[test]
fn a_mount_without_its_module_names_the_module() {
    let done = run(
        Place::Transparent,
        "vu_insmod vunet; vu_rmmod vunet; vumount -t vunetnull none /dev/net/null",
    );
    assert_eq!(done.status, Some(1));
    assert!(done.err.contains("vu_insmod vunet"), "{}", done.err);
}

#[test]
fn bad_mounts_fail_with_one_line_and_leave_nothing() {
    for (options, source, wanted) in [
        ("nonsense", "smoltcp", "nonsense"),
        ("foo://bar", "smoltcp", "foo"),
        ("vde:///no/such/switch", "smoltcp", "/no/such/switch"),
        ("ip=10.0.0.300/24", "smoltcp", "10.0.0.300"),
        ("null://,mac=zz", "smoltcp", "zz"),
        ("null://", "nosuchstack", "nosuchstack"),
    ] {
        for place in INSIDE {
            let script = format!(
                "vumount -t vunetioth -o {options} {source} /dev/net/x; echo $?; ls /dev/net"
            );
            let done = run(place, &script);
            assert!(done.out.starts_with("1\n") && !done.out.contains('x'), "{place:?} {done:?}");
            assert!(done.err.contains(wanted), "{place:?} {options}: {}", done.err);
            assert_eq!(done.err.lines().count(), 1, "{}", done.err);
        }
    }
}

#[test]
fn stacks_are_nodes_with_mode_owner_and_type() {
    for place in INSIDE {
        let script = "vumount -t vunetnull none /dev/net/null; stat -c '%f %h %n' /dev/net/null; \
                      chmod 700 /dev/net/null; stat -c %f /dev/net/null; ls /dev/net | grep null; \
                      vumount -t vunetnull none /dev/net/null; echo $?; \
                      vuumount /dev/net/null; echo $?; test -e /dev/net/null; echo $?";
        let done = run(place, script);
        assert_eq!(
            done.out, "e1ff 1 /dev/net/null\ne1c0\nnull\n1\n0\n1\n",
            "{place:?} {}",
            done.err
        );
    }
}

#[test]
fn a_stack_in_use_is_busy_until_forced() {
    for place in INSIDE {
        let script = "vumount -t vunetnull none /dev/net/null; vustack /dev/net/null sleep 60 & \
                      sleep 0.5; vuumount /dev/net/null; echo $?; vuumount -f /dev/net/null; echo $?; kill %1";
        let done = run(place, script);
        assert_eq!(done.out, "1\n0\n", "{place:?} {}", done.err);
        assert!(done.err.contains("in use by 0 sockets and 1 processes"), "{}", done.err);
    }
}

#[test]
fn vustack_chooses_families_and_shows_them() {
    for place in INSIDE {
        let script = "vumount -t vunetnull none /dev/net/n; \
                      vustack /dev/net/n vustack --show; \
                      vustack -f inet6 /dev/net/n vustack --show; \
                      vustack -o +ip,-ipv6 /dev/net/n vustack --show; \
                      vustack /dev/net/n vustack kernel vustack --show";
        let all = "inet(2) /dev/net/n\ninet6(10) /dev/net/n\nnetlink(16) /dev/net/n\npacket(17) /dev/net/n\n";
        let six = "inet(2) kernel\ninet6(10) /dev/net/n\nnetlink(16) kernel\npacket(17) kernel\n";
        let not_six =
            "inet(2) /dev/net/n\ninet6(10) kernel\nnetlink(16) /dev/net/n\npacket(17) /dev/net/n\n";
        let none = "inet(2) kernel\ninet6(10) kernel\nnetlink(16) kernel\npacket(17) kernel\n";
        assert_eq!(succeed(place, script), [all, six, not_six, none].concat(), "{place:?}");
    }
}

#[test]
fn vustack_reports_what_went_wrong() {
    for place in INSIDE {
        let script = "vustack /etc/passwd true; echo $?; vustack /no/where true; echo $?; \
                      vumount -t vunetnull none /dev/net/n; vustack /dev/net/n no-such-command; echo $?; \
                      vustack /dev/net/n sh -c 'exit 5'; echo $?";
        let done = run(place, script);
        assert_eq!(done.out, "1\n1\n127\n5\n", "{place:?} {}", done.err);
    }
}

#[test]
fn the_view_has_a_name() {
    let output = Command::new(umvu())
        .args(["-N", "-V", "lab", "sh", "-c", "vuname -V; vuname -P; vuname other; vuname -V"])
        .output()
        .expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "lab\nlab\nother\n");
}

#[test]
fn a_program_written_for_the_vuos_interface_works() {
    // The numbers, tags and layouts of vulib.h, from a program that knows nothing of ours.
    let script = r#"python3 -c '
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    value = libc.syscall(*args)
    return value if value >= 0 else -ctypes.get_errno()
print("inside", call(-4, 1, None))
info = ctypes.create_string_buffer(8 * 65)
print("info", call(-4, 1, info), info.raw[:65].split(b"\0")[0].decode(), info.raw[6 * 65:7 * 65].split(b"\0")[0].isdigit())
print("again", call(-1, b"vunet", 0))
size = call(-3, None, 0)
text = ctypes.create_string_buffer(size)
print("lsmod", size, call(-3, text, size), text.value.decode().strip())
print("mount", libc.mount(b"none", b"/dev/net/vuos", b"vunetnull", 0, b""))
print("type", oct(os.stat("/dev/net/vuos").st_mode & 0o170000))
print("msocket", call(-5, b"/dev/net/vuos", 2, 1, 0), call(-5, b"/dev/net/vuos", 2, 0, 0), call(-5, None, 2, 1, 0))
print("unknown", call(-4, 9999, 0), call(-6))
'"#;
    let wanted = "inside 0\ninfo 0 Linux True\nagain -17\nlsmod 30 30 vunet: vu virtual networking\n\
                  mount 0\ntype 0o160000\nmsocket -97 0 -97\nunknown -22 -38\n";
    for place in INSIDE {
        assert_eq!(succeed(place, script), wanted, "{place:?}");
    }
}

#[test]
fn debug_tags_make_lines_for_the_view_or_for_one_command() {
    for place in INSIDE {
        let done =
            run(place, "vudebug p:r -- sh -c 'vudebug; ls -d /proc/net'; vudebug; ls -d /proc/net");
        assert_eq!(done.status, Some(0), "{place:?}: {}", done.err);
        assert_eq!(done.out, "p -(+)PATH\n/proc/net\n/proc/net\n", "{place:?}");
        assert_eq!(done.err, "", "{place:?}: nothing is virtual");
        let done = run(
            place,
            "vudebug +N:g; vumount -t vunetsmoltcp null:// /dev/net/a; vudebug -N; \
             vuumount /dev/net/a; vudebug",
        );
        let line = " VUNET mount.rs:";
        assert_eq!(done.err.matches(line).count(), 1, "{place:?}: {}", done.err);
        assert!(done.err.starts_with("\x1b[32m") && done.err.ends_with(": done\x1b[0m\n"));
    }
}
