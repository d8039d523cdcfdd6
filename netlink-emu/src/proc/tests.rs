//! The files next to those of the kernel that runs the test.

use std::sync::Arc;

use umvu_abi::{
    Errno, IfIndex,
    tree::{Entry, Tree},
};

use super::{proc_net, proc_sys_net};
use crate::{
    HostNet,
    sysfs::sys_class_net,
    testing::{Lab, row},
    values::{Neighbour, Prefix, Route, RouteKind, RouteMode, SocketTable, TcpState},
};

fn read(tree: &Arc<dyn Tree>, path: &str) -> String {
    String::from_utf8(tree.read(path).expect("a file")).expect("text")
}

fn net(lab: &Arc<Lab>) -> Arc<dyn Tree> {
    proc_net(&lab.host(), Some(&lab.hub))
}

#[test]
fn headers_are_those_of_the_kernel() {
    let tree = net(&Lab::fresh());
    let files = [
        "arp",
        "icmp",
        "icmp6",
        "mcfilter",
        "mcfilter6",
        "netlink",
        "packet",
        "raw",
        "raw6",
        "route",
        "rt_cache",
        "tcp",
        "tcp6",
        "udp",
        "udp6",
        "udplite",
        "udplite6",
        "unix",
        "igmp",
        "ip6_flowlabel",
    ];
    for file in files {
        let Ok(kernel) = std::fs::read_to_string(format!("/proc/net/{file}")) else { continue };
        let own = read(&tree, file);
        assert_eq!(own.lines().next(), kernel.lines().next(), "/proc/net/{file}");
    }
    if let Ok(kernel) = std::fs::read_to_string("/proc/net/dev") {
        let own = read(&tree, "dev");
        assert!(own.lines().take(2).eq(kernel.lines().take(2)));
    }
}

#[test]
fn a_fresh_namespace_has_these_lines() {
    let lab = Lab::ready();
    let tree = net(&lab);
    let lo = read(&tree, "dev").lines().nth(2).map(str::to_owned);
    let wanted = "    lo:       0       0    0    0    0     0          0         0        0       \
        0    0    0    0     0       0          0";
    assert_eq!(lo.as_deref(), Some(wanted));
    assert!(
        read(&tree, "if_inet6")
            .starts_with("00000000000000000000000000000001 01 80 10 80       lo\n")
    );
    assert!(read(&tree, "igmp").ends_with("\t\t\t\t010000E0     1 0:00000000\t\t0\n"));
    assert!(
        read(&tree, "igmp6").starts_with(
            "1    lo              ff020000000000000000000000000001     1 0000000C 0\n"
        )
    );
}

#[test]
fn routes_are_written_as_the_kernel_writes_them() {
    let lab = Lab::ready();
    let gateway = Route::default_by([10, 0, 0, 77].into());
    lab.add_route(&gateway, RouteMode::ADD).expect("a route");
    let black =
        Route { kind: RouteKind::Blackhole, ..Route::new(Prefix::new([10, 8, 0, 0].into(), 16)) };
    lab.add_route(&black, RouteMode::ADD).expect("a route");
    let tree = net(&lab);
    let text = read(&tree, "route");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.iter().all(|line| line.len() >= 127));
    let trimmed: Vec<&str> = lines[1..].iter().map(|line| line.trim_end()).collect();
    let wanted = [
        "vde0\t00000000\t4D00000A\t0003\t0\t0\t0\t00000000\t0\t0\t0",
        "vde0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
        "*\t0000080A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0",
    ];
    assert_eq!(trimmed, wanted);
    let text = read(&tree, "ipv6_route");
    assert!(text.starts_with(
        "fe800000000000000000000000000000 40 00000000000000000000000000000000 00 \
         00000000000000000000000000000000 00000100 00000001 00000000 00000001     vde0\n"
    ));
}

#[test]
fn sockets_are_written_as_the_kernel_writes_them() {
    let lab = Lab::ready();
    lab.rows.lock().extend([
        (SocketTable::Tcp, row("127.0.0.1:7777", "0.0.0.0:0", TcpState::Listen)),
        (SocketTable::Tcp, row("[::1]:7778", "[::]:0", TcpState::Listen)),
        (SocketTable::Udp, row("127.0.0.1:7779", "0.0.0.0:0", TcpState::Close)),
    ]);
    let tree = net(&lab);
    let line = |file: &str| read(&tree, file).lines().nth(1).map(|l| l.trim_end().to_owned());
    assert_eq!(
        line("tcp").as_deref(),
        Some(
            "   0: 0100007F:1E61 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        \
             0 228294 1 0000000000000007 100 0 0 10 0"
        )
    );
    assert_eq!(
        line("tcp6").as_deref(),
        Some(
            "   0: 00000000000000000000000001000000:1E62 00000000000000000000000000000000:0000 0A \
             00000000:00000000 00:00000000 00000000     0        0 228294 1 0000000000000007 100 \
             0 0 10 0"
        )
    );
    assert_eq!(
        line("udp").as_deref(),
        Some(
            "    0: 0100007F:1E63 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        \
             0 228294 2 0000000000000007 0"
        )
    );
    assert!(read(&tree, "sockstat").contains("TCP: inuse 1 orphan 0 tw 0 alloc 2 mem 0\n"));
}

#[test]
fn neighbours_are_written_as_the_kernel_writes_them() {
    let lab = Lab::ready();
    let neighbour = Neighbour::permanent(IfIndex(2), [10, 0, 0, 9].into(), [2, 0, 0, 0, 0, 1]);
    lab.add_neighbour(&neighbour, RouteMode::ADD).expect("a neighbour");
    let text = read(&net(&lab), "arp");
    let wanted = "10.0.0.9         0x1         0x6         02:00:00:00:00:01     *        vde0";
    assert_eq!(text.lines().nth(1), Some(wanted));
}

#[test]
fn missing_files_are_missing() {
    let tree = net(&Lab::fresh());
    assert_eq!(tree.entry("nothing"), Err(Errno::ENOENT));
    assert_eq!(tree.entry("dev/more"), Err(Errno::ENOTDIR));
    assert_eq!(tree.read(""), Err(Errno::EISDIR));
    assert_eq!(tree.write("dev", b"x"), Err(Errno::EACCES));
    let Ok(Entry::Directory(names)) = tree.entry("") else { panic!("a directory") };
    for name in names {
        assert!(tree.read(&name).is_ok(), "{name}");
    }
}

#[test]
fn sysctls_are_files() {
    let lab = Lab::ready();
    let tree = proc_sys_net(&lab.host());
    assert_eq!(read(&tree, "ipv4/ip_forward"), "0\n");
    tree.write("ipv4/ip_forward", b"1\n").expect("a knob");
    assert_eq!(read(&tree, "ipv4/conf/vde0/forwarding"), "1\n");
    assert_eq!(read(&tree, "ipv4/ip_local_port_range"), "32768\t60999\n");
    assert_eq!(tree.write("ipv4/ip_forward", b"yes"), Err(Errno::EINVAL));
    assert_eq!(tree.write("ipv4/nothing", b"1"), Err(Errno::ENOENT));
    assert_eq!(tree.entry("ipv4/ip_forward/x"), Err(Errno::ENOTDIR));
    assert_eq!(tree.read("ipv4/conf"), Err(Errno::EISDIR));
    let wanted = ["all", "default", "lo", "vde0"].map(str::to_owned).to_vec();
    assert_eq!(tree.entry("ipv6/conf"), Ok(Entry::Directory(wanted)));
    assert_eq!(
        tree.entry("ipv4/tcp_available_congestion_control"),
        Ok(Entry::File { mode: 0o444 })
    );
    assert_eq!(tree.write("ipv4/tcp_available_congestion_control", b"x"), Err(Errno::EACCES));
}

#[test]
fn interfaces_are_directories() {
    let lab = Lab::ready();
    let tree = sys_class_net(&lab.host());
    let wanted = ["lo", "vde0"].map(str::to_owned).to_vec();
    assert_eq!(tree.entry(""), Ok(Entry::Directory(wanted)));
    assert_eq!(read(&tree, "vde0/address"), "7e:76:c0:d7:3b:37\n");
    assert_eq!(read(&tree, "vde0/flags"), "0x1003\n");
    assert_eq!(read(&tree, "lo/type"), "772\n");
    assert_eq!(read(&tree, "lo/uevent"), "INTERFACE=lo\nIFINDEX=1\n");
    assert_eq!(read(&tree, "lo/statistics/rx_bytes"), "0\n");
    assert_eq!(tree.read("lo/speed"), Err(Errno::EINVAL));
    tree.write("vde0/mtu", b"1400\n").expect("a new MTU");
    assert_eq!(read(&tree, "vde0/mtu"), "1400\n");
    assert_eq!(tree.write("vde0/mtu", b"7"), Err(Errno::EINVAL));
    assert_eq!(tree.write("vde0/address", b"7"), Err(Errno::EACCES));
    assert_eq!(tree.entry("eth0"), Err(Errno::ENOENT));
    assert_eq!(tree.entry("lo/mtu/x"), Err(Errno::ENOTDIR));
}
