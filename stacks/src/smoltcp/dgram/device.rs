//! What sockets see of an interface that is removed.

use umvu_abi::Errno;

use super::super::inner::Inner;

impl Inner {
    /// The interface `index` went down: packet sockets that are bound to it learn of it.
    pub(crate) fn device_down(&mut self, index: u32) {
        self.tell_packet_sockets(index, index);
    }

    /// The interface `index`, at the place `link`, is gone: memberships end there, and packet
    /// sockets that are bound to it learn of it (packet(7): `ENETDOWN`, then `ENXIO`).
    pub(crate) fn device_gone(&mut self, index: u32, link: usize) {
        self.dgrams.groups.retain(|(at, _), _| *at != link);
        for id in self.dgrams.socks.ids() {
            if let Some(sock) = self.dgrams.socks.get_mut(id) {
                sock.groups.retain(|member| member.link() != link);
                sock.capture.leave(index);
            }
        }
        self.tell_packet_sockets(index, GONE);
    }

    fn tell_packet_sockets(&mut self, bound: u32, now: u32) {
        for id in self.dgrams.taps.clone() {
            let Some(sock) = self.dgrams.socks.get_mut(id) else { continue };
            if sock.packet.ifindex == bound {
                sock.packet.ifindex = now;
                sock.error = Some(Errno::ENETDOWN);
                sock.events.changed();
            }
        }
    }
}

/// The index of no interface: what a packet socket is bound to whose interface is gone.
const GONE: u32 = u32::MAX;
