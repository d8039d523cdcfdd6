//! From the addresses guests give to the ones a stack works with: families, mapped addresses,
//! wildcards.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use umvu_abi::{
    Errno, SockAddr,
    sockaddr::{AF_INET, AF_INET6},
};

use super::ports::Host;

/// The address and port that bind(2) asks for.
/// Errors: `EAFNOSUPPORT`, `EINVAL`.
pub(crate) fn bind_target(
    addr: &SockAddr,
    family: u16,
    v6_only: bool,
) -> Result<(Host, u16), Errno> {
    match (addr, family) {
        (SockAddr::Inet(addr), AF_INET) => {
            let host = if addr.ip().is_unspecified() {
                Host::AnyV4
            } else {
                Host::One((*addr.ip()).into())
            };
            Ok((host, addr.port()))
        }
        // Linux takes AF_UNSPEC for the wildcard.
        (SockAddr::Unspec, AF_INET) => Ok((Host::AnyV4, 0)),
        (SockAddr::Inet6(addr), AF_INET6) => {
            let host = match addr.ip().to_ipv4_mapped() {
                Some(_) if v6_only => return Err(Errno::EINVAL),
                Some(ip) if ip.is_unspecified() => Host::AnyV4,
                Some(ip) => Host::One(ip.into()),
                None if !addr.ip().is_unspecified() => Host::One((*addr.ip()).into()),
                None if v6_only => Host::AnyV6,
                None => Host::Any,
            };
            Ok((host, addr.port()))
        }
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// The end that connect(2) or sendto(2) names; the wildcard means this host.
/// Errors: `EAFNOSUPPORT`, `ENETUNREACH` for an IPv4 end of an IPv6-only socket.
pub(crate) fn connect_target(
    addr: &SockAddr,
    family: u16,
    v6_only: bool,
) -> Result<SocketAddr, Errno> {
    let (ip, port): (IpAddr, u16) = match (addr, family) {
        (SockAddr::Inet(addr), AF_INET) => ((*addr.ip()).into(), addr.port()),
        // Datagram sockets take such addresses for mapped ones.
        (SockAddr::Inet(_), AF_INET6) if v6_only => return Err(Errno::ENETUNREACH),
        (SockAddr::Inet(addr), AF_INET6) => ((*addr.ip()).into(), addr.port()),
        (SockAddr::Inet6(addr), AF_INET6) => match addr.ip().to_ipv4_mapped() {
            Some(_) if v6_only => return Err(Errno::ENETUNREACH),
            Some(ip) => (ip.into(), addr.port()),
            None => ((*addr.ip()).into(), addr.port()),
        },
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    let ip = match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, port))
}

/// Whether an address says too little without an interface: link-local ones, and groups of an
/// interface or a link (ff01::/16, ff02::/16).
fn is_near(ip: Ipv6Addr) -> bool {
    let group = ip.is_multicast() && matches!(ip.octets()[1] & 15, 1 | 2);
    ip.is_unicast_link_local() || group
}

/// Names an address as a guest sees it: a link-local one says by which interface it is reached
/// (ipv6(7), `sin6_scope_id`).
pub(crate) fn scoped(addr: SocketAddr, ifindex: u32) -> SockAddr {
    match addr {
        SocketAddr::V6(addr) if is_near(*addr.ip()) => {
            SocketAddr::V6(SocketAddrV6::new(*addr.ip(), addr.port(), 0, ifindex)).into()
        }
        _ => addr.into(),
    }
}

/// The interface that a link-local address ties its socket to; None for any other address.
/// Errors: `EINVAL` when neither the address nor the socket (`device`, 0 for none) says which.
pub(crate) fn scope_of(addr: &SockAddr, device: u32) -> Result<Option<u32>, Errno> {
    let SockAddr::Inet6(addr) = addr else { return Ok(None) };
    if !is_near(*addr.ip()) {
        return Ok(None);
    }
    match (addr.scope_id(), device) {
        (0, 0) => Err(Errno::EINVAL),
        (0, device) => Ok(Some(device)),
        (scope, 0) => Ok(Some(scope)),
        (scope, device) if scope == device => Ok(Some(scope)),
        _ => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SockAddr {
        text.parse::<SocketAddr>().expect("literal").into()
    }

    #[test]
    fn mapped_addresses_become_plain_ones() {
        let mapped = addr("[::ffff:10.0.0.1]:80");
        let target = connect_target(&mapped, AF_INET6, false).expect("allowed");
        assert_eq!(target, "10.0.0.1:80".parse().expect("literal"));
        assert_eq!(connect_target(&mapped, AF_INET6, true), Err(Errno::ENETUNREACH));
        assert_eq!(bind_target(&mapped, AF_INET6, true), Err(Errno::EINVAL));
        assert_eq!(bind_target(&addr("[::]:5"), AF_INET6, false), Ok((Host::Any, 5)));
        assert_eq!(connect_target(&mapped, AF_INET, false), Err(Errno::EAFNOSUPPORT));
    }

    #[test]
    fn the_wildcard_means_this_host() {
        let target = connect_target(&addr("0.0.0.0:9"), AF_INET, false);
        assert_eq!(target, Ok("127.0.0.1:9".parse().expect("literal")));
    }

    #[test]
    fn a_link_local_address_needs_an_interface() {
        let bare = addr("[fe80::1]:80");
        let tied = SockAddr::from(SocketAddr::V6(SocketAddrV6::new(
            "fe80::1".parse().expect("an address"),
            80,
            0,
            2,
        )));
        assert_eq!(scope_of(&bare, 0), Err(Errno::EINVAL));
        assert_eq!(scope_of(&bare, 3), Ok(Some(3)));
        assert_eq!(scope_of(&tied, 0), Ok(Some(2)));
        assert_eq!(scope_of(&tied, 3), Err(Errno::EINVAL));
        assert_eq!(scope_of(&addr("[fc00::1]:80"), 0), Ok(None));
    }
}
