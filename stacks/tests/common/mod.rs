//! What the tests of mounted stacks share: a lab, and threads that wait for sockets.
#![allow(dead_code, reason = "each test uses its part")]

use std::{
    error::Error,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use umvu_abi::{
    Errno, SockAddr,
    module::{Module, MountError, MountRequest, Mounted},
    net::{
        DatagramSocket, NetStack, NewSocket, SocketEvents, SocketSpec, StreamSocket, StreamState,
    },
};
use umvu_reactor::Reactor;
use umvu_stacks::Vunet;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Counts changes, and lets a thread wait for the next one.
#[derive(Default)]
pub(crate) struct Bell {
    count: Mutex<u64>,
    rung: Condvar,
}

impl SocketEvents for Bell {
    fn changed(&self) {
        *self.count.lock().expect("no panic holds it") += 1;
        self.rung.notify_all();
    }
}

impl Bell {
    /// Waits, for ten seconds at most, until a condition holds.
    pub(crate) fn wait(&self, mut until: impl FnMut() -> bool) {
        for _ in 0..200 {
            let seen = *self.count.lock().expect("no panic holds it");
            for _ in 0..5000 {
                if until() {
                    return;
                }
                if *self.count.lock().expect("no panic holds it") == seen {
                    break;
                }
            }
            let count = self.count.lock().expect("no panic holds it");
            let again = Duration::from_millis(50);
            drop(self.rung.wait_timeout_while(count, again, |count| *count == seen));
        }
        panic!("nothing came for ten seconds");
    }
}

/// Stacks on a switch of their own.
pub(crate) struct Lab {
    pub(crate) smoltcp: Arc<dyn NetStack>,
    pub(crate) kernel: Arc<dyn NetStack>,
    pub(crate) vunet: Vunet,
    pub(crate) network: String,
    _directory: tempfile::TempDir,
}

impl Lab {
    /// A smoltcp stack (10.7.0.1, fc07::1) and a kernel's (10.7.0.2, fc07::2); None where the
    /// kernel does not let us make a namespace.
    pub(crate) fn with_kernel() -> Result<Option<Self>> {
        let directory = tempfile::tempdir()?;
        let network = format!("switch://{}", directory.path().join("sw").display());
        let vunet = Vunet::new(Reactor::start("stacks")?);
        let smoltcp = mount(&vunet, "smoltcp", &format!("{network},ip=10.7.0.1/24,ip=fc07::1"))?;
        let options = format!("{network},ip=10.7.0.2/24,ip=fc07::2");
        match mount(&vunet, "vdestack", &options) {
            Ok(kernel) => Ok(Some(Self { smoltcp, kernel, vunet, network, _directory: directory })),
            Err(error) if matches!(error.errno, Errno::EPERM | Errno::EACCES | Errno::ENOENT) => {
                eprintln!("skipped: {error}");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.kernel.stop();
        self.smoltcp.stop();
    }
}

/// Mounts a `vunetioth`.
pub(crate) fn mount(
    vunet: &Vunet,
    source: &str,
    data: &str,
) -> std::result::Result<Arc<dyn NetStack>, MountError> {
    let request = MountRequest {
        source: source.to_owned(),
        target: format!("/dev/net/{source}"),
        fstype: "vunetioth".to_owned(),
        flags: 0,
        data: data.to_owned(),
        environment: Vec::new(),
        view: String::new(),
    };
    let Mounted::Stack(stack) = vunet.mount(&request)? else {
        unreachable!("vunet mounts stacks only")
    };
    Ok(stack)
}

/// Makes a TCP socket of a smoltcp stack.
pub(crate) fn stream(
    stack: &dyn NetStack,
    v6: bool,
    bell: &Arc<Bell>,
) -> Result<Arc<dyn StreamSocket>> {
    let domain = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    let spec = SocketSpec { domain, kind: libc::SOCK_STREAM, protocol: 0 };
    match stack.socket(&spec, Arc::clone(bell) as Arc<dyn SocketEvents>)? {
        NewSocket::Stream(socket) => Ok(socket),
        other => Err(format!("not a stream: {other:?}").into()),
    }
}

/// Makes a datagram socket of a smoltcp stack.
pub(crate) fn datagram(
    stack: &dyn NetStack,
    v6: bool,
    kind: i32,
    protocol: i32,
    bell: &Arc<Bell>,
) -> Result<Arc<dyn DatagramSocket>> {
    let domain = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    let spec = SocketSpec { domain, kind, protocol };
    match stack.socket(&spec, Arc::clone(bell) as Arc<dyn SocketEvents>)? {
        NewSocket::Datagram(socket) => Ok(socket),
        other => Err(format!("not a datagram socket: {other:?}").into()),
    }
}

pub(crate) fn address(text: &str) -> Result<SockAddr> {
    Ok(text.parse::<SocketAddr>()?.into())
}

pub(crate) fn established(socket: &dyn StreamSocket) -> bool {
    matches!(socket.state(), StreamState::Established { .. })
}

/// Sends everything.
pub(crate) fn write_all(socket: &dyn StreamSocket, bell: &Bell, mut data: &[u8]) {
    while !data.is_empty() {
        let count = socket
            .transmit(&mut |room| {
                let count = room.len().min(data.len());
                room[..count].copy_from_slice(&data[..count]);
                data = &data[count..];
                Ok(count)
            })
            .expect("open");
        if count == 0 {
            bell.wait(|| socket.wants_data());
        }
    }
}

/// Receives until the peer has closed.
pub(crate) fn read_all(socket: &dyn StreamSocket, bell: &Bell) -> Vec<u8> {
    let mut got = Vec::new();
    loop {
        let before = got.len();
        bell.wait(|| {
            let _ = socket.receive(&mut |bytes| {
                got.extend_from_slice(bytes);
                Ok(bytes.len())
            });
            got.len() > before
                || !matches!(socket.state(), StreamState::Established { peer_closed: false })
        });
        if got.len() == before {
            return got;
        }
    }
}
