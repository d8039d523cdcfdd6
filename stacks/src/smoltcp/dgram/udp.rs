//! UDP (RFC 768, udp(7)).

use std::net::{IpAddr, SocketAddr};

use umvu_abi::{
    Errno, SockAddr,
    net::{Datagram, SendControl},
    sockaddr::AF_INET6,
};

use super::{
    super::{
        icmp::Trouble,
        inner::Inner,
        input::Cast,
        link::Outgoing,
        packet::{Build, HEADROOM, IpHeader, UDP, UDPLITE},
        ports::Host,
        sockopt::Class,
        tcp::input::Arrival,
    },
    DgramId,
};

/// Its header.
pub(super) const HEADER: usize = 8;

impl Inner {
    /// Sends a datagram.
    pub(crate) fn udp_send(
        &mut self,
        id: DgramId,
        data: &[u8],
        to: Option<&SockAddr>,
        control: &SendControl,
    ) -> Result<(), Errno> {
        self.dgram_autobind(id)?;
        let mut plan = self.plan(id, to, control)?;
        // Port 0 can be connected to, if not by a mapped address.
        let named = to.is_some_and(|to| !matches!(to, SockAddr::Unspec));
        let sock = self.dgrams.socks.get(id).ok_or(Errno::EBADF)?;
        let mapped = plan.remote.is_ipv4() && sock.family == AF_INET6;
        if plan.remote.port() == 0 && (named || mapped) {
            return Err(Errno::EINVAL);
        }
        self.check_size(id, &plan, HEADER + data.len())?;
        let sock = self.dgrams.socks.get(id).ok_or(Errno::EBADF)?;
        let (port, class) = (sock.port(), sock.class);
        plan.build.protocol = if class == Class::UdpLite { UDPLITE } else { UDP };
        plan.build.id = self.idents.next(&plan.build);
        let (mut bytes, at) = plan.build.packet(HEADER + data.len());
        let out = &mut bytes[at..];
        out[..2].copy_from_slice(&port.to_be_bytes());
        out[2..4].copy_from_slice(&plan.remote.port().to_be_bytes());
        let length = u16::try_from(out.len()).map_err(|_| Errno::EMSGSIZE)?;
        out[4..6].copy_from_slice(&length.to_be_bytes());
        // The link fills the checksum in, or the receiver trusts it.
        out[6..8].fill(0);
        out[HEADER..].copy_from_slice(data);
        debug_assert!(at > HEADROOM);
        if class == Class::UdpLite {
            self.udplite_cover(id, &mut bytes)?;
        }
        let unsummed = class == Class::Udp;
        self.send_planned(&plan, Outgoing { bytes, segment: None, unsummed });
        Ok(())
    }

    /// Takes a datagram for this host.
    pub(crate) fn udp_input(&mut self, arrival: &Arrival<'_>, cast: Cast) {
        let payload = arrival.payload();
        let Some(head) = payload.first_chunk::<HEADER>() else { return };
        let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
        if length < HEADER || length > payload.len() {
            return;
        }
        let unsummed = head[6..8] == [0, 0] && arrival.header.source.is_ipv4();
        if !unsummed && length == payload.len() && !arrival.sums() {
            return;
        }
        let data = &payload[HEADER..length];
        self.udp_arrived(Class::Udp, arrival, cast, data);
    }

    /// Gives a datagram that is well-formed to who is to have it.
    pub(crate) fn udp_arrived(
        &mut self,
        class: Class,
        arrival: &Arrival<'_>,
        cast: Cast,
        data: &[u8],
    ) {
        let Some(head) = arrival.payload().first_chunk::<4>() else { return };
        let source = SocketAddr::new(arrival.header.source, u16::from_be_bytes([head[0], head[1]]));
        let local =
            SocketAddr::new(arrival.header.destination, u16::from_be_bytes([head[2], head[3]]));
        if cast == Cast::Unicast {
            match self.udp_receiver(class, [source, local], arrival.link) {
                Some(id) => self.udp_deliver(id, arrival, source, local, data),
                None => {
                    if class == Class::Udp {
                        self.counts.ip(source.is_ipv6()).no_ports += 1;
                    }
                    self.send_trouble(Trouble::PortUnreachable, arrival.header, arrival.ip);
                }
            }
            return;
        }
        let candidates =
            self.dgrams.udp(class).socks.get(&local.port()).cloned().unwrap_or_default();
        let ends = [source.ip(), local.ip()];
        for id in candidates {
            let fits = self.udp_score(id, source, local, arrival.link).is_some();
            if fits && (cast == Cast::Broadcast || self.hears_group(id, ends, arrival.link)) {
                self.udp_deliver(id, arrival, source, local, data);
            }
        }
    }

    /// Answers a datagram whose receiver has gone before it was taken.
    pub(crate) fn udp_refuse(&mut self, datagram: &Datagram) {
        let meta = &datagram.meta;
        let ends = (socket_addr(&meta.source), socket_addr(&meta.destination));
        let (Some(source), Some(local)) = ends else { return };
        let Ok(length) = u16::try_from(HEADER + datagram.data.len()) else { return };
        if !self.is_local(local.ip()) {
            return;
        }
        let build = Build {
            source: source.ip(),
            destination: local.ip(),
            protocol: UDP,
            ttl: meta.ttl,
            tos: meta.tos,
            id: 0,
        };
        let (mut bytes, at) = build.packet(usize::from(length));
        let out = &mut bytes[at..];
        out[..2].copy_from_slice(&source.port().to_be_bytes());
        out[2..4].copy_from_slice(&local.port().to_be_bytes());
        out[4..6].copy_from_slice(&length.to_be_bytes());
        out[HEADER..].copy_from_slice(&datagram.data);
        let ip = &bytes[HEADROOM..];
        if let Some(header) = IpHeader::parse(ip) {
            self.send_trouble(Trouble::PortUnreachable, &header, ip);
        }
    }

    /// The socket that a datagram to one address is for: the most specific one.
    pub(crate) fn udp_receiver(
        &self,
        class: Class,
        [source, local]: [SocketAddr; 2],
        link: usize,
    ) -> Option<DgramId> {
        let candidates = self.dgrams.udp(class).socks.get(&local.port())?;
        let best =
            candidates.iter().filter_map(|id| self.udp_score(*id, source, local, link)).max()?;
        let mut equals =
            candidates.iter().filter(|id| self.udp_score(**id, source, local, link) == Some(best));
        let count = equals.clone().count();
        // Of several with SO_REUSEPORT the sender's port chooses; else the last one bound wins.
        let reuse = equals.clone().all(|id| {
            self.dgrams
                .socks
                .get(*id)
                .is_some_and(|sock| sock.options.flag(libc::SOL_SOCKET, libc::SO_REUSEPORT))
        });
        let chosen = if reuse { usize::from(source.port()) % count } else { count - 1 };
        equals.nth(chosen).copied()
    }

    fn udp_score(
        &self,
        id: DgramId,
        source: SocketAddr,
        local: SocketAddr,
        link: usize,
    ) -> Option<u8> {
        let sock = self.dgrams.socks.get(id)?;
        let (host, _) = sock.bound?;
        let device = sock.options.device();
        let index = self.links.get(link)?.index;
        if !host.covers(local.ip())
            || sock.peer.is_some_and(|peer| peer != source)
            || (device != 0 && device != index)
        {
            return None;
        }
        let connected =
            sock.source.is_none_or(|own| own == local.ip() || local.ip().is_multicast());
        if sock.peer.is_some() && !connected {
            return None;
        }
        let exact = u8::from(matches!(host, Host::One(_)));
        let family = u8::from(!matches!(host, Host::Any));
        Some(u8::from(sock.peer.is_some()) * 8 + exact * 4 + u8::from(device != 0) * 2 + family)
    }

    fn udp_deliver(
        &mut self,
        id: DgramId,
        arrival: &Arrival<'_>,
        source: SocketAddr,
        local: SocketAddr,
        data: &[u8],
    ) {
        let Some(sock) = self.dgrams.socks.get(id) else { return };
        let meta = self.datagram_meta(arrival, sock.family, [source, local]);
        if !sock.takes_coverage(arrival) {
            return;
        }
        let Some(kept) = sock.filtered_udp(arrival, meta.ifindex) else { return };
        let data = &data[..data.len().min(kept)];
        self.counts.ip(source.is_ipv6()).datagrams_in += 1;
        self.enqueue(id, data, meta);
    }
}

/// An address without the mapping of IPv4 into IPv6.
fn socket_addr(addr: &SockAddr) -> Option<SocketAddr> {
    let (ip, port) = match addr {
        SockAddr::Inet(addr) => (IpAddr::V4(*addr.ip()), addr.port()),
        SockAddr::Inet6(addr) => (IpAddr::V6(*addr.ip()).to_canonical(), addr.port()),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}
