//! The names that make a stack what it is: its view and its mount point. Hardware addresses that
//! nobody gives are derived from them, so that a lab looks the same tomorrow.

use std::net::Ipv6Addr;

use md5::{Digest, Md5};
use umvu_abi::module::MountRequest;

/// The names of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Names {
    view: Vec<u8>,
    target: String,
}

impl Names {
    /// Those of a mount. A view without a name is known by `chance`, a random number: two such views
    /// may meet on one network.
    pub(crate) fn of(request: &MountRequest, chance: u64) -> Self {
        let view = if request.view.is_empty() {
            chance.to_be_bytes().to_vec()
        } else {
            request.view.as_bytes().to_vec()
        };
        Self { view, target: request.target.clone() }
    }

    /// The hardware address of an interface of this name.
    pub(crate) fn mac(&self, interface: &str) -> [u8; 6] {
        derive_mac(&[&self.view, self.target.as_bytes(), interface.as_bytes()])
    }
}

/// Derives a hardware address that stays the same for the same names: FNV-1a, locally administered.
fn derive_mac(names: &[&[u8]]) -> [u8; 6] {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in names.iter().flat_map(|name| name.iter().chain([&0])) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 29;
    let [a, b, c, d, e, f, ..] = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    [(a & 0xfc) | 2, b, c, d, e, f]
}

fn hash(fqdn: &str) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 16]>::from(Md5::digest(fqdn.as_bytes()));
    [a, b, c, d, e, f, g, h]
}

/// The hardware address of the host of a name, as libioth's `iothaddr_hashmac` makes it.
pub(crate) fn hash_mac(fqdn: &str) -> [u8; 6] {
    let [a, b, c, _, _, d, e, f] = hash(fqdn);
    [(a | 2) & !1, b, c, d, e, f]
}

/// The interface identifier of the host of a name, as libioth's `iothaddr_hash` makes it: an address
/// without a prefix.
pub(crate) fn hash_identifier(fqdn: &str) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets[8..].copy_from_slice(&hash(fqdn));
    octets[8] &= !3;
    Ipv6Addr::from(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(view: &str, chance: u64) -> Names {
        let request = MountRequest {
            source: String::new(),
            target: "/dev/net/a".to_owned(),
            fstype: "vunetioth".to_owned(),
            flags: 0,
            data: String::new(),
            environment: Vec::new(),
            view: view.to_owned(),
        };
        Names::of(&request, chance)
    }

    #[test]
    fn hardware_addresses_are_kept_in_named_views_and_differ_between_others() {
        let mac = |view, chance| names(view, chance).mac("vde0");
        assert_eq!(mac("v", 1), mac("v", 2));
        assert_ne!(mac("v", 1), mac("w", 1));
        assert_ne!(mac("", 1), mac("", 2));
        assert_ne!(mac("v", 1), names("v", 1).mac("vde1"));
        assert_eq!(mac("v", 1)[0] & 3, 2);
    }

    #[test]
    fn hashes_are_those_of_libioth() {
        let expected: Ipv6Addr = "::68d6:2fac:95a:5a2e".parse().expect("literal");
        assert_eq!(hash_identifier("test.v2.cs.unibo.it"), expected);
        assert_eq!(hash_mac("test.v2.cs.unibo.it")[0] & 3, 2);
    }
}
