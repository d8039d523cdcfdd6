//! `RTM_*NEIGH` of the family `AF_BRIDGE`: the stations that bridges know (`bridge fdb`).

use netlink_packet_core::DefaultNla;
use netlink_packet_route::{
    AddressFamily,
    neighbour::{
        NeighbourAttribute as A, NeighbourFlags as Flags, NeighbourMessage, NeighbourState as State,
    },
};
use umvu_abi::{Errno, IfIndex};

use super::body;
use crate::{
    host::{Failure, HostNet},
    netlink::{
        Answer, Body, Filtered,
        attributes::{Attributes, field},
        message::Request,
    },
    text,
    values::{NeighbourFlags, NeighbourState, Origin, RouteMode, Station},
};

/// The size of `struct ndmsg`, and of `struct ifinfomsg`, which old programs send.
const FIXED: usize = 12;
const OLD: usize = 16;
const NDA_CACHEINFO: u16 = 3;
/// `USER_HZ`.
const HUNDREDTHS: u32 = 100;

/// Whether a request is about bridges.
pub(super) fn is_meant(request: &Request<'_>) -> bool {
    request.payload.first().copied().map(i32::from) == Some(libc::AF_BRIDGE)
}

pub(super) fn get(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    if !request.is_dump() {
        let (port, mac) = target(request)?;
        let found = host.stations().into_iter().find(|held| (held.port, held.mac) == (port, mac));
        return Ok(Answer::Messages(vec![encode(
            libc::RTM_NEWNEIGH,
            &found.ok_or(Errno::ENOENT)?,
        )]));
    }
    let fixed = if request.payload.len() == OLD { OLD } else { FIXED };
    let attributes = Attributes::after(request.payload, fixed);
    let port = u32::from_ne_bytes(field(request.payload, 4));
    let port = attributes.u32(libc::NDA_IFINDEX)?.unwrap_or(port);
    let bridge = attributes.u32(libc::NDA_MASTER)?.unwrap_or(0);
    let stations = host.stations().into_iter().filter(move |held| {
        (port == 0 || held.port.0 == port) && (bridge == 0 || held.bridge.0 == bridge)
    });
    let bodies = stations.map(|held| encode(libc::RTM_NEWNEIGH, &held));
    Ok(Answer::Dump {
        bodies: Box::new(bodies),
        filtered: Filtered::entries_if(port != 0 || bridge != 0),
    })
}

pub(super) fn new(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    let (port, mac) = target(request)?;
    let state = u16::from_ne_bytes(field(request.payload, 8));
    let has = |wanted: NeighbourState| state & wanted.number() != 0;
    let origin = if has(NeighbourState::Permanent) {
        Origin::Local
    } else if has(NeighbourState::NoArp) {
        Origin::Static
    } else {
        Origin::Learned
    };
    let links = host.interfaces();
    let link = links.iter().find(|link| link.index == port).ok_or(Errno::ENODEV)?;
    let bridge = link.master.or(link.layer.is_bridge().then_some(port));
    let bridge = bridge.ok_or(text::STATION_NO_PORT)?;
    let mode = RouteMode {
        create: request.has(libc::NLM_F_CREATE),
        exclusive: request.has(libc::NLM_F_EXCL),
        replace: request.has(libc::NLM_F_REPLACE),
        append: false,
    };
    host.add_station(&Station { mac, port, bridge, origin, age: 0 }, mode)?;
    Ok(Answer::Done)
}

pub(super) fn del(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    let (port, mac) = target(request)?;
    host.del_station(port, mac)?;
    Ok(Answer::Done)
}

/// The port and the hardware address that a request names.
fn target(request: &Request<'_>) -> Result<(IfIndex, [u8; 6]), Failure> {
    if request.payload.len() < FIXED {
        return Err(Errno::EINVAL.into());
    }
    let flags = NeighbourFlags::from_bits_retain(field::<1>(request.payload, 10)[0]);
    if !request.is_dump()
        && flags.bits() & Flags::Own.bits() != 0
        && flags.bits() & Flags::Controller.bits() == 0
    {
        return Err(text::STATION_SELF);
    }
    let attributes = Attributes::after(request.payload, FIXED);
    let mac = attributes.mac(libc::NDA_LLADDR)?.ok_or(Errno::EINVAL)?;
    let port = u32::from_ne_bytes(field(request.payload, 4));
    if port == 0 || mac == [0; 6] {
        return Err(Errno::EINVAL.into());
    }
    Ok((IfIndex(port), mac))
}

/// Encodes a station.
pub(super) fn encode(kind: u16, station: &Station) -> Body {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = station.port.0;
    message.header.state = match station.origin {
        Origin::Learned => State::Reachable,
        Origin::Static => State::Noarp,
        Origin::Local => State::Permanent,
    };
    message.attributes.push(A::LinkLayerAddress(station.mac.to_vec()));
    message.attributes.push(A::Controller(station.bridge.0));
    // struct nda_cacheinfo: confirmed, used, updated, references.
    let age = station.age.saturating_mul(HUNDREDTHS);
    let ages = [0, age, age, 0].iter().flat_map(|age: &u32| age.to_ne_bytes()).collect();
    message.attributes.push(A::Other(DefaultNla::new(NDA_CACHEINFO, ages)));
    body(kind, &message)
}
