//! Options of datagram sockets that do more than keep a value.

use umvu_abi::{Errno, SockAddr, sockaddr::AF_INET6};

use super::{
    super::{inner::Inner, opttable::IPV6_UNICAST_IF, sockopt::Class},
    DgramId,
    groups::membership,
};

impl Inner {
    /// setsockopt(2).
    pub(crate) fn dgram_set_option(
        &mut self,
        id: DgramId,
        level: i32,
        name: i32,
        value: &[u8],
    ) -> Result<(), Errno> {
        if let Some(wish) = membership(level, name, value) {
            return self.change_membership(id, wish?);
        }
        if let Some(done) = self.set_group_device(id, level, name, value) {
            return done;
        }
        let own = match level {
            libc::SOL_SOCKET => self.filter_option(id, name, value),
            libc::SOL_PACKET => self.packet_set_option(id, name, value),
            _ => None,
        };
        if let Some(done) = own {
            return done;
        }
        let device = self.device_option(level, name, value)?;
        if matches!(
            (level, name),
            (libc::SOL_IP, libc::IP_UNICAST_IF) | (libc::SOL_IPV6, IPV6_UNICAST_IF)
        ) {
            let index = value.first_chunk().map_or(0, |index| u32::from_be_bytes(*index));
            if index != 0 && self.link_at(index).is_none() {
                return Err(Errno::EADDRNOTAVAIL);
            }
        }
        let sock = self.dgrams.socks.get_mut(id).ok_or(Errno::EBADF)?;
        if let Some(index) = device {
            sock.options.set_device(index);
        }
        if (level, name) == (libc::SOL_IPV6, libc::IPV6_V6ONLY)
            && sock.family == AF_INET6
            && (sock.bound.is_some() || sock.class == Class::Raw)
        {
            return Err(Errno::EINVAL);
        }
        sock.options.set(level, name, value)?;
        if (level, name) == (libc::SOL_UDP, libc::UDP_CORK) && !sock.options.flag(level, name) {
            self.udp_uncork(id);
        }
        let sock = self.dgrams.socks.get_mut(id).ok_or(Errno::EBADF)?;
        let sharing = sock.options.sharing(false);
        if sock.class.has_ports() {
            let (class, port) = (sock.class, sock.port());
            let _ = self.dgrams.udp_mut(class).ports.share(port, id.number(), sharing);
        }
        Ok(())
    }

    /// getsockopt(2).
    pub(crate) fn dgram_option(
        &mut self,
        id: DgramId,
        level: i32,
        name: i32,
        given: &[u8],
    ) -> Result<Vec<u8>, Errno> {
        if level == libc::SOL_PACKET
            && let Some(value) = self.packet_option(id, name, given)
        {
            return value;
        }
        let sock = self.dgrams.socks.get_mut(id).ok_or(Errno::EBADF)?;
        match (level, name) {
            (libc::SOL_SOCKET, libc::SO_ERROR) => {
                let errno = sock.error.take().map_or(0, |errno| errno.0);
                Ok(errno.to_ne_bytes().to_vec())
            }
            (libc::SOL_SOCKET, libc::SO_BINDTODEVICE) => {
                let index = sock.options.device();
                Ok(self.device_name(index))
            }
            (libc::SOL_SOCKET, libc::SO_GET_FILTER) => {
                Ok(sock.filter.as_ref().map(|filter| filter.encode()).unwrap_or_default())
            }
            (libc::SOL_IP, libc::IP_MTU) | (libc::SOL_IPV6, libc::IPV6_MTU) => {
                let peer = sock.peer.ok_or(Errno::ENOTCONN)?;
                let hop = self.route(peer.ip(), None, 0).map_err(|_| Errno::ENOTCONN)?;
                let mtu = self.links.get(hop.link).map_or(1500, |link| link.mtu);
                Ok(i32::try_from(mtu).unwrap_or(i32::MAX).to_ne_bytes().to_vec())
            }
            (libc::SOL_IPV6, libc::IPV6_PATHMTU) if sock.family == AF_INET6 => {
                // struct ip6_mtuinfo
                if given.len() < 16 {
                    return Err(Errno::EINVAL);
                }
                let peer = sock.peer.ok_or(Errno::ENOTCONN)?;
                let hop = self.route(peer.ip(), None, 0).map_err(|_| Errno::ENOTCONN)?;
                let mtu = self.links.get(hop.link).map_or(1500, |link| link.mtu);
                let mut info = SockAddr::from(peer).mapped_to(AF_INET6).encode();
                info.extend(u32::try_from(mtu).unwrap_or(u32::MAX).to_ne_bytes());
                Ok(info)
            }
            (libc::SOL_IP, libc::IP_MULTICAST_IF) => {
                let by = sock.options.get(level, name)?;
                Ok(if by.is_empty() { vec![0; 4] } else { by })
            }
            _ => sock.options.get(level, name),
        }
    }

    /// ioctl(2): what waits in the queues.
    pub(crate) fn dgram_ioctl(
        &mut self,
        id: DgramId,
        request: u32,
        argument: &mut Vec<u8>,
    ) -> Result<i32, Errno> {
        const SIOCOUTQ: u32 = 0x5411;
        const SIOCINQ: u32 = 0x541b;
        let sock = self.dgrams.socks.get(id).ok_or(Errno::EBADF)?;
        let count = match request {
            SIOCOUTQ => 0,
            SIOCINQ => sock.queue.front().map_or(0, |datagram| datagram.data.len()),
            _ => return Err(Errno::ENOTTY),
        };
        argument.clear();
        argument.extend_from_slice(&i32::try_from(count).unwrap_or(i32::MAX).to_ne_bytes());
        Ok(0)
    }
}
