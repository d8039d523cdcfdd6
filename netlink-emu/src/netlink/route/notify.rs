//! Changes as messages of multicast groups (`RTNLGRP_*`).

use super::{address_encode, link_encode, neighbour_encode, route_encode, rule, tc};
use crate::{netlink::Body, values::Change};

/// `RTM_NEWNDUSEROPT`, its group, and the message of routers.
const NEWNDUSEROPT: u16 = 68;
const ND_USEROPT: u32 = 20;
const ROUTER_ADVERTISEMENT: u8 = 134;
/// `RTNLGRP_IPV4_RULE`, `RTNLGRP_IPV6_RULE`.
const IPV4_RULE: u32 = 8;
const IPV6_RULE: u32 = 19;

/// The flags of the message about a change: what has become of a route.
pub(in crate::netlink) fn flags(change: &Change) -> u16 {
    let flags = match change {
        Change::Route(_) => libc::NLM_F_CREATE | libc::NLM_F_EXCL,
        Change::RouteReplaced(_) => libc::NLM_F_CREATE | libc::NLM_F_REPLACE,
        _ => 0,
    };
    u16::try_from(flags).unwrap_or_default()
}

/// Encodes an option as `struct nduseroptmsg` and what follows it.
fn router_option(interface: umvu_abi::IfIndex, option: &[u8]) -> Option<Body> {
    let family = u8::try_from(libc::AF_INET6).ok()?;
    let length = u16::try_from(option.len()).ok()?;
    let mut payload = vec![family, 0];
    payload.extend_from_slice(&length.to_ne_bytes());
    payload.extend_from_slice(&interface.0.to_ne_bytes());
    payload.extend_from_slice(&[ROUTER_ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0]);
    payload.extend_from_slice(option);
    Some(Body { kind: NEWNDUSEROPT, payload })
}

/// Encodes a change with its group; None for what rtnetlink does not tell.
pub(in crate::netlink) fn encode(change: &Change) -> Option<(u32, Body)> {
    let detail = link_encode::Detail::default();
    let dark = Vec::new();
    let by_family = |ipv6: bool, ipv4_group, ipv6_group| if ipv6 { ipv6_group } else { ipv4_group };
    let address = |ipv6| by_family(ipv6, libc::RTNLGRP_IPV4_IFADDR, libc::RTNLGRP_IPV6_IFADDR);
    let route = |ipv6| by_family(ipv6, libc::RTNLGRP_IPV4_ROUTE, libc::RTNLGRP_IPV6_ROUTE);
    Some(match change {
        Change::Link(link) => {
            (libc::RTNLGRP_LINK, link_encode::encode(libc::RTM_NEWLINK, link, detail))
        }
        Change::LinkRemoved(link) => {
            (libc::RTNLGRP_LINK, link_encode::encode(libc::RTM_DELLINK, link, detail))
        }
        Change::Address(held) => {
            (address(held.ip().is_ipv6()), address_encode::encode(libc::RTM_NEWADDR, held))
        }
        Change::AddressRemoved(held) => {
            (address(held.ip().is_ipv6()), address_encode::encode(libc::RTM_DELADDR, held))
        }
        Change::Route(held) | Change::RouteReplaced(held) => {
            (route(!held.is_ipv4()), route_encode::encode(libc::RTM_NEWROUTE, held, &dark))
        }
        Change::RouteRemoved(held) => {
            (route(!held.is_ipv4()), route_encode::encode(libc::RTM_DELROUTE, held, &dark))
        }
        Change::Neighbour(held) => {
            (libc::RTNLGRP_NEIGH, neighbour_encode::encode(libc::RTM_NEWNEIGH, held))
        }
        Change::NeighbourRemoved(held) => {
            (libc::RTNLGRP_NEIGH, neighbour_encode::encode(libc::RTM_DELNEIGH, held))
        }
        Change::Qdisc(held) => (libc::RTNLGRP_TC, tc::notice(libc::RTM_NEWQDISC, held)),
        Change::QdiscRemoved(held) => (libc::RTNLGRP_TC, tc::notice(libc::RTM_DELQDISC, held)),
        Change::RouterOption(interface, option) => (ND_USEROPT, router_option(*interface, option)?),
        Change::Rule(ipv6, held) => {
            (by_family(*ipv6, IPV4_RULE, IPV6_RULE), rule::encode(libc::RTM_NEWRULE, *ipv6, held))
        }
        Change::RuleRemoved(ipv6, held) => {
            (by_family(*ipv6, IPV4_RULE, IPV6_RULE), rule::encode(libc::RTM_DELRULE, *ipv6, held))
        }
        Change::RouteFlushed(_) | Change::Sysctl(..) => return None,
    })
}
