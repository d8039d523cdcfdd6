//! The network of this host, as far as plugs depend on it: what changes in it ([`Changes`]), and
//! which way leads to an address ([`Way`]).
//!
//! See rtnetlink(7) and getifaddrs(3).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    ifaddrs::{InterfaceAddress, getifaddrs},
    net::if_::{InterfaceFlags, if_nametoindex},
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};
use parking_lot::Mutex;

use crate::reconnect::{Desk, Lost, Watched};

/// Interfaces, addresses and routes, as `RTMGRP_` constants say them.
const GROUPS: i32 = libc::RTMGRP_LINK
    | libc::RTMGRP_IPV4_IFADDR
    | libc::RTMGRP_IPV4_ROUTE
    | libc::RTMGRP_IPV6_IFADDR
    | libc::RTMGRP_IPV6_ROUTE;

/// A socket that polls readable when something changed.
#[derive(Debug)]
pub(crate) struct Changes(OwnedFd);

impl Changes {
    pub(crate) fn watch() -> nix::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkRoute;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS.cast_unsigned()))?;
        Ok(Self(socket))
    }

    /// Whether something changed since the last call. What it was is of no interest.
    pub(crate) fn take(&self) -> bool {
        let mut changed = false;
        loop {
            match recv(self.0.as_raw_fd(), &mut [0; 16], MsgFlags::MSG_DONTWAIT) {
                // More changed than the socket could hold.
                Ok(_) | Err(Errno::ENOBUFS) => changed = true,
                Err(Errno::EINTR) => {}
                Err(_) => return changed,
            }
        }
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The interface and the own address that lead to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    /// 0 if no interface has the address.
    interface: u32,
    source: IpAddr,
    /// Whether the interface is up and has a carrier.
    open: bool,
}

impl Way {
    /// Describes the way of a socket that has been connected. Errors: those of getifaddrs(3).
    pub(crate) fn of(local: SocketAddr) -> io::Result<Self> {
        let owner = getifaddrs()?.find(|entry| address_of(entry) == Some(local.ip()));
        let interface = owner.as_ref().and_then(|o| if_nametoindex(&*o.interface_name).ok());
        let open = owner.is_none_or(|owner| is_open(owner.flags));
        Ok(Self { interface: interface.unwrap_or(0), source: local.ip(), open })
    }

    /// Whether both lead through the same interface from the same address.
    pub(crate) fn is(&self, other: &Self) -> bool {
        (self.interface, self.source) == (other.interface, other.source)
    }
}

/// A way that is looked at whenever something changes.
#[derive(Debug)]
pub(crate) struct Road {
    changes: Watched<Changes>,
    way: Mutex<Way>,
}

impl Road {
    pub(crate) fn new(way: Way, desk: &Desk) -> nix::Result<Self> {
        let changes = Watched::new(Changes::watch()?, &desk.epoll)?;
        Ok(Self { changes, way: Mutex::new(way) })
    }

    /// Sees whether the way, which `find` finds now, is still the one it was.
    pub(crate) fn check(&self, find: impl FnOnce() -> io::Result<Way>) -> Result<(), Lost> {
        if !self.changes.take() {
            return Ok(());
        }
        let found = find().map_err(|error| Lost(format!("no way to the network: {error}")))?;
        let mut way = self.way.lock();
        if !found.is(&way) {
            return Err("another way leads to the network now".into());
        }
        *way = found;
        Ok(())
    }

    /// Whether the interface is up and has a carrier.
    pub(crate) fn is_open(&self) -> bool {
        self.way.lock().open
    }
}

/// Whether the interface `name` is up; None if there is none of that name.
pub(crate) fn is_up(name: &str) -> nix::Result<Option<bool>> {
    let found = getifaddrs()?.find(|entry| entry.interface_name == name);
    Ok(found.map(|entry| entry.flags.contains(InterfaceFlags::IFF_UP)))
}

fn is_open(flags: InterfaceFlags) -> bool {
    flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING)
}

fn address_of(entry: &InterfaceAddress) -> Option<IpAddr> {
    let address = entry.address.as_ref()?;
    let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| a.ip().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_a_way() {
        // In a new namespace it may be down, but the address is there.
        let Ok(socket) = std::net::UdpSocket::bind("127.0.0.1:0") else { return };
        let way = Way::of(socket.local_addr().expect("an address")).expect("a list");
        let other = Way { source: IpAddr::from([127, 0, 0, 2]), ..way };
        assert!(way.is(&Way { open: !way.open, ..way }) && !way.is(&other));
        assert_eq!(is_up("nosuch0"), Ok(None));
    }

    #[test]
    fn nothing_changes_by_itself() {
        let changes = Changes::watch().expect("a socket");
        // Of another namespace's changes nothing is heard; in this one there may be some.
        changes.take();
        assert!(changes.as_fd().as_raw_fd() >= 0);
    }
}
