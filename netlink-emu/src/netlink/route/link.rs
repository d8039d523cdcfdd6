//! `RTM_*LINK`: interfaces asked for, made, changed, removed.

use std::net::{IpAddr, Ipv6Addr};

use umvu_abi::{Errno, IfIndex};

use super::{
    layer,
    link_encode::{Detail, VDE_VNL, encode, encode_port},
    strict,
};
use crate::{
    host::{Failure, HostNet},
    netlink::{
        Answer, Filtered,
        attributes::{Attributes, field},
        message::Request,
    },
    text,
    values::{Interface, Layer, LinkChange, LinkFlags, NewLink},
};

/// The size of `struct ifinfomsg`.
const FIXED: usize = 16;
/// `RTEXT_FILTER_SKIP_STATS`.
const SKIP_STATS: u32 = 8;

/// Corresponds to `struct ifinfomsg`.
struct Header {
    index: Option<IfIndex>,
    flags: u32,
    change: u32,
}

fn header(payload: &[u8]) -> Header {
    let index = u32::from_ne_bytes(field(payload, 4));
    Header {
        // A signed number.
        index: (1..=i32::MAX.unsigned_abs()).contains(&index).then_some(IfIndex(index)),
        flags: u32::from_ne_bytes(field(payload, 8)),
        change: u32::from_ne_bytes(field(payload, 12)),
    }
}

pub(super) fn get(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    let attributes = Attributes::after(request.payload, FIXED);
    let skip_stats = attributes.u32(libc::IFLA_EXT_MASK)?.unwrap_or(0) & SKIP_STATS != 0;
    if request.is_dump() {
        strict::links(request)?;
        if request.payload.first().copied().map(i32::from) == Some(libc::AF_BRIDGE) {
            let links = host.interfaces().into_iter().filter(|link| link.master.is_some());
            let bodies = links.map(|link| encode_port(&link));
            return Ok(Answer::Dump { bodies: Box::new(bodies), filtered: Filtered::No });
        }
        let master = attributes.u32(libc::IFLA_MASTER)?.filter(|master| *master != 0);
        let kind = match attributes.nested(libc::IFLA_LINKINFO) {
            Some(info) => info.text(libc::IFLA_INFO_KIND)?.map(str::to_owned),
            None => None,
        };
        let filtered = kind.is_some() || master.is_some();
        let links: Vec<(Interface, Detail)> = host
            .interfaces()
            .into_iter()
            .filter(|link| kind.is_none() || link.kind.info_kind() == kind.as_deref())
            .filter(|link| master.is_none() || link.master.map(|held| held.0) == master)
            .map(|link| {
                let detail = detail(host, &link, skip_stats);
                (link, detail)
            })
            .collect();
        let bodies =
            links.into_iter().map(|(link, detail)| encode(libc::RTM_NEWLINK, &link, detail));
        return Ok(Answer::Dump {
            bodies: Box::new(bodies),
            filtered: Filtered::entries_if(filtered),
        });
    }
    let head = header(request.payload);
    let link = find(host, head.index, &attributes)?.ok_or(Errno::ENODEV)?;
    let detail = detail(host, &link, skip_stats);
    Ok(Answer::Messages(vec![encode(libc::RTM_NEWLINK, &link, detail)]))
}

fn detail(host: &dyn HostNet, link: &Interface, skip_stats: bool) -> Detail {
    let name = format!("ipv6.conf.{}.addr_gen_mode", link.name.replace('.', "/"));
    let addr_gen_mode = host.sysctl(&name).and_then(|mode| mode.parse().ok()).unwrap_or(0);
    Detail { skip_stats, addr_gen_mode }
}

/// `IFLA_IFNAME`. Errors: `ERANGE` when it is too long.
fn given_name<'a>(attributes: &Attributes<'a>) -> Result<Option<&'a str>, Errno> {
    let name = attributes.text(libc::IFLA_IFNAME)?;
    if name.is_some_and(|name| name.len() >= libc::IFNAMSIZ) {
        return Err(Errno::ERANGE);
    }
    Ok(name)
}

/// The interface of a request, by index or name. Errors: `EINVAL` when it names none, `ENODEV` for
/// an index that does not exist; Ok(None) for such a name.
fn find(
    host: &dyn HostNet,
    index: Option<IfIndex>,
    attributes: &Attributes<'_>,
) -> Result<Option<Interface>, Failure> {
    let links = host.interfaces();
    if let Some(index) = index {
        let link = links.into_iter().find(|link| link.index == index);
        return Ok(Some(link.ok_or(Errno::ENODEV)?));
    }
    let name = match given_name(attributes)? {
        Some(name) => Some(name),
        None => attributes.text(libc::IFLA_ALT_IFNAME)?,
    };
    let name = name.ok_or(Errno::EINVAL)?;
    Ok(links.into_iter().find(|link| link.is_named(name)))
}

pub(super) fn new(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    let attributes = Attributes::after(request.payload, FIXED);
    let head = header(request.payload);
    let may_create = request.has(libc::NLM_F_CREATE);
    let found = match find(host, head.index, &attributes) {
        // Without a name or index, or with one that does not exist yet.
        Err(failure) if failure.errno == Errno::EINVAL || may_create => None,
        found => found?,
    };
    if let Some(link) = found {
        if request.has(libc::NLM_F_EXCL) {
            return Err(Errno::EEXIST.into());
        }
        return change(host, &link, &head, &attributes);
    }
    if !may_create {
        return set_group(host, &head, &attributes);
    }
    let Some(info) = attributes.nested(libc::IFLA_LINKINFO) else {
        return Err(text::LINK_UNKNOWN_KIND);
    };
    let kind = info.text(libc::IFLA_INFO_KIND)?.filter(|kind| !kind.is_empty());
    let kind = kind.ok_or(text::LINK_UNKNOWN_KIND)?.to_owned();
    let data = info.nested(libc::IFLA_INFO_DATA);
    let vnl = match &data {
        Some(data) if kind == "vde" => data.text(VDE_VNL)?.map(str::to_owned),
        _ => None,
    };
    let layer = layer::decode(host, &kind, &attributes, data.as_ref())?;
    stays(&attributes)?;
    let properties = properties(&head, &attributes)?;
    let peer = match &layer {
        Layer::Pair(_) => Some(Box::new(peer(data.as_ref(), &kind)?)),
        _ => None,
    };
    host.add_link(&NewLink { kind, vnl, layer, peer, index: head.index, properties })?;
    Ok(Answer::Done)
}

/// The other end of a cable, as far as `VETH_INFO_PEER` says it.
fn peer(data: Option<&Attributes<'_>>, kind: &str) -> Result<NewLink, Failure> {
    const VETH_INFO_PEER: u16 = 1;
    let mut peer =
        NewLink { kind: kind.to_owned(), layer: Layer::Pair(IfIndex(0)), ..NewLink::default() };
    if let Some(payload) = data.and_then(|data| data.bytes(VETH_INFO_PEER)) {
        if payload.len() < FIXED {
            return Err(Errno::EINVAL.into());
        }
        let (head, attributes) = (header(payload), Attributes::after(payload, FIXED));
        stays(&attributes)?;
        peer.index = head.index;
        peer.properties = properties(&head, &attributes)?;
    }
    Ok(peer)
}

/// Refuses what is to be in another network. Errors: `EOPNOTSUPP`.
fn stays(attributes: &Attributes<'_>) -> Result<(), Failure> {
    let elsewhere = [libc::IFLA_NET_NS_PID, libc::IFLA_NET_NS_FD];
    if elsewhere.iter().any(|kind| attributes.bytes(*kind).is_some()) {
        return Err(text::LINK_ELSEWHERE);
    }
    Ok(())
}

/// Whether a request makes an interface whose device takes a while to open.
pub(super) fn opens_slowly(host: &dyn HostNet, request: &Request<'_>) -> bool {
    let attributes = Attributes::after(request.payload, FIXED);
    let info = attributes.nested(libc::IFLA_LINKINFO);
    let kind = info.as_ref().and_then(|info| info.text(libc::IFLA_INFO_KIND).ok().flatten());
    request.has(libc::NLM_F_CREATE) && kind.is_some_and(|kind| host.opens_slowly(kind))
}

/// `ip link set group`: no name, no index, but the group of the interfaces to change.
fn set_group(
    host: &dyn HostNet,
    head: &Header,
    attributes: &Attributes<'_>,
) -> Result<Answer, Failure> {
    let group = attributes.u32(libc::IFLA_GROUP)?;
    let named = attributes.bytes(libc::IFLA_IFNAME).is_some();
    let Some(group) = group.filter(|_| head.index.is_none() && !named) else {
        return Err(Errno::ENODEV.into());
    };
    let wanted = LinkChange { group: None, ..properties(head, attributes)? };
    for link in host.interfaces().into_iter().filter(|link| link.group == group) {
        host.set_link(link.index, &wanted)?;
    }
    Ok(Answer::Done)
}

pub(super) fn set(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    let attributes = Attributes::after(request.payload, FIXED);
    let head = header(request.payload);
    let link = find(host, head.index, &attributes)?.ok_or(Errno::ENODEV)?;
    change(host, &link, &head, &attributes)
}

fn change(
    host: &dyn HostNet,
    link: &Interface,
    head: &Header,
    attributes: &Attributes<'_>,
) -> Result<Answer, Failure> {
    stays(attributes)?;
    let mut wanted = properties(head, attributes)?;
    if head.index.is_none() {
        // The name has named the interface.
        wanted.name = None;
    }
    if let Some(info) = attributes.nested(libc::IFLA_LINKINFO)
        && let Some(data) = info.nested(libc::IFLA_INFO_DATA)
        && link.layer.is_bridge()
    {
        wanted.layer = Some(layer::change(&data)?);
    }
    host.set_link(link.index, &wanted)?;
    if let Some(mode) = addr_gen_mode(attributes)? {
        let name = format!("ipv6.conf.{}.addr_gen_mode", link.name.replace('.', "/"));
        host.set_sysctl(&name, &mode.to_string())?;
    }
    Ok(Answer::Done)
}

fn addr_gen_mode(attributes: &Attributes<'_>) -> Result<Option<u8>, Errno> {
    const INET6_ADDR_GEN_MODE: u16 = 8;
    inet6(attributes).map_or(Ok(None), |inet6| inet6.u8(INET6_ADDR_GEN_MODE))
}

/// `ip token set`.
fn token(attributes: &Attributes<'_>) -> Result<Option<Ipv6Addr>, Errno> {
    const INET6_TOKEN: u16 = 7;
    let token = inet6(attributes).map_or(Ok(None), |inet6| inet6.ip(INET6_TOKEN))?;
    Ok(match token {
        // The network is the router's to say.
        Some(IpAddr::V6(ip)) => Some(Ipv6Addr::from_bits(ip.to_bits() & u128::from(u64::MAX))),
        _ => None,
    })
}

fn inet6<'a>(attributes: &Attributes<'a>) -> Option<Attributes<'a>> {
    const AF_INET6: u16 = 10;
    attributes.nested(libc::IFLA_AF_SPEC)?.nested(AF_INET6)
}

fn properties(head: &Header, attributes: &Attributes<'_>) -> Result<LinkChange, Failure> {
    // Without a mask all flags are meant, when there are any (`rtnl_dev_combine_flags`).
    let mask = if head.change == 0 && head.flags != 0 { u32::MAX } else { head.change };
    Ok(LinkChange {
        flags_mask: LinkFlags::from_bits_retain(mask),
        flags: LinkFlags::from_bits_retain(head.flags),
        name: given_name(attributes)?.filter(|n| !n.is_empty()).map(str::to_owned),
        mtu: attributes.u32(libc::IFLA_MTU)?,
        mac: attributes.mac(libc::IFLA_ADDRESS)?,
        broadcast: attributes.mac(libc::IFLA_BROADCAST)?,
        txqlen: attributes.u32(libc::IFLA_TXQLEN)?,
        group: attributes.u32(libc::IFLA_GROUP)?,
        alias: attributes.text(libc::IFLA_IFALIAS)?.map(str::to_owned),
        carrier: attributes.u8(libc::IFLA_CARRIER)?.map(|carrier| carrier != 0),
        token: token(attributes)?,
        master: attributes.u32(libc::IFLA_MASTER)?.map(IfIndex),
        layer: None,
    })
}

pub(super) fn del(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    let attributes = Attributes::after(request.payload, FIXED);
    let head = header(request.payload);
    let link = find(host, head.index, &attributes)?.ok_or(Errno::ENODEV)?;
    host.del_link(link.index)?;
    Ok(Answer::Done)
}

/// `ip link property add|del altname`.
pub(super) fn set_names(
    host: &dyn HostNet,
    request: &Request<'_>,
    present: bool,
) -> Result<Answer, Failure> {
    let attributes = Attributes::after(request.payload, FIXED);
    let head = header(request.payload);
    let link = find(host, head.index, &attributes)?.ok_or(Errno::ENODEV)?;
    let names = attributes.nested(libc::IFLA_PROP_LIST).ok_or(Errno::EINVAL)?;
    for (_, value) in names.iter().filter(|(kind, _)| *kind == libc::IFLA_ALT_IFNAME) {
        let name = crate::netlink::attributes::text(value)?;
        host.set_alternative_name(link.index, name, present)?;
    }
    Ok(Answer::Done)
}
