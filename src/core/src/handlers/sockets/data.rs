//! read(2), write(2), recv(2) and send(2) on a socket whose data calls are trapped for a while
//! ([`crate::bridge`], `strict`).

use umvu_abi::{Errno, GuestAddr, net::SendControl};
use umvu_tracer::api::{Action, Call};

use super::{message, send::DATAGRAM_LIMIT};
pub(crate) use crate::bridge::Way;
use crate::{
    Core,
    bridge::{Kind, Request, Stream},
};

/// The answer for a socket that is strict; None for others, which are the kernel's. `buffers` are
/// read from the guest for such a socket only.
pub(crate) fn transfer(
    core: &Core,
    call: &Call,
    way: Way,
    flags: i32,
    buffers: impl FnOnce(&Call) -> Result<Vec<(GuestAddr, usize)>, Errno>,
) -> Option<Action> {
    let hub = core.sockets.hub();
    if !hub.watcher.is_used() {
        return None;
    }
    let one = core.sockets.find(call, call.fd(0)).ok().flatten()?;
    let datagram = match &one.kind {
        Kind::Stream(stream) => return refusal(stream, call, way, flags),
        Kind::Datagram(datagram) if datagram.is_strict() => datagram,
        Kind::Datagram(_) => return None,
    };
    let buffers = match buffers(call) {
        Ok(buffers) => buffers,
        Err(errno) => return Some(errno.into()),
    };
    Some(match way {
        Way::In => datagram.receive(&one, hub, call, Request::plain(buffers, flags).into()),
        Way::Out => {
            let sent = message::gather(call.guest.as_ref(), &buffers, DATAGRAM_LIMIT)
                .and_then(|data| datagram.send(call, &data, None, &control(flags)));
            Action::from(sent.map(|sent| i64::try_from(sent).unwrap_or(i64::MAX)))
        }
    })
}

/// The error of a call on a stream that AF_UNIX would make another one of, and SIGPIPE with it.
pub(super) fn refusal(stream: &Stream, call: &Call, way: Way, flags: i32) -> Option<Action> {
    let guest = call.guest.fetch_fd(call.fd(0)).ok()?;
    let errno = stream.refusal(&guest, way, flags & libc::MSG_OOB != 0)?;
    if errno == Errno::EPIPE && flags & libc::MSG_NOSIGNAL == 0 {
        call.guest.signal(libc::SIGPIPE);
    }
    Some(errno.into())
}

/// What flags ask for beside the data.
pub(super) fn control(flags: i32) -> SendControl {
    SendControl { more: flags & libc::MSG_MORE != 0, ..SendControl::default() }
}
