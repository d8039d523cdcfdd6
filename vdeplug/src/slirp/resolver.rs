//! The name servers of this host, which the virtual one asks: those of `resolv.conf(5)`.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::SystemTime,
};

const FILE: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// How many there can be (`MAXNS` of resolv.h).
const MOST: usize = 3;

/// The name servers, and whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    servers: Vec<SocketAddr>,
    changed: Option<SystemTime>,
    next: usize,
}

impl Resolver {
    /// The server to ask: the same one, as long as it answers.
    pub(super) fn server(&mut self) -> Option<SocketAddr> {
        let changed = fs::metadata(FILE).and_then(|found| found.modified()).ok();
        if self.servers.is_empty() || changed != self.changed {
            let text = fs::read_to_string(FILE).unwrap_or_default();
            (self.servers, self.changed, self.next) = (servers(&text), changed, 0);
        }
        self.servers.get(self.next % self.servers.len().max(1)).copied()
    }

    /// Takes the next one: `server` did not answer.
    pub(super) fn failed(&mut self, server: SocketAddr) {
        if self.servers.get(self.next % self.servers.len().max(1)) == Some(&server) {
            self.next = self.next.wrapping_add(1);
        }
    }
}

/// Reads the servers; without any it is this host, as resolver(5) says.
fn servers(text: &str) -> Vec<SocketAddr> {
    let words = text.lines().filter_map(|line| line.trim_start().strip_prefix("nameserver"));
    let addresses = words.filter_map(|rest| rest.split_whitespace().next()?.parse::<IpAddr>().ok());
    let mut found: Vec<_> = addresses.take(MOST).map(|ip| SocketAddr::new(ip, PORT)).collect();
    if found.is_empty() {
        found.push(SocketAddr::new([127, 0, 0, 1].into(), PORT));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_and_take_turns() {
        let text = "# nameserver 9.9.9.9\nnameserver 192.0.2.1\n nameserver 2001:db8::1 # x\n\
                    nameserver fe80::1%eth0\nsearch nameserver\n";
        let found = servers(text);
        let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.0.2.1:53", "[2001:db8::1]:53"]);
        assert_eq!(servers("").len(), 1);
        let changed = fs::metadata(FILE).and_then(|found| found.modified()).ok();
        let mut resolver = Resolver { servers: found.clone(), changed, next: 0 };
        assert_eq!(resolver.server(), Some(found[0]));
        resolver.failed(found[1]);
        assert_eq!(resolver.server(), Some(found[0]));
        resolver.failed(found[0]);
        assert_eq!(resolver.server(), Some(found[1]));
    }
}
