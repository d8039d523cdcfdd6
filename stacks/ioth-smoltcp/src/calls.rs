//! The calls of a program on its stacks and sockets, without pointers.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::RawFd,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::socket::SockFlag;
use umvu_abi::{
    Errno, SockAddr,
    control::{self, Messages},
    module::MountError,
    net::{SendControl, Shutdown},
};
use umvu_reactor::Reactor;
use umvu_stacks::net::{Received, Socket, Stack};

use crate::{
    message::{self, Arrived},
    open::Open,
    registry::{self, CurrentStack},
};

/// How long the end of a stack waits for its connections to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

type Result<T> = std::result::Result<T, Errno>;

/// Makes a stack on some networks. `options` are those of a mount. Tells on the standard error
/// what is wrong with them. Gives its number.
pub(crate) fn new_stack(networks: &[&str], options: &str, current: CurrentStack) -> Result<usize> {
    let reactor = Reactor::start("ioth_smoltcp")?;
    let mut builder = Stack::builder("smoltcp").reactor(reactor.clone());
    for network in networks {
        // A locator without a scheme is one only if it is said to be.
        builder = builder.network(&format!("if={network}"));
    }
    let stack = builder.options(options).open().map_err(|error| {
        eprintln!("ioth_smoltcp: {error}");
        let refusal = error.get_ref().and_then(|inner| inner.downcast_ref::<MountError>());
        refusal.map_or_else(|| Errno::from_io(&error), |refusal| refusal.errno)
    })?;
    Ok(registry::add(stack, reactor, current))
}

/// Ends a stack. Errors: `EBUSY` while it has sockets, `EINVAL`.
pub(crate) fn delete_stack(number: usize) -> Result<()> {
    let host = registry::remove(number)?;
    // What could not be delivered in time is lost, as when a machine is switched off.
    let _ = host.stack.clone().finish(GOODBYE);
    Ok(())
}

/// socket(2) on the stack of this call.
pub(crate) fn socket(domain: i32, kind: i32, protocol: i32) -> Result<RawFd> {
    let host = registry::current()?;
    let flags = SockFlag::from_bits_truncate(kind);
    let socket = Socket::open(&host.stack, domain, kind & !flags.bits(), protocol)?;
    Ok(Open::install(host, socket, flags)?)
}

/// bind(2).
pub(crate) fn bind(fd: RawFd, addr: &SockAddr) -> Result<()> {
    Ok(registry::find(fd)?.socket.bind(addr)?)
}

/// connect(2).
pub(crate) fn connect(fd: RawFd, addr: &SockAddr) -> Result<()> {
    let open = registry::find(fd)?;
    open.renew(fd)?;
    let started = number(open.socket.connect(addr));
    open.refresh();
    match started {
        Err(Errno::EINPROGRESS) if open.waits(0) => {}
        other => return other,
    }
    let deadline = open.socket.write_timeout().and_then(|time| Instant::now().checked_add(time));
    loop {
        open.wait_to_write(deadline).map_err(|errno| match errno {
            Errno::EAGAIN => Errno::EINPROGRESS,
            other => other,
        })?;
        let ready = open.socket.readiness();
        if ready.writable || ready.hangup {
            return open.socket.take_error()?.map_or(Ok(()), |error| Err(Errno::from_io(&error)));
        }
        open.refresh();
    }
}

/// listen(2).
pub(crate) fn listen(fd: RawFd, backlog: i32) -> Result<()> {
    let open = registry::find(fd)?;
    open.renew(fd)?;
    let listening = number(open.socket.listen(u32::try_from(backlog).unwrap_or(u32::MAX)));
    open.refresh();
    listening
}

/// accept(2): gives the descriptor and the peer.
pub(crate) fn accept(fd: RawFd) -> Result<(RawFd, SockAddr)> {
    let open = registry::find(fd)?;
    let (socket, peer) = wait_for(&open, 0, || open.socket.accept())?;
    Ok((Open::install(Arc::clone(&open.host), socket, SockFlag::empty())?, peer))
}

/// Tries until there is something to read, unless the call must not wait.
fn wait_for<T>(open: &Open, flags: i32, mut call: impl FnMut() -> io::Result<T>) -> Result<T> {
    loop {
        let result = number(call());
        open.refresh();
        match result {
            Err(Errno::EAGAIN) if open.waits(flags) => open.wait_to_read()?,
            other => return other,
        }
    }
}

/// recvmsg(2) without an address.
pub(crate) fn receive(fd: RawFd, buffers: &mut [IoSliceMut<'_>], flags: i32) -> Result<Arrived> {
    let open = registry::find(fd)?;
    if flags & libc::MSG_OOB != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & libc::MSG_ERRQUEUE != 0 {
        return Err(Errno::EAGAIN);
    }
    if open.socket.spec().kind == libc::SOCK_STREAM {
        let length = receive_stream(&open, buffers, flags)?;
        return Ok(Arrived {
            length,
            source: SockAddr::Unspec,
            control: Messages::default(),
            flags: 0,
        });
    }
    let mut data = vec![0; message::room(buffers)];
    let received = wait_for(&open, flags, || attempt(&open, &mut data, flags))?;
    message::scatter(&data[..received.length], buffers);
    let mut control = Messages::default();
    open.wanted.lock().messages(&received.meta, &mut control);
    let cut = received.full_length > received.length;
    let whole = flags & libc::MSG_TRUNC != 0;
    Ok(Arrived {
        length: if whole { received.full_length } else { received.length },
        source: received.meta.source,
        control,
        flags: if cut { libc::MSG_TRUNC } else { 0 },
    })
}

fn attempt(open: &Open, buffer: &mut [u8], flags: i32) -> io::Result<Received> {
    if flags & libc::MSG_PEEK != 0 { open.socket.peek(buffer) } else { open.socket.receive(buffer) }
}

/// Fills the buffers with what there is, or with `MSG_WAITALL` wholly.
fn receive_stream(open: &Open, buffers: &mut [IoSliceMut<'_>], flags: i32) -> Result<usize> {
    let peeks = flags & libc::MSG_PEEK != 0;
    let all = flags & libc::MSG_WAITALL != 0 && !peeks;
    let mut total = 0;
    for buffer in buffers {
        let mut done = 0;
        while done < buffer.len() {
            let part = &mut buffer[done..];
            // Only the first bytes are worth a wait.
            let patience = if total == 0 || all { flags } else { flags | libc::MSG_DONTWAIT };
            match wait_for(open, patience, || attempt(open, part, flags)) {
                Ok(received) if received.length == 0 => return Ok(total),
                Ok(received) => {
                    done += received.length;
                    total += received.length;
                }
                Err(_) if total > 0 => return Ok(total),
                Err(errno) => return Err(errno),
            }
            if peeks {
                return Ok(total);
            }
        }
    }
    Ok(total)
}

/// sendmsg(2).
pub(crate) fn send(
    fd: RawFd,
    pieces: &[IoSlice<'_>],
    to: Option<&SockAddr>,
    control: &[u8],
    flags: i32,
) -> Result<usize> {
    let open = registry::find(fd)?;
    if flags & libc::MSG_OOB != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if open.socket.spec().kind == libc::SOCK_STREAM {
        return send_stream(&open, pieces, flags);
    }
    let control = control::parse(control)?;
    let data = message::gather(pieces).ok_or(Errno::EMSGSIZE)?;
    let sent = number(open.socket.send_message(&data, to, &control));
    open.refresh();
    sent
}

/// Sends all pieces, or what there is room for when the call must not wait.
fn send_stream(open: &Open, pieces: &[IoSlice<'_>], flags: i32) -> Result<usize> {
    let deadline = open.socket.write_timeout().and_then(|time| Instant::now().checked_add(time));
    let mut total = 0;
    for piece in pieces {
        let mut left: &[u8] = piece;
        while !left.is_empty() {
            let sent = number(open.socket.send_message(left, None, &SendControl::default()));
            open.refresh();
            let sent = match sent {
                Err(Errno::EAGAIN) if open.waits(flags) => open.wait_to_write(deadline).map(|()| 0),
                other => other,
            };
            match sent {
                Ok(count) => {
                    total += count;
                    left = &left[count..];
                }
                Err(_) if total > 0 => return Ok(total),
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(total)
}

/// shutdown(2). Errors: `EINVAL` for another `how`, `ENOTCONN`.
pub(crate) fn shutdown(fd: RawFd, how: i32) -> Result<()> {
    let open = registry::find(fd)?;
    let how = match how {
        libc::SHUT_RD => Shutdown::Read,
        libc::SHUT_WR => Shutdown::Write,
        libc::SHUT_RDWR => Shutdown::Both,
        _ => return Err(Errno::EINVAL),
    };
    let listens = open.socket.int_option(libc::SOL_SOCKET, libc::SO_ACCEPTCONN).unwrap_or(0) != 0;
    open.socket.shutdown(how)?;
    if listens && how != Shutdown::Write {
        // Who waits in accept(2) is woken by it.
        open.end();
    } else {
        open.refresh();
    }
    Ok(())
}

/// getsockname(2).
pub(crate) fn local(fd: RawFd) -> Result<SockAddr> {
    Ok(registry::find(fd)?.socket.local_addr()?)
}

/// getpeername(2).
pub(crate) fn peer(fd: RawFd) -> Result<SockAddr> {
    Ok(registry::find(fd)?.socket.peer_addr()?)
}

/// setsockopt(2).
pub(crate) fn set_option(fd: RawFd, level: i32, name: i32, value: &[u8]) -> Result<()> {
    let open = registry::find(fd)?;
    open.socket.set_option(level, name, value)?;
    open.wanted.lock().follow(level, name, value);
    if (level, name) == (libc::SOL_SOCKET, libc::SO_RCVTIMEO) {
        open.follow_timeout()?;
    }
    Ok(())
}

/// getsockopt(2): the whole value.
pub(crate) fn option(fd: RawFd, level: i32, name: i32, given: &[u8]) -> Result<Vec<u8>> {
    let open = registry::find(fd)?;
    let value = open.socket.option_given(level, name, given)?;
    open.refresh();
    Ok(value)
}

/// The number of an error.
fn number<T>(result: io::Result<T>) -> Result<T> {
    result.map_err(|error| Errno::from_io(&error))
}
