//! Waiting for several sockets at once.

use std::{
    io,
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, poll as poll_fds},
    sys::eventfd::{EfdFlags, EventFd},
};
use umvu_abi::Errno;

use super::{
    bell::Watcher,
    endpoint::{Interest, Readiness},
    kernel::{events, patience},
    socket::Socket,
};

/// Watches sockets as long as it lives.
struct Watch<'a> {
    sockets: &'a [(&'a Socket, Interest)],
    watcher: Watcher,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        for (socket, _) in self.sockets {
            socket.unwatch(&self.watcher);
        }
    }
}

/// Waits until one of some sockets, of one stack or of many, can do what is asked of it; gives the
/// readiness of each, in their order. All are [`Readiness::default`] when the timeout has passed.
/// Errors: `ENETDOWN` when a stack was stopped.
///
/// ```
/// use std::time::Duration;
/// use umvu_stacks::net::{Interest, Stack, UdpSocket, poll};
///
/// let stack = Stack::open("smoltcp", "null://,ip=10.0.0.1/24")?;
/// let one = UdpSocket::bind(&stack, "10.0.0.1:1")?;
/// let other = UdpSocket::bind(&stack, "10.0.0.1:2")?;
/// one.send_to(b"hello", "10.0.0.1:2")?;
/// let both = [(one.socket(), Interest::Read), (other.socket(), Interest::Read)];
/// let ready = poll(&both, Some(Duration::from_secs(10)))?;
/// assert_eq!([ready[0].readable, ready[1].readable], [false, true]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn poll(
    sockets: &[(&Socket, Interest)],
    timeout: Option<Duration>,
) -> io::Result<Vec<Readiness>> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let event = Arc::new(event);
    let ringing = Arc::clone(&event);
    let watcher: Watcher = Arc::new(move || _ = ringing.write(1));
    let watch = Watch { sockets, watcher };
    let mut fds = vec![PollFd::new(event.as_fd(), PollFlags::POLLIN)];
    for (socket, interest) in sockets {
        match socket.fd() {
            Some(fd) => {
                fds.push(PollFd::new(fd, events(*interest)));
                fds.push(PollFd::new(socket.halt().fd(), PollFlags::POLLIN));
            }
            None => _ = socket.watch(Arc::clone(&watch.watcher)),
        }
    }
    loop {
        let _ = event.read();
        if sockets.iter().any(|(socket, _)| socket.halt().is_stopped()) {
            return Err(Errno::ENETDOWN.into());
        }
        let ready: Vec<Readiness> = sockets.iter().map(|(socket, _)| socket.readiness()).collect();
        if ready.iter().zip(sockets).any(|(ready, (_, interest))| ready.satisfies(*interest)) {
            return Ok(ready);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(vec![Readiness::default(); sockets.len()]);
        }
        match poll_fds(&mut fds, patience(deadline)) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
