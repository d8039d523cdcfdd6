//! `RTM_GETRULE`, `RTM_NEWRULE`, `RTM_DELRULE`: the policy rules.

use netlink_packet_route::{
    AddressFamily,
    route::RouteProtocol,
    rule::{RuleAction as WireAction, RuleAttribute as A, RuleFlags, RuleMessage},
};
use umvu_abi::Errno;

use super::{body, family, strict};
use crate::{
    config::RuleWish,
    host::{Failure, HostNet},
    netlink::{
        Answer, Body,
        attributes::{Attributes, field},
        message::Request,
    },
    text,
    values::{Prefix, Rule, RuleAction, table},
};

/// `struct fib_rule_hdr`.
const FIXED: usize = 12;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_GOTO: u16 = 4;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TUN_ID: u16 = 12;
const FRA_SUPPRESS_IFGROUP: u16 = 13;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FRA_L3MDEV: u16 = 19;
const FRA_UID_RANGE: u16 = 20;
const FRA_PROTOCOL: u16 = 21;
const FRA_IP_PROTO: u16 = 22;
const FRA_SPORT_RANGE: u16 = 23;
const FRA_DPORT_RANGE: u16 = 24;
/// What stacks do not choose by.
const OTHERS: [u16; 7] = [
    FRA_TUN_ID,
    FRA_L3MDEV,
    FRA_UID_RANGE,
    FRA_IP_PROTO,
    FRA_SPORT_RANGE,
    FRA_DPORT_RANGE,
    FRA_SUPPRESS_IFGROUP,
];
/// `FIB_RULE_INVERT`.
const INVERT: u32 = 2;
/// `FIB_RULE_UNRESOLVED`: the rule that it goes on with is not there.
const UNRESOLVED: u32 = 4;
/// `RT_TABLE_COMPAT`: what a table has in a header that has no room for its number.
const COMPAT: u8 = 252;
/// `u32` for none of `FRA_SUPPRESS_PREFIXLEN`.
const UNSUPPRESSED: u32 = u32::MAX;

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
    let encode = |ipv6| {
        let rules = host.rules(ipv6);
        let priorities: Vec<u32> = rules.iter().map(|rule| rule.priority).collect();
        rules.into_iter().map(move |rule| {
            let leads = |target| priorities.contains(&target);
            let resolved = !matches!(rule.action, RuleAction::Goto(target) if !leads(target));
            message(libc::RTM_NEWRULE, ipv6, &rule, resolved)
        })
    };
    let bodies: Vec<Body> = families.into_iter().flat_map(encode).collect();
    Ok(Answer::dump(bodies.into_iter()))
}

pub(super) fn new(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    let (ipv6, wish) = decode(request)?;
    let mut rule = wish.rule.ok_or(Errno::EINVAL)?;
    if rule.action == RuleAction::Table(0) {
        if ipv6 {
            return Err(text::RULE_TABLE);
        }
        // Any that is free (`fib_empty_table`).
        let routes = host.routes();
        let is_free = |id: &u32| !routes.iter().any(|route| route.table == *id);
        rule.action = RuleAction::Table((1..table::DEFAULT).find(is_free).ok_or(Errno::ENOBUFS)?);
    }
    let priority = wish.by_priority.then_some(rule.priority);
    host.add_rule(ipv6, rule, priority, request.has(libc::NLM_F_EXCL))?;
    Ok(Answer::Done)
}

pub(super) fn del(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    let (ipv6, wish) = decode(request)?;
    host.del_rule(ipv6, &wish)?;
    Ok(Answer::Done)
}

/// Reads a rule. Errors: `EINVAL`, `EOPNOTSUPP` for what stacks do not choose by, with a sentence.
fn decode(request: &Request<'_>) -> Result<(bool, RuleWish), Failure> {
    let payload = request.payload;
    if payload.len() < FIXED {
        return Err(text::RULE_HEADER);
    }
    let ipv6 = match family(payload) {
        Ok(Some(ipv6)) => ipv6,
        _ => return Err(text::RULE_FAMILY),
    };
    let [_, to_length, from_length, tos, short_table, _, _, action] = field::<8>(payload, 0);
    let flags = u32::from_ne_bytes(field(payload, 8));
    let attributes = Attributes::after(payload, FIXED);
    if tos != 0 || OTHERS.iter().any(|kind| attributes.bytes(*kind).is_some()) {
        return Err(text::RULE_SELECTOR);
    }
    let prefix = |kind, length: u8, wrong: Failure| -> Result<Option<Prefix>, Failure> {
        if length == 0 {
            return Ok(None);
        }
        let ip = attributes.ip(kind).ok().flatten().filter(|ip| ip.is_ipv6() == ipv6);
        let widest = if ipv6 { 128 } else { 32 };
        let ip = ip.filter(|_| length <= widest).ok_or(wrong)?;
        Ok(Some(Prefix::new(ip, length).network()))
    };
    let to = prefix(FRA_DST, to_length, text::RULE_TO)?;
    let from = prefix(FRA_SRC, from_length, text::RULE_FROM)?;
    let named = |kind| -> Result<Option<String>, Failure> {
        let name = attributes.text(kind)?.filter(|name| !name.is_empty());
        Ok(name.map(str::to_owned))
    };
    let table = attributes.u32(FRA_TABLE)?.unwrap_or(short_table.into());
    let action = match WireAction::from(action) {
        WireAction::ToTable => RuleAction::Table(table),
        WireAction::Goto => match attributes.u32(FRA_GOTO)? {
            Some(target) => RuleAction::Goto(target),
            None => return Err(text::RULE_GOTO),
        },
        WireAction::Blackhole => RuleAction::Blackhole,
        WireAction::Unreachable => RuleAction::Unreachable,
        WireAction::Prohibit => RuleAction::Prohibit,
        // A deletion may leave it open; a table says it then.
        _ if table != 0 => RuleAction::Table(table),
        _ => RuleAction::Nop,
    };
    let priority = attributes.u32(FRA_PRIORITY)?;
    let mark = attributes.u32(FRA_FWMARK)?;
    let mask = attributes.u32(FRA_FWMASK)?;
    let protocol = attributes.u8(FRA_PROTOCOL)?;
    let rule = Rule {
        from,
        to,
        iif: named(FRA_IIFNAME)?,
        oif: named(FRA_OIFNAME)?,
        // A mark without a mask counts as a whole.
        mark: (mark.unwrap_or(0), mask.unwrap_or(if mark.is_some() { u32::MAX } else { 0 })),
        invert: flags & INVERT != 0,
        suppress_length: attributes
            .u32(FRA_SUPPRESS_PREFIXLEN)?
            .filter(|length| *length != UNSUPPRESSED),
        protocol: protocol.unwrap_or(0),
        ..Rule::new(priority.unwrap_or(0), action)
    };
    let wish = RuleWish {
        rule: Some(rule),
        by_priority: priority.is_some(),
        by_mark: mark.is_some(),
        by_mask: mask.is_some(),
        by_protocol: protocol.is_some(),
    };
    Ok((ipv6, wish))
}

/// A rule as a message.
pub(super) fn encode(kind: u16, ipv6: bool, rule: &Rule) -> Body {
    message(kind, ipv6, rule, true)
}

fn message(kind: u16, ipv6: bool, rule: &Rule, resolved: bool) -> Body {
    let mut message = RuleMessage::default();
    let header = &mut message.header;
    header.family = if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    header.table = u8::try_from(rule.table()).unwrap_or(COMPAT);
    header.dst_len = rule.to.map_or(0, |to| to.length);
    header.src_len = rule.from.map_or(0, |from| from.length);
    header.action = match rule.action {
        RuleAction::Table(_) => WireAction::ToTable,
        RuleAction::Goto(_) => WireAction::Goto,
        RuleAction::Nop => WireAction::Nop,
        RuleAction::Blackhole => WireAction::Blackhole,
        RuleAction::Unreachable => WireAction::Unreachable,
        RuleAction::Prohibit => WireAction::Prohibit,
    };
    let flags = if rule.invert { INVERT } else { 0 } | if resolved { 0 } else { UNRESOLVED };
    header.flags = RuleFlags::from_bits_retain(flags);
    let (mark, mask) = rule.mark;
    let mut attributes = vec![
        A::Table(rule.table()),
        A::SuppressPrefixLen(rule.suppress_length.unwrap_or(UNSUPPRESSED)),
        A::Protocol(RouteProtocol::from(rule.protocol)),
    ];
    attributes.extend(rule.iif.clone().map(A::Iifname));
    attributes.extend(rule.oif.clone().map(A::Oifname));
    attributes.extend((rule.priority != 0).then_some(A::Priority(rule.priority)));
    attributes.extend((mark != 0).then_some(A::FwMark(mark)));
    attributes.extend((mark != 0 || mask != 0).then_some(A::FwMask(mask)));
    if let RuleAction::Goto(target) = rule.action {
        attributes.push(A::Goto(target));
    }
    attributes.extend(rule.to.map(|to| A::Destination(to.ip)));
    attributes.extend(rule.from.map(|from| A::Source(from.ip)));
    message.attributes = attributes;
    body(kind, &message)
}
