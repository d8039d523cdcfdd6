//! Addresses of interfaces: what `ip address` shows and changes.

use std::net::{IpAddr, Ipv4Addr};

use bitflags::bitflags;
use umvu_abi::IfIndex;

use super::Prefix;

/// A lifetime without end, in seconds (`INFINITY_LIFE_TIME`).
pub const FOREVER: u32 = u32::MAX;

bitflags! {
    /// `IFA_F_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct AddressFlags: u32 {
        /// `IFA_F_SECONDARY` (IPv4), the same bit as `IFA_F_TEMPORARY` (IPv6).
        const SECONDARY = 0x1;
        /// `IFA_F_NODAD`.
        const NODAD = 0x2;
        /// `IFA_F_OPTIMISTIC`.
        const OPTIMISTIC = 0x4;
        /// `IFA_F_DADFAILED`.
        const DADFAILED = 0x8;
        /// `IFA_F_HOMEADDRESS`.
        const HOMEADDRESS = 0x10;
        /// `IFA_F_DEPRECATED`.
        const DEPRECATED = 0x20;
        /// `IFA_F_TENTATIVE`.
        const TENTATIVE = 0x40;
        /// `IFA_F_PERMANENT`.
        const PERMANENT = 0x80;
        /// `IFA_F_MANAGETEMPADDR`.
        const MANAGETEMPADDR = 0x100;
        /// `IFA_F_NOPREFIXROUTE`: no connected route comes with the address.
        const NOPREFIXROUTE = 0x200;
        /// `IFA_F_MCAUTOJOIN`.
        const MCAUTOJOIN = 0x400;
        /// `IFA_F_STABLE_PRIVACY`.
        const STABLE_PRIVACY = 0x800;
        const _ = !0;
    }
}

/// `RT_SCOPE_*`: how far an address or a route reaches. Smaller is wider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(pub u8);

impl Scope {
    /// `RT_SCOPE_UNIVERSE`, shown as "global".
    pub const UNIVERSE: Self = Self(0);
    /// `RT_SCOPE_SITE`.
    pub const SITE: Self = Self(200);
    /// `RT_SCOPE_LINK`.
    pub const LINK: Self = Self(253);
    /// `RT_SCOPE_HOST`.
    pub const HOST: Self = Self(254);
    /// `RT_SCOPE_NOWHERE`.
    pub const NOWHERE: Self = Self(255);
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The interface.
    pub interface: IfIndex,
    /// The address and the length of its network.
    pub prefix: Prefix,
    /// The other end, of point-to-point addresses; the prefix length is then the peer's.
    pub peer: Option<IpAddr>,
    /// The broadcast address.
    pub broadcast: Option<Ipv4Addr>,
    /// `IFA_ANYCAST`.
    pub anycast: Option<IpAddr>,
    /// The label, by default the name of the interface; IPv4 only.
    pub label: Option<String>,
    /// The scope; `lo`'s are [`Scope::HOST`].
    pub scope: Scope,
    /// Flags.
    pub flags: AddressFlags,
    /// How long it stays valid, in seconds from now; [`FOREVER`].
    pub valid: u32,
    /// How long it is preferred, in seconds from now; [`FOREVER`].
    pub preferred: u32,
    /// `IFA_PROTO`: 0 unspecified, 1 loopback, 2 router announcement, 3 link-local.
    pub proto: u8,
    /// The metric of its connected route, 0 for the family's default.
    pub metric: u32,
    /// When it was made, in hundredths of a second on the stack's clock.
    pub created: u32,
    /// When it was last changed, in hundredths of a second on the stack's clock.
    pub updated: u32,
}

impl Address {
    /// Makes a permanent address of global scope.
    #[must_use]
    pub fn new(interface: IfIndex, ip: IpAddr, length: u8) -> Self {
        Self {
            interface,
            prefix: Prefix::new(ip, length),
            peer: None,
            broadcast: None,
            anycast: None,
            label: None,
            scope: Scope::UNIVERSE,
            flags: AddressFlags::PERMANENT,
            valid: FOREVER,
            preferred: FOREVER,
            proto: 0,
            metric: 0,
            created: 0,
            updated: 0,
        }
    }

    /// The address itself.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.prefix.ip
    }

    /// The network it makes reachable: that of the peer, if it has one.
    #[must_use]
    pub fn network(&self) -> Prefix {
        Prefix::new(self.peer.unwrap_or(self.prefix.ip), self.prefix.length).network()
    }
}
