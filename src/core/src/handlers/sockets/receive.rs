//! recvfrom(2) with an address, recvmsg(2), recvmmsg(2).

use umvu_abi::{Errno, GuestAddr};
use umvu_tracer::api::{Action, Call};

use super::{message, with_socket};
use crate::{
    Core,
    bridge::{Kind, Request},
    guest,
};

pub(super) fn recvfrom(core: &Core, call: &Call) -> Action {
    with_socket(core, call, |one| {
        let Kind::Datagram(datagram) = &one.kind else { return Ok(Action::Forward) };
        let room = guest::read_i32(call.guest.as_ref(), call.addr(5))?;
        let length = usize::try_from(call.syscall.args[2]).unwrap_or(usize::MAX);
        let request = Request {
            buffers: vec![(call.addr(1), length)],
            flags: call.int(3),
            name: (call.addr(4), usize::try_from(room).map_err(|_| Errno::EINVAL)?),
            name_length: call.addr(5),
            control: (GuestAddr::NULL, 0),
            header: GuestAddr::NULL,
            message_length: GuestAddr::NULL,
        };
        Ok(datagram.receive(one, core.sockets.hub(), call, request))
    })
}

pub(super) fn recvmsg(core: &Core, call: &Call) -> Action {
    with_socket(core, call, |one| {
        let Kind::Datagram(datagram) = &one.kind else { return Ok(Action::Forward) };
        let request = decode(call, call.addr(1), call.int(2), GuestAddr::NULL)?;
        Ok(datagram.receive(one, core.sockets.hub(), call, request))
    })
}

/// Receives one message, which recvmmsg(2) may always do.
pub(super) fn recvmmsg(core: &Core, call: &Call) -> Action {
    with_socket(core, call, |one| {
        let Kind::Datagram(datagram) = &one.kind else { return Ok(Action::Forward) };
        if call.syscall.args[2] == 0 {
            return Ok(Action::value(0));
        }
        let header = call.addr(1);
        let request = decode(call, header, call.int(3), header.offset(56))?;
        Ok(datagram.receive(one, core.sockets.hub(), call, request))
    })
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
