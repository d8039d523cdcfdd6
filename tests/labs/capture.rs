//! Programs that look at frames: tcpdump, tshark and what else uses packet sockets.

use crate::harness::{INSIDE, Place, on_two_hosts, run, succeed, with_hosts};

/// Whether `vdestack` can work here: it needs user namespaces and a tap.
fn has_vdestack() -> bool {
    run(Place::Native, "unshare -rn true && test -c /dev/net/tun").status == Some(0)
}

#[test]
fn the_kernels_sockets_of_a_stack_know_its_interfaces() {
    if !has_vdestack() {
        return;
    }
    for place in INSIDE {
        let script = r#"
            W=$(mktemp -d); trap 'rm -rf $W' EXIT
            vumount -t vunetioth -o switch://$W/sw,ip=10.3.0.1/24 smoltcp /dev/net/ours || exit 90
            vumount -t vunetvdestack -o ip=10.3.0.2/24 vde://$W/sw /dev/net/kernels || exit 90
            K='vustack /dev/net/kernels'
            $K ifconfig vde0 | grep -o 'inet [0-9.]*'
            $K python3 -c 'import socket; print(socket.if_nametoindex("vde0"), socket.if_nameindex())'
            $K tcpdump -D | grep -o 'vde0.*'
            $K tcpdump --immediate-mode -lnt -i vde0 -c 1 icmp 2>$W/err & dump=$!
            until grep -q listening $W/err; do sleep 0.05; done
            vustack /dev/net/ours ping -c 1 10.3.0.2 >/dev/null
            wait $dump
            grep captured $W/err"#;
        let wanted = "\
inet 10.3.0.2
2 [(1, 'lo'), (2, 'vde0')]
vde0 [Up, Running, Connected]
IP 10.3.0.1 > 10.3.0.2: ICMP echo request, id ID, seq 1, length 64
1 packet captured
";
        let out = succeed(place, script);
        let id = out.split_once("id ").and_then(|(_, rest)| rest.split_once(','));
        let out = id.map_or(out.clone(), |(id, _)| out.replace(&format!("id {id},"), "id ID,"));
        assert_eq!(out, wanted, "{place:?}");
    }
}

/// A script gives the same output on two kernel namespaces and inside umvu.
#[track_caller]
fn same_everywhere(script: &str) -> String {
    let mut outputs = with_hosts().into_iter().map(|place| (place, on_two_hosts(place, script)));
    let (_, first) = outputs.next().expect("one place at least");
    for (place, output) in outputs {
        assert_eq!(output, first, "{place:?}");
    }
    first
}

#[test]
fn packet_sockets_and_their_rings_behave_as_on_linux() {
    let guest = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guests/packets.py");
    let script = format!(
        "$A timeout 60 python3 {guest} capture $W & capture=$!
         $B timeout 60 python3 {guest} send $W
         wait $capture; echo \"= $?\""
    );
    let output = same_everywhere(&script);
    assert!(output.ends_with("= 0\n"), "{output}");
}
