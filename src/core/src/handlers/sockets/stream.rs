//! send(2) on a stream where AF_UNIX does not do what TCP does: with a destination, which TCP ignores;
//! with `MSG_MORE`; with `MSG_FASTOPEN`, which connects first.

use std::sync::Arc;

use umvu_abi::{Errno, GuestAddr, SockAddr};
use umvu_tracer::api::{Action, Call};

use super::message::{self, Header};
use crate::{
    Core,
    bridge::{self, Stream, Virtual, Way},
    guest::{self, Purpose},
};

/// The most of a stream that one call sends.
const STREAM_LIMIT: usize = 1 << 20;

/// What is to be sent, and to whom.
pub(super) struct Sending {
    buffers: Vec<(GuestAddr, usize)>,
    name: (GuestAddr, i32),
    flags: i32,
}

impl Sending {
    /// What sendto(2) is asked for.
    pub(super) fn of_sendto(call: &Call) -> Self {
        let length = usize::try_from(call.syscall.args[2]).unwrap_or(usize::MAX);
        let buffers = vec![(call.addr(1), length)];
        Self { buffers, name: (call.addr(4), call.int(5)), flags: call.int(3) }
    }

    /// What sendmsg(2) is asked for.
    pub(super) fn of_message(header: Header, flags: i32) -> Self {
        let (at, length) = header.name;
        let name = (at, i32::try_from(length).unwrap_or(i32::MAX));
        Self { buffers: header.buffers, name, flags }
    }

    /// Whether the kernel would do something else.
    pub(super) fn is_ours(flags: i32) -> bool {
        flags & libc::MSG_OOB == 0 && flags & (libc::MSG_MORE | libc::MSG_FASTOPEN) != 0
    }

    fn data(&self, call: &Call) -> Result<Vec<u8>, Errno> {
        let mut left = STREAM_LIMIT;
        let mut buffers = self.buffers.clone();
        for (_, length) in &mut buffers {
            *length = left.min(*length);
            left -= *length;
        }
        message::gather(call.guest.as_ref(), &buffers, STREAM_LIMIT)
    }

    /// Makes the call. Errors: `EPIPE` without a connection, `EFAULT`, those of connect(2).
    pub(super) fn send(
        &self,
        core: &Core,
        one: &Arc<Virtual>,
        stream: &Stream,
        call: &Call,
    ) -> Result<Action, Errno> {
        let (guest, flags) = (Arc::clone(&call.guest), self.flags);
        if flags & libc::MSG_FASTOPEN != 0 {
            return self.open(core, one, stream, call);
        }
        let finish = move |result: Result<usize, Errno>| {
            if result == Err(Errno::EPIPE) && flags & libc::MSG_NOSIGNAL == 0 {
                guest.signal(libc::SIGPIPE);
            }
            Action::from(result.map(|sent| i64::try_from(sent).unwrap_or(i64::MAX)))
        };
        let socket = call.guest.fetch_fd(call.fd(0))?;
        if let Some(refused) = stream.refusal(&socket, Way::Out, false) {
            return Ok(finish(Err(refused)));
        }
        if one.socket().peer().is_err() {
            return Ok(finish(Err(Errno::EPIPE)));
        }
        let mut data = self.data(call)?;
        let more = flags & libc::MSG_MORE != 0 && flags & libc::MSG_OOB == 0;
        let held = if more { stream.send_more(&data) } else { 0 };
        let rest = data.split_off(held);
        if rest.is_empty() {
            return Ok(finish(Ok(held)));
        }
        let waits = flags & libc::MSG_DONTWAIT == 0 && !bridge::is_nonblocking(&socket);
        match bridge::send_some(&socket, &rest) {
            Ok(sent) if sent < rest.len() && waits => {
                let sent = held + sent;
                let rest = rest[sent - held..].to_vec();
                let finish = move |more: Result<usize, Errno>| finish(Ok(sent + more.unwrap_or(0)));
                bridge::send_all(socket, rest, (call.defer)(), finish);
                Ok(Action::Pending)
            }
            Ok(sent) => Ok(finish(Ok(held + sent))),
            Err(_) if held > 0 => Ok(finish(Ok(held))),
            Err(Errno::EAGAIN) if waits => {
                bridge::send_all(socket, rest, (call.defer)(), finish);
                Ok(Action::Pending)
            }
            Err(errno) => Ok(finish(Err(errno))),
        }
    }

    /// Connects and sends, as Linux does for a server whose cookie it does not have: after the handshake.
    fn open(
        &self,
        core: &Core,
        one: &Arc<Virtual>,
        stream: &Stream,
        call: &Call,
    ) -> Result<Action, Errno> {
        let (at, length) = self.name;
        if at.is_null() || length == 0 {
            return Err(Errno::EINVAL);
        }
        let name =
            guest::read_sockaddr(call.guest.as_ref(), at, length, &one.spec, Purpose::Connect)?;
        if name == SockAddr::Unspec {
            return Err(Errno::EOPNOTSUPP);
        }
        let data = self.data(call)?;
        let socket = call.guest.fetch_fd(call.fd(0))?;
        stream.connect(one, core.sockets.hub(), (call, socket), &name, Some(data))
    }
}
