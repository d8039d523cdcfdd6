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

/// `capture NAME COMMAND...` starts a capture on the first host and waits until it listens; `stop`
/// ends it as ^C does, and waits until it has ended. What it prints is in `$W/NAME` and `$W/NAME.err`.
/// `plain` leaves out of a line what differs from run to run.
const CAPTURE: &str = r#"
    until_ok on_a ping -c1 -W1 10.0.0.2; until_ok on_a ping -c1 -W1 fd00::2
    capture() {
        name=$1; shift
        $A "$@" >$W/$name 2>$W/$name.err & capturing=$!
        until_ok grep -qE 'listening|Capture started' $W/$name.err
    }
    stop() { kill -INT $capturing; wait $capturing; }
    plain() { sed -E 's/([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}/MAC/g; s/ id [0-9]+/ id N/g; s/[0-9.]+ ?ms/N ms/g; s/flags \[[a-zA-Z]*\]/flags F/' "$@"; }
"#;

#[track_caller]
fn captured_everywhere(script: &str, wanted: &str) {
    assert_eq!(same_everywhere(&format!("{CAPTURE}{script}")), wanted, "{script}");
}

/// For Debian's tcpdump, which wants to become another user: a namespace without root does not let it.
#[track_caller]
fn captured_inside(script: &str, wanted: &str) {
    let script = format!("{CAPTURE}{script}");
    for place in INSIDE {
        assert_eq!(on_two_hosts(place, &script), wanted, "{place:?}: {script}");
    }
}

#[test]
fn tcpdump_shows_what_its_filter_asks_for_and_counts_it() {
    let script = r"
        capture dump tcpdump --immediate-mode -l -n -e -v -t -i vde0 'icmp and dst host 10.0.0.2'
        on_a ping -q -c 2 -i 0.2 -s 10 10.0.0.2 >$W/null
        until_ok grep -q 'seq 2' $W/dump
        stop; echo = $?
        plain $W/dump | grep .; grep packet $W/dump.err";
    let wanted = "\
= 0
MAC > MAC, ethertype IPv4 (0x0800), length 52: (tos 0x0, ttl 64, id N, offset 0, flags F, proto ICMP (1), length 38)
    10.0.0.1 > 10.0.0.2: ICMP echo request, id N, seq 1, length 18
MAC > MAC, ethertype IPv4 (0x0800), length 52: (tos 0x0, ttl 64, id N, offset 0, flags F, proto ICMP (1), length 38)
    10.0.0.1 > 10.0.0.2: ICMP echo request, id N, seq 2, length 18
2 packets captured
2 packets received by filter
0 packets dropped by kernel
";
    captured_inside(script, wanted);
}

#[test]
fn tcpdump_sees_every_interface_and_both_ways() {
    let script = r"
        capture any tcpdump --immediate-mode -l -n -q -t -i any 'icmp[icmptype] == icmp-echo or icmp[icmptype] == icmp-echoreply'
        on_a ping -q -c 1 127.0.0.1 >$W/null; on_a ping -q -c 1 10.0.0.2 >$W/null
        until_ok grep -q 'vde0 .*reply' $W/any
        stop
        plain $W/any | grep .
        capture lo tcpdump --immediate-mode -l -n -t -i lo udp port 7
        on_a bash -c 'echo hello >/dev/udp/::1/7'
        until_ok grep -q UDP $W/lo
        stop
        sed 's/[0-9]* >/N >/' $W/lo | grep .";
    let wanted = "\
lo    In  IP 127.0.0.1 > 127.0.0.1: ICMP echo request, id N, seq 1, length 64
lo    In  IP 127.0.0.1 > 127.0.0.1: ICMP echo reply, id N, seq 1, length 64
vde0  Out IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id N, seq 1, length 64
vde0  In  IP 10.0.0.2 > 10.0.0.1: ICMP echo reply, id N, seq 1, length 64
IP6 ::1.N > ::1.7: UDP, length 6
";
    captured_inside(script, wanted);
}

#[test]
fn what_tcpdump_writes_is_right_in_the_eyes_of_tshark() {
    // On Linux what leaves a host has no checksums yet, so this is about our stacks only.
    for place in INSIDE {
        let script = r#"
            capture dump tcpdump -n -i vde0 -w $W/file
            seq 1 100000 >$W/numbers
            (cd $W; exec $B python3 -m http.server --bind fd00::2 80) >$W/null 2>&1 & server=$!
            until_ok on_a curl -s -o $W/copy 'http://[fd00::2]/numbers'
            on_a ping -q -c 1 -s 3000 10.0.0.2 >$W/null
            on_a bash -c 'echo hello >/dev/udp/10.0.0.2/7'
            on_a ping -q -c 1 10.0.0.2 >$W/null
            sleep 1.5 # a block of the ring is old then
            stop; kill $server
            cmp $W/numbers $W/copy && echo same
            wrong='_ws.malformed || tcp.checksum.status == Bad || udp.checksum.status == Bad || ip.checksum.status == Bad || icmp.checksum.status == Bad || icmpv6.checksum.status == Bad'
            count() { tshark -n -o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE -o udp.check_checksum:TRUE -r $W/file -Y "$1" 2>$W/null | wc -l; }
            echo wrong: $(count "$wrong") echo: $(count 'icmp.type == 8') datagrams: $(count 'udp.port == 7 && !icmp') get: $(count 'http.request')
            # Of the body all is there: what TCP carried is what the file has.
            tshark -n -r $W/file --export-objects http,$W/objects >$W/null 2>&1
            cmp $W/numbers $W/objects/numbers && echo complete
            grep dropped $W/dump.err"#;
        let script = format!("{CAPTURE}{script}");
        let wanted = "\
same
wrong: 0 echo: 2 datagrams: 1 get: 1
complete
0 packets dropped by kernel
";
        assert_eq!(on_two_hosts(place, &script), wanted, "{place:?}");
    }
}

#[test]
fn tshark_captures_by_itself() {
    let script = r#"
        capture shark tshark -n -l -i vde0 -f icmp -c 2 -T fields -e ip.src -e icmp.type
        tries=0
        until grep -q 10.0.0.2 $W/shark; do
            tries=$((tries + 1)); [ $tries -lt 50 ] || break
            on_a ping -q -c 1 10.0.0.2 >$W/null; sleep 0.2
        done
        wait $capturing; echo = $?
        cat $W/shark"#;
    captured_everywhere(script, "= 0\n10.0.0.1\t8\n10.0.0.2\t0\n");
}

#[test]
fn a_capture_under_load_neither_stalls_nor_grows() {
    for place in INSIDE {
        let script = r#"
            capture dump tcpdump -n -i vde0 -B 1024 -s 64 -w $W/file
            $B iperf3 -s -1 >$W/null 2>&1 & server=$!
            resident() { awk '/VmRSS/ { print $2 }' /proc/$PPID/status; }
            until_ok on_a iperf3 -c 10.0.0.2 -n 20M
            wait $server; before=$(resident)
            $B iperf3 -s -1 >$W/null 2>&1 & server=$!
            until_ok on_a iperf3 -c 10.0.0.2 -n 60M
            wait $server; after=$(resident)
            [ $after -lt $((before + 20000)) ] || echo "grew: $before $after"
            on_a ping -q -c 1 10.0.0.2 | grep -o '.* received'
            stop
            # All that passed the filter is accounted for.
            captured=$(awk '/captured/ { print $1 }' $W/dump.err)
            received=$(awk '/received/ { print $1 }' $W/dump.err)
            dropped=$(awk '/dropped/ { print $1 }' $W/dump.err)
            [ $captured -gt 100 ] && [ $((captured + dropped)) -le $received ] && echo counted
            [ $(tshark -n -r $W/file 2>$W/null | wc -l) = $captured ] && echo whole"#;
        let wanted = "1 packets transmitted, 1 received\ncounted\nwhole\n";
        assert_eq!(on_two_hosts(place, &format!("{CAPTURE}{script}")), wanted, "{place:?}");
    }
}

#[test]
fn scanners_find_hosts_and_ports_as_on_linux() {
    let script = r#"
        $B python3 -m http.server 80 >$W/null 2>&1 & server=$!
        until_ok on_a curl -s http://10.0.0.2/
        on_a arping -c 2 -I vde0 10.0.0.2 | plain
        on_a arp-scan --plain --quiet --timeout=3000 --interface=vde0 10.0.0.0/29 | plain | sort -u
        on_a nmap -n -sn 10.0.0.1-5 | grep -E 'report|hosts up' | sed 's/ scanned.*//'
        on_a nmap -n -sS -p 79-81 10.0.0.2 | grep tcp
        on_a nmap -n -sT -p 79-81 10.0.0.2 | grep tcp
        on_a nmap -n -sU -p 7 10.0.0.2 | grep udp
        on_a hping3 -S -p 80 -c 1 10.0.0.2 2>&1 | grep -oE 'flags=[A-Z]+|[0-9]+ packets rec'
        on_a hping3 -S -p 81 -c 1 10.0.0.2 2>&1 | grep -oE 'flags=[A-Z]+|[0-9]+ packets rec'
        on_a hping3 -1 -c 1 10.0.0.2 2>&1 | grep -oE 'icmp_seq=[0-9]|[0-9]+ packets rec'
        kill $server"#;
    let wanted = "\
ARPING 10.0.0.2 from 10.0.0.1 vde0
Unicast reply from 10.0.0.2 [MAC]  N ms
Unicast reply from 10.0.0.2 [MAC]  N ms
Sent 2 probes (1 broadcast(s))
Received 2 response(s)
10.0.0.2\tMAC
Nmap scan report for 10.0.0.1
Nmap scan report for 10.0.0.2
Nmap done: 5 IP addresses (2 hosts up)
79/tcp closed finger
80/tcp open   http
81/tcp closed hosts2-ns
79/tcp closed finger
80/tcp open   http
81/tcp closed hosts2-ns
7/udp closed echo
1 packets rec
flags=SA
1 packets rec
flags=RA
1 packets rec
icmp_seq=0
";
    captured_everywhere(script, wanted);
}

/// What nmap tells systems apart by: options, windows and flags of answers to usual and odd segments,
/// identifications of packets. Numbers that are random are left out, and ECN.
#[test]
fn a_stack_has_the_fingerprint_of_linux() {
    let script = r#"
        $B python3 -m http.server 80 >$W/null 2>&1 & server=$!
        until_ok on_a curl -s http://10.0.0.2/
        on_a nmap -n -d -O --max-os-tries 1 -sS -p 79-80 10.0.0.2 >$W/found
        grep ^OS: $W/found | sed 's/^OS://' | tr -d '\n' | grep -oE '(TI=|OPS|WIN|ECN|T[1-7]|U1|IE)[^)]*' |
            sed -E 's/NW[0-9A-F]+/NW/g; s/%TS=.*//; s/%CC=.//'
        on_a hping3 -1 --icmptype 13 -c 1 10.0.0.2 2>&1 | grep -oE 'timestamp RTT|[0-9] packets rec'
        kill $server"#;
    let wanted = "\
TI=Z%CI=Z%II=I
OPS(O1=M5B4ST11NW%O2=M5B4ST11NW%O3=M5B4NNT11NW%O4=M5B4ST11NW%O5=M5B4ST11NW%O6=M5B4ST11
WIN(W1=FE88%W2=FE88%W3=FE88%W4=FE88%W5=FE88%W6=FE88
ECN(R=Y%DF=Y%T=40%W=FAF0%O=M5B4NNSNW%Q=
T1(R=Y%DF=Y%T=40%S=O%A=S+%F=AS%RD=0%Q=
T2(R=N
T3(R=N
T4(R=Y%DF=Y%T=40%W=0%S=A%A=Z%F=R%O=%RD=0%Q=
T5(R=Y%DF=Y%T=40%W=0%S=Z%A=S+%F=AR%O=%RD=0%Q=
T6(R=Y%DF=Y%T=40%W=0%S=A%A=Z%F=R%O=%RD=0%Q=
T7(R=Y%DF=Y%T=40%W=0%S=Z%A=S+%F=AR%O=%RD=0%Q=
U1(R=Y%DF=N%T=40%IPL=164%UN=0%RIPL=G%RID=G%RIPCK=G%RUCK=G%RUD=G
IE(R=Y%DFI=N%T=40%CD=S
1 packets rec
timestamp RTT
";
    captured_everywhere(script, wanted);
}

/// Of both kinds of stack, while they run: every packet, both ways, as it would be on a wire.
#[test]
fn a_capture_of_a_mount_is_read_while_it_grows() {
    if !has_vdestack() {
        return;
    }
    for place in INSIDE {
        let script = r#"
            W=$(mktemp -d); trap 'rm -rf $W' EXIT; cd $W
            vumount -t vunetioth -o switch://$W/sw,lan:hub://$W/hub,ip=10.3.0.1/24,pcap=$W/one \
                smoltcp /dev/net/1 || exit 90
            vumount -t vunetvdestack -o ip=10.3.0.2/24,pcap=two vde://$W/sw /dev/net/2 || exit 90
            read_it() { tshark -r $1 -o tcp.check_checksum:TRUE "${@:2}" 2>/dev/null; }
            vustack /dev/net/2 ping -q -c 1 10.3.0.1 >/dev/null
            for file in one two; do
                read_it $file -Y icmp -T fields -e frame.interface_name \
                    -e frame.packet_flags_direction -e icmp.type
            done
            vustack /dev/net/1 socat -u TCP-LISTEN:80 CREATE:copy & server=$!
            head -c 500000 /dev/urandom >data
            vustack /dev/net/2 socat -u FILE:data TCP:10.3.0.1:80,retry=100,interval=0.1
            wait $server; cmp data copy && echo same
            read_it two -Y 'tcp.checksum.status != 1 || frame.len > 1514' | wc -l
            stream=$(read_it two -Y 'tcp.len > 0' -T fields -e tcp.stream | tail -n 1)
            read_it two -q -z follow,tcp,raw,$stream | grep -E '^[0-9a-f]{2,}$' | xxd -r -p | cmp - data &&
                echo all
            mount_it() { vumount -t vunetioth -o "$1" $2 /dev/net/3 2>&1; }
            mount_it null://,pcap=/nonexistent/x smoltcp; mount_it null://,pcap=/dev/null smoltcp
            mount_it pcap=/tmp/x null; mount_it null://,pcap= smoltcp; true"#;
        let wanted = "\
vde0\t0x00000001\t8
vde0\t0x00000002\t0
vde0\t0x00000002\t8
vde0\t0x00000001\t0
same
0
all
vumount: pcap=/nonexistent/x: No such file or directory
vumount: pcap=/dev/null: not a regular file
vumount: pcap=/tmp/x: only of smoltcp and vdestack, whose networks are opened here
vumount: pcap=: not an absolute path (write pcap=/tmp/a.pcapng)
";
        assert_eq!(succeed(place, script), wanted, "{place:?}");
    }
}
