//! Two hosts on one wire: ip, ping, curl, iperf3, and what programs ask about the network.

use crate::harness::{INSIDE, on_two_fresh_hosts, on_two_hosts, with_hosts};

/// A script gives the same output on two kernel namespaces and inside umvu.
#[track_caller]
fn same_everywhere(script: &str, wanted: &str) {
    for place in with_hosts() {
        assert_eq!(on_two_hosts(place, script), wanted, "{place:?}: {script}");
    }
}

#[test]
fn a_fresh_host_has_lo_and_vde0_both_down() {
    // Exact output, so not beside a veth pair, which shows its peer.
    let wanted = "\
1: lo: <LOOPBACK> mtu 65536 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
2: vde0: <BROADCAST,MULTICAST> mtu 1500 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/ether MAC brd ff:ff:ff:ff:ff:ff
";
    for place in INSIDE {
        let mask = "sed -E 's/ether [0-9a-f:]{17}/ether MAC/'";
        let done = on_two_fresh_hosts(place, &format!("on_a ip link | {mask}; on_a ip route"));
        assert_eq!(done.out, wanted, "{place:?} {}", done.err);
    }
}

#[test]
fn a_configured_host_looks_like_linux() {
    let script = r#"
        settled() { on_a ip -6 addr show dev vde0 | grep -q fe80 && ! on_a ip -6 addr | grep -q tentative; }; until_ok settled
        strip="s/@if[0-9]+//; s/ether [0-9a-f:]{17}/ether MAC/; s/fe80::[0-9a-f:]+/fe80::ID/; s/ link-netns.*//; s/qdisc [a-z_]+ //; s/state [A-Z]+ //"
        on_a ip addr show dev vde0 | sed -E "$strip; 1s/^[0-9]+/N/" | grep -v proto; on_a ip route; on_a ip -6 route | grep fd00
    "#;
    let wanted = "\
N: vde0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 group default qlen 1000
    link/ether MAC brd ff:ff:ff:ff:ff:ff
    inet 10.0.0.1/24 scope global vde0
       valid_lft forever preferred_lft forever
    inet6 fd00::1/64 scope global nodad 
       valid_lft forever preferred_lft forever
    inet6 fe80::ID/64 scope link 
       valid_lft forever preferred_lft forever
10.0.0.0/24 dev vde0 proto kernel scope link src 10.0.0.1 
fd00::/64 dev vde0 proto kernel metric 256 pref medium
";
    same_everywhere(script, wanted);
}

#[test]
fn addresses_routes_and_links_change_as_on_linux() {
    let script = r#"
        try() { on_a "$@" 2>&1; echo "= $?"; }
        try ip addr add 10.0.0.1/24 dev vde0
        try ip addr del 10.0.0.9/24 dev vde0
        try ip addr add 10.1.0.1/16 dev vde0
        try ip route add default via 10.0.0.254
        try ip route add default via 10.0.0.254
        try ip route add 10.5.0.0/16 via 192.168.1.1
        try ip route replace default via 10.0.0.253
        try ip route add 10.6.0.0/16 via 10.0.0.2 metric 50
        try ip route
        try ip route get 10.6.1.1
        try ip route del 10.6.0.0/16
        try ip route del 10.6.0.0/16
        try ip route add 10.6.0.0/16 via 10.0.0.2 rtt 40ms rttvar 10ms ssthresh 9 cwnd 30 rto_min 1s quickack 1 features ecn
        try ip route add 10.7.0.0/16 via 10.0.0.2 mtu lock 1400 window 9000 advmss 1000 reordering 5 hoplimit 9 initcwnd 7 initrwnd 8
        try ip neigh add 10.0.0.7 dev vde0
        try ip neigh add 10.0.0.9 dev vde0 nud failed
        try ip neigh add 10.0.0.9 lladdr 2:0:0:0:0:9 dev vde0
        try ip neigh replace 10.0.0.9 lladdr 2:0:0:0:0:9 dev vde0 nud noarp
        try ip -4 neigh show nud noarp
        try ip neigh replace 10.0.0.8 dev vde0 use
        try ip neigh show 10.0.0.8
        try ip neigh del 10.0.0.8 dev vde0
        try ip neigh flush dev vde0
        try ip addr del 10.1.0.1/16 dev vde0
        try ip route
        try ip link set nowhere up
        try ip link set vde0 mtu 1400
        on_a ip link show vde0 | grep -o 'mtu [0-9]*'
        try ip link set vde0 down
        try ip route
        try ip addr flush dev vde0
        on_a ip addr show dev vde0 | grep -c inet
        try ip -6 route get ::1
    "#;
    let mut outputs = with_hosts().into_iter().map(|place| (place, on_two_hosts(place, script)));
    let (_, first) = outputs.next().expect("one place at least");
    for (place, output) in outputs {
        assert_eq!(output, first, "{place:?}");
    }
}

#[test]
fn hosts_ping_each_other() {
    let script = "
        until_ok on_a ping -c1 -W1 10.0.0.2; until_ok on_a ping -c1 -W1 fd00::2
        on_a ping -q -c 3 -i 0.2 10.0.0.2 | grep -o '.* received'
        on_b ping -q -c 3 -i 0.2 10.0.0.1 | grep -o '.* received'
        on_a ping -q -6 -c 3 -i 0.2 fd00::2 | grep -o '.* received'
        on_a ping -q -c 2 -i 0.2 -s 4000 10.0.0.2 | grep -o '.* received'
        on_a ping -q -c 1 127.0.0.1 | grep -o '.* received'
        on_a ping -q -c 1 ::1 | grep -o '.* received'";
    let wanted = "\
3 packets transmitted, 3 received
3 packets transmitted, 3 received
3 packets transmitted, 3 received
2 packets transmitted, 2 received
1 packets transmitted, 1 received
1 packets transmitted, 1 received
";
    same_everywhere(script, wanted);
}

#[test]
fn a_link_local_address_is_reached_by_its_scope() {
    let script = "
        until_ok on_a ping -c1 -W1 fd00::2
        six=$(on_b ip -6 -o addr show dev vde0 scope link | sed 's/.*inet6 \\([^/]*\\).*/\\1/')
        until_ok on_a ping -c1 -W1 $six%vde0
        on_a ping -q -c 1 $six%vde0 | grep -o '.* received'";
    same_everywhere(script, "1 packets transmitted, 1 received\n");
}

#[test]
fn what_cannot_be_reached_is_reported_as_on_linux() {
    let script = "
        until_ok on_a ping -c1 -W1 10.0.0.2
        on_a ping -c 1 -W 1 10.99.0.1 2>&1; echo \"= $?\"
        on_a ping -c 1 -W 9 10.0.0.77 2>&1 | grep -o '^From .*\\|.*100% packet loss'
        on_a curl -s http://10.0.0.2:81/; echo \"= $?\"
        on_a curl -s http://10.99.0.1/; echo \"= $?\"
        on_a curl -s 'http://[fd00::2]:81/'; echo \"= $?\"
        on_a ip neigh show 10.0.0.77 | cut -d' ' -f4
        on_a ip neigh show 10.0.0.2 | cut -d' ' -f4,6 | sed 's/DELAY\\|STALE\\|PROBE/REACHABLE/; s/lladdr/REACHABLE/; s/ .*//'";
    let wanted = "\
ping: connect: Network is unreachable
= 2
From 10.0.0.1 icmp_seq=1 Destination Host Unreachable
1 packets transmitted, 0 received, +1 errors, 100% packet loss
= 7
= 7
= 7
FAILED
REACHABLE
";
    same_everywhere(script, wanted);
}

#[test]
fn a_page_and_a_large_file_are_fetched() {
    let script = r#"
        seq 1 300000 >$W/numbers; echo page >$W/index.html; cd $W
        $B python3 -m http.server 8000 >$W/log 2>&1 & server=$!
        $B python3 -m http.server -b :: 8001 >$W/log 2>&1 & server6=$!
        until_ok on_a curl -s http://10.0.0.2:8000/
        until_ok on_a curl -s 'http://[fd00::2]:8001/'
        on_a curl -s http://10.0.0.2:8000/
        on_a curl -s 'http://[fd00::2]:8001/'
        on_a curl -s http://10.0.0.2:8001/
        on_a curl -s -o copy http://10.0.0.2:8000/numbers; cmp numbers copy && echo same
        on_a curl -s http://127.0.0.1:8000/; echo "= $?"
        on_b curl -s http://127.0.0.1:8000/
        for i in 1 2 3 4 5 6 7 8; do on_a curl -s -o copy$i http://10.0.0.2:8000/numbers & pids="$pids $!"; done
        wait $pids; for i in 1 2 3 4 5 6 7 8; do cmp numbers copy$i || echo $i differs; done
        grep -c 'GET /numbers' $W/log
        kill $server $server6"#;
    let script = script.replace("8001 >$W/log", "8001 >$W/log6");
    same_everywhere(&script, "page\npage\npage\nsame\n= 7\npage\n9\n");
}

#[test]
fn iperf_runs_in_all_its_ways() {
    let script = r#"
        until_ok on_a ping -c1 -W1 10.0.0.2
        $B iperf3 -s >$W/log 2>&1 & server=$!
        listens() { on_b ss -Htln | grep -q :5201; }; until_ok listens
        for way in "-n 20M" "-R -n 20M" "-P 8 -n 8M" "-u -b 20M -t 1" "-6 -n 10M"; do
            case $way in -6*) to=fd00::2;; *) to=10.0.0.2;; esac
            on_a iperf3 -c $to $way >$W/out 2>&1; echo "$way = $?"
        done
        kill $server"#;
    let wanted = "-n 20M = 0\n-R -n 20M = 0\n-P 8 -n 8M = 0\n-u -b 20M -t 1 = 0\n-6 -n 10M = 0\n";
    same_everywhere(script, wanted);
}

#[test]
fn programs_learn_interfaces_from_their_own_host() {
    let script = r#"
        on_a python3 -c '
import socket, fcntl, struct
names = dict((n, i) for i, n in socket.if_nameindex())
print(sorted(names), socket.if_nametoindex("vde0") == names["vde0"], socket.if_indextoname(names["lo"]))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print(socket.inet_ntoa(fcntl.ioctl(s, 0x8915, struct.pack("256s", b"vde0"))[20:24]))
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
print(struct.unpack_from("i", fcntl.ioctl(s, 0x8933, struct.pack("40s", b"vde0")), 16)[0] == names["vde0"])
print(sorted(set(i[4][0] for i in socket.getaddrinfo("127.0.0.1", 80))))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.connect(("10.0.0.2", 1)); print(u.getsockname()[0])
'
        on_a cat /proc/net/dev | cut -d: -f1 | tail -n +3 | tr -d ' ' | sort | xargs echo
        on_a sh -c 'cut -f1,2,8 /proc/net/route; ls /sys/class/net | sort | xargs echo'
        on_a cat /proc/self/net/if_inet6 | awk '/^fd/ { print $1, $6 }'
    "#;
    // ip netns exec would mount a sysfs of its own; plain unshare -n does not for the first host.
    let script = script.replace("; ls /sys/class/net | sort | xargs echo", "");
    let wanted = "\
['lo', 'vde0'] True lo
10.0.0.1
True
['127.0.0.1']
10.0.0.1
lo vde0
Iface\tDestination\tMask
vde0\t0000000A\t00FFFFFF
fd000000000000000000000000000001 vde0
";
    same_everywhere(&script, wanted);
}

#[test]
fn blocked_calls_end_by_signals() {
    let script = r#"
        ends() { on_a timeout -s $1 0.5 python3 -c "import socket
s = socket.socket(); d = socket.socket(type=socket.SOCK_DGRAM); d.bind(('0.0.0.0', 0))
s.bind(('0.0.0.0', 0)); s.listen()
c = socket.socket()
$2"; echo "= $?"; }
        for signal in TERM KILL; do
            ends $signal 's.accept()'; ends $signal 'd.recv(10)'; ends $signal 'd.recvfrom(10)'
            ends $signal 'c.connect(("10.0.0.77", 9))'
        done
        on_a python3 -c '
import signal, socket
def handler(*_): raise InterruptedError
signal.signal(signal.SIGALRM, handler)
for call in ("s.accept()", "d.recvfrom(10)", "c.connect((\"10.0.0.88\", 9))"):
    s = socket.socket(); s.bind(("", 0)); s.listen(); c = socket.socket()
    d = socket.socket(type=socket.SOCK_DGRAM); d.bind(("", 0))
    try: signal.setitimer(signal.ITIMER_REAL, 0.2); exec(call)
    except InterruptedError: print("interrupted")
d = socket.socket(type=socket.SOCK_DGRAM); d.bind(("", 0)); d.settimeout(0.2)
try: d.recvfrom(10)
except TimeoutError: print("timed out")
'"#;
    let one = "= 124\n".repeat(4) + &"= 137\n".repeat(4);
    let wanted = one + "interrupted\ninterrupted\ninterrupted\ntimed out\n";
    same_everywhere(script, &wanted);
}

#[test]
fn a_port_is_free_once_its_socket_is_closed() {
    let script = r#"on_a python3 -c '
import socket, time
def bind(s): # the last acknowledgement may be on its way
    for last in [False] * 20 + [True]:
        try: return s.bind(("", 5201))
        except OSError:
            if last: raise
            time.sleep(0.05)
def outcome(name, reuse, kind, closer=None):
    try:
        for _ in range(2):
            s = socket.socket(type=kind)
            if reuse: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bind(s)
            if kind == socket.SOCK_STREAM: s.listen()
            if closer:
                c = socket.create_connection(("127.0.0.1", 5201)); p = s.accept()[0]
                ends = (c, p) if closer == "client" else (p, c)
                ends[0].close(); ends[1].recv(1); ends[1].close()
            s.close()
        print(name, "free")
    except OSError as error: print(name, error.strerror)
outcome("udp", False, socket.SOCK_DGRAM)
outcome("tcp", False, socket.SOCK_STREAM)
outcome("client closed", False, socket.SOCK_STREAM, "client")
outcome("server closed, reuse", True, socket.SOCK_STREAM, "server")
outcome("server closed", False, socket.SOCK_STREAM, "server")
'"#;
    let wanted = "udp free\ntcp free\nclient closed free\nserver closed, reuse free\n\
                  server closed Address already in use\n";
    same_everywhere(script, wanted);
}

#[test]
fn the_kernels_network_is_out_of_sight() {
    // Only inside: a listener of the kernel's loopback is not on a stack's, and the reverse.
    let script = r#"
        python3 -c '
import socket, sys, time
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(); print(s.getsockname()[1], flush=True); time.sleep(60)' >$W/port &
        outside=$!
        until_ok test -s $W/port
        on_a curl -s http://127.0.0.1:$(cat $W/port)/; echo "= $?"
        vustack kernel curl -s -m 1 http://127.0.0.1:$(cat $W/port)/; echo "= $?"
        on_a vustack kernel curl -s -m 1 http://127.0.0.1:$(cat $W/port)/; echo "= $?"
        kill $outside
        [ "$(on_a cat /proc/net/dev)" != "$(cat /proc/net/dev)" ] && echo other devices"#;
    for place in INSIDE {
        assert_eq!(on_two_hosts(place, script), "= 7\n= 28\n= 28\nother devices\n", "{place:?}");
    }
}

#[test]
fn a_router_forwards_between_two_segments() {
    let script = "
        mount() { vumount -t vunetioth -o \"$1\" smoltcp /dev/net/$2 || exit 93; }
        mount lan:switch://$W/lan,ip=10.1.0.2/24,gw=10.1.0.254 left
        mount lan:switch://$W/wan,ip=10.2.0.2/24,gw=10.2.0.254 right
        mount lan:switch://$W/lan,wan:switch://$W/wan router
        r() { vustack /dev/net/router \"$@\"; }
        r ip addr add 10.1.0.254/24 dev lan; r ip addr add 10.2.0.254/24 dev wan
        r ip link set lan up; r ip link set wan up
        until_ok vustack /dev/net/left ping -c1 -W1 10.1.0.254
        vustack /dev/net/left ping -q -c1 -W1 10.2.0.2 >/dev/null; echo \"= $?\"
        r sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; cat /proc/sys/net/ipv4/ip_forward'
        until_ok vustack /dev/net/left ping -c1 -W1 10.2.0.2
        vustack /dev/net/left ping -c1 10.2.0.2 | grep -o 'ttl=[0-9]*'
        vustack /dev/net/left ping -c1 -t1 10.2.0.2 | grep -o 'From .* Time to live exceeded'";
    for place in INSIDE {
        let wanted = "= 1\n1\nttl=63\nFrom 10.1.0.254 icmp_seq=1 Time to live exceeded\n";
        assert_eq!(on_two_hosts(place, script), wanted, "{place:?}");
    }
}

#[test]
fn a_deferred_connection_is_accepted_when_its_data_is_there() {
    let script = r#"on_a python3 - <<'END'
import select, socket
listener = socket.create_server(("10.0.0.1", 81))
listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 60)
waits = lambda: len(select.select([listener], [], [], 0.5)[0])
client = socket.create_connection(("10.0.0.1", 81), timeout=20)
client.getpeername()
print(waits())
client.send(b"data")
print(waits(), listener.accept()[0].recv(9))
ended = socket.create_connection(("10.0.0.1", 81), timeout=20)
ended.shutdown(socket.SHUT_WR)
print(waits(), listener.accept()[0].recv(9))
END"#;
    same_everywhere(script, "0\n1 b'data'\n1 b''\n");
}
