//! What TCP and UDP calls take for an address.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

use umvu_abi::{Errno, SockAddr};

/// An address and a port, as a value or as text (`10.0.0.1:80`, `[fc00::1]:80`).
///
/// Unlike [`std::net::ToSocketAddrs`] it knows no names: the resolver of the host would look them
/// up in another network.
pub trait Address {
    /// Gives the address. Errors: `InvalidInput` for text that is none.
    fn to_address(&self) -> io::Result<SocketAddr>;
}

impl Address for str {
    fn to_address(&self) -> io::Result<SocketAddr> {
        self.parse().map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{self}: no address (write 10.0.0.1:80 or [fc00::1]:80)"),
            )
        })
    }
}

impl Address for String {
    fn to_address(&self) -> io::Result<SocketAddr> {
        self.as_str().to_address()
    }
}

impl<T: Address + ?Sized> Address for &T {
    fn to_address(&self) -> io::Result<SocketAddr> {
        (**self).to_address()
    }
}

macro_rules! addresses {
    ($($type:ty),*) => {
        $(
            impl Address for $type {
                fn to_address(&self) -> io::Result<SocketAddr> {
                    Ok((*self).into())
                }
            }
        )*
    };
}

addresses! {
    SocketAddr, SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16)
}

/// The `AF_*` of an address.
pub(super) fn domain(addr: &SocketAddr) -> i32 {
    if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

/// The internet address that a socket tells. Errors: `EAFNOSUPPORT` for another family.
pub(super) fn internet(addr: SockAddr) -> io::Result<SocketAddr> {
    addr.ip().ok_or_else(|| Errno::EAFNOSUPPORT.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_values_are_addresses_and_names_are_not() {
        let text = "[fc00::1]:80".to_address().expect("valid");
        let value = (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 1), 80).to_address().expect("valid");
        assert_eq!(text, value);
        let error = "localhost:80".to_address().expect_err("a name");
        assert!(error.to_string().contains("localhost:80"));
    }
}
