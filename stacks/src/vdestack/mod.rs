//! The stack "vdestack": the kernel's own, in a network namespace whose interface is a tap joined
//! to a virtual Ethernet, or one of a pair where there is no tap to be had.
//!
//! A helper process lives in the namespace and opens sockets there; guests hold the kernel's
//! sockets themselves, so nothing but Ethernet frames passes through this process. The namespace
//! ends with its last socket.

mod helper;
mod pump;
mod tree;
mod veth;
mod vnet;

use std::{os::fd::AsFd, sync::Arc};

use parking_lot::Mutex;
use umvu_abi::{
    Errno,
    module::MountError,
    net::{NetStack, NewSocket, SocketEvents, SocketSpec},
    tree::Tree,
};
use umvu_reactor::{Reactor, Source};

use crate::{ffi::interface, options::InterfacePlan, smoltcp::wire::Transport};
use helper::Helper;
use pump::Pump;
use tree::NamespaceTree;

/// The longest name of an interface (`IFNAMSIZ`, without the NUL).
const LONGEST_NAME: usize = 15;

/// A namespace and what joins it to its network.
#[derive(Debug)]
pub(crate) struct VdeStack {
    reactor: Reactor,
    helper: Arc<Helper>,
    pumps: Mutex<Vec<Arc<Pump>>>,
    /// How many sockets the namespace has by itself, beside those of the taps.
    idle: usize,
}

impl VdeStack {
    /// Makes the namespace and its interfaces; they are down.
    pub(crate) fn start(
        reactor: &Reactor,
        links: Vec<(InterfacePlan, Arc<dyn Transport>)>,
    ) -> Result<Self, MountError> {
        let helper = Arc::new(Helper::start()?);
        let pumps = Mutex::default();
        let mut stack = Self { reactor: reactor.clone(), helper, pumps, idle: 0 };
        stack.idle = stack.sockets();
        links.into_iter().try_for_each(|(link, transport)| stack.join(&link.name, transport))?;
        Ok(stack)
    }

    /// Makes an interface on a network.
    fn join(&self, name: &str, transport: Arc<dyn Transport>) -> Result<(), MountError> {
        let tap = self.helper.tap(name).or_else(|refused| {
            tracing::debug!(name, %refused, "no tap: a pair of veth interfaces instead");
            veth::make(self, &self.helper, name).map_err(|_| refused)
        })?;
        let pump = Arc::new(Pump::new(transport, tap));
        let source: Arc<dyn Source> = Arc::clone(&pump) as Arc<dyn Source>;
        pump.attach(self.reactor.handle(&source)).map_err(|error| {
            MountError::new(
                Errno::from_io(&error),
                format!("vdestack: cannot watch the tap: {error}"),
            )
        })?;
        // Addresses are to be of use at once: no wait for the detection of duplicates.
        let _ = self.helper.write(&format!("/proc/sys/net/ipv6/conf/{name}/accept_dad"), b"0");
        self.pumps.lock().push(pump);
        Ok(())
    }

    /// How many taps the namespace has; of those that were removed nothing is kept.
    fn taps(&self) -> usize {
        let mut pumps = self.pumps.lock();
        pumps.retain(|pump| !pump.is_gone());
        pumps.len()
    }

    /// A name for an interface that has been given none.
    fn free_name(&self) -> String {
        let taken = |name: &String| {
            let path = format!("/sys/class/net/{name}");
            self.helper.open(&path, libc::O_PATH).is_ok()
        };
        let mut names = (0..).map(|number| format!("vde{number}"));
        names.find(|name| !taken(name)).unwrap_or_default()
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

    fn add_interface(&self, name: &str, vnl: &str) -> Result<(), MountError> {
        let name = if name.is_empty() { self.free_name() } else { name.to_owned() };
        if name.len() > LONGEST_NAME || name.contains(['/', ' ', ':']) {
            let reason = format!("{name}: not an interface name (1 to 15 characters)");
            return Err(MountError::new(Errno::EINVAL, reason));
        }
        if self.helper.open(&format!("/sys/class/net/{name}"), libc::O_PATH).is_ok() {
            return Err(MountError::new(Errno::EEXIST, format!("{name}: there is one already")));
        }
        let transport = vdeplug::open(vnl, &format!("umvu {name}"))
            .map_err(|error| MountError::new(Errno(error.errno()), error.to_string()))?;
        self.taps();
        self.join(&name, transport)
    }

    fn stop(&self) {
        for pump in self.pumps.lock().iter() {
            pump.stop();
        }
        self.helper.stop();
    }

    fn users(&self) -> usize {
        // The kernel counts a socket for some milliseconds after it was closed.
        const LOOKS: usize = 10;
        let count = || self.sockets().saturating_sub(self.idle + self.taps() + self.orphans());
        for _ in 0..LOOKS {
            if count() == 0 {
                return 0;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        count()
    }
}
