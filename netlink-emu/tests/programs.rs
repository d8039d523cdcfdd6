//! Real programs on an emulated stack: what `ip`, `ss`, `ifconfig` and others print.
//!
//! They run with a preloaded shim that leads their sockets to a server in the test. The expected
//! outputs were taken from a real kernel (6.18) in a network namespace with the same commands;
//! these tests cannot run there because they need no privilege to make one.

#[path = "programs/server.rs"]
mod server;

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use netlink_emu::values::{SocketTable, TcpState};
use server::{Server, row};

/// Whether a program is there; those who do not have it skip its test.
fn has(program: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .any(|folder| std::path::Path::new(folder).join(program).exists())
}

/// A session: lines that start with `$` are commands, the others what they print.
fn session(server: &Server, script: &str) {
    let mut lines = script.lines().map(str::trim_end).skip_while(|line| line.is_empty()).peekable();
    while let Some(line) = lines.next() {
        let command = line.strip_prefix("$ ").expect("a command");
        let mut wanted = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
            wanted.push(line);
        }
        let output = server.run(command);
        let got: Vec<&str> = output.lines().map(str::trim_end).collect();
        assert_eq!(got, wanted, "{command}");
    }
}

/// Starts a server if the programs are there.
fn start(programs: &[&str]) -> Option<Server> {
    if programs.iter().all(|program| has(program)) { Server::start() } else { None }
}

#[test]
fn a_fresh_stack_is_configured_step_by_step() {
    let Some(server) = start(&["ip"]) else { return };
    session(
        &server,
        "
$ ip link
1: lo: <LOOPBACK> mtu 65536 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
2: vde0: <BROADCAST,MULTICAST> mtu 1500 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/ether 7e:76:c0:d7:3b:37 brd ff:ff:ff:ff:ff:ff
$ ip route
$ ip addr add 192.168.250.250/24 dev vde0
$ ip link set vde0 up
$ ip route add default via 192.168.250.1
$ ip addr
1: lo: <LOOPBACK> mtu 65536 qdisc noop state DOWN group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
2: vde0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc pfifo_fast state UNKNOWN group default qlen 1000
    link/ether 7e:76:c0:d7:3b:37 brd ff:ff:ff:ff:ff:ff
    inet 192.168.250.250/24 scope global vde0
       valid_lft forever preferred_lft forever
    inet6 fe80::7c76:c0ff:fed7:3b37/64 scope link
       valid_lft forever preferred_lft forever
$ ip route
default via 192.168.250.1 dev vde0
192.168.250.0/24 dev vde0 proto kernel scope link src 192.168.250.250
$ ip -6 route
fe80::/64 dev vde0 proto kernel metric 256 pref medium
$ ip link set lo up
$ ip addr show lo
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
    inet 127.0.0.1/8 scope host lo
       valid_lft forever preferred_lft forever
    inet6 ::1/128 scope host
       valid_lft forever preferred_lft forever
$ ip rule
0:	from all lookup local
32766:	from all lookup main
32767:	from all lookup default",
    );
}

#[test]
fn routes_are_listed_looked_up_and_refused() {
    let Some(server) = start(&["ip"]) else { return };
    for line in ["ip link set lo up", "ip link set vde0 up", "ip addr add 10.0.0.1/24 dev vde0"] {
        assert_eq!(server.run(line), "", "{line}");
    }
    session(
        &server,
        "
$ ip route add default via 10.0.0.77
$ ip route add 10.0.0.0/8 via 1.2.3.4
Error: Nexthop has invalid gateway.
$ ip route add 10.7.0.0/16 dev vde0
$ ip route add 10.7.0.0/16 dev vde0
RTNETLINK answers: File exists
$ ip route add blackhole 10.8.0.0/16
$ ip route get 10.7.1.1
10.7.1.1 dev vde0 src 10.0.0.1 uid 0
    cache
$ ip route get 10.0.0.1
local 10.0.0.1 dev lo src 10.0.0.1 uid 0
    cache <local>
$ ip route get 8.8.8.8
8.8.8.8 via 10.0.0.77 dev vde0 src 10.0.0.1 uid 0
    cache
$ ip route get 10.8.1.1
RTNETLINK answers: Invalid argument
$ ip route get 10.0.0.255
broadcast 10.0.0.255 dev vde0 src 10.0.0.1 uid 0
    cache <local,brd>
$ ip route get 8.8.8.8 from 10.0.0.1
8.8.8.8 from 10.0.0.1 via 10.0.0.77 dev vde0 uid 0
    cache
$ ip route get fibmatch 8.8.8.8
default via 10.0.0.77 dev vde0
$ ip route add 5.5.5.0/24 via 7.7.7.7 dev vde0 onlink
$ ip route add 5.5.6.0/24 nexthop via 10.0.0.2 weight 2 nexthop via 10.0.0.3
$ ip route add 10.66.0.1/16 via 10.0.0.7
Error: Invalid prefix for given prefix length.
$ ip route replace default via 10.0.0.78
$ ip route append default via 10.0.0.79
$ ip route
default via 10.0.0.78 dev vde0
default via 10.0.0.79 dev vde0
5.5.5.0/24 via 7.7.7.7 dev vde0 onlink
5.5.6.0/24
	nexthop via 10.0.0.2 dev vde0 weight 2
	nexthop via 10.0.0.3 dev vde0 weight 1
10.0.0.0/24 dev vde0 proto kernel scope link src 10.0.0.1
10.7.0.0/16 dev vde0 scope link
blackhole 10.8.0.0/16
$ ip route show table 77
Error: ipv4: FIB table does not exist.
Dump terminated
$ ip route del 10.55.0.0/16
RTNETLINK answers: No such process
$ ip -6 route add fd01::/64 via fe80::1
Error: Egress device not specified.
$ ip -6 route add unreachable fd01::/64
$ ip -6 route
unreachable fd01::/64 dev lo metric 1024 pref medium
fe80::/64 dev vde0 proto kernel metric 256 pref medium
$ ip -6 route get ff02::1
multicast ff02::1 from :: dev vde0 table local proto kernel src fe80::7c76:c0ff:fed7:3b37 metric 256 pref medium
$ ip link set vde0 down
$ ip route
blackhole 10.8.0.0/16
$ ip route add default dev vde0
Error: Device for nexthop is not up.
$ ip -6 route add default dev vde0
Error: Nexthop device is not up.",
    );
}

#[test]
fn interfaces_are_made_changed_and_removed() {
    let Some(server) = start(&["ip"]) else { return };
    session(
        &server,
        "
$ ip link add vde7 mtu 1400 type vde
$ ip link show vde7
3: vde7: <BROADCAST,MULTICAST> mtu 1400 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/ether 02:00:00:00:00:03 brd ff:ff:ff:ff:ff:ff
$ ip link add foo type nosuch
Error: Unknown device type.
$ ip link set vde7 mtu 10
Error: mtu less than device minimum.
$ ip link set vde7 mtu 100000
Error: mtu greater than device maximum.
$ ip link set vde7 name vde0
RTNETLINK answers: File exists
$ ip link set vde7 name lan
$ ip link property add dev lan altname inside
$ ip link set inside alias uplink
$ ip link show inside
3: lan: <BROADCAST,MULTICAST> mtu 1400 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/ether 02:00:00:00:00:03 brd ff:ff:ff:ff:ff:ff
    alias uplink
    altname inside
$ ip link set lan address 01:00:00:00:00:01
RTNETLINK answers: Cannot assign requested address
$ ip link del lan
$ ip link show lan
Device \"lan\" does not exist.
$ ip link del lo
RTNETLINK answers: Operation not supported
$ ip addr add 10.0.0.1/24 dev vde0
$ ip addr add 10.0.0.1/24 dev vde0
Error: ipv4: Address already assigned.
$ ip addr del 10.0.0.9/24 dev vde0
Error: ipv4: Address not found.
$ ip addr del fc00::9/64 dev vde0
Error: ipv6: address not found.
$ ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:01 dev vde0
$ ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:01 dev vde0
RTNETLINK answers: File exists
$ ip neigh
10.0.0.9 dev vde0 lladdr 02:00:00:00:00:01 PERMANENT
$ ip neigh del 10.0.0.88 dev vde0
RTNETLINK answers: No such file or directory
$ ip netconf show dev vde0
inet vde0 forwarding off rp_filter off mc_forwarding off proxy_neigh off ignore_routes_with_linkdown off
inet6 vde0 forwarding off mc_forwarding off proxy_neigh off ignore_routes_with_linkdown off",
    );
}

#[test]
fn empty_subsystems_are_empty() {
    let Some(server) = start(&["ip", "tc", "bridge", "ss"]) else { return };
    session(
        &server,
        "
$ ip nexthop
RTNETLINK answers: Operation not supported
Dump terminated
$ ip ntable
$ ip mroute
$ ip addrlabel
$ ip stats show
$ bridge link
$ bridge fdb
$ bridge mdb
$ tc qdisc
$ tc class show dev vde0
$ tc filter show dev vde0
$ tc qdisc add dev vde0 root htb
Error: Specified qdisc kind is unknown.
$ ip rule add from 1.2.3.4 tos 8 lookup 7
Error: Rules choose by addresses, interfaces and marks here.
$ ss -Ha
$ ss -Hx
$ ss -H0",
    );
}

#[test]
fn ifconfig_route_and_arp_work() {
    let Some(server) = start(&["ifconfig", "route", "arp"]) else { return };
    session(
        &server,
        "
$ ifconfig vde0 10.0.0.1 netmask 255.255.255.0
$ ifconfig vde0:1 10.0.1.1 netmask 255.255.255.0
$ ifconfig
vde0: flags=4163<UP,BROADCAST,RUNNING,MULTICAST>  mtu 1500
        inet 10.0.0.1  netmask 255.255.255.0  broadcast 10.0.0.255
        inet6 fe80::7c76:c0ff:fed7:3b37  prefixlen 64  scopeid 0x20<link>
        ether 7e:76:c0:d7:3b:37  txqueuelen 1000  (Ethernet)
        RX packets 0  bytes 0 (0.0 B)
        RX errors 0  dropped 0  overruns 0  frame 0
        TX packets 0  bytes 0 (0.0 B)
        TX errors 0  dropped 0 overruns 0  carrier 0  collisions 0

vde0:1: flags=4163<UP,BROADCAST,RUNNING,MULTICAST>  mtu 1500
        inet 10.0.1.1  netmask 255.255.255.0  broadcast 10.0.1.255
        ether 7e:76:c0:d7:3b:37  txqueuelen 1000  (Ethernet)

$ route add default gw 10.0.0.254
$ route add -net 10.77.0.0 netmask 255.255.0.0 dev vde0
$ route add -host 10.78.0.1 dev vde0
$ route -n
Kernel IP routing table
Destination     Gateway         Genmask         Flags Metric Ref    Use Iface
0.0.0.0         10.0.0.254      0.0.0.0         UG    0      0        0 vde0
10.0.0.0        0.0.0.0         255.255.255.0   U     0      0        0 vde0
10.0.1.0        0.0.0.0         255.255.255.0   U     0      0        0 vde0
10.77.0.0       0.0.0.0         255.255.0.0     U     0      0        0 vde0
10.78.0.1       0.0.0.0         255.255.255.255 UH    0      0        0 vde0
$ route del default
$ ifconfig vde0:1 down
$ arp -s 10.0.0.9 02:00:00:00:00:09
$ arp -n
Address                  HWtype  HWaddress           Flags Mask            Iface
10.0.0.9                 ether   02:00:00:00:00:09   CM                    vde0
$ arp -d 10.0.0.9
$ arp -n
$ ifconfig vde0 add fc00::5/64
$ route -6 add fd00::/32 dev vde0
$ ip -6 route
fc00::/64 dev vde0 proto kernel metric 256 pref medium
fd00::/32 dev vde0 metric 1 pref medium
fe80::/64 dev vde0 proto kernel metric 256 pref medium",
    );
}

#[test]
fn busybox_is_content() {
    let Some(server) = start(&["busybox"]) else { return };
    server.run("busybox ifconfig vde0 10.0.0.1 netmask 255.255.255.0 up");
    session(
        &server,
        "
$ busybox ip addr
1: lo: <LOOPBACK> mtu 65536 qdisc noop qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
2: vde0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc pfifo_fast qlen 1000
    link/ether 7e:76:c0:d7:3b:37 brd ff:ff:ff:ff:ff:ff
    inet 10.0.0.1/24 brd 10.0.0.255 scope global vde0
       valid_lft forever preferred_lft forever
    inet6 fe80::7c76:c0ff:fed7:3b37/64 scope link
       valid_lft forever preferred_lft forever
$ busybox ip route add default via 10.0.0.2
$ busybox ip route
default via 10.0.0.2 dev vde0
10.0.0.0/24 dev vde0 scope link  src 10.0.0.1
$ busybox route -n
Kernel IP routing table
Destination     Gateway         Genmask         Flags Metric Ref    Use Iface
0.0.0.0         10.0.0.2        0.0.0.0         UG    0      0        0 vde0
10.0.0.0        0.0.0.0         255.255.255.0   U     0      0        0 vde0",
    );
}

#[test]
fn ss_and_netstat_show_the_sockets() {
    let Some(server) = start(&["ss", "netstat"]) else { return };
    server.lab.sockets.lock().extend([
        (SocketTable::Tcp, row("0.0.0.0:22", "0.0.0.0:0", TcpState::Listen)),
        (SocketTable::Tcp, row("10.0.0.1:22", "10.0.0.2:40000", TcpState::Established)),
        (SocketTable::Tcp, row("[::]:80", "[::]:0", TcpState::Listen)),
        (SocketTable::Udp, row("10.0.0.1:68", "0.0.0.0:0", TcpState::Close)),
    ]);
    let columns = |line: &str| {
        let output = server.run(line);
        let rows = output.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "));
        rows.collect::<Vec<String>>()
    };
    let wanted = [
        "LISTEN 0 0 0.0.0.0:22 0.0.0.0:*",
        "ESTAB 0 0 10.0.0.1:22 10.0.0.2:40000",
        "LISTEN 0 0 [::]:80 [::]:*",
    ];
    assert_eq!(columns("ss -Hant"), wanted);
    assert_eq!(columns("ss -Htn state established"), ["0 0 10.0.0.1:22 10.0.0.2:40000"]);
    assert_eq!(columns("ss -Hlnt sport = :80"), ["LISTEN 0 0 [::]:80 [::]:*"]);
    assert_eq!(columns("ss -Hanu"), ["UNCONN 0 0 10.0.0.1:68 0.0.0.0:*"]);
    let wanted = [
        "tcp 0 0 0.0.0.0:22 0.0.0.0:* LISTEN",
        "tcp 0 0 10.0.0.1:22 10.0.0.2:40000 ESTABLISHED",
        "tcp6 0 0 :::80 :::* LISTEN",
    ];
    assert_eq!(columns("netstat -ant")[2..], wanted);
}

#[test]
fn a_monitor_hears_of_changes() {
    let Some(server) = start(&["ip"]) else { return };
    let mut monitor =
        server.command("ip monitor").stdout(Stdio::piped()).spawn().expect("a program");
    let mut lines = BufReader::new(monitor.stdout.take().expect("a pipe")).lines();
    // It listens once it is a member.
    while !server.lab.hub.listing().iter().any(|(_, _, groups)| *groups != 0) {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    server.run("ip addr add 10.0.0.1/24 dev vde0");
    server.run("ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:01 dev vde0");
    let mut next = || lines.next().expect("a line").expect("text").trim_end().to_owned();
    assert_eq!(next(), "2: vde0    inet 10.0.0.1/24 scope global vde0");
    assert_eq!(next(), "       valid_lft forever preferred_lft forever");
    assert_eq!(next(), "local 10.0.0.1 dev vde0 table local proto kernel scope host src 10.0.0.1");
    assert_eq!(next(), "10.0.0.9 dev vde0 lladdr 02:00:00:00:00:01 PERMANENT");
    monitor.kill().expect("a running program");
    monitor.wait().expect("an ended program");
}
