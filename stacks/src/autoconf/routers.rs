//! What routers advertise: the wait for it, and the name servers in it (RFC 8106), which a stack
//! hands on to user space as rtnetlink's `RTM_NEWNDUSEROPT`.

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use netlink_emu::{Failure, client, values::AddressFlags};
use parking_lot::Mutex;
use umvu_abi::{
    Errno, IfIndex, SockAddr,
    net::{NetStack, SocketSpec},
};
use umvu_reactor::{Handle, Interest, Registration};

use super::port::Port;
use crate::{
    net::{Halt, Socket, Watcher},
    resolver::Resolver,
};

/// `RTM_NEWNDUSEROPT` and its multicast group.
const USER_OPTION: u16 = 68;
const USER_OPTIONS: i32 = 20;
/// The fixed part of its message: `struct nduseroptmsg`.
const FIXED: usize = 16;
/// Options of RFC 8106.
const RDNSS: u8 = 25;
const DNSSL: u8 = 31;
/// More than any message.
const BUFFER: usize = 16 * 1024;
/// How often the addresses are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Waits until a router has given an address, or itself. Errors: `ETIMEDOUT`.
pub(super) fn wait(port: &Port, own: &[IpAddr], deadline: Instant) -> Result<(), Failure> {
    let mut rtnl = port.rtnl()?;
    loop {
        let addresses = rtnl.addresses(port.index)?;
        let waits = addresses.iter().any(|one| one.flags.contains(AddressFlags::TENTATIVE));
        let given = addresses.iter().find(|one| {
            let is_global = !matches!(one.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
            is_global && one.prefix.length < 128 && !own.contains(&one.ip())
        });
        if !waits && (given.is_some() || rtnl.has_router(port.index)?) {
            let what = given.map(|one| format!("{}/{}", one.ip(), one.prefix.length));
            port.say(&format!("rd: {}", what.as_deref().unwrap_or("a router, no address")));
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(Errno::ETIMEDOUT, "rd: no router answered"));
        }
        std::thread::sleep(LOOK);
    }
}

/// A name server or a domain, from whom, until when.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    link: IfIndex,
    what: What,
    until: Option<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Server(Ipv6Addr),
    Domain(String),
}

/// A socket that hears what routers tell, and what they have told.
#[derive(Debug)]
pub(super) struct RouterNews {
    socket: Socket,
    /// The interfaces that count, and their names.
    links: Vec<(IfIndex, String)>,
    resolver: Arc<Resolver>,
    entries: Mutex<Vec<Entry>>,
    watch: Mutex<Option<Registration>>,
}

impl RouterNews {
    /// Begins to listen. Errors: those of socket(2), `EINVAL` when the stack has no such news.
    pub(super) fn open(
        stack: &dyn NetStack,
        halt: &Halt,
        resolver: &Arc<Resolver>,
    ) -> io::Result<Self> {
        let (domain, kind) = (libc::AF_NETLINK, libc::SOCK_RAW);
        let socket =
            Socket::on(stack, SocketSpec { domain, kind, protocol: libc::NETLINK_ROUTE }, halt)?;
        socket.bind(&SockAddr::Netlink { pid: 0, groups: 0 })?;
        socket.set_int_option(libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, USER_OPTIONS)?;
        socket.set_nonblocking(true);
        let (links, entries, watch) = (Vec::new(), Mutex::default(), Mutex::default());
        Ok(Self { socket, links, resolver: Arc::clone(resolver), entries, watch })
    }

    /// Says which interfaces count.
    pub(super) fn of(self, links: Vec<(IfIndex, String)>) -> Self {
        Self { links, ..self }
    }

    /// Has the reactor call when there is news.
    pub(super) fn watch(&self, handle: &Handle) {
        if let Some(fd) = self.socket.fd() {
            *self.watch.lock() = handle.watch(fd, Interest::Read).ok();
        } else {
            let handle = handle.clone();
            let watcher: Watcher = Arc::new(move || handle.wake());
            self.socket.watch(watcher);
        }
    }

    /// Ends that.
    pub(super) fn unwatch(&self) {
        *self.watch.lock() = None;
    }

    /// Reads the news, and forgets what has expired.
    pub(super) fn read(&self) {
        let mut buffer = vec![0; BUFFER];
        let mut entries = self.entries.lock();
        let before = entries.clone();
        while let Ok(length) = self.socket.recv(&mut buffer) {
            for (_, answer) in client::answers(buffer.get(..length).unwrap_or_default()) {
                if let client::Answer::Message(USER_OPTION, payload) = answer {
                    self.take(&mut entries, &payload);
                }
            }
        }
        let now = Instant::now();
        entries.retain(|entry| entry.until.is_none_or(|until| until > now));
        if *entries != before {
            self.tell(&entries);
        }
    }

    /// When something expires next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.entries.lock().iter().filter_map(|entry| entry.until).min()
    }

    fn take(&self, entries: &mut Vec<Entry>, payload: &[u8]) {
        let Some(index) = payload.get(4..8).and_then(|bytes| bytes.first_chunk()) else { return };
        let link = IfIndex(u32::from_ne_bytes(*index));
        if !self.links.iter().any(|(known, _)| *known == link) {
            return;
        }
        for (seconds, what) in options(payload.get(FIXED..).unwrap_or_default()) {
            entries.retain(|entry| (entry.link, &entry.what) != (link, &what));
            if seconds > 0 {
                let end = Some(seconds).filter(|seconds| *seconds != u32::MAX);
                let end = end.map(|seconds| Duration::from_secs(u64::from(seconds)));
                let until = end.and_then(|end| Instant::now().checked_add(end));
                entries.push(Entry { link, what, until });
            }
        }
    }

    fn name_of(&self, link: IfIndex) -> &str {
        self.links.iter().find(|(known, _)| *known == link).map_or("", |(_, name)| name)
    }

    fn tell(&self, entries: &[Entry]) {
        let mut servers = Vec::new();
        let mut domains = Vec::new();
        for entry in entries {
            match &entry.what {
                What::Server(ip) => servers.push((IpAddr::V6(*ip), self.name_of(entry.link))),
                What::Domain(domain) => domains.push(domain.clone()),
            }
        }
        self.resolver.learn("rd", &servers, &domains);
    }
}

/// The name servers and domains in neighbour discovery options, with their lifetimes.
fn options(bytes: &[u8]) -> Vec<(u32, What)> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while let [kind, units, ..] = rest {
        let size = usize::from(*units) * 8;
        let Some(option) = rest.get(..size).filter(|_| size >= 8) else { break };
        let seconds = option.get(4..8).and_then(|bytes| bytes.first_chunk());
        let seconds = seconds.map_or(0, |bytes| u32::from_be_bytes(*bytes));
        match *kind {
            RDNSS => {
                let (servers, _) = option[8..].as_chunks::<16>();
                found.extend(servers.iter().map(|ip| (seconds, What::Server((*ip).into()))));
            }
            DNSSL => {
                found.extend(
                    names(&option[8..]).into_iter().map(|name| (seconds, What::Domain(name))),
                );
            }
            _ => {}
        }
        rest = &rest[size..];
    }
    found
}

/// The names of a list in the form of DNS, which ends with padding.
fn names(bytes: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut labels: Vec<&str> = Vec::new();
    let mut rest = bytes;
    while let [length, after @ ..] = rest {
        if *length == 0 {
            if labels.is_empty() {
                break;
            }
            names.push(std::mem::take(&mut labels).join("."));
            rest = after;
            continue;
        }
        let Some(label) = after.get(..usize::from(*length)) else { break };
        let is_plain =
            label.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte));
        let Some(label) = std::str::from_utf8(label).ok().filter(|_| is_plain) else { break };
        labels.push(label);
        rest = &after[usize::from(*length)..];
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_and_domains_are_read() {
        let mut bytes = vec![RDNSS, 3, 0, 0, 0, 0, 0, 60];
        bytes.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        bytes.extend_from_slice(&[DNSSL, 3, 0, 0, 0, 0, 0, 9]);
        bytes.extend_from_slice(b"\x03lab\x04test\0\x01x\0\0\0\0");
        let found = options(&bytes);
        let domain = |name: &str| (9, What::Domain(name.to_owned()));
        assert_eq!(
            found,
            [(60, What::Server(Ipv6Addr::LOCALHOST)), domain("lab.test"), domain("x")]
        );
        for cut in 0..bytes.len() {
            let _ = options(&bytes[..cut]);
        }
        assert!(options(&[RDNSS, 0, 0, 0]).is_empty());
        assert!(names(b"\x03a/b\0").is_empty());
    }
}
