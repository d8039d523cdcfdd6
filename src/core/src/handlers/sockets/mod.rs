//! Socket calls: creation, naming, connections, options, messages.

mod connect;
pub(crate) mod data;
mod message;
mod names;
mod options;
mod receive;
mod send;
mod stream;

use std::{os::fd::OwnedFd, sync::Arc};

use umvu_abi::{Errno, net::SocketSpec, sockaddr};
use umvu_tracer::api::{Action, Before, Call, FdReply, Trap, Watch};

#[cfg(any(test, fuzzing))]
pub(crate) use self::{
    message::read as read_header,
    send::{DATAGRAM_LIMIT, Outgoing},
};
use crate::{
    Core,
    bridge::{self, Virtual},
    dispatch::{Handler, Row, always},
    view::Mount,
};

/// The flag bits of socket(2)'s type argument.
const TYPE_FLAGS: i32 = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
/// `SOCK_TYPE_MASK`: the others are flags.
const TYPE_MASK: i32 = 0xf;
/// `IPPROTO_MAX` and what follows is no protocol of an internet family.
const PROTOCOLS: std::ops::RangeInclusive<i32> = 0..=libc::IPPROTO_MPTCP;
const AF_UNIX: u32 = 1;

pub(crate) fn rows() -> Vec<Row> {
    let row = |name, trap, interruptible, handler: Handler, note| Row {
        name,
        trap,
        interruptible,
        handler,
        note,
    };
    vec![
        row(
            "socket",
            Trap::Unless { index: 0, mask: u32::MAX, value: AF_UNIX },
            false,
            socket,
            "on the thread's default stack; AF_UNIX is the kernel's",
        ),
        always("bind", names::bind, "yes"),
        row("connect", Trap::Always, true, connect::connect, "yes; AF_UNSPEC dissolves"),
        always("listen", connect::listen, "yes, with a backlog"),
        row("accept", ACCEPT, true, connect::accept, "native without an address"),
        row("accept4", ACCEPT, true, connect::accept4, "native without an address"),
        always("getsockname", names::getsockname, "yes"),
        always("getpeername", names::getpeername, "yes"),
        always("setsockopt", options::setsockopt, "what the stack knows"),
        always("getsockopt", options::getsockopt, "what the stack knows"),
        always("shutdown", connect::shutdown, "yes"),
        row(
            "close",
            Trap::Watched(Watch::Descriptor, Before::Never),
            false,
            connect::close,
            "native; that of a TCP socket with SO_LINGER waits",
        ),
        row("sendto", SENDTO, true, send::sendto, "native without an address"),
        row("sendmsg", Trap::Always, true, send::sendmsg, "yes"),
        row("sendmmsg", Trap::Always, true, send::sendmmsg, "yes"),
        row("recvfrom", RECVFROM, true, receive::recvfrom, "native without an address"),
        row("recvmsg", Trap::Always, true, receive::recvmsg, "yes"),
        row("recvmmsg", Trap::Always, true, receive::recvmmsg, "yes"),
    ]
}

/// When accept(2) is trapped: AF_UNIX would tell its own address, and hands no option on.
const ACCEPT: Trap = Trap::Watched(Watch::Descriptor, Before::NonNull(1));

/// When recvfrom(2) is trapped: AF_UNIX has no error queue, throws no bytes of a stream away, and
/// does not know what is on its way; datagrams of the internet have nothing out of band.
const RECVFROM: Trap =
    Trap::Watched(Watch::Descriptor, Before::NonNullOr { pointer: 4, index: 3, mask: 0x2061 });
const _: () = assert!(receive::TOLD | receive::AT_ONCE == 0x2061);

/// When sendto(2) is trapped: AF_UNIX does not put data together, refuses what is out of band, and does not
/// connect.
const SENDTO: Trap =
    Trap::Watched(Watch::Descriptor, Before::NonNullOr { pointer: 4, index: 3, mask: 0x2000_8001 });
const _: () = assert!(libc::MSG_MORE | libc::MSG_OOB | libc::MSG_FASTOPEN == 0x2000_8001);

fn socket(core: &Core, call: &Call) -> Action {
    let stack = core.tasks.get(call.tid()).stack(call.int(0));
    create(core, call, stack, [call.int(0), call.int(1), call.int(2)])
}

/// Makes a socket on a stack; None is the kernel's.
pub(crate) fn create(
    core: &Core,
    call: &Call,
    stack: Option<Arc<Mount>>,
    [domain, kind, protocol]: [i32; 3],
) -> Action {
    if kind & !(TYPE_FLAGS | TYPE_MASK) != 0 {
        return Errno::EINVAL.into();
    }
    let Some(mount) = stack else {
        return if call.syscall.number < 0 {
            kernel_socket(domain, kind, protocol)
        } else {
            Action::Forward
        };
    };
    if !mount.stack().supports(domain) {
        return Errno::EAFNOSUPPORT.into();
    }
    let is_obsolete = domain == libc::AF_INET && kind & TYPE_MASK == sockaddr::SOCK_PACKET;
    let domain = if is_obsolete { libc::AF_PACKET } else { domain };
    let is_inet = matches!(domain, libc::AF_INET | libc::AF_INET6);
    if is_inet && !PROTOCOLS.contains(&protocol) {
        return Errno::EINVAL.into();
    }
    let spec = SocketSpec { domain, kind: kind & !TYPE_FLAGS, protocol };
    core.say(call.tid(), b'N', || format!("{spec:?} on {}", mount.target));
    let process = u32::try_from(core.paths.leader(call.tid()).0).unwrap_or(0);
    match core.sockets.create(&mount, spec, kind & libc::SOCK_NONBLOCK != 0, process) {
        // A socket of the kernel has the kernel's errors.
        Ok(fd)
            if (is_inet, spec.kind) == (true, libc::SOCK_STREAM)
                && bridge::domain(&fd) == Some(libc::AF_UNIX)
                && core.sockets.hub().is_to_follow() =>
        {
            new_descriptor(fd, kind).followed()
        }
        Ok(fd) => new_descriptor(fd, kind),
        Err(errno) => errno.into(),
    }
}

fn new_descriptor(fd: OwnedFd, kind: i32) -> Action {
    let close_on_exec = kind & libc::SOCK_CLOEXEC != 0;
    Action::ReturnFd(FdReply { fd, close_on_exec, writes: Vec::new(), handing: None })
}

/// `msocket("kernel", ...)`: a socket of the kernel's own stack.
fn kernel_socket(domain: i32, kind: i32, protocol: i32) -> Action {
    match bridge::host_socket(domain, kind | libc::SOCK_CLOEXEC, protocol) {
        Ok(fd) => new_descriptor(fd, kind),
        Err(errno) => errno.into(),
    }
}

/// What is done about a socket of the kernel.
fn or_native(action: Action, native: impl FnOnce() -> Action) -> Action {
    if matches!(action, Action::Forward) { native() } else { action }
}

/// Runs `then` on the virtual socket behind argument 0; any other descriptor is forwarded.
fn with_socket(
    core: &Core,
    call: &Call,
    then: impl FnOnce(&Arc<Virtual>) -> Result<Action, Errno>,
) -> Action {
    with_found(core.sockets.find(call, call.fd(0)), |one| then(&one))
}

/// The same with the guest's socket.
fn with_fetched(
    core: &Core,
    call: &Call,
    then: impl FnOnce(&Arc<Virtual>, OwnedFd) -> Result<Action, Errno>,
) -> Action {
    with_found(core.sockets.fetch(call, call.fd(0)), |(one, guest)| then(&one, guest))
}

fn with_found<T>(
    found: Result<Option<T>, Errno>,
    then: impl FnOnce(T) -> Result<Action, Errno>,
) -> Action {
    match found {
        Ok(Some(found)) => then(found).unwrap_or_else(Action::error),
        // Whose socket it is cannot be told now.
        Err(errno @ (Errno::ENFILE | Errno::ENOMEM)) => errno.into(),
        // A bad descriptor is the kernel's to refuse.
        Ok(None) | Err(_) => Action::Forward,
    }
}
