//! The `SIOC*` requests of netdevice(7), arp(7) and route configuration.
//!
//! A file per structure: `ifreq` reads and writes `struct ifreq`, the others call the host.

mod address;
mod arp;
mod conf;
mod ethtool;
mod ifreq;
mod inet6;
mod link;
mod numbers;
mod route;

#[cfg(test)]
mod tests;

use umvu_abi::Errno;

use crate::host::HostNet;

/// Serves an interface request, as ioctl(2) on any socket.
///
/// `argument` holds what the guest's pointer leads to, and afterwards what is to be written back:
///
/// - most requests: `struct ifreq`, 40 bytes; on an AF_INET6 socket `SIOCSIFADDR` and `SIOCDIFADDR`
///   have `struct in6_ifreq`, 24 bytes;
/// - `SIOCGIFCONF`: as many bytes as the guest's `ifc_len` says (their values do not matter), or
///   none for a null `ifc_buf`. Afterwards the array of `struct ifreq`, as many as fit. The result
///   is the new `ifc_len`; the guest's ioctl returns 0;
/// - `SIOCADDRT`, `SIOCDELRT`: `struct rtentry`, 120 bytes, and behind it the device name that
///   `rt_dev` leads to with its end byte, nothing for a null pointer; on an AF_INET6 socket
///   `struct in6_rtmsg`, 80 bytes;
/// - `SIOCSARP`, `SIOCGARP`, `SIOCDARP`: `struct arpreq`, 68 bytes;
/// - `SIOCETHTOOL`: `struct ifreq`, and behind it what `ifr_data` leads to (at least 4 bytes, 196
///   for a driver's name). Afterwards those bytes are to be written back there.
///
/// Other requests return 0. Errors: `ENOTTY` when the request is none of these; `EINVAL` when
/// `argument` is too short; `ENODEV`, `EADDRNOTAVAIL`, `EOPNOTSUPP` and others as the kernel.
pub fn interface_ioctl(
    host: &dyn HostNet,
    request: u32,
    argument: &mut Vec<u8>,
) -> Result<i32, Errno> {
    use numbers as n;
    match request {
        n::SIOCGIFCONF => conf::get(host, argument),
        n::SIOCADDRT | n::SIOCDELRT => route::change(host, request == n::SIOCADDRT, argument),
        n::SIOCSARP | n::SIOCGARP | n::SIOCDARP => arp::serve(host, request, argument),
        n::SIOCETHTOOL => ethtool::serve(host, argument),
        n::SIOCSIFADDR | n::SIOCDIFADDR if argument.len() == inet6::LENGTH => {
            inet6::change(host, request == n::SIOCSIFADDR, argument)
        }
        n::SIOCGIFADDR | n::SIOCGIFDSTADDR | n::SIOCGIFBRDADDR | n::SIOCGIFNETMASK => {
            address::get(host, request, argument)
        }
        n::SIOCSIFADDR
        | n::SIOCSIFDSTADDR
        | n::SIOCSIFBRDADDR
        | n::SIOCSIFNETMASK
        | n::SIOCDIFADDR => address::set(host, request, argument),
        n::FIRST..=n::LAST => link::serve(host, request, argument),
        _ => Err(Errno::ENOTTY),
    }
}
