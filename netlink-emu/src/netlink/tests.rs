//! The sockets as programs use them, with `netlink-packet-route` as the other end.

use std::{net::IpAddr, sync::Arc};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    address::{AddressAttribute, AddressMessage},
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteAttribute, RouteMessage, RouteType},
    rule::{RuleAction, RuleAttribute, RuleMessage},
};
use umvu_abi::{
    Errno, SockAddr,
    net::{DatagramSocket, SendControl, SocketEvents},
};

use super::open;
use crate::{
    HostNet,
    testing::{Count, Lab, row},
    values::{SocketTable, TcpDetails, TcpState},
};

struct Client {
    socket: Arc<dyn DatagramSocket>,
    wakes: Arc<Count>,
    sequence: u32,
}

impl Client {
    fn of(lab: &Arc<Lab>, protocol: i32) -> Self {
        let wakes = Arc::new(Count::default());
        let events: Arc<dyn SocketEvents> = Arc::clone(&wakes) as Arc<dyn SocketEvents>;
        let socket = open(protocol, lab.host(), &lab.hub, events).expect("a known protocol");
        Self { socket, wakes, sequence: 0 }
    }

    fn new(lab: &Arc<Lab>) -> Self {
        Self::of(lab, libc::NETLINK_ROUTE)
    }

    fn send(&mut self, message: Message, flags: u16) {
        self.sequence += 1;
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut data = vec![0; message.buffer_len()];
        message.serialize(&mut data);
        self.raw(&data);
    }

    fn raw(&self, data: &[u8]) {
        let sent = self.socket.send(data, None, &SendControl::default());
        assert_eq!(sent, Ok(data.len()));
    }

    /// All messages that wait, parsed.
    fn receive(&self) -> Vec<NetlinkMessage<Message>> {
        let mut messages = Vec::new();
        while let Some(datagram) = self.socket.receive() {
            let mut rest = &datagram.data[..];
            while !rest.is_empty() {
                let message = NetlinkMessage::deserialize(rest).expect("a sound message");
                let length = super::message::align(message.header.length as usize);
                rest = rest.get(length..).unwrap_or_default();
                messages.push(message);
            }
        }
        messages
    }

    /// The answers to a request, without the end of a dump.
    fn ask(&mut self, message: Message, flags: u16) -> Vec<Message> {
        self.send(message, flags);
        self.receive()
            .into_iter()
            .filter_map(|message| {
                assert_eq!(message.header.sequence_number, self.sequence);
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => Some(inner),
                    _ => None,
                }
            })
            .collect()
    }

    /// The error number of the acknowledgement, 0 for none.
    fn order(&mut self, message: Message, flags: u16) -> i32 {
        self.send(message, flags | NLM_F_ACK);
        let answers = self.receive();
        let [answer] = &answers[..] else { panic!("one answer, not {answers:?}") };
        match &answer.payload {
            NetlinkPayload::Error(error) => error.raw_code(),
            other => panic!("an acknowledgement, not {other:?}"),
        }
    }

    fn join(&self, group: u32) {
        let option = libc::NETLINK_ADD_MEMBERSHIP;
        let value = group.to_ne_bytes();
        self.socket.set_option(libc::SOL_NETLINK, option, &value).expect("a group");
    }

    fn set(&self, option: i32) {
        let value = 1i32.to_ne_bytes();
        self.socket.set_option(libc::SOL_NETLINK, option, &value).expect("an option");
    }
}

fn address(ip: &str, length: u8) -> AddressMessage {
    let ip: IpAddr = ip.parse().expect("an address");
    let mut message = AddressMessage::default();
    message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = length;
    message.header.index = 2;
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}

fn names(answers: &[Message]) -> Vec<String> {
    let name = |attribute: &LinkAttribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    };
    answers
        .iter()
        .filter_map(|answer| match answer {
            Message::NewLink(link) => link.attributes.iter().find_map(name),
            _ => None,
        })
        .collect()
}

#[test]
fn a_dump_of_links_is_understood() {
    let lab = Lab::fresh();
    let mut client = Client::new(&lab);
    let answers = client.ask(Message::GetLink(LinkMessage::default()), NLM_F_DUMP);
    assert_eq!(names(&answers), ["lo", "vde0"]);
    assert!(*client.wakes.0.lock() > 0);
}

#[test]
fn one_link_is_found_by_index_and_by_name() {
    let lab = Lab::fresh();
    let mut client = Client::new(&lab);
    let mut wanted = LinkMessage::default();
    wanted.header.index = 2;
    assert_eq!(names(&client.ask(Message::GetLink(wanted), 0)), ["vde0"]);
    let mut wanted = LinkMessage::default();
    wanted.attributes.push(LinkAttribute::IfName("lo".to_owned()));
    assert_eq!(names(&client.ask(Message::GetLink(wanted), 0)), ["lo"]);
    let mut wanted = LinkMessage::default();
    wanted.header.index = 9;
    assert_eq!(client.order(Message::GetLink(wanted), 0), -libc::ENODEV);
}

#[test]
fn a_link_is_made_taken_up_and_removed() {
    let lab = Lab::fresh();
    let mut client = Client::new(&lab);
    let mut wanted = LinkMessage::default();
    wanted.attributes = vec![
        LinkAttribute::IfName("vde7".to_owned()),
        LinkAttribute::Mtu(1400),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Other("vde".to_owned()))]),
    ];
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    assert_eq!(client.order(Message::NewLink(wanted.clone()), flags), 0);
    assert_eq!(client.order(Message::NewLink(wanted), flags), -libc::EEXIST);
    let mut up = LinkMessage::default();
    up.header.index = 3;
    up.header.flags = LinkFlags::Up;
    up.header.change_mask = LinkFlags::Up;
    assert_eq!(client.order(Message::NewLink(up), 0), 0);
    let link = lab.interfaces().pop().expect("the third");
    assert_eq!((link.name.as_str(), link.mtu, link.is_up()), ("vde7", 1400, true));
    let mut gone = LinkMessage::default();
    gone.header.index = 3;
    assert_eq!(client.order(Message::DelLink(gone), 0), 0);
    assert_eq!(lab.interfaces().len(), 2);
    let mut lo = LinkMessage::default();
    lo.header.index = 1;
    assert_eq!(client.order(Message::DelLink(lo), 0), -libc::EOPNOTSUPP);
}

#[test]
fn addresses_and_their_routes_are_dumped() {
    let lab = Lab::ready();
    let mut client = Client::new(&lab);
    assert_eq!(client.order(Message::NewAddress(address("fc00::1", 64)), NLM_F_CREATE), 0);
    let answers = client.ask(Message::GetAddress(AddressMessage::default()), NLM_F_DUMP);
    assert_eq!(answers.len(), 5);
    let mut wanted = RouteMessage::default();
    wanted.header.address_family = AddressFamily::Inet;
    let answers = client.ask(Message::GetRoute(wanted), NLM_F_DUMP);
    let connected = answers.iter().any(|answer| match answer {
        Message::NewRoute(route) => {
            route.header.destination_prefix_length == 24
                && route.header.kind == RouteType::Unicast
                && route.attributes.contains(&RouteAttribute::Oif(2))
        }
        _ => false,
    });
    assert!(connected, "{answers:?}");
    assert_eq!(client.order(Message::DelAddress(address("10.0.0.1", 24)), 0), 0);
    assert_eq!(client.order(Message::DelAddress(address("10.0.0.1", 24)), 0), -libc::EADDRNOTAVAIL);
}

#[test]
fn strict_sockets_filter_their_dumps() {
    let lab = Lab::ready();
    let mut client = Client::new(&lab);
    client.set(libc::NETLINK_GET_STRICT_CHK);
    let mut wanted = AddressMessage::default();
    wanted.header.index = 1;
    wanted.header.family = AddressFamily::Inet;
    assert_eq!(client.ask(Message::GetAddress(wanted), NLM_F_DUMP).len(), 1);
    let mut wanted = RouteMessage::default();
    wanted.header.address_family = AddressFamily::Inet;
    wanted.attributes.push(RouteAttribute::Table(254));
    assert_eq!(client.ask(Message::GetRoute(wanted), NLM_F_DUMP).len(), 1);
}

#[test]
fn errors_carry_a_sentence_when_asked_for() {
    let lab = Lab::ready();
    let mut client = Client::new(&lab);
    client.set(libc::NETLINK_EXT_ACK);
    client.send(Message::NewAddress(address("10.0.0.1", 24)), NLM_F_CREATE | NLM_F_EXCL);
    let data = client.socket.receive().expect("an error").data;
    let sentence = b"ipv4: Address already assigned\0";
    assert!(data.windows(sentence.len()).any(|window| window == sentence));
    assert_eq!(&data[16..20], &(-libc::EEXIST).to_ne_bytes());
}

#[test]
fn listeners_hear_of_changes() {
    let lab = Lab::fresh();
    let listener = Client::new(&lab);
    listener.socket.bind(&SockAddr::Netlink { pid: 0, groups: 1 }).expect("a free port");
    listener.join(libc::RTNLGRP_IPV4_IFADDR);
    let mut client = Client::new(&lab);
    assert_eq!(client.order(Message::NewAddress(address("10.0.0.1", 24)), NLM_F_CREATE), 0);
    let mut up = LinkMessage::default();
    up.header.index = 2;
    up.header.flags = LinkFlags::Up;
    up.header.change_mask = LinkFlags::Up;
    assert_eq!(client.order(Message::SetLink(up), 0), 0);
    let first = listener.socket.receive().expect("the address");
    assert_eq!(first.meta.source, SockAddr::Netlink { pid: 0, groups: 1 << 4 });
    let heard = listener.receive();
    assert!(matches!(heard[0].payload, NetlinkPayload::InnerMessage(Message::NewLink(_))));
    assert_eq!(heard.len(), 1);
    assert!(*listener.wakes.0.lock() >= 2);
}

#[test]
fn a_listener_that_sleeps_learns_that_it_lost_something() {
    let lab = Lab::fresh();
    let listener = Client::new(&lab);
    listener.join(libc::RTNLGRP_IPV4_IFADDR);
    let size = 4096i32.to_ne_bytes();
    listener.socket.set_option(libc::SOL_SOCKET, libc::SO_RCVBUF, &size).expect("a size");
    let mut client = Client::new(&lab);
    for last in 1..100 {
        let message = Message::NewAddress(address(&format!("10.0.{last}.1"), 24));
        assert_eq!(client.order(message, NLM_F_CREATE), 0);
    }
    assert_eq!(listener.socket.take_error(), Some(Errno::ENOBUFS));
    assert_eq!(listener.socket.take_error(), None);
    assert!(listener.receive().len() < 50);
}

#[test]
fn neighbours_come_and_go() {
    let lab = Lab::ready();
    let mut client = Client::new(&lab);
    let mut wanted = NeighbourMessage::default();
    wanted.header.family = AddressFamily::Inet;
    wanted.header.ifindex = 2;
    wanted.header.state = NeighbourState::Permanent;
    wanted.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet([10, 0, 0, 9].into())),
        NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 1]),
    ];
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    assert_eq!(client.order(Message::NewNeighbour(wanted.clone()), flags), 0);
    assert_eq!(client.order(Message::NewNeighbour(wanted.clone()), flags), -libc::EEXIST);
    let dump = client.ask(Message::GetNeighbour(NeighbourMessage::default()), NLM_F_DUMP);
    assert_eq!(dump.len(), 1);
    assert_eq!(client.order(Message::DelNeighbour(wanted.clone()), 0), 0);
    assert_eq!(client.order(Message::DelNeighbour(wanted), 0), -libc::ENOENT);
}

#[test]
fn rules_are_listed_added_and_deleted() {
    let lab = Lab::fresh();
    let mut client = Client::new(&lab);
    assert_eq!(client.ask(Message::GetRule(RuleMessage::default()), NLM_F_DUMP).len(), 5);
    let mut rule = RuleMessage::default();
    rule.header.family = AddressFamily::Inet;
    rule.header.table = 99;
    rule.header.action = RuleAction::ToTable;
    rule.attributes.push(RuleAttribute::Priority(12_345));
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    assert_eq!(client.order(Message::NewRule(rule.clone()), flags), 0);
    assert_eq!(client.order(Message::NewRule(rule.clone()), flags), -libc::EEXIST);
    assert_eq!(client.ask(Message::GetRule(RuleMessage::default()), NLM_F_DUMP).len(), 6);
    assert_eq!(client.order(Message::DelRule(rule.clone()), 0), 0);
    assert_eq!(client.order(Message::DelRule(rule.clone()), 0), -libc::ENOENT);
    rule.header.tos = 8;
    assert_eq!(client.order(Message::NewRule(rule), flags), -libc::EOPNOTSUPP);
}

#[test]
fn a_second_dump_has_to_wait_for_the_first() {
    let lab = Lab::fresh();
    let mut client = Client::new(&lab);
    client.send(Message::GetLink(LinkMessage::default()), NLM_F_DUMP);
    client.send(Message::GetLink(LinkMessage::default()), NLM_F_DUMP);
    let answers = client.receive();
    let busy = |message: &NetlinkMessage<Message>| match &message.payload {
        NetlinkPayload::Error(error) => error.raw_code() == -libc::EBUSY,
        _ => false,
    };
    assert!(answers.iter().any(busy));
    assert_eq!(client.ask(Message::GetLink(LinkMessage::default()), NLM_F_DUMP).len(), 2);
}

#[test]
fn trailing_bytes_of_iproute2_are_no_message() {
    // `ip link`: the header, struct ifinfomsg, IFLA_EXT_MASK, and the rest of its buffer.
    let mut data = vec![40, 0, 0, 0, 18, 0, 1, 3, 1, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0];
    data.extend_from_slice(&[0; 12]);
    data.extend_from_slice(&[8, 0, 29, 0, 1, 0, 0, 0]);
    data.extend_from_slice(&[0; 128]);
    let lab = Lab::fresh();
    let client = Client::new(&lab);
    client.raw(&data);
    assert_eq!(client.receive().len(), 3);
}

#[test]
fn an_interface_that_opens_slowly_holds_up_its_socket_only() {
    let lab = Lab::ready();
    let (mut slow, mut other) = (Client::new(&lab), Client::new(&lab));
    let gate = lab.gate.lock();
    let kind = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Other("slow".to_owned()))]);
    let mut link = LinkMessage::default();
    link.attributes.push(kind);
    slow.send(Message::NewLink(link), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
    slow.send(Message::GetLink(LinkMessage::default()), NLM_F_DUMP);
    assert_eq!(slow.receive().len(), 0);
    assert_eq!(other.ask(Message::GetLink(LinkMessage::default()), NLM_F_DUMP).len(), 2);
    drop(gate);
    let mut answers = Vec::new();
    while answers.len() < 5 {
        std::thread::yield_now();
        answers.extend(slow.receive());
    }
    // Then the three interfaces, and the end.
    assert!(matches!(answers[0].payload, NetlinkPayload::Error(ref error) if error.code.is_none()));
    assert_eq!(answers.len(), 5);
}

#[test]
fn port_ids_are_unique_and_told() {
    let lab = Lab::fresh();
    let (first, second) = (Client::new(&lab), Client::new(&lab));
    assert_eq!(first.socket.local(), Ok(SockAddr::Netlink { pid: 0, groups: 0 }));
    let wanted = SockAddr::Netlink { pid: 77, groups: 0 };
    first.socket.bind(&wanted).expect("a free port");
    assert_eq!(second.socket.bind(&wanted), Err(Errno::EADDRINUSE));
    second.socket.bind(&SockAddr::Netlink { pid: 0, groups: 0 }).expect("any port");
    assert_ne!(second.socket.local(), first.socket.local());
    assert_eq!(first.socket.bind(&SockAddr::Netlink { pid: 78, groups: 0 }), Err(Errno::EINVAL));
    first.socket.close();
    let third = Client::new(&lab);
    third.socket.bind(&wanted).expect("free again");
    assert_eq!(lab.hub.listing().len(), 3);
}

#[test]
fn unknown_protocols_and_options_are_refused() {
    let lab = Lab::fresh();
    let events: Arc<dyn SocketEvents> = Arc::new(Count::default());
    let opened = open(libc::NETLINK_XFRM, lab.host(), &lab.hub, events);
    assert_eq!(opened.err(), Some(Errno::EPROTONOSUPPORT));
    let client = Client::new(&lab);
    let refused = client.socket.set_option(libc::SOL_NETLINK, 99, &[1, 0, 0, 0]);
    assert_eq!(refused, Err(Errno::ENOPROTOOPT));
    let short = client.socket.set_option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, &[1]);
    assert_eq!(short, Err(Errno::EINVAL));
    assert!(client.socket.always_paired());
    let elsewhere = SockAddr::Netlink { pid: 5, groups: 0 };
    let sent = client.socket.send(&[], Some(&elsewhere), &SendControl::default());
    assert_eq!(sent, Err(Errno::ECONNREFUSED));
}

/// `struct inet_diag_req_v2` of `ss -tn`: header, family, protocol, extensions, states.
fn diag_request(family: u8, protocol: u8) -> Vec<u8> {
    let mut data = vec![72, 0, 0, 0, 20, 0, 1, 3, 1, 0, 0, 0, 0, 0, 0, 0];
    data.extend_from_slice(&[family, protocol, 2 | 8, 0, 0xff, 0xff, 0xff, 0xff]);
    data.extend_from_slice(&[0; 48]);
    data
}

#[test]
fn sock_diag_tells_the_sockets() {
    let lab = Lab::ready();
    lab.rows.lock().extend([
        (SocketTable::Tcp, row("10.0.0.1:22", "10.0.0.2:4000", TcpState::Established)),
        (SocketTable::Tcp, row("0.0.0.0:22", "0.0.0.0:0", TcpState::Listen)),
        (SocketTable::Udp, row("[::]:53", "[::]:0", TcpState::Close)),
    ]);
    let client = Client::of(&lab, libc::NETLINK_SOCK_DIAG);
    let count = |family, protocol| {
        client.raw(&diag_request(family, protocol));
        let datagrams = std::iter::from_fn(|| client.socket.receive());
        datagrams.map(|datagram| super::message::split(&datagram.data).count()).sum::<usize>() - 1
    };
    assert_eq!(count(2, 6), 2);
    assert_eq!(count(10, 6), 0);
    assert_eq!(count(10, 17), 1);
    assert_eq!(count(1, 0), 0);
}

#[test]
fn sock_diag_is_understood() {
    use netlink_packet_sock_diag::{SockDiagMessage, inet::InetResponse};
    let lab = Lab::ready();
    let mut held = row("10.0.0.1:22", "10.0.0.2:4000", TcpState::Established);
    held.tcp = Some(Box::new(TcpDetails { rtt: 1234, control: "bbr", ..TcpDetails::default() }));
    lab.rows.lock().push((SocketTable::Tcp, held));
    let client = Client::of(&lab, libc::NETLINK_SOCK_DIAG);
    client.raw(&diag_request(2, 6));
    let data = client.socket.receive().expect("a dump").data;
    let message = NetlinkMessage::<SockDiagMessage>::deserialize(&data).expect("a sound message");
    let NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(told)) = message.payload else {
        panic!("a socket");
    };
    let InetResponse { header, nlas } = *told;
    assert_eq!(header.socket_id.source_port, 22);
    assert_eq!(header.socket_id.destination_address, IpAddr::from([10, 0, 0, 2]));
    let info = nlas.iter().find_map(|nla| match nla {
        netlink_packet_sock_diag::inet::nlas::Nla::TcpInfo(info) => Some(info[68..72].to_vec()),
        _ => None,
    });
    let control = nlas.iter().find_map(|nla| match nla {
        netlink_packet_sock_diag::inet::nlas::Nla::Congestion(name) => Some(name.as_str()),
        _ => None,
    });
    assert_eq!(control, Some("bbr"));
    // tcpi_rtt
    assert_eq!(info, Some(1234u32.to_ne_bytes().to_vec()));
}
