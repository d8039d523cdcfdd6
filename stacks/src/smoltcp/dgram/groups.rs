//! Multicast membership (ip(7), ipv6(7)): which groups a link takes in, and for which sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use umvu_abi::{Errno, SockAddr};

use super::{super::inner::Inner, DgramId};

/// The options of RFC 3678 that name a group, and a source too.
const MCAST_JOIN_GROUP: i32 = 42;
const MCAST_BLOCK_SOURCE: i32 = 43;
const MCAST_UNBLOCK_SOURCE: i32 = 44;
const MCAST_LEAVE_GROUP: i32 = 45;
const MCAST_JOIN_SOURCE_GROUP: i32 = 46;
const MCAST_LEAVE_SOURCE_GROUP: i32 = 47;
/// `struct sockaddr_storage`, and what stands before the first one in `struct group_req`.
const STORAGE: usize = 128;
const REQUEST: usize = 8;
/// `IPV6_MULTICAST_ALL` (ipv6(7)).
const IPV6_MULTICAST_ALL: i32 = 29;
/// How many sources a socket may name for a group (`igmp_max_msf`, `mld_max_msf`).
const SOURCES_V4: usize = 10;
const SOURCES_V6: usize = 64;

/// What is to become of a membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Join,
    Leave,
    /// Add a source to the filter, or take it away: one to hear, or one not to hear.
    Source {
        adds: bool,
        mode: Mode,
        source: IpAddr,
    },
}

/// What a membership option asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Membership {
    group: IpAddr,
    ifindex: u32,
    /// The address of the interface, when it is named by that.
    by: Option<Ipv4Addr>,
    wish: Wish,
}

/// Which sources the list of a filter names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Those that are heard.
    Include,
    /// Those that are not.
    Exclude,
}

/// A group that a socket has joined.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    group: IpAddr,
    /// On which link.
    link: usize,
    /// The address by which the link was named.
    by: Option<Ipv4Addr>,
    mode: Mode,
    /// None when no source was ever named.
    sources: Option<Vec<IpAddr>>,
}

impl Member {
    /// On which link it is.
    pub(crate) fn link(&self) -> usize {
        self.link
    }

    /// The group.
    pub(crate) fn group(&self) -> IpAddr {
        self.group
    }

    fn hears(&self, source: IpAddr) -> bool {
        let named = self.sources.as_ref().is_some_and(|sources| sources.contains(&source));
        named == (self.mode == Mode::Include)
    }
}

/// Reads a membership option; None when it is none.
pub(crate) fn membership(level: i32, name: i32, value: &[u8]) -> Option<Result<Membership, Errno>> {
    let v6 = match level {
        libc::SOL_IP => false,
        libc::SOL_IPV6 => true,
        _ => return None,
    };
    let is_one = match name {
        MCAST_JOIN_GROUP..=MCAST_LEAVE_SOURCE_GROUP => true,
        _ if v6 => [libc::IPV6_ADD_MEMBERSHIP, libc::IPV6_DROP_MEMBERSHIP].contains(&name),
        _ => (libc::IP_ADD_MEMBERSHIP..=libc::IP_DROP_SOURCE_MEMBERSHIP).contains(&name),
    };
    is_one.then(|| parse(v6, name, value).ok_or(Errno::EINVAL))
}

fn parse(v6: bool, name: i32, value: &[u8]) -> Option<Membership> {
    let word = |at: usize| Some(u32::from_ne_bytes(*value.get(at..)?.first_chunk()?));
    let v4 = |at: usize| Some(Ipv4Addr::from(*value.get(at..)?.first_chunk::<4>()?));
    let (adds, mode) = match name {
        MCAST_BLOCK_SOURCE => (true, Mode::Exclude),
        MCAST_UNBLOCK_SOURCE => (false, Mode::Exclude),
        MCAST_JOIN_SOURCE_GROUP => (true, Mode::Include),
        MCAST_LEAVE_SOURCE_GROUP => (false, Mode::Include),
        libc::IP_BLOCK_SOURCE if !v6 => (true, Mode::Exclude),
        libc::IP_UNBLOCK_SOURCE if !v6 => (false, Mode::Exclude),
        libc::IP_ADD_SOURCE_MEMBERSHIP if !v6 => (true, Mode::Include),
        _ => (false, Mode::Include),
    };
    let source = |source| Wish::Source { adds, mode, source };
    if name >= MCAST_JOIN_GROUP {
        let address = |at: usize| Some(SockAddr::decode(value.get(at..)?).ok()?.ip()?.ip());
        value.get(..REQUEST + STORAGE)?;
        let wish = match name {
            MCAST_JOIN_GROUP => Wish::Join,
            MCAST_LEAVE_GROUP => Wish::Leave,
            _ => source(address(REQUEST + STORAGE)?),
        };
        return Some(Membership { group: address(REQUEST)?, ifindex: word(0)?, by: None, wish });
    }
    if v6 {
        let group = Ipv6Addr::from(*value.first_chunk::<16>()?);
        let joins = name == libc::IPV6_ADD_MEMBERSHIP;
        let wish = if joins { Wish::Join } else { Wish::Leave };
        return Some(Membership { group: group.into(), ifindex: word(16)?, by: None, wish });
    }
    let by = Some(v4(4)?).filter(|ip| !ip.is_unspecified());
    let group = v4(0)?.into();
    let (ifindex, wish) = match name {
        libc::IP_ADD_MEMBERSHIP => (word(8).unwrap_or(0), Wish::Join),
        libc::IP_DROP_MEMBERSHIP => (word(8).unwrap_or(0), Wish::Leave),
        // struct ip_mreq_source
        _ => (0, source(v4(8)?.into())),
    };
    Some(Membership { group, ifindex, by, wish })
}

impl Inner {
    /// Joins or leaves a group, or changes which sources of it are heard. Errors: `EINVAL`,
    /// `ENODEV`, `EADDRINUSE`, `EADDRNOTAVAIL`, `ENOBUFS`.
    pub(crate) fn change_membership(
        &mut self,
        id: DgramId,
        asked: Membership,
    ) -> Result<(), Errno> {
        if !asked.group.is_multicast() {
            let leaves = asked.wish == Wish::Leave && asked.group.is_ipv6();
            return Err(if leaves { Errno::EADDRNOTAVAIL } else { Errno::EINVAL });
        }
        match asked.wish {
            Wish::Join => self.join(id, &asked, Mode::Exclude),
            Wish::Leave => self.leave(id, &asked),
            Wish::Source { adds, mode, source } => {
                if adds && mode == Mode::Include {
                    match self.join(id, &asked, mode) {
                        Ok(()) | Err(Errno::EADDRINUSE) => {}
                        Err(errno) => return Err(errno),
                    }
                }
                self.change_source(id, &asked, (adds, mode, source))
            }
        }
    }

    fn join(&mut self, id: DgramId, asked: &Membership, mode: Mode) -> Result<(), Errno> {
        let link = self.membership_link(asked)?;
        let sock = self.dgrams.socks.get_mut(id).ok_or(Errno::EBADF)?;
        if sock.groups.iter().any(|one| (one.group, one.link) == (asked.group, link)) {
            return Err(Errno::EADDRINUSE);
        }
        let (group, by) = (asked.group, asked.by);
        sock.groups.push(Member { group, link, by, mode, sources: None });
        *self.dgrams.groups.entry((link, group)).or_default() += 1;
        Ok(())
    }

    fn leave(&mut self, id: DgramId, asked: &Membership) -> Result<(), Errno> {
        let unnamed = asked.ifindex == 0 && asked.by.is_none();
        let link = match self.membership_link(asked) {
            Err(errno) if unnamed && asked.group.is_ipv4() => return Err(errno),
            _ if unnamed && asked.group.is_ipv6() => None,
            found => found.ok(),
        };
        let is_meant = |one: &Member| {
            one.group == asked.group
                && match link {
                    Some(link) => one.link == link,
                    // The address is nobody's any more.
                    None => unnamed || asked.by.is_some() && one.by == asked.by,
                }
        };
        let sock = self.dgrams.socks.get_mut(id).ok_or(Errno::EBADF)?;
        let at = sock.groups.iter().position(is_meant).ok_or(Errno::EADDRNOTAVAIL)?;
        let gone = sock.groups.remove(at);
        self.leave_group(gone.link, gone.group);
        Ok(())
    }

    /// Changes the filter of a membership as `ip_mc_source` of Linux does.
    fn change_source(
        &mut self,
        id: DgramId,
        asked: &Membership,
        (adds, mode, source): (bool, Mode, IpAddr),
    ) -> Result<(), Errno> {
        let link = self.membership_link(asked)?;
        let sock = self.dgrams.socks.get_mut(id).ok_or(Errno::EBADF)?;
        let is_meant = |one: &Member| (one.group, one.link) == (asked.group, link);
        let at = sock.groups.iter().position(is_meant).ok_or(Errno::EINVAL)?;
        let member = &mut sock.groups[at];
        match member.sources {
            Some(_) if member.mode != mode => return Err(Errno::EINVAL),
            _ => member.mode = mode,
        }
        if !adds {
            let sources = member.sources.as_mut().ok_or(Errno::EADDRNOTAVAIL)?;
            let found = sources.iter().position(|one| *one == source);
            let found = found.ok_or(Errno::EADDRNOTAVAIL)?;
            // To hear nobody is not to be in the group.
            if sources.len() == 1 && mode == Mode::Include {
                let gone = sock.groups.remove(at);
                self.leave_group(gone.link, gone.group);
            } else {
                sources.remove(found);
            }
            return Ok(());
        }
        let sources = member.sources.get_or_insert_default();
        let most = if source.is_ipv6() { SOURCES_V6 } else { SOURCES_V4 };
        if sources.len() >= most {
            return Err(Errno::ENOBUFS);
        }
        if sources.contains(&source) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        sources.push(source);
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

    /// Whether a socket gets what a source sends to a group: it joined it there and does not leave
    /// that source out, or it takes what any socket of the host joined (IP_MULTICAST_ALL).
    pub(crate) fn hears_group(
        &self,
        id: DgramId,
        [source, group]: [IpAddr; 2],
        link: usize,
    ) -> bool {
        let Some(sock) = self.dgrams.socks.get(id) else { return false };
        if let Some(member) = sock.groups.iter().find(|one| (one.group, one.link) == (group, link))
        {
            return member.hears(source);
        }
        if group.is_ipv4() {
            sock.options.flag(libc::SOL_IP, libc::IP_MULTICAST_ALL)
        } else {
            sock.options.flag(libc::SOL_IPV6, IPV6_MULTICAST_ALL)
        }
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
        assert_eq!(wish, Ok(Membership { group, ifindex: 0, by, wish: Wish::Join }));
        let mut request = vec![0u8; 8];
        request[..4].copy_from_slice(&3u32.to_ne_bytes());
        request.extend(SockAddr::from((group, 0)).encode());
        request.resize(REQUEST + STORAGE, 0);
        let wish = membership(libc::SOL_IP, MCAST_LEAVE_GROUP, &request).expect("is one");
        assert_eq!(wish, Ok(Membership { group, ifindex: 3, by: None, wish: Wish::Leave }));
        assert_eq!(membership(libc::SOL_IP, libc::IP_TTL, &mreq), None);
        let short = membership(libc::SOL_IPV6, libc::IPV6_ADD_MEMBERSHIP, &mreq);
        assert_eq!(short, Some(Err(Errno::EINVAL)));
    }
}
