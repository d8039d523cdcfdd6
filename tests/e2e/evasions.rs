//! Ways by which a guest might slip out of the view, on purpose or not.

use crate::{
    guests::compiled,
    harness::{INSIDE, Place, run, succeed},
};

#[test]
fn every_child_is_inside_however_it_was_made() {
    let program = compiled("births").display().to_string();
    let native = succeed(Place::Native, &format!("{program} /etc/passwd"));
    assert_eq!(native.lines().count(), 13);
    assert_eq!(succeed(Place::Transparent, &format!("{program} /etc/passwd")), native);
    for place in INSIDE {
        let mount = "vumount -t vunetsmoltcp null:// /virtual/a";
        let script = format!("{mount} && exec {program} /virtual/a");
        assert_eq!(succeed(place, &script), native, "{place:?}");
    }
}

/// Two of them at a time, so that those who answer are kept from it now and then.
#[test]
fn what_a_handler_leaves_by_longjmp_is_written_to_by_nobody() {
    let program = compiled("leaves").display().to_string();
    let twice = |path: &str| format!("{program} {path} & {program} {path}; wait $!");
    let native = succeed(Place::Native, &twice("/etc/passwd"));
    assert_eq!(native, "0 spoilt, 0 wrong\n0 spoilt, 0 wrong\n");
    for place in INSIDE {
        let mount = "vu_insmod vufuse; vumount -t vufusemem none /virtual && echo >/virtual/a";
        let script = format!("{mount} || exit 90; {}", twice("/virtual/a"));
        assert_eq!(succeed(place, &script), native, "{place:?}");
    }
}

#[test]
fn descriptors_that_come_in_sideways_work() {
    let script = concat!("python3 ", env!("CARGO_MANIFEST_DIR"), "/tests/guests/sideways.py");
    let native = succeed(Place::Native, script);
    for place in INSIDE {
        let script = format!(
            "vumount -t vunetsmoltcp null:// /dev/net/a && on='vustack /dev/net/a' && \
             $on ip link set lo up && exec $on {script}"
        );
        assert_eq!(succeed(place, &script), native, "{place:?}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_of_other_abis_are_refused_and_reported() {
    let program = compiled("foreign").display().to_string();
    for place in INSIDE {
        let done = run(place, &program);
        assert_eq!(done.out, "int 0x80: ENOSYS\nx32: ENOSYS\n", "{place:?}");
        assert!(done.err.contains("system call 20 of another ABI is refused"), "{}", done.err);
        assert_eq!(done.err.lines().count(), 1, "{}", done.err);
    }
}

#[test]
fn the_memory_of_a_guest_stays_readable() {
    let script = "python3 -c '
import ctypes
libc = ctypes.CDLL(None)
print([libc.prctl(3), libc.prctl(4, 0), libc.prctl(3), libc.prctl(4, 7), libc.prctl(4, 1), libc.prctl(3)])'";
    let native = succeed(Place::Native, script);
    for place in INSIDE {
        assert_eq!(succeed(place, script), native, "{place:?}");
    }
}
