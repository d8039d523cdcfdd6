//! ARP: questions and answers about IPv4 neighbours (RFC 826, RFC 5227).

use std::net::{IpAddr, Ipv4Addr};

use super::{
    inner::Inner,
    link::Outgoing,
    neighbour::{Mac, Solicited},
    net::HopKind,
    packet::HEADROOM,
    pool,
};

const ETHERTYPE: u16 = 0x0806;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const LENGTH: usize = 28;

/// An ARP packet for IPv4 over Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Arp {
    operation: u16,
    sender: (Mac, Ipv4Addr),
    target: (Mac, Ipv4Addr),
}

impl Arp {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LENGTH] = bytes.first_chunk()?;
        if bytes[..6] != [0, 1, 8, 0, 6, 4] {
            return None;
        }
        let end = |at: usize| -> Option<(Mac, Ipv4Addr)> {
            let mac = bytes[at..at + 6].try_into().ok()?;
            let ip: [u8; 4] = bytes[at + 6..at + 10].try_into().ok()?;
            Some((mac, ip.into()))
        };
        Some(Self {
            operation: u16::from_be_bytes([bytes[6], bytes[7]]),
            sender: end(8)?,
            target: end(18)?,
        })
    }

    fn packet(&self) -> Outgoing {
        let mut bytes = pool::take(HEADROOM + LENGTH);
        let out = &mut bytes[HEADROOM..];
        out[..6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
        out[6..8].copy_from_slice(&self.operation.to_be_bytes());
        for (at, (mac, ip)) in [(8, self.sender), (18, self.target)] {
            out[at..at + 6].copy_from_slice(&mac);
            out[at + 6..at + 10].copy_from_slice(&ip.octets());
        }
        Outgoing { bytes, segment: None, unsummed: false }
    }
}

impl Inner {
    /// Takes an ARP packet.
    pub(crate) fn arp_input(&mut self, index: usize, bytes: &[u8]) {
        let now = self.now;
        let Some(arp) = Arp::parse(bytes) else { return };
        let (mac, ip) = arp.sender;
        if mac[0] & 1 != 0 || ip.is_multicast() || ip.is_broadcast() {
            return;
        }
        let ours = self.is_local(arp.target.1.into()) && !arp.target.1.is_loopback();
        let stands_in = !ours && arp.operation == REQUEST && self.answers_for(index, arp.target.1);
        let Some(link) = self.links.get_mut(index) else { return };
        if mac == link.mac {
            return;
        }
        if !ip.is_unspecified() {
            let how = match arp.operation {
                REPLY if ours => Solicited::Yes,
                REQUEST if ours || stands_in => Solicited::No,
                _ => Solicited::UpdateOnly,
            };
            let waited = link.neighbours.learn(ip.into(), mac, how, now);
            self.send_waiting(index, mac, waited);
        }
        if (ours || stands_in) && arp.operation == REQUEST {
            let Some(link) = self.links.get_mut(index) else { return };
            let answer =
                Arp { operation: REPLY, sender: (link.mac, arp.target.1), target: arp.sender };
            link.queue_frame(answer.packet(), mac, ETHERTYPE);
        }
    }

    /// Whether this router answers in place of a host behind another of its links (`proxy_arp`,
    /// RFC 1027).
    fn answers_for(&self, index: usize, target: Ipv4Addr) -> bool {
        self.net.forwards(false)
            && self.is_set_for(index, "proxy_arp")
            && self.route(target.into(), None, 0).is_ok_and(|hop| {
                hop.kind == HopKind::Unicast && hop.link != index && !self.is_loopback(hop.link)
            })
    }

    /// Asks who has an IPv4 address.
    pub(crate) fn send_arp_request(&mut self, index: usize, target: Ipv4Addr, to: Option<Mac>) {
        let source = match self.source_for(index, target.into()) {
            Some(IpAddr::V4(source)) => source,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let Some(link) = self.links.get_mut(index) else { return };
        let question =
            Arp { operation: REQUEST, sender: (link.mac, source), target: ([0; 6], target) };
        link.queue_frame(question.packet(), to.unwrap_or([0xff; 6]), ETHERTYPE);
    }

    /// Tells the neighbours of an address that is ours now (`arp_notify`).
    pub(crate) fn announce_v4(&mut self, index: usize, ip: Ipv4Addr) {
        let Some(link) = self.links.get_mut(index) else { return };
        let news = Arp { operation: REQUEST, sender: (link.mac, ip), target: ([0; 6], ip) };
        link.queue_frame(news.packet(), [0xff; 6], ETHERTYPE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_survives_a_round_trip() {
        let arp = Arp {
            operation: REPLY,
            sender: ([2, 0, 0, 0, 0, 1], Ipv4Addr::new(10, 0, 0, 1)),
            target: ([2, 0, 0, 0, 0, 2], Ipv4Addr::new(10, 0, 0, 2)),
        };
        assert_eq!(Arp::parse(&arp.packet().bytes[HEADROOM..]), Some(arp));
        assert_eq!(Arp::parse(&[0; 27]), None);
    }
}
