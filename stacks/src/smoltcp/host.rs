//! What the stack tells of itself, and how its configuration is changed: netlink-emu's
//! [`ConfigHost`].

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use netlink_emu::{
    Failure,
    config::{ConfigHost, NetConfig},
    text,
    values::{
        Change, Counters, Discipline, Interface, Layer, Membership, Neighbour, NeighbourFlags,
        NeighbourState, NewLink, PacketRow, Qdisc, QdiscStats, RouteMode, Snmp, SocketRow,
        SocketTable, Station,
    },
};
use umvu_abi::{Errno, IfIndex};

use super::{
    inner::Inner,
    neighbour::{Asked, State},
    rows,
    shared::Shared,
    wire::Transport,
};

impl ConfigHost for Shared {
    type Device = Option<Arc<dyn Transport>>;

    fn with_config<R>(&self, f: impl FnOnce(&mut NetConfig) -> R) -> R {
        self.with(|inner| {
            inner.tell_time();
            inner.look_for_programs();
            f(&mut inner.net.config)
        })
    }

    fn counters(&self, index: IfIndex) -> Option<Counters> {
        self.look(|inner| {
            let link = inner.links.get(inner.link_at(index.0)?)?;
            let counters = link.counters;
            Some(Counters {
                rx_packets: counters.received.0,
                rx_bytes: counters.received.1,
                tx_packets: counters.sent.0,
                tx_bytes: counters.sent.1,
                tx_dropped: counters.dropped,
                ..Counters::default()
            })
        })
    }

    fn qdisc_stats(&self, qdisc: &Qdisc) -> QdiscStats {
        self.look(|inner| {
            let link = inner.link_at(qdisc.interface.0).and_then(|at| inner.links.get(at))?;
            match &link.scheduler {
                Some(scheduler) => scheduler.stats(qdisc),
                None if qdisc.discipline == Discipline::Noqueue => None,
                None => {
                    let (packets, bytes) = link.counters.sent;
                    Some(QdiscStats { packets, bytes, ..QdiscStats::default() })
                }
            }
        })
        .unwrap_or_default()
    }

    fn snmp(&self) -> Snmp {
        self.look(|inner| inner.counts.snmp())
    }

    fn opens_slowly(&self, kind: &str) -> bool {
        kind == VDE
    }

    fn open_link(
        &self,
        link: &NewLink,
        name: &str,
        index: IfIndex,
    ) -> Result<(Interface, Self::Device), Failure> {
        let vnl = link.vnl.as_deref().unwrap_or_default();
        let transport = match link.kind.as_str() {
            "dummy" | "vlan" | "bridge" | "veth" => None,
            VDE => Some(open(vnl, &format!("umvu {name}"))?),
            _ => return Err(text::LINK_UNKNOWN_KIND),
        };
        let mac = link.properties.mac.unwrap_or_else(|| self.names().mac(name));
        let mut made = Interface::ethernet(index, name, &link.kind, mac);
        made.layer = link.layer;
        self.stand(&mut made, link);
        if let Some(transport) = &transport {
            made.carrier = transport.carrier();
        }
        made.vnl = transport.is_some().then(|| vnl.to_owned());
        Ok((made, transport))
    }

    fn plug(&self, index: IfIndex, device: Self::Device) -> Result<(), Failure> {
        if let Some(transport) = &device {
            self.watch(index.0, transport)?;
        }
        self.with(|inner| inner.plug(index, device)).map_err(Failure::from)
    }

    fn own_neighbours(&self) -> Option<Vec<Neighbour>> {
        Some(self.look(|inner| neighbours(inner)))
    }

    fn add_own_neighbour(
        &self,
        neighbour: &Neighbour,
        mode: RouteMode,
    ) -> Option<Result<(), Failure>> {
        Some(self.with(|inner| add_neighbour(inner, neighbour, mode)))
    }

    fn del_own_neighbour(&self, index: IfIndex, ip: IpAddr) -> Option<Result<(), Failure>> {
        Some(self.with(|inner| {
            let at = inner.link_at(index.0).ok_or(Errno::ENODEV)?;
            let table = &mut inner.links[at].neighbours;
            if table.get(ip).is_none() {
                return Err(Errno::ENOENT.into());
            }
            table.forget(ip);
            Ok(())
        }))
    }

    fn stations(&self) -> Vec<Station> {
        self.look(|inner| inner.stations())
    }

    fn add_station(&self, station: &Station, mode: RouteMode) -> Result<(), Failure> {
        self.with(|inner| inner.add_station(station, mode))
    }

    fn del_station(&self, port: IfIndex, mac: [u8; 6]) -> Result<(), Failure> {
        self.with(|inner| inner.del_station(port.0, mac))
    }

    fn sockets(&self, table: SocketTable) -> Vec<SocketRow> {
        self.look(|inner| match table {
            SocketTable::Tcp => rows::tcp(inner),
            SocketTable::Udp => rows::datagrams(inner, super::sockopt::Class::Udp),
            SocketTable::Raw => rows::datagrams(inner, super::sockopt::Class::Raw),
            SocketTable::Icmp => rows::datagrams(inner, super::sockopt::Class::Ping),
        })
    }

    fn packet_sockets(&self) -> Vec<PacketRow> {
        self.look(|inner| rows::packet(inner))
    }

    fn kill_socket(&self, table: SocketTable, cookie: u64) -> Result<(), Errno> {
        if table != SocketTable::Tcp {
            return Err(Errno::EOPNOTSUPP);
        }
        self.with(|inner| {
            let found = inner.tcp.flows.ids().into_iter().find(|id| id.number() == cookie);
            inner.flow_kill(found.ok_or(Errno::ENOENT)?);
            Ok(())
        })
    }

    fn memberships(&self) -> Vec<Membership> {
        self.look(|inner| {
            inner
                .dgrams
                .groups
                .iter()
                .filter_map(|((link, group), users)| {
                    Some(Membership {
                        interface: IfIndex(inner.links.get(*link)?.index),
                        group: *group,
                        users: u32::try_from(*users).unwrap_or(u32::MAX),
                    })
                })
                .collect()
        })
    }
}

impl Shared {
    /// Gives a new interface what it has from those that it stands on.
    fn stand(&self, made: &mut Interface, wanted: &NewLink) {
        if made.layer == Layer::Device {
            return;
        }
        made.qdisc = "noqueue";
        made.reports_state = true;
        match made.layer.lower() {
            Some(lower) => self.with_config(|config| {
                let Some(lower) = config.link(lower) else { return };
                made.carrier = lower.carrier;
                made.mtu = lower.mtu;
                made.mac = wanted.properties.mac.unwrap_or(lower.mac);
            }),
            // Until it has a port.
            None => made.carrier = false,
        }
    }
}

/// The kind of an interface on a virtual Ethernet.
const VDE: &str = "vde";

/// Opens the network of a new interface, the default one when none is named.
fn open(vnl: &str, about: &str) -> Result<Arc<dyn Transport>, Failure> {
    vdeplug::open(vnl, about).map_err(|error| Failure::new(Errno(error.errno()), error.to_string()))
}

/// The state as netlink names it.
fn state(state: State) -> NeighbourState {
    match state {
        State::Incomplete => NeighbourState::Incomplete,
        State::Reachable => NeighbourState::Reachable,
        State::Stale => NeighbourState::Stale,
        State::Delay => NeighbourState::Delay,
        State::Probe => NeighbourState::Probe,
        State::Failed => NeighbourState::Failed,
        State::Permanent => NeighbourState::Permanent,
        State::NoArp => NeighbourState::NoArp,
    }
}

/// One neighbour as a value.
pub(crate) fn neighbour(inner: &Inner, link: usize, ip: IpAddr) -> Option<Neighbour> {
    let link = inner.links.get(link)?;
    let entry = link.neighbours.get(ip)?;
    let state = state(entry.state);
    let value = Neighbour::permanent(IfIndex(link.index), ip, entry.mac);
    Some(Neighbour { state, mac: state.is_valid().then_some(entry.mac), ..value })
}

/// Takes what has happened to the neighbours since the last look.
pub(crate) fn neighbour_changes(inner: &mut Inner) -> Vec<Change> {
    let mut changes = Vec::new();
    for at in 0..inner.links.len() {
        let changed = std::mem::take(&mut inner.links[at].neighbours.changed);
        changes.extend(
            changed.into_iter().filter_map(|ip| neighbour(inner, at, ip)).map(Change::Neighbour),
        );
        let removed = std::mem::take(&mut inner.links[at].neighbours.removed);
        let index = IfIndex(inner.links[at].index);
        for ip in removed {
            // As Linux tells it: first that it has failed.
            let gone = Neighbour {
                state: NeighbourState::Failed,
                mac: None,
                ..Neighbour::permanent(index, ip, [0; 6])
            };
            changes.extend([Change::Neighbour(gone.clone()), Change::NeighbourRemoved(gone)]);
        }
    }
    changes
}

fn neighbours(inner: &Inner) -> Vec<Neighbour> {
    let mut found = Vec::new();
    for (at, link) in inner.links.iter().enumerate() {
        let mut ips: Vec<IpAddr> = link.neighbours.addresses().collect();
        ips.sort_unstable();
        found.extend(ips.into_iter().filter_map(|ip| neighbour(inner, at, ip)));
    }
    found
}

fn add_neighbour(inner: &mut Inner, wanted: &Neighbour, mode: RouteMode) -> Result<(), Failure> {
    let at = inner.link_at(wanted.interface.0).ok_or(Errno::ENODEV)?;
    let now = inner.now;
    let table = &mut inner.links[at].neighbours;
    let exists = table.get(wanted.ip).is_some();
    if exists && mode.exclusive {
        return Err(Errno::EEXIST.into());
    }
    if !exists && !mode.create {
        return Err(Errno::ENOENT.into());
    }
    if wanted.flags.intersects(NeighbourFlags::USE) {
        if let Asked::Waiting { solicit: true } = table.ask(wanted.ip, now) {
            inner.solicit(at, wanted.ip, None);
        }
        return Ok(());
    }
    if !wanted.state.is_valid() {
        table.set(wanted.ip, [0; 6], State::Failed, now);
        return Ok(());
    }
    let known = || table.get(wanted.ip).filter(|held| held.state != State::Failed);
    let mac = wanted.mac.or_else(|| Some(known()?.mac)).ok_or(text::NEIGHBOUR_NO_MAC)?;
    let state = match wanted.state {
        NeighbourState::Permanent => State::Permanent,
        NeighbourState::NoArp => State::NoArp,
        NeighbourState::Reachable => State::Reachable,
        NeighbourState::Delay => State::Delay,
        _ => State::Stale,
    };
    table.set(wanted.ip, mac, state, now);
    Ok(())
}

/// An end that is not there.
pub(crate) fn nowhere(v6: bool) -> SocketAddr {
    if v6 {
        SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), 0)
    } else {
        SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0)
    }
}
