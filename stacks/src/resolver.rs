//! The name servers of a stack: resolv.conf(5), made of what the mount and the network tell.

use std::{collections::BTreeMap, fmt::Write, net::IpAddr, sync::Arc};

use parking_lot::Mutex;
use umvu_abi::net::ResolvConf;

/// The most name servers that the C library uses (`MAXNS`).
const MOST_SERVERS: usize = 3;
/// The most domains that it searches (`MAXDNSRCH`).
const MOST_DOMAINS: usize = 6;

/// What one source tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Told {
    servers: Vec<String>,
    domains: Vec<String>,
}

/// Who tells about name servers, and what.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    fixed: Told,
    /// By source: an interface and how it learned.
    learned: BTreeMap<String, Told>,
    generation: u64,
}

impl Resolver {
    /// Starts with what a mount gives.
    pub(crate) fn new(servers: &[IpAddr], domains: &[String]) -> Arc<Self> {
        let servers = servers.iter().map(IpAddr::to_string).collect();
        let fixed = Told { servers, domains: domains.to_vec() };
        let state = State { fixed, ..State::default() };
        let generation = u64::from(state.text().is_some());
        Arc::new(Self { state: Mutex::new(State { generation, ..state }) })
    }

    /// A source tells this now: name servers, each with the interface that leads there, and domains.
    pub(crate) fn learn(&self, source: &str, servers: &[(IpAddr, &str)], domains: &[String]) {
        let servers = servers.iter().map(|(ip, by)| scoped(*ip, by)).collect();
        let told = Told { servers, domains: domains.to_vec() };
        self.change(|learned| {
            learned.insert(source.to_owned(), told);
        });
    }

    /// A source has nothing to tell any more.
    pub(crate) fn forget(&self, source: &str) {
        self.change(|learned| {
            learned.remove(source);
        });
    }

    fn change(&self, edit: impl FnOnce(&mut BTreeMap<String, Told>)) {
        let mut state = self.state.lock();
        let before = state.text();
        edit(&mut state.learned);
        if state.text() != before {
            state.generation += 1;
        }
    }

    /// The text of resolv.conf(5), nothing when nobody has told anything.
    pub(crate) fn tell(&self) -> ResolvConf {
        let state = self.state.lock();
        ResolvConf { generation: state.generation, text: state.text() }
    }
}

impl State {
    fn text(&self) -> Option<String> {
        let all = || std::iter::once(&self.fixed).chain(self.learned.values());
        let mut servers: Vec<&str> = Vec::new();
        let mut domains: Vec<&str> = Vec::new();
        for told in all() {
            for server in &told.servers {
                if !servers.contains(&server.as_str()) {
                    servers.push(server);
                }
            }
            for domain in &told.domains {
                if !domains.contains(&domain.as_str()) {
                    domains.push(domain);
                }
            }
        }
        servers.truncate(MOST_SERVERS);
        domains.truncate(MOST_DOMAINS);
        if servers.is_empty() && domains.is_empty() {
            return None;
        }
        let mut text = String::new();
        if !domains.is_empty() {
            let _ = writeln!(text, "search {}", domains.join(" "));
        }
        for server in servers {
            let _ = writeln!(text, "nameserver {server}");
        }
        Some(text)
    }
}

/// An address as resolv.conf(5) has it: a link-local one needs its interface.
fn scoped(ip: IpAddr, interface: &str) -> String {
    match ip {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => format!("{ip}%{interface}"),
        _ => ip.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_mount_says_comes_first_and_nothing_twice() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("literal");
        let resolver = Resolver::new(&[ip("10.0.0.1")], &[]);
        assert_eq!(resolver.tell().text.as_deref(), Some("nameserver 10.0.0.1\n"));
        let servers = ["10.0.0.1", "fd00::1", "fe80::2", "10.0.0.3"].map(|one| (ip(one), "vde0"));
        resolver.learn("vde0 dhcp", &servers, &["lab.test".to_owned()]);
        let wanted =
            "search lab.test\nnameserver 10.0.0.1\nnameserver fd00::1\nnameserver fe80::2%vde0\n";
        assert_eq!(resolver.tell().text.as_deref(), Some(wanted));
        assert_eq!(resolver.tell().generation, 2);
        resolver.learn("vde0 dhcp", &servers, &["lab.test".to_owned()]);
        assert_eq!(resolver.tell().generation, 2);
        resolver.forget("vde0 dhcp");
        assert_eq!(resolver.tell().text.as_deref(), Some("nameserver 10.0.0.1\n"));
        assert_eq!(Resolver::new(&[], &[]).tell(), ResolvConf::default());
    }
}
