//! Receive queues, bounded by SO_RCVBUF.

use umvu_abi::net::{Datagram, DatagramMeta};

use super::{super::inner::Inner, DgramId};

/// What a queued datagram counts beside its bytes, roughly as a kernel's buffer does.
const OVERHEAD: usize = 512;

impl Inner {
    /// Queues a datagram for a socket; a full queue drops it.
    pub(crate) fn enqueue(&mut self, id: DgramId, data: &[u8], meta: DatagramMeta) {
        let Some(sock) = self.dgrams.socks.get_mut(id) else { return };
        let cost = data.len() + OVERHEAD;
        if sock.shut_read {
            return;
        }
        if sock.queued + cost > sock.options.receive_buffer() {
            sock.drops += 1;
            return;
        }
        sock.queued += cost;
        sock.queue.push_back(Datagram { data: data.to_vec(), meta });
        sock.events.changed();
    }

    /// Takes a datagram off a socket's queue.
    pub(crate) fn dgram_receive(&mut self, id: DgramId) -> Option<Datagram> {
        let sock = self.dgrams.socks.get_mut(id)?;
        let datagram = sock.queue.pop_front()?;
        sock.queued = sock.queued.saturating_sub(datagram.data.len() + OVERHEAD);
        Some(datagram)
    }
}
