//! TCP between our stack and the kernel's over links that lose, double and reorder frames.

use crate::harness::{INSIDE, Place, run, succeed};

#[test]
fn what_arrives_over_bad_links_is_what_was_sent() {
    if run(Place::Native, "unshare -rn true && test -c /dev/net/tun").status != Some(0) {
        return; // vdestack needs user namespaces and a tap
    }
    let script = r#"
        W=$(mktemp -d); trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf $W' EXIT
        cd $W
        for mtu in 576 1500 9000; do
            # Enough packets that some are lost for certain.
            seq 1 $((60000 * (mtu / 1500 + 1))) >numbers
            far="wirefilter://[delay=3+2/loss=4/dup=2/reorder=10/seed=$mtu]{switch://$W/sw$mtu}"
            vumount -t vunetioth -o "$far,ip=10.3.0.1/24,mtu=$mtu" smoltcp /dev/net/ours || exit 90
            vumount -t vunetvdestack switch://$W/sw$mtu /dev/net/kernels || exit 90
            O='vustack /dev/net/ours'; K='vustack /dev/net/kernels'
            $K ip link set vde0 mtu $mtu up; $K ip addr add 10.3.0.2/24 dev vde0
            $K python3 -m http.server 80 >/dev/null 2>&1 & a=$!
            $O python3 -m http.server 80 >/dev/null 2>&1 & b=$!
            fetch() { until "$@" -s -o copy; do sleep 0.1; done; cmp copy numbers && echo same; }
            fetch $O curl http://10.3.0.2/numbers
            fetch $K curl http://10.3.0.1/numbers
            $O awk '/^Tcp:/ && $13 + 0 { print ($13 > 0) ? "repaired" : "nothing lost" }' /proc/net/snmp
            kill $a $b; wait $a $b
            vuumount /dev/net/ours; vuumount /dev/net/kernels
        done 2>/dev/null"#;
    for place in INSIDE {
        assert_eq!(succeed(place, script), "same\nsame\nrepaired\n".repeat(3), "{place:?}");
    }
}
