//! Multicast membership (ip(7), ipv6(7)): which groups a link takes in, and for which sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use umvu_abi::{Errno, SockAddr};

use super::{super::inner::Inner, DgramId};

/// `MCAST_JOIN_GROUP` and `MCAST_LEAVE_GROUP` of RFC 3678.
const JOIN: i32 = 42;
const LEAVE: i32 = 45;

/// What a membership option asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Membership {
    group: IpAddr,
    ifindex: u32,
    /// The address of the interface, when it is named by that.
    by: Option<Ipv4Addr>,
    joins: bool,
}

/// Reads a membership option; None when it is none.
pub(crate) fn membership(level: i32, name: i32, value: &[u8]) -> Option<Result<Membership, Errno>> {
    let joins = match (level, name) {
        (libc::SOL_IP, libc::IP_ADD_MEMBERSHIP | JOIN)
        | (libc::SOL_IPV6, libc::IPV6_ADD_MEMBERSHIP | JOIN) => true,
        (libc::SOL_IP, libc::IP_DROP_MEMBERSHIP | LEAVE)
        | (libc::SOL_IPV6, libc::IPV6_DROP_MEMBERSHIP | LEAVE) => false,
        _ => return None,
    };
    Some(parse(level, name, value, joins).ok_or(Errno::EINVAL))
}

fn parse(level: i32, name: i32, value: &[u8], joins: bool) -> Option<Membership> {
    let word = |at: usize| Some(u32::from_ne_bytes(*value.get(at..)?.first_chunk()?));
    let v4 = |at: usize| Some(Ipv4Addr::from(*value.get(at..)?.first_chunk::<4>()?));
    if name == JOIN || name == LEAVE {
        let group = SockAddr::decode(value.get(8..)?).ok()?.ip()?.ip();
        return Some(Membership { group, ifindex: word(0)?, by: None, joins });
    }
    if level == libc::SOL_IPV6 {
        let group = Ipv6Addr::from(*value.first_chunk::<16>()?);
        return Some(Membership { group: group.into(), ifindex: word(16)?, by: None, joins });
    }
    let by = Some(v4(4)?).filter(|ip| !ip.is_unspecified());
    Some(Membership { group: v4(0)?.into(), ifindex: word(8).unwrap_or(0), by, joins })
}

impl Inner {
    /// Joins or leaves a group.
    pub(crate) fn change_membership(&mut self, id: DgramId, wish: Membership) -> Result<(), Errno> {
        if !wish.group.is_multicast() {
            return Err(Errno::EINVAL);
        }
        let link = self.membership_link(&wish)?;
        let key = (wish.group, link);
        let sock = self.dgrams.socks.get_mut(id).ok_or(Errno::EBADF)?;
        let joined = sock.groups.contains(&key);
        if wish.joins {
            if joined {
                return Err(Errno::EADDRINUSE);
            }
            sock.groups.push(key);
            *self.dgrams.groups.entry((link, wish.group)).or_default() += 1;
        } else {
            if !joined {
                return Err(Errno::EADDRNOTAVAIL);
            }
            sock.groups.retain(|other| *other != key);
            self.leave_group(link, wish.group);
        }
        Ok(())
    }

    fn membership_link(&self, wish: &Membership) -> Result<usize, Errno> {
        if wish.ifindex != 0 {
            return self
                .links
                .iter()
                .position(|link| link.index == wish.ifindex)
                .ok_or(Errno::ENODEV);
        }
        if let Some(by) = wish.by {
            return self.link_of(by.into()).ok_or(Errno::ENODEV);
        }
        self.route(wish.group, None, 0).map(|hop| hop.link).map_err(|_| Errno::ENODEV)
    }

    /// One socket less listens to a group.
    pub(crate) fn leave_group(&mut self, link: usize, group: IpAddr) {
        if let Some(count) = self.dgrams.groups.get_mut(&(link, group)) {
            *count -= 1;
            if *count == 0 {
                self.dgrams.groups.remove(&(link, group));
            }
        }
    }

    /// Whether a socket gets what is sent to a group: it joined it there, or it takes what any
    /// socket of the host joined (IP_MULTICAST_ALL).
    pub(crate) fn hears_group(&self, id: DgramId, group: IpAddr, link: usize) -> bool {
        let Some(sock) = self.dgrams.socks.get(id) else { return false };
        let all = if group.is_ipv4() {
            sock.options.flag(libc::SOL_IP, libc::IP_MULTICAST_ALL)
        } else {
            sock.options.flag(libc::SOL_IPV6, 29)
        };
        all || sock.groups.contains(&(group, link))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_forms_are_read() {
        let group: IpAddr = [239, 1, 2, 3].into();
        let mreq = [239, 1, 2, 3, 10, 0, 0, 1];
        let wish = membership(libc::SOL_IP, libc::IP_ADD_MEMBERSHIP, &mreq).expect("is one");
        let by = Some(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(wish, Ok(Membership { group, ifindex: 0, by, joins: true }));
        let mut request = vec![0u8; 8];
        request[..4].copy_from_slice(&3u32.to_ne_bytes());
        request.extend(SockAddr::from((group, 0)).encode());
        let wish = membership(libc::SOL_IP, LEAVE, &request).expect("is one");
        assert_eq!(wish, Ok(Membership { group, ifindex: 3, by: None, joins: false }));
        assert_eq!(membership(libc::SOL_IP, libc::IP_TTL, &mreq), None);
        let short = membership(libc::SOL_IPV6, libc::IPV6_ADD_MEMBERSHIP, &mreq);
        assert_eq!(short, Some(Err(Errno::EINVAL)));
    }
}
