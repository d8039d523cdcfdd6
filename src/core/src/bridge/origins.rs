//! Where the datagrams in a guest's queue came from, when one end sends them all.
//!
//! A packet socket is paired with its end from birth, so the sender's name says nothing. What has
//! been sent is noted here; a datagram that a trapped call receives is found again by its length and
//! its beginning. Those before it have been taken by native calls.

use std::collections::VecDeque;

use umvu_abi::net::{Datagram, DatagramMeta, PacketNote};

/// More than a guest's queue holds (`net.unix.max_dgram_qlen`).
const KEPT: usize = 1024;
/// How much of each datagram is compared.
const HEAD: usize = 48;

/// What is known about a received datagram.
pub(crate) type Origin = (DatagramMeta, Option<PacketNote>);

/// A received datagram, as it is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    /// Its bytes, as many as the guest's buffers hold.
    pub(super) data: &'a [u8],
    /// How many it had.
    pub(super) length: usize,
    /// Whether it stays in the queue (`MSG_PEEK`).
    pub(super) stays: bool,
}

#[derive(Debug)]
struct Sent {
    length: usize,
    head: [u8; HEAD],
    origin: Origin,
}

impl Sent {
    fn is(&self, received: &Received<'_>) -> bool {
        let common = received.data.len().min(self.length).min(HEAD);
        self.length == received.length && self.head[..common] == received.data[..common]
    }
}

/// The origins of what has been sent to a guest, oldest first.
#[derive(Debug, Default)]
pub(super) struct Origins {
    sent: VecDeque<Sent>,
}

impl Origins {
    /// Notes a datagram that is about to be sent.
    pub(super) fn note(&mut self, datagram: &Datagram) {
        let mut head = [0; HEAD];
        head.iter_mut().zip(&datagram.data).for_each(|(room, byte)| *room = *byte);
        if self.sent.len() >= KEPT {
            self.sent.pop_front();
        }
        let origin = (datagram.meta, datagram.packet);
        self.sent.push_back(Sent { length: datagram.data.len(), head, origin });
    }

    /// The datagram could not be sent.
    pub(super) fn take_back(&mut self) {
        self.sent.pop_back();
    }

    /// Finds a datagram that has been received, and forgets those before it.
    pub(super) fn find(&mut self, received: &Received<'_>) -> Option<Origin> {
        let at = self.sent.iter().position(|sent| sent.is(received))?;
        self.sent.drain(..at);
        let origin = self.sent.front()?.origin;
        if !received.stays {
            self.sent.pop_front();
        }
        Some(origin)
    }
}

#[cfg(test)]
mod tests {
    use umvu_abi::SockAddr;

    use super::*;

    fn datagram(data: &[u8], ifindex: u32) -> Datagram {
        let (source, destination) = (SockAddr::Unspec, SockAddr::Unspec);
        let meta = DatagramMeta { source, destination, ifindex, ttl: 0, tos: 0 };
        Datagram { data: data.to_vec(), meta, packet: None }
    }

    #[test]
    fn each_datagram_has_its_own_origin_and_native_calls_may_take_some() {
        let mut origins = Origins::default();
        for (data, ifindex) in [(&b"one"[..], 1), (b"two", 2), (b"two", 3), (b"four!", 4)] {
            origins.note(&datagram(data, ifindex));
        }
        let mut find = |data: &[u8], length, stays| {
            let found = origins.find(&Received { data, length, stays });
            found.map(|(meta, _)| meta.ifindex)
        };
        assert_eq!(find(b"two", 3, true), Some(2));
        assert_eq!(find(b"two", 3, false), Some(2));
        assert_eq!(find(b"t", 3, false), Some(3));
        assert_eq!(find(b"one", 3, false), None);
        assert_eq!(find(b"", 5, false), Some(4));
        assert_eq!(find(b"four!", 5, false), None);
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten() {
        let mut origins = Origins::default();
        (0..5000).for_each(|number| origins.note(&datagram(b"x", number)));
        assert_eq!(origins.sent.len(), KEPT);
    }
}
