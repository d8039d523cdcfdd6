//! setsockopt(2), getsockopt(2).

use umvu_abi::{Errno, GuestAddr};
use umvu_tracer::api::{Action, Call, Reply};

use super::with_socket;
use crate::{
    Core,
    bridge::{self, Kind, Place},
    guest,
};

/// The longest option value that is read or returned.
const VALUE_LIMIT: usize = 4096;

/// `struct sock_filter`, and the most of them (`BPF_MAXINSNS`).
const INSTRUCTION: usize = 8;
const INSTRUCTIONS: usize = 4096;

/// Options that the guest's own AF_UNIX socket must know too: its waits, time stamps and urgent data
/// are the kernel's.
const MIRRORED: [i32; 5] = [
    libc::SO_RCVTIMEO,
    libc::SO_SNDTIMEO,
    libc::SO_TIMESTAMP,
    libc::SO_TIMESTAMPNS,
    libc::SO_OOBINLINE,
];

/// Options of datagram sockets with which a send may fail, or not send, where AF_UNIX sends.
const STRICT: [(i32, i32); 6] = [
    (libc::SOL_IP, libc::IP_MTU_DISCOVER),
    (libc::SOL_IP, libc::IP_RECVERR),
    (libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER),
    (libc::SOL_IPV6, libc::IPV6_RECVERR),
    (libc::SOL_IPV6, libc::IPV6_DONTFRAG),
    (libc::SOL_UDP, libc::UDP_CORK),
];

/// What is told of the guest's AF_UNIX socket: its own cookie and that of the host's namespace, and
/// the memory that it uses.
const OF_THE_KERNEL: [i32; 3] = [libc::SO_MEMINFO, libc::SO_COOKIE, SO_NETNS_COOKIE];
const SO_NETNS_COOKIE: i32 = 71;

const TIMEOUTS: [i32; 2] = [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO];

/// The sizes that the pair of AF_UNIX sockets of a stream follows.
const BUFFERS: [i32; 4] =
    [libc::SO_SNDBUF, libc::SO_RCVBUF, libc::SO_SNDBUFFORCE, libc::SO_RCVBUFFORCE];

pub(super) fn setsockopt(core: &Core, call: &Call) -> Action {
    with_socket(core, call, |one| {
        let (level, name) = (call.int(1), call.int(2));
        let length = usize::try_from(call.int(4)).map_err(|_| Errno::EINVAL)?;
        let mut value = vec![0; length.min(VALUE_LIMIT)];
        if !value.is_empty() {
            call.guest.read(call.addr(3), &mut value)?;
        }
        if (level, name) == (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER) {
            value = read_filter(call, length)?;
        }
        if level == libc::SOL_SOCKET && MIRRORED.contains(&name) {
            let guest = call.guest.fetch_fd(call.fd(0))?;
            let set = || bridge::set_socket_option(&guest, name, &value);
            match &one.kind {
                // An accept of ours may have set a timeout for a moment.
                Kind::Stream(stream) => stream.exclusively(set)?,
                Kind::Datagram(_) => set()?,
            }
        }
        if let Kind::Datagram(datagram) = &one.kind {
            datagram.flush(one, core.sockets.hub());
            if is_membership(level, name) {
                datagram.note_group();
            }
        }
        one.socket().set_option(level, name, &value)?;
        if let Kind::Stream(stream) = &one.kind
            && (level, name) == (libc::SOL_SOCKET, libc::SO_LINGER)
            && stream.linger_time().is_some()
        {
            core.sockets.hub().watcher.watch(&Place::of(call), one.inode());
        }
        if let Kind::Stream(stream) = &one.kind
            && level == libc::SOL_SOCKET
            && MIRRORED.contains(&name)
        {
            stream.watch_accepts(one, core.sockets.hub(), call);
        }
        if let Kind::Stream(stream) = &one.kind
            && level == libc::SOL_SOCKET
            && BUFFERS.contains(&name)
        {
            stream.resize(&call.guest.fetch_fd(call.fd(0))?);
        }
        if let Kind::Datagram(datagram) = &one.kind {
            datagram.wanted.lock().follow(level, name, &value);
            let value = value.first_chunk().map_or(1, |value| i32::from_ne_bytes(*value));
            let on = match name {
                // IP_PMTUDISC_DO, IP_PMTUDISC_PROBE, IP_PMTUDISC_INTERFACE.
                libc::IP_MTU_DISCOVER | libc::IPV6_MTU_DISCOVER => (2..=4).contains(&value),
                _ => value != 0,
            };
            if on && STRICT.contains(&(level, name)) && !datagram.is_strict() {
                datagram.be_strict(one, core.sockets.hub(), call);
            }
        }
        Ok(Action::value(0))
    })
}

/// Whether an option joins a group or leaves one: those of ip(7) and ipv6(7), and `MCAST_*`.
fn is_membership(level: i32, name: i32) -> bool {
    match level {
        libc::SOL_IP => (libc::IP_ADD_MEMBERSHIP..=47).contains(&name),
        libc::SOL_IPV6 => (20..=21).contains(&name) || (42..=47).contains(&name),
        _ => false,
    }
}

pub(super) fn getsockopt(core: &Core, call: &Call) -> Action {
    with_socket(core, call, |one| {
        let (level, name) = (call.int(1), call.int(2));
        if level == libc::SOL_SOCKET && OF_THE_KERNEL.contains(&name) {
            return Ok(Action::Forward);
        }
        let room = guest::read_i32(call.guest.as_ref(), call.addr(4))?;
        let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
        let mut value = if (level, name) == (libc::SOL_SOCKET, libc::SO_ERROR) {
            if matches!(one.kind, Kind::Datagram(_)) {
                core.sockets.hub().settle(&one.mount);
            }
            let guest = call.guest.fetch_fd(call.fd(0))?;
            let errno = match &one.kind {
                Kind::Stream(stream) => stream.take_error(&guest),
                Kind::Datagram(datagram) => datagram.take_error(&guest),
            };
            errno.map_or(0, |errno| errno.0).to_ne_bytes().to_vec()
        } else if (level, name) == (libc::SOL_SOCKET, libc::SO_PEERNAME) {
            let peer = one.socket().peer()?.encode();
            if room > peer.len() {
                return Err(Errno::EINVAL);
            }
            peer
        } else if (level, name) == (libc::SOL_SOCKET, libc::SO_SNDBUF)
            && let Kind::Stream(stream) = &one.kind
            && stream.is_widened()
        {
            // What a writer finds is the kernel's, which has as much as it may.
            bridge::socket_option(&call.guest.fetch_fd(call.fd(0))?, name)?
        } else if level == libc::SOL_SOCKET && TIMEOUTS.contains(&name) {
            // As the kernel counts time; that of a listener is not its connections'.
            let guest = call.guest.fetch_fd(call.fd(0))?;
            let get = || bridge::socket_option(&guest, name);
            let own = match &one.kind {
                Kind::Stream(stream) => stream.exclusively(get)?,
                Kind::Datagram(_) => get()?,
            };
            let is_own = own.iter().any(|byte| *byte != 0);
            let told = one.socket().option(level, name, &[])?;
            if is_own || told.get(..8).is_some_and(|seconds| seconds.last() > Some(&0x7f)) {
                own
            } else {
                told
            }
        } else {
            one.socket().option(level, name, &given(call, level, room)?)?
        };
        if (level, name) == (libc::SOL_SOCKET, libc::SO_BINDTODEVICE)
            && !value.is_empty()
            && room < libc::IFNAMSIZ
        {
            return Err(Errno::EINVAL);
        }
        if (level, name) == (libc::SOL_SOCKET, libc::SO_GET_FILTER) {
            return give_filter(call, value, room);
        }
        shorten((level, name), &mut value, room);
        let length = i32::try_from(value.len()).unwrap_or(0).to_ne_bytes().to_vec();
        let writes = vec![(call.addr(3), value), (call.addr(4), length)];
        Ok(Action::Return(Reply { result: Ok(0), writes }))
    })
}

/// Cuts a value to the room that there is; a small number of IP becomes a byte (`do_ip_getsockopt`).
fn shorten((level, name): (i32, i32), value: &mut Vec<u8>, room: usize) {
    let number = value.first_chunk().filter(|_| value.len() == 4);
    let number = number.map_or(-1, |number| i32::from_ne_bytes(*number));
    if level == libc::SOL_IP
        && name != libc::IP_MULTICAST_IF
        && (1..4).contains(&room)
        && let Ok(byte) = u8::try_from(number)
    {
        *value = vec![byte];
    }
    value.truncate(room);
}

/// The program that a `struct sock_fprog` leads to. Errors: `EINVAL`, `EFAULT`.
fn read_filter(call: &Call, length: usize) -> Result<Vec<u8>, Errno> {
    let mut header = [0; 16];
    if length != header.len() {
        return Err(Errno::EINVAL);
    }
    call.guest.read(call.addr(3), &mut header)?;
    let [l0, l1, _, _, _, _, _, _, at @ ..] = header;
    let count = usize::from(u16::from_ne_bytes([l0, l1]));
    if count == 0 || count > INSTRUCTIONS {
        return Err(Errno::EINVAL);
    }
    let mut program = vec![0; count * INSTRUCTION];
    call.guest.read(GuestAddr(u64::from_ne_bytes(at)), &mut program)?;
    Ok(program)
}

/// SO_GET_FILTER: the length counts instructions, and 0 asks for it only. Errors: `EINVAL`.
fn give_filter(call: &Call, program: Vec<u8>, room: usize) -> Result<Action, Errno> {
    let count = program.len() / INSTRUCTION;
    let length = i32::try_from(count).unwrap_or(0).to_ne_bytes().to_vec();
    let mut writes = vec![(call.addr(4), length)];
    if room > 0 && count > room {
        return Err(Errno::EINVAL);
    }
    if room > 0 {
        writes.push((call.addr(3), program));
    }
    Ok(Action::Return(Reply { result: Ok(0), writes }))
}

/// What the guest's buffer holds, for the few levels whose options read it.
fn given(call: &Call, level: i32, room: usize) -> Result<Vec<u8>, Errno> {
    if level == libc::SOL_SOCKET || level == libc::IPPROTO_TCP {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; room.min(16)];
    call.guest.read(call.addr(3), &mut bytes)?;
    Ok(bytes)
}
