//! Packet sockets: frames as they are on a link (packet(7)).

use umvu_abi::{Errno, SockAddr, net::DatagramMeta, sockaddr::LinkAddr};

use super::{
    super::{
        inner::Inner,
        link::{Kind, Link, Outgoing},
        neighbour::Mac,
        packet::HEADROOM,
        pool,
    },
    DgramId,
};

const ETH_P_ALL: u16 = 3;
/// `PACKET_HOST` and its kin.
const HOST: u8 = 0;
const BROADCAST: u8 = 1;
const MULTICAST: u8 = 2;
const OTHERHOST: u8 = 3;
const OUTGOING: u8 = 4;

/// The name of a frame's other end.
pub(crate) fn link_addr(link: &Link, protocol: u16, mac: Mac, pkttype: u8) -> LinkAddr {
    let [a, b, c, d, e, f] = mac;
    LinkAddr {
        protocol,
        ifindex: link.index,
        // ARPHRD_LOOPBACK, ARPHRD_ETHER.
        hatype: if link.kind == Kind::Loopback { 772 } else { 1 },
        pkttype,
        halen: 6,
        addr: [a, b, c, d, e, f, 0, 0],
    }
}

impl Inner {
    /// Shows a frame to the packet sockets. `sent`: it leaves.
    pub(crate) fn tap(&mut self, index: usize, frame: &[u8], sent: bool) {
        if self.dgrams.taps.is_empty() {
            return;
        }
        let (Some(link), Some(head)) = (self.links.get(index), frame.first_chunk::<14>()) else {
            return;
        };
        let protocol = u16::from_be_bytes([head[12], head[13]]);
        let source: Mac = [head[6], head[7], head[8], head[9], head[10], head[11]];
        let pkttype = match head[0] {
            _ if sent => OUTGOING,
            0xff => BROADCAST,
            first if first & 1 != 0 => MULTICAST,
            _ if head[..6] == link.mac => HOST,
            _ => OTHERHOST,
        };
        let name = SockAddr::Packet(link_addr(link, protocol, source, pkttype));
        let (ifindex, taps) = (link.index, self.dgrams.taps.clone());
        for id in taps {
            let Some(sock) = self.dgrams.socks.get(id) else { continue };
            let binding = sock.packet;
            let wanted = match binding.protocol {
                ETH_P_ALL => true,
                0 => false,
                own => own == protocol && !sent,
            };
            if !wanted || (binding.ifindex != 0 && binding.ifindex != ifindex) {
                continue;
            }
            let cooked = sock.options.int(libc::SOL_SOCKET, libc::SO_TYPE) == libc::SOCK_DGRAM;
            let data = if cooked { &frame[HEADROOM..] } else { frame };
            let meta = DatagramMeta { source: name, destination: name, ifindex, ttl: 0, tos: 0 };
            self.enqueue(id, data, meta);
        }
    }

    /// Sends a frame, or the payload of one.
    pub(crate) fn packet_send(
        &mut self,
        id: DgramId,
        data: &[u8],
        to: Option<&SockAddr>,
    ) -> Result<(), Errno> {
        let sock = self.dgrams.socks.get(id).ok_or(Errno::EBADF)?;
        let cooked = sock.options.int(libc::SOL_SOCKET, libc::SO_TYPE) == libc::SOCK_DGRAM;
        let named = match to {
            Some(SockAddr::Packet(link)) => Some(*link),
            Some(_) => return Err(Errno::EINVAL),
            None => None,
        };
        let ifindex = named.map_or(sock.packet.ifindex, |link| link.ifindex);
        let protocol = named.map(|link| link.protocol).filter(|protocol| *protocol != 0);
        let protocol = protocol.unwrap_or(sock.packet.protocol);
        let at = self.links.iter().position(|link| link.index == ifindex).ok_or(Errno::ENXIO)?;
        let link = &self.links[at];
        if !link.up {
            return Err(Errno::ENETDOWN);
        }
        if data.len() > link.mtu + if cooked { 0 } else { HEADROOM } {
            return Err(Errno::EMSGSIZE);
        }
        if cooked {
            let [a, b, c, d, e, f, ..] = named.ok_or(Errno::EDESTADDRREQ)?.addr;
            let mut bytes = pool::take(HEADROOM + data.len());
            bytes[HEADROOM..].copy_from_slice(data);
            self.send_frame(at, bytes, [a, b, c, d, e, f], None, protocol);
            return Ok(());
        }
        let head = data.first_chunk::<14>().ok_or(Errno::EINVAL)?;
        let mut bytes = pool::take(data.len());
        bytes.copy_from_slice(data);
        let to: Mac = [head[0], head[1], head[2], head[3], head[4], head[5]];
        let from: Mac = [head[6], head[7], head[8], head[9], head[10], head[11]];
        let protocol = u16::from_be_bytes([head[12], head[13]]);
        self.send_frame(at, bytes, to, Some(from), protocol);
        Ok(())
    }

    fn send_frame(
        &mut self,
        index: usize,
        bytes: Vec<u8>,
        to: Mac,
        from: Option<Mac>,
        protocol: u16,
    ) {
        let packet = Outgoing { bytes, segment: None, unsummed: false };
        if self.is_loopback(index) {
            self.looped.push_back((index, packet));
            return;
        }
        let Some(link) = self.links.get_mut(index) else { return };
        link.queue_frame(packet, to, protocol);
        if let (Some(from), Some(frame)) = (from, link.queue.last_mut()) {
            frame.bytes[6..12].copy_from_slice(&from);
        }
    }
}
