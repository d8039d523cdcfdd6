//! What a dump may ask for when the socket is strict (`NETLINK_GET_STRICT_CHK`): headers must have
//! the size of their family and no value but the filters that the kernel knows.

use super::super::{attributes::Attributes, message::Request};
use crate::{host::Failure, text};

/// The size of `struct ifinfomsg`.
const LINK: usize = 16;
/// The size of `struct ifaddrmsg`.
const ADDRESS: usize = 8;
/// The size of `struct rtmsg`, `struct ndmsg` and `struct fib_rule_hdr`.
const OTHERS: usize = 12;
/// `RTM_F_CLONED` and `RTM_F_PREFIX`.
const ROUTE_FLAGS: u32 = libc::RTM_F_CLONED | libc::RTM_F_PREFIX;
/// `IFA_TARGET_NETNSID`.
const TARGET_NETNSID: u16 = 10;

/// Whether any of these bytes of a payload is set.
fn any(payload: &[u8], bytes: std::ops::Range<usize>) -> bool {
    payload.get(bytes).is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0))
}

fn check(
    request: &Request<'_>,
    size: usize,
    header: Failure,
    wrong: impl FnOnce(&[u8]) -> Option<Failure>,
) -> Result<(), Failure> {
    if !request.strict || !request.is_dump() {
        return Ok(());
    }
    if request.payload.len() < size {
        return Err(header);
    }
    wrong(request.payload).map_or(Ok(()), Err)
}

/// A dump of links.
pub(super) fn links(request: &Request<'_>) -> Result<(), Failure> {
    check(request, LINK, text::DUMP_LINK_HEADER, |payload| {
        if any(payload, 1..4) || any(payload, 8..LINK) {
            return Some(text::DUMP_LINK_VALUES);
        }
        any(payload, 4..8).then_some(text::DUMP_LINK_INDEX)
    })
}

/// A dump of addresses; of both families none is refused.
pub(super) fn addresses(request: &Request<'_>, ipv6: Option<bool>) -> Result<(), Failure> {
    let Some(ipv6) = ipv6 else { return Ok(()) };
    let [header, values, attribute] = if ipv6 {
        [
            text::DUMP_ADDRESS_HEADER_V6,
            text::DUMP_ADDRESS_VALUES_V6,
            text::DUMP_ADDRESS_ATTRIBUTE_V6,
        ]
    } else {
        [
            text::DUMP_ADDRESS_HEADER_V4,
            text::DUMP_ADDRESS_VALUES_V4,
            text::DUMP_ADDRESS_ATTRIBUTE_V4,
        ]
    };
    check(request, ADDRESS, header, |payload| {
        if any(payload, 1..4) {
            return Some(values);
        }
        let known = |(kind, _)| kind == TARGET_NETNSID;
        (!Attributes::after(payload, ADDRESS).iter().all(known)).then_some(attribute)
    })
}

/// A dump of routes.
pub(super) fn routes(request: &Request<'_>) -> Result<(), Failure> {
    check(request, OTHERS, text::DUMP_ROUTE_HEADER, |payload| {
        if any(payload, 1..4) || any(payload, 6..7) {
            return Some(text::DUMP_ROUTE_VALUES);
        }
        let flags = u32::from_ne_bytes(super::super::attributes::field(payload, 8));
        (flags & !ROUTE_FLAGS != 0).then_some(text::DUMP_ROUTE_FLAGS)
    })
}

/// A dump of neighbours.
pub(super) fn neighbours(request: &Request<'_>) -> Result<(), Failure> {
    check(request, OTHERS, text::DUMP_NEIGHBOUR_HEADER, |payload| {
        let wrong = any(payload, 1..10) || any(payload, 11..OTHERS);
        wrong.then_some(text::DUMP_NEIGHBOUR_VALUES)
    })
}

/// A dump of rules.
pub(super) fn rules(request: &Request<'_>) -> Result<(), Failure> {
    check(request, OTHERS, text::DUMP_RULE_HEADER, |payload| {
        any(payload, 1..OTHERS).then_some(text::DUMP_RULE_VALUES)
    })
}
