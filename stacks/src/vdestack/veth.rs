//! An interface without a tap, for hosts whose `/dev/net/tun` is not for everybody: a pair of veth
//! interfaces, and a packet socket on the far one.
//!
//! The socket speaks as a tap with `IFF_VNET_HDR` does (`PACKET_VNET_HDR`, packet(7)), so the pump
//! need not know. The far interface has no addresses and answers nobody; what differs from a tap:
//! it shows in `ip link`, and the near one always has a carrier.

use std::os::fd::{AsFd, OwnedFd};

use netlink_emu::{
    Failure,
    values::{LinkChange, LinkFlags},
};
use umvu_abi::{
    Errno, SockAddr,
    module::MountError,
    net::{NetStack, SocketSpec},
    sockaddr::LinkAddr,
};

use super::helper::Helper;
use crate::{autoconf::rtnl::Rtnl, ffi::call, net::Halt};

/// `PACKET_VNET_HDR`, `PACKET_IGNORE_OUTGOING`.
const VNET_HDR: i32 = 15;
const IGNORE_OUTGOING: i32 = 23;
/// `ETH_P_ALL`.
const ALL: u16 = 3;
/// What the far interface lets through: the MTU of the near one decides.
const FAR_MTU: u32 = 65_535;

/// Makes an interface of the namespace; the descriptor is its other end.
pub(super) fn make(
    stack: &dyn NetStack,
    helper: &Helper,
    name: &str,
) -> Result<OwnedFd, MountError> {
    let failed = |failure: Failure| {
        MountError::new(failure.errno, format!("vdestack: cannot make {name}: {failure}"))
    };
    let far = far_name(name);
    let halt = Halt::new().map_err(|error| MountError::from(Errno::from_io(&error)))?;
    let mut link = Rtnl::open(stack, &halt).map_err(failed)?;
    link.add_pair(name, &far).map_err(failed)?;
    let index = link.index(&far).map_err(failed)?;
    // Without IPv6 and ARP it says nothing by itself.
    let _ = helper.write(&format!("/proc/sys/net/ipv6/conf/{far}/disable_ipv6"), b"1");
    let flags = LinkFlags::UP | LinkFlags::NOARP;
    let mtu = Some(FAR_MTU);
    let up = LinkChange { flags, flags_mask: flags, mtu, ..LinkChange::default() };
    link.set_link(index, &up).map_err(failed)?;
    attach(helper, index.0).map_err(|errno| failed(errno.into()))
}

/// A packet socket on an interface. Errors: those of socket(2), setsockopt(2) and bind(2).
fn attach(helper: &Helper, ifindex: u32) -> Result<OwnedFd, Errno> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK;
    // Protocol 0 receives nothing yet: not what other interfaces carry.
    let socket = helper.socket(&SocketSpec { domain: libc::AF_PACKET, kind, protocol: 0 })?;
    for option in [VNET_HDR, IGNORE_OUTGOING] {
        call::set_option(socket.as_fd(), libc::SOL_PACKET, option, &1i32.to_ne_bytes())?;
    }
    let address = SockAddr::Packet(LinkAddr { protocol: ALL, ifindex, ..LinkAddr::default() });
    call::bind(socket.as_fd(), &address.encode())?;
    Ok(socket)
}

/// The name of the far interface: that of the near one, marked.
fn far_name(name: &str) -> String {
    let mut end = name.len().min(super::LONGEST_NAME - 2);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-w", &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_names_fit() {
        assert_eq!(far_name("vde0"), "vde0-w");
        assert_eq!(far_name("fifteen-letters"), "fifteen-lette-w");
        assert!(far_name("ééééééé").len() <= super::super::LONGEST_NAME);
    }
}
