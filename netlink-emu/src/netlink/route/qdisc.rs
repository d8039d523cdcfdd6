//! `RTM_GETQDISC`: the one queueing discipline that each interface has.

use netlink_packet_core::{DefaultNla, Emitable};
use umvu_abi::Errno;

use crate::{
    host::{Failure, HostNet},
    netlink::{Answer, Body, attributes::field, message::Request},
    values::Interface,
};

/// `TC_H_ROOT`.
const ROOT: u32 = u32::MAX;
/// `TCA_KIND` and `TCA_OPTIONS`.
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
/// The options of `pfifo_fast`: 3 bands and their priority map (`struct tc_prio_qopt`).
const PRIORITY_MAP: [u8; 16] = [1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];

pub(super) fn get(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    if !request.is_dump() {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let index = u32::from_ne_bytes(field(request.payload, 4));
    let links = host.interfaces().into_iter();
    let bodies = links
        .filter(move |link| (index == 0 || link.index.0 == index) && link.activated)
        .map(|link| encode(&link));
    Ok(Answer::dump(bodies))
}

fn encode(link: &Interface) -> Body {
    // struct tcmsg: family, padding, interface, handle, parent, info (references).
    let mut payload = vec![0; 4];
    for number in [link.index.0, 0, ROOT, 2] {
        payload.extend_from_slice(&number.to_ne_bytes());
    }
    let mut name = link.qdisc.clone().into_bytes();
    name.push(0);
    let mut attributes = vec![DefaultNla::new(KIND, name)];
    if link.qdisc == "pfifo_fast" {
        let mut options = 3i32.to_ne_bytes().to_vec();
        options.extend_from_slice(&PRIORITY_MAP);
        attributes.push(DefaultNla::new(OPTIONS, options));
    }
    let list = attributes.as_slice();
    let fixed = payload.len();
    payload.resize(fixed + list.buffer_len(), 0);
    list.emit(&mut payload[fixed..]);
    Body { kind: libc::RTM_NEWQDISC, payload }
}
