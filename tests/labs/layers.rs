//! Interfaces that stand on others: bridges and VLANs.

use crate::harness::{INSIDE, on_two_hosts, succeed, with_hosts};

#[test]
fn a_bridge_is_configured_as_on_linux() {
    let script = r#"
        try() { on_a "$@" 2>&1; echo "= $?"; }
        database() { on_a bridge fdb show br br0 | grep "$1" | grep -v -e self -e vlan; }
        b=$(on_b cat /sys/class/net/vde0/address)
        on_a ip addr flush dev vde0
        try ip link add br0 type bridge
        try ip link add br0 type bridge
        try ip link set br0 address 02:00:00:00:00:07
        try ip link set br0 up
        on_a ip -o link show br0 | grep -o '<.*>.*state [A-Z]*'
        try ip link set lo master br0
        try ip link set vde0 master lo
        try ip link set vde0 master br0
        try ip link add br1 type bridge
        try ip link set br1 master br0
        try ip link show type bridge | grep -o 'br[01]'
        on_a ip -o link show master br0 | grep -o 'vde0\|master br0'
        on_a bridge link | grep -o 'master br0 state [a-z]*'
        on_a ip addr add 10.0.0.1/24 dev br0
        until_ok on_a ping -c 1 -W 1 10.0.0.2
        on_a ip -o link show br0 | grep -o '<.*>.*state [A-Z]*'
        database $b | sed "s/$b/B/"
        try bridge fdb add 02:00:00:00:00:aa dev vde0 master static
        try bridge fdb add 02:00:00:00:00:aa dev vde0 master static
        try bridge fdb replace 02:00:00:00:00:aa dev vde0 master dynamic
        database 00:aa
        try bridge fdb del 02:00:00:00:00:aa dev vde0 master
        try bridge fdb del 02:00:00:00:00:aa dev vde0 master
        try bridge fdb add 02:00:00:00:00:bb dev vde0 master permanent
        database 00:bb
        on_a ip -d link show br0 | grep -o 'ageing_time [0-9]*'
        try ip link set br0 type bridge ageing_time 1000
        on_a ip -d link show br0 | grep -o 'ageing_time [0-9]*'
        on_a ping -q -c 1 -W 5 10.0.0.2 >/dev/null; try ip link set br0 type bridge fdb_flush
        database $b; database 00:bb
        on_a ip link set vde0 mtu 1400; on_a ip link show br0 | grep -o 'mtu [0-9]*'
        on_a ip link set br0 mtu 1300; on_a ip link set vde0 mtu 1450
        on_a ip link show br0 | grep -o 'mtu [0-9]*'
        try ip link set vde0 nomaster
        on_a ip -o link show br0 | grep -o '<.*>.*state [A-Z]*'
        database .
        on_a ip link set vde0 master br0
        try ip link del br0
        try ip link show br0
        on_a ip -o link show vde0 | grep -c master; true
    "#;
    let mut outputs = with_hosts().into_iter().map(|place| (place, on_two_hosts(place, script)));
    let (_, first) = outputs.next().expect("one place at least");
    assert!(first.contains("Can not enslave a bridge to a bridge"), "{first}");
    for (place, output) in outputs {
        assert_eq!(output, first, "{place:?}");
    }
}

/// Hosts a on switch 1 and b on switch 2, and s with an interface on both that are ports of a
/// bridge.
const BRIDGED: &str = r#"
W=$(mktemp -d); trap 'rm -rf "$W"' EXIT
host() { vumount -t vunetioth -o "$2" smoltcp /dev/net/$1 || exit 90; }
on() { stack=$1; shift; vustack /dev/net/$stack "$@"; }
pings() { on $1 ping -q -c 2 -i 0.2 -W 5 $2 | grep -o '.* received'; }
host a "switch://$W/1,ip=10.0.0.1/24"
host b "switch://$W/2,ip=10.0.0.2/24"
host s "eth0:switch://$W/1,eth1:vde://$W/2"
on s ip link add br0 type bridge || exit 91
for port in eth0 eth1; do on s ip link set $port master br0 up || exit 91; done
on s ip addr add 10.0.0.3/24 dev br0; on s ip link set br0 up
seq 1 400000 > "$W/numbers"
# fetch CLIENT SERVER ADDRESS
fetch() {
    (cd "$W"; exec vustack /dev/net/$2 python3 -m http.server --bind $3 80) >/dev/null 2>&1 & server=$!
    tries=0
    until on $1 curl -s -m 20 -o "$W/copy" http://$3/numbers; do
        tries=$((tries + 1)); [ $tries -lt 100 ] || exit 92; sleep 0.1
    done
    kill $server; wait $server 2>/dev/null
    cmp "$W/copy" "$W/numbers" && echo "$1 from $2"; rm "$W/copy"
}
"#;

#[test]
fn a_bridge_joins_two_networks() {
    let script = format!(
        r#"{BRIDGED}
        pings a 10.0.0.2; pings a 10.0.0.3; pings s 10.0.0.2
        fetch a b 10.0.0.2; fetch b a 10.0.0.1; fetch a s 10.0.0.3; fetch s b 10.0.0.2
        learned() {{ on s bridge fdb show | grep -v permanent | grep -c "dev $1 master br0"; }}
        learned eth0; learned eth1
        on s ip link set eth1 down; learned eth1
        on a ping -q -c 1 -W 1 10.0.0.2 | grep -o '.* received'; pings a 10.0.0.3
        on s ip link set eth1 up; pings a 10.0.0.2
        on s ip link del br0; on s ip -o link | wc -l
        on a ping -q -c 1 -W 1 10.0.0.3 | grep -o '.* received'"#
    );
    let wanted = "\
2 packets transmitted, 2 received
2 packets transmitted, 2 received
2 packets transmitted, 2 received
a from b
b from a
a from s
s from b
1
1
0
1 packets transmitted, 0 received
2 packets transmitted, 2 received
2 packets transmitted, 2 received
3
1 packets transmitted, 0 received
";
    for place in INSIDE {
        assert_eq!(succeed(place, &script), wanted, "{place:?}");
    }
}

#[test]
fn vlans_share_a_wire() {
    // One end is an interface of the stack, the other one a network of the transport.
    let script = format!(
        r#"{BRIDGED}
        host x "vlan://10{{vde://$W/2}},ip=10.10.0.2/24"; host y "vlan://20{{vde://$W/2}},ip=10.20.0.2/24"
        for id in 10 20; do
            on a ip link add link vde0 name v$id type vlan id $id || exit 93
            on a ip addr add 10.$id.0.1/24 dev v$id; on a ip link set v$id up
        done
        on s ip link add link br0 name br0.10 type vlan id 10; on s ip link set br0.10 up
        on s ip addr add 10.10.0.3/24 dev br0.10
        pings a 10.10.0.2; pings a 10.20.0.2; pings x 10.10.0.3; pings a 10.0.0.2
        on x ip route add 10.20.0.0/24 via 10.10.0.1; on y ip route add 10.10.0.0/24 via 10.20.0.1
        on x ping -q -c 1 -W 1 10.20.0.2 | grep -o '.* received'
        on a sysctl -q net.ipv4.ip_forward=1; pings x 10.20.0.2
        fetch a x 10.10.0.2; fetch x a 10.10.0.1; fetch y x 10.10.0.2; fetch x s 10.10.0.3
        vustack /dev/net/a tcpdump -Uenli vde0 -c 2 icmp or vlan 20 >"$W/wire" 2>/dev/null & tcpdump=$!
        until grep -q 'vlan 20.*ICMP' "$W/wire"; do on a ping -c 1 -W 1 10.20.0.2 >/dev/null; done
        wait $tcpdump
        vustack /dev/net/a tcpdump -Uenli v20 -c 1 icmp >"$W/own" 2>/dev/null & tcpdump=$!
        until grep -q ICMP "$W/own"; do on a ping -c 1 -W 1 10.20.0.2 >/dev/null; done
        grep -c vlan "$W/own"
        on a ip link set vde0 down; on a ip -o link show v10 | grep -o 'v10.*M-DOWN'
        on a ip link set v10 up 2>&1
        on a ip link set vde0 up; pings a 10.10.0.2
        on a ip link add link vde0 name w type vlan id 20 2>&1
        on a ip link add link vde0 name w type vlan id 4095 2>&1
        on a ip link add link lo name w type vlan id 4 2>&1
        on a ip link del vde0 && on a ip -o link | wc -l"#
    );
    let received = "2 packets transmitted, 2 received\n";
    let wanted = format!(
        "{}1 packets transmitted, 0 received\n{received}\
a from x
x from a
y from x
x from s
0
v10@vde0: <BROADCAST,MULTICAST,M-DOWN
RTNETLINK answers: Network is down
{received}Error: VLAN device already exists.
Error: Invalid VLAN id.
Error: VLANs not supported on device.
1
",
        received.repeat(4)
    );
    for place in INSIDE {
        assert_eq!(succeed(place, &script), wanted, "{place:?}");
    }
}
