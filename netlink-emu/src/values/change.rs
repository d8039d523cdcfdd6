//! What happened to a configuration, for listeners and for the data plane.

use umvu_abi::IfIndex;

use super::{Address, Interface, Neighbour, Qdisc, Route, Rule};

/// One change, with the value after it (or, of a removal, before it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An interface is new or has changed.
    Link(Interface),
    /// An interface is gone.
    LinkRemoved(Interface),
    /// An address is new or has changed.
    Address(Address),
    /// An address is gone.
    AddressRemoved(Address),
    /// A route is new.
    Route(Route),
    /// A route took the place of another.
    RouteReplaced(Route),
    /// A route is gone.
    RouteRemoved(Route),
    /// A route went with its interface; Linux does not tell listeners of this one (IPv4).
    RouteFlushed(Route),
    /// A neighbour is new or has changed.
    Neighbour(Neighbour),
    /// A neighbour is gone.
    NeighbourRemoved(Neighbour),
    /// A queueing discipline is new or has changed.
    Qdisc(Qdisc),
    /// A queueing discipline is gone.
    QdiscRemoved(Qdisc),
    /// A router has advertised something for user space: an option of neighbour discovery.
    RouterOption(IfIndex, Vec<u8>),
    /// A policy rule is new; whether it is one of IPv6.
    Rule(bool, Rule),
    /// A policy rule is gone.
    RuleRemoved(bool, Rule),
    /// A sysctl has a new value: name with dots, value.
    Sysctl(String, String),
}
