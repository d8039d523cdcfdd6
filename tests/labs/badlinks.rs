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

#[test]
fn what_a_stack_tells_of_holes_and_duplicates_is_well_formed() {
    if run(Place::Native, "unshare -rn true && test -c /dev/net/tun").status != Some(0) {
        return; // vdestack needs user namespaces and a tap
    }
    let script = r#"
        W=$(mktemp -d); trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf $W' EXIT
        cd $W
        seq 1 100000 >numbers
        far="wirefilter://[delay=3+2/loss=4/dup=2/reorder=10/seed=5]{switch://$W/sw}"
        vumount -t vunetioth -o "$far,ip=10.3.0.1/24" smoltcp /dev/net/ours || exit 90
        vumount -t vunetvdestack switch://$W/sw /dev/net/kernels || exit 90
        O='vustack /dev/net/ours'; K='vustack /dev/net/kernels'
        $K ip link set vde0 up; $K ip addr add 10.3.0.2/24 dev vde0
        $O tcpdump -q -n -U -i vde0 -w $W/file tcp 2>/dev/null & dump=$!
        until [ -s file ]; do sleep 0.1; done
        $K python3 -m http.server 80 >/dev/null 2>&1 & a=$!
        until $O curl http://10.3.0.2/numbers -s -o copy; do sleep 0.1; done; cmp copy numbers
        kill -INT $dump; wait $dump
        check="-o tcp.check_checksum:TRUE -o ip.check_checksum:TRUE"
        count() { tshark -n $check -r file -Y "ip.src == 10.3.0.1 && ($1)" 2>/dev/null | wc -l; }
        some() { [ $(count "$1") -gt 0 ] && echo "$2"; }
        echo malformed: $(count '_ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0')
        echo without timestamps: $(count 'tcp.flags.reset == 0 && !tcp.options.timestamp')
        some 'tcp.options.sack.count == 3' 'three blocks'
        some 'tcp.options.sack.dsack' duplicates
        kill $a; wait $a
        # Both ends of one connection tell the same of what they have agreed upon.
        $K python3 -c 'import socket; socket.create_server(("", 81)).accept()[0].recv(1)' & a=$!
        $O python3 -c 'import socket, time
while True:
    try: peer = socket.create_connection(("10.3.0.2", 81))
    except OSError: time.sleep(0.1)
    else: break
peer.recv(1)' & b=$!
        agreed() { until "$@" | grep -o 'ts sack [a-z]* wscale:[0-9,]*'; do sleep 0.1; done; }
        agreed $K ss -tinoH state established sport = 81 >there
        agreed $O ss -tinoH state established dport = 81 | sed 's/:\(.*\),\(.*\)/:\2,\1/' >here
        [ -s here ] && cmp here there && echo agreed
        kill $a $b; wait $a $b; true"#;
    for place in INSIDE {
        let expected = "malformed: 0\nwithout timestamps: 0\nthree blocks\nduplicates\nagreed\n";
        assert_eq!(succeed(place, script), expected, "{place:?}");
    }
}

#[test]
fn a_bad_loopback_with_the_longest_packets_changes_no_byte() {
    // What VDE carries is shorter; a stack's own loopback takes all that IP allows.
    let script = r#"
        W=$(mktemp -d); trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf $W' EXIT
        cd $W; mkdir served; seq 1 800000 >served/numbers
        vumount -t vunetsmoltcp none /dev/net/ours || exit 90
        O='vustack /dev/net/ours'
        $O ip link set lo mtu 65535 up
        $O tc qdisc add dev lo root netem delay 3ms 2ms loss 4% duplicate 2% reorder 10%
        $O python3 -m http.server -d served 80 >/dev/null 2>&1 & a=$!
        until $O curl http://127.0.0.1/numbers -s -o copy; do sleep 0.1; done
        cmp copy served/numbers && echo same
        $O awk '/^Tcp:/ && $13 + 0 { print ($13 > 0) ? "repaired" : "nothing lost" }' /proc/net/snmp
        kill $a; wait $a; true"#;
    for place in INSIDE {
        assert_eq!(succeed(place, script), "same\nrepaired\n", "{place:?}");
    }
}
