//! The AF_UNIX sockets that stand for virtual ones: unix(7).

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    path::Path,
    sync::{LazyLock, OnceLock},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        resource::{Resource, getrlimit},
        socket::{
            self, AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, setsockopt, sockopt,
        },
        stat::fstat,
    },
};
use umvu_abi::{Errno, net::Shutdown};

use super::ffi;

/// What is asked for the buffers of a socket that carries bulk data; the kernel caps it.
const BULK: usize = 4 << 20;

/// More than the smallest send buffer takes.
const JUNK: usize = 8192;

/// An [`Errno`] of a nix error; a lack of descriptors is the system's, not the guest's.
pub(crate) fn errno(error: nix::Error) -> Errno {
    match error {
        nix::Error::EMFILE => Errno::ENFILE,
        error => Errno(error as i32),
    }
}

/// Descriptors from this number on are left for what serves the guests' calls: a fourth of what we
/// may have, which is the hard limit.
fn reserve() -> RawFd {
    static RESERVE: OnceLock<RawFd> = OnceLock::new();
    *RESERVE.get_or_init(|| {
        let (_, limit) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
        RawFd::try_from(limit - limit / 4).unwrap_or(RawFd::MAX)
    })
}

/// Keeps a socket that stays with us, if there is room for it. Errors: `ENFILE`.
fn admit(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    if fd.as_raw_fd() < reserve() { Ok(fd) } else { Err(Errno::ENFILE) }
}

/// A new socket of the given type; `nonblocking` sets O_NONBLOCK.
pub(crate) fn create(kind: SockType, nonblocking: bool) -> Result<OwnedFd, Errno> {
    let mut flags = SockFlag::SOCK_CLOEXEC;
    flags.set(SockFlag::SOCK_NONBLOCK, nonblocking);
    socket::socket(AddressFamily::Unix, kind, flags, None).map_err(errno).and_then(admit)
}

/// A new stream socket that waits as another one does. Errors: `ENFILE`.
pub(crate) fn like(other: &OwnedFd) -> Result<OwnedFd, Errno> {
    let new = create(SockType::Stream, is_nonblocking(other))?;
    for name in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO, libc::SO_OOBINLINE] {
        ffi::set_socket_option(&new, name, &ffi::socket_option(other, name)?)?;
    }
    Ok(new)
}

/// A connected, unnamed pair of datagram sockets: the guest's end and ours (non-blocking).
pub(crate) fn datagram_pair(nonblocking: bool) -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (guest, end) =
        socket::socketpair(AddressFamily::Unix, SockType::Datagram, None, flags).map_err(errno)?;
    if nonblocking {
        fcntl(&guest, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(errno)?;
    }
    widen(&end);
    Ok((guest, admit(end)?))
}

/// Binds to a path in the private directory.
pub(crate) fn bind_path(fd: &OwnedFd, path: &Path) -> Result<(), Errno> {
    bind(fd, &UnixAddr::new(path).map_err(errno)?)
}

/// bind(2).
pub(crate) fn bind(fd: &OwnedFd, addr: &UnixAddr) -> Result<(), Errno> {
    socket::bind(fd.as_raw_fd(), addr).map_err(errno)
}

/// connect(2) to a path.
pub(crate) fn connect_path(fd: &OwnedFd, path: &Path) -> Result<(), Errno> {
    let addr = UnixAddr::new(path).map_err(errno)?;
    socket::connect(fd.as_raw_fd(), &addr).map_err(errno)
}

/// listen(2); the kernel caps the backlog at its own limit.
pub(crate) fn listen(fd: &OwnedFd, backlog: u32) -> Result<(), Errno> {
    let most = socket::Backlog::MAXALLOWABLE;
    let backlog = i32::try_from(backlog).ok().and_then(|n| socket::Backlog::new(n).ok());
    socket::listen(fd, backlog.unwrap_or(most)).map_err(errno)
}

/// accept4(2), close-on-exec.
pub(crate) fn accept(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    let raw = socket::accept4(fd.as_raw_fd(), SockFlag::SOCK_CLOEXEC).map_err(errno)?;
    admit(ffi::owned(raw))
}

/// Asks for a large send buffer, as much as the kernel grants; AF_UNIX has no other.
pub(crate) fn widen(fd: &OwnedFd) {
    let _ = setsockopt(fd, sockopt::SndBuf, &BULK);
}

/// Whether this process made the connection that was accepted (`SO_PEERCRED`).
pub(crate) fn is_ours(accepted: &OwnedFd) -> bool {
    static OURS: LazyLock<u32> = LazyLock::new(std::process::id);
    socket::getsockopt(accepted, sockopt::PeerCredentials)
        .is_ok_and(|peer| u32::try_from(peer.pid()) == Ok(*OURS))
}

/// The `AF_*` number of a socket; None for other files.
pub(crate) fn domain(fd: &OwnedFd) -> Option<i32> {
    let domain = ffi::socket_option(fd, libc::SO_DOMAIN).ok()?;
    domain.first_chunk().map(|domain| i32::from_ne_bytes(*domain))
}

/// The inode number, which every duplicate shares.
pub(crate) fn inode(fd: &OwnedFd) -> Result<u64, Errno> {
    fstat(fd).map(|stat| stat.st_ino).map_err(errno)
}

/// The device and the inode number.
pub(crate) fn identity(fd: &OwnedFd) -> Result<(u64, u64), Errno> {
    fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).map_err(errno)
}

/// The device number of the kernel's socket file system.
pub(crate) fn socket_device(fd: &OwnedFd) -> Result<u64, Errno> {
    fstat(fd).map(|stat| stat.st_dev).map_err(errno)
}

/// Whether O_NONBLOCK is set.
pub(crate) fn is_nonblocking(fd: &OwnedFd) -> bool {
    fcntl(fd, FcntlArg::F_GETFL)
        .is_ok_and(|flags| OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK))
}

/// Whether something can be read or accepted right now.
pub(crate) fn is_readable(fd: &OwnedFd) -> bool {
    let mut set = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut set, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// Whether no data waits to be read.
pub(crate) fn is_empty(fd: &OwnedFd) -> bool {
    rustix::io::ioctl_fionread(fd).is_ok_and(|unread| unread == 0)
}

/// Whether something can be read right now, and urgent data is among it.
pub(crate) fn look_ahead(fd: &OwnedFd) -> PollFlags {
    let mut set = [PollFd::new(fd.as_fd(), PollFlags::POLLIN | PollFlags::POLLPRI)];
    let _ = poll(&mut set, PollTimeout::ZERO);
    set[0].revents().unwrap_or(PollFlags::empty())
}

/// Whether the other end of a connection is closed, or shut in both directions.
pub(crate) fn is_hung_up(fd: &OwnedFd) -> bool {
    let mut set = [PollFd::new(fd.as_fd(), PollFlags::empty())];
    poll(&mut set, PollTimeout::ZERO).is_ok_and(|count| count > 0)
        && set[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
}

/// Fills the send buffer so that no poll reports it writable; returns how many bytes it took.
pub(crate) fn fill_with_junk(guest: &OwnedFd) -> Result<usize, Errno> {
    setsockopt(guest, sockopt::SndBuf, &1).map_err(errno)?;
    let junk = [0; JUNK];
    let mut filled = 0;
    loop {
        match send(guest, &junk) {
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(filled),
            Err(error) => return Err(error.into()),
        }
        if filled % JUNK > 0 {
            return Ok(filled);
        }
    }
}

/// Takes exactly the junk out again.
pub(crate) fn drain_junk(end: &OwnedFd, mut left: usize) {
    let mut buffer = [0; JUNK];
    while left > 0 {
        let room = left.min(buffer.len());
        match receive(end, &mut buffer[..room]) {
            Ok(0) | Err(_) => return,
            Ok(count) => left -= count,
        }
    }
}

/// send(2), never blocking, never raising SIGPIPE.
pub(crate) fn send(fd: &OwnedFd, data: &[u8]) -> io::Result<usize> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    Ok(socket::send(fd.as_raw_fd(), data, flags)?)
}

/// The same for one byte that is urgent; it is not where AF_UNIX has no urgent data.
pub(crate) fn send_urgent(fd: &OwnedFd, byte: &[u8]) -> io::Result<usize> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_OOB;
    match socket::send(fd.as_raw_fd(), byte, flags) {
        Err(nix::Error::EOPNOTSUPP) => send(fd, byte),
        result => Ok(result?),
    }
}

/// sendto(2) to a path, never blocking.
pub(crate) fn send_to(fd: &OwnedFd, data: &[u8], path: &UnixAddr) -> io::Result<usize> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    Ok(socket::sendto(fd.as_raw_fd(), data, path, flags)?)
}

/// recv(2), never blocking.
pub(crate) fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(socket::recv(fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?)
}

/// The name of the other end.
pub(crate) fn peer_name(fd: &OwnedFd) -> Option<UnixAddr> {
    socket::getpeername(fd.as_raw_fd()).ok()
}

/// Sets O_NONBLOCK.
pub(crate) fn set_nonblocking(fd: &OwnedFd) -> Result<(), Errno> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(|_| ()).map_err(errno)
}

/// Ends the guest's reading: it sees end-of-file after what is queued.
pub(crate) fn shutdown_write(fd: &OwnedFd) {
    let _ = socket::shutdown(fd.as_raw_fd(), socket::Shutdown::Write);
}

/// shutdown(2).
pub(crate) fn shut(fd: &OwnedFd, how: Shutdown) {
    let how = match how {
        Shutdown::Read => socket::Shutdown::Read,
        Shutdown::Write => socket::Shutdown::Write,
        Shutdown::Both => socket::Shutdown::Both,
    };
    let _ = socket::shutdown(fd.as_raw_fd(), how);
}

/// Ends both directions, or the listening.
pub(crate) fn shutdown(fd: &OwnedFd) {
    let _ = socket::shutdown(fd.as_raw_fd(), socket::Shutdown::Both);
}

/// Refuses whatever anybody sends to this socket.
pub(crate) fn shutdown_read(fd: &OwnedFd) {
    let _ = socket::shutdown(fd.as_raw_fd(), socket::Shutdown::Read);
}

/// Takes the pending error of a socket; returns whether there was one.
pub(crate) fn take_error(fd: &OwnedFd) -> bool {
    socket::getsockopt(fd, sockopt::SocketError).is_ok_and(|errno| errno != 0)
}

/// The SO_RCVTIMEO of a socket; None waits for ever.
pub(crate) fn receive_timeout(fd: &OwnedFd) -> Option<std::time::Duration> {
    wait_limit(socket::getsockopt(fd, sockopt::ReceiveTimeout).ok()?)
}

/// The SO_SNDTIMEO of a socket; None waits for ever.
pub(crate) fn send_timeout(fd: &OwnedFd) -> Option<std::time::Duration> {
    wait_limit(socket::getsockopt(fd, sockopt::SendTimeout).ok()?)
}

fn wait_limit(value: nix::sys::time::TimeVal) -> Option<std::time::Duration> {
    let seconds = u64::try_from(value.tv_sec()).ok()?;
    let micros = u64::try_from(value.tv_usec()).ok()?;
    let timeout =
        std::time::Duration::from_secs(seconds) + std::time::Duration::from_micros(micros);
    (!timeout.is_zero()).then_some(timeout)
}
