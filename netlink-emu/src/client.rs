//! The other side: requests of rtnetlink(7) as programs make them, and what the answers say. Pure
//! bytes: any stack's netlink socket, or the kernel's, carries them.

use std::{borrow::Cow, net::Ipv6Addr};

use netlink_packet_route::{
    AddressFamily,
    address::AddressMessage,
    link::{
        AfSpecInet6, AfSpecUnspec, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags,
        LinkInfo, LinkMessage,
    },
    route::RouteMessage,
};
use umvu_abi::{Errno, IfIndex};

use crate::{
    host::Failure,
    netlink::{
        Body,
        attributes::{Attributes, field},
        message, route,
    },
    values::{Address, AddressFlags as Flags, LinkChange, NewLink, Route},
};

/// `NLMSG_ERROR` and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLMSGERR_ATTR_MSG`, after the error number and the header of the request.
const ATTR_MSG: u16 = 1;
/// `IFA_FLAGS`, wider than the field of the header.
const IFA_FLAGS: u16 = 8;
const ERROR_HEAD: usize = 4 + message::HEADER;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    flags: i32,
    body: Body,
}

impl Command {
    fn new(flags: i32, body: Body) -> Self {
        Self { flags: flags | libc::NLM_F_REQUEST, body }
    }

    fn change(flags: i32, body: Body) -> Self {
        Self::new(flags | libc::NLM_F_ACK, body)
    }

    fn link(kind: u16, index: IfIndex, attributes: Vec<LinkAttribute>) -> (LinkMessage, u16) {
        let mut message = LinkMessage::default();
        message.header.index = index.0;
        message.attributes = attributes;
        (message, kind)
    }

    /// Asks for the interface of a name.
    #[must_use]
    pub fn find_link(name: &str) -> Self {
        let named = vec![LinkAttribute::IfName(name.to_owned())];
        let (message, kind) = Self::link(libc::RTM_GETLINK, IfIndex(0), named);
        Self::new(0, route::body(kind, &message))
    }

    /// Makes an interface.
    #[must_use]
    pub fn add_link(link: &NewLink) -> Self {
        let mut info = vec![LinkInfo::Kind(InfoKind::from(link.kind.as_str()))];
        let data = link.vnl.as_deref().and_then(route::vde_data);
        info.extend(data.map(|data| LinkInfo::Data(InfoData::Other(data))));
        let name = link.properties.name.clone().map(LinkAttribute::IfName);
        let attributes = name.into_iter().chain([LinkAttribute::LinkInfo(info)]).collect();
        let index = link.index.unwrap_or(IfIndex(0));
        let (message, kind) = Self::link(libc::RTM_NEWLINK, index, attributes);
        Self::change(libc::NLM_F_CREATE | libc::NLM_F_EXCL, route::body(kind, &message))
    }

    /// Makes a pair of interfaces, each the other end of the other (veth(4)).
    #[must_use]
    pub fn add_pair(near: &str, far: &str) -> Self {
        let mut peer = LinkMessage::default();
        peer.attributes = vec![LinkAttribute::IfName(far.to_owned())];
        let info = vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ];
        let attributes =
            vec![LinkAttribute::IfName(near.to_owned()), LinkAttribute::LinkInfo(info)];
        let (message, kind) = Self::link(libc::RTM_NEWLINK, IfIndex(0), attributes);
        Self::change(libc::NLM_F_CREATE | libc::NLM_F_EXCL, route::body(kind, &message))
    }

    /// Removes the interface of an index or, when that is 0, of a name.
    #[must_use]
    pub fn del_link(index: IfIndex, name: Option<&str>) -> Self {
        let named = name.map(|name| LinkAttribute::IfName(name.to_owned()));
        let (message, kind) = Self::link(libc::RTM_DELLINK, index, named.into_iter().collect());
        Self::change(0, route::body(kind, &message))
    }

    /// Changes an interface: its flags, MTU and hardware address.
    #[must_use]
    pub fn set_link(index: IfIndex, wanted: &LinkChange) -> Self {
        let mac = wanted.mac.map(|mac| LinkAttribute::Address(mac.to_vec()));
        let mtu = wanted.mtu.map(LinkAttribute::Mtu);
        let attributes = mac.into_iter().chain(mtu).collect();
        let (mut message, kind) = Self::link(libc::RTM_NEWLINK, index, attributes);
        message.header.flags = LinkFlags::from_bits_retain(wanted.flags.bits());
        message.header.change_mask = LinkFlags::from_bits_retain(wanted.flags_mask.bits());
        Self::change(0, route::body(kind, &message))
    }

    /// Has the addresses that routers advertise end with the interface identifier in `token`.
    #[must_use]
    pub fn set_token(index: IfIndex, token: Ipv6Addr) -> Self {
        let inet6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::Token(token)]);
        let attributes = vec![LinkAttribute::AfSpecUnspec(vec![inet6])];
        let (message, kind) = Self::link(libc::RTM_SETLINK, index, attributes);
        Self::change(0, route::body(kind, &message))
    }

    /// Adds an address, or renews its lifetimes.
    #[must_use]
    pub fn put_address(address: &Address) -> Self {
        let body = route::encode_address(libc::RTM_NEWADDR, address);
        Self::change(libc::NLM_F_CREATE | libc::NLM_F_REPLACE, body)
    }

    /// Removes an address.
    #[must_use]
    pub fn del_address(address: &Address) -> Self {
        Self::change(0, route::encode_address(libc::RTM_DELADDR, address))
    }

    /// Adds a route, or replaces the one that exists.
    #[must_use]
    pub fn put_route(route: &Route) -> Self {
        let body = route::encode_route(libc::RTM_NEWROUTE, route);
        Self::change(libc::NLM_F_CREATE | libc::NLM_F_REPLACE, body)
    }

    /// Removes a route.
    #[must_use]
    pub fn del_route(route: &Route) -> Self {
        Self::change(0, route::encode_route(libc::RTM_DELROUTE, route))
    }

    /// Asks for all addresses of a family.
    #[must_use]
    pub fn dump_addresses(ipv6: bool) -> Self {
        let mut message = AddressMessage::default();
        message.header.family = family(ipv6);
        Self::new(libc::NLM_F_DUMP, route::body(libc::RTM_GETADDR, &message))
    }

    /// Asks for all routes of a family.
    #[must_use]
    pub fn dump_routes(ipv6: bool) -> Self {
        let mut message = RouteMessage::default();
        message.header.address_family = family(ipv6);
        Self::new(libc::NLM_F_DUMP, route::body(libc::RTM_GETROUTE, &message))
    }

    /// Whether one message is the whole answer.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.flags & (libc::NLM_F_ACK | libc::NLM_F_DUMP) == 0
    }

    /// The datagram to send.
    #[must_use]
    pub fn bytes(&self, sequence: u32) -> Vec<u8> {
        let flags = u16::try_from(self.flags).unwrap_or_default();
        let header = message::Header { kind: self.body.kind, flags, sequence, port: 0 };
        let mut data = Vec::new();
        message::write(&mut data, header, &self.body.payload);
        data
    }
}

fn family(ipv6: bool) -> AddressFamily {
    if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet }
}

/// One message of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The request was carried out, or the dump is at its end.
    Done,
    /// It was refused.
    Failed(Failure),
    /// A message of this type (`RTM_*`).
    Message(u16, Vec<u8>),
}

/// The messages of a datagram, with the sequence numbers of the requests they answer (0 for those
/// of multicast groups).
pub fn answers(data: &[u8]) -> impl Iterator<Item = (u32, Answer)> {
    message::split(data).map(|(header, raw)| {
        let payload = raw.get(message::HEADER..).unwrap_or_default();
        let answer = match header.kind {
            ERROR | DONE => outcome(payload),
            kind => Answer::Message(kind, payload.to_vec()),
        };
        (header.sequence, answer)
    })
}

fn outcome(payload: &[u8]) -> Answer {
    let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    if code == 0 {
        return Answer::Done;
    }
    let errno = Errno(code.saturating_neg());
    // With NETLINK_CAP_ACK the request is not repeated: attributes follow its header.
    let attributes = Attributes::after(payload, ERROR_HEAD);
    let text = attributes.text(ATTR_MSG).ok().flatten().map(str::to_owned);
    Answer::Failed(Failure { errno, message: Cow::Owned(text.unwrap_or_default()) })
}

/// The index of the interface in a `RTM_NEWLINK`.
#[must_use]
pub fn link_index(payload: &[u8]) -> Option<IfIndex> {
    (payload.len() >= 16).then(|| IfIndex(u32::from_ne_bytes(field(payload, 4))))
}

/// The address in a `RTM_NEWADDR`: interface, prefix and flags.
#[must_use]
pub fn address(payload: &[u8]) -> Option<Address> {
    let [length, low]: [u8; 2] = field(payload, 1);
    let index = IfIndex(u32::from_ne_bytes(field(payload, 4)));
    let attributes = Attributes::after(payload, 8);
    let local = attributes.ip(libc::IFA_LOCAL).ok().flatten();
    let ip = local.or(attributes.ip(libc::IFA_ADDRESS).ok().flatten())?;
    let flags = attributes.u32(IFA_FLAGS).ok().flatten().unwrap_or(u32::from(low));
    let held = Address::new(index, ip, length);
    Some(Address { flags: Flags::from_bits_retain(flags), ..held })
}

/// The interface of the default route in a `RTM_NEWROUTE`; None for other routes.
#[must_use]
pub fn default_route_by(payload: &[u8]) -> Option<IfIndex> {
    let [length]: [u8; 1] = field(payload, 1);
    let [table]: [u8; 1] = field(payload, 4);
    let by = Attributes::after(payload, 12).u32(libc::RTA_OIF).ok().flatten()?;
    (length == 0 && table == libc::RT_TABLE_MAIN && payload.len() > 12).then_some(IfIndex(by))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        netlink,
        testing::{Count, Lab},
        values::LinkFlags,
    };
    use std::sync::Arc;
    use umvu_abi::net::{DatagramSocket, SendControl};

    fn ask(socket: &dyn DatagramSocket, command: &Command) -> Vec<Answer> {
        socket.send(&command.bytes(7), None, &SendControl::default()).expect("a request");
        let data = std::iter::from_fn(|| socket.receive());
        data.flat_map(|datagram| answers(&datagram.data).map(|(_, one)| one).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn requests_are_understood_and_answers_read() {
        let lab = Lab::ready();
        let events = Arc::new(Count::default());
        let socket = netlink::open(libc::NETLINK_ROUTE, lab.host(), &lab.hub, events).expect("one");
        socket.set_option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, &[1, 0, 0, 0]).expect("known");
        socket.set_option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, &[1, 0, 0, 0]).expect("known");
        let ask = |command: &Command| ask(socket.as_ref(), command);
        let found = ask(&Command::find_link("vde0"));
        let [Answer::Message(_, link)] = found.as_slice() else { panic!("{found:?}") };
        let index = link_index(link).expect("an index");
        assert_eq!(index, IfIndex(2));
        let address_2 = Address::new(index, [10, 0, 0, 2].into(), 24);
        assert_eq!(ask(&Command::put_address(&address_2)), [Answer::Done]);
        let all = ask(&Command::dump_addresses(false));
        let held = all.iter().filter_map(|answer| match answer {
            Answer::Message(_, payload) => address(payload),
            _ => None,
        });
        assert!(held.into_iter().any(|held| held.ip() == address_2.ip()));
        let way = Route::default_by([10, 0, 0, 254].into());
        assert_eq!(ask(&Command::put_route(&way)), [Answer::Done]);
        let routes = ask(&Command::dump_routes(false));
        let by = |answer: &Answer| match answer {
            Answer::Message(_, payload) => default_route_by(payload),
            _ => None,
        };
        assert_eq!(routes.iter().find_map(by), Some(index));
        assert_eq!(ask(&Command::del_route(&way)), [Answer::Done]);
        assert_eq!(ask(&Command::del_address(&address_2)), [Answer::Done]);
        let mtu = LinkChange { mtu: Some(1400), ..LinkChange::admin(true) };
        assert_eq!(ask(&Command::set_link(index, &mtu)), [Answer::Done]);
        let new = NewLink {
            kind: "vde".to_owned(),
            vnl: Some("null://".to_owned()),
            ..NewLink::default()
        };
        assert_eq!(ask(&Command::add_link(&new)), [Answer::Done]);
        let made = lab.config.lock().links().last().cloned().expect("a link");
        assert_eq!((made.name.as_str(), made.vnl.as_deref()), ("vde1", Some("null://")));
        assert!(!made.flags.contains(LinkFlags::UP));
        assert_eq!(ask(&Command::del_link(IfIndex(0), Some("vde1"))), [Answer::Done]);
        let wrong = NewLink { kind: "nothing".to_owned(), ..NewLink::default() };
        let refused = crate::text::LINK_UNKNOWN_KIND;
        assert_eq!(ask(&Command::add_link(&wrong)), [Answer::Failed(refused)]);
    }
}
