//! What routers and hosts said of datagrams that this host sent for a guest (`IP_RECVERR` of ip(7)),
//! for the guest.

use std::{
    io::IoSliceMut,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt},
};
use socket2::Socket;

use crate::ip::icmp::Trouble;

/// An error and the datagram that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) trouble: Trouble,
    /// Who says so; None for this host.
    pub(super) from: Option<IpAddr>,
    /// What was sent.
    pub(super) data: Vec<u8>,
}

/// Bytes of the datagram that matter.
const QUOTED: usize = 512;
/// `SO_EE_ORIGIN_LOCAL`.
const LOCAL: u8 = 1;

/// Has the kernel keep errors for [`take`].
pub(super) fn keep(socket: &Socket, v4: bool) {
    // Without it there are fewer errors.
    let _ = if v4 {
        setsockopt(socket, sockopt::Ipv4RecvErr, &true)
    } else {
        setsockopt(socket, sockopt::Ipv6RecvErr, &true)
    };
}

/// Takes the next error of a socket.
pub(super) fn take(socket: &Socket) -> Option<Report> {
    let mut data = [0; QUOTED];
    let mut control = cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6, libc::sockaddr_in6);
    let mut parts = [IoSliceMut::new(&mut data)];
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags).ok()?;
    let length = message.bytes;
    let found = message.cmsgs().ok()?.find_map(|item| match item {
        ControlMessageOwned::Ipv4RecvErr(error, from) => {
            let from = from.map(|from| Ipv4Addr::from(u32::from_be(from.sin_addr.s_addr)).into());
            Some((trouble(false, &error), from, error.ee_origin))
        }
        ControlMessageOwned::Ipv6RecvErr(error, from) => {
            let from = from.map(|from| Ipv6Addr::from(from.sin6_addr.s6_addr).into());
            Some((trouble(true, &error), from, error.ee_origin))
        }
        _ => None,
    });
    let (trouble, from, origin) = found?;
    let from = from.filter(|_| origin != LOCAL);
    Some(Report { trouble, from, data: data[..length.min(QUOTED)].to_vec() })
}

fn trouble(v6: bool, error: &libc::sock_extended_err) -> Trouble {
    if error.ee_origin == LOCAL {
        let errno = Errno::from_raw(i32::try_from(error.ee_errno).unwrap_or(libc::EIO));
        return of_errno(errno, error.ee_info);
    }
    match (v6, error.ee_type, error.ee_code) {
        (false, 3, 0) | (true, 1, 0) => Trouble::NetUnreachable,
        (false, 3, 2) => Trouble::ProtocolUnreachable,
        (false, 3, 3) | (true, 1, 4) => Trouble::PortUnreachable,
        (false, 3, 4) | (true, 2, _) => Trouble::TooBig(error.ee_info),
        (false, 11, _) | (true, 3, _) => Trouble::TimeExceeded,
        _ => Trouble::HostUnreachable,
    }
}

/// What an error number of this host means for a guest; `mtu` if that is what it is about.
pub(super) fn of_errno(errno: Errno, mtu: u32) -> Trouble {
    match errno {
        Errno::ECONNREFUSED => Trouble::PortUnreachable,
        Errno::EMSGSIZE => Trouble::TooBig(mtu),
        Errno::ENETUNREACH | Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT | Errno::EINVAL => {
            Trouble::NetUnreachable
        }
        _ => Trouble::HostUnreachable,
    }
}
