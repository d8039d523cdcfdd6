//! connect(2), listen(2), accept(2), shutdown(2).

use std::os::fd::OwnedFd;

use umvu_abi::{Errno, SockAddr, net::Shutdown};
use umvu_tracer::api::{Action, Call, FdReply};

use super::{or_native, with_fetched, with_socket};
use crate::{
    Core,
    bridge::{Kind, Place, Stream},
    guest::{self, Purpose},
    paths::unix,
};

pub(super) fn connect(core: &Core, call: &Call) -> Action {
    if let Some(action) = unix::connect(core, call) {
        return action;
    }
    with_fetched(core, call, |one, guest| {
        let addr = guest::read_sockaddr(
            call.guest.as_ref(),
            call.addr(1),
            call.int(2),
            &one.spec,
            Purpose::Connect,
        )?;
        let hub = core.sockets.hub();
        match &one.kind {
            Kind::Stream(stream) => stream.connect(one, hub, (call, guest), &addr, None),
            Kind::Datagram(datagram) => {
                let peer = (addr != SockAddr::Unspec).then_some(&addr);
                datagram.connect(one, hub, &guest, (Place::of(call), peer))?;
                Ok(Action::value(0))
            }
        }
    })
}

pub(super) fn listen(core: &Core, call: &Call) -> Action {
    with_socket(core, call, |one| match &one.kind {
        Kind::Stream(stream) => {
            // A negative backlog is the largest one (listen(2) takes it as unsigned).
            let backlog = u32::try_from(call.int(1)).unwrap_or(u32::MAX);
            let listen = || stream.listen(one, core.sockets.hub(), call, backlog);
            let done = match listen() {
                Err(Errno::EADDRINUSE) => {
                    core.sockets.sweep();
                    listen()
                }
                result => result,
            };
            stream.watch_accepts(one, core.sockets.hub(), call);
            done
        }
        Kind::Datagram(_) => Err(Errno::EOPNOTSUPP),
    })
}

pub(super) fn accept(core: &Core, call: &Call) -> Action {
    accept_with(core, call, 0)
}

pub(super) fn accept4(core: &Core, call: &Call) -> Action {
    accept_with(core, call, call.int(3))
}

fn accept_with(core: &Core, call: &Call, flags: i32) -> Action {
    if flags & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != 0 {
        return Errno::EINVAL.into();
    }
    let accepted = with_fetched(core, call, |one, guest| {
        let Kind::Stream(stream) = &one.kind else { return Err(Errno::EOPNOTSUPP) };
        let core = core.shared().ok_or(Errno::EIO)?;
        let copy = call.clone();
        let finish = move |result: Result<OwnedFd, Errno>| match result {
            Ok(fd) => given(&core, &copy, fd, flags),
            Err(errno) => errno.into(),
        };
        Ok(stream.accept(one, (call, guest), Box::new(finish)))
    });
    if call.addr(1).is_null() {
        accepted
    } else {
        or_native(accepted, || unix::tell(core, call, 1))
    }
}

/// The new descriptor, and the peer's address for the guest.
fn given(core: &Core, call: &Call, fd: OwnedFd, flags: i32) -> Action {
    let flow = core.sockets.flow_of(&fd);
    if let Some(Kind::Stream(stream)) = flow.as_ref().map(|flow| &flow.kind) {
        stream.hand_on(&fd);
    }
    let mut writes = Vec::new();
    if !call.addr(1).is_null() {
        let peer = flow.and_then(|flow| flow.socket().peer().ok()).unwrap_or(SockAddr::Unspec);
        let told = guest::sockaddr_writes(call.guest.as_ref(), &peer, call.addr(1), call.addr(2));
        match told {
            Ok(told) => writes = told,
            Err(errno) => return errno.into(),
        }
    }
    if flags & libc::SOCK_NONBLOCK != 0
        && let Err(errno) = crate::bridge::set_nonblocking(&fd)
    {
        return errno.into();
    }
    let close_on_exec = flags & libc::SOCK_CLOEXEC != 0;
    Action::ReturnFd(FdReply { fd, close_on_exec, writes, handing: None })
}

/// close(2), where it is trapped: with SO_LINGER the last one waits.
pub(super) fn close(core: &Core, call: &Call) -> Action {
    let hub = core.sockets.hub();
    if !hub.watcher.is_used() {
        return Action::Forward;
    }
    let lingers = |stream: &Stream| stream.linger_time().is_some();
    with_socket(core, call, |one| match &one.kind {
        Kind::Stream(stream) if lingers(stream) => {
            let guest = call.guest.fetch_fd(call.fd(0))?;
            let last = hub.watcher.is_last(one.inode());
            let waits = if last { stream.linger(one, call, &guest) } else { None };
            Ok(waits.unwrap_or(Action::Forward))
        }
        _ => Ok(Action::Forward),
    })
}

pub(super) fn shutdown(core: &Core, call: &Call) -> Action {
    with_socket(core, call, |one| {
        let how = match call.int(1) {
            libc::SHUT_RD => Shutdown::Read,
            libc::SHUT_WR => Shutdown::Write,
            libc::SHUT_RDWR => Shutdown::Both,
            _ => return Err(Errno::EINVAL),
        };
        match &one.kind {
            Kind::Stream(stream) => stream.shutdown(core.sockets.hub(), call, how),
            Kind::Datagram(datagram) => {
                // What was sent before is still to arrive.
                core.sockets.hub().settle(&one.mount);
                // Linux shuts it even where it says that there is no connection.
                let done = datagram.shutdown(one, how);
                if done == Err(Errno::ENOTCONN) {
                    crate::bridge::shut(&call.guest.fetch_fd(call.fd(0))?, how);
                }
                done.map(|()| Action::Forward)
            }
        }
    })
}
