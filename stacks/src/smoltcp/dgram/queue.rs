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

/// What a queued datagram counts, as the kernel's buffer for it (`truesize`): a record, and room for
/// the data with its headers and another record behind. Small ones have a size of their own; others
/// come in powers of two; the data of large ones lies in pages.
fn cost(meta: &DatagramMeta, data: usize) -> usize {
    let v6 = matches!(meta.source, SockAddr::Inet6(name) if name.ip().to_ipv4_mapped().is_none());
    // The headers of IP and UDP, room for a link's, and what each adds for alignment or fragments.
    let held = data + if v6 { 72 } else { 59 };
    if held <= SMALL {
        SMALLEST
    } else if held < LARGE {
        256 + (held + 320).next_power_of_two()
    } else {
        SMALLEST + data
    }
}

/// What the small buffers hold, and what one counts.
const SMALL: usize = 256;
const SMALLEST: usize = 832;
/// From which size on data lies in pages.
const LARGE: usize = 16_064;

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
        let cost = cost(&meta, data.len());
        if sock.shut_read {
            return false;
        }
        if sock.queued > 0 && sock.queued + cost > sock.options.receive_buffer() {
            let read = sock.events.reclaim().min(sock.queued);
            sock.queued -= read;
            self.dgrams.queued = self.dgrams.queued.saturating_sub(read);
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

    /// Takes a datagram off a socket's queue, for which it goes on to count; tells how much.
    pub(crate) fn dgram_lend(&mut self, id: DgramId) -> Option<(Datagram, usize)> {
        let datagram = self.dgrams.socks.get_mut(id)?.queue.pop_front()?;
        let cost = cost(&datagram.meta, datagram.data.len());
        Some((datagram, cost))
    }

    /// Takes a datagram off a socket's queue.
    pub(crate) fn dgram_receive(&mut self, id: DgramId) -> Option<Datagram> {
        let sock = self.dgrams.socks.get_mut(id)?;
        let datagram = sock.queue.pop_front()?;
        let cost = cost(&datagram.meta, datagram.data.len());
        sock.queued = sock.queued.saturating_sub(cost);
        self.dgrams.queued = self.dgrams.queued.saturating_sub(cost);
        Some(datagram)
    }
}
