//! [`Nat`], the host that all the virtual network's packets go to: what arrives, what is to be done,
//! and when.

use std::{collections::VecDeque, net::IpAddr, sync::Arc, time::Duration as HostDuration};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use smoltcp::{
    time::{Duration, Instant},
    wire::checksum,
};

use super::{
    dhcp::{self, Leases},
    echo::Echo,
    forward::Forwards,
    lan::{ARP, IPV4, IPV6, Lan, Mac},
    ndp,
    options::Config,
    place::Place,
    resolver::Resolver,
    tcp::Tcp,
    tftp::Tftp,
    udp::Udp,
};
use crate::{
    frame::Frame,
    ip::{
        icmp::{Trouble, may_be_told_of},
        packet::{
            Build, HEADROOM, ICMP, ICMPV6, IpHeader, TCP, UDP, header_checksum_holds, payload_sum,
        },
        reassembly::Reassembly,
    },
};

/// How often what is idle is looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// ICMP errors in a second.
const COMPLAINTS: u32 = 1000;
/// Events taken from the kernel by one call.
const EVENTS: usize = 256;

/// Something that has a turn: a flow or a listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Tcp(u64),
    Udp(u64),
    Echo(u64),
    Forward(u64),
}

/// The token of the timer, which is no [`Work`].
pub(super) const TIMER: u64 = u64::MAX;

impl Work {
    pub(super) fn token(self) -> u64 {
        let (id, kind) = match self {
            Self::Tcp(id) => (id, 0),
            Self::Udp(id) => (id, 1),
            Self::Echo(id) => (id, 2),
            Self::Forward(id) => (id, 3),
        };
        id << 2 | kind
    }

    fn of(token: u64) -> Self {
        let id = token >> 2;
        match token & 3 {
            0 => Self::Tcp(id),
            1 => Self::Udp(id),
            2 => Self::Echo(id),
            _ => Self::Forward(id),
        }
    }
}

/// A packet from a guest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) header: &'a IpHeader,
    pub(super) ip: &'a [u8],
}

impl<'a> Arrival<'a> {
    pub(super) fn payload(&self) -> &'a [u8] {
        &self.ip[self.header.payload..self.header.total]
    }
}

/// The host at 10.0.2.2 and all behind it.
#[derive(Debug)]
pub(super) struct Nat {
    pub(super) config: Arc<Config>,
    pub(super) epoll: Arc<Epoll>,
    pub(super) lan: Lan,
    pub(super) tcp: Tcp,
    pub(super) udp: Udp,
    pub(super) echo: Echo,
    pub(super) forwards: Forwards,
    pub(super) resolver: Resolver,
    pub(super) tftp: Option<Tftp>,
    leases: Leases,
    reassembly: Reassembly,
    work: VecDeque<Work>,
    last_id: u64,
    pub(super) now: Instant,
    sweep: Instant,
    advertisement: Instant,
    complaints: (Instant, u32),
}

impl Nat {
    pub(super) fn new(config: Config, epoll: Arc<Epoll>, seed: u64) -> Self {
        let v4 = config.v4.map_or(std::net::Ipv4Addr::UNSPECIFIED, |v4| v4.host);
        let v6 = config.v6.map_or(std::net::Ipv6Addr::UNSPECIFIED, |v6| v6.host);
        let [a, b, c, d] = v4.octets();
        // As libslirp makes it.
        let mac: Mac = [0x52, 0x55, a, b, c, d];
        let now = Instant::ZERO;
        Self {
            lan: Lan::new(mac, config.mtu, (v4, ndp::link_local(v6))),
            tcp: Tcp::new(config.mtu, seed),
            udp: Udp::default(),
            echo: Echo::default(),
            forwards: Forwards::default(),
            resolver: Resolver::default(),
            tftp: None,
            leases: Leases::default(),
            reassembly: Reassembly::default(),
            work: VecDeque::new(),
            last_id: 0,
            config: Arc::new(config),
            epoll,
            now,
            sweep: now,
            advertisement: now,
            complaints: (now, 0),
        }
    }

    /// An identity for a flow.
    pub(super) fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Gives something a turn. Whoever calls sees to it that it is not there already.
    pub(super) fn enqueue(&mut self, work: Work) {
        self.work.push_back(work);
    }

    /// Whether there is something to receive, or to do for that.
    pub(super) fn is_busy(&self) -> bool {
        !self.work.is_empty() || self.lan.has_frames()
    }

    /// Takes a frame from a guest.
    pub(super) fn input(&mut self, frame: &Frame) {
        let Some((head, ip)) = frame.bytes.split_at_checked(HEADROOM) else { return };
        let to: &[u8] = &head[..6];
        if to != self.lan.mac && to[0] & 1 == 0 {
            return;
        }
        let mut from: Mac = [0; 6];
        from.copy_from_slice(&head[6..12]);
        let kind = [head[12], head[13]];
        match kind {
            ARP if self.config.v4.is_some() => {
                let config = Arc::clone(&self.config);
                self.lan.arp(ip, self.now, |ip| is_ours(config.place(ip.into())));
            }
            IPV4 | IPV6 => {
                let Some(header) = IpHeader::parse(ip) else { return };
                if header.source.is_ipv4() != (kind == IPV4) {
                    return;
                }
                self.packet(from, &header, &ip[..header.total], frame);
            }
            _ => {}
        }
    }

    fn packet(&mut self, from: Mac, header: &IpHeader, ip: &[u8], frame: &Frame) {
        let version = if header.source.is_ipv4() {
            self.config.v4.is_some() && header_checksum_holds(ip)
        } else {
            self.config.v6.is_some()
        };
        if !version || is_ours(self.config.place(header.source)) {
            return;
        }
        self.lan.learn(header.source, from, self.now);
        if header.fragment.is_some() {
            let Some(whole) = self.reassembly.add(header, ip, self.now) else { return };
            let ip = &whole[HEADROOM..];
            let Some(header) = IpHeader::parse(ip) else { return };
            return self.whole_packet(from, &header, ip, false);
        }
        self.whole_packet(from, header, ip, frame.offload.checksum_pending);
    }

    fn whole_packet(&mut self, from: Mac, header: &IpHeader, ip: &[u8], trusted: bool) {
        let arrival = Arrival { header, ip };
        let sum = |ip: &Arrival<'_>| {
            payload_sum(header.source, header.destination, header.protocol, ip.payload())
        };
        let place = self.config.place(header.destination);
        let passes = matches!(place, Place::Outside);
        if passes && header.ttl <= 1 {
            return self.complain(Trouble::TimeExceeded, &arrival);
        }
        match header.protocol {
            TCP if trusted || sum(&arrival) == 0xffff => self.tcp_input(&arrival, place),
            UDP => {
                let unsummed =
                    header.source.is_ipv4() && arrival.payload().get(6..8) == Some(&[0, 0]);
                if trusted || unsummed || sum(&arrival) == 0xffff {
                    self.udp_input(from, &arrival, place);
                }
            }
            ICMP if header.source.is_ipv4() => {
                if trusted || checksum::data(arrival.payload()) == 0xffff {
                    self.icmp_input(&arrival, place);
                }
            }
            ICMPV6 if trusted || sum(&arrival) == 0xffff => self.icmpv6_input(&arrival, place),
            TCP | ICMPV6 => {}
            _ if place == Place::Group => {}
            _ => self.complain(Trouble::ProtocolUnreachable, &arrival),
        }
    }

    fn icmpv6_input(&mut self, arrival: &Arrival<'_>, place: Place) {
        let body = arrival.payload();
        if matches!(body.first(), Some(133..=137)) {
            let config = Arc::clone(&self.config);
            let ours = |ip| is_ours(config.place(IpAddr::V6(ip)));
            let message = (arrival.header, body);
            return ndp::input(&mut self.lan, &config, message, self.now, ours);
        }
        self.icmp_input(arrival, place);
    }

    /// Answers a DHCP client.
    pub(super) fn dhcp_input(&mut self, from: Mac, bytes: &[u8]) {
        let config = Arc::clone(&self.config);
        let Some(v4) = config.v4 else { return };
        let Some(answer) = self.leases.answer(&config, &v4, bytes, self.now) else { return };
        // It cannot answer questions for an address that it does not have yet.
        self.lan.learn(
            answer.to.into(),
            if answer.to.is_broadcast() { from } else { answer.mac },
            self.now,
        );
        let (source, to) = (v4.host.into(), answer.to.into());
        self.send_udp((source, dhcp::SERVER), (to, dhcp::CLIENT), &answer.bytes);
    }

    /// Sends a datagram to a guest.
    pub(super) fn send_udp(&mut self, from: (IpAddr, u16), to: (IpAddr, u16), data: &[u8]) {
        let Ok(length) = u16::try_from(8 + data.len()) else { return };
        let mut body = Vec::with_capacity(8 + data.len());
        for word in [from.1, to.1, length, 0] {
            body.extend_from_slice(&word.to_be_bytes());
        }
        body.extend_from_slice(data);
        let build =
            Build { source: from.0, destination: to.0, protocol: UDP, ttl: 64, tos: 0, id: 0 };
        self.lan.send_message(build, &body, self.now);
    }

    /// Tells the sender of a packet what is wrong with it.
    pub(super) fn complain(&mut self, trouble: Trouble, arrival: &Arrival<'_>) {
        let destination = arrival.header.destination;
        let source = match self.config.place(destination) {
            Place::Host | Place::Resolver | Place::Service => Some(destination),
            _ => self.config.router(destination),
        };
        if let Some(source) = source {
            self.complain_as(source, trouble, arrival);
        }
    }

    /// The same in the name of somebody else, such as a router on the way.
    pub(super) fn complain_as(&mut self, source: IpAddr, trouble: Trouble, about: &Arrival<'_>) {
        if !may_be_told_of(about.header, about.ip) || !self.may_complain() {
            return;
        }
        let body = trouble.message(about.header, about.ip);
        let protocol = if source.is_ipv4() { ICMP } else { ICMPV6 };
        let destination = about.header.source;
        let build = Build { source, destination, protocol, ttl: 64, tos: 0xc0, id: 0 };
        self.lan.send_message(build, &body, self.now);
    }

    fn may_complain(&mut self) -> bool {
        let (since, count) = &mut self.complaints;
        if self.now - *since >= Duration::from_secs(1) {
            (*since, *count) = (self.now, 0);
        }
        *count += 1;
        *count <= COMPLAINTS
    }

    /// Learns from the kernel which sockets have something to say; returns whether the timer rang.
    pub(super) fn collect(&mut self) -> bool {
        let mut rang = false;
        let epoll = Arc::clone(&self.epoll);
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            let count = epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
            for event in &events[..count] {
                rang |= event.data() == TIMER;
                if event.data() != TIMER {
                    self.event(Work::of(event.data()), event.events());
                }
            }
            if count < EVENTS {
                return rang;
            }
        }
    }

    fn event(&mut self, work: Work, events: EpollFlags) {
        match work {
            Work::Tcp(id) => self.tcp_event(id, events),
            Work::Udp(id) => self.udp_event(id),
            Work::Echo(id) => self.echo_event(id),
            Work::Forward(id) => self.forward_event(id),
        }
    }

    /// Moves up to `budget` frames for guests out, doing what there is to do for that.
    pub(super) fn output(&mut self, into: &mut VecDeque<Frame>, budget: usize) -> usize {
        let mut count = self.lan.take(into, budget);
        while count < budget
            && let Some(work) = self.work.pop_front()
        {
            match work {
                Work::Tcp(id) => self.tcp_turn(id),
                Work::Udp(id) => self.udp_turn(id),
                Work::Echo(id) => self.echo_turn(id),
                Work::Forward(id) => self.forward_turn(id),
            }
            count += self.lan.take(into, budget - count);
        }
        count
    }

    /// Does what time demands.
    pub(super) fn expire(&mut self) {
        let now = self.now;
        self.tcp_expire();
        self.tftp_expire();
        if now >= self.advertisement {
            ndp::advertise(&mut self.lan, &self.config);
            self.advertisement = now + ndp::PERIOD;
        }
        if now >= self.sweep {
            self.sweep = now + SWEEP;
            self.reassembly.expire(now);
            self.udp.expire(now);
            self.echo.expire(now);
            self.forward_expire();
        }
    }

    /// When it demands something next.
    pub(super) fn due(&self) -> HostDuration {
        let sweeps = self.udp.has_flows()
            || self.echo.has_flows()
            || self.forwards.need_care()
            || self.reassembly.due().is_some();
        let files = self.tftp.as_ref().and_then(Tftp::due);
        let due = [self.tcp.due(), files, sweeps.then_some(self.sweep), Some(self.advertisement)];
        let due = due.into_iter().flatten().min().unwrap_or(self.advertisement);
        HostDuration::from_micros(u64::try_from(due.total_micros()).unwrap_or(0))
    }
}

/// Whether an address belongs to this side.
fn is_ours(place: Place) -> bool {
    matches!(place, Place::Host | Place::Resolver | Place::Service)
}
