//! Guests that mean harm: they get the errors of Linux, and the hypervisor outlives them.

use std::process::Command;

use crate::harness::{INSIDE, Place, run, succeed};

/// A program of `tests/guests` and what it is told.
fn guest(program: &str, part: &str) -> String {
    format!("python3 {}/tests/guests/{program} {part}", env!("CARGO_MANIFEST_DIR"))
}

/// Mounts a stack with 10.0.0.1 and runs a command on it.
fn stacked(command: &str) -> String {
    format!(
        "vumount -t vunetioth -o null://,ip=10.0.0.1/24 smoltcp /dev/net/a && \
         exec vustack /dev/net/a {command}"
    )
}

/// Runs a part of a program natively and on stacks: it must print the same.
#[track_caller]
fn same_as_native(program: &str, part: &str) {
    let command = guest(program, part);
    let native = succeed(Place::Native, &command);
    for place in INSIDE {
        assert_eq!(succeed(place, &stacked(&command)), native, "{place:?}");
    }
}

#[test]
fn bad_pointers_and_lengths_fail_as_on_linux() {
    same_as_native("pointers.py", "");
}

#[test]
fn leaked_sockets_are_given_back() {
    same_as_native("hostile.py", "leak");
}

#[test]
fn a_fork_bomb_with_sockets_leaves_nothing() {
    same_as_native("hostile.py", "forks");
}

#[test]
fn guests_killed_in_the_midst_of_a_call_leave_nothing() {
    same_as_native("hostile.py", "killed");
}

#[test]
fn a_guest_can_neither_trace_nor_confuse_its_hypervisor() {
    same_as_native("hostile.py", "attacks");
}

#[test]
fn a_guest_that_forbids_to_be_looked_at_works() {
    same_as_native("hostile.py", "unreadable");
}

#[test]
fn what_nobody_reads_fills_no_memory() {
    same_as_native("hostile.py", "floods");
}

/// Not on plain Linux: nobody knows what the kernel would make of it.
#[test]
fn calls_with_any_arguments_are_survived() {
    for place in INSIDE {
        let text = succeed(place, &stacked(&guest("hostile.py", "calls")));
        assert_eq!(text, "still at it 4 returned True works True\n", "{place:?}");
    }
}

/// Not on plain Linux, where packet sockets are for root.
#[test]
fn rings_and_filters_of_any_kind_are_survived() {
    for place in INSIDE {
        let text = succeed(place, &stacked(&guest("hostile.py", "rings")));
        let wanted = "scribbled works True\nenough True\nrings True small True\nfilters works True\n\
                      returned True works True\n";
        assert_eq!(text, wanted, "{place:?}");
    }
}

/// Not by `umvu -S`: a call that is answered there never comes to the guest's filter.
#[test]
fn guests_may_have_filters_of_their_own() {
    let command = guest("hostile.py", "filters");
    let native = succeed(Place::Native, &command);
    assert_eq!(succeed(Place::Armed, &stacked(&command)), native);
}

/// Not on plain Linux, where nobody's descriptors run out.
#[test]
fn guests_get_clean_errors_when_the_descriptors_of_the_hypervisor_run_out() {
    let command = stacked(&guest("hostile.py", "scarce"));
    for place in INSIDE {
        let mut limited = Command::new("bash");
        limited.args(["-c", "ulimit -n 64; exec timeout --kill-after=5 60 \"$@\"", "limited"]);
        let output = limited.args(place.prefix()).args(["bash", "-c", &command]).output();
        let output = output.expect("bash runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text, "answers {'.'} refused True\nworks True\n", "{place:?} {output:?}");
    }
}

/// Not on plain Linux, which has no such mounts.
#[test]
fn mounts_that_wait_hold_up_nobody() {
    let script = r#"
W=$(mktemp -d); trap 'rm -rf "$W"' EXIT
mkdir $W/mute
python3 -c 'import socket, sys, time
mute = socket.socket(socket.AF_UNIX)
mute.bind(sys.argv[1])
mute.listen(50)
time.sleep(60)' $W/mute/ctl & mute=$!
until [ -e $W/mute/ctl ]; do sleep 0.01; done
for i in 1 2 3 4 5 6 7 8; do
    vumount -t vunetioth -o vde://$W/mute smoltcp /dev/net/mute$i 2>/dev/null & pid=$!
    sleep 0.0$i
    [ $((i % 2)) = 0 ] && kill -KILL $pid
done
before=$SECONDS
vumount -t vunetioth -o null:// smoltcp /dev/net/other && echo mounted $((SECONDS - before < 3))
vumount -t vunetioth -o vde://$W/mute smoltcp /dev/net/mute1 2>/dev/null || echo busy
wait $(jobs -p | grep -v "^$mute$")
kill $mute; wait $mute
ls -A $W/mute; ls /dev/net | grep -c mute
"#;
    for place in INSIDE {
        let done = run(place, script);
        assert_eq!(done.out, "mounted 1\nbusy\nctl\n0\n", "{place:?} {done:?}");
    }
}
