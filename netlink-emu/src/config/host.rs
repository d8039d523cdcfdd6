//! The short way to be a [`HostNet`]: a stack that keeps a [`NetConfig`].

use std::net::IpAddr;

use umvu_abi::{Errno, IfIndex};

use super::{NetConfig, RuleWish};
use crate::{
    host::{Failure, HostNet},
    text,
    values::{
        Address, Counters, Interface, LinkChange, Membership, Neighbour, NewLink, PacketRow, Qdisc,
        QdiscRequest, QdiscStats, Route, RouteAnswer, RouteMode, RouteQuery, Rule, Snmp, SocketRow,
        SocketTable, Station,
    },
};

/// A stack that keeps a [`NetConfig`] under its own lock; it is a [`HostNet`] by that.
pub trait ConfigHost: Send + Sync {
    /// What is behind an interface: a device that was opened.
    type Device;

    /// Runs `f` on the configuration, with the stack's lock held and
    /// [`NetConfig::set_now`] called before.
    ///
    /// Afterwards, before the lock is released, the stack takes the changes, lets its data plane
    /// follow, and publishes them ([`NetlinkHub::publish`](crate::netlink::NetlinkHub::publish)).
    fn with_config<R>(&self, f: impl FnOnce(&mut NetConfig) -> R) -> R
    where
        Self: Sized;

    /// The traffic counters of an interface, if they are not kept in the configuration.
    fn counters(&self, _index: IfIndex) -> Option<Counters> {
        None
    }

    /// What a queueing discipline has done.
    fn qdisc_stats(&self, _qdisc: &Qdisc) -> QdiscStats {
        QdiscStats::default()
    }

    /// See [`HostNet::opens_slowly`].
    fn opens_slowly(&self, _kind: &str) -> bool {
        false
    }

    /// Opens the device of an interface that `ip link add` asks for, under the planned name and
    /// index; the configuration then takes the result in, and the stack plugs the device.
    /// Errors: "Unknown device type" by default; of a bad locator `EINVAL` with a sentence.
    fn open_link(
        &self,
        _link: &NewLink,
        _name: &str,
        _index: IfIndex,
    ) -> Result<(Interface, Self::Device), Failure> {
        Err(text::LINK_UNKNOWN_KIND)
    }

    /// Puts the device behind an interface that the configuration has taken in; it is down.
    /// Errors: those of watching the device; then the interface goes again.
    fn plug(&self, _index: IfIndex, _device: Self::Device) -> Result<(), Failure> {
        Ok(())
    }

    /// The neighbours, if the stack keeps them itself; None for those of the configuration.
    fn own_neighbours(&self) -> Option<Vec<Neighbour>> {
        None
    }

    /// Sets a neighbour in the stack's own table; None leaves it to the configuration.
    fn add_own_neighbour(
        &self,
        _neighbour: &Neighbour,
        _mode: RouteMode,
    ) -> Option<Result<(), Failure>> {
        None
    }

    /// Removes a neighbour from the stack's own table; None leaves it to the configuration.
    fn del_own_neighbour(&self, _index: IfIndex, _ip: IpAddr) -> Option<Result<(), Failure>> {
        None
    }

    /// See [`HostNet::stations`].
    fn stations(&self) -> Vec<Station> {
        Vec::new()
    }

    /// See [`HostNet::add_station`]. Errors: `EOPNOTSUPP` by default.
    fn add_station(&self, _station: &Station, _mode: RouteMode) -> Result<(), Failure> {
        Err(Errno::EOPNOTSUPP.into())
    }

    /// See [`HostNet::del_station`]. Errors: `EOPNOTSUPP` by default.
    fn del_station(&self, _port: IfIndex, _mac: [u8; 6]) -> Result<(), Failure> {
        Err(Errno::EOPNOTSUPP.into())
    }

    /// See [`HostNet::sockets`].
    fn sockets(&self, _table: SocketTable) -> Vec<SocketRow> {
        Vec::new()
    }

    /// See [`HostNet::packet_sockets`].
    fn packet_sockets(&self) -> Vec<PacketRow> {
        Vec::new()
    }

    /// See [`HostNet::kill_socket`].
    fn kill_socket(&self, _table: SocketTable, _cookie: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// See [`HostNet::memberships`].
    fn memberships(&self) -> Vec<Membership> {
        Vec::new()
    }

    /// See [`HostNet::snmp`].
    fn snmp(&self) -> Snmp {
        Snmp::default()
    }
}

impl<T: ConfigHost> HostNet for T {
    fn interfaces(&self) -> Vec<Interface> {
        let mut links = self.with_config(|config| config.links().to_vec());
        for link in &mut links {
            if let Some(counters) = self.counters(link.index) {
                link.counters = counters;
            }
        }
        links
    }

    fn addresses(&self) -> Vec<Address> {
        self.with_config(|config| config.addresses())
    }

    fn routes(&self) -> Vec<Route> {
        self.with_config(|config| config.routes())
    }

    fn neighbours(&self) -> Vec<Neighbour> {
        match self.own_neighbours() {
            Some(neighbours) => neighbours,
            None => self.with_config(|config| config.neighbours().to_vec()),
        }
    }

    fn add_link(&self, link: &NewLink) -> Result<IfIndex, Failure> {
        if let Some(peer) = &link.peer {
            return add_pair(self, link, peer);
        }
        let (name, index) = self.with_config(|config| config.plan_link(link))?;
        // The device is opened without the lock: that may take a while.
        let (mut made, device) = self.open_link(link, &name, index)?;
        made.name = name;
        made.index = index;
        let properties = LinkChange { name: None, ..link.properties.clone() };
        self.with_config(|config| config.insert_link(made))?;
        let done = self.plug(index, device);
        let done =
            done.and_then(|()| self.with_config(|config| config.set_link(index, &properties)));
        if let Err(failure) = done {
            self.with_config(|config| config.remove_link(index))?;
            return Err(failure);
        }
        Ok(index)
    }

    fn opens_slowly(&self, kind: &str) -> bool {
        ConfigHost::opens_slowly(self, kind)
    }

    fn del_link(&self, index: IfIndex) -> Result<(), Failure> {
        self.with_config(|config| config.remove_link(index)).map(|_| ())
    }

    fn set_link(&self, index: IfIndex, change: &LinkChange) -> Result<(), Failure> {
        self.with_config(|config| config.set_link(index, change))
    }

    fn set_alternative_name(
        &self,
        index: IfIndex,
        name: &str,
        present: bool,
    ) -> Result<(), Failure> {
        self.with_config(|config| config.set_alternative_name(index, name, present))
    }

    fn add_address(&self, address: &Address, mode: RouteMode) -> Result<(), Failure> {
        self.with_config(|config| config.add_address(address, mode))
    }

    fn del_address(&self, address: &Address) -> Result<(), Failure> {
        self.with_config(|config| config.del_address(address))
    }

    fn rules(&self, ipv6: bool) -> Vec<Rule> {
        self.with_config(|config| config.rules(ipv6).to_vec())
    }

    fn add_rule(
        &self,
        ipv6: bool,
        rule: Rule,
        priority: Option<u32>,
        exclusive: bool,
    ) -> Result<(), Failure> {
        self.with_config(|config| config.add_rule(ipv6, rule, priority, exclusive))
    }

    fn del_rule(&self, ipv6: bool, wish: &RuleWish) -> Result<(), Failure> {
        self.with_config(|config| config.del_rule(ipv6, wish))
    }

    fn add_route(&self, route: &Route, mode: RouteMode) -> Result<(), Failure> {
        self.with_config(|config| config.add_route(route, mode))
    }

    fn del_route(&self, route: &Route) -> Result<(), Failure> {
        self.with_config(|config| config.del_route(route))
    }

    fn route_get(&self, query: &RouteQuery) -> Result<RouteAnswer, Failure> {
        self.with_config(|config| config.route_get(query))
    }

    fn add_neighbour(&self, neighbour: &Neighbour, mode: RouteMode) -> Result<(), Failure> {
        self.add_own_neighbour(neighbour, mode)
            .unwrap_or_else(|| self.with_config(|config| config.add_neighbour(neighbour, mode)))
    }

    fn del_neighbour(&self, interface: IfIndex, ip: IpAddr) -> Result<(), Failure> {
        self.del_own_neighbour(interface, ip)
            .unwrap_or_else(|| self.with_config(|config| config.del_neighbour(interface, ip)))
    }

    fn stations(&self) -> Vec<Station> {
        ConfigHost::stations(self)
    }

    fn add_station(&self, station: &Station, mode: RouteMode) -> Result<(), Failure> {
        ConfigHost::add_station(self, station, mode)
    }

    fn del_station(&self, port: IfIndex, mac: [u8; 6]) -> Result<(), Failure> {
        ConfigHost::del_station(self, port, mac)
    }

    fn qdiscs(&self, interface: Option<IfIndex>) -> Vec<(Qdisc, QdiscStats)> {
        let qdiscs = self.with_config(|config| config.qdiscs(interface));
        let told = |qdisc: Qdisc| {
            let stats = self.qdisc_stats(&qdisc);
            (qdisc, stats)
        };
        qdiscs.into_iter().map(told).collect()
    }

    fn find_qdisc(&self, request: &QdiscRequest) -> Result<Qdisc, Failure> {
        self.with_config(|config| config.find_qdisc(request))
    }

    fn set_qdisc(&self, request: &QdiscRequest) -> Result<(), Failure> {
        self.with_config(|config| config.set_qdisc(request))
    }

    fn del_qdisc(&self, request: &QdiscRequest) -> Result<(), Failure> {
        self.with_config(|config| config.del_qdisc(request))
    }

    fn sockets(&self, table: SocketTable) -> Vec<SocketRow> {
        ConfigHost::sockets(self, table)
    }

    fn packet_sockets(&self) -> Vec<PacketRow> {
        ConfigHost::packet_sockets(self)
    }

    fn kill_socket(&self, table: SocketTable, cookie: u64) -> Result<(), Errno> {
        ConfigHost::kill_socket(self, table, cookie)
    }

    fn memberships(&self) -> Vec<Membership> {
        ConfigHost::memberships(self)
    }

    fn snmp(&self) -> Snmp {
        ConfigHost::snmp(self)
    }

    fn sysctl_names(&self) -> Vec<String> {
        self.with_config(|config| config.sysctl_names())
    }

    fn sysctl(&self, name: &str) -> Option<String> {
        self.with_config(|config| config.sysctl(name).map(str::to_owned))
    }

    fn sysctl_is_writable(&self, name: &str) -> bool {
        self.with_config(|config| config.sysctl_is_writable(name)).unwrap_or(false)
    }

    fn set_sysctl(&self, name: &str, value: &str) -> Result<(), Errno> {
        self.with_config(|config| config.set_sysctl(name, value))
    }

    fn uptime(&self) -> u64 {
        self.with_config(|config| config.now())
    }
}

/// Makes both ends of a cable, the other one first, as the kernel does.
fn add_pair<T: ConfigHost>(host: &T, link: &NewLink, peer: &NewLink) -> Result<IfIndex, Failure> {
    let make = |link: &NewLink| {
        let (name, index) = host.with_config(|config| config.plan_link(link))?;
        let (made, device) = host.open_link(link, &name, index)?;
        host.with_config(|config| config.insert_link(Interface { name, index, ..made }))?;
        Ok::<_, Failure>((index, device))
    };
    let (other, other_device) = make(peer)?;
    let done = make(link).and_then(|(index, device)| {
        host.with_config(|config| config.pair(index, other));
        host.plug(other, other_device)?;
        host.plug(index, device)?;
        for (end, wanted) in [(other, peer), (index, link)] {
            let properties = LinkChange { name: None, ..wanted.properties.clone() };
            host.with_config(|config| config.set_link(end, &properties))?;
        }
        Ok(index)
    });
    if done.is_err() {
        host.with_config(|config| config.remove_link(other))?;
    }
    done
}
