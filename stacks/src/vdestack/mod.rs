//! The stack "vdestack": the kernel's own, in a network namespace whose interface is a tap joined
//! to a virtual Ethernet.
//!
//! A helper process lives in the namespace and opens sockets there; guests hold the kernel's
//! sockets themselves, so nothing but Ethernet frames passes through this process. The namespace
//! ends with its last socket.

mod helper;
mod pump;
mod tree;
mod vnet;

use std::{os::fd::AsFd, sync::Arc};

use umvu_abi::{
    Errno,
    module::MountError,
    net::{NetStack, NewSocket, SocketEvents, SocketSpec},
    tree::Tree,
};
use umvu_reactor::{Reactor, Source};

use crate::{
    ffi::interface,
    options::{InterfacePlan, StackPlan},
    smoltcp::wire::Transport,
};
use helper::Helper;
use pump::Pump;
use tree::NamespaceTree;

/// A namespace and what joins it to its network.
#[derive(Debug)]
pub(crate) struct VdeStack {
    helper: Arc<Helper>,
    pumps: Vec<Arc<Pump>>,
    /// How many sockets the namespace has by itself.
    idle: usize,
}

impl VdeStack {
    /// Makes the namespace and its interface, and configures it.
    pub(crate) fn start(
        reactor: &Reactor,
        plan: &StackPlan,
        link: &InterfacePlan,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, MountError> {
        let (helper, tap) = Helper::start(&link.name)?;
        let pump = Arc::new(Pump::new(transport, tap));
        let source: Arc<dyn Source> = Arc::clone(&pump) as Arc<dyn Source>;
        pump.attach(reactor.handle(&source)).map_err(|error| {
            MountError::new(
                Errno::from_io(&error),
                format!("vdestack: cannot watch the tap: {error}"),
            )
        })?;
        let stack = Self { helper: Arc::new(helper), pumps: vec![pump], idle: 0 };
        stack.configure(plan, link)?;
        let idle = stack.sockets();
        Ok(Self { idle, ..stack })
    }

    fn configure(&self, plan: &StackPlan, link: &InterfacePlan) -> Result<(), MountError> {
        let failed = |what: &str, errno: Errno| {
            MountError::new(errno, format!("{}: cannot set {what}: {errno}", link.name))
        };
        let open = |domain| {
            let spec = SocketSpec { domain, kind: libc::SOCK_DGRAM, protocol: 0 };
            self.helper.socket(&spec)
        };
        let v4 = open(libc::AF_INET).map_err(|errno| failed("it up", errno))?;
        let name = link.name.as_str();
        interface::set_mac(v4.as_fd(), name, link.mac)
            .map_err(|errno| failed("its hardware address", errno))?;
        if let Some(mtu) = plan.mtu {
            interface::set_mtu(v4.as_fd(), name, mtu).map_err(|errno| failed("its MTU", errno))?;
        }
        // The addresses are the user's choice and of use at once: no wait for their detection.
        let _ = self.helper.write(&format!("/proc/sys/net/ipv6/conf/{name}/accept_dad"), b"0");
        if plan.up {
            interface::set_up(v4.as_fd(), "lo").map_err(|errno| failed("lo up", errno))?;
            interface::set_up(v4.as_fd(), name).map_err(|errno| failed("it up", errno))?;
        }
        for (ip, prefix) in &plan.addresses {
            let socket = if ip.is_ipv4() { v4.try_clone().ok() } else { open(libc::AF_INET6).ok() };
            let socket = socket.ok_or_else(|| failed("an address", Errno::EAFNOSUPPORT))?;
            interface::add_address(socket.as_fd(), name, *ip, *prefix)
                .map_err(|errno| failed(&format!("address {ip}/{prefix}"), errno))?;
        }
        self.settle();
        for gateway in &plan.gateways {
            let socket =
                if gateway.is_ipv4() { v4.try_clone().ok() } else { open(libc::AF_INET6).ok() };
            let socket = socket.ok_or_else(|| failed("a gateway", Errno::EAFNOSUPPORT))?;
            interface::add_gateway(socket.as_fd(), name, *gateway)
                .map_err(|errno| failed(&format!("gateway {gateway}"), errno))?;
        }
        Ok(())
    }

    /// Waits until the kernel lets the new IPv6 addresses be used: it makes up its mind in the
    /// background.
    fn settle(&self) {
        const TENTATIVE: u32 = 0x40;
        for _ in 0..50 {
            let text = self.helper.read("/proc/self/net/if_inet6").unwrap_or_default();
            let waits = String::from_utf8_lossy(&text).lines().any(|line| {
                let flags = line.split_whitespace().nth(4);
                let flags = flags.and_then(|flags| u32::from_str_radix(flags, 16).ok());
                flags.is_some_and(|flags| flags & TENTATIVE != 0)
            });
            if !waits {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// How many connections say goodbye for a socket that is closed: the kernel counts them as
    /// sockets.
    fn orphans(&self) -> usize {
        let count =
            |path| orphans(&String::from_utf8_lossy(&self.helper.read(path).unwrap_or_default()));
        count("/proc/self/net/tcp") + count("/proc/self/net/tcp6")
    }

    /// How many sockets are open in the namespace.
    fn sockets(&self) -> usize {
        let text = self.helper.read("/proc/self/net/sockstat").unwrap_or_default();
        sockets(&String::from_utf8_lossy(&text))
    }
}

/// How many sockets a namespace has, from its `/proc/net/sockstat`.
pub(crate) fn sockets(sockstat: &str) -> usize {
    let mut counts = sockstat.lines().filter_map(|line| line.strip_prefix("sockets: used "));
    counts.next().and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// How many connections have no socket any more, from `/proc/net/tcp` or `tcp6`, which show them
/// without an inode.
pub(crate) fn orphans(connections: &str) -> usize {
    const TIME_WAIT: &str = "06";
    let rows = connections.lines().skip(1).map(|line| line.split_whitespace());
    let fields = rows.map(|mut row| (row.nth(3), row.nth(5)));
    fields.filter(|(state, inode)| *inode == Some("0") && *state != Some(TIME_WAIT)).count()
}

impl NetStack for VdeStack {
    fn supports(&self, domain: i32) -> bool {
        crate::FAMILIES.contains(&domain)
    }

    fn socket(
        &self,
        spec: &SocketSpec,
        _events: Arc<dyn SocketEvents>,
    ) -> Result<NewSocket, Errno> {
        self.helper.socket(spec).map(NewSocket::Kernel)
    }

    /// For sockets that are not the stack's: those of AF_UNIX, on which the C library asks.
    fn interface_ioctl(&self, request: u32, argument: &mut Vec<u8>) -> Result<i32, Errno> {
        let spec = SocketSpec { domain: libc::AF_INET, kind: libc::SOCK_DGRAM, protocol: 0 };
        interface::serve(self.helper.socket(&spec)?.as_fd(), request, argument)
    }

    fn proc_net(&self) -> Option<Arc<dyn Tree>> {
        Some(Arc::new(NamespaceTree::new(Arc::clone(&self.helper), "/proc/self/net")))
    }

    fn proc_sys_net(&self) -> Option<Arc<dyn Tree>> {
        Some(Arc::new(NamespaceTree::new(Arc::clone(&self.helper), "/proc/sys/net")))
    }

    fn sys_class_net(&self) -> Option<Arc<dyn Tree>> {
        Some(Arc::new(NamespaceTree::new(Arc::clone(&self.helper), "/sys/class/net")))
    }

    fn stop(&self) {
        for pump in &self.pumps {
            pump.stop();
        }
        self.helper.stop();
    }

    fn users(&self) -> usize {
        self.sockets().saturating_sub(self.idle + self.orphans())
    }
}
