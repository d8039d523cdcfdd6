//! Plain values: what a stack tells and what programs ask for. No bytes, no behaviour but names.

pub mod address;
pub mod change;
pub mod interface;
pub mod layer;
pub mod neighbour;
pub mod prefix;
pub mod qdisc;
pub mod route;
pub mod router;
pub mod rule;
pub mod snmp;
pub mod socket;
pub mod tcp_info;

pub use address::{Address, AddressFlags, FOREVER, Scope};
pub use change::Change;
pub use interface::{
    CarrierChanges, Counters, Interface, InterfaceKind, LinkChange, LinkFlags, NewLink, OperState,
};
pub use layer::{Bridge, Layer, LayerChange, Origin, Station, Tunnel, Vlan};
pub use neighbour::{Neighbour, NeighbourFlags, NeighbourState};
pub use prefix::Prefix;
pub use qdisc::{Discipline, Handle, Qdisc, QdiscRequest, QdiscStats};
pub use route::{
    Metrics, NextHop, Route, RouteAnswer, RouteKind, RouteMode, RouteQuery, protocol, table,
};
pub use router::{AdvertisedPrefix, RouterAdvertisement};
pub use rule::{Rule, RuleAction};
pub use snmp::Snmp;
pub use socket::{Membership, PacketRow, SocketRow, SocketTable, SocketTimer, TcpState};
pub use tcp_info::TcpDetails;
