//! How the two ends of a cable find each other at a path.
//!
//! Nobody there: listen. A listener: connect to it. A socket that refuses was left by an end that
//! died, and is replaced. A datagram socket belongs to an end of older releases of VDE, whose
//! second end binds the path with a `+` appended.

use std::{
    ffi::OsString,
    fs::{self, Permissions},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixListener},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollEvent, EpollFlags},
        socket::{
            AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
        },
    },
};

use crate::vde::handshake::BoundPath;

/// How often ends may come and go while we look for one.
const ATTEMPTS: usize = 16;
const FLAGS: SockFlag = SockFlag::SOCK_CLOEXEC.union(SockFlag::SOCK_NONBLOCK);
const MODE: u32 = 0o700;

/// Which end we are.
pub(super) enum Meeting {
    First(Listener),
    Second(OwnedFd),
    Datagram(OwnedFd, BoundPath),
}

/// The socket at the path, removed with this value.
#[derive(Debug)]
pub(super) struct Listener {
    /// Of packets, not of a stream; only `accept` is asked of it.
    socket: UnixListener,
    _path: BoundPath,
}

/// Connects to the other end, or waits for it.
pub(super) fn meet(path: &Path) -> io::Result<Meeting> {
    let address = UnixAddr::new(path)?;
    for _ in 0..ATTEMPTS {
        let caller = socket(AddressFamily::Unix, SockType::SeqPacket, FLAGS, None)?;
        match connect(caller.as_raw_fd(), &address) {
            Ok(()) => return Ok(Meeting::Second(caller)),
            Err(Errno::ENOENT) => {}
            Err(Errno::ECONNREFUSED) => remove_stale(path)?,
            Err(Errno::EPROTOTYPE) => match meet_datagram(path, &address) {
                Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) => {
                    remove_stale(path)?;
                }
                other => return other,
            },
            Err(error) => return Err(error.into()),
        }
        match Listener::bind(path, &address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            other => return other.map(Meeting::First),
        }
    }
    Err(Errno::EBUSY.into())
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn meet_datagram(path: &Path, address: &UnixAddr) -> io::Result<Meeting> {
    let own = PathBuf::from(OsString::from_iter([path.as_os_str(), "+".as_ref()]));
    let cable = socket(AddressFamily::Unix, SockType::Datagram, FLAGS, None)?;
    connect(cable.as_raw_fd(), address)?;
    let own_address = UnixAddr::new(&own)?;
    if bind(cable.as_raw_fd(), &own_address) == Err(Errno::EADDRINUSE) {
        let probe = socket(AddressFamily::Unix, SockType::Datagram, FLAGS, None)?;
        if connect(probe.as_raw_fd(), &own_address) != Err(Errno::ECONNREFUSED) {
            return Err(Errno::EADDRINUSE.into());
        }
        remove_stale(&own)?;
        bind(cable.as_raw_fd(), &own_address)?;
    }
    let own = BoundPath(own);
    fs::set_permissions(&own.0, Permissions::from_mode(MODE))?;
    Ok(Meeting::Datagram(cable, own))
}

impl Listener {
    fn bind(path: &Path, address: &UnixAddr) -> io::Result<Self> {
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, FLAGS, None)?;
        bind(socket.as_raw_fd(), address)?;
        let path = BoundPath(path.to_owned());
        fs::set_permissions(&path.0, Permissions::from_mode(MODE))?;
        listen(&socket, Backlog::new(1)?)?;
        Ok(Self { socket: socket.into(), _path: path })
    }

    pub(super) fn watch(&self, epoll: &Epoll) -> nix::Result<()> {
        epoll.add(&self.socket, EpollEvent::new(EpollFlags::EPOLLIN, 0))
    }

    /// Accepts who came.
    pub(super) fn accept(&self) -> io::Result<OwnedFd> {
        self.socket.accept().map(|(socket, _)| socket.into())
    }
}
