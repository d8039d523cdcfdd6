//! The one trait between the interfaces of this crate and a stack.

use std::{borrow::Cow, fmt};

use umvu_abi::{Errno, IfIndex};

use crate::config::RuleWish;
use crate::values::{
    Address, Interface, LinkChange, Membership, Neighbour, NewLink, PacketRow, Qdisc, QdiscRequest,
    QdiscStats, Route, RouteAnswer, RouteMode, RouteQuery, Rule, Snmp, SocketRow, SocketTable,
    Station,
};

/// Why a request was refused: an error number and, as rtnetlink's extended acknowledgements have
/// it, a sentence (see [`crate::text`] for those of Linux).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The error number.
    pub errno: Errno,
    /// The text of `NLMSGERR_ATTR_MSG`, empty for none.
    pub message: Cow<'static, str>,
}

impl Failure {
    /// Makes a failure with a sentence.
    #[must_use]
    pub fn new(errno: Errno, message: impl Into<Cow<'static, str>>) -> Self {
        Self { errno, message: message.into() }
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        // Nothing but the shape of an attribute gives this number.
        if errno == Errno::ERANGE {
            return crate::text::POLICY;
        }
        Self { errno, message: Cow::Borrowed("") }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            fmt::Display::fmt(&self.errno, f)
        } else {
            f.write_str(&self.message)
        }
    }
}

impl std::error::Error for Failure {}

const REFUSED: Failure = Failure { errno: Errno::EOPNOTSUPP, message: Cow::Borrowed("") };

/// What a stack tells and lets programs change. Defaults: what Linux answers when something is
/// not supported (`EOPNOTSUPP`), or nothing to list.
///
/// Implementations must not call back into a netlink socket; they may publish changes on the
/// [`NetlinkHub`](crate::netlink::NetlinkHub) before they return, as the kernel notifies before it
/// acknowledges.
pub trait HostNet: Send + Sync {
    /// The interfaces, in order of their index.
    fn interfaces(&self) -> Vec<Interface>;

    /// The addresses, of both families, in the order that `ip address` shows.
    fn addresses(&self) -> Vec<Address>;

    /// The routes of all tables and both families, most specific prefix last, as the kernel lists
    /// them.
    fn routes(&self) -> Vec<Route>;

    /// The neighbours of all interfaces.
    fn neighbours(&self) -> Vec<Neighbour> {
        Vec::new()
    }

    /// The policy rules of a family.
    fn rules(&self, ipv6: bool) -> Vec<Rule> {
        Rule::defaults(ipv6)
    }

    /// Adds a policy rule, by default before those that are there but the first one.
    /// Errors: `EEXIST` when `exclusive`, `EINVAL`.
    fn add_rule(
        &self,
        _ipv6: bool,
        _rule: Rule,
        _priority: Option<u32>,
        _exclusive: bool,
    ) -> Result<(), Failure> {
        Err(REFUSED)
    }

    /// Deletes the first policy rule that is meant. Errors: `ENOENT`.
    fn del_rule(&self, _ipv6: bool, _wish: &RuleWish) -> Result<(), Failure> {
        Err(REFUSED)
    }

    /// Makes an interface. Errors: `EEXIST`, `EOPNOTSUPP` ("Unknown device type"), `EINVAL`.
    fn add_link(&self, _link: &NewLink) -> Result<IfIndex, Failure> {
        Err(REFUSED)
    }

    /// Whether [`Self::add_link`] may take long for this kind: then it is called by a thread of its
    /// own.
    fn opens_slowly(&self, _kind: &str) -> bool {
        false
    }

    /// Removes an interface. Errors: `ENODEV`, `EOPNOTSUPP` for one that is built in.
    fn del_link(&self, _index: IfIndex) -> Result<(), Failure> {
        Err(REFUSED)
    }

    /// Changes an interface. Errors: `ENODEV`, `EINVAL`, `EEXIST`, `EBUSY`.
    fn set_link(&self, _index: IfIndex, _change: &LinkChange) -> Result<(), Failure> {
        Err(REFUSED)
    }

    /// Adds or, with `present` false, removes an alternative name of an interface.
    /// Errors: `ENODEV`, `EEXIST`, `ENOENT`, `EINVAL`.
    fn set_alternative_name(
        &self,
        _index: IfIndex,
        _name: &str,
        _present: bool,
    ) -> Result<(), Failure> {
        Err(REFUSED)
    }

    /// Adds an address, or with [`RouteMode::replace`] changes its lifetimes and flags.
    /// Errors: `EEXIST`, `ENODEV`, `EINVAL`.
    fn add_address(&self, _address: &Address, _mode: RouteMode) -> Result<(), Failure> {
        Err(REFUSED)
    }

    /// Removes the address that equals `address` in interface, prefix, and, where given, label and
    /// peer. Errors: `EADDRNOTAVAIL`, `ENODEV`.
    fn del_address(&self, _address: &Address) -> Result<(), Failure> {
        Err(REFUSED)
    }

    /// Adds, replaces or appends a route. Errors: `EEXIST`, `ENOENT`, `ENETUNREACH`, `ENETDOWN`,
    /// `ENODEV`, `EINVAL`.
    fn add_route(&self, _route: &Route, _mode: RouteMode) -> Result<(), Failure> {
        Err(REFUSED)
    }

    /// Removes the first route that matches: fields of `route` that are unset
    /// ([`Scope::NOWHERE`](crate::values::Scope::NOWHERE), protocol 0, metric 0, None) match all.
    /// Errors: `ESRCH`.
    fn del_route(&self, _route: &Route) -> Result<(), Failure> {
        Err(REFUSED)
    }

    /// Finds the way to a destination. Errors: `ENETUNREACH`, `EHOSTUNREACH`, `EACCES`, `EINVAL`.
    fn route_get(&self, _query: &RouteQuery) -> Result<RouteAnswer, Failure> {
        Err(Errno::ENETUNREACH.into())
    }

    /// Adds or replaces a neighbour. Errors: `EEXIST`, `ENOENT`, `ENODEV`, `EINVAL`.
    fn add_neighbour(&self, _neighbour: &Neighbour, _mode: RouteMode) -> Result<(), Failure> {
        Err(REFUSED)
    }

    /// Removes a neighbour. Errors: `ENOENT`, `ENODEV`.
    fn del_neighbour(&self, _interface: IfIndex, _ip: std::net::IpAddr) -> Result<(), Failure> {
        Err(REFUSED)
    }

    /// The stations that bridges know, by bridge.
    fn stations(&self) -> Vec<Station> {
        Vec::new()
    }

    /// Adds or replaces a station that does not age. Errors: `EEXIST`, `ENOENT`, `ENODEV`, `EINVAL`
    /// when its port is none of the bridge's.
    fn add_station(&self, _station: &Station, _mode: RouteMode) -> Result<(), Failure> {
        Err(REFUSED)
    }

    /// Removes a station behind a port. Errors: `ENOENT`, `ENODEV`.
    fn del_station(&self, _port: IfIndex, _mac: [u8; 6]) -> Result<(), Failure> {
        Err(REFUSED)
    }

    /// The queueing disciplines of all interfaces, or of one, with what they have done; the inner
    /// ones after the outer ones.
    fn qdiscs(&self, _interface: Option<IfIndex>) -> Vec<(Qdisc, QdiscStats)> {
        Vec::new()
    }

    /// The queueing discipline that a request names. Errors: `ENODEV`, `ENOENT`, `EINVAL`.
    fn find_qdisc(&self, _request: &QdiscRequest) -> Result<Qdisc, Failure> {
        Err(REFUSED)
    }

    /// Makes, replaces or changes a queueing discipline. Errors: `ENODEV`, `ENOENT`, `EEXIST`,
    /// `EINVAL`.
    fn set_qdisc(&self, _request: &QdiscRequest) -> Result<(), Failure> {
        Err(REFUSED)
    }

    /// Removes a queueing discipline and those inside. Errors: `ENODEV`, `ENOENT`, `EINVAL`.
    fn del_qdisc(&self, _request: &QdiscRequest) -> Result<(), Failure> {
        Err(REFUSED)
    }

    /// The sockets of a table, of both families.
    fn sockets(&self, _table: SocketTable) -> Vec<SocketRow> {
        Vec::new()
    }

    /// The packet sockets.
    fn packet_sockets(&self) -> Vec<PacketRow> {
        Vec::new()
    }

    /// Aborts a socket (`ss -K`). Errors: `ENOENT`, `EOPNOTSUPP`.
    fn kill_socket(&self, _table: SocketTable, _cookie: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The multicast groups that interfaces have joined.
    fn memberships(&self) -> Vec<Membership> {
        Vec::new()
    }

    /// Protocol counters.
    fn snmp(&self) -> Snmp {
        Snmp::default()
    }

    /// The names of all sysctls below `net`, with dots, without `net.`: `ipv4.ip_forward`. A dot in
    /// an interface name is a slash, as in sysctl(8).
    fn sysctl_names(&self) -> Vec<String> {
        Vec::new()
    }

    /// The value of a sysctl, without a newline.
    fn sysctl(&self, _name: &str) -> Option<String> {
        None
    }

    /// Whether a sysctl can be written, by its permission bits.
    fn sysctl_is_writable(&self, _name: &str) -> bool {
        false
    }

    /// Sets a sysctl. Errors: `ENOENT`, `EINVAL`, `EACCES` when it cannot be written.
    fn set_sysctl(&self, _name: &str, _value: &str) -> Result<(), Errno> {
        Err(Errno::EACCES)
    }

    /// The stack's clock, in milliseconds since it started.
    fn uptime(&self) -> u64 {
        0
    }
}
