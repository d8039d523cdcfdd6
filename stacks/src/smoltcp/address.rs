//! From the addresses guests give to the ones a stack works with: families, mapped addresses,
//! wildcards.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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
}
