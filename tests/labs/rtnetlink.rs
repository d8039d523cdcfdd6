//! What rtnetlink(7) answers, message by message: the same as plain Linux does.

use crate::harness::{INSIDE, Place, on_two_fresh_hosts, succeed, with_hosts};

#[test]
fn requests_are_answered_as_on_linux() {
    if !with_hosts().contains(&Place::Native) {
        return;
    }
    let script = concat!("$A python3 ", env!("CARGO_MANIFEST_DIR"), "/tests/guests/rtnetlink.py");
    // The other end has to be up for vde0 to have a carrier.
    let run = |place| {
        let up = if place == Place::Native { "on_b ip link set vde0 up; " } else { "" };
        on_two_fresh_hosts(place, &format!("{up}{script}"))
    };
    let native = run(Place::Native);
    assert_eq!(native.status, Some(0), "{}", native.err);
    let cases = native.out.lines().filter(|line| line.ends_with(':')).count();
    assert!(cases > 170, "{cases}");
    for place in INSIDE {
        let inside = run(place);
        assert_eq!(inside.out, native.out, "{place:?}: {}", inside.err);
    }
}

/// What a script of `tests/guests` prints in a fresh network is the same on a stack.
#[track_caller]
fn same_in_a_fresh_network(script: &str) {
    if !with_hosts().contains(&Place::Native) {
        return;
    }
    let script = format!("bash {}/tests/guests/{script}", env!("CARGO_MANIFEST_DIR"));
    let native = succeed(Place::Native, &format!("unshare -rn {script}"));
    for place in INSIDE {
        let inside =
            format!("vumount -t vunetsmoltcp none /dev/net/a && exec vustack /dev/net/a {script}");
        assert_eq!(succeed(place, &inside), native, "{place:?}");
    }
}

#[test]
fn policy_rules_choose_tables_as_on_linux() {
    same_in_a_fresh_network("rules.sh");
}

#[test]
fn cables_are_made_and_carry_frames_as_on_linux() {
    same_in_a_fresh_network("veth.sh");
}
