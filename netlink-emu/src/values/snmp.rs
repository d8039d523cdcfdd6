//! Protocol counters: `/proc/net/snmp`, `/proc/net/snmp6` and `/proc/net/netstat`.

use std::collections::BTreeMap;

/// Counters by Linux's names: `("Ip", "InReceives")`, `("Tcp", "ActiveOpens")`,
/// `("TcpExt", "TCPTimeouts")`, `("Ip6", "InReceives")`. What is not counted is 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snmp {
    counters: BTreeMap<(&'static str, &'static str), u64>,
}

impl Snmp {
    /// Sets one counter.
    pub fn set(&mut self, group: &'static str, name: &'static str, value: u64) {
        self.counters.insert((group, name), value);
    }

    /// One counter.
    #[must_use]
    pub fn get(&self, group: &str, name: &str) -> Option<u64> {
        self.counters
            .iter()
            .find(|((known_group, known_name), _)| *known_group == group && *known_name == name)
            .map(|(_, value)| *value)
    }
}
