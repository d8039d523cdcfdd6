//! The interface requests of netdevice(7), on a socket of the namespace that they are about.
#![expect(unsafe_code, reason = "ioctl(2) with structures that nix does not wrap")]

use std::{
    ffi::c_ulong,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, BorrowedFd},
};

use umvu_abi::Errno;

/// `AF_INET` and `IFF_UP` in the types of the structures.
const FAMILY: libc::sa_family_t = 2;
const UP: libc::c_short = 1;

/// `struct in6_ifreq` (linux/ipv6.h).
#[repr(C)]
struct In6Ifreq {
    addr: [u8; 16],
    prefix: u32,
    index: i32,
}

/// `struct in6_rtmsg` (linux/ipv6_route.h).
#[repr(C)]
#[derive(Default)]
struct In6Rtmsg {
    destination: [u8; 16],
    source: [u8; 16],
    gateway: [u8; 16],
    kind: u32,
    destination_len: u16,
    source_len: u16,
    metric: u32,
    info: c_ulong,
    flags: u32,
    index: i32,
}

fn request<T>(socket: BorrowedFd<'_>, number: c_ulong, argument: &mut T) -> Result<(), Errno> {
    // SAFETY: every caller passes memory as large as the structure that the request is defined
    // with, exclusively borrowed for the call; pointers in it lead to memory that outlives it.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), number, std::ptr::from_mut(argument)) };
    if done < 0 { Err(io::Error::last_os_error().into()) } else { Ok(()) }
}

/// The first and the last request with a `struct ifreq`, and those whose union is a pointer.
const FIRST: u32 = 0x8910;
const LAST: u32 = 0x89ef;
const SIOCGIFCONF: u32 = 0x8912;
const SIOCETHTOOL: u32 = 0x8946;

/// Serves the request of a guest on a socket of the kernel, as [`NetStack::interface_ioctl`] does.
/// Errors: `ENOTTY` for requests without a `struct ifreq`, `EOPNOTSUPP` for those that lead to more
/// memory, and the kernel's.
///
/// [`NetStack::interface_ioctl`]: umvu_abi::net::NetStack::interface_ioctl
pub(crate) fn serve(
    socket: BorrowedFd<'_>,
    number: u32,
    argument: &mut Vec<u8>,
) -> Result<i32, Errno> {
    match number {
        SIOCGIFCONF => return list(socket, argument),
        SIOCETHTOOL => return Err(Errno::EOPNOTSUPP),
        FIRST..=LAST => {}
        _ => return Err(Errno::ENOTTY),
    }
    let whole = argument.first_chunk_mut::<{ size_of::<libc::ifreq>() }>().ok_or(Errno::EINVAL)?;
    request(socket, c_ulong::from(number), whole).map(|()| 0)
}

/// SIOCGIFCONF: as many entries as there is room for.
fn list(socket: BorrowedFd<'_>, room: &mut Vec<u8>) -> Result<i32, Errno> {
    let length = i32::try_from(room.len()).map_err(|_| Errno::EINVAL)?;
    let ifcu_buf = room.as_mut_ptr().cast();
    let mut argument =
        libc::ifconf { ifc_len: length, ifc_ifcu: libc::__c_anonymous_ifc_ifcu { ifcu_buf } };
    request(socket, c_ulong::from(SIOCGIFCONF), &mut argument)?;
    room.truncate(usize::try_from(argument.ifc_len).unwrap_or(0));
    Ok(argument.ifc_len)
}

fn named(name: &str) -> libc::ifreq {
    // SAFETY: all-zero bytes are a valid `ifreq`: numbers and arrays of numbers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes().take(15)) {
        *slot = libc::c_char::from_ne_bytes([byte]);
    }
    request
}

fn sockaddr(ip: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (slot, byte) in data[2..6].iter_mut().zip(ip.octets()) {
        *slot = libc::c_char::from_ne_bytes([byte]);
    }
    libc::sockaddr { sa_family: FAMILY, sa_data: data }
}

/// Sets the hardware address.
pub(crate) fn set_mac(socket: BorrowedFd<'_>, name: &str, mac: [u8; 6]) -> Result<(), Errno> {
    let mut argument = named(name);
    let mut data = [0; 14];
    for (slot, byte) in data.iter_mut().zip(mac) {
        *slot = libc::c_char::from_ne_bytes([byte]);
    }
    argument.ifr_ifru.ifru_hwaddr = libc::sockaddr { sa_family: libc::ARPHRD_ETHER, sa_data: data };
    request(socket, libc::SIOCSIFHWADDR, &mut argument)
}

/// Sets the MTU.
pub(crate) fn set_mtu(socket: BorrowedFd<'_>, name: &str, mtu: u32) -> Result<(), Errno> {
    let mut argument = named(name);
    argument.ifr_ifru.ifru_mtu = i32::try_from(mtu).map_err(|_| Errno::EINVAL)?;
    request(socket, libc::SIOCSIFMTU, &mut argument)
}

/// Brings an interface up.
pub(crate) fn set_up(socket: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let mut argument = named(name);
    request(socket, libc::SIOCGIFFLAGS, &mut argument)?;
    // SAFETY: the request before filled this member in.
    let flags = unsafe { argument.ifr_ifru.ifru_flags };
    argument.ifr_ifru.ifru_flags = flags | UP;
    request(socket, libc::SIOCSIFFLAGS, &mut argument)
}

/// Gives a tap a carrier, or takes it away.
pub(crate) fn set_carrier(tap: BorrowedFd<'_>, carrier: bool) -> Result<(), Errno> {
    let mut argument = libc::c_int::from(carrier);
    request(tap, libc::TUNSETCARRIER, &mut argument)
}

fn index(socket: BorrowedFd<'_>, name: &str) -> Result<i32, Errno> {
    let mut argument = named(name);
    request(socket, libc::SIOCGIFINDEX, &mut argument)?;
    // SAFETY: the request filled this member in.
    Ok(unsafe { argument.ifr_ifru.ifru_ifindex })
}

/// Adds an address; `socket` is of its family.
pub(crate) fn add_address(
    socket: BorrowedFd<'_>,
    name: &str,
    ip: IpAddr,
    prefix: u8,
) -> Result<(), Errno> {
    match ip {
        IpAddr::V4(ip) => {
            let mut argument = named(name);
            argument.ifr_ifru.ifru_addr = sockaddr(ip);
            request(socket, libc::SIOCSIFADDR, &mut argument)?;
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            argument.ifr_ifru.ifru_netmask = sockaddr(Ipv4Addr::from_bits(mask));
            request(socket, libc::SIOCSIFNETMASK, &mut argument)
        }
        IpAddr::V6(ip) => {
            let index = index(socket, name)?;
            let mut argument = In6Ifreq { addr: ip.octets(), prefix: u32::from(prefix), index };
            request(socket, libc::SIOCSIFADDR, &mut argument)
        }
    }
}

/// Adds a default route; `socket` is of its family.
pub(crate) fn add_gateway(
    socket: BorrowedFd<'_>,
    name: &str,
    gateway: IpAddr,
) -> Result<(), Errno> {
    let flags = libc::RTF_UP | libc::RTF_GATEWAY;
    match gateway {
        IpAddr::V4(gateway) => {
            // SAFETY: all-zero bytes are a valid `rtentry`: numbers and null pointers.
            let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
            route.rt_dst = sockaddr(Ipv4Addr::UNSPECIFIED);
            route.rt_genmask = sockaddr(Ipv4Addr::UNSPECIFIED);
            route.rt_gateway = sockaddr(gateway);
            route.rt_flags = flags;
            request(socket, libc::SIOCADDRT, &mut route)
        }
        IpAddr::V6(gateway) => {
            let mut route = In6Rtmsg {
                destination: Ipv6Addr::UNSPECIFIED.octets(),
                gateway: gateway.octets(),
                metric: 1,
                flags: u32::from(flags),
                index: index(socket, name)?,
                ..In6Rtmsg::default()
            };
            request(socket, libc::SIOCADDRT, &mut route)
        }
    }
}
