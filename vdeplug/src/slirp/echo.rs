//! ICMP: echo requests that go out by ping sockets (icmp(7)), which the host may forbid
//! (`net.ipv4.ping_group_range`), and errors that guests report.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{EpollEvent, EpollFlags},
        socket::{MsgFlags, recv, send},
    },
};
use smoltcp::time::{Duration, Instant};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    errors::{self, Report},
    flow::Key,
    nat::{Arrival, Nat, Work},
    pace::Pace,
    place::Place,
    stream,
};
use crate::ip::{
    hash::Map,
    icmp::quoted_header,
    packet::{Build, ICMP, ICMPV6, TCP},
};

/// Pings under way; beyond, the oldest is forgotten.
const MOST: usize = 256;
const LIFE: Duration = Duration::from_secs(30);
const TURN: usize = 16;
const LONGEST: usize = 65_536;

type Ping = (IpAddr, u16, IpAddr);

/// All pings.
#[derive(Debug, Default)]
pub(super) struct Echo {
    flows: Map<u64, Flow>,
    demux: Map<Ping, u64>,
    warned: bool,
}

#[derive(Debug)]
struct Flow {
    ping: Ping,
    peer: IpAddr,
    socket: Socket,
    pace: Pace,
    heard: Instant,
    queued: bool,
}

impl Echo {
    pub(super) fn has_flows(&self) -> bool {
        !self.flows.is_empty()
    }

    /// Ends the pings that are over.
    pub(super) fn expire(&mut self, now: Instant) {
        self.flows.retain(|_, flow| now - flow.heard <= LIFE);
        let Self { flows, demux, .. } = self;
        demux.retain(|_, id| flows.contains_key(id));
    }

    fn make_room(&mut self) {
        if self.flows.len() >= MOST
            && let Some(oldest) = self.flows.iter().min_by_key(|(_, f)| f.heard).map(|(id, _)| *id)
            && let Some(flow) = self.flows.remove(&oldest)
        {
            self.demux.remove(&flow.ping);
        }
    }
}

impl Nat {
    /// Takes an ICMP message of either family.
    pub(super) fn icmp_input(&mut self, arrival: &Arrival<'_>, place: Place) {
        let body = arrival.payload();
        if body.len() < 8 {
            return;
        }
        match (arrival.header.source.is_ipv4(), body[0]) {
            (true, 8) | (false, 128) => self.echo_input(arrival, place),
            (true, 3) | (false, 2) => self.narrow_input(arrival, body),
            _ => {}
        }
    }

    /// A router inside has found a packet to a guest too long.
    fn narrow_input(&mut self, arrival: &Arrival<'_>, body: &[u8]) {
        let v4 = arrival.header.source.is_ipv4();
        let mtu = u32::from_be_bytes([body[4], body[5], body[6], body[7]]);
        let mtu = if v4 { mtu & 0xffff } else { mtu };
        let Some(header) = quoted_header(&body[8..]).filter(|header| header.protocol == TCP) else {
            return;
        };
        if v4 && body[1] != 4 {
            return;
        }
        let Some(ports) = body[8 + header.payload..].first_chunk::<4>() else { return };
        let key = Key {
            guest: SocketAddr::new(header.destination, u16::from_be_bytes([ports[2], ports[3]])),
            far: SocketAddr::new(header.source, u16::from_be_bytes([ports[0], ports[1]])),
        };
        self.tcp_narrow(&key, usize::try_from(mtu).unwrap_or(1500));
    }

    fn echo_input(&mut self, arrival: &Arrival<'_>, place: Place) {
        let header = arrival.header;
        match place {
            Place::Host | Place::Resolver | Place::Service => {
                let mut answer = arrival.payload().to_vec();
                answer[0] = if header.source.is_ipv4() { 0 } else { 129 };
                return self.echo_answer(header.destination, header.source, &answer);
            }
            Place::Outside => {}
            Place::Group => return,
            Place::Inside | Place::Forbidden => {
                let why =
                    if place == Place::Inside { Errno::EHOSTUNREACH } else { Errno::ENETUNREACH };
                return self.complain(errors::of_errno(why, 0), arrival);
            }
        }
        let body = arrival.payload();
        let ping = (header.source, u16::from_be_bytes([body[4], body[5]]), header.destination);
        let id = match self.echo.demux.get(&ping).copied() {
            Some(id) => id,
            None => match self.echo_open(ping) {
                Ok(id) => id,
                Err(error) => {
                    if !std::mem::replace(&mut self.echo.warned, true) {
                        tracing::warn!(%error, "slirp: guests cannot ping (ping_group_range)");
                    }
                    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
                    return self.complain(errors::of_errno(errno, 0), arrival);
                }
            },
        };
        self.echo_send(id, body, arrival);
    }

    fn echo_send(&mut self, id: u64, body: &[u8], arrival: &Arrival<'_>) {
        let Some(flow) = self.echo.flows.get_mut(&id) else { return };
        flow.heard = self.now;
        flow.pace.follow(&flow.socket, arrival, self.config.mtu);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(flow.socket.as_raw_fd(), body, flags) {
            Err(Errno::EMSGSIZE) => {
                let mtu = flow.pace.path_mtu(&flow.socket);
                self.complain(errors::of_errno(Errno::EMSGSIZE, mtu), arrival);
            }
            Err(error @ (Errno::ENETUNREACH | Errno::EACCES | Errno::EPERM)) => {
                self.complain(errors::of_errno(error, 0), arrival);
            }
            _ => {}
        }
    }

    fn echo_open(&mut self, ping: Ping) -> io::Result<u64> {
        let peer = ping.2;
        self.echo.make_room();
        let to = SocketAddr::new(peer, 0);
        let protocol = if peer.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
        let socket = stream::new(Domain::for_address(to), Type::DGRAM, Some(protocol))?;
        socket.connect(&to.into())?;
        errors::keep(&socket, peer.is_ipv4());
        let id = self.new_id();
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        self.epoll.add(&socket, EpollEvent::new(interest, Work::Echo(id).token()))?;
        let (pace, heard) = (Pace::new(peer.is_ipv4()), self.now);
        let flow = Flow { ping, peer, socket, pace, heard, queued: false };
        self.echo.flows.insert(id, flow);
        self.echo.demux.insert(ping, id);
        Ok(id)
    }

    /// Hears from the kernel about a ping.
    pub(super) fn echo_event(&mut self, id: u64) {
        if let Some(flow) = self.echo.flows.get_mut(&id)
            && !std::mem::replace(&mut flow.queued, true)
        {
            self.enqueue(Work::Echo(id));
        }
    }

    /// Passes answers on.
    pub(super) fn echo_turn(&mut self, id: u64) {
        let mut buffer = vec![0; LONGEST];
        for _ in 0..TURN {
            let Some(flow) = self.echo.flows.get_mut(&id) else { return };
            let (guest, ident, far) = flow.ping;
            match recv(flow.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) if length >= 8 => {
                    // The kernel has given it an identifier of its own.
                    buffer[4..6].copy_from_slice(&ident.to_be_bytes());
                    self.echo_answer(far, guest, &buffer[..length]);
                }
                Ok(_) => {}
                Err(Errno::EAGAIN) => {
                    flow.queued = false;
                    return;
                }
                Err(_) => {
                    while let Some(report) =
                        self.echo.flows.get(&id).and_then(|flow| errors::take(&flow.socket))
                    {
                        self.echo_report(id, &report);
                    }
                }
            }
        }
        self.enqueue(Work::Echo(id));
    }

    fn echo_answer(&mut self, source: IpAddr, destination: IpAddr, body: &[u8]) {
        let protocol = if source.is_ipv4() { ICMP } else { ICMPV6 };
        let build = Build { source, destination, protocol, ttl: 64, tos: 0, id: 0 };
        self.lan.send_message(build, body, self.now);
    }

    fn echo_report(&mut self, id: u64, report: &Report) {
        let Some(flow) = self.echo.flows.get(&id) else { return };
        let ((guest, ident, far), peer) = (flow.ping, flow.peer);
        let mut data = report.data.clone();
        let Some(field) = data.get_mut(4..6) else { return };
        field.copy_from_slice(&ident.to_be_bytes());
        let source = self.reporter(report, peer, far);
        let protocol = if guest.is_ipv4() { ICMP } else { ICMPV6 };
        self.complain_about(source, report.trouble, (guest, far, protocol), &data);
    }
}
