//! What stream and datagram sockets of a plugin have in common.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use parking_lot::Mutex;
use umvu_abi::{
    Errno, SockAddr,
    net::{SocketEvents, SocketSpec},
};
use umvu_reactor::{Handle, Interest, Registration, Source};

use super::{
    ffi::plugin::{Plugin, PluginFd, borrow},
    host::{Host, Running},
};

/// Options of the guest's own socket, which the plugin is not told: it never waits.
const OF_THE_GUEST: [i32; 4] =
    [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO, libc::SO_TIMESTAMP, libc::SO_TIMESTAMPNS];
/// The longest option value that a plugin is asked for.
const VALUE: usize = 512;

/// A socket of a plugin.
pub(crate) struct Common {
    pub(crate) host: Arc<Host>,
    pub(crate) spec: SocketSpec,
    handle: OnceLock<Handle>,
    events: OnceLock<Arc<dyn SocketEvents>>,
    open: Mutex<Option<Open>>,
    options: Mutex<HashMap<i32, Vec<u8>>>,
    error: Mutex<Option<Errno>>,
}

struct Open {
    fd: PluginFd,
    _watch: Registration,
}

impl Common {
    /// A socket without a descriptor.
    pub(crate) fn new(host: &Arc<Host>, spec: &SocketSpec) -> Self {
        Self {
            host: Arc::clone(host),
            spec: *spec,
            handle: OnceLock::new(),
            events: OnceLock::new(),
            open: Mutex::default(),
            options: Mutex::default(),
            error: Mutex::default(),
        }
    }

    /// Has `source`, which is this socket, run when its descriptor has news. Errors: `EOPNOTSUPP`
    /// for a descriptor that cannot be polled.
    pub(crate) fn attach(&self, source: &Arc<dyn Source>, fd: PluginFd) -> Result<(), Errno> {
        let handle = self.handle.get_or_init(|| self.host.handle(source)).clone();
        let watch = handle.watch(borrow(fd), Interest::ReadWrite).map_err(|error| {
            let stack = self.host.stack();
            tracing::warn!("plugin {stack}: a socket of it cannot be polled: {error}");
            Errno::EOPNOTSUPP
        })?;
        *self.open.lock() = Some(Open { fd, _watch: watch });
        Ok(())
    }

    /// Says who is to be told of news.
    pub(crate) fn observe(&self, events: Arc<dyn SocketEvents>) {
        let _ = self.events.set(events);
    }

    /// Tells of news.
    pub(crate) fn changed(&self) {
        if let Some(events) = self.events.get() {
            events.changed();
        }
    }

    /// Has the thread of the plugin look after the socket.
    pub(crate) fn wake(&self) {
        if let Some(handle) = self.handle.get() {
            handle.wake();
        }
    }

    /// The same at some instant.
    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.handle.get()
    }

    /// The descriptor. Errors: `EBADF` once it is closed.
    pub(crate) fn fd(&self) -> Result<PluginFd, Errno> {
        self.open.lock().as_ref().map(|open| open.fd).ok_or(Errno::EBADF)
    }

    /// Stops watching the descriptor; the caller closes it, on the plugin's thread.
    pub(crate) fn release(&self) -> Option<PluginFd> {
        self.open.lock().take().map(|open| open.fd)
    }

    /// Has the plugin do something with the socket. Errors: the plugin's.
    pub(crate) fn call<R: Send + 'static>(
        &self,
        what: &str,
        job: impl FnOnce(&Plugin, PluginFd) -> Result<R, Errno> + Send + 'static,
    ) -> Result<R, Errno> {
        let fd = self.fd()?;
        self.host.call(what, move |plugin, _| job(plugin, fd))
    }

    /// bind(2).
    pub(crate) fn bind(&self, addr: &SockAddr) -> Result<(), Errno> {
        let addr = *addr;
        self.call("bind", move |plugin, fd| plugin.bind(fd, &addr))
    }

    /// getsockname(2); the wildcard address when the plugin has no such function.
    pub(crate) fn local(&self) -> Result<SockAddr, Errno> {
        match self.call("getsockname", Plugin::local) {
            Err(Errno::ENOSYS) => {
                Ok(SockAddr::any(u16::try_from(self.spec.domain).unwrap_or_default()))
            }
            result => result,
        }
    }

    /// getpeername(2).
    pub(crate) fn peer(&self) -> Result<SockAddr, Errno> {
        self.call("getpeername", Plugin::peer)
    }

    /// setsockopt(2).
    pub(crate) fn set_option(&self, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        if level == libc::SOL_SOCKET && OF_THE_GUEST.contains(&name) {
            self.options.lock().insert(name, value.to_vec());
            return Ok(());
        }
        let value = value.to_vec();
        self.call("setsockopt", move |plugin, fd| plugin.set_option(fd, level, name, &value))
    }

    /// getsockopt(2).
    pub(crate) fn option(&self, level: i32, name: i32, given: &[u8]) -> Result<Vec<u8>, Errno> {
        if level == libc::SOL_SOCKET
            && let Some(value) = self.own_option(name)
        {
            return Ok(value);
        }
        let mut value = given.to_vec();
        value.resize(VALUE, 0);
        self.call("getsockopt", move |plugin, fd| plugin.option(fd, level, name, value))
    }

    /// The options at `SOL_SOCKET` that need no plugin.
    fn own_option(&self, name: i32) -> Option<Vec<u8>> {
        let int = |value: i32| Some(value.to_ne_bytes().to_vec());
        match name {
            libc::SO_TYPE => int(self.spec.kind),
            libc::SO_DOMAIN => int(self.spec.domain),
            libc::SO_PROTOCOL => int(protocol(&self.spec)),
            libc::SO_RCVTIMEO | libc::SO_SNDTIMEO => {
                Some(self.options.lock().get(&name).cloned().unwrap_or_else(|| vec![0; 16]))
            }
            libc::SO_TIMESTAMP | libc::SO_TIMESTAMPNS => {
                Some(self.options.lock().get(&name).cloned().unwrap_or_else(|| vec![0; 4]))
            }
            _ => None,
        }
    }

    /// A socket's own ioctl(2).
    pub(crate) fn ioctl(&self, request: u32, argument: &mut Vec<u8>) -> Result<i32, Errno> {
        let mut copy = argument.clone();
        let (value, copy) = self.call("ioctl", move |plugin, fd| {
            plugin.ioctl(fd, request, &mut copy).map(|value| (value, copy))
        })?;
        *argument = copy;
        Ok(value)
    }

    /// Keeps an error for who asks for it.
    pub(crate) fn fail(&self, errno: Errno) {
        *self.error.lock() = Some(errno);
    }

    /// Takes that error.
    pub(crate) fn take_error(&self) -> Option<Errno> {
        self.error.lock().take()
    }
}

/// Opens a socket that does not block, on the plugin's thread.
pub(crate) fn open(
    plugin: &Plugin,
    running: &Running,
    spec: &SocketSpec,
) -> Result<PluginFd, Errno> {
    let fd = plugin.socket(spec)?;
    running.opened(fd);
    prepare(plugin, fd).inspect_err(|_| running.close(plugin, fd))?;
    Ok(fd)
}

/// Makes a descriptor of a plugin one that neither blocks nor is inherited.
pub(crate) fn prepare(plugin: &Plugin, fd: PluginFd) -> Result<(), Errno> {
    let _ = fcntl(borrow(fd), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    plugin.set_nonblocking(fd)
}

/// The protocol of a socket; the usual one of its type when it was left open.
fn protocol(spec: &SocketSpec) -> i32 {
    match (spec.domain, spec.kind, spec.protocol) {
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM, 0) => libc::IPPROTO_TCP,
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM, 0) => libc::IPPROTO_UDP,
        (.., protocol) => protocol,
    }
}
