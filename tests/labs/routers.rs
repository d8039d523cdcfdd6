//! Stacks as routers: long chains of them, and what a router tells the hosts on its links.

use crate::harness::{INSIDE, Place, succeed, with_hosts};

/// Twenty routers between two hosts, each link a switch of its own; each router has a route to each
/// network behind it.
const CHAIN: &str = r#"
N=20; W=$(mktemp -d); trap 'rm -r $W' EXIT
H() { h=$1; shift; vustack /dev/net/h$h "$@"; }
stack() {
    vumount -t vunetioth -o "switch://$W/s$2,ip=10.0.$2.$4/24,ip=fd00:$2::$4/64" smoltcp /dev/net/h$1 || exit 91
    [ -z "$3" ] && return
    H $1 iplink add vde1 type vde data "switch://$W/s$3" || exit 92
    H $1 sh -c "ip link set vde1 up; ip addr add 10.0.$3.1/24 dev vde1; ip -6 addr add fd00:$3::1/64 dev vde1 nodad"
}
stack 0 0 "" 1
for i in $(seq $N); do stack $i $((i-1)) $i 2; done
stack $((N+1)) $N "" 2
H 0 sh -c 'ip route add default via 10.0.0.2; ip -6 route add default via fd00:0::2'
H $((N+1)) sh -c "ip route add default via 10.0.$N.1; ip -6 route add default via fd00:$N::1"
for i in $(seq $N); do
    { [ $i = $N ] || echo route add default via 10.0.$i.2
      for j in $(seq 0 $((i-2))); do echo route add 10.0.$j.0/24 via 10.0.$((i-1)).1; done; } | H $i ip -batch - || exit 93
    { [ $i = $N ] || echo route add default via fd00:$i::2
      for j in $(seq 0 $((i-2))); do echo route add fd00:$j::/64 via fd00:$((i-1))::1; done; } | H $i ip -6 -batch - || exit 94
    H $i sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 || exit 95
done
for i in $(seq 40); do H 0 ping -c 1 -W 1 10.0.$N.2 >/dev/null && break; done
for i in $(seq 40); do H 0 ping -c 1 -W 1 fd00:$N::2 >/dev/null && break; done
"#;

#[test]
fn each_of_twenty_routers_shows() {
    let script = r#"
        H 0 traceroute -n -q 1 -m 30 -w 5 10.0.$N.2 | tail -n +2 | awk '{print $2}' | tr '\n' ' '; echo
        H 0 traceroute -6 -n -q 1 -m 30 -w 5 fd00:$N::2 | tail -n +2 | awk '{print $2}' | tr '\n' ' '; echo
        H 0 mtr -n -r -c 1 10.0.$N.2 | tail -n 1 | awk '{print $1, $2, $3}'
        H 0 tracepath -n 10.0.$N.2 | tail -n 1 | tr -s ' '
        H 0 ping -c 1 -t 5 -W 5 10.0.$N.2 | sed -n 2p
        H 0 ping -c 1 -t 21 -W 5 10.0.$N.2 | grep -o ttl=.. ; H 0 ping -c 1 -t 20 -W 5 10.0.$N.2 | sed -n 2p
        head -c 300000 /dev/urandom >$W/f; H $((N+1)) nc -l -N 5000 <$W/f & server=$!
        until H $((N+1)) ss -Hltn | grep -q :5000; do sleep 0.1; done
        H 0 nc -d 10.0.$N.2 5000 | cmp - $W/f && echo same; wait $server"#;
    let hops = |of: &dyn Fn(usize) -> String| (0..=20).map(|n| of(n) + " ").collect::<String>();
    let wanted = format!(
        "{}\n{}\n21.|-- 10.0.20.2 0.0%\n Resume: pmtu 1500 hops 21 back 21 \n\
         From 10.0.4.2 icmp_seq=1 Time to live exceeded\nttl=44\n\
         From 10.0.19.2 icmp_seq=1 Time to live exceeded\nsame\n",
        hops(&|n| format!("10.0.{n}.2")),
        hops(&|n| if n == 0 { "fd00::2".to_owned() } else { format!("fd00:{n}::2") })
    );
    for place in INSIDE {
        assert_eq!(succeed(place, &format!("{CHAIN}{script}")), wanted, "{place:?}");
    }
}

/// Three hosts on one link, as stacks or as namespaces: `a`, a router `r`, and `s`, which has addresses
/// behind it that `a` reaches by `r`.
const INSIDE_HOSTS: &str = r#"
W=$(mktemp -d); trap 'rm -r $W' EXIT
H() { h=$1; shift; vustack /dev/net/$h "$@"; }
for h in a r s; do vumount -t vunetioth -o "switch://$W/s" smoltcp /dev/net/$h || exit 90; done
"#;
const NATIVE_HOSTS: &str = r#"
mount -t tmpfs none /run || exit 90; W=$(mktemp -d -p /run)
H() { h=$1; shift; ip netns exec $h "$@"; }
ip link add br0 type bridge; ip link set br0 up
for h in a r s; do
    ip netns add $h && ip link add to_$h type veth peer name vde0 netns $h && ip link set to_$h master br0 up || exit 90
done
"#;
const SETTINGS: &str = r#"
number() { case $1 in a) echo 1;; r) echo 254;; s) echo 253;; esac; }
for h in a r s; do
    H $h sh -c "ip link set lo up; ip link set vde0 up
        ip addr add 10.0.0.$(number $h)/24 dev vde0; ip addr add fd00::$(number $h)/64 dev vde0 nodad"
done
until_linked() { until H $1 ip -6 -o addr show dev vde0 scope link | grep -v tentative | grep -q fe80; do sleep 0.1; done; }
local_of() { H $1 ip -6 -o addr show dev vde0 scope link | sed 's/.*inet6 \([^/]*\).*/\1/'; }
until_linked r; until_linked s
H s sh -c 'ip addr add 10.9.0.1/32 dev lo; ip addr add fd09::1/128 dev lo'
H r sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
H r ip route add 10.9.0.0/24 via 10.0.0.253; H r ip -6 route add fd09::/64 via $(local_of s) dev vde0
H a ip route add 10.9.0.0/24 via 10.0.0.254; H a ip -6 route add fd09::/64 via $(local_of r) dev vde0
"#;

fn on_three_hosts(place: Place, script: &str) -> String {
    match place {
        Place::Native => {
            let script = format!("{NATIVE_HOSTS}{SETTINGS}{script}").replace('\'', r"'\''");
            succeed(place, &format!("unshare -rnm bash -c '{script}'"))
        }
        _ => succeed(place, &format!("{INSIDE_HOSTS}{SETTINGS}{script}")),
    }
}

#[test]
fn a_router_tells_of_a_better_hop_and_hosts_follow() {
    // Packets that the router has passed on, before and after.
    let script = r#"
        sent4() { H r grep Ip: /proc/net/snmp | tail -n 1 | cut -d' ' -f7; }
        sent6() { H r grep Ip6OutForwDatagrams /proc/net/snmp6 | tr -dc '0-9\n' | cut -c2-; }
        for i in 1 2 3 4 5; do
            H a ping -c 1 -W 2 10.9.0.1 >/dev/null; H a ping -c 1 -W 2 fd09::1 >/dev/null; done
        four=$(sent4); six=$(sent6)
        H a ping -c 5 -i 0.2 10.9.0.1 | grep -o '. received'; H a ping -c 5 -i 0.2 fd09::1 | grep -o '. received'
        [ $(($(sent4) - four)) -lt 4 ] && [ $(($(sent6) - six)) -lt 4 ] && echo direct
        H a nstat -asz IcmpInRedirects Icmp6InRedirects | awk '/Redirects/ {print $1, $2 > 0}'
        H r nstat -asz IcmpOutRedirects Icmp6OutRedirects | awk '/Redirects/ {print $1, $2 > 0}'
        H a sysctl -qw net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.vde0.accept_redirects=0
        H a ip route del 10.9.0.0/24; H a ip route add 10.9.0.0/24 via 10.0.0.254
        four=$(sent4); H a ping -c 4 -i 0.2 10.9.0.1 | grep -o '. received'
        [ $(($(sent4) - four)) -ge 4 ] && echo by the router"#;
    let script = script.replace("$2 > 0", "($2 > 0)");
    let wanted = "5 received\n5 received\ndirect\nIcmpInRedirects 1\nIcmp6InRedirects 1\n\
                  IcmpOutRedirects 1\nIcmp6OutRedirects 1\n4 received\nby the router\n";
    for place in with_hosts() {
        assert_eq!(on_three_hosts(place, &script), wanted, "{place:?}");
    }
}

#[test]
fn a_router_answers_in_place_of_those_behind_it() {
    // `a` believes that 10.8.0.1, which is behind another interface of the router, is on its own link.
    let script = r#"
        H r sh -c "ip link add d0 type dummy && ip link set d0 up && ip route add 10.8.0.0/24 dev d0"
        H a ip route add 10.8.0.0/24 dev vde0
        arp() { H a ping -c 1 -W 1 10.8.0.1 >/dev/null; H a ip -4 neigh show 10.8.0.1 | grep -c lladdr; H a ip neigh flush dev vde0; }
        arp; H r sysctl -qw net.ipv4.conf.vde0.proxy_arp=1; arp
        H r sysctl -qw net.ipv4.ip_forward=0; arp"#;
    for place in with_hosts() {
        if place == Place::Native && !has_dummy() {
            continue;
        }
        assert_eq!(on_three_hosts(place, script), "0\n1\n0\n", "{place:?}");
    }
}

/// Whether this kernel has dummy interfaces.
fn has_dummy() -> bool {
    let made = crate::harness::run(Place::Native, "unshare -rn ip link add d0 type dummy");
    made.status == Some(0)
}
