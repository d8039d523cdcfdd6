//! read(2), write(2), recv(2) and send(2) on a socket whose data calls are trapped for a while
//! ([`crate::bridge`], `strict`).

use umvu_abi::{Errno, GuestAddr, net::SendControl};
use umvu_tracer::api::{Action, Call};

use super::{message, send::DATAGRAM_LIMIT};
use crate::{
    Core,
    bridge::{Kind, Request},
};

/// Which way the data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the guest.
    In,
    /// From the guest.
    Out,
}

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
        Kind::Stream(stream) => {
            let guest = call.guest.fetch_fd(call.fd(0)).ok()?;
            return stream.take_refusal(&guest).map(Action::error);
        }
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

/// What flags ask for beside the data.
pub(super) fn control(flags: i32) -> SendControl {
    SendControl { more: flags & libc::MSG_MORE != 0, ..SendControl::default() }
}
