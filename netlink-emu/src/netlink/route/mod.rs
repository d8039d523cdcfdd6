//! rtnetlink(7): requests sorted by message type.
//!
//! `*_encode` files turn values into messages with the types of `netlink-packet-route`; the other
//! files decode requests and ask the host. Message types that no stack supports get the answer of a
//! kernel that was built without them: an empty dump or `EOPNOTSUPP`.

mod address;
mod address_encode;
mod layer;
mod link;
mod link_encode;
mod neighbour;
mod neighbour_encode;
mod netconf;
pub(super) mod notify;
#[expect(clippy::module_inception, reason = "the routes of rtnetlink's route family")]
mod route;
mod route_encode;
mod rule;
mod station;
mod strict;
mod tc;

use netlink_packet_core::Emitable;
use umvu_abi::Errno;

use super::{Answer, Body, Service, message::Request};
use crate::{
    host::{Failure, HostNet},
    text,
};

/// `RTM_NEWLINKPROP`, `RTM_DELLINKPROP`.
const NEWLINKPROP: u16 = 108;
const DELLINKPROP: u16 = 109;
/// `RTM_NEWNEXTHOP`, `RTM_DELNEXTHOP`, `RTM_GETNEXTHOP`.
const NEWNEXTHOP: u16 = 104;
const DELNEXTHOP: u16 = 105;
const GETNEXTHOP: u16 = 106;
/// The largest message type (`RTM_MAX`).
const LAST: u16 = 123;

pub(crate) use address_encode::encode as encode_address;
pub(crate) use link_encode::vde_data;

/// A route as a message.
pub(crate) fn encode_route(kind: u16, route: &crate::values::Route) -> Body {
    route_encode::encode(kind, route, &Vec::new())
}

/// The protocol `NETLINK_ROUTE`.
pub(super) struct Route;

impl Service for Route {
    fn handle(&self, host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
        if request.payload.is_empty() {
            return Ok(Answer::Done);
        }
        match request.header.kind {
            libc::RTM_GETLINK => link::get(host, request),
            libc::RTM_NEWLINK => link::new(host, request),
            libc::RTM_SETLINK => link::set(host, request),
            libc::RTM_DELLINK => link::del(host, request),
            NEWLINKPROP => link::set_names(host, request, true),
            DELLINKPROP => link::set_names(host, request, false),
            libc::RTM_GETADDR => address::get(host, request),
            libc::RTM_NEWADDR => address::new(host, request),
            libc::RTM_DELADDR => address::del(host, request),
            libc::RTM_GETROUTE => route::get(host, request),
            libc::RTM_NEWROUTE => route::new(host, request),
            libc::RTM_DELROUTE => route::del(host, request),
            libc::RTM_GETNEIGH if station::is_meant(request) => station::get(host, request),
            libc::RTM_GETNEIGH => neighbour::get(host, request),
            libc::RTM_NEWNEIGH if station::is_meant(request) => station::new(host, request),
            libc::RTM_NEWNEIGH => neighbour::new(host, request),
            libc::RTM_DELNEIGH if station::is_meant(request) => station::del(host, request),
            libc::RTM_DELNEIGH => neighbour::del(host, request),
            libc::RTM_GETRULE => rule::get(host, request),
            libc::RTM_NEWRULE => rule::new(host, request),
            libc::RTM_DELRULE => rule::del(host, request),
            libc::RTM_GETNETCONF => netconf::get(host, request),
            libc::RTM_GETQDISC => tc::get(host, request),
            libc::RTM_NEWQDISC => tc::new(host, request),
            libc::RTM_DELQDISC => tc::del(host, request),
            libc::RTM_GETTCLASS => tc::get_classes(host, request),
            libc::RTM_NEWTCLASS | libc::RTM_DELTCLASS => tc::set_class(host, request),
            libc::RTM_NEWTFILTER | libc::RTM_DELTFILTER => tc::set_filter(host, request),
            libc::RTM_GETNSID if !request.is_dump() => Ok(netconf::nsid()),
            // An empty dump would say that there could be some: routing daemons go by that.
            NEWNEXTHOP | DELNEXTHOP | GETNEXTHOP => Err(text::NEXTHOPS),
            kind => unsupported(kind, request),
        }
    }

    fn ends_with_data(&self, request: &Request<'_>) -> bool {
        let family = family(request.payload);
        match request.header.kind {
            libc::RTM_GETRULE => true,
            libc::RTM_GETLINK | libc::RTM_GETADDR => family == Ok(Some(true)),
            libc::RTM_GETNETCONF => family != Ok(None),
            _ => false,
        }
    }

    fn is_slow(&self, host: &dyn HostNet, request: &Request<'_>) -> bool {
        request.header.kind == libc::RTM_NEWLINK && link::opens_slowly(host, request)
    }
}

/// Every fourth type, from 18 on, is a GET.
fn unsupported(kind: u16, request: &Request<'_>) -> Result<Answer, Failure> {
    let is_get = kind <= LAST && kind % 4 == 2;
    if is_get && request.is_dump() { Ok(Answer::nothing()) } else { Err(Errno::EOPNOTSUPP.into()) }
}

/// Writes a message of `netlink-packet-route`.
pub(crate) fn body(kind: u16, message: &impl Emitable) -> Body {
    let mut payload = vec![0; message.buffer_len()];
    message.emit(&mut payload);
    Body { kind, payload }
}

/// A number of a header field that C holds in one byte.
fn byte(number: i32) -> u8 {
    u8::try_from(number).unwrap_or_default()
}

/// The family in the first byte of a payload: None for all, or whether it is IPv6. Errors: `Err`
/// with the family for others.
fn family(payload: &[u8]) -> Result<Option<bool>, i32> {
    match payload.first().copied().map_or(0, i32::from) {
        libc::AF_UNSPEC => Ok(None),
        libc::AF_INET => Ok(Some(false)),
        libc::AF_INET6 => Ok(Some(true)),
        other => Err(other),
    }
}
