//! Guests that mean harm: they get the errors of Linux, and the hypervisor outlives them.

use crate::harness::{INSIDE, Place, succeed};

/// A program of `tests/guests`.
fn guest(name: &str) -> String {
    format!("python3 {}/tests/guests/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Runs a command on a stack with 10.0.0.1; it must succeed. Returns what it printed.
#[track_caller]
fn on_a_stack(place: Place, command: &str) -> String {
    let script = format!(
        "vumount -t vunetioth -o null://,ip=10.0.0.1/24 smoltcp /dev/net/a && \
         exec vustack /dev/net/a {command}"
    );
    succeed(place, &script)
}

#[test]
fn bad_pointers_and_lengths_fail_as_on_linux() {
    let script = guest("pointers.py");
    let native = succeed(Place::Native, &script);
    for place in INSIDE {
        assert_eq!(on_a_stack(place, &script), native, "{place:?}");
    }
}
