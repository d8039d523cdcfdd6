//! A stack with what keeps it configured.

use std::{fmt, os::fd::OwnedFd, sync::Arc};

use netlink_emu::values::LinkChange;
use umvu_abi::{
    Errno,
    module::MountError,
    net::{NetStack, NewSocket, ResolvConf, SocketEvents, SocketSpec},
    tree::Tree,
    tunnel::{Tunnel, TunnelSpec},
};

use super::{keeper::Keeper, rtnl::Rtnl};
use crate::{names::Names, net::Halt, resolver::Resolver};

/// A stack, its leases and its name servers.
pub(super) struct Managed {
    stack: Arc<dyn NetStack>,
    keeper: Option<Arc<Keeper>>,
    resolver: Arc<Resolver>,
    names: Names,
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
        names: Names,
    ) -> Self {
        Self { stack, keeper, resolver, names }
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

    fn add_interface(&self, name: &str, vnl: &str) -> Result<(), MountError> {
        self.stack.add_interface(name, vnl)?;
        // A hardware address that is the same tomorrow; without it, the one that it has will do.
        if let Ok(halt) = Halt::new()
            && let Ok(mut rtnl) = Rtnl::open(self.stack.as_ref(), &halt)
            && let Ok(index) = rtnl.index(name)
        {
            let mac = Some(self.names.mac(name));
            let _ = rtnl.set_link(index, &LinkChange { mac, ..LinkChange::default() });
        }
        Ok(())
    }

    fn attach_tunnel(&self, spec: &TunnelSpec, end: OwnedFd) -> Result<Arc<dyn Tunnel>, Errno> {
        self.stack.attach_tunnel(spec, end)
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
