//! `RTM_*QDISC`, `RTM_*TCLASS`, `RTM_*TFILTER`: traffic control (rtnetlink(7), `tc(8)`).
//!
//! `options.rs` reads the options of the disciplines, `encode.rs` writes them; what may be made
//! where is [`config`](crate::config)'s.

mod encode;
mod options;

use umvu_abi::{Errno, IfIndex};

use crate::{
    host::{Failure, HostNet},
    netlink::{
        Answer, Body,
        attributes::{Attributes, field},
        message::Request,
    },
    text,
    values::{Handle, Qdisc, QdiscRequest, QdiscStats, RouteMode, qdisc::QdiscOptions},
};

pub(super) use encode::encode;

/// The size of `struct tcmsg`.
const FIXED: usize = 20;
/// `TCA_DUMP_INVISIBLE`.
const DUMP_INVISIBLE: u16 = 10;

/// The length of a tick of the scheduler, in nanoseconds (`PSCHED_SHIFT`).
const TICK: u64 = 64;

fn interface(payload: &[u8]) -> u32 {
    u32::from_ne_bytes(field(payload, 4))
}

fn request(request: &Request<'_>) -> Result<QdiscRequest, Failure> {
    let payload = request.payload;
    if payload.len() < FIXED {
        return Err(Errno::EINVAL.into());
    }
    let attributes = Attributes::after(payload, FIXED);
    let kind = attributes.text(libc::TCA_KIND)?.map(str::to_owned);
    let options = match (attributes.bytes(libc::TCA_OPTIONS), kind.as_deref()) {
        (Some(bytes), Some(kind)) => options::read(kind, bytes)?,
        _ => QdiscOptions::None,
    };
    Ok(QdiscRequest {
        interface: IfIndex(interface(payload)),
        handle: Handle(u32::from_ne_bytes(field(payload, 8))),
        parent: Handle(u32::from_ne_bytes(field(payload, 12))),
        kind,
        options,
        mode: RouteMode {
            create: request.has(libc::NLM_F_CREATE),
            exclusive: request.has(libc::NLM_F_EXCL),
            replace: request.has(libc::NLM_F_REPLACE),
            append: false,
        },
    })
}

pub(super) fn get(host: &dyn HostNet, message: &Request<'_>) -> Result<Answer, Failure> {
    if !message.is_dump() {
        let found = host.find_qdisc(&request(message)?)?;
        let all = host.qdiscs(Some(found.interface));
        let (qdisc, stats) = all.into_iter().find(|(q, _)| *q == found).ok_or(Errno::ENOENT)?;
        return Ok(Answer::Messages(vec![encode(libc::RTM_NEWQDISC, &qdisc, &stats)]));
    }
    let index = interface(message.payload);
    let attributes = Attributes::after(message.payload, FIXED);
    let all = attributes.bytes(DUMP_INVISIBLE).is_some();
    let found = host.qdiscs((index != 0).then_some(IfIndex(index)));
    let shown = found.into_iter().filter(move |(qdisc, _)| all || !qdisc.is_invisible());
    Ok(Answer::dump(shown.map(|(qdisc, stats)| encode(libc::RTM_NEWQDISC, &qdisc, &stats))))
}

pub(super) fn new(host: &dyn HostNet, message: &Request<'_>) -> Result<Answer, Failure> {
    host.set_qdisc(&request(message)?)?;
    Ok(Answer::Done)
}

pub(super) fn del(host: &dyn HostNet, message: &Request<'_>) -> Result<Answer, Failure> {
    host.del_qdisc(&request(message)?)?;
    Ok(Answer::Done)
}

/// The classes of an interface: each shaper has one.
pub(super) fn get_classes(host: &dyn HostNet, message: &Request<'_>) -> Result<Answer, Failure> {
    if !message.is_dump() {
        return Err(Errno::ENOENT.into());
    }
    let index = interface(message.payload);
    let found = if index == 0 { Vec::new() } else { host.qdiscs(Some(IfIndex(index))) };
    let leaf = |of: &Qdisc| {
        let mut inner = found.iter().filter(|(q, _)| q.parent != Handle::ROOT);
        inner.find(|(q, _)| q.parent.major() == of.handle).map_or(Handle::NONE, |(q, _)| q.handle)
    };
    let shapers = found.iter().filter(|(q, _)| q.discipline.is_classful());
    let bodies: Vec<Body> = shapers.map(|(q, _)| encode::class(q, leaf(q))).collect();
    Ok(Answer::dump(bodies.into_iter()))
}

/// Classes cannot be made, changed or removed: every shaper has the one that it has.
pub(super) fn set_class(host: &dyn HostNet, message: &Request<'_>) -> Result<Answer, Failure> {
    let request = request(message)?;
    let of = if request.parent == Handle::ROOT || request.parent == Handle::NONE {
        request.handle.major()
    } else {
        request.parent.major()
    };
    let all = host.qdiscs(Some(request.interface));
    let known = all.iter().any(|(qdisc, _)| qdisc.handle == of && of != Handle::NONE);
    Err(if known { Errno::EOPNOTSUPP.into() } else { Errno::ENOENT.into() })
}

/// There are no filters: `add` and its like are refused, by a sentence.
pub(super) fn set_filter(host: &dyn HostNet, message: &Request<'_>) -> Result<Answer, Failure> {
    let parent = Handle(u32::from_ne_bytes(field(message.payload, 12)));
    let all = host.qdiscs(Some(IfIndex(interface(message.payload))));
    let known = parent == Handle::ROOT
        || parent == Handle::NONE
        || all.iter().any(|(qdisc, _)| qdisc.handle == parent.major());
    Err(if known { text::FILTER_UNSUPPORTED } else { text::FILTER_NO_PARENT })
}

/// A message of the group `RTNLGRP_TC`.
pub(super) fn notice(kind: u16, qdisc: &Qdisc) -> Body {
    encode(kind, qdisc, &QdiscStats::default())
}
