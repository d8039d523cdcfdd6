//! The small files of `/proc/net`, a function each.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr},
};

use super::{files::name_of, groups, route::hex};
use crate::{
    host::HostNet,
    netlink::NetlinkHub,
    values::{NeighbourState, RouteKind, Scope, SocketTable, TcpState, table},
};

/// `/proc/net/psched`: how long the ticks of queueing disciplines are (64 ns), how many there are in
/// a microsecond and of clocks in a second.
pub(super) const PSCHED: &str = "000003e8 00000040 000f4240 3b9aca00\n";

pub(super) const IP6_FLOWLABEL: &str =
    "Label S Owner  Users  Linger Expires  Dst                              Opt\n";
pub(super) const MCFILTER: &str = "Idx Device        MCA        SRC    INC    EXC\n";
pub(super) const MCFILTER6: &str = "Idx Device                Multicast Address                   \
    Source Address    INC    EXC\n";
pub(super) const UNIX: &str = "Num       RefCount Protocol Flags    Type St Inode Path\n";
pub(super) const PTYPE: &str = "Type Device      Function\n0800          ip_rcv\n0806          \
    arp_rcv\n86dd          ipv6_rcv\n";
pub(super) const PROTOCOLS: &str = "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs \
     se re bi br ha uh gp em\n";
pub(super) const SOFTNET_STAT: &str = "00000000 00000000 00000000 00000000 00000000 00000000 \
    00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000\n";

pub(super) fn arp(host: &dyn HostNet) -> String {
    let links = host.interfaces();
    let mut text =
        "IP address       HW type     Flags       HW address            Mask     Device\n"
            .to_owned();
    for held in host.neighbours() {
        if held.ip.is_ipv6() || held.state == NeighbourState::NoArp {
            continue;
        }
        let flags = match held.state {
            NeighbourState::Permanent => 6,
            state if state.is_valid() => 2,
            _ => 0,
        };
        let mac = mac(held.mac.unwrap_or_default());
        let (ip, name) = (held.ip.to_string(), name_of(&links, held.interface));
        let _ = writeln!(text, "{ip:<16} 0x{:<10x}0x{flags:<10x}{mac:<17}     *        {name}", 1);
    }
    text
}

/// A hardware address with colons.
pub(crate) fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

pub(super) fn if_inet6(host: &dyn HostNet) -> String {
    let links = host.interfaces();
    let mut text = String::new();
    for address in host.addresses().iter().filter(|address| address.ip().is_ipv6()) {
        let scope = match address.scope {
            Scope::HOST => 0x10,
            Scope::LINK => 0x20,
            Scope::SITE => 0x40,
            _ => 0,
        };
        let _ = writeln!(
            text,
            "{} {:02x} {:02x} {scope:02x} {:02x} {:>8}",
            hex(address.ip()),
            address.interface.0,
            address.prefix.length,
            address.flags.bits() & 0xff,
            name_of(&links, address.interface),
        );
    }
    text
}

pub(super) fn anycast6(host: &dyn HostNet) -> String {
    let links = host.interfaces();
    let mut text = String::new();
    let routes = host.routes();
    let anycast = |route: &&crate::values::Route| {
        route.kind == RouteKind::Anycast && !route.is_ipv4() && route.table == table::LOCAL
    };
    for route in routes.iter().filter(anycast) {
        let Some(oif) = route.oif else { continue };
        let name = name_of(&links, oif);
        let _ = writeln!(text, "{:<4} {name:<15} {} {:>5}", oif.0, hex(route.destination.ip), 1);
    }
    text
}

pub(super) fn igmp(host: &dyn HostNet) -> String {
    let mut text = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n".to_owned();
    let members = groups::all(host);
    for link in host.interfaces() {
        let own: Vec<(Ipv4Addr, u32)> = members
            .iter()
            .filter(|member| member.interface == link.index)
            .filter_map(|member| match member.group {
                IpAddr::V4(group) => Some((group, member.users)),
                IpAddr::V6(_) => None,
            })
            .collect();
        if own.is_empty() {
            continue;
        }
        let (index, name, count) = (link.index.0, link.name, own.len());
        let _ = writeln!(text, "{index}\t{name:<10}: {count:5}      V3");
        for (group, users) in own {
            let group = u32::from_ne_bytes(group.octets());
            let _ = writeln!(text, "\t\t\t\t{group:08X} {users:5} 0:00000000\t\t0");
        }
    }
    text
}

pub(super) fn igmp6(host: &dyn HostNet) -> String {
    /// `MAF_LAST_REPORTER | MAF_LOADED`, and without reports.
    const REPORTED: u32 = 0xc;
    const UNREPORTED: u32 = 0x8;
    let links = host.interfaces();
    let mut text = String::new();
    for member in groups::all(host) {
        let IpAddr::V6(group) = member.group else { continue };
        let flags = if group.octets()[1] & 0xf == 1 { UNREPORTED } else { REPORTED };
        let (index, name) = (member.interface.0, name_of(&links, member.interface));
        let (group, users) = (hex(group.into()), member.users);
        let _ = writeln!(text, "{index:<4} {name:<15} {group} {users:5} {flags:08X} 0");
    }
    text
}

pub(super) fn netlink(hub: Option<&NetlinkHub>) -> String {
    let mut text = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    \
        Drops    Inode\n"
        .to_owned();
    for (slot, (protocol, port, groups)) in
        hub.map(NetlinkHub::listing).unwrap_or_default().into_iter().enumerate()
    {
        let _ = writeln!(
            text,
            "{slot:016x} {protocol:<3} {port:<10} {groups:08x} {:<8} {:<8} {:<5} {:<8} {:<8} {:<8}",
            0, 0, 0, 2, 0, 0,
        );
    }
    text
}

pub(super) fn packet(host: &dyn HostNet) -> String {
    let mut text = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n".to_owned();
    for (slot, row) in host.packet_sockets().into_iter().enumerate() {
        let _ = writeln!(
            text,
            "{slot:016x} {:<6} {:<4} {:04x}   {:<5} 1 {:<6} {:<6} {:<6}",
            3, row.kind, row.protocol, row.interface.0, row.receive_queue, row.uid, row.inode,
        );
    }
    text
}

/// How many sockets of a table and family there are, without those in TIME-WAIT.
fn count(host: &dyn HostNet, table: SocketTable, ipv6: bool) -> usize {
    let rows = host.sockets(table);
    rows.iter().filter(|row| row.ipv6 == ipv6 && row.state != TcpState::TimeWait).count()
}

pub(super) fn sockstat(host: &dyn HostNet) -> String {
    let tables = [SocketTable::Tcp, SocketTable::Udp, SocketTable::Raw, SocketTable::Icmp];
    let [tcp, udp, raw, _] = tables.map(|table| count(host, table, false));
    let used: usize = tables.iter().map(|table| host.sockets(*table).len()).sum();
    let waiting = |state: TcpState| state == TcpState::TimeWait;
    let rows = host.sockets(SocketTable::Tcp);
    let waiting = rows.iter().filter(|row| waiting(row.state)).count();
    let alloc = rows.len() - waiting;
    format!(
        "sockets: used {used}\nTCP: inuse {tcp} orphan 0 tw {waiting} alloc {alloc} mem 0\n\
         UDP: inuse {udp} mem 0\nUDPLITE: inuse 0\nRAW: inuse {raw}\nFRAG: inuse 0 memory 0\n"
    )
}

pub(super) fn sockstat6(host: &dyn HostNet) -> String {
    let [tcp, udp, raw] = [SocketTable::Tcp, SocketTable::Udp, SocketTable::Raw]
        .map(|table| count(host, table, true));
    format!(
        "TCP6: inuse {tcp}\nUDP6: inuse {udp}\nUDPLITE6: inuse 0\nRAW6: inuse {raw}\n\
         FRAG6: inuse 0 memory 0\n"
    )
}
