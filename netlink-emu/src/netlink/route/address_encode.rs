//! Addresses as `RTM_NEWADDR` messages.

use std::net::IpAddr;

use netlink_packet_route::{
    AddressFamily,
    address::{
        AddressAttribute as A, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
        AddressScope, CacheInfo,
    },
};

use super::body;
use crate::{netlink::Body, values::Address};

/// Encodes an address.
pub(crate) fn encode(kind: u16, address: &Address) -> Body {
    let mut message = AddressMessage::default();
    let flags = address.flags.bits();
    message.header.family =
        if address.ip().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = address.prefix.length;
    message.header.flags =
        AddressHeaderFlags::from_bits_retain(u8::try_from(flags & 0xff).unwrap_or_default());
    message.header.scope = AddressScope::from(address.scope.0);
    message.header.index = address.interface.0;
    let mut cache = CacheInfo::default();
    cache.ifa_preferred = address.preferred;
    cache.ifa_valid = address.valid;
    cache.cstamp = address.created;
    cache.tstamp = address.updated;
    let mut attributes = Vec::new();
    match address.ip() {
        IpAddr::V4(_) => {
            attributes.push(A::Address(address.peer_ip()));
            attributes.push(A::Local(address.ip()));
            attributes.extend(address.broadcast.map(A::Broadcast));
            if address.proto != 0 {
                attributes.push(A::Protocol(AddressProtocol::from(address.proto)));
            }
            attributes.extend(address.label.clone().map(A::Label));
        }
        IpAddr::V6(_) => {
            if address.peer.is_some() {
                attributes.push(A::Local(address.ip()));
            }
            attributes.push(A::Address(address.peer_ip()));
            if address.proto != 0 {
                attributes.push(A::Protocol(AddressProtocol::from(address.proto)));
            }
        }
    }
    attributes.push(A::Flags(AddressFlags::from_bits_retain(flags)));
    if address.metric != 0 {
        attributes.push(A::RoutePriority(address.metric));
    }
    attributes.push(A::CacheInfo(cache));
    message.attributes = attributes;
    body(kind, &message)
}
