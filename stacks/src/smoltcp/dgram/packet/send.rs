//! Frames that packet sockets send.

use umvu_abi::{
    Errno, IfIndex, SockAddr,
    sockaddr::{DeviceAddr, LinkAddr},
};

use super::{
    super::{
        super::{
            inner::Inner,
            link::{Outgoing, ethertype},
            neighbour::Mac,
            packet::HEADROOM,
            pool,
        },
        DgramId,
    },
    tap::{Sight, Way},
};

impl Inner {
    /// Sends a frame, or the payload of one. Errors: `ENXIO`, `ENETDOWN`, `EMSGSIZE`, `EINVAL`.
    pub(crate) fn packet_send(
        &mut self,
        id: DgramId,
        data: &[u8],
        to: Option<&SockAddr>,
    ) -> Result<(), Errno> {
        let sock = self.dgrams.socks.get(id).ok_or(Errno::EBADF)?;
        let cooked = sock.is_cooked();
        let named = match to {
            Some(SockAddr::Packet(link)) => Some(*link),
            Some(SockAddr::Device(device)) => {
                let ifindex = self.device_named(device)?;
                let protocol = device.protocol.unwrap_or(0);
                Some(LinkAddr { ifindex, protocol, ..LinkAddr::default() })
            }
            // It must be given an address with each frame.
            None if sock.names_devices() => return Err(Errno::ENOTCONN),
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
        // A tag may come on top of the header.
        let bare = link.kind == super::Kind::Tunnel;
        let tagged = data.get(12..14) == Some(&[0x81, 0]);
        let header = if cooked || bare { 0 } else { HEADROOM + if tagged { 4 } else { 0 } };
        if data.len() > link.mtu + header {
            return Err(Errno::EMSGSIZE);
        }
        if bare {
            let protocol = if cooked { protocol } else { ethertype(data) };
            let mut bytes = pool::take(HEADROOM + data.len());
            bytes[HEADROOM..].copy_from_slice(data);
            self.send_frame(id, at, bytes, Mac::default(), None, protocol);
            return Ok(());
        }
        if cooked {
            let [a, b, c, d, e, f, ..] = named.ok_or(Errno::EDESTADDRREQ)?.addr;
            let mut bytes = pool::take(HEADROOM + data.len());
            bytes[HEADROOM..].copy_from_slice(data);
            self.send_frame(id, at, bytes, [a, b, c, d, e, f], None, protocol);
            return Ok(());
        }
        let head = data.first_chunk::<14>().ok_or(Errno::EINVAL)?;
        let mut bytes = pool::take(data.len());
        bytes.copy_from_slice(data);
        let to: Mac = [head[0], head[1], head[2], head[3], head[4], head[5]];
        let from: Mac = [head[6], head[7], head[8], head[9], head[10], head[11]];
        let protocol = u16::from_be_bytes([head[12], head[13]]);
        self.send_frame(id, at, bytes, to, Some(from), protocol);
        Ok(())
    }

    /// The interface that an address names. Errors: `ENODEV`.
    pub(crate) fn device_named(&self, device: &DeviceAddr) -> Result<u32, Errno> {
        let name = str::from_utf8(device.name()).map_err(|_| Errno::ENODEV)?;
        let found = self.net.config.link_named(name).ok_or(Errno::ENODEV)?;
        Ok(found.index.0)
    }

    /// The address that names an interface, whose name may have gone.
    pub(crate) fn device_addr(&self, ifindex: u32, family: u16) -> DeviceAddr {
        let link = self.net.config.link(IfIndex(ifindex));
        let name = link.map_or(&b""[..], |link| link.name.as_bytes());
        let mut device = DeviceAddr { family, ..DeviceAddr::default() };
        // One byte is left for the zero.
        device.name[..13].iter_mut().zip(name).for_each(|(room, byte)| *room = *byte);
        device
    }

    fn send_frame(
        &mut self,
        id: DgramId,
        index: usize,
        bytes: Vec<u8>,
        to: Mac,
        from: Option<Mac>,
        protocol: u16,
    ) {
        let mut packet = Outgoing { bytes, segment: None, unsummed: false };
        let Some(link) = self.links.get_mut(index) else { return };
        if link.kind == super::Kind::Loopback {
            let from = from.unwrap_or(link.mac);
            super::super::super::link::write_ethernet(&mut packet.bytes, to, from, protocol);
            let sight = Sight { frame: &packet.bytes, way: Way::Out(Some(id)), unsummed: false };
            self.tap(index, &sight);
            if matches!(protocol, 0x0800 | 0x86dd) {
                self.looped.push_back((index, packet));
            } else {
                self.tap(index, &Sight { way: Way::In, ..sight });
            }
            return;
        }
        let before = link.queue.len();
        link.queue_frame(packet, to, protocol);
        if link.queue.len() == before {
            return;
        }
        if let (Some(from), Some(frame)) = (from, link.queue.last_mut()) {
            frame.bytes[6..12].copy_from_slice(&from);
        }
        self.dgrams.sent.push((index, before, id));
    }
}
