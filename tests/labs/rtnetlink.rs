//! What rtnetlink(7) answers, message by message: the same as plain Linux does.

use crate::harness::{INSIDE, Place, on_two_fresh_hosts, with_hosts};

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
