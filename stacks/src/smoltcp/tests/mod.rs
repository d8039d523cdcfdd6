//! Two stacks talk to each other.

mod datagrams;
mod full;
mod lossy;
mod receiver;
mod routing;
mod speed;
mod tcp;

use umvu_abi::net::SendControl;

use super::{
    tcp::socket::TcpSocket,
    testing::{Ignore, Lab, addr, connected},
};

/// A datagram without anything special.
const NONE: SendControl = SendControl {
    ttl: None,
    tos: None,
    ifindex: 0,
    source: None,
    segment: 0,
    mark: None,
    more: false,
};
