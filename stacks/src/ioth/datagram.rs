//! A UDP, ICMP, raw, packet or netlink socket of a plugin, as the bridge sees it.
//!
//! What the plugin receives is taken from it as it comes, into a bounded queue. Sending is a request
//! to the plugin's thread, since its errors are the guest's.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use umvu_abi::{
    Errno, SockAddr,
    net::{Datagram, DatagramSocket, SendControl, Shutdown, Socket, SocketSpec},
};
use umvu_reactor::{Ready, Source};

use super::{
    ffi::plugin::{Plugin, PluginFd},
    host::Host,
    message,
    socket::Common,
};

/// The largest datagram.
const LARGEST: usize = 1 << 17;
/// How many bytes wait before the plugin has to keep what comes.
const QUEUE: usize = 512 << 10;
/// What a datagram counts beside its bytes.
const OVERHEAD: usize = 256;
/// How many datagrams one run takes.
const BATCH: usize = 128;
/// The room for control messages.
const CONTROL: usize = 512;
/// How often, and how far apart, a send is tried that finds no room.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(1);

/// A datagram socket.
pub(crate) struct Datagrams {
    common: Common,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<Datagram>,
    bytes: usize,
    readable: bool,
    /// The last attempt has met an error; another one in a row is no news.
    failed: bool,
    /// Where unnamed datagrams come from.
    peer: Option<SockAddr>,
}

impl Datagrams {
    /// Wraps a descriptor that the plugin has just made. Errors: `EOPNOTSUPP`.
    pub(crate) fn new(
        host: &Arc<Host>,
        spec: &SocketSpec,
        fd: PluginFd,
    ) -> Result<Arc<Self>, Errno> {
        let common = Common::new(host, spec);
        let socket = Arc::new_cyclic(|_: &Weak<Self>| Self { common, inner: Mutex::default() });
        let source = Arc::clone(&socket) as Arc<dyn Source>;
        socket.common.attach(&source, fd)?;
        Ok(socket)
    }

    /// What the socket has in common with others.
    pub(crate) fn common(&self) -> &Common {
        &self.common
    }

    fn pull(&self, plugin: &Plugin, fd: PluginFd) {
        let running = Arc::clone(self.common.host.running());
        let mut room = running.scratch(LARGEST);
        for _ in 0..BATCH {
            if self.inner.lock().bytes >= QUEUE {
                return self.common.changed();
            }
            match plugin.receive_message(fd, &mut room, CONTROL) {
                Ok(message) => {
                    let mut inner = self.inner.lock();
                    inner.failed = false;
                    let source = message.source.or(inner.peer).unwrap_or_else(|| self.unknown());
                    let meta = message::meta(source, &message.control);
                    inner.bytes += OVERHEAD + message.length;
                    inner.queue.push_back(Datagram {
                        data: room[..message.length].to_vec(),
                        meta,
                        packet: None,
                    });
                }
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    let mut inner = self.inner.lock();
                    let error = !matches!(errno, Errno::EAGAIN | Errno::ENOTCONN);
                    // There may be something behind it.
                    inner.readable = error && !inner.failed;
                    inner.failed = error;
                    if error {
                        self.common.fail(errno);
                        self.common.wake();
                    }
                    drop(inner);
                    return self.common.changed();
                }
            }
        }
        self.common.wake();
        self.common.changed();
    }

    /// The source of a datagram that has none.
    fn unknown(&self) -> SockAddr {
        if self.common.spec.domain == libc::AF_NETLINK {
            return SockAddr::Netlink { pid: 0, groups: 0 };
        }
        SockAddr::any(u16::try_from(self.common.spec.domain).unwrap_or_default())
    }
}

impl Source for Datagrams {
    fn run(&self, ready: Ready) {
        let (Ok(plugin), Ok(fd)) = (self.common.host.running().plugin(), self.common.fd()) else {
            return;
        };
        let readable = {
            let mut inner = self.inner.lock();
            inner.readable |= ready.readable;
            inner.readable
        };
        if readable {
            self.pull(&plugin, fd);
        }
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.close();
    }
}

impl Socket for Datagrams {
    fn bind(&self, addr: &SockAddr) -> Result<(), Errno> {
        self.common.bind(addr)
    }

    fn local(&self) -> Result<SockAddr, Errno> {
        self.common.local()
    }

    fn peer(&self) -> Result<SockAddr, Errno> {
        self.common.peer()
    }

    fn set_option(&self, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        self.common.set_option(level, name, value)
    }

    fn option(&self, level: i32, name: i32, given: &[u8]) -> Result<Vec<u8>, Errno> {
        self.common.option(level, name, given)
    }

    fn ioctl(&self, request: u32, argument: &mut Vec<u8>) -> Result<i32, Errno> {
        self.common.ioctl(request, argument)
    }

    fn take_error(&self) -> Option<Errno> {
        self.common.take_error()
    }

    fn close(&self) {
        if let Some(fd) = self.common.release() {
            self.common.host.post(move |plugin, running| running.close(plugin, fd));
        }
    }
}

impl DatagramSocket for Datagrams {
    fn connect(&self, peer: Option<&SockAddr>) -> Result<(), Errno> {
        let to = peer.copied().unwrap_or(SockAddr::Unspec);
        self.common.call("connect", move |plugin, fd| plugin.connect(fd, &to))?;
        self.inner.lock().peer = peer.copied();
        Ok(())
    }

    fn always_paired(&self) -> bool {
        matches!(self.common.spec.domain, libc::AF_NETLINK | libc::AF_PACKET)
    }

    fn send(
        &self,
        data: &[u8],
        to: Option<&SockAddr>,
        control: &SendControl,
    ) -> Result<usize, Errno> {
        let control = message::encode(control, self.common.spec.domain);
        let (data, to) = (data.to_vec(), to.copied());
        self.common.call("sendmsg", move |plugin, fd| {
            for _ in 0..TRIES {
                match plugin.send_message(fd, &data, to.as_ref(), &control) {
                    Err(Errno::EAGAIN) => std::thread::sleep(PAUSE),
                    Err(Errno::EINTR) => {}
                    result => return result,
                }
            }
            Err(Errno::ENOBUFS)
        })
    }

    fn receive(&self) -> Option<Datagram> {
        let mut inner = self.inner.lock();
        let datagram = inner.queue.pop_front()?;
        let was_full = inner.bytes >= QUEUE;
        inner.bytes -= OVERHEAD + datagram.data.len();
        let resume = was_full && inner.bytes < QUEUE && inner.readable;
        drop(inner);
        if resume {
            self.common.wake();
        }
        Some(datagram)
    }

    fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        self.common.call("shutdown", move |plugin, fd| plugin.shutdown(fd, how))
    }
}
