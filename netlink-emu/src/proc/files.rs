//! The tree `/proc/net`: one table of names and makers.

use std::{fmt, sync::Arc};

use umvu_abi::{
    Errno,
    tree::{Entry, Tree},
};

use super::{dev, misc, route, snmp, sockets};
use crate::{
    host::HostNet,
    netlink::NetlinkHub,
    values::{Interface, SocketTable},
};

/// The tree `/proc/net`.
pub(super) struct ProcNet {
    host: Arc<dyn HostNet>,
    hub: Option<Arc<NetlinkHub>>,
}

/// Makes the content of a file.
type Maker = fn(&ProcNet) -> String;

const FILES: &[(&str, Maker)] = &[
    ("anycast6", |net| misc::anycast6(net.host())),
    ("arp", |net| misc::arp(net.host())),
    ("dev", |net| dev::dev(net.host())),
    ("dev_mcast", |net| dev::dev_mcast(net.host())),
    ("icmp", |net| sockets::ipv4(net.host(), SocketTable::Icmp)),
    ("icmp6", |net| sockets::ipv6(net.host(), SocketTable::Icmp)),
    ("if_inet6", |net| misc::if_inet6(net.host())),
    ("igmp", |net| misc::igmp(net.host())),
    ("igmp6", |net| misc::igmp6(net.host())),
    ("ip6_flowlabel", |_| misc::IP6_FLOWLABEL.to_owned()),
    ("ipv6_route", |net| route::ipv6_route(net.host())),
    ("mcfilter", |_| misc::MCFILTER.to_owned()),
    ("mcfilter6", |_| misc::MCFILTER6.to_owned()),
    ("netlink", |net| misc::netlink(net.hub.as_deref())),
    ("netstat", |net| snmp::netstat(net.host())),
    ("packet", |net| misc::packet(net.host())),
    ("protocols", |_| misc::PROTOCOLS.to_owned()),
    ("psched", |_| misc::PSCHED.to_owned()),
    ("ptype", |_| misc::PTYPE.to_owned()),
    ("raw", |net| sockets::ipv4(net.host(), SocketTable::Raw)),
    ("raw6", |net| sockets::ipv6(net.host(), SocketTable::Raw)),
    ("route", |net| route::route(net.host())),
    ("rt6_stats", |net| route::rt6_stats(net.host())),
    ("rt_cache", |_| route::RT_CACHE.to_owned()),
    ("snmp", |net| snmp::snmp(net.host())),
    ("snmp6", |net| snmp::snmp6(net.host())),
    ("sockstat", |net| misc::sockstat(net.host())),
    ("sockstat6", |net| misc::sockstat6(net.host())),
    ("softnet_stat", |_| misc::SOFTNET_STAT.to_owned()),
    ("tcp", |net| sockets::ipv4(net.host(), SocketTable::Tcp)),
    ("tcp6", |net| sockets::ipv6(net.host(), SocketTable::Tcp)),
    ("udp", |net| sockets::ipv4(net.host(), SocketTable::Udp)),
    ("udp6", |net| sockets::ipv6(net.host(), SocketTable::Udp)),
    ("udplite", |_| sockets::UDP_HEADER.to_owned()),
    ("udplite6", |_| sockets::IPV6_HEADER.to_owned() + sockets::DATAGRAM_COLUMNS + "\n"),
    ("unix", |_| misc::UNIX.to_owned()),
];

impl ProcNet {
    pub(super) fn new(host: Arc<dyn HostNet>, hub: Option<Arc<NetlinkHub>>) -> Self {
        Self { host, hub }
    }

    fn host(&self) -> &dyn HostNet {
        self.host.as_ref()
    }
}

impl fmt::Debug for ProcNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcNet")
    }
}

impl Tree for ProcNet {
    fn entry(&self, path: &str) -> Result<Entry, Errno> {
        if path.is_empty() {
            return Ok(Entry::Directory(
                FILES.iter().map(|(name, _)| (*name).to_owned()).collect(),
            ));
        }
        maker(path).map(|_| Entry::File { mode: 0o444 })
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        if path.is_empty() {
            return Err(Errno::EISDIR);
        }
        Ok(maker(path)?(self).into_bytes())
    }
}

/// The maker of a file. Errors: `ENOENT`, `ENOTDIR` below a file.
fn maker(path: &str) -> Result<Maker, Errno> {
    let name = path.split('/').next().unwrap_or_default();
    let (_, maker) = FILES.iter().find(|(held, _)| *held == name).ok_or(Errno::ENOENT)?;
    if path.len() > name.len() { Err(Errno::ENOTDIR) } else { Ok(*maker) }
}

/// The name of an interface, empty when it is gone.
pub(super) fn name_of(links: &[Interface], index: umvu_abi::IfIndex) -> &str {
    links.iter().find(|link| link.index == index).map_or("", |link| link.name.as_str())
}
