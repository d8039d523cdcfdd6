//! Bad links at run time: `tc qdisc` with netem and tbf, as on Linux.

use crate::harness::{INSIDE, Place, on_two_hosts, with_hosts};

/// Runs `tc` on the first host and prints what it says and its status, without what differs between
/// interfaces.
const TRY: &str = r#"
    try() { on_a tc "$@" 2>&1 | sed -E 's/ refcnt [0-9]+//; s/ 80[0-9a-f]+:/ AUTO:/'; echo "= ${PIPESTATUS[0]}"; }
    show() { try qdisc show dev vde0; }
"#;

/// Where a script can run whose disciplines the kernel may lack.
fn places(kind: &str) -> Vec<Place> {
    let probe = format!("on_a tc qdisc add dev vde0 root {kind} 2>&1 >/dev/null; true");
    let has = |place: &Place| !on_two_hosts(*place, &probe).contains("unknown");
    with_hosts().into_iter().filter(|place| *place != Place::Native || has(place)).collect()
}

#[track_caller]
fn says(places: Vec<Place>, script: &str, wanted: &str) {
    for place in places {
        assert_eq!(on_two_hosts(place, &format!("{TRY}{script}")), wanted, "{place:?}");
    }
}

#[test]
fn shapers_and_queues_are_set_and_shown_as_on_linux() {
    let script = r"
        try qdisc add dev vde0 root handle 5: tbf rate 10mbit burst 32kb latency 50ms; show
        try qdisc add dev vde0 root tbf rate 10mbit burst 32kb latency 50ms
        try qdisc change dev vde0 root handle 5: tbf rate 1mbit burst 16kb limit 30000; show
        try qdisc del dev vde0 root; try qdisc del dev vde0 root
        try qdisc replace dev vde0 root pfifo limit 77; show
        try qdisc replace dev vde0 root bfifo limit 7777; show
        try qdisc add dev vde0 root nonesuch; try qdisc add dev nope root pfifo
        try qdisc add dev vde0 parent 2:1 handle 11: tbf rate 1mbit burst 32kbit latency 400ms";
    let wanted = "\
= 0
qdisc tbf 5: root rate 10Mbit burst 32Kb lat 50ms 
= 0
Error: Exclusivity flag on, cannot modify.
= 2
= 0
qdisc tbf 5: root rate 1Mbit burst 16Kb lat 109ms 
= 0
= 0
Error: Cannot delete qdisc with handle of zero.
= 2
= 0
qdisc pfifo AUTO: root limit 77p
= 0
= 0
qdisc bfifo AUTO: root limit 7777b
= 0
Error: Specified qdisc kind is unknown.
= 2
Cannot find device \"nope\"
= 1
Error: Failed to find specified qdisc.
= 2
";
    says(places("tbf rate 1mbit burst 10kb limit 10000"), script, wanted);
}

#[test]
fn bad_networks_are_set_and_shown_as_on_linux() {
    let script = r"
        try qdisc add dev vde0 root netem delay 50ms 10ms 25% loss 10% 25% duplicate 1% corrupt 0.5% limit 500; show
        try qdisc change dev vde0 root netem delay 20ms loss 0.1%; show
        try qdisc del dev vde0 root; try qdisc add dev vde0 root handle 1: netem delay 10ms reorder 25% 50% gap 5
        try qdisc add dev vde0 parent 1:1 handle 10: tbf rate 1mbit burst 32kbit latency 400ms; show
        try qdisc replace dev vde0 root handle 2: netem loss gemodel 1% 10% 70% 0.1% rate 1mbit; show";
    let wanted = "\
= 0
qdisc netem AUTO: root limit 500 delay 50ms  10ms 25% loss 10% 25% duplicate 1% corrupt 0.5%
= 0
= 0
qdisc netem AUTO: root limit 500 delay 20ms loss 0.1% 25% corrupt 0.5%
= 0
";
    let wanted = wanted.replace("limit 500 delay 20ms", "limit 1000 delay 20ms")
        + "\
= 0
= 0
= 0
qdisc netem 1: root limit 1000 delay 10ms reorder 25% 50% gap 5
qdisc tbf 10: parent 1:1 rate 1Mbit burst 4Kb lat 400ms 
= 0
= 0
qdisc netem 2: root limit 1000 loss gemodel p 1% r 10% 1-h 70% 1-k 0.1% rate 1Mbit
= 0
";
    says(places("netem"), script, &wanted);
}

#[test]
fn packets_are_delayed_lost_and_held_to_a_rate() {
    let script = r#"
        on_a tc qdisc add dev vde0 root netem delay 40ms
        on_a ping -c 3 -i 0.2 -q 10.0.0.2 | awk -F/ '/^rtt/ { print ($4 >= 40) ? "late" : "early: " $4 }'
        on_a tc qdisc change dev vde0 root netem loss 100%; on_a ping -c 2 -i 0.2 -W 1 -q 10.0.0.2 | grep -o '100% packet loss'
        on_a tc -s qdisc show dev vde0 | grep -Eo 'dropped [0-9]+' | awk '{ print ($2 >= 2) ? "counted" : "not counted" }'
        on_a tc qdisc del dev vde0 root; on_a ping -c 1 -q 10.0.0.2 | grep -o ' 0% packet loss'
        on_a tc qdisc add dev vde0 root tbf rate 8mbit burst 16kb latency 20ms
        on_b iperf3 -s -1 >/dev/null & until_ok eval "on_b ss -tln | grep -q :5201"
        on_a iperf3 -u -b 20m -l 1000 -t 2 -c 10.0.0.2 -J | python3 -c '
import json, sys
end = json.load(sys.stdin)["end"]["sum"]
arrived = end["bits_per_second"] * (1 - end["lost_percent"] / 100) / 1e6
print("at the rate" if 5 < arrived < 9 else arrived)'; wait"#;
    let wanted = "late\n100% packet loss\ncounted\n 0% packet loss\nat the rate\n";
    for place in INSIDE {
        assert_eq!(on_two_hosts(place, script), wanted, "{place:?}");
    }
}
