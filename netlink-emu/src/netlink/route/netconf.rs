//! `RTM_GETNETCONF`: a few sysctls by netlink; `RTM_GETNSID`: no namespace has a number.

use netlink_packet_core::{DefaultNla, Emitable};
use umvu_abi::Errno;

use super::{family, route::family_byte};
use crate::{
    host::{Failure, HostNet},
    netlink::{Answer, Body, attributes::Attributes, message::Request},
};

/// `NETCONFA_IFINDEX`, and the values that stand for `all` and `default`.
const IFINDEX: u16 = 1;
const ALL: i32 = -1;
const DEFAULT: i32 = -2;

/// `NETCONFA_*` and the sysctl of each; the third is not told of IPv6.
const VALUES: [(u16, &str, bool); 6] = [
    (2, "forwarding", true),
    (3, "rp_filter", false),
    (4, "mc_forwarding", true),
    (5, "proxy_arp", false),
    (6, "ignore_routes_with_linkdown", true),
    (8, "bc_forwarding", false),
];

pub(super) fn get(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    let links = host.interfaces();
    let named = |index: i32| match index {
        ALL => Some("all".to_owned()),
        DEFAULT => Some("default".to_owned()),
        _ => links
            .iter()
            .find(|link| i32::try_from(link.index.0) == Ok(index))
            .map(|link| link.name.replace('.', "/")),
    };
    if !request.is_dump() {
        let attributes = Attributes::after(request.payload, 4);
        let index = attributes.u32(IFINDEX)?.ok_or(Errno::EINVAL)?;
        let index = i32::from_ne_bytes(index.to_ne_bytes());
        let ipv6 = family(request.payload).ok().flatten().ok_or(Errno::EOPNOTSUPP)?;
        let name = named(index).ok_or(Errno::EINVAL)?;
        return Ok(Answer::Messages(vec![encode(host, ipv6, index, &name)]));
    }
    let families = match family(request.payload) {
        Ok(None) => vec![false, true],
        Ok(Some(ipv6)) => vec![ipv6],
        Err(_) => return Ok(Answer::nothing()),
    };
    let mut indices: Vec<i32> =
        links.iter().filter_map(|link| i32::try_from(link.index.0).ok()).collect();
    indices.extend([ALL, DEFAULT]);
    let mut bodies = Vec::new();
    for ipv6 in families {
        for index in &indices {
            let Some(name) = named(*index) else { continue };
            bodies.push(encode(host, ipv6, *index, &name));
        }
    }
    Ok(Answer::dump(bodies.into_iter()))
}

fn encode(host: &dyn HostNet, ipv6: bool, index: i32, name: &str) -> Body {
    let folder = if ipv6 { "ipv6" } else { "ipv4" };
    let value = |knob: &str| -> i32 {
        let knob = if ipv6 && knob == "proxy_arp" { "proxy_ndp" } else { knob };
        host.sysctl(&format!("{folder}.conf.{name}.{knob}"))
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    };
    let mut attributes = vec![DefaultNla::new(IFINDEX, index.to_ne_bytes().to_vec())];
    for (kind, knob, both) in VALUES {
        if both || !ipv6 || knob == "proxy_arp" {
            attributes.push(DefaultNla::new(kind, value(knob).to_ne_bytes().to_vec()));
        }
    }
    // struct netconfmsg: the family, padded.
    let mut payload = vec![family_byte(ipv6), 0, 0, 0];
    let list = attributes.as_slice();
    let fixed = payload.len();
    payload.resize(fixed + list.buffer_len(), 0);
    list.emit(&mut payload[fixed..]);
    Body { kind: libc::RTM_NEWNETCONF, payload }
}

/// The answer to "which number has this namespace": none.
pub(super) fn nsid() -> Answer {
    const NETNSA_NSID: u16 = 1;
    let mut payload = vec![0; 4];
    let list = [DefaultNla::new(NETNSA_NSID, (-1i32).to_ne_bytes().to_vec())];
    payload.resize(4 + list.as_slice().buffer_len(), 0);
    list.as_slice().emit(&mut payload[4..]);
    Answer::Messages(vec![Body { kind: libc::RTM_NEWNSID, payload }])
}
