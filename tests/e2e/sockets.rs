//! Sockets as programs see them: the same script on plain Linux and on a stack's loopback.

use crate::{
    guests::compiled,
    harness::{INSIDE, Place, scratch, succeed},
};

/// Runs a script of `tests/guests` on plain Linux and on a stack; what it prints must be the same.
#[track_caller]
fn same_on_a_stack(script: &str) {
    let script = format!("python3 {}/tests/guests/{script}", env!("CARGO_MANIFEST_DIR"));
    let native = succeed(Place::Native, &script);
    for place in INSIDE {
        let inside = format!(
            "vumount -t vunetioth -o null://,ip=10.0.0.1/24 smoltcp /dev/net/a; \
             exec vustack /dev/net/a {script}"
        );
        assert_eq!(succeed(place, &inside), native, "{place:?}");
    }
}

#[test]
fn tcp_and_udp_behave_as_on_linux() {
    same_on_a_stack("sockets.py");
}

#[test]
fn corners_of_tcp_are_those_of_linux() {
    same_corners("exact.py");
}

#[test]
fn connections_go_through_the_same_states() {
    same_corners("exact_tcp.py");
}

#[test]
fn calls_on_tcp_sockets_are_checked_as_on_linux() {
    same_corners("exact_tcp_calls.py");
}

#[test]
fn sends_of_tcp_are_put_together_as_on_linux() {
    same_corners("exact_tcp_sends.py");
}

#[test]
fn urgent_data_is_told_apart_as_on_linux() {
    same_corners("exact_urgent.py");
}

#[test]
fn corners_of_udp_are_those_of_linux() {
    same_corners("exact_udp.py");
}

#[test]
fn options_and_messages_of_udp_are_those_of_linux() {
    same_corners("exact_udp_calls.py");
}

#[test]
fn groups_and_options_of_ip_are_those_of_linux() {
    same_corners_of("exact_udp_groups.py", &["4", "6", "mapped"]);
}

#[test]
fn corners_of_raw_and_packet_sockets_are_those_of_linux() {
    same_corners("exact_raw.py");
}

#[test]
fn netlink_sockets_are_bound_and_read_as_on_linux() {
    same_corners_of("exact_netlink.py", &["4"]);
}

/// Each line that a script prints about a corner of a protocol is the same on a stack, where it
/// may take its time.
#[track_caller]
fn same_corners(script: &str) {
    same_corners_of(script, &["4", "6"]);
}

#[track_caller]
fn same_corners_of(script: &str, ways: &[&str]) {
    for way in ways {
        let script = format!("python3 {}/tests/guests/{script} {way}", env!("CARGO_MANIFEST_DIR"));
        let native =
            succeed(Place::Native, &format!("unshare -rn sh -c 'ip link set lo up; {script}'"));
        let wanted = scratch("exact").join("wanted");
        std::fs::write(&wanted, &native).expect("writable");
        for place in INSIDE {
            let inside = format!(
                "vumount -t vunetsmoltcp null:// /dev/net/a && on='vustack /dev/net/a' && \
                 $on ip link set lo up && exec $on {script} {}",
                wanted.display()
            );
            assert_eq!(succeed(place, &inside), native, "{script} {place:?}");
        }
    }
}

#[test]
fn several_messages_go_by_one_call() {
    same_on_a_stack("messages.py");
}

#[test]
fn waits_are_interrupted_and_restarted_as_on_linux() {
    let program = compiled("signals").display().to_string();
    let native = succeed(Place::Native, &program);
    assert_eq!(native.lines().count(), 31, "{native}");
    for place in INSIDE {
        let inside = format!(
            "vumount -t vunetsmoltcp null:// /dev/net/a && on='vustack /dev/net/a' && \
             $on ip link set lo up && exec $on {program}"
        );
        assert_eq!(succeed(place, &inside), native, "{place:?}");
    }
}

#[test]
fn protocols_are_counted_as_on_linux() {
    same_with_lo_alone("counters.py");
}

#[test]
fn interfaces_and_scopes_of_groups_are_checked_as_on_linux() {
    same_with_lo_alone("groups.py");
}

#[test]
fn who_writes_to_sysctls_is_told_what_is_wrong() {
    same_with_lo_alone("sysctls.py");
}

/// Runs a script on plain Linux and on a stack with nothing but `lo` up.
#[track_caller]
fn same_with_lo_alone(script: &str) {
    let script = format!("python3 {}/tests/guests/{script}", env!("CARGO_MANIFEST_DIR"));
    let native =
        succeed(Place::Native, &format!("unshare -rn sh -c 'ip link set lo up; {script}'"));
    for place in INSIDE {
        let inside = format!(
            "vumount -t vunetsmoltcp null:// /dev/net/a && on='vustack /dev/net/a' && \
             $on ip link set lo up && exec $on {script}"
        );
        assert_eq!(succeed(place, &inside), native, "{place:?}");
    }
}
