//! Frames and packets on their way in: Ethernet, then IP, then the protocol they carry.

use std::net::IpAddr;

use umvu_abi::IfIndex;

use super::{
    dgram::packet::tap::{Sight, Way},
    icmp::Trouble,
    inner::Inner,
    link::{Kind, Outgoing},
    packet::{HEADROOM, ICMP, ICMPV6, IpHeader, TCP, UDP, UDPLITE, header_checksum_holds},
    pool,
    tcp::input::Arrival,
    wire::Frame,
};

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;

/// Whom a packet was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cast {
    /// One address of this stack.
    Unicast,
    /// A network.
    Broadcast,
    /// A group.
    Multicast,
}

/// What to do with a packet after a look at its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Deliver(Cast),
    Forward,
    Drop,
}

impl Inner {
    /// Takes a frame from a transport, or from the link that this one stands on.
    pub(crate) fn frame_input(&mut self, index: usize, frame: Frame) {
        let Some(link) = self.links.get(index) else { return };
        let ours = frame.bytes.starts_with(&link.mac);
        self.frame_arrives(index, frame, ours);
    }

    /// Takes a frame that has come by a link; `ours` when it is for this host alone.
    pub(crate) fn frame_arrives(&mut self, index: usize, frame: Frame, ours: bool) {
        let Some(link) = self.links.get_mut(index) else { return };
        if !link.up || frame.bytes.len() < HEADROOM {
            return;
        }
        link.counters.received.0 += 1;
        link.counters.received.1 += frame.bytes.len() as u64;
        let unsummed = frame.offload.checksum_pending;
        self.tap(index, &Sight { frame: &frame.bytes, way: Way::In, unsummed });
        let Some(mut frame) = self.climb(index, frame) else { return };
        let Some(head) = frame.bytes.first_chunk::<14>() else { return };
        // A group's addresses have this bit; other hosts' frames are not for us.
        let group = head[0] & 1 != 0;
        if !ours && !group {
            return pool::give(frame.bytes);
        }
        let ethertype = u16::from_be_bytes([head[12], head[13]]);
        let forward = match ethertype {
            IPV4 | IPV6 => self.ip_input(index, &mut frame, ours),
            ARP => {
                self.arp_input(index, &frame.bytes[HEADROOM..]);
                false
            }
            _ => false,
        };
        if !forward {
            return pool::give(frame.bytes);
        }
        if let Some(header) = IpHeader::parse(&frame.bytes[HEADROOM..]) {
            frame.bytes.truncate(HEADROOM + header.total);
            let packet = Outgoing {
                bytes: frame.bytes,
                segment: frame.offload.segment_size,
                unsummed: frame.offload.checksum_pending,
            };
            self.forward(index, &header, packet);
        }
    }

    /// Takes a packet of this host to itself.
    pub(crate) fn loop_input(&mut self, link: usize, mut packet: Outgoing) {
        let kind = super::link::ethertype(&packet.bytes[HEADROOM..]);
        if let Some(entry) = self.links.get_mut(link) {
            entry.counters.received.0 += 1;
            entry.counters.received.1 += packet.bytes.len() as u64;
            super::link::write_ethernet(&mut packet.bytes, entry.mac, entry.mac, kind);
        }
        // As on Linux, what a link hears of its own broadcasts is not shown again.
        if self.is_loopback(link) {
            let unsummed = packet.unsummed;
            self.tap(link, &Sight { frame: &packet.bytes, way: Way::In, unsummed });
        }
        let ip = &mut packet.bytes[HEADROOM..];
        if let Some(header) = IpHeader::parse(ip) {
            self.counts.ip(header.source.is_ipv6()).received += 1;
            let cast = match header.destination {
                ip if ip.is_multicast() => Cast::Multicast,
                ip if self.is_broadcast(ip, link) => Cast::Broadcast,
                _ => Cast::Unicast,
            };
            if cast != Cast::Multicast || self.listens_to(link, header.destination) {
                // What a raw socket has sent has the checksum that its program gave it.
                let trusted = packet.unsummed;
                let mut arrival = Arrival { link, header: &header, ip, trusted, long: false };
                self.deliver(&mut arrival, cast);
            }
        }
        pool::give(packet.bytes);
    }

    /// Takes an IP packet from a link; tells whether it is to be forwarded.
    fn ip_input(&mut self, index: usize, frame: &mut Frame, ours: bool) -> bool {
        let ip = &mut frame.bytes[HEADROOM..];
        let counts = self.counts.ip(ip.first().is_some_and(|first| first >> 4 == 6));
        counts.received += 1;
        let Some(header) = IpHeader::parse(ip) else {
            counts.malformed += 1;
            return false;
        };
        let trusted = frame.offload.checksum_pending;
        if header.source.is_ipv4() && !trusted && !header_checksum_holds(ip) {
            counts.malformed += 1;
            return false;
        }
        match self.fate(index, &header, ours) {
            Fate::Deliver(cast) => {
                let long = frame.offload.segment_size.is_some();
                let mut arrival = Arrival { link: index, header: &header, ip, trusted, long };
                self.deliver(&mut arrival, cast);
                false
            }
            Fate::Forward => true,
            Fate::Drop => false,
        }
    }

    fn fate(&self, index: usize, header: &IpHeader, ours: bool) -> Fate {
        let (source, destination) = (header.source, header.destination);
        if source.is_multicast() || source.is_loopback() || destination.is_loopback() {
            return Fate::Drop;
        }
        if destination.is_multicast() {
            let wanted = self.listens_to(index, destination);
            return if wanted { Fate::Deliver(Cast::Multicast) } else { Fate::Drop };
        }
        if self.is_broadcast(destination, index) {
            return Fate::Deliver(Cast::Broadcast);
        }
        if !ours {
            return Fate::Drop;
        }
        // A packet with our own source address is forged, or a loop.
        if self.is_local(source) {
            return Fate::Drop;
        }
        if self.is_local(destination) {
            return Fate::Deliver(Cast::Unicast);
        }
        if self.net.forwards(destination.is_ipv6()) { Fate::Forward } else { Fate::Drop }
    }

    /// Hands a packet for this host to its protocol.
    pub(crate) fn deliver(&mut self, arrival: &mut Arrival<'_>, cast: Cast) {
        let header = arrival.header;
        if header.fragment.is_some() {
            let Some(mut whole) = self.reassembly.add(header, arrival.ip, self.now) else { return };
            if let Some(header) = IpHeader::parse(&whole[HEADROOM..]) {
                let (link, trusted, long) = (arrival.link, arrival.trusted, arrival.long);
                let ip = &mut whole[HEADROOM..];
                let mut arrival = Arrival { link, header: &header, ip, trusted, long };
                self.deliver(&mut arrival, cast);
            }
            return pool::give(whole);
        }
        self.counts.delivers(header, arrival.payload());
        let taken = self.raw_input(arrival);
        match (header.protocol, header.destination) {
            (TCP, _) => {
                if cast == Cast::Unicast {
                    self.tcp_input(arrival);
                }
            }
            (ICMP, IpAddr::V4(_)) => self.icmp_input(arrival, cast),
            (ICMPV6, IpAddr::V6(_)) => self.icmpv6_input(arrival, cast),
            (UDP, _) => self.udp_input(arrival, cast),
            (UDPLITE, _) => self.udplite_input(arrival, cast),
            _ if taken || cast != Cast::Unicast => {}
            // IGMP speaks to the host, not to a socket.
            (2, IpAddr::V4(_)) => {}
            _ => self.send_trouble(Trouble::ProtocolUnreachable, header, arrival.ip),
        }
    }

    /// Whether packets to a group are taken in on a link.
    pub(crate) fn listens_to(&self, index: usize, group: IpAddr) -> bool {
        if self.dgrams.groups.contains_key(&(index, group)) {
            return true;
        }
        match group {
            IpAddr::V4(group) => group.octets() == [224, 0, 0, 1],
            IpAddr::V6(group) => {
                let octets = group.octets();
                octets == [0xff, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
                    || octets == [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
                    || self.links.get(index).is_some_and(|link| {
                        let own = self.net.config.addresses_of(IfIndex(link.index));
                        own.map(netlink_emu::values::Address::ip).any(|ip| match ip {
                            IpAddr::V6(ip) => super::ndp::solicited_node(ip) == group,
                            IpAddr::V4(_) => false,
                        })
                    })
            }
        }
    }

    /// Whether a link is `lo`.
    pub(crate) fn is_loopback(&self, index: usize) -> bool {
        self.links.get(index).is_some_and(|link| link.kind == Kind::Loopback)
    }
}
