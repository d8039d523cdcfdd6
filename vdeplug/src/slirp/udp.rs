//! UDP: a connected socket for each pair of ends, so that the kernel lets in only what is an answer,
//! and tells what went wrong. The sockets of one port of a guest share a port of this host.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
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
    dhcp,
    errors::{self, Report},
    flow::Key,
    lan::Mac,
    nat::{Arrival, Nat, Work},
    pace::Pace,
    place::{Place, loopback},
    stream, tftp,
};
use crate::ip::{
    hash::Map,
    icmp::Trouble,
    packet::{Build, HEADROOM, IpHeader, UDP},
};

/// Flows of a network; beyond, the one that was silent for longest ends.
const MOST: usize = 4096;
/// How long a flow lives without a word: one that was answered, and one that was not (RFC 4787).
const ANSWERED: Duration = Duration::from_secs(180);
const UNANSWERED: Duration = Duration::from_secs(60);
/// A question to a name server.
const QUESTION: Duration = Duration::from_secs(20);
/// Datagrams that a flow may receive in one turn.
const TURN: usize = 16;
const LONGEST: usize = 65_536;
const DNS: u16 = 53;

/// All flows.
#[derive(Debug, Default)]
pub(super) struct Udp {
    flows: Map<u64, Flow>,
    demux: Map<Key, u64>,
    /// The port of this host that a guest's port has, and how many flows have it.
    ports: Map<SocketAddr, (u16, usize)>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Flow {
    key: Key,
    /// Who it really is.
    peer: SocketAddr,
    socket: Socket,
    pace: Pace,
    heard: Instant,
    life: Duration,
    queued: bool,
    shares: bool,
}

impl Udp {
    pub(super) fn has_flows(&self) -> bool {
        !self.flows.is_empty()
    }

    /// Ends the flows that were silent for too long.
    pub(super) fn expire(&mut self, now: Instant) {
        let over: Vec<_> =
            self.flows.iter().filter(|(_, f)| now - f.heard > f.life).map(|(id, _)| *id).collect();
        over.into_iter().for_each(|id| self.remove(id));
    }

    fn remove(&mut self, id: u64) {
        let Some(flow) = self.flows.remove(&id) else { return };
        self.demux.remove(&flow.key);
        if flow.shares
            && let Some((_, count)) = self.ports.get_mut(&flow.key.guest)
        {
            *count -= 1;
            if *count == 0 {
                self.ports.remove(&flow.key.guest);
            }
        }
    }

    fn make_room(&mut self) {
        if self.flows.len() >= MOST {
            let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.heard).map(|(id, _)| *id);
            oldest.into_iter().for_each(|id| self.remove(id));
        }
    }
}

impl Nat {
    /// Takes a datagram of a guest.
    pub(super) fn udp_input(&mut self, from: Mac, arrival: &Arrival<'_>, place: Place) {
        let payload = arrival.payload();
        let Some(head) = payload.first_chunk::<8>() else { return };
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let Some(data) = payload.get(8..usize::from(word(4))) else { return };
        let header = arrival.header;
        let key = Key {
            guest: SocketAddr::new(header.source, word(0)),
            far: SocketAddr::new(header.destination, word(2)),
        };
        if word(2) == dhcp::SERVER && header.source.is_ipv4() && word(0) == dhcp::CLIENT {
            return self.dhcp_input(from, data);
        }
        if place == Place::Host && key.far.port() == tftp::PORT && self.tftp.is_some() {
            return self.tftp_input(&key, data);
        }
        if place == Place::Group || self.forward_answer(&key, data) {
            return;
        }
        let id = match self.udp.demux.get(&key).copied() {
            Some(id) => id,
            None => match self.udp_open(key, place) {
                Ok(id) => id,
                Err(error) => {
                    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
                    return self.complain(errors::of_errno(errno, 0), arrival);
                }
            },
        };
        self.udp_send(id, data, arrival);
    }

    fn udp_send(&mut self, id: u64, data: &[u8], arrival: &Arrival<'_>) {
        let now = self.now;
        let Some(flow) = self.udp.flows.get_mut(&id) else { return };
        flow.heard = now;
        flow.pace.follow(&flow.socket, arrival, self.config.mtu);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        // The first error may be what an earlier datagram earned; it is told by the error queue.
        let mut sent = send(flow.socket.as_raw_fd(), data, flags);
        if sent.is_err_and(crate::batch::is_from_afar) {
            sent = send(flow.socket.as_raw_fd(), data, flags);
        }
        let mtu = || flow.pace.path_mtu(&flow.socket);
        let trouble = match sent {
            Ok(_) | Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::EINTR | Errno::ECONNREFUSED) => {
                return;
            }
            Err(Errno::EMSGSIZE) => Trouble::TooBig(mtu()),
            Err(error) => errors::of_errno(error, 0),
        };
        self.complain(trouble, arrival);
    }

    /// Who a guest means, and how long a flow to it lives.
    fn udp_peer(&mut self, far: SocketAddr, place: Place) -> io::Result<(SocketAddr, Duration)> {
        match place {
            Place::Outside => Ok((far, UNANSWERED)),
            Place::Host if self.config.host_loopback => {
                Ok((SocketAddr::new(loopback(far.ip()), far.port()), UNANSWERED))
            }
            Place::Resolver if far.port() == DNS => {
                let server = self.resolver.server().ok_or(Errno::ECONNREFUSED)?;
                Ok((server, QUESTION))
            }
            Place::Inside => Err(Errno::EHOSTUNREACH.into()),
            Place::Forbidden => Err(Errno::ENETUNREACH.into()),
            Place::Host | Place::Resolver | Place::Service | Place::Group => {
                Err(Errno::ECONNREFUSED.into())
            }
        }
    }

    fn udp_open(&mut self, key: Key, place: Place) -> io::Result<u64> {
        let (peer, life) = self.udp_peer(key.far, place)?;
        self.udp.make_room();
        let socket = stream::new(Domain::for_address(peer), Type::DGRAM, Some(Protocol::UDP))?;
        // Answers to a loopback address or a question must not come to a port that others know.
        let shares = place == Place::Outside && self.udp_share(&socket, key.guest)?;
        let done = socket.connect(&peer.into());
        if let Err(error) = done {
            if shares {
                self.udp_unshare(key.guest);
            }
            return Err(error);
        }
        let v4 = peer.is_ipv4();
        errors::keep(&socket, v4);
        let id = self.new_id();
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        self.epoll.add(&socket, EpollEvent::new(interest, Work::Udp(id).token()))?;
        let (pace, heard) = (Pace::new(v4), self.now);
        let flow = Flow { key, peer, socket, pace, heard, life, queued: false, shares };
        self.udp.flows.insert(id, flow);
        self.udp.demux.insert(key, id);
        Ok(id)
    }

    /// Binds a socket to the port of this host that a guest's port has; false if it has none.
    fn udp_share(&mut self, socket: &Socket, guest: SocketAddr) -> io::Result<bool> {
        socket.set_reuse_address(true)?;
        let any: IpAddr = if guest.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        if guest.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        let known = self.udp.ports.get(&guest).map_or(0, |(port, _)| *port);
        if socket.bind(&SocketAddr::new(any, known).into()).is_err() {
            return Ok(false);
        }
        let port = socket.local_addr()?.as_socket().map_or(0, |address| address.port());
        self.udp.ports.entry(guest).or_insert((port, 0)).1 += 1;
        Ok(true)
    }

    fn udp_unshare(&mut self, guest: SocketAddr) {
        if let Some((_, count)) = self.udp.ports.get_mut(&guest) {
            *count -= 1;
            if *count == 0 {
                self.udp.ports.remove(&guest);
            }
        }
    }

    /// Hears from the kernel about a flow.
    pub(super) fn udp_event(&mut self, id: u64) {
        if let Some(flow) = self.udp.flows.get_mut(&id)
            && !std::mem::replace(&mut flow.queued, true)
        {
            self.enqueue(Work::Udp(id));
        }
    }

    /// Passes on what has come for a flow.
    pub(super) fn udp_turn(&mut self, id: u64) {
        let mut buffer = std::mem::take(&mut self.udp.buffer);
        buffer.resize(LONGEST, 0);
        let more = self.udp_receive(id, &mut buffer);
        self.udp.buffer = buffer;
        if let Some(flow) = self.udp.flows.get_mut(&id) {
            flow.queued = more;
            if more {
                self.enqueue(Work::Udp(id));
            }
        }
    }

    fn udp_receive(&mut self, id: u64, buffer: &mut [u8]) -> bool {
        for _ in 0..TURN {
            let Some(flow) = self.udp.flows.get_mut(&id) else { return false };
            let Key { guest, far } = flow.key;
            match recv(flow.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    flow.heard = self.now;
                    if flow.life == UNANSWERED {
                        flow.life = ANSWERED;
                    }
                    let (from, to) = ((far.ip(), far.port()), (guest.ip(), guest.port()));
                    self.send_udp(from, to, &buffer[..length]);
                }
                Err(Errno::EAGAIN) => return false,
                Err(_) => {
                    while let Some(report) =
                        self.udp.flows.get(&id).and_then(|flow| errors::take(&flow.socket))
                    {
                        self.udp_report(id, &report);
                    }
                }
            }
        }
        true
    }

    /// Tells a guest what became of a datagram.
    fn udp_report(&mut self, id: u64, report: &Report) {
        let Some(flow) = self.udp.flows.get(&id) else { return };
        let (Key { guest, far }, peer) = (flow.key, flow.peer);
        if self.config.place(far.ip()) == Place::Resolver {
            self.resolver.failed(peer);
        }
        let source = self.reporter(report, peer.ip(), far.ip());
        let (from, to) = (guest.port().to_be_bytes(), far.port().to_be_bytes());
        let length = u16::try_from(8 + report.data.len()).unwrap_or(u16::MAX);
        let head = [from, to, length.to_be_bytes(), [0, 0]].concat();
        let ends = (guest.ip(), far.ip(), UDP);
        self.complain_about(source, report.trouble, ends, &[&head, &report.data[..]].concat());
    }

    /// In whose name an error is told: one who is at the far end there is it here too.
    pub(super) fn reporter(&self, report: &Report, peer: IpAddr, far: IpAddr) -> IpAddr {
        match report.from {
            Some(from) if from == peer => far,
            Some(from) if self.config.place(from) == Place::Outside => from,
            _ => self.config.router(far).unwrap_or(far),
        }
    }

    /// Tells a guest that something is wrong with a packet, of which only the payload is known.
    pub(super) fn complain_about(
        &mut self,
        reporter: IpAddr,
        trouble: Trouble,
        (source, destination, protocol): (IpAddr, IpAddr, u8),
        payload: &[u8],
    ) {
        let build = Build { source, destination, protocol, ttl: 1, tos: 0, id: 0 };
        let (mut bytes, at) = build.packet(payload.len());
        bytes[at..].copy_from_slice(payload);
        let ip = &bytes[HEADROOM..];
        if let Some(header) = IpHeader::parse(ip) {
            self.complain_as(reporter, trouble, &Arrival { header: &header, ip });
        }
    }
}
