//! How a socket's packets travel: with the hops that the guest has left them, and whole if the guest
//! wants them whole (`IP_MTU_DISCOVER` of ip(7)).
#![expect(unsafe_code, reason = "options that have no safe wrapper")]

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use socket2::Socket;

use super::nat::Arrival;

/// What Linux gives a packet.
const HOPS: u8 = 64;

/// How the packets of a socket travel at present.
#[derive(Debug)]
pub(super) struct Pace {
    v4: bool,
    hops: u8,
    whole: bool,
}

impl Pace {
    pub(super) fn new(v4: bool) -> Self {
        Self { v4, hops: HOPS, whole: false }
    }

    /// Has the packets of a socket travel as one of a guest would from here. What came in fragments,
    /// and was put together, may be cut up again.
    pub(super) fn follow(&mut self, socket: &Socket, arrival: &Arrival<'_>, mtu: usize) {
        let hops = arrival.header.ttl.saturating_sub(1).max(1);
        // The whole range from an untouched counter on: the host's own default serves as well.
        let hops = if hops >= HOPS - 1 { HOPS } else { hops };
        let (level, [option, discover]) = self.names();
        if hops != self.hops && set(socket, level, option, i32::from(hops)).is_ok() {
            self.hops = hops;
        }
        let whole = arrival.header.dont_fragment && arrival.ip.len() <= mtu;
        let how = if whole { libc::IP_PMTUDISC_DO } else { libc::IP_PMTUDISC_WANT };
        if whole != self.whole && set(socket, level, discover, how).is_ok() {
            self.whole = whole;
        }
    }

    fn names(&self) -> (i32, [i32; 2]) {
        if self.v4 {
            (libc::IPPROTO_IP, [libc::IP_TTL, libc::IP_MTU_DISCOVER])
        } else {
            (libc::IPPROTO_IPV6, [libc::IPV6_UNICAST_HOPS, libc::IPV6_MTU_DISCOVER])
        }
    }

    /// The longest packet that the path of a connected socket takes.
    pub(super) fn path_mtu(&self, socket: &Socket) -> u32 {
        let (level, option) = if self.v4 {
            (libc::IPPROTO_IP, libc::IP_MTU)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_MTU)
        };
        get(socket, level, option).ok().and_then(|mtu| u32::try_from(mtu).ok()).unwrap_or(1280)
    }
}

fn set(socket: &Socket, level: i32, option: i32, value: i32) -> nix::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(4);
    // SAFETY: the value is a local of the length that is given.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length)
    };
    Errno::result(done).map(drop)
}

fn get(socket: &Socket, level: i32, option: i32) -> nix::Result<i32> {
    let mut value = 0_i32;
    let mut length = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(4);
    // SAFETY: both are locals, and the length is that of the value.
    let done = unsafe {
        let value = (&raw mut value).cast();
        libc::getsockopt(socket.as_raw_fd(), level, option, value, &raw mut length)
    };
    Errno::result(done).map(|_| value)
}
