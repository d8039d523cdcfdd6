//! send(2) on a stream, made for the guest: sendto(2) with an address, which TCP ignores and
//! AF_UNIX refuses.

use std::{
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use umvu_abi::Errno;
use umvu_tracer::api::{Action, Completer};

use super::unix;

/// How often a send that waits looks whether its guest has been interrupted.
const GLANCE: Duration = Duration::from_millis(20);

/// Sends what fits at once. Errors: `EAGAIN`, `EPIPE`, `ECONNRESET`.
pub(crate) fn send_some(guest: &OwnedFd, data: &[u8]) -> Result<usize, Errno> {
    unix::send(guest, data).map_err(Errno::from)
}

/// Sends all of `data` as a blocking socket does, on a thread of its own; `finish` makes the
/// answer. A signal or SO_SNDTIMEO ends it early.
pub(crate) fn send_all(
    guest: OwnedFd,
    data: Vec<u8>,
    completer: Completer,
    finish: impl FnOnce(Result<usize, Errno>) -> Action + Send + 'static,
) {
    let limit = unix::send_timeout(&guest).map(|limit| Instant::now() + limit);
    let work = move || {
        let mut sent = 0;
        let failure = loop {
            match send_some(&guest, &data[sent..]) {
                Ok(count) => sent += count,
                Err(Errno::EAGAIN) => wait(&guest),
                Err(errno) => break Some(errno),
            }
            if sent == data.len() {
                break None;
            }
            if completer.cancelled() || limit.is_some_and(|limit| limit <= Instant::now()) {
                break Some(Errno::EAGAIN);
            }
        };
        match failure {
            Some(_) if sent == 0 && completer.cancelled() => completer.forget(),
            Some(errno) if sent == 0 => completer.complete(finish(Err(errno))),
            _ => completer.complete(finish(Ok(sent))),
        }
    };
    // Without a thread the completer is dropped, and the call returns EIO.
    let _ = std::thread::Builder::new().name("umvu-send".into()).spawn(work);
}

fn wait(guest: &OwnedFd) {
    let mut set = [PollFd::new(guest.as_fd(), PollFlags::POLLOUT)];
    let _ = poll(&mut set, PollTimeout::try_from(GLANCE).unwrap_or(PollTimeout::ZERO));
}
