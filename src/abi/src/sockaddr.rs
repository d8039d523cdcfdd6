//! Socket addresses as values, and the one conversion to and from their C layout.
//!
//! Layouts: ip(7), ipv6(7), netlink(7), packet(7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::Errno;

/// `AF_UNSPEC`.
pub const AF_UNSPEC: u16 = 0;
/// `AF_INET`.
pub const AF_INET: u16 = 2;
/// `AF_INET6`.
pub const AF_INET6: u16 = 10;
/// `AF_NETLINK`.
pub const AF_NETLINK: u16 = 16;
/// `AF_PACKET`.
pub const AF_PACKET: u16 = 17;

/// `SOCK_PACKET`: a packet socket whose addresses are [`DeviceAddr`]s, made by either of `AF_INET` and
/// `AF_PACKET` (packet(7)).
pub const SOCK_PACKET: i32 = 10;

/// A link-layer address as in `struct sockaddr_ll` (packet(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LinkAddr {
    /// The EtherType, in host order (`sll_protocol` is in network order).
    pub protocol: u16,
    /// The interface, 0 for any.
    pub ifindex: u32,
    /// `ARPHRD_*`.
    pub hatype: u16,
    /// `PACKET_HOST`, `PACKET_BROADCAST`, ...
    pub pkttype: u8,
    /// How many bytes of `addr` count.
    pub halen: u8,
    /// The hardware address.
    pub addr: [u8; 8],
}

/// An interface as in `struct sockaddr_pkt`, the address of `SOCK_PACKET` sockets (packet(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DeviceAddr {
    /// What stands in place of the family: `AF_PACKET`, or of a received frame the interface's `ARPHRD_*`.
    pub family: u16,
    /// The name, padded with zeros.
    pub name: [u8; 14],
    /// The EtherType, in host order (`spkt_protocol` is in network order); None in the 16 bytes of a
    /// `struct sockaddr`.
    pub protocol: Option<u16>,
}

impl DeviceAddr {
    /// Reads the C layout. Errors: `EINVAL` when it is shorter than a `struct sockaddr`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Errno> {
        let protocol = field(bytes, 16).ok().map(u16::from_be_bytes);
        Ok(Self { family: u16::from_ne_bytes(field(bytes, 0)?), name: field(bytes, 2)?, protocol })
    }

    /// The name, without what follows the first zero.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.name.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// A socket address of a family that a virtual stack may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SockAddr {
    /// `AF_UNSPEC`: in connect(2), dissolve the association.
    Unspec,
    /// `struct sockaddr_in`.
    Inet(SocketAddrV4),
    /// `struct sockaddr_in6`.
    Inet6(SocketAddrV6),
    /// `struct sockaddr_nl`.
    Netlink {
        /// The port id; 0 is the kernel.
        pid: u32,
        /// The mask of multicast groups 1 to 32.
        groups: u32,
    },
    /// `struct sockaddr_ll`.
    Packet(LinkAddr),
    /// `struct sockaddr_pkt`, of a socket of type `SOCK_PACKET`.
    Device(DeviceAddr),
}

impl SockAddr {
    /// The `AF_*` number.
    #[must_use]
    pub fn family(&self) -> u16 {
        match self {
            Self::Unspec => AF_UNSPEC,
            Self::Inet(_) => AF_INET,
            Self::Inet6(_) => AF_INET6,
            Self::Netlink { .. } => AF_NETLINK,
            Self::Packet(_) => AF_PACKET,
            Self::Device(device) => device.family,
        }
    }

    /// Reads the C layout. Errors: `EINVAL` when it is too short for its family, `EAFNOSUPPORT`
    /// for a family that no stack serves.
    pub fn decode(bytes: &[u8]) -> Result<Self, Errno> {
        let family = u16::from_ne_bytes(field(bytes, 0)?);
        match family {
            AF_UNSPEC => Ok(Self::Unspec),
            AF_INET => {
                if bytes.len() < 16 {
                    return Err(Errno::EINVAL);
                }
                let port = u16::from_be_bytes(field(bytes, 2)?);
                let ip = Ipv4Addr::from(field::<4>(bytes, 4)?);
                Ok(Self::Inet(SocketAddrV4::new(ip, port)))
            }
            AF_INET6 => {
                // RFC 2133 programs pass 24 bytes, without the scope id.
                let port = u16::from_be_bytes(field(bytes, 2)?);
                let flow = u32::from_be_bytes(field(bytes, 4)?);
                let ip = Ipv6Addr::from(field::<16>(bytes, 8)?);
                let scope = field(bytes, 24).map_or(0, u32::from_ne_bytes);
                Ok(Self::Inet6(SocketAddrV6::new(ip, port, flow, scope)))
            }
            AF_NETLINK => Ok(Self::Netlink {
                pid: u32::from_ne_bytes(field(bytes, 4)?),
                groups: u32::from_ne_bytes(field(bytes, 8)?),
            }),
            AF_PACKET => {
                let halen = field::<1>(bytes, 11)?[0];
                let mut addr = [0; 8];
                let given = bytes.get(12..).unwrap_or_default();
                let count = given.len().min(8);
                addr[..count].copy_from_slice(&given[..count]);
                Ok(Self::Packet(LinkAddr {
                    protocol: u16::from_be_bytes(field(bytes, 2)?),
                    ifindex: u32::from_ne_bytes(field(bytes, 4)?),
                    hatype: u16::from_ne_bytes(field(bytes, 8)?),
                    pkttype: field::<1>(bytes, 10)?[0],
                    halen: halen.min(8),
                    addr,
                }))
            }
            _ => Err(Errno::EAFNOSUPPORT),
        }
    }

    /// Writes the C layout: 16 bytes for `AF_INET`, 28 for `AF_INET6`, 12 for `AF_NETLINK`, 20 for
    /// `AF_PACKET`, 16 for `AF_UNSPEC`, 18 for a device, or 16 without protocol.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(28);
        bytes.extend_from_slice(&self.family().to_ne_bytes());
        match self {
            Self::Unspec => bytes.resize(16, 0),
            Self::Inet(addr) => {
                bytes.extend_from_slice(&addr.port().to_be_bytes());
                bytes.extend_from_slice(&addr.ip().octets());
                bytes.resize(16, 0);
            }
            Self::Inet6(addr) => {
                bytes.extend_from_slice(&addr.port().to_be_bytes());
                bytes.extend_from_slice(&addr.flowinfo().to_be_bytes());
                bytes.extend_from_slice(&addr.ip().octets());
                bytes.extend_from_slice(&addr.scope_id().to_ne_bytes());
            }
            Self::Netlink { pid, groups } => {
                bytes.extend_from_slice(&[0, 0]);
                bytes.extend_from_slice(&pid.to_ne_bytes());
                bytes.extend_from_slice(&groups.to_ne_bytes());
            }
            Self::Packet(link) => {
                bytes.extend_from_slice(&link.protocol.to_be_bytes());
                bytes.extend_from_slice(&link.ifindex.to_ne_bytes());
                bytes.extend_from_slice(&link.hatype.to_ne_bytes());
                bytes.push(link.pkttype);
                bytes.push(link.halen);
                bytes.extend_from_slice(&link.addr);
            }
            Self::Device(device) => {
                bytes.extend_from_slice(&device.name);
                bytes.extend(device.protocol.into_iter().flat_map(u16::to_be_bytes));
            }
        }
        bytes
    }

    /// The IP address and port, for the two internet families.
    #[must_use]
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(addr) => Some(SocketAddr::V4(*addr)),
            Self::Inet6(addr) => Some(SocketAddr::V6(*addr)),
            _ => None,
        }
    }

    /// The unspecified address (port 0) of an internet family.
    #[must_use]
    pub fn any(family: u16) -> Self {
        if family == AF_INET6 {
            Self::Inet6(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0))
        } else {
            Self::Inet(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))
        }
    }

    /// Shows an IPv4 address to an `AF_INET6` socket as `::ffff:a.b.c.d`, and back where possible.
    #[must_use]
    pub fn mapped_to(&self, family: u16) -> Self {
        match (self, family) {
            (Self::Inet(addr), AF_INET6) => {
                Self::Inet6(SocketAddrV6::new(addr.ip().to_ipv6_mapped(), addr.port(), 0, 0))
            }
            (Self::Inet6(addr), AF_INET) => match addr.ip().to_ipv4_mapped() {
                Some(ip) => Self::Inet(SocketAddrV4::new(ip, addr.port())),
                None => *self,
            },
            _ => *self,
        }
    }
}

impl From<SocketAddr> for SockAddr {
    fn from(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(addr) => Self::Inet(addr),
            SocketAddr::V6(addr) => Self::Inet6(addr),
        }
    }
}

impl From<(IpAddr, u16)> for SockAddr {
    fn from((ip, port): (IpAddr, u16)) -> Self {
        SocketAddr::new(ip, port).into()
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Errno> {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).ok_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(addr: SockAddr, length: usize) {
        let bytes = addr.encode();
        assert_eq!(bytes.len(), length);
        assert_eq!(SockAddr::decode(&bytes), Ok(addr));
    }

    #[test]
    fn every_family_survives_a_round_trip() {
        round_trip(SockAddr::Unspec, 16);
        round_trip(SockAddr::Inet("10.1.2.3:80".parse().expect("literal")), 16);
        let v6 = SocketAddrV6::new("fe80::1".parse().expect("literal"), 8080, 7, 2);
        round_trip(SockAddr::Inet6(v6), 28);
        round_trip(SockAddr::Netlink { pid: 77, groups: 0x11 }, 12);
        let link = LinkAddr {
            protocol: 0x806,
            ifindex: 2,
            hatype: 1,
            pkttype: 1,
            halen: 6,
            addr: [1, 2, 3, 4, 5, 6, 0, 0],
        };
        round_trip(SockAddr::Packet(link), 20);
    }

    #[test]
    fn a_device_is_named_with_or_without_its_protocol() {
        let mut bytes = [17, 0].to_vec();
        bytes.extend_from_slice(b"vde0\0garbage..");
        bytes.truncate(16);
        let short = DeviceAddr::decode(&bytes).expect("long enough");
        assert_eq!((short.name(), short.protocol), (&b"vde0"[..], None));
        assert_eq!(SockAddr::Device(short).encode(), bytes);
        bytes.extend_from_slice(&[8, 6]);
        let long = DeviceAddr::decode(&bytes).expect("long enough");
        assert_eq!(long.protocol, Some(0x806));
        assert_eq!(SockAddr::Device(long).encode(), bytes);
        assert_eq!(DeviceAddr::decode(&bytes[..15]), Err(Errno::EINVAL));
    }

    #[test]
    fn short_and_foreign_addresses_are_refused() {
        assert_eq!(SockAddr::decode(&[]), Err(Errno::EINVAL));
        assert_eq!(SockAddr::decode(&[2]), Err(Errno::EINVAL));
        assert_eq!(SockAddr::decode(&[2, 0, 0, 80, 1, 2]), Err(Errno::EINVAL));
        assert_eq!(SockAddr::decode(&[1, 0, 0, 0]), Err(Errno::EAFNOSUPPORT));
        assert_eq!(SockAddr::decode(&[10, 0, 0, 80, 1, 2]), Err(Errno::EINVAL));
    }

    #[test]
    fn mapped_addresses_translate_both_ways() {
        let v4 = SockAddr::Inet("10.0.0.1:5".parse().expect("literal"));
        assert_eq!(v4.mapped_to(AF_INET6).mapped_to(AF_INET), v4);
    }
}
