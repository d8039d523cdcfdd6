//! Packets put together from their fragments (RFC 791, RFC 8200), in bounded memory.

use std::net::IpAddr;

use smoltcp::time::{Duration, Instant};

use super::{
    hash::Map,
    packet::{HEADROOM, IpHeader, fill_header_checksum},
    pool,
};

/// How long the fragments of a packet wait for each other.
const PATIENCE: Duration = Duration::from_secs(30);
/// Packets under way, and bytes of them.
const PACKETS: usize = 64;
const LONGEST: usize = 65_535;

type Key = (IpAddr, IpAddr, u8, u32);

#[derive(Debug)]
struct Partial {
    /// The headers of the first fragment.
    head: Option<Vec<u8>>,
    data: Vec<u8>,
    /// Which bytes are there: sorted, disjoint ranges.
    have: Vec<(usize, usize)>,
    total: Option<usize>,
    until: Instant,
}

/// The packets that are not whole yet.
#[derive(Debug, Default)]
pub struct Reassembly {
    partial: Map<Key, Partial>,
}

impl Reassembly {
    /// Takes a fragment; returns the packet, behind header room, once it is whole.
    pub fn add(&mut self, header: &IpHeader, ip: &[u8], now: Instant) -> Option<Vec<u8>> {
        let fragment = header.fragment?;
        let payload = &ip[header.payload..header.total];
        let end = fragment.offset + payload.len();
        if end > LONGEST
            || payload.is_empty()
            || (fragment.more && !payload.len().is_multiple_of(8))
        {
            return None;
        }
        // Overlaps are an attack, not a need (RFC 5722).
        let key = (header.source, header.destination, header.protocol, fragment.id);
        if self.partial.len() >= PACKETS && !self.partial.contains_key(&key) {
            let oldest = self.partial.iter().min_by_key(|(_, p)| p.until).map(|(key, _)| *key)?;
            self.partial.remove(&oldest);
        }
        let partial = self.partial.entry(key).or_insert_with(|| Partial {
            head: None,
            data: Vec::new(),
            have: Vec::new(),
            total: None,
            until: now + PATIENCE,
        });
        if !partial.insert(fragment.offset, end) {
            self.partial.remove(&key);
            return None;
        }
        if partial.data.len() < end {
            partial.data.resize(end, 0);
        }
        partial.data[fragment.offset..end].copy_from_slice(payload);
        if fragment.offset == 0 {
            partial.head = Some(plain_head(header, ip));
        }
        if !fragment.more {
            partial.total = Some(end);
        }
        if partial.total.is_some_and(|total| partial.have == [(0, total)]) {
            return self.partial.remove(&key)?.finish();
        }
        None
    }

    /// Forgets what waited too long.
    pub fn expire(&mut self, now: Instant) {
        if !self.partial.is_empty() {
            self.partial.retain(|_, partial| partial.until > now);
        }
    }

    /// When the next packet is given up.
    pub fn due(&self) -> Option<Instant> {
        self.partial.values().map(|partial| partial.until).min()
    }
}

impl Partial {
    /// Notes a range; false when it overlaps another or passes the known end.
    fn insert(&mut self, start: usize, end: usize) -> bool {
        if self.have.contains(&(start, end)) {
            return true;
        }
        if self.have.iter().any(|(a, b)| start < *b && *a < end)
            || self.total.is_some_and(|total| end > total)
        {
            return false;
        }
        self.have.push((start, end));
        self.have.sort_unstable();
        self.have.dedup_by(|next, previous| {
            let joined = previous.1 == next.0;
            if joined {
                previous.1 = next.1;
            }
            joined
        });
        true
    }

    fn finish(self) -> Option<Vec<u8>> {
        let head = self.head?;
        let mut bytes = pool::take(HEADROOM + head.len() + self.data.len());
        bytes[HEADROOM..HEADROOM + head.len()].copy_from_slice(&head);
        bytes[HEADROOM + head.len()..].copy_from_slice(&self.data);
        let ip = &mut bytes[HEADROOM..];
        let total = ip.len();
        if ip[0] >> 4 == 4 {
            ip[2..4].copy_from_slice(&u16::try_from(total).ok()?.to_be_bytes());
            ip[6..8].fill(0);
            fill_header_checksum(ip);
        } else {
            ip[4..6].copy_from_slice(&u16::try_from(total - 40).ok()?.to_be_bytes());
        }
        Some(bytes)
    }
}

/// The header of the whole packet: that of the first fragment, without the fragment header.
fn plain_head(header: &IpHeader, ip: &[u8]) -> Vec<u8> {
    if ip[0] >> 4 == 4 {
        return ip[..header.payload].to_vec();
    }
    let mut head = ip[..40].to_vec();
    head[6] = header.protocol;
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::{
        fragment::fragments,
        packet::{Build, UDP},
    };

    fn packet(v6: bool) -> Vec<u8> {
        let (source, destination) = if v6 {
            ("fc00::1".parse().expect("literal"), "fc00::2".parse().expect("literal"))
        } else {
            ("10.0.0.1".parse().expect("literal"), "10.0.0.2".parse().expect("literal"))
        };
        let build = Build { source, destination, protocol: UDP, ttl: 64, tos: 0, id: 9 };
        let (mut bytes, at) = build.packet(5000);
        for (index, byte) in bytes[at..].iter_mut().enumerate() {
            *byte = u8::try_from(index % 251).expect("below 251");
        }
        bytes
    }

    #[test]
    fn fragments_in_any_order_make_the_packet_again() {
        for v6 in [false, true] {
            let whole = packet(v6);
            let mut pieces = fragments(&whole, 1500, 77).expect("allowed");
            assert!(pieces.len() > 3);
            pieces.rotate_left(2);
            let mut reassembly = Reassembly::default();
            let now = Instant::from_secs(1);
            let mut result = None;
            for piece in &pieces {
                assert!(piece.len() <= HEADROOM + 1500);
                let header = IpHeader::parse(&piece[HEADROOM..]).expect("well formed");
                result = result.or(reassembly.add(&header, &piece[HEADROOM..], now));
            }
            let made = result.expect("whole");
            let start = if v6 { 40 } else { 20 };
            assert_eq!(made[HEADROOM + start..], whole[HEADROOM + start..]);
            assert_eq!(reassembly.due(), None);
        }
    }

    #[test]
    fn overlapping_fragments_are_dropped() {
        let whole = packet(false);
        let pieces = fragments(&whole, 1500, 77).expect("allowed");
        let mut evil = pieces[1].clone();
        evil[HEADROOM + 7] -= 1;
        let mut reassembly = Reassembly::default();
        let now = Instant::from_secs(1);
        for piece in [&pieces[0], &evil] {
            let header = IpHeader::parse(&piece[HEADROOM..]).expect("well formed");
            assert_eq!(reassembly.add(&header, &piece[HEADROOM..], now), None);
        }
        assert_eq!(reassembly.due(), None);
    }
}
