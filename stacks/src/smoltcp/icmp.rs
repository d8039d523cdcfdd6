//! ICMP and ICMPv6: echo, errors sent, errors received and told to the sockets they concern
//! (RFC 792, RFC 1122, RFC 4443).

use std::net::{IpAddr, SocketAddr};

use smoltcp::{time::Duration, wire::checksum};
use umvu_abi::Errno;
pub(crate) use vdeplug::ip::icmp::{Trouble, fill_icmp_checksum};
use vdeplug::ip::icmp::{may_be_told_of, quoted_header};

use super::{
    inner::Inner,
    input::Cast,
    link::Outgoing,
    output::fill_checksum,
    packet::{Build, HEADROOM, ICMP, ICMPV6, IpHeader, TCP, UDP, UDPLITE},
    sockopt::Class,
    tcp::{input::Arrival, key::FlowKey},
};

/// The milliseconds of a day.
const DAY: u128 = 86_400_000;

/// What an ICMP error says, as `ip(7)` IP_RECVERR tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    /// The error number it stands for.
    pub(crate) errno: Errno,
    /// Type and code.
    pub(crate) kind: u8,
    pub(crate) code: u8,
    /// The path MTU, when it is about that.
    pub(crate) info: u32,
    /// Who says so; None when it is about a packet that was not even sent.
    pub(crate) from: Option<IpAddr>,
    /// TTL or hop limit of the message.
    pub(crate) ttl: u8,
    /// Whether an unconnected or connected socket fails by it (ip(7)).
    pub(crate) fatal: bool,
}

/// The error number of an ICMP error (`icmp_err_convert`, `icmpv6_err_convert`).
fn report(v6: bool, kind: u8, code: u8, info: u32) -> Option<(Errno, bool)> {
    let found = match (v6, kind, code) {
        (false, 3, 0 | 6 | 9 | 11) => (Errno::ENETUNREACH, false),
        (false, 3, 2) => (Errno::ENOPROTOOPT, true),
        (false, 3, 3) => (Errno::ECONNREFUSED, true),
        (false, 3, 4) => (Errno::EMSGSIZE, info != 0),
        (false, 3, 8) => (Errno(libc::ENONET), true),
        (false, 3, 10 | 13) => (Errno::EHOSTUNREACH, code == 10),
        (false, 3 | 11, _) => (Errno::EHOSTUNREACH, false),
        (false, 12, _) => (Errno(libc::EPROTO), true),
        (true, 1, 4) => (Errno::ECONNREFUSED, true),
        (true, 1, 0) => (Errno::ENETUNREACH, false),
        (true, 1, 1 | 5 | 6) => (Errno::EACCES, true),
        (true, 1 | 3, _) => (Errno::EHOSTUNREACH, false),
        (true, 2, _) => (Errno::EMSGSIZE, false),
        (true, 4, _) => (Errno(libc::EPROTO), true),
        _ => return None,
    };
    Some(found)
}

impl Inner {
    /// Takes an ICMP message.
    pub(crate) fn icmp_input(&mut self, arrival: &Arrival<'_>, cast: Cast) {
        let body = arrival.payload();
        if body.len() < 8 || (!arrival.trusted && checksum::data(body) != 0xffff) {
            return;
        }
        match body[0] {
            8 if cast == Cast::Unicast => self.echo(arrival, 0),
            0 => self.ping_input(arrival),
            13 if cast == Cast::Unicast => self.answer_timestamp(arrival),
            3 | 11 | 12 => self.icmp_error_input(arrival),
            5 if cast == Cast::Unicast => self.redirect_input(arrival),
            _ => {}
        }
    }

    /// Takes an ICMPv6 message.
    pub(crate) fn icmpv6_input(&mut self, arrival: &Arrival<'_>, _cast: Cast) {
        let body = arrival.payload();
        if body.len() < 8 || !arrival.sums() {
            return;
        }
        match body[0] {
            128 => self.echo(arrival, 129),
            129 => self.ping_input(arrival),
            1..=4 => self.icmp_error_input(arrival),
            133..=137 => self.ndp_input(arrival),
            _ => {}
        }
    }

    /// Answers an echo request.
    fn echo(&mut self, arrival: &Arrival<'_>, answer: u8) {
        let header = arrival.header;
        let source = if header.destination.is_multicast() {
            match self.source_for(arrival.link, header.source) {
                Some(source) => source,
                None => return,
            }
        } else {
            header.destination
        };
        let body = arrival.payload();
        let device = self.scope_device(header.source, arrival.link);
        self.send_icmp(source, header.source, (header.tos, device), |out| {
            out.extend_from_slice(body);
            out[0] = answer;
        });
    }

    /// Answers a request for the time of day (RFC 792; RFC 1122, 3.2.2.8).
    fn answer_timestamp(&mut self, arrival: &Arrival<'_>) {
        let header = arrival.header;
        let Some(request) = arrival.payload().first_chunk::<12>() else { return };
        let today = self.wall_time().as_millis() % DAY;
        let now = u32::try_from(today).unwrap_or(0).to_be_bytes();
        let device = self.scope_device(header.source, arrival.link);
        self.send_icmp(header.destination, header.source, (header.tos, device), |out| {
            out.extend_from_slice(request);
            (out[0], out[1]) = (14, 0);
            out.extend([now, now].concat());
        });
    }

    /// Builds and sends an ICMP message of the family of its addresses, with a TOS and by a device
    /// (0 for any); `fill` appends the body.
    pub(crate) fn send_icmp(
        &mut self,
        source: IpAddr,
        destination: IpAddr,
        (tos, device): (u8, u32),
        fill: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut body = Vec::new();
        fill(&mut body);
        let protocol = if source.is_ipv4() { ICMP } else { ICMPV6 };
        let mut build = Build { source, destination, protocol, ttl: 64, tos, id: 0 };
        build.id = self.idents.next(&build);
        let (mut bytes, at) = build.packet(body.len());
        bytes[at..].copy_from_slice(&body);
        if protocol == ICMP {
            fill_icmp_checksum(&mut bytes[at..]);
        } else {
            fill_checksum(&mut bytes);
        }
        self.send_ip(Outgoing { bytes, segment: None, unsummed: false }, device);
    }

    /// Tells the sender of a packet what is wrong with it, unless that would do harm (RFC 1122,
    /// 3.2.2; RFC 4443, 2.4).
    pub(crate) fn send_trouble(&mut self, trouble: Trouble, header: &IpHeader, ip: &[u8]) {
        if !may_be_told_of(header, ip) || !self.may_complain() {
            return;
        }
        let source = if self.is_local(header.destination) {
            Some(header.destination)
        } else {
            self.route(header.source, None, 0).ok().map(|hop| hop.source)
        };
        let Some(source) = source else { return };
        let body = trouble.message(header, ip);
        self.send_icmp(source, header.source, (0xc0, 0), |out| *out = body);
    }

    /// Bounds the rate of ICMP errors: a thousand a second.
    fn may_complain(&mut self) -> bool {
        let (since, count) = &mut self.complaints;
        if self.now - *since >= Duration::from_secs(1) {
            (*since, *count) = (self.now, 0);
        }
        *count += 1;
        *count <= 1000
    }

    fn icmp_error_input(&mut self, arrival: &Arrival<'_>) {
        let body = arrival.payload();
        let v6 = arrival.header.source.is_ipv6();
        let (kind, code) = (body[0], body[1]);
        let info = u32::from_be_bytes([body[4], body[5], body[6], body[7]]);
        let info = if v6 { info } else { info & 0xffff };
        let Some((errno, fatal)) = report(v6, kind, code, info) else { return };
        let from = Some(arrival.header.source);
        let ttl = arrival.header.ttl;
        let report = Report { errno, kind, code, info, from, ttl, fatal };
        self.attribute(&report, &body[8..]);
    }

    /// A packet of this host's own cannot be delivered: its neighbour does not answer.
    pub(crate) fn undeliverable(&mut self, packet: Outgoing) {
        let ip = &packet.bytes[HEADROOM..];
        let Some(header) = IpHeader::parse(ip) else { return };
        if !self.is_local(header.source) {
            return self.send_trouble(Trouble::HostUnreachable, &header, ip);
        }
        let (kind, code) = if header.source.is_ipv6() { (1, 3) } else { (3, 1) };
        let report = Report {
            errno: Errno::EHOSTUNREACH,
            kind,
            code,
            info: 0,
            // As Linux, which sends itself an ICMP message.
            from: Some(header.source),
            ttl: 64,
            fatal: false,
        };
        self.attribute(&report, ip);
    }

    /// Finds the sender of the packet that an error quotes.
    fn attribute(&mut self, report: &Report, quoted: &[u8]) {
        let Some(header) = quoted_header(quoted) else { return };
        let payload = &quoted[header.payload..];
        let Some(ports) = payload.first_chunk::<4>() else { return };
        let local = SocketAddr::new(header.source, u16::from_be_bytes([ports[0], ports[1]]));
        let remote = SocketAddr::new(header.destination, u16::from_be_bytes([ports[2], ports[3]]));
        match header.protocol {
            TCP => self.tcp_unreachable(FlowKey::new(local, remote), report.errno, report.info),
            UDP | UDPLITE => {
                let class = if header.protocol == UDP { Class::Udp } else { Class::UdpLite };
                let data = payload.get(8..).unwrap_or_default();
                self.udp_error(class, report, [local, remote], data);
            }
            ICMP | ICMPV6 => {
                if let Some(ident) = payload.get(4..6) {
                    let ident = u16::from_be_bytes([ident[0], ident[1]]);
                    self.ping_error(report, ident, SocketAddr::new(remote.ip(), 0), payload);
                }
            }
            _ => {}
        }
    }
}
