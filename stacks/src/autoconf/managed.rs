//! A stack with what keeps it configured.

use std::{fmt, sync::Arc};

use umvu_abi::{
    Errno,
    net::{NetStack, NewSocket, ResolvConf, SocketEvents, SocketSpec},
    tree::Tree,
};

use super::keeper::Keeper;
use crate::resolver::Resolver;

/// A stack, its leases and its name servers.
pub(super) struct Managed {
    stack: Arc<dyn NetStack>,
    keeper: Option<Arc<Keeper>>,
    resolver: Arc<Resolver>,
}

impl fmt::Debug for Managed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stack.fmt(f)
    }
}

impl Managed {
    pub(super) fn new(
        stack: Arc<dyn NetStack>,
        keeper: Option<Arc<Keeper>>,
        resolver: Arc<Resolver>,
    ) -> Self {
        Self { stack, keeper, resolver }
    }
}

impl NetStack for Managed {
    fn supports(&self, domain: i32) -> bool {
        self.stack.supports(domain)
    }

    fn socket(&self, spec: &SocketSpec, events: Arc<dyn SocketEvents>) -> Result<NewSocket, Errno> {
        self.stack.socket(spec, events)
    }

    fn interface_ioctl(&self, request: u32, argument: &mut Vec<u8>) -> Result<i32, Errno> {
        self.stack.interface_ioctl(request, argument)
    }

    fn proc_net(&self) -> Option<Arc<dyn Tree>> {
        self.stack.proc_net()
    }

    fn proc_sys_net(&self) -> Option<Arc<dyn Tree>> {
        self.stack.proc_sys_net()
    }

    fn sys_class_net(&self) -> Option<Arc<dyn Tree>> {
        self.stack.sys_class_net()
    }

    fn resolv_conf(&self) -> Option<ResolvConf> {
        Some(self.resolver.tell())
    }

    fn stop(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.stop();
        }
        self.stack.stop();
    }

    fn users(&self) -> usize {
        let own = self.keeper.as_ref().map_or(0, |keeper| keeper.sockets());
        self.stack.users().saturating_sub(own)
    }
}
