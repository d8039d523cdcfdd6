//! recvfrom(2) with an address, recvmsg(2), recvmmsg(2).

use std::time::{Duration, Instant};

use umvu_abi::{Errno, GuestAddr};
use umvu_tracer::api::{Action, Call};

use super::{
    data,
    message::{self, MULTI_SIZE},
    or_native,
    send::MESSAGES_LIMIT,
    with_socket,
};
use crate::{
    Core,
    bridge::{Batch, Datagrams, Kind, Request, Way},
    guest,
    paths::unix,
};

/// The flags that AF_UNIX does not know.
pub(super) const TOLD: i32 = libc::MSG_ERRQUEUE | libc::MSG_TRUNC;
/// Those that mean something else to it where datagrams are received.
pub(super) const AT_ONCE: i32 = libc::MSG_DONTWAIT | libc::MSG_OOB;

pub(super) fn recvfrom(core: &Core, call: &Call) -> Action {
    let is_plain = call.addr(4).is_null() && call.int(3) & TOLD == 0;
    if is_plain && call.int(3) & AT_ONCE == 0 && !core.sockets.hub().watcher.is_used() {
        return Action::Forward;
    }
    let told = with_socket(core, call, |one| {
        let room = match call.addr(4) {
            GuestAddr::NULL => 0,
            _ => guest::read_i32(call.guest.as_ref(), call.addr(5))?,
        };
        let length = usize::try_from(call.syscall.args[2]).unwrap_or(usize::MAX);
        let request = Request {
            buffers: vec![(call.addr(1), length)],
            flags: call.int(3),
            name: (call.addr(4), usize::try_from(room).map_err(|_| Errno::EINVAL)?),
            name_length: if call.addr(4).is_null() { GuestAddr::NULL } else { call.addr(5) },
            control: (GuestAddr::NULL, 0),
            header: GuestAddr::NULL,
            message_length: GuestAddr::NULL,
        };
        match &one.kind {
            // AF_UNIX does the rest as it should be.
            Kind::Datagram(datagram) if call.addr(4).is_null() && !is_ours(datagram, &request) => {
                if !is_plain {
                    // An answer that is due already is there.
                    core.sockets.hub().settle(&one.mount);
                }
                Ok(Action::Forward)
            }
            Kind::Stream(stream) if is_plain => {
                let refused = data::refusal(stream, call, Way::In, request.flags);
                Ok(refused.unwrap_or(Action::Forward))
            }
            Kind::Datagram(datagram) => {
                Ok(datagram.receive(one, core.sockets.hub(), call, request.into()))
            }
            Kind::Stream(stream) => stream.receive(call, request),
        }
    });
    or_native(told, || unix::tell(core, call, 4))
}

/// Whether a receive that asks for no address is not the kernel's.
fn is_ours(datagram: &Datagrams, request: &Request) -> bool {
    request.wants_errors() || datagram.is_strict() || (datagram.is_named() && request.is_at_once())
}

pub(super) fn recvmsg(core: &Core, call: &Call) -> Action {
    let told = with_socket(core, call, |one| {
        let request = decode(call, call.addr(1), call.int(2), GuestAddr::NULL)?;
        let datagram = match &one.kind {
            Kind::Datagram(datagram) => datagram,
            // AF_UNIX would name the other end, has no error queue, and tells nothing beside.
            Kind::Stream(stream)
                if !request.name.0.is_null()
                    || request.flags & (libc::MSG_ERRQUEUE | libc::MSG_TRUNC) != 0
                    || stream.tells_more(&request) =>
            {
                return stream.receive(call, request);
            }
            Kind::Stream(stream) => {
                let refused = data::refusal(stream, call, Way::In, request.flags);
                return Ok(refused.unwrap_or(Action::Forward));
            }
        };
        Ok(datagram.receive(one, core.sockets.hub(), call, request.into()))
    });
    or_native(told, || unix::tell_messages(core, call, None))
}

/// Receives messages until all are there, or a wait of one of them ends.
pub(super) fn recvmmsg(core: &Core, call: &Call) -> Action {
    let told = with_socket(core, call, |one| {
        let datagram = match &one.kind {
            Kind::Datagram(datagram) => datagram,
            Kind::Stream(stream) => {
                let refused = data::refusal(stream, call, Way::In, call.int(3));
                return Ok(refused.unwrap_or(Action::Forward));
            }
        };
        let count = call.syscall.args[2].min(MESSAGES_LIMIT);
        let until = match call.addr(4) {
            GuestAddr::NULL => None,
            at => Some(Instant::now() + read_timeout(call, at)?),
        };
        let headers = (0..count).map(|index| call.addr(1).offset(index * MULTI_SIZE));
        let requests: Vec<Request> = headers
            .map(|header| decode(call, header, call.int(3), header.offset(56)))
            .collect::<Result<_, _>>()?;
        if requests.is_empty() {
            return Ok(Action::value(0));
        }
        Ok(datagram.receive(one, core.sockets.hub(), call, Batch::new(requests, until)))
    });
    or_native(told, || unix::tell_messages(core, call, Some(MULTI_SIZE)))
}

/// A `struct timespec`. Errors: `EINVAL`.
fn read_timeout(call: &Call, at: GuestAddr) -> Result<Duration, Errno> {
    let mut bytes = [0; 16];
    call.guest.read(at, &mut bytes)?;
    let word = |at: usize| bytes[at..].first_chunk().map_or(0, |word| i64::from_ne_bytes(*word));
    let seconds = u64::try_from(word(0)).map_err(|_| Errno::EINVAL)?;
    let nanos = u32::try_from(word(8)).map_err(|_| Errno::EINVAL)?;
    if nanos > 999_999_999 {
        return Err(Errno::EINVAL);
    }
    // Longer than anybody waits, and no overflow of the clock.
    Ok(Duration::new(seconds.min(1 << 32), nanos))
}

fn decode(
    call: &Call,
    at: GuestAddr,
    flags: i32,
    message_length: GuestAddr,
) -> Result<Request, Errno> {
    let header = message::read(call.guest.as_ref(), at)?;
    Ok(Request {
        buffers: header.buffers,
        flags,
        name: header.name,
        name_length: GuestAddr::NULL,
        control: header.control,
        header: at,
        message_length,
    })
}
