//! `/proc/net/{tcp,udp,raw,icmp}` and their IPv6 counterparts.

use std::{fmt::Write, net::IpAddr};

use crate::{
    host::HostNet,
    values::{SocketRow, SocketTable, SocketTimer, TcpState},
};

const TCP_HEADER: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when \
    retrnsmt   uid  timeout inode";
const COLUMNS: &str = "local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
    uid  timeout inode ref pointer drops";
pub(super) const UDP_HEADER: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr \
    tm->when retrnsmt   uid  timeout inode ref pointer drops            \n";
pub(super) const IPV6_HEADER: &str = "  sl  local_address                         \
    remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  \
    timeout inode";
pub(super) const DATAGRAM_COLUMNS: &str = " ref pointer drops";

/// The widths of lines that the kernel fills with spaces.
const TCP_WIDTH: usize = 149;
const WIDTH: usize = 127;

pub(super) fn ipv4(host: &dyn HostNet, table: SocketTable) -> String {
    let mut text = match table {
        SocketTable::Tcp => format!("{TCP_HEADER:<TCP_WIDTH$}\n"),
        SocketTable::Udp => UDP_HEADER.to_owned(),
        SocketTable::Raw => format!("  sl  {COLUMNS}\n"),
        SocketTable::Icmp => format!("{:<WIDTH$}\n", format!("  sl  {COLUMNS}")),
    };
    for (slot, row) in rows(host, table, false) {
        let line = line(slot, &row, table);
        let _ = match table {
            SocketTable::Tcp => writeln!(text, "{line:<TCP_WIDTH$}"),
            SocketTable::Udp | SocketTable::Icmp => writeln!(text, "{line:<WIDTH$}"),
            SocketTable::Raw => writeln!(text, "{line}"),
        };
    }
    text
}

pub(super) fn ipv6(host: &dyn HostNet, table: SocketTable) -> String {
    let columns = if table == SocketTable::Tcp { "" } else { DATAGRAM_COLUMNS };
    let mut text = format!("{IPV6_HEADER}{columns}\n");
    for (slot, row) in rows(host, table, true) {
        let _ = writeln!(text, "{}", line(slot, &row, table));
    }
    text
}

fn rows(host: &dyn HostNet, table: SocketTable, ipv6: bool) -> Vec<(usize, SocketRow)> {
    let mut rows: Vec<SocketRow> =
        host.sockets(table).into_iter().filter(|row| row.ipv6 == ipv6).collect();
    // Listeners come first.
    rows.sort_by_key(|row| row.state != TcpState::Listen);
    rows.into_iter().enumerate().collect()
}

fn line(slot: usize, row: &SocketRow, table: SocketTable) -> String {
    let wide = matches!(table, SocketTable::Udp | SocketTable::Icmp)
        || (table == SocketTable::Raw && row.ipv6);
    let width = if wide { 5 } else { 4 };
    let timer = if table == SocketTable::Tcp { row.timer } else { SocketTimer::default() };
    let mut line = format!(
        "{slot:>width$}: {}:{:04X} {}:{:04X} {:02X} {:08X}:{:08X} {:02X}:{:08X} {:08X} {:>5} \
         {:>8} {} ",
        address(row.local.ip(), row.ipv6),
        row.local.port(),
        address(row.remote.ip(), row.ipv6),
        row.remote.port(),
        row.state.number(),
        // Of a listener only ss(8) tells the backlog.
        if row.state == TcpState::Listen { 0 } else { row.send_queue },
        row.receive_queue,
        timer.kind,
        timer.expires / 10,
        timer.retransmits,
        row.uid,
        0,
        row.inode,
    );
    let _ = match (table, row.state) {
        (SocketTable::Tcp, TcpState::TimeWait | TcpState::SynRecv) => {
            write!(line, "1 {:016x}", row.cookie)
        }
        (SocketTable::Tcp, state) => {
            let tcp = row.tcp.as_deref().copied().unwrap_or_default();
            let rto = if tcp.rto == 0 { 100 } else { tcp.rto / 10_000 };
            let cwnd = if tcp.cwnd == 0 { 10 } else { tcp.cwnd };
            // Of a listener the last number is the length of its fast-open queue.
            let ssthresh = if state == TcpState::Listen { 0 } else { -1 };
            write!(line, "1 {:016x} {rto} 0 0 {cwnd} {ssthresh}", row.cookie)
        }
        _ => write!(line, "2 {:016x} {}", row.cookie, row.drops),
    };
    line
}

/// The bytes of an address as numbers of this machine, in hexadecimal.
fn address(ip: IpAddr, ipv6: bool) -> String {
    let octets = match ip {
        IpAddr::V4(ip) if !ipv6 => return format!("{:08X}", u32::from_ne_bytes(ip.octets())),
        IpAddr::V4(ip) if ip.is_unspecified() => [0; 16],
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    octets
        .chunks_exact(4)
        .map(|part| u32::from_ne_bytes([part[0], part[1], part[2], part[3]]))
        .map(|word| format!("{word:08X}"))
        .collect()
}
