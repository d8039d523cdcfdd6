//! sock_diag(7): what `ss` asks. Internet sockets are told; of the other families a stack has none.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use netlink_packet_core::{DefaultNla, Emitable};
use umvu_abi::Errno;

use super::{
    Answer, Body, Service,
    attributes::{Attributes, field},
    message::Request,
};
use crate::{
    host::{Failure, HostNet},
    values::{SocketRow, SocketTable, TcpState},
};

/// `SOCK_DIAG_BY_FAMILY`, `SOCK_DESTROY`.
const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
/// `TCPDIAG_GETSOCK` and `DCCPDIAG_GETSOCK`, as they were before there were families.
const TCP_COMPAT: u16 = 18;
const DCCP_COMPAT: u16 = 19;
/// The size of the `struct inet_diag_req` of those.
const COMPAT_REQUEST: usize = 60;
/// The size of `struct inet_diag_req_v2`.
const INET_REQUEST: usize = 56;

/// `INET_DIAG_*`: types of attributes, and bits of `idiag_ext` less one.
mod kind {
    pub(super) const MEMINFO: u16 = 1;
    pub(super) const INFO: u16 = 2;
    pub(super) const CONG: u16 = 4;
    pub(super) const TOS: u16 = 5;
    pub(super) const SKMEMINFO: u16 = 7;
    pub(super) const SHUTDOWN: u16 = 8;
    pub(super) const PROTOCOL_REQUEST: u16 = 3;
    pub(super) const PROTOCOL: u16 = 10;
    pub(super) const SKV6ONLY: u16 = 11;
}

/// The protocol `NETLINK_SOCK_DIAG`.
pub(super) struct Diag;

impl Service for Diag {
    fn handle(&self, host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
        let family = request.payload.first().copied().map_or(0, i32::from);
        match (request.header.kind, family) {
            (TCP_COMPAT, _) => tcp_compat(host, request),
            (DCCP_COMPAT, _) => Err(Errno::ENOENT.into()),
            (BY_FAMILY | DESTROY, libc::AF_INET | libc::AF_INET6) => inet(host, request),
            (BY_FAMILY, _) if request.is_dump() => Ok(Answer::nothing()),
            (BY_FAMILY, _) => Err(Errno::ENOENT.into()),
            _ => Err(Errno::EINVAL.into()),
        }
    }
}

/// Corresponds to `struct inet_diag_req_v2`.
#[derive(Default)]
struct InetRequest {
    /// None in an old request: both families.
    ipv6: Option<bool>,
    table: SocketTable,
    extensions: u8,
    states: u32,
    source_port: u16,
    destination_port: u16,
    source: [u8; 16],
    destination: [u8; 16],
    interface: u32,
    cookie: u64,
}

fn decode(request: &Request<'_>) -> Result<InetRequest, Errno> {
    let payload = request.payload;
    if payload.len() < INET_REQUEST {
        return Err(Errno::EINVAL);
    }
    let [family, protocol, extensions, _] = field::<4>(payload, 0);
    let attributes = Attributes::after(payload, INET_REQUEST);
    let protocol = attributes.u32(kind::PROTOCOL_REQUEST)?.unwrap_or(u32::from(protocol));
    let table = match i32::try_from(protocol).unwrap_or(-1) {
        libc::IPPROTO_TCP => SocketTable::Tcp,
        libc::IPPROTO_UDP => SocketTable::Udp,
        libc::IPPROTO_RAW => SocketTable::Raw,
        libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6 => SocketTable::Icmp,
        _ => return Err(Errno::ENOENT),
    };
    Ok(InetRequest {
        ipv6: Some(i32::from(family) == libc::AF_INET6),
        table,
        extensions,
        states: u32::from_ne_bytes(field(payload, 4)),
        source_port: u16::from_be_bytes(field(payload, 8)),
        destination_port: u16::from_be_bytes(field(payload, 10)),
        source: field(payload, 12),
        destination: field(payload, 28),
        interface: u32::from_ne_bytes(field(payload, 44)),
        cookie: u64::from_ne_bytes(field(payload, 48)),
    })
}

/// Lists TCP sockets of both families, as `ss` asks when it is given none.
fn tcp_compat(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    if request.payload.len() < COMPAT_REQUEST || !request.is_dump() {
        return Err(Errno::EINVAL.into());
    }
    let extensions = request.payload[3];
    let states = u32::from_ne_bytes(field(request.payload, 52));
    Ok(dump(host, InetRequest { extensions, states, ..InetRequest::default() }))
}

fn dump(host: &dyn HostNet, wanted: InetRequest) -> Answer {
    let mut rows = host.sockets(wanted.table);
    rows.retain(|row| {
        wanted.ipv6.is_none_or(|ipv6| row.ipv6 == ipv6)
            && wanted.states & (1 << row.state.number()) != 0
            && [0, row.local.port()].contains(&wanted.source_port)
            && [0, row.remote.port()].contains(&wanted.destination_port)
    });
    // Socket filters (INET_DIAG_REQ_BYTECODE) only spare work: `ss` filters again.
    Answer::dump(rows.into_iter().map(move |row| encode(&row, &wanted)))
}

fn inet(host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
    let wanted = decode(request)?;
    if request.is_dump() {
        return Ok(dump(host, wanted));
    }
    let of_family = |row: &SocketRow| wanted.ipv6 == Some(row.ipv6);
    let row = host
        .sockets(wanted.table)
        .into_iter()
        .filter(of_family)
        .find(|row| is_named(row, &wanted))
        .ok_or(Errno::ENOENT)?;
    if request.header.kind == DESTROY {
        host.kill_socket(wanted.table, row.cookie)?;
        return Ok(Answer::Done);
    }
    Ok(Answer::Messages(vec![encode(&row, &wanted)]))
}

fn is_named(row: &SocketRow, wanted: &InetRequest) -> bool {
    (wanted.cookie == u64::MAX || wanted.cookie == row.cookie)
        && row.local.port() == wanted.source_port
        && row.remote.port() == wanted.destination_port
        && address(row.local.ip(), row.ipv6) == wanted.source
        && address(row.remote.ip(), row.ipv6) == wanted.destination
        && [0, row.interface.map_or(0, |index| index.0)].contains(&wanted.interface)
}

/// An address as `struct inet_diag_sockid` has it: IPv4 in the first 4 of 16 bytes, mapped for an
/// AF_INET6 socket.
fn address(ip: IpAddr, ipv6: bool) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) if ipv6 && ip.is_unspecified() => Ipv6Addr::UNSPECIFIED.octets(),
        IpAddr::V4(ip) if ipv6 => ip.to_ipv6_mapped().octets(),
        IpAddr::V4(ip) => field(&ip.octets(), 0),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// Corresponds to `struct inet_diag_msg` with its attributes.
fn encode(row: &SocketRow, wanted: &InetRequest) -> Body {
    let family = if row.ipv6 { libc::AF_INET6 } else { libc::AF_INET };
    let mut payload = vec![
        u8::try_from(family).unwrap_or_default(),
        row.state.number(),
        row.timer.kind,
        row.timer.retransmits,
    ];
    for end in [&row.local, &row.remote] {
        payload.extend_from_slice(&SocketAddr::port(end).to_be_bytes());
    }
    payload.extend_from_slice(&address(row.local.ip(), row.ipv6));
    payload.extend_from_slice(&address(row.remote.ip(), row.ipv6));
    payload.extend_from_slice(&row.interface.map_or(0, |index| index.0).to_ne_bytes());
    payload.extend_from_slice(&row.cookie.to_ne_bytes());
    let inode = u32::try_from(row.inode).unwrap_or_default();
    for number in [row.timer.expires, row.receive_queue, row.send_queue, row.uid, inode] {
        payload.extend_from_slice(&number.to_ne_bytes());
    }
    let list = extensions(row, wanted);
    let list = list.as_slice();
    let fixed = payload.len();
    payload.resize(fixed + list.buffer_len(), 0);
    list.emit(&mut payload[fixed..]);
    Body { kind: BY_FAMILY, payload }
}

fn extensions(row: &SocketRow, wanted: &InetRequest) -> Vec<DefaultNla> {
    let asked = |kind: u16| wanted.extensions & (1 << (kind - 1)) != 0;
    let mut list = vec![DefaultNla::new(kind::SHUTDOWN, vec![0])];
    if asked(kind::TOS) {
        list.push(DefaultNla::new(kind::TOS, vec![0]));
    }
    if row.ipv6 && matches!(row.state, TcpState::Listen | TcpState::Close) {
        list.push(DefaultNla::new(kind::SKV6ONLY, vec![u8::from(row.v6only)]));
    }
    if wanted.table == SocketTable::Raw {
        let protocol = u8::try_from(row.local.port()).unwrap_or_default();
        list.push(DefaultNla::new(kind::PROTOCOL, vec![protocol]));
    }
    if asked(kind::MEMINFO) {
        let memory = [row.receive_queue, 0, 0, row.send_queue];
        let bytes = memory.iter().flat_map(|number| number.to_ne_bytes()).collect();
        list.push(DefaultNla::new(kind::MEMINFO, bytes));
    }
    if asked(kind::SKMEMINFO) {
        let drops = u32::try_from(row.drops).unwrap_or(u32::MAX);
        let memory =
            [row.receive_queue, 212_992, row.send_queue, 212_992, 0, row.send_queue, 0, 0, drops];
        let bytes = memory.iter().flat_map(|number| number.to_ne_bytes()).collect();
        list.push(DefaultNla::new(kind::SKMEMINFO, bytes));
    }
    if wanted.table == SocketTable::Tcp {
        if asked(kind::CONG) {
            let name = row.tcp.as_ref().map(|tcp| tcp.control).filter(|name| !name.is_empty());
            let name = [name.unwrap_or("cubic").as_bytes(), b"\0"].concat();
            list.push(DefaultNla::new(kind::CONG, name));
        }
        if let Some(tcp) = row.tcp.as_ref().filter(|_| asked(kind::INFO)) {
            list.push(DefaultNla::new(kind::INFO, tcp.encode()));
        }
    }
    list
}
