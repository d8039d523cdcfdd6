//! Packets on their way out: routing, fragments, neighbours, the queue of a link.

use std::net::IpAddr;

use super::{
    dgram::packet::tap::{Sight, Way},
    fragment::fragments,
    inner::Inner,
    link::{Kind, Outgoing, ethertype, multicast_mac, write_ethernet},
    neighbour::{Due, Mac, Resolution},
    net::{Hop, HopKind},
    packet::{HEADROOM, IpHeader, fill_payload_checksum},
    pool,
};

/// Packets that may wait on `lo`.
const LOOPED: usize = 8192;
const BROADCAST: Mac = [0xff; 6];

impl Inner {
    /// Sends a packet whose header is complete, by a device or with 0 by any; without a route it is
    /// lost.
    pub(crate) fn send_ip(&mut self, packet: Outgoing, device: u32) {
        let Some(header) = IpHeader::parse(&packet.bytes[HEADROOM..]) else { return };
        match self.route_from(header.destination, header.source, device) {
            Ok(hop) => {
                self.counts.sends(&packet);
                self.send_hop(&hop, packet);
            }
            Err(errno) => tracing::debug!(to = %header.destination, ?errno, "no route"),
        }
    }

    /// Sends a packet to a hop, in fragments when it is too long for the link.
    pub(crate) fn send_hop(&mut self, hop: &Hop, mut packet: Outgoing) {
        let mac = match hop.kind {
            HopKind::Broadcast => Some(BROADCAST),
            HopKind::Multicast => Some(multicast_mac(hop.next)),
            HopKind::Unicast | HopKind::Local => None,
        };
        let mtu = self.links.get(hop.link).map_or(0, |link| link.mtu);
        if packet.segment.is_some() || packet.bytes.len() <= HEADROOM + mtu {
            return self.send_on_path(hop.link, hop.next, mac, packet);
        }
        if packet.unsummed {
            fill_checksum(&mut packet.bytes);
        }
        let id = u32::from(self.rng.next16()) | 0x1_0000;
        for bytes in fragments(&packet.bytes, mtu, id).unwrap_or_default() {
            let piece = Outgoing { bytes, segment: None, unsummed: false };
            self.send_on_path(hop.link, hop.next, mac, piece);
        }
        pool::give(packet.bytes);
    }

    /// Sends a packet that fits by a link to a neighbour, whose hardware address may be known.
    pub(crate) fn send_on_path(
        &mut self,
        index: usize,
        next: IpAddr,
        mac: Option<Mac>,
        mut packet: Outgoing,
    ) {
        let now = self.now;
        let Some(link) = self.links.get_mut(index) else { return };
        if link.kind == Kind::Loopback {
            link.counters.sent.0 += 1;
            link.counters.sent.1 += packet.bytes.len() as u64;
            if link.scheduler.is_some() {
                let kind = ethertype(&packet.bytes[HEADROOM..]);
                return link.queue_frame(packet, link.mac, kind);
            }
            if self.looped.len() < LOOPED {
                self.tap_loopback(index, &mut packet);
                self.looped.push_back((index, packet));
            }
            return;
        }
        if !link.up {
            link.counters.dropped += 1;
            return;
        }
        if packet.unsummed && !link.offload {
            fill_checksum(&mut packet.bytes);
            packet.unsummed = false;
        }
        let kind = ethertype(&packet.bytes[HEADROOM..]);
        // A tunnel has nobody to ask.
        let mac = if link.kind == Kind::Tunnel { Some(Mac::default()) } else { mac };
        if let Some(mac) = mac {
            return link.queue_frame(packet, mac, kind);
        }
        match link.neighbours.resolve(next, packet, now) {
            Resolution::Ready(mac, packet) => link.queue_frame(packet, mac, kind),
            Resolution::Waiting { solicit: true } => self.solicit(index, next, None),
            Resolution::Waiting { solicit: false } => {}
            Resolution::Unreachable(packet) => self.lost.push(packet),
        }
    }

    /// Shows what leaves by `lo` to the packet sockets.
    fn tap_loopback(&mut self, index: usize, packet: &mut Outgoing) {
        let kind = ethertype(&packet.bytes[HEADROOM..]);
        if let Some(link) = self.links.get(index)
            && !self.dgrams.taps.is_empty()
        {
            write_ethernet(&mut packet.bytes, link.mac, link.mac, kind);
            let unsummed = packet.unsummed;
            self.tap(index, &Sight { frame: &packet.bytes, way: Way::Out(None), unsummed });
        }
    }

    /// Asks who has an address.
    pub(crate) fn solicit(&mut self, index: usize, target: IpAddr, to: Option<Mac>) {
        match target {
            IpAddr::V4(target) => self.send_arp_request(index, target, to),
            IpAddr::V6(target) => self.send_neighbour_solicitation(index, target, to),
        }
    }

    /// Sends what waited for a neighbour.
    pub(crate) fn send_waiting(&mut self, index: usize, mac: Mac, packets: Vec<Outgoing>) {
        let Some(link) = self.links.get_mut(index) else { return };
        for packet in packets {
            let kind = ethertype(&packet.bytes[HEADROOM..]);
            link.queue_frame(packet, mac, kind);
        }
    }

    /// Does what time demands of the neighbour tables.
    pub(crate) fn expire_neighbours(&mut self) {
        let now = self.now;
        for index in 0..self.links.len() {
            let Some(link) = self.links.get_mut(index) else { return };
            for due in link.neighbours.expire(now) {
                match due {
                    Due::Solicit(ip, to) => self.solicit(index, ip, to),
                    Due::Lost(packets) => self.lost.extend(packets),
                }
            }
        }
    }
}

/// Fills in the checksum of the payload of a packet behind header room.
pub(crate) fn fill_checksum(bytes: &mut [u8]) {
    let Some(header) = IpHeader::parse(&bytes[HEADROOM..]) else { return };
    let payload = &mut bytes[HEADROOM + header.payload..HEADROOM + header.total];
    fill_payload_checksum(&header, payload);
}
