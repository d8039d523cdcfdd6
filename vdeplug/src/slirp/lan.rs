//! The side of the guests: frames for them, and who is where.
//!
//! Where a guest is, is learnt from all that it sends, also from behind a router; only who has been
//! silent is asked for.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use smoltcp::time::{Duration, Instant};

use crate::{
    frame::{Frame, Offload},
    ip::{
        fragment::fragments,
        hash::Map,
        packet::{
            Build, HEADROOM, ICMPV6, IpHeader, TCP, UDP, fill_header_checksum,
            fill_payload_checksum,
        },
        pool,
    },
};

/// A hardware address.
pub(super) type Mac = [u8; 6];

pub(super) const ARP: [u8; 2] = [0x08, 0x06];
pub(super) const IPV4: [u8; 2] = [0x08, 0x00];
pub(super) const IPV6: [u8; 2] = [0x86, 0xdd];

/// Frames that wait to be received, beyond which packets are dropped.
const LONGEST_QUEUE: usize = 1024;
/// Hosts that are known.
const NEIGHBOURS: usize = 4096;
/// Hosts that are asked for, packets that wait for each, and how often it is asked.
const ASKED: usize = 64;
const WAITING: usize = 16;
const PATIENCE: Duration = Duration::from_secs(1);

/// A host.
#[derive(Debug)]
enum Neighbour {
    Known { mac: Mac, seen: Instant },
    Asked { at: Instant, waiting: Vec<Frame> },
}

/// The guests and the way to them.
#[derive(Debug)]
pub(super) struct Lan {
    /// The hardware address of all that is not a guest.
    pub(super) mac: Mac,
    pub(super) mtu: usize,
    /// Who asks for IPv4 and IPv6 neighbours.
    own: (Ipv4Addr, Ipv6Addr),
    queue: VecDeque<Frame>,
    neighbours: Map<IpAddr, Neighbour>,
    ident: u16,
    pub(super) drops: usize,
}

impl Lan {
    pub(super) fn new(mac: Mac, mtu: usize, own: (Ipv4Addr, Ipv6Addr)) -> Self {
        let (queue, neighbours) = (VecDeque::new(), Map::default());
        Self { mac, mtu, own, queue, neighbours, ident: 0, drops: 0 }
    }

    /// Whether frames wait.
    pub(super) fn has_frames(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Moves up to `budget` frames out.
    pub(super) fn take(&mut self, into: &mut VecDeque<Frame>, budget: usize) -> usize {
        let count = budget.min(self.queue.len());
        into.extend(self.queue.drain(..count));
        count
    }

    /// Notes that `ip` is at `mac`; sends what waited for that.
    pub(super) fn learn(&mut self, ip: IpAddr, mac: Mac, now: Instant) {
        if ip.is_unspecified() || ip.is_multicast() || mac[0] & 1 != 0 {
            return;
        }
        self.make_room(ip);
        let known = Neighbour::Known { mac, seen: now };
        if let Some(Neighbour::Asked { waiting, .. }) = self.neighbours.insert(ip, known) {
            for mut frame in waiting {
                frame.bytes[..6].copy_from_slice(&mac);
                self.push(frame);
            }
        }
    }

    /// Forgets the host that has been silent for longest when there are too many.
    fn make_room(&mut self, ip: IpAddr) {
        if self.neighbours.len() < NEIGHBOURS || self.neighbours.contains_key(&ip) {
            return;
        }
        let age = |neighbour: &Neighbour| match neighbour {
            Neighbour::Known { seen, .. } => *seen,
            Neighbour::Asked { at, .. } => *at,
        };
        let oldest = self.neighbours.iter().min_by_key(|(_, n)| age(n)).map(|(ip, _)| *ip);
        oldest.and_then(|oldest| self.neighbours.remove(&oldest));
    }

    /// Sends a packet that lies behind header room, cut up if it is too long and no `offload`
    /// takes care of that.
    pub(super) fn send(&mut self, bytes: Vec<u8>, offload: Offload, now: Instant) {
        let Some(header) = IpHeader::parse(&bytes[HEADROOM..]) else { return };
        if bytes.len() - HEADROOM <= self.mtu || offload.segment_size.is_some() {
            return self.address(header.destination, Frame { bytes, offload }, now);
        }
        let mut bytes = bytes;
        if offload.checksum_pending {
            fill_payload_checksum(&header, &mut bytes[HEADROOM + header.payload..]);
        }
        self.ident = self.ident.wrapping_add(1);
        let pieces = fragments(&bytes, self.mtu, u32::from(self.ident)).unwrap_or_default();
        for piece in pieces {
            self.address(header.destination, piece.into(), now);
        }
        pool::give(bytes);
    }

    /// Sends a UDP, ICMP or ICMPv6 message.
    pub(super) fn send_message(&mut self, build: Build, body: &[u8], now: Instant) {
        self.ident = self.ident.wrapping_add(1);
        let (mut bytes, at) = Build { id: self.ident, ..build }.packet(body.len());
        bytes[at..].copy_from_slice(body);
        let mut offload = Offload::default();
        match build.protocol {
            TCP | UDP => offload.checksum_pending = true,
            ICMPV6 => {
                if let Some(header) = IpHeader::parse(&bytes[HEADROOM..]) {
                    fill_payload_checksum(&header, &mut bytes[at..]);
                }
            }
            _ => crate::ip::icmp::fill_icmp_checksum(&mut bytes[at..]),
        }
        self.send(bytes, offload, now);
    }

    /// Sends a packet that smoltcp made.
    pub(super) fn send_segment(&mut self, mut bytes: Vec<u8>, offload: Offload, now: Instant) {
        if bytes[HEADROOM] >> 4 == 4 {
            self.ident = self.ident.wrapping_add(1);
            bytes[HEADROOM + 4..HEADROOM + 6].copy_from_slice(&self.ident.to_be_bytes());
            fill_header_checksum(&mut bytes[HEADROOM..]);
        }
        self.send(bytes, offload, now);
    }

    /// Puts the Ethernet header in front, or asks where the destination is.
    fn address(&mut self, to: IpAddr, mut frame: Frame, now: Instant) {
        frame.bytes[6..12].copy_from_slice(&self.mac);
        frame.bytes[12..14].copy_from_slice(if to.is_ipv4() { &IPV4 } else { &IPV6 });
        if let Some(mac) = group(to) {
            frame.bytes[..6].copy_from_slice(&mac);
            return self.push(frame);
        }
        match self.neighbours.get_mut(&to) {
            Some(Neighbour::Known { mac, .. }) => {
                frame.bytes[..6].copy_from_slice(mac);
                self.push(frame);
            }
            Some(Neighbour::Asked { at, waiting }) => {
                if waiting.len() < WAITING {
                    waiting.push(frame);
                }
                if now - *at >= PATIENCE {
                    *at = now;
                    self.ask(to);
                }
            }
            None => {
                let asked = |n: &&Neighbour| matches!(n, Neighbour::Asked { .. });
                if self.neighbours.values().filter(asked).count() >= ASKED {
                    self.neighbours.retain(|_, neighbour| !asked(&&*neighbour));
                }
                self.make_room(to);
                let waiting = vec![frame];
                self.neighbours.insert(to, Neighbour::Asked { at: now, waiting });
                self.ask(to);
            }
        }
    }

    fn ask(&mut self, who: IpAddr) {
        match who {
            IpAddr::V4(who) => {
                let own = self.own.0;
                self.push_arp(1, [0xff; 6], own, ([0; 6], who));
            }
            IpAddr::V6(who) => {
                let question = super::ndp::solicitation(who, self.mac);
                let [.., a, b, c] = who.octets();
                let to = Ipv6Addr::new(
                    0xff02,
                    0,
                    0,
                    0,
                    0,
                    1,
                    0xff00 | u16::from(a),
                    u16::from_be_bytes([b, c]),
                );
                self.send_ndp(self.own.1, to, &question);
            }
        }
    }

    /// Sends a message of neighbour discovery.
    pub(super) fn send_ndp(&mut self, source: Ipv6Addr, destination: Ipv6Addr, body: &[u8]) {
        let (source, destination) = (source.into(), destination.into());
        let build = Build { source, destination, protocol: ICMPV6, ttl: 255, tos: 0, id: 0 };
        // Nothing of it waits for an answer.
        self.send_message(build, body, Instant::ZERO);
    }

    /// Reads an ARP packet behind its Ethernet header, and answers for `ours`.
    pub(super) fn arp(&mut self, packet: &[u8], now: Instant, ours: impl Fn(Ipv4Addr) -> bool) {
        let Some(packet) = packet.first_chunk::<28>() else { return };
        if packet[..6] != [0, 1, 8, 0, 6, 4] {
            return;
        }
        let [_, _, _, _, _, _, _, operation, rest @ ..] = packet;
        let mac: Mac = [rest[0], rest[1], rest[2], rest[3], rest[4], rest[5]];
        let sender = Ipv4Addr::new(rest[6], rest[7], rest[8], rest[9]);
        let target = Ipv4Addr::new(rest[16], rest[17], rest[18], rest[19]);
        if !ours(sender) {
            self.learn(sender.into(), mac, now);
        }
        if *operation == 1 && ours(target) {
            self.push_arp(2, mac, target, (mac, sender));
        }
    }

    fn push_arp(&mut self, operation: u8, to: Mac, sender: Ipv4Addr, target: (Mac, Ipv4Addr)) {
        let mut bytes = pool::take(HEADROOM + 28);
        bytes[..6].copy_from_slice(&to);
        bytes[6..12].copy_from_slice(&self.mac);
        bytes[12..14].copy_from_slice(&ARP);
        bytes[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, operation]);
        bytes[22..28].copy_from_slice(&self.mac);
        bytes[28..32].copy_from_slice(&sender.octets());
        bytes[32..38].copy_from_slice(&target.0);
        bytes[38..42].copy_from_slice(&target.1.octets());
        self.push(bytes.into());
    }

    fn push(&mut self, frame: Frame) {
        if self.queue.len() < LONGEST_QUEUE {
            self.queue.push_back(frame);
        } else {
            self.drops += 1;
        }
    }
}

/// The hardware address of a group of hosts.
fn group(ip: IpAddr) -> Option<Mac> {
    match ip {
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some([0xff; 6]),
        IpAddr::V4(ip) if ip.is_multicast() => {
            let [_, b, c, d] = ip.octets();
            Some([1, 0, 0x5e, b & 0x7f, c, d])
        }
        IpAddr::V6(ip) if ip.is_multicast() => {
            let [.., a, b, c, d] = ip.octets();
            Some([0x33, 0x33, a, b, c, d])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
    const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

    fn lan() -> Lan {
        Lan::new([0x52, 0x55, 10, 0, 2, 2], 1500, (HOST, Ipv6Addr::LOCALHOST))
    }

    fn frames(lan: &mut Lan) -> Vec<Frame> {
        let mut taken = VecDeque::new();
        lan.take(&mut taken, usize::MAX);
        taken.into()
    }

    fn message(lan: &mut Lan, length: usize, now: Instant) {
        let (source, destination) = (HOST.into(), GUEST.into());
        let build = Build { source, destination, protocol: UDP, ttl: 64, tos: 0, id: 0 };
        lan.send_message(build, &vec![7; length], now);
    }

    #[test]
    fn who_is_silent_is_asked_for_and_gets_what_waited() {
        let (mut lan, now) = (lan(), Instant::from_secs(1));
        message(&mut lan, 8, now);
        message(&mut lan, 9, now);
        let asked = frames(&mut lan);
        assert_eq!(asked.len(), 1, "one question");
        assert_eq!(
            (&asked[0].bytes[12..14], &asked[0].bytes[38..42]),
            (&ARP[..], &GUEST.octets()[..])
        );
        let answer = [&[0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 9][..], &GUEST.octets(), &[0; 10]];
        lan.arp(&answer.concat(), now, |ip| ip == HOST);
        let sent = frames(&mut lan);
        assert_eq!(sent.iter().map(|f| f.bytes.len()).collect::<Vec<_>>(), [42, 43]);
        assert!(sent.iter().all(|frame| frame.bytes[..6] == [2, 0, 0, 0, 0, 9]));
    }

    #[test]
    fn long_messages_become_fragments() {
        let (mut lan, now) = (lan(), Instant::from_secs(1));
        lan.learn(GUEST.into(), [2; 6], now);
        message(&mut lan, 4000, now);
        let sent = frames(&mut lan);
        assert_eq!(sent.len(), 3);
        assert!(sent.iter().all(|f| f.bytes.len() <= 1514 && f.offload.is_none()));
    }

    #[test]
    fn queues_and_tables_are_bounded() {
        let (mut lan, now) = (lan(), Instant::from_secs(1));
        for number in 0..10_000_u32 {
            lan.learn(Ipv4Addr::from(number + 0x0a00_0000).into(), [2; 6], now);
        }
        assert!(lan.neighbours.len() <= NEIGHBOURS);
        lan.learn(GUEST.into(), [2; 6], now);
        for _ in 0..2000 {
            message(&mut lan, 8, now);
        }
        assert_eq!((frames(&mut lan).len(), lan.drops), (1024, 976));
    }
}
