//! UNIX sockets with paths in mounted file systems: bind(2), connect(2), sendto(2), sendmsg(2), and the calls
//! that tell an address.
//!
//! The socket is bound to the object of its inode, or to the file of the host that stands for it, by the
//! guest itself: so its credentials are the guest's, and everything behind the name is the kernel's. What
//! the kernel then tells is replaced by what the guest has called it.

use std::{
    os::{fd::AsRawFd, unix::ffi::OsStringExt},
    sync::Arc,
};

use nix::sys::socket::{UnixAddr, getsockname};
use umvu_abi::{
    Errno, GuestAddr,
    files::{Caller, Seen, WRITE},
};
use umvu_tracer::api::{Action, AfterWait, Call, Guest, Instead, Wait};

use super::{
    lexical::join,
    locate,
    resolve::{Last, Place, Vacant},
};
use crate::{
    Core,
    files::{
        Inode, access,
        names::{self, Make},
        shadows,
    },
    guest,
};

/// `sun_path`.
const PATH_AT: usize = 2;
const PATH_ROOM: usize = 108;
/// The arguments with the address, of bind(2) and connect(2), and of sendto(2).
const ADDRESS: usize = 1;
const DESTINATION: usize = 4;
/// `struct sockaddr_storage`.
const ADDRESS_ROOM: usize = 128;
/// `struct msghdr`; the length of what was sent follows it in `struct mmsghdr`.
const HEADER_SIZE: usize = 56;
/// `UIO_MAXIOV`: the most messages of one call.
const MESSAGES: u64 = 1024;

/// Answers bind(2) for a path of a mounted file system; None when it is none of ours.
pub(crate) fn bind(core: &Core, call: &Call) -> Option<Action> {
    let (given, place) = place(core, call, ADDRESS)?;
    let caller = core.caller(call.tid());
    Some(match place {
        Ok(Place::Vacant(vacant)) => {
            bind_at(core, call, &caller, &vacant, &given).unwrap_or_else(Into::into)
        }
        Ok(Place::Inode(_)) => Errno::EADDRINUSE.into(),
        Ok(_) => return None,
        Err(errno) => errno.into(),
    })
}

fn bind_at(
    core: &Core,
    call: &Call,
    caller: &Caller,
    vacant: &Vacant,
    given: &[u8],
) -> Result<Action, Errno> {
    let (parent, name) = (&vacant.parent, vacant.name.as_slice());
    access::alter(parent, caller)?;
    if let (_, Seen::Host(directory)) = shadows::innermost(parent) {
        let path = join(&directory, name);
        if path.len() < PATH_ROOM {
            core.objects.binds(&path, given);
            return at_path(call, ADDRESS, path);
        }
    }
    let socket = call.guest.fetch_fd(call.fd(0))?;
    match getsockname::<UnixAddr>(socket.as_raw_fd()) {
        Ok(name) if name.path().is_some() || name.as_abstract().is_some() => {
            return Err(Errno::EINVAL);
        }
        Ok(_) => {}
        Err(errno) => return Err(std::io::Error::from(errno).into()),
    }
    let inode = names::make(caller, parent, name, Make::Node(libc::S_IFSOCK | 0o777, 0))?;
    let path = object_of(core, &inode)?;
    core.objects.binds(&path, given);
    at_path(call, ADDRESS, path)
}

/// Answers connect(2) for a path of a mounted file system; None when it is none of ours.
pub(crate) fn connect(core: &Core, call: &Call) -> Option<Action> {
    reach(core, call, ADDRESS)
}

/// Answers sendto(2) likewise.
pub(crate) fn send_to(core: &Core, call: &Call) -> Option<Action> {
    reach(core, call, DESTINATION)
}

/// Answers sendmsg(2) likewise.
pub(crate) fn send_message(core: &Core, call: &Call) -> Option<Action> {
    let message = message(core, call)?;
    Some(message.map_or_else(Into::into, Action::Instead))
}

/// Answers sendmmsg(2) likewise: when the first message has such an address, it is sent alone, as the call
/// may do; the guest comes back with the others.
pub(crate) fn send_messages(core: &Core, call: &Call) -> Option<Action> {
    if call.syscall.args[2] == 0 {
        return None;
    }
    let message = match message(core, call)? {
        Ok(message) => message,
        Err(errno) => return Some(errno.into()),
    };
    let [socket, header, _, flags, ..] = call.syscall.args;
    let length_at = GuestAddr(header).offset(HEADER_SIZE as u64);
    let after = move |guest: &dyn Guest, result: i64, _: &[u8]| {
        let Ok(length) = u32::try_from(result) else { return result };
        match guest.write(length_at, &length.to_ne_bytes()) {
            Ok(()) => 1,
            Err(errno) => -i64::from(errno.0),
        }
    };
    let one =
        Instead { number: libc::SYS_sendmsg, args: [socket, header, flags, 0, 0, 0], ..message };
    Some(Action::Wait(Wait { call: one, also: None, after: AfterWait(Box::new(after)) }))
}

/// The header in argument 1 with the path that the kernel knows, in place of the guest's.
fn message(core: &Core, call: &Call) -> Option<Result<Instead, Errno>> {
    let mut header = vec![0; HEADER_SIZE];
    call.guest.read(call.addr(1), &mut header).ok()?;
    let at = GuestAddr(u64::from_ne_bytes(*header.first_chunk()?));
    let length = i32::from_ne_bytes(*header.get(8..)?.first_chunk()?);
    let (_, place) = place_of(core, call, at, length)?;
    let path = match target(core, call, place)? {
        Ok(path) => path,
        Err(errno) => return Some(Err(errno)),
    };
    Some(address_of(&path).map(|address| {
        let length = u32::try_from(address.len()).unwrap_or(0);
        header[8..12].copy_from_slice(&length.to_ne_bytes());
        header.extend(address);
        let same = Instead::call(call.syscall.number, call.syscall.args);
        Instead { data: Some((1, header)), inner: Some((0, HEADER_SIZE as u64)), ..same }
    }))
}

fn reach(core: &Core, call: &Call, address: usize) -> Option<Action> {
    let (_, place) = place(core, call, address)?;
    let path = target(core, call, place)?;
    Some(path.and_then(|path| at_path(call, address, path)).unwrap_or_else(Into::into))
}

/// Where the kernel has the socket that a guest sends or connects to; None when that is its own matter.
fn target(core: &Core, call: &Call, place: Result<Place, Errno>) -> Option<Result<Vec<u8>, Errno>> {
    let caller = core.caller(call.tid());
    Some(match place {
        Ok(Place::Inode(found)) => {
            let inode = &found.inode;
            match inode.kind() {
                Ok(libc::S_IFSOCK) => access::check(inode, &caller, WRITE).and_then(|()| {
                    // What no guest has bound may be a socket of the host.
                    let host = inode.files.fs.host_path(inode.node);
                    match host.filter(|_| !inode.has_object()) {
                        Some(path) => Ok(path),
                        None => object_of(core, inode),
                    }
                }),
                Ok(_) => Err(Errno::ECONNREFUSED),
                Err(errno) => Err(errno),
            }
        }
        Ok(Place::Vacant(_)) => Err(Errno::ENOENT),
        Ok(_) => return None,
        Err(errno) => Err(errno),
    })
}

/// Has the kernel make a call that tells an address, at the pointer in argument `address` with its length
/// behind the next one, and tells what the guest has called it.
pub(crate) fn tell(core: &Core, call: &Call, address: usize) -> Action {
    let (at, length_at) = (call.addr(address), call.addr(address + 1));
    if !core.objects.any_bound() || at.is_null() {
        return Action::Forward;
    }
    let Ok(room) = guest::read_i32(call.guest.as_ref(), length_at) else { return Action::Forward };
    let (Ok(room), Some(core)) = (usize::try_from(room), core.shared()) else {
        return Action::Forward;
    };
    // Where all of it fits, and behind it the length.
    let length = i32::try_from(ADDRESS_ROOM).unwrap_or(0).to_ne_bytes();
    let data = [vec![0; ADDRESS_ROOM], length.to_vec()].concat();
    let after = move |guest: &dyn Guest, result: i64, data: &[u8]| {
        let length = data.last_chunk().map_or(0, |length| i32::from_ne_bytes(*length));
        let told = usize::try_from(length).ok().and_then(|length| data.get(..length));
        if let Some(told) = told.filter(|_| result >= 0) {
            let told = given(&core, told).unwrap_or_else(|| told.to_vec());
            // What the guest has taken away meanwhile is not told.
            let _ = guest.write(at, &told[..told.len().min(room)]);
            let full = i32::try_from(told.len()).unwrap_or(0);
            let _ = guest.write(length_at, &full.to_ne_bytes());
        }
        result
    };
    let same = Instead::call(call.syscall.number, call.syscall.args);
    let same = Instead { data: Some((address, data)), ..same };
    let also = Some((address + 1, ADDRESS_ROOM as u64));
    Action::Wait(Wait { call: same, also, after: AfterWait(Box::new(after)) })
}

/// The address that a guest has given, in place of the kernel's; None for one that is the same.
fn given(core: &Core, told: &[u8]) -> Option<Vec<u8>> {
    let (family, path) = told.split_at_checked(PATH_AT)?;
    if family != u16::try_from(libc::AF_UNIX).unwrap_or(1).to_ne_bytes() {
        return None;
    }
    let path = path.split(|byte| *byte == 0).next().filter(|path| !path.is_empty())?;
    Some([family, core.objects.bound_as(path)?.as_slice(), b"\0"].concat())
}

/// The same of recvmsg(2) and recvmmsg(2), whose headers are in argument 1, `step` bytes apart.
pub(crate) fn tell_messages(core: &Core, call: &Call, step: Option<u64>) -> Action {
    let first = call.addr(1);
    let (step, most) = step.map_or((0, 1), |step| (step, call.syscall.args[2].min(MESSAGES)));
    let field = |index: u64| {
        let header = first.offset(index * step);
        let mut bytes = [0; 12];
        call.guest.read(header, &mut bytes).ok()?;
        let at = GuestAddr(u64::from_ne_bytes(*bytes.first_chunk()?));
        let room = i32::from_ne_bytes(*bytes.last_chunk()?);
        (!at.is_null()).then_some(Field { at, room, length_at: header.offset(8) })
    };
    if !core.objects.any_bound() {
        return Action::Forward;
    }
    let fields: Vec<Option<Field>> = (0..most).map(field).collect();
    if fields.iter().all(Option::is_none) {
        return Action::Forward;
    }
    let count = move |result: i64| if step == 0 { 1 } else { usize::try_from(result).unwrap_or(0) };
    retold(core, call, move |result| fields.iter().take(count(result)).flatten().copied().collect())
}

/// Where the kernel puts an address, how much fits there, and where it says how long it is.
#[derive(Debug, Clone, Copy)]
struct Field {
    at: GuestAddr,
    room: i32,
    length_at: GuestAddr,
}

fn retold(
    core: &Core,
    call: &Call,
    fields: impl FnOnce(i64) -> Vec<Field> + Send + 'static,
) -> Action {
    let Some(core) = core.shared() else { return Errno::EIO.into() };
    let after = move |guest: &dyn Guest, result: i64, _: &[u8]| {
        if result >= 0 {
            for field in fields(result) {
                // What the guest has taken away meanwhile is not told.
                let _ = retell(&core, guest, field);
            }
        }
        result
    };
    let same = Instead::call(call.syscall.number, call.syscall.args);
    Action::Wait(Wait { call: same, also: None, after: AfterWait(Box::new(after)) })
}

fn retell(core: &Core, guest: &dyn Guest, field: Field) -> Result<(), Errno> {
    let length = usize::try_from(guest::read_i32(guest, field.length_at)?).unwrap_or(0);
    let room = usize::try_from(field.room).unwrap_or(0);
    if length <= PATH_AT || length > room.min(PATH_AT + PATH_ROOM + 1) {
        return Ok(());
    }
    let mut bytes = vec![0; length];
    guest.read(field.at, &mut bytes)?;
    if let Some(mut told) = given(core, &bytes) {
        let full = i32::try_from(told.len()).unwrap_or(0);
        told.truncate(room);
        guest.write(field.at, &told)?;
        guest.write(field.length_at, &full.to_ne_bytes())?;
    }
    Ok(())
}

/// What the address in an argument names, and how, if that is a path that concerns mounted files.
fn place(core: &Core, call: &Call, address: usize) -> Option<(Vec<u8>, Result<Place, Errno>)> {
    place_of(core, call, call.addr(address), call.int(address + 1))
}

/// As [`place`], of an address in memory.
fn place_of(
    core: &Core,
    call: &Call,
    at: GuestAddr,
    length: i32,
) -> Option<(Vec<u8>, Result<Place, Errno>)> {
    let territory = core.paths.territory(&core.view);
    let is_rooted = core.paths.root(call.tid()).is_some();
    if !territory.has_files() && !is_rooted {
        return None;
    }
    if at.is_null() {
        return None;
    }
    let length = usize::try_from(length).ok()?.min(PATH_AT + PATH_ROOM);
    let mut bytes = vec![0; length];
    call.guest.read(at, &mut bytes).ok()?;
    let family = bytes.first_chunk().map(|family| u16::from_ne_bytes(*family))?;
    let path = bytes.get(PATH_AT..)?.split(|byte| *byte == 0).next()?;
    if i32::from(family) != libc::AF_UNIX || path.is_empty() {
        return None;
    }
    let start = locate::start(core, call, path).ok()?;
    let place = locate::walk_last(core, &territory, call.tid(), &start, path, Last::Follow);
    Some((path.to_vec(), place))
}

/// The path of an inode's object, which bind(2) makes.
fn object_of(core: &Core, inode: &Arc<Inode>) -> Result<Vec<u8>, Errno> {
    Ok(core.objects.obtain(inode, |_| Ok(()))?.into_os_string().into_vec())
}

/// The same call with another path. Errors: `ENAMETOOLONG`.
fn at_path(call: &Call, argument: usize, path: Vec<u8>) -> Result<Action, Errno> {
    let address = address_of(&path)?;
    let mut args = call.syscall.args;
    args[argument + 1] = address.len() as u64;
    let same = Instead::call(call.syscall.number, args);
    Ok(Action::Instead(Instead { data: Some((argument, address)), ..same }))
}

/// `struct sockaddr_un`. Errors: `ENAMETOOLONG`.
fn address_of(path: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut address = u16::try_from(libc::AF_UNIX).unwrap_or(1).to_ne_bytes().to_vec();
    address.extend(path);
    address.push(0);
    if address.len() > PATH_AT + PATH_ROOM { Err(Errno::ENAMETOOLONG) } else { Ok(address) }
}
