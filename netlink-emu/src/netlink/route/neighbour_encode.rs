//! Neighbours as `RTM_NEWNEIGH` messages.

use std::net::IpAddr;

use netlink_packet_core::DefaultNla;
use netlink_packet_route::{
    AddressFamily,
    neighbour::{
        NeighbourAddress, NeighbourAttribute as A, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
    route::{RouteProtocol, RouteType},
};

use super::body;
use crate::{netlink::Body, values::Neighbour};

/// `NDA_CACHEINFO`.
const CACHEINFO: u16 = 3;

/// Encodes a neighbour.
pub(super) fn encode(kind: u16, neighbour: &Neighbour) -> Body {
    let mut message = NeighbourMessage::default();
    message.header.family =
        if neighbour.ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = neighbour.interface.0;
    message.header.state = NeighbourState::from(neighbour.state.number());
    message.header.flags = NeighbourFlags::from_bits_retain(neighbour.flags.bits());
    message.header.kind = RouteType::Unicast;
    let destination = match neighbour.ip {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    };
    message.attributes.push(A::Destination(destination));
    if let Some(mac) = neighbour.mac.filter(|_| neighbour.state.is_valid()) {
        message.attributes.push(A::LinkLayerAddress(mac.to_vec()));
    }
    message.attributes.push(A::Probes(neighbour.probes));
    // struct nda_cacheinfo: confirmed, used, updated, references.
    let ages = neighbour.ages.iter().chain([&0]).flat_map(|age| age.to_ne_bytes()).collect();
    message.attributes.push(A::Other(DefaultNla::new(CACHEINFO, ages)));
    if neighbour.protocol != 0 {
        message.attributes.push(A::Protocol(RouteProtocol::from(neighbour.protocol)));
    }
    body(kind, &message)
}
