//! Receive queues, bounded by SO_RCVBUF and, all of a stack together, as by udp_mem (udp(7)).

use std::net::{IpAddr, SocketAddr};

use umvu_abi::{
    SockAddr,
    net::{Datagram, DatagramMeta, PacketNote},
};

use super::{
    super::{address::scoped, inner::Inner, tcp::input::Arrival},
    DgramId,
};

/// What a queued datagram counts: as the kernel's buffer for it, which has room for the headers and
/// a record of its own, comes in powers of two while it is small, and has another record beside.
fn cost(data: usize) -> usize {
    let buffer = data + 384;
    256 + if buffer <= 8192 { buffer.next_power_of_two() } else { buffer }
}

/// What the queues of all sockets may hold.
const MOST: usize = 128 << 20;

impl Inner {
    /// What is known about a received packet; `source` and `destination` have their ports.
    pub(crate) fn datagram_meta(
        &self,
        arrival: &Arrival<'_>,
        family: u16,
        [source, destination]: [SocketAddr; 2],
    ) -> DatagramMeta {
        // What this host sends to itself comes by the interface that has the address.
        let link = match destination.ip() {
            IpAddr::V6(_) if self.is_loopback(arrival.link) => self.link_of(destination.ip()),
            _ => None,
        };
        let link = link.unwrap_or(arrival.link);
        let ifindex = self.links.get(link).map_or(0, |link| link.index);
        DatagramMeta {
            source: scoped(source, ifindex).mapped_to(family),
            destination: SockAddr::from(destination).mapped_to(family),
            ifindex,
            ttl: arrival.header.ttl,
            tos: arrival.header.tos,
        }
    }

    /// Queues a datagram for a socket; a full queue drops it.
    pub(crate) fn enqueue(&mut self, id: DgramId, data: &[u8], meta: DatagramMeta) {
        self.enqueue_noted(id, data, meta, None);
    }

    /// Queues a datagram with what is known about its frame; tells whether there was room.
    pub(crate) fn enqueue_noted(
        &mut self,
        id: DgramId,
        data: &[u8],
        meta: DatagramMeta,
        packet: Option<PacketNote>,
    ) -> bool {
        let Some(sock) = self.dgrams.socks.get_mut(id) else { return false };
        let cost = cost(data.len());
        if sock.shut_read {
            return false;
        }
        // One that finds the queue empty is always taken.
        let room = sock.queued == 0 || sock.queued + cost <= sock.options.receive_buffer();
        let full = !room || self.dgrams.queued + cost > MOST;
        if full {
            sock.drops += 1;
            return false;
        }
        sock.queued += cost;
        self.dgrams.queued += cost;
        sock.queue.push_back(Datagram { data: data.to_vec(), meta, packet });
        sock.events.changed();
        true
    }

    /// Takes a datagram off a socket's queue.
    pub(crate) fn dgram_receive(&mut self, id: DgramId) -> Option<Datagram> {
        let sock = self.dgrams.socks.get_mut(id)?;
        let datagram = sock.queue.pop_front()?;
        let cost = cost(datagram.data.len());
        sock.queued = sock.queued.saturating_sub(cost);
        self.dgrams.queued = self.dgrams.queued.saturating_sub(cost);
        Some(datagram)
    }
}
