//! The interface by which a socket sends to groups: IP_MULTICAST_IF (ip(7)), IPV6_MULTICAST_IF
//! (ipv6(7)).

use std::net::{IpAddr, Ipv4Addr};

use umvu_abi::Errno;

use super::{
    super::{inner::Inner, sockopt::Class},
    Dgram, DgramId,
};

impl Inner {
    /// setsockopt(2) of these two; None for others. Errors: `EINVAL`, `EADDRNOTAVAIL` (IPv4) and
    /// `ENODEV` (IPv6) for interfaces that are not there, `EBADF`.
    pub(crate) fn set_group_device(
        &mut self,
        id: DgramId,
        level: i32,
        name: i32,
        value: &[u8],
    ) -> Option<Result<(), Errno>> {
        let sock = self.dgrams.socks.get(id)?;
        match (level, name) {
            _ if sock.class == Class::Packet => None,
            (libc::SOL_IP, libc::IP_MULTICAST_IF) => Some(self.set_group_device_v4(id, value)),
            (libc::SOL_IPV6, libc::IPV6_MULTICAST_IF) if sock.options.is_v6() => {
                Some(self.set_group_device_v6(id, value))
            }
            _ => None,
        }
    }

    /// `struct in_addr`, `struct ip_mreq` or `struct ip_mreqn`.
    fn set_group_device_v4(&mut self, id: DgramId, value: &[u8]) -> Result<(), Errno> {
        let word = |at: usize| value.get(at..).and_then(<[u8]>::first_chunk::<4>).copied();
        let by = Ipv4Addr::from(word(if value.len() >= 8 { 4 } else { 0 }).ok_or(Errno::EINVAL)?);
        let given = word(8).map_or(0, u32::from_ne_bytes);
        let index = if given == 0 && !by.is_unspecified() {
            let link = self.link_of(IpAddr::V4(by)).and_then(|link| self.links.get(link));
            link.ok_or(Errno::EADDRNOTAVAIL)?.index
        } else if given != 0 && self.link_at(given).is_none() {
            return Err(Errno::EADDRNOTAVAIL);
        } else {
            given
        };
        let sock = self.dgrams.socks.get_mut(id).ok_or(Errno::EBADF)?;
        check_bound(sock, index)?;
        sock.group_device = index;
        // What is read back is the address.
        sock.options.set(libc::SOL_IP, libc::IP_MULTICAST_IF, &by.octets())
    }

    fn set_group_device_v6(&mut self, id: DgramId, value: &[u8]) -> Result<(), Errno> {
        let index = u32::from_ne_bytes(*value.first_chunk().ok_or(Errno::EINVAL)?);
        if index != 0 && self.link_at(index).is_none() {
            return Err(Errno::ENODEV);
        }
        let sock = self.dgrams.socks.get_mut(id).ok_or(Errno::EBADF)?;
        check_bound(sock, index)?;
        sock.options.set(libc::SOL_IPV6, libc::IPV6_MULTICAST_IF, value)
    }
}

/// A socket that is bound to an interface sends by that one.
fn check_bound(sock: &Dgram, index: u32) -> Result<(), Errno> {
    let bound = sock.options.device();
    if index != 0 && bound != 0 && bound != index { Err(Errno::EINVAL) } else { Ok(()) }
}

impl Dgram {
    /// The source and the interface for packets to `to`: those that IP_MULTICAST_IF names for groups,
    /// and IP_UNICAST_IF for others, take the place of what is open.
    pub(crate) fn by_group(
        &self,
        to: IpAddr,
        source: Option<IpAddr>,
        device: u32,
    ) -> (Option<IpAddr>, u32) {
        if !to.is_multicast() {
            let usual = || self.options.unicast_device(to.is_ipv6());
            return (source, if device == 0 { usual() } else { device });
        }
        let device = if device == 0 { self.group_device(to.is_ipv6()) } else { device };
        let named = || {
            let by = self.options.get(libc::SOL_IP, libc::IP_MULTICAST_IF).ok()?;
            let by = Ipv4Addr::from(*by.first_chunk::<4>()?);
            (to.is_ipv4() && !by.is_unspecified()).then_some(IpAddr::V4(by))
        };
        (source.or_else(named), device)
    }

    /// The interface by which it sends to groups, 0 for any.
    pub(crate) fn group_device(&self, v6: bool) -> u32 {
        if v6 {
            let index = self.options.int(libc::SOL_IPV6, libc::IPV6_MULTICAST_IF);
            return u32::try_from(index).unwrap_or(0);
        }
        self.group_device
    }
}
