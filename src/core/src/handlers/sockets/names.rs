//! bind(2), getsockname(2), getpeername(2).

use umvu_abi::SockAddr;
use umvu_tracer::api::{Action, Call, Reply};

use super::{or_native, with_socket};
use crate::{
    Core,
    guest::{self, Purpose},
    paths::unix,
};

/// Where the hardware address is in `struct sockaddr_ll`.
const PACKET_NAME: usize = 12;

pub(super) fn bind(core: &Core, call: &Call) -> Action {
    if let Some(action) = unix::bind(core, call) {
        return action;
    }
    with_socket(core, call, |one| {
        let addr = guest::read_sockaddr(
            call.guest.as_ref(),
            call.addr(1),
            call.int(2),
            &one.spec,
            Purpose::Bind,
        )?;
        match one.socket().bind(&addr) {
            Err(umvu_abi::Errno::EADDRINUSE) => {
                // The holder may have been closed without an event.
                core.sockets.sweep();
                one.socket().bind(&addr)?;
            }
            result => result?,
        }
        Ok(Action::value(0))
    })
}

pub(super) fn getsockname(core: &Core, call: &Call) -> Action {
    let told = with_socket(core, call, |one| {
        core.sockets.settle_requests(one);
        let addr = one.socket().local()?;
        let mut bytes = addr.encode();
        if let SockAddr::Packet(link) = addr {
            // As long as its hardware address.
            bytes.truncate(PACKET_NAME + usize::from(link.halen));
        }
        let writes = guest::name_writes(call.guest.as_ref(), bytes, call.addr(1), call.addr(2))?;
        Ok(Action::Return(Reply { result: Ok(0), writes }))
    });
    or_native(told, || unix::tell(core, call, 1))
}

pub(super) fn getpeername(core: &Core, call: &Call) -> Action {
    let told = with_socket(core, call, |one| {
        let addr = one.socket().peer()?;
        let writes =
            guest::sockaddr_writes(call.guest.as_ref(), &addr, call.addr(1), call.addr(2))?;
        Ok(Action::Return(Reply { result: Ok(0), writes }))
    });
    or_native(told, || unix::tell(core, call, 1))
}
