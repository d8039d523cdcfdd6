//! An interface of a running stack, as the clients see it.

use std::{io, net::IpAddr, sync::Arc};

use netlink_emu::Failure;
use umvu_abi::{
    IfIndex,
    net::{NetStack, SocketSpec},
};

use super::rtnl::Rtnl;
use crate::{
    net::{Halt, Socket},
    resolver::Resolver,
};

/// Where a client works.
#[derive(Debug, Clone)]
pub(super) struct Port {
    /// The stack.
    pub(super) stack: Arc<dyn NetStack>,
    /// Ends all waits.
    pub(super) halt: Halt,
    /// The name of the interface.
    pub(super) name: String,
    /// Its index.
    pub(super) index: IfIndex,
    /// Its hardware address.
    pub(super) mac: [u8; 6],
    /// The name of the host.
    pub(super) fqdn: Option<String>,
    /// The name servers of the stack.
    pub(super) resolver: Arc<Resolver>,
    /// Whether to tell what happens.
    pub(super) debug: bool,
}

impl Port {
    /// Makes a socket. Errors: those of socket(2).
    pub(super) fn socket(&self, domain: i32, kind: i32, protocol: i32) -> io::Result<Socket> {
        Socket::on(self.stack.as_ref(), SocketSpec { domain, kind, protocol }, &self.halt)
    }

    /// A netlink socket of the stack.
    pub(super) fn rtnl(&self) -> Result<Rtnl, Failure> {
        Rtnl::open(self.stack.as_ref(), &self.halt)
    }

    /// Name servers and domains that were learned on the interface.
    pub(super) fn learn(&self, source: &str, servers: &[IpAddr], domains: &[String]) {
        let servers: Vec<_> = servers.iter().map(|ip| (*ip, self.name.as_str())).collect();
        self.resolver.learn(source, &servers, domains);
    }

    /// Tells what happens, to who wants to know.
    pub(super) fn say(&self, what: &str) {
        if self.debug {
            tracing::warn!("{}: {what}", self.name);
        } else {
            tracing::info!("{}: {what}", self.name);
        }
    }
}
