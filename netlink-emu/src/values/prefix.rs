//! An IP address with a prefix length.

use std::{fmt, net::IpAddr};

/// A network, or an address in its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// The address; bits behind the prefix may be set.
    pub ip: IpAddr,
    /// The number of leading bits that count, at most 32 or 128.
    pub length: u8,
}

impl Prefix {
    /// Makes a prefix; a length that is too large becomes the family's.
    #[must_use]
    pub fn new(ip: IpAddr, length: u8) -> Self {
        Self { ip, length: length.min(width(ip)) }
    }

    /// The prefix of this one address: /32 or /128.
    #[must_use]
    pub fn host(ip: IpAddr) -> Self {
        Self { ip, length: width(ip) }
    }

    /// Whether it is as long as an address.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.length >= width(self.ip)
    }

    /// Whether `ip` lies inside; never across families.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.ip.is_ipv4() == ip.is_ipv4() && masked(ip, self.length) == masked(self.ip, self.length)
    }

    /// The network: the bits behind the prefix cleared.
    #[must_use]
    pub fn network(&self) -> Self {
        Self { ip: masked(self.ip, self.length), length: self.length }
    }

    /// The address with all bits behind the prefix set.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        match self.ip {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shr(self.length.into()).unwrap_or(0);
                IpAddr::V4((ip.to_bits() | mask).into())
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shr(self.length.into()).unwrap_or(0);
                IpAddr::V6((ip.to_bits() | mask).into())
            }
        }
    }

    /// The netmask, for instance 255.255.255.0.
    #[must_use]
    pub fn mask(&self) -> IpAddr {
        let ones = match self.ip {
            IpAddr::V4(_) => IpAddr::V4(u32::MAX.into()),
            IpAddr::V6(_) => IpAddr::V6(u128::MAX.into()),
        };
        masked(ones, self.length)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.length)
    }
}

/// The width of an address in bits: 32 or 128.
#[must_use]
pub(crate) fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// Clears the bits behind the first `length`.
#[must_use]
pub(crate) fn masked(ip: IpAddr, length: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = !u32::MAX.checked_shr(length.into()).unwrap_or(0);
            IpAddr::V4((ip.to_bits() & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = !u128::MAX.checked_shr(length.into()).unwrap_or(0);
            IpAddr::V6((ip.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (ip, length) = text.split_once('/').expect("a slash");
        Prefix::new(ip.parse().expect("an address"), length.parse().expect("a length"))
    }

    #[test]
    fn edges_of_the_length_are_exact() {
        assert!(prefix("0.0.0.0/0").contains(prefix("255.1.2.3/32").ip));
        assert!(!prefix("10.0.0.1/32").contains(prefix("10.0.0.2/32").ip));
        assert!(prefix("fe80::/64").contains(prefix("fe80::1/128").ip));
        assert!(!prefix("::/0").contains(prefix("1.2.3.4/32").ip));
        assert_eq!(prefix("10.1.2.3/8").network(), prefix("10.0.0.0/8"));
        assert_eq!(prefix("10.1.2.3/24").last(), prefix("10.1.2.255/32").ip);
        assert_eq!(prefix("10.1.2.3/0").mask(), prefix("0.0.0.0/0").ip);
        assert_eq!(Prefix::new(prefix("1.1.1.1/32").ip, 200).length, 32);
    }
}
