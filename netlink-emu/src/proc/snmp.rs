//! `/proc/net/snmp`, `/proc/net/snmp6` and `/proc/net/netstat`.

use std::fmt::Write;

use super::snmp_names::{NETSTAT, SNMP, SNMP6};
use crate::{
    host::HostNet,
    values::{Snmp, SocketTable, TcpState},
};

pub(super) fn snmp(host: &dyn HostNet) -> String {
    groups(host, SNMP)
}

pub(super) fn netstat(host: &dyn HostNet) -> String {
    groups(host, NETSTAT)
}

fn groups(host: &dyn HostNet, groups: &[(&str, &str)]) -> String {
    let counters = host.snmp();
    let mut text = String::new();
    for (group, names) in groups {
        let values: Vec<String> =
            names.split_whitespace().map(|name| value(host, &counters, group, name)).collect();
        let _ = writeln!(text, "{group}: {names}\n{group}: {}", values.join(" "));
    }
    text
}

/// A counter, or the constant or state that stands among the counters.
fn value(host: &dyn HostNet, counters: &Snmp, group: &str, name: &str) -> String {
    if let Some(value) = counters.get(group, name) {
        return value.to_string();
    }
    let knob = |name: &str, default: &str| host.sysctl(name).unwrap_or(default.to_owned());
    match (group, name) {
        ("Ip", "Forwarding") if knob("ipv4.ip_forward", "0") != "0" => "1".to_owned(),
        ("Ip", "Forwarding") => "2".to_owned(),
        ("Ip", "DefaultTTL") => knob("ipv4.ip_default_ttl", "64"),
        ("Tcp", "RtoAlgorithm") => "1".to_owned(),
        ("Tcp", "RtoMin") => "200".to_owned(),
        ("Tcp", "RtoMax") => "120000".to_owned(),
        ("Tcp", "MaxConn") => "-1".to_owned(),
        ("Tcp", "CurrEstab") => {
            let open = |state| matches!(state, TcpState::Established | TcpState::CloseWait);
            let rows = host.sockets(SocketTable::Tcp);
            rows.iter().filter(|row| open(row.state)).count().to_string()
        }
        _ => "0".to_owned(),
    }
}

pub(super) fn snmp6(host: &dyn HostNet) -> String {
    let counters = host.snmp();
    let mut text = String::new();
    for (group, names) in SNMP6 {
        for name in names.split_whitespace() {
            let value = counters.get(group, name).unwrap_or(0);
            let _ = writeln!(text, "{:<32}\t{value}", format!("{group}{name}"));
        }
    }
    text
}
