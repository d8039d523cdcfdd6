//! Identifications of IPv4 packets (RFC 791, 2.3; RFC 6864).
//!
//! They are counted, as Linux counts them: by random ones a fragment that was lost would soon be
//! completed by one of another packet. Pairs of hosts share counters by chance, which tells nobody
//! much of the traffic with others.

use std::hash::BuildHasher;

use super::{hash::Seeded, packet::Build};

/// How many counters there are.
const COUNTERS: usize = 1024;

/// The counters.
#[derive(Debug)]
pub(crate) struct Idents {
    by: Seeded,
    next: Vec<u16>,
}

impl Default for Idents {
    fn default() -> Self {
        Self { by: Seeded::default(), next: vec![0; COUNTERS] }
    }
}

impl Idents {
    /// The next one for a packet from its source to its destination; 0 for IPv6, which has none.
    pub(crate) fn next(&mut self, packet: &Build) -> u16 {
        if packet.source.is_ipv6() {
            return 0;
        }
        let hash = self.by.hash_one((packet.source, packet.destination, packet.protocol));
        // The first number of a pair is not always the same one.
        let [a, b, c, d, ..] = hash.to_le_bytes();
        let counter = &mut self.next[usize::from(u16::from_le_bytes([a, b])) % COUNTERS];
        *counter = counter.wrapping_add(1);
        counter.wrapping_add(u16::from_le_bytes([c, d]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_between_two_hosts_are_counted() {
        let mut idents = Idents::default();
        let mut build = Build {
            source: [10, 0, 0, 1].into(),
            destination: [10, 0, 0, 2].into(),
            protocol: 17,
            ttl: 64,
            tos: 0,
            id: 0,
        };
        let first = idents.next(&build);
        for number in 1..200_000_u32 {
            let expected = u32::from(first).wrapping_add(number) & 0xffff;
            assert_eq!(u32::from(idents.next(&build)), expected);
        }
        (build.source, build.destination) = ([0; 16].into(), [0; 16].into());
        assert_eq!(idents.next(&build), 0);
    }
}
