//! `/proc/net` and `/proc/sys/net` of a stack, as generated trees, byte for byte as Linux writes
//! them.

mod dev;
mod files;
mod groups;
mod misc;
mod route;
mod snmp;
mod snmp_names;
mod sockets;
mod sysctl;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use umvu_abi::tree::Tree;

use crate::{host::HostNet, netlink::NetlinkHub};
use files::ProcNet;
pub(crate) use misc::mac;
use sysctl::ProcSysNet;

/// Makes the tree `/proc/net` of a stack; `hub` tells the netlink sockets.
#[must_use]
pub fn proc_net(host: &Arc<dyn HostNet>, hub: Option<&Arc<NetlinkHub>>) -> Arc<dyn Tree> {
    Arc::new(ProcNet::new(Arc::clone(host), hub.cloned()))
}

/// Makes the tree `/proc/sys/net` of a stack.
#[must_use]
pub fn proc_sys_net(host: &Arc<dyn HostNet>) -> Arc<dyn Tree> {
    Arc::new(ProcSysNet::new(Arc::clone(host)))
}
