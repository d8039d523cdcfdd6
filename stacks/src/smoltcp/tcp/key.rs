//! The identity of a connection: both ends.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Both ends of a connection, in the form that hashes fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FlowKey {
    local_ip: u128,
    remote_ip: u128,
    local_port: u16,
    remote_port: u16,
}

fn widen(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn narrow(bits: u128) -> IpAddr {
    let ip = Ipv6Addr::from_bits(bits);
    ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)
}

impl FlowKey {
    /// Makes a key.
    pub(crate) fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            local_ip: widen(local.ip()),
            remote_ip: widen(remote.ip()),
            local_port: local.port(),
            remote_port: remote.port(),
        }
    }

    /// This stack's end.
    pub(crate) fn local(&self) -> SocketAddr {
        SocketAddr::new(narrow(self.local_ip), self.local_port)
    }

    /// The peer's end.
    pub(crate) fn remote(&self) -> SocketAddr {
        SocketAddr::new(narrow(self.remote_ip), self.remote_port)
    }
}
