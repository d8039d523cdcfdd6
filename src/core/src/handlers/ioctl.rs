//! ioctl(2) on sockets: interface requests (netdevice(7)) and a socket's own.

use umvu_abi::{Errno, GuestAddr, net::NetStack, sockaddr};
use umvu_tracer::api::{Action, Before, Call, Reply, Trap, Watch};

use crate::{Core, bridge, dispatch::Row, guest, paths::transfer};

const SIOCATMARK: u32 = 0x8905;
const SIOCGSTAMP: u32 = 0x8906;
const SIOCGSTAMPNS: u32 = 0x8907;
const SIOCOUTQNSD: u32 = 0x894b;
const SIOCADDRT: u32 = 0x890b;
const SIOCDELRT: u32 = 0x890c;
const SIOCGIFCONF: u32 = 0x8912;
const SIOCSIFADDR: u32 = 0x8916;
/// The requests about addresses of IPv4 that sockets of IPv6 do not have: `SIOCGIFADDR`,
/// `SIOCGIFDSTADDR`, `SIOCGIFBRDADDR`, `SIOCGIFNETMASK`.
const NOT_OF_IPV6: [u32; 4] = [0x8915, 0x8917, 0x8919, 0x891b];
const SIOCDIFADDR: u32 = 0x8936;
const SIOCGIFNAME: u32 = 0x8910;
const SIOCETHTOOL: u32 = 0x8946;
const SIOCDARP: u32 = 0x8953;
const SIOCSARP: u32 = 0x8955;
const SIOCDEVPRIVATE_LAST: u32 = 0x89ff;
/// `struct ifreq`.
const IFREQ: usize = 40;
/// `struct rtentry`.
const RTENTRY: usize = 120;
/// `struct in6_rtmsg` and `struct in6_ifreq`, which AF_INET6 sockets have instead.
const IN6_RTMSG: usize = 80;
const IN6_IFREQ: usize = 24;
/// The largest structure of `SIOCETHTOOL` that a stack fills in (`struct ethtool_drvinfo`).
const ETHTOOL_DATA: usize = 196;
/// The offset of `rt_dev` in `struct rtentry`.
const RT_DEV: usize = 96;
/// `struct arpreq`.
const ARPREQ: usize = 68;
/// The largest `SIOCGIFCONF` buffer.
const IFCONF_LIMIT: usize = 1 << 16;

pub(crate) fn rows() -> Vec<Row> {
    vec![Row {
        name: "ioctl",
        trap: Trap::Watched(
            Watch::Looks,
            Before::Masked { index: 1, mask: 0xffff_ff00, value: 0x8900 },
        ),
        interruptible: false,
        handler: ioctl,
        note: "socket and interface requests, devices; all others are the kernel's",
    }]
}

fn ioctl(core: &Core, call: &Call) -> Action {
    // FICLONE and its like take descriptors of their own.
    if call.syscall.args[1] & 0xff00 != 0x8900 {
        return transfer::control(core, call).unwrap_or(Action::Forward);
    }
    let own = match core.sockets.find(call, call.fd(0)) {
        Err(errno @ (Errno::ENFILE | Errno::ENOMEM)) => return errno.into(),
        found => found.ok().flatten(),
    };
    if own.is_none() && is_of_the_kernel(call) {
        return Action::Forward;
    }
    let request = u32::try_from(call.syscall.args[1] & 0xffff).unwrap_or(0);
    if let Some(one) = &own
        && matches!(request, SIOCATMARK | SIOCGSTAMP | SIOCGSTAMPNS | SIOCOUTQNSD)
    {
        return of_the_queues(one, call, request);
    }
    let task = core.tasks.get(call.tid());
    let families = [sockaddr::AF_NETLINK, sockaddr::AF_INET, sockaddr::AF_INET6].map(i32::from);
    let mount = match &own {
        Some(one) => Some(std::sync::Arc::clone(&one.mount)),
        // glibc asks for interfaces on AF_UNIX sockets too.
        None => families.into_iter().find_map(|family| task.stack(family)),
    };
    let Some(mount) = mount else { return Action::Forward };
    let v6 = own.as_ref().is_some_and(|one| one.spec.domain == libc::AF_INET6);
    let result = if v6 && NOT_OF_IPV6.contains(&request) {
        Err(Errno::ENOTTY)
    } else if request == SIOCGIFCONF {
        interface_list(mount.stack().as_ref(), call)
    } else {
        plain(mount.stack().as_ref(), call, request, size(request, v6))
    };
    match (result, own) {
        // What the stack does not know, the host's network must not do instead.
        (Err(errno @ Errno::ENOTTY), _) if request >= SIOCGIFNAME => errno.into(),
        (Err(Errno::ENOTTY), Some(one)) => socket_request(&one, call, request),
        (Err(Errno::ENOTTY), None) => Action::Forward,
        (Err(errno), _) => errno.into(),
        (Ok(action), _) => action,
    }
}

/// Whether a descriptor that is no virtual socket is the kernel's to answer for: an internet, packet
/// or netlink socket, which knows its interfaces, no socket, nothing.
fn is_of_the_kernel(call: &Call) -> bool {
    let Ok(fd) = call.guest.fetch_fd(call.fd(0)) else { return true };
    bridge::domain(&fd) != Some(libc::AF_UNIX)
}

/// How much the argument of a request holds.
fn size(request: u32, v6: bool) -> usize {
    match request {
        SIOCADDRT | SIOCDELRT if v6 => IN6_RTMSG,
        SIOCADDRT | SIOCDELRT => RTENTRY,
        SIOCSIFADDR | SIOCDIFADDR if v6 => IN6_IFREQ,
        SIOCDARP..=SIOCSARP => ARPREQ,
        SIOCGIFNAME..=SIOCDEVPRIVATE_LAST => IFREQ,
        _ => 0,
    }
}

fn plain(stack: &dyn NetStack, call: &Call, request: u32, size: usize) -> Result<Action, Errno> {
    if size == 0 {
        return Err(Errno::ENOTTY);
    }
    let mut argument = vec![0; size];
    call.guest.read(call.addr(2), &mut argument)?;
    if size == RTENTRY {
        append_device_name(call, &mut argument)?;
    }
    let data = if request == SIOCETHTOOL { Some(append_data(call, &mut argument)?) } else { None };
    let before = argument.clone();
    let value = stack.interface_ioctl(request, &mut argument)?;
    if let Some(at) = data {
        let changed = argument.iter().zip(&before).rposition(|(new, old)| new != old);
        argument.truncate(changed.map_or(size, |last| last + 1));
        let writes = vec![(at, argument.split_off(size))];
        return Ok(Action::Return(Reply { result: Ok(i64::from(value)), writes }));
    }
    argument.truncate(size);
    let changed = argument != before.get(..argument.len()).unwrap_or_default();
    let writes = if changed { vec![(call.addr(2), argument)] } else { Vec::new() };
    Ok(Action::Return(Reply { result: Ok(i64::from(value)), writes }))
}

/// Puts the name behind the `rt_dev` pointer after the `rtentry`, NUL terminated.
fn append_device_name(call: &Call, argument: &mut Vec<u8>) -> Result<(), Errno> {
    let pointer = argument[RT_DEV..].first_chunk().map_or(0, |field| u64::from_ne_bytes(*field));
    if pointer != 0 {
        argument.extend(call.guest.read_string(GuestAddr(pointer), 16)?);
        argument.push(0);
    }
    Ok(())
}

/// Puts what `ifr_data` leads to after the `ifreq`, as far as it goes; tells where it is.
/// Errors: `EFAULT`.
fn append_data(call: &Call, argument: &mut Vec<u8>) -> Result<GuestAddr, Errno> {
    let pointer = argument[16..].first_chunk().map_or(0, |field| u64::from_ne_bytes(*field));
    let mut data = [0; ETHTOOL_DATA];
    let got = call.guest.read_some(GuestAddr(pointer), &mut data)?;
    argument.extend_from_slice(&data[..got]);
    Ok(GuestAddr(pointer))
}

/// SIOCGIFCONF: `struct ifconf { int ifc_len; char *ifc_buf; }`; a NULL buffer asks for the size.
fn interface_list(stack: &dyn NetStack, call: &Call) -> Result<Action, Errno> {
    let mut header = [0; 16];
    call.guest.read(call.addr(2), &mut header)?;
    let room = header.first_chunk().map_or(0, |field| i32::from_ne_bytes(*field));
    // A negative length is one that nothing fits.
    let room = usize::try_from(room).unwrap_or(0).min(IFCONF_LIMIT);
    let buffer = header[8..].first_chunk().map_or(0, |field| u64::from_ne_bytes(*field));
    let mut list = vec![0; if buffer == 0 { IFCONF_LIMIT } else { room }];
    if !list.is_empty() {
        stack.interface_ioctl(SIOCGIFCONF, &mut list)?;
    }
    let length = i32::try_from(list.len()).unwrap_or(0).to_ne_bytes().to_vec();
    let mut writes = vec![(call.addr(2), length)];
    if buffer != 0 {
        writes.push((GuestAddr(buffer), list));
    }
    Ok(Action::Return(Reply { result: Ok(0), writes }))
}

/// A request about the data of a socket: where it is, when the last of it came.
fn of_the_queues(one: &bridge::Virtual, call: &Call, request: u32) -> Action {
    match (&one.kind, request) {
        (bridge::Kind::Stream(_), SIOCATMARK) => Action::Forward,
        (bridge::Kind::Stream(_), SIOCOUTQNSD) => socket_request(one, call, request),
        (bridge::Kind::Datagram(_), SIOCATMARK | SIOCOUTQNSD) => Errno::ENOTTY.into(),
        // It is for datagrams.
        (bridge::Kind::Stream(_), _) => Errno::ENOENT.into(),
        (bridge::Kind::Datagram(datagram), _) => match datagram.stamp() {
            Some(time) => Action::Return(Reply {
                result: Ok(0),
                writes: vec![(call.addr(2), bridge::time_bytes(time, request == SIOCGSTAMPNS))],
            }),
            None => Errno::ENOENT.into(),
        },
    }
}

/// A request of the socket itself, with an int or a time stamp as its argument.
fn socket_request(one: &bridge::Virtual, call: &Call, request: u32) -> Action {
    let mut argument = guest::read_i32(call.guest.as_ref(), call.addr(2))
        .map(|value| value.to_ne_bytes().to_vec())
        .unwrap_or_default();
    match one.socket().ioctl(request, &mut argument) {
        Ok(value) => Action::Return(Reply {
            result: Ok(i64::from(value)),
            writes: vec![(call.addr(2), argument)],
        }),
        Err(Errno::ENOTTY) => Action::Forward,
        Err(errno) => errno.into(),
    }
}
