//! `RTM_GETRULE`: the policy rules, which cannot be changed.

use netlink_packet_route::{
    AddressFamily,
    route::RouteProtocol,
    rule::{RuleAction, RuleAttribute as A, RuleMessage},
};
use umvu_abi::Errno;

use super::{body, family, strict};
use crate::{
    host::{Failure, HostNet},
    netlink::{Answer, Body, message::Request},
    values::Rule,
};

pub(super) fn get(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    if !request.is_dump() {
        return Err(Errno::EOPNOTSUPP.into());
    }
    strict::rules(request)?;
    let families = match family(request.payload) {
        Ok(None) => vec![false, true],
        Ok(Some(ipv6)) => vec![ipv6],
        Err(_) => return Err(Errno::EOPNOTSUPP.into()),
    };
    let bodies: Vec<Body> = families
        .into_iter()
        .flat_map(|ipv6| host.rules(ipv6).into_iter().map(move |rule| encode(ipv6, &rule)))
        .collect();
    Ok(Answer::dump(bodies.into_iter()))
}

fn encode(ipv6: bool, rule: &Rule) -> Body {
    let mut message = RuleMessage::default();
    message.header.family = if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    message.header.table = u8::try_from(rule.table).unwrap_or(252);
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        A::Table(rule.table),
        A::SuppressPrefixLen(u32::MAX),
        A::Protocol(RouteProtocol::Kernel),
    ];
    if rule.priority != 0 {
        message.attributes.push(A::Priority(rule.priority));
    }
    body(libc::RTM_NEWRULE, &message)
}
