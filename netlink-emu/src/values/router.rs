//! What a router advertises (RFC 4861).

use std::net::Ipv6Addr;

use umvu_abi::IfIndex;

use super::Prefix;

/// A router advertisement, as far as it configures a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterAdvertisement {
    /// The interface it came in by.
    pub interface: IfIndex,
    /// The link-local address of the router.
    pub router: Ipv6Addr,
    /// The hop limit for packets sent, 0 when it says nothing.
    pub hop_limit: u8,
    /// For how many seconds it is a default router; 0 when it is none.
    pub lifetime: u16,
    /// Its preference among routers: 0 medium, 1 high, 3 low.
    pub preference: u8,
    /// The MTU of the link.
    pub mtu: Option<u32>,
    /// The networks on the link.
    pub prefixes: Vec<AdvertisedPrefix>,
}

/// A prefix information option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdvertisedPrefix {
    /// The network.
    pub prefix: Prefix,
    /// Its addresses are on the link.
    pub on_link: bool,
    /// Hosts may make addresses of it.
    pub autonomous: bool,
    /// For how many seconds it is valid; [`FOREVER`](super::FOREVER).
    pub valid: u32,
    /// For how many seconds addresses of it are preferred.
    pub preferred: u32,
}
