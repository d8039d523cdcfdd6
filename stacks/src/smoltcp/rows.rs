//! The stack's sockets as rows of `/proc/net/tcp`, `ss` and their kin.

use std::net::{IpAddr, SocketAddr};

use netlink_emu::values::{PacketRow, SocketRow, SocketTimer, TcpState};
use smoltcp::socket::tcp::State;
use umvu_abi::{IfIndex, net::Holder, sockaddr::AF_INET6};

use super::{
    dgram::Dgram,
    host::nowhere,
    inner::Inner,
    ports::Host,
    sockopt::{Class, Options},
    tcp::{
        flow::{Flow, Owner},
        sock::{Phase, Sock},
    },
};

fn blank(ipv6: bool, state: TcpState, cookie: u64, holder: Holder) -> SocketRow {
    SocketRow {
        ipv6,
        local: nowhere(ipv6),
        remote: nowhere(ipv6),
        state,
        send_queue: 0,
        receive_queue: 0,
        timer: SocketTimer::default(),
        uid: holder.uid,
        inode: holder.inode,
        interface: None,
        v6only: false,
        drops: 0,
        cookie,
        tcp: None,
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn device(options: &Options) -> Option<IfIndex> {
    Some(options.device()).filter(|index| *index != 0).map(IfIndex)
}

fn bound_name(bound: Option<(Host, u16)>, ipv6: bool) -> SocketAddr {
    let any: IpAddr = nowhere(ipv6).ip();
    bound.map_or(nowhere(ipv6), |(host, port)| SocketAddr::new(host.ip().unwrap_or(any), port))
}

fn tcp_state(state: State) -> TcpState {
    match state {
        State::Established => TcpState::Established,
        State::SynSent => TcpState::SynSent,
        State::SynReceived => TcpState::SynRecv,
        State::FinWait1 => TcpState::FinWait1,
        State::FinWait2 => TcpState::FinWait2,
        State::TimeWait => TcpState::TimeWait,
        State::Closed => TcpState::Close,
        State::CloseWait => TcpState::CloseWait,
        State::LastAck => TcpState::LastAck,
        State::Listen => TcpState::Listen,
        State::Closing => TcpState::Closing,
    }
}

/// TCP: listeners and bound sockets, connections, TIME-WAIT records.
pub(crate) fn tcp(inner: &Inner) -> Vec<SocketRow> {
    let mut rows: Vec<SocketRow> =
        inner.tcp.socks.iter().filter_map(|(id, sock)| sock_row(sock, id.number())).collect();
    let live = inner.tcp.flows.iter().filter(|(_, flow)| !flow.parked);
    rows.extend(live.map(|(id, flow)| flow_row(inner, flow, id.number())));
    for (key, wait) in inner.tcp.waits.iter() {
        let left = (wait.until - inner.now).total_millis();
        let ipv6 = key.local().is_ipv6();
        rows.push(SocketRow {
            local: key.local(),
            remote: key.remote(),
            timer: SocketTimer {
                kind: 3,
                expires: u32::try_from(left).unwrap_or(u32::MAX),
                retransmits: 0,
            },
            ..blank(ipv6, TcpState::TimeWait, 0, Holder::default())
        });
    }
    rows
}

fn sock_row(sock: &Sock, cookie: u64) -> Option<SocketRow> {
    let ipv6 = sock.family == AF_INET6;
    let (state, waiting, backlog) = match &sock.phase {
        Phase::Listening(listener) => {
            (TcpState::Listen, number(listener.ready.len()), number(listener.backlog))
        }
        Phase::Fresh | Phase::Refused(_) if sock.bound.is_some() => (TcpState::Close, 0, 0),
        _ => return None,
    };
    Some(SocketRow {
        local: bound_name(sock.bound, ipv6),
        receive_queue: waiting,
        send_queue: backlog,
        interface: device(&sock.options),
        v6only: sock.options.v6_only(),
        ..blank(ipv6, state, cookie, sock.events.holder())
    })
}

fn flow_row(inner: &Inner, flow: &Flow, cookie: u64) -> SocketRow {
    let (owner, held) = match flow.owner {
        Owner::Socket(id) => (inner.tcp.socks.get(id), true),
        Owner::Listener(id) => (inner.tcp.socks.get(id), false),
        Owner::Nobody => (None, false),
    };
    let ipv6 = owner.map_or(flow.key.local().is_ipv6(), |sock| sock.family == AF_INET6);
    let holder = owner.filter(|_| held).map(|sock| sock.events.holder()).unwrap_or_default();
    let busy = flow.sender.is_busy();
    let expires = flow.scheduled.map_or(0, |at| (at - inner.now).total_millis());
    let mtu = inner.links.get(flow.path.link).map_or(1500, |link| link.mtu);
    SocketRow {
        local: flow.key.local(),
        remote: flow.key.remote(),
        send_queue: number(flow.sender.queued()),
        receive_queue: number(flow.receiver.queued()),
        timer: SocketTimer {
            kind: u8::from(busy),
            expires: if busy { u32::try_from(expires).unwrap_or(u32::MAX) } else { 0 },
            retransmits: u8::try_from(flow.sender.counts.backoff).unwrap_or(u8::MAX),
        },
        tcp: Some(Box::new(super::tcp::info::details(flow, mtu, inner.now))),
        ..blank(ipv6, tcp_state(flow.state()), cookie, holder)
    }
}

/// Datagram sockets of a class.
pub(crate) fn datagrams(inner: &Inner, class: Class) -> Vec<SocketRow> {
    let of_class = inner.dgrams.socks.iter().filter(|(_, sock)| sock.class == class);
    of_class
        .filter(|(_, sock)| sock.bound.is_some() || class == Class::Raw)
        .map(|(id, sock)| dgram_row(sock, id.number()))
        .collect()
}

fn dgram_row(sock: &Dgram, cookie: u64) -> SocketRow {
    let ipv6 = sock.family == AF_INET6;
    let state = if sock.peer.is_some() { TcpState::Established } else { TcpState::Close };
    let mut local = bound_name(sock.bound, ipv6);
    if let Some(source) = sock.source {
        local.set_ip(source);
    }
    if sock.class == Class::Raw {
        local.set_port(u16::try_from(sock.options.protocol()).unwrap_or(0));
    }
    SocketRow {
        local,
        remote: sock.peer.unwrap_or(nowhere(ipv6)),
        receive_queue: number(sock.queued),
        interface: device(&sock.options),
        v6only: sock.options.v6_only(),
        drops: sock.drops,
        ..blank(ipv6, state, cookie, sock.events.holder())
    }
}

/// Packet sockets.
pub(crate) fn packet(inner: &Inner) -> Vec<PacketRow> {
    let taps = inner.dgrams.taps.iter().filter_map(|id| inner.dgrams.socks.get(*id));
    taps.map(|sock| PacketRow {
        kind: sock.options.int(libc::SOL_SOCKET, libc::SO_TYPE),
        protocol: sock.packet.protocol,
        interface: IfIndex(sock.packet.ifindex),
        receive_queue: number(sock.queued),
        uid: sock.events.holder().uid,
        inode: sock.events.holder().inode,
    })
    .collect()
}
