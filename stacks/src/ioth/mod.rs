//! Stacks that are plugins of libioth: shared objects that anybody may have written.
//!
//! [`search`] and [`license`] say which file is loaded, [`ffi`] loads it and calls it, [`worker`] is
//! the thread on which its code runs and the limit of everybody's patience, [`host`] joins these.
//! [`stream`] and [`datagram`] are its sockets for the bridge; [`kernel`] is about plugins whose
//! sockets are the kernel's.
//!
//! Lock order: the thread's scratch buffer, a socket's `Inner`. The plugin is called with no lock held
//! that another thread takes.

mod datagram;
mod drive;
mod ffi;
mod files;
mod host;
mod kernel;
mod license;
mod message;
mod plan;
mod search;
mod socket;
mod spares;
mod stream;
mod worker;

use std::{collections::HashMap, os::fd::OwnedFd, sync::Arc};

use parking_lot::Mutex;
use umvu_abi::{
    Errno,
    module::{MountError, MountRequest},
    net::{NetStack, NewSocket, SocketEvents, SocketSpec},
    tree::Tree,
};

pub(crate) use self::plan::divide;

use self::{
    datagram::Datagrams,
    ffi::plugin::{Plugin, PluginFd, adopt},
    files::{Interfaces, NoFiles},
    host::{Host, Running},
    kernel::Namespace,
    stream::Stream,
};

/// `struct in6_ifreq` and `struct in6_rtmsg`: the arguments of interface requests on AF_INET6
/// sockets.
const IN6: [usize; 2] = [24, 80];

/// A stack of a plugin.
#[derive(Debug)]
pub(crate) struct IothStack {
    host: Arc<Host>,
    control: Arc<Control>,
    /// Where its sockets are, if they are the kernel's, and how many the namespace has by itself.
    kernel: Option<(Namespace, usize)>,
}

/// What interface requests are made with.
#[derive(Debug)]
pub(crate) struct Control {
    host: Arc<Host>,
    /// The sockets, by address family.
    open: Mutex<HashMap<i32, PluginFd>>,
}

impl Control {
    /// An interface request: `ifreq`, `rtentry`, `arpreq` or, of AF_INET6 sockets, `in6_ifreq` and
    /// `in6_rtmsg`. Errors: the plugin's, `ENOTTY` when it has no such function.
    pub(crate) fn request(&self, request: u32, argument: &mut Vec<u8>) -> Result<i32, Errno> {
        let v6 = IN6.contains(&argument.len());
        let fd = self.socket(if v6 { libc::AF_INET6 } else { libc::AF_INET })?;
        let mut copy = argument.clone();
        let (value, copy) = self.host.call("ioctl", move |plugin, _| {
            plugin.ioctl(fd, request, &mut copy).map(|value| (value, copy))
        })?;
        *argument = copy;
        Ok(value)
    }

    fn socket(&self, domain: i32) -> Result<PluginFd, Errno> {
        let mut open = self.open.lock();
        if let Some(fd) = open.get(&domain) {
            return Ok(*fd);
        }
        let spec = SocketSpec { domain, kind: libc::SOCK_DGRAM, protocol: 0 };
        let make = move |plugin: &Plugin, running: &Running| socket::open(plugin, running, &spec);
        let fd = self.host.call("socket", make)?;
        open.insert(domain, fd);
        Ok(fd)
    }
}

impl IothStack {
    /// Starts the stack that a mount asks for; the source is its name or its file. Errors: those of
    /// libioth, see [`Host::start`].
    pub(crate) fn start(request: &MountRequest) -> Result<Self, MountError> {
        let host = Arc::new(Host::start(request)?);
        let kernel = kernel_sockets(&host)?;
        let control = Arc::new(Control { host: Arc::clone(&host), open: Mutex::default() });
        Ok(Self { host, control, kernel })
    }

    fn kernel_socket(&self, spec: SocketSpec) -> Result<OwnedFd, Errno> {
        let spec = SocketSpec { kind: spec.kind | libc::SOCK_CLOEXEC, ..spec };
        self.host.call("socket", move |plugin, _| plugin.socket(&spec).map(adopt))
    }
}

/// Whether guests can be given the sockets of the plugin as they are: they are the kernel's, the
/// plugin has no part in what is done with them, and those in use can be counted.
fn kernel_sockets(host: &Host) -> Result<Option<(Namespace, usize)>, MountError> {
    let spec = SocketSpec { domain: libc::AF_INET, kind: libc::SOCK_DGRAM, protocol: 0 };
    let probe = host.call("socket", move |plugin, running| {
        if !plugin.is_plain() {
            return Ok(None);
        }
        let fd = plugin.socket(&spec)?;
        if kernel::is_socket(fd) {
            return Ok(Some(adopt(fd)));
        }
        running.opened(fd);
        running.close(plugin, fd);
        Ok(None)
    });
    let probe = match probe {
        Ok(Some(probe)) => probe,
        Err(errno) if host.is_given_up() => {
            let reason = format!("plugin {}: does not come back from socket", host.stack());
            return Err(MountError::new(errno, reason));
        }
        // It may have no sockets of this kind.
        Ok(None) | Err(_) => return Ok(None),
    };
    let Ok(namespace) = Namespace::of(&probe) else { return Ok(None) };
    drop(probe);
    Ok(Some((namespace, namespace.sockets())))
}

impl NetStack for IothStack {
    fn supports(&self, domain: i32) -> bool {
        crate::FAMILIES.contains(&domain)
    }

    fn socket(&self, spec: &SocketSpec, events: Arc<dyn SocketEvents>) -> Result<NewSocket, Errno> {
        if self.kernel.is_some() {
            return self.kernel_socket(*spec).map(NewSocket::Kernel);
        }
        let copy = *spec;
        let open = move |plugin: &Plugin, running: &Running| socket::open(plugin, running, &copy);
        let fd = self.host.call("socket", open)?;
        let close = |_: &Errno| self.host.post(move |plugin, running| running.close(plugin, fd));
        if spec.kind == libc::SOCK_STREAM {
            let stream = Stream::new(&self.host, spec, fd).inspect_err(close)?;
            stream.common().observe(events);
            return Ok(NewSocket::Stream(stream));
        }
        let datagrams = Datagrams::new(&self.host, spec, fd).inspect_err(close)?;
        datagrams.common().observe(events);
        Ok(NewSocket::Datagram(datagrams))
    }

    fn interface_ioctl(&self, request: u32, argument: &mut Vec<u8>) -> Result<i32, Errno> {
        self.control.request(request, argument)
    }

    fn proc_net(&self) -> Option<Arc<dyn Tree>> {
        match self.kernel {
            Some((namespace, _)) => Some(Arc::new(namespace)),
            None => Some(Arc::new(Interfaces(Arc::clone(&self.control)))),
        }
    }

    fn proc_sys_net(&self) -> Option<Arc<dyn Tree>> {
        Some(Arc::new(NoFiles))
    }

    fn sys_class_net(&self) -> Option<Arc<dyn Tree>> {
        Some(Arc::new(NoFiles))
    }

    fn stop(&self) {
        self.host.stop();
    }

    fn users(&self) -> usize {
        self.kernel.map_or(0, |(namespace, idle)| {
            let own = idle + self.control.open.lock().len();
            namespace.sockets().saturating_sub(own + namespace.orphans())
        })
    }
}
