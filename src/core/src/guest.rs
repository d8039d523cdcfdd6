//! Small helpers over [`umvu_tracer::api::Guest`]: C structs in guest memory.

use umvu_abi::{
    Errno, GuestAddr, SockAddr,
    net::SocketSpec,
    sockaddr::{self, DeviceAddr},
};
use umvu_tracer::api::{Call, Guest};

/// The longest `sockaddr` that is read (`struct sockaddr_storage`).
const SOCKADDR_LIMIT: usize = 128;

/// Reads a C int. Errors: `EFAULT`.
pub(crate) fn read_i32(guest: &dyn Guest, at: GuestAddr) -> Result<i32, Errno> {
    let mut bytes = [0; 4];
    guest.read(at, &mut bytes)?;
    Ok(i32::from_ne_bytes(bytes))
}

/// What an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// bind(2).
    Bind,
    /// connect(2).
    Connect,
    /// sendto(2), sendmsg(2).
    Send,
}

/// Reads an address that a socket is given. Errors: `EFAULT`, `EINVAL`, `EAFNOSUPPORT`.
pub(crate) fn read_sockaddr(
    guest: &dyn Guest,
    at: GuestAddr,
    length: i32,
    spec: &SocketSpec,
    purpose: Purpose,
) -> Result<SockAddr, Errno> {
    let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
    if length > SOCKADDR_LIMIT {
        return Err(Errno::EINVAL);
    }
    let mut bytes = [0; SOCKADDR_LIMIT];
    guest.read(at, &mut bytes[..length])?;
    let bytes = &mut bytes[..length];
    if spec.kind == sockaddr::SOCK_PACKET {
        return match purpose {
            Purpose::Bind if length != 16 => Err(Errno::EINVAL),
            Purpose::Connect => Err(Errno::EOPNOTSUPP),
            Purpose::Bind | Purpose::Send => DeviceAddr::decode(bytes).map(SockAddr::Device),
        };
    }
    if spec.domain == libc::AF_PACKET
        && purpose == Purpose::Send
        && let Some(family) = bytes.first_chunk_mut()
    {
        // Linux does not look at it here, and programs leave it out.
        *family = sockaddr::AF_PACKET.to_ne_bytes();
    }
    check_internet(bytes, spec, purpose)?;
    SockAddr::decode(bytes)
}

/// The checks of the internet families, in the order that Linux makes them in. Errors: `EINVAL`,
/// `EAFNOSUPPORT`.
fn check_internet(bytes: &mut [u8], spec: &SocketSpec, purpose: Purpose) -> Result<(), Errno> {
    let Some(family) = bytes.first_chunk().map(|family| i32::from(u16::from_ne_bytes(*family)))
    else {
        return Err(Errno::EINVAL);
    };
    let unspecified = family == libc::AF_UNSPEC;
    let is_v6 = spec.domain == libc::AF_INET6;
    if !(is_v6 || spec.domain == libc::AF_INET) || (unspecified && purpose == Purpose::Connect) {
        return Ok(());
    }
    let mapped = is_v6
        && family == libc::AF_INET
        && spec.kind != libc::SOCK_STREAM
        && purpose != Purpose::Bind;
    // RFC 2133 programs pass 24 bytes, without the scope id.
    if bytes.len() < if is_v6 && !mapped { 24 } else { 16 } {
        return Err(Errno::EINVAL);
    }
    match purpose {
        _ if family == spec.domain || mapped => Ok(()),
        Purpose::Bind if unspecified && !is_v6 && bytes[4..8] == [0; 4] => Ok(()),
        Purpose::Send if unspecified && !is_v6 => {
            let inet = u16::try_from(libc::AF_INET).unwrap_or_default();
            bytes[..2].copy_from_slice(&inet.to_ne_bytes());
            Ok(())
        }
        Purpose::Send if is_v6 && unspecified => Ok(()),
        Purpose::Send if is_v6 => Err(Errno::EINVAL),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// The writes that return an address through a pointer and a value-result length: truncated to
/// what the guest's buffer holds, the length written back in full (accept(2)).
/// Errors: `EFAULT`, `EINVAL` for a negative length.
pub(crate) fn sockaddr_writes(
    guest: &dyn Guest,
    addr: &SockAddr,
    buffer: GuestAddr,
    length_at: GuestAddr,
) -> Result<Vec<(GuestAddr, Vec<u8>)>, Errno> {
    name_writes(guest, addr.encode(), buffer, length_at)
}

/// The same for the bytes of an address.
pub(crate) fn name_writes(
    guest: &dyn Guest,
    mut bytes: Vec<u8>,
    buffer: GuestAddr,
    length_at: GuestAddr,
) -> Result<Vec<(GuestAddr, Vec<u8>)>, Errno> {
    let room = usize::try_from(read_i32(guest, length_at)?).map_err(|_| Errno::EINVAL)?;
    let full = bytes.len();
    bytes.truncate(room);
    let mut writes = vec![(buffer, bytes)];
    // A length that is right already is not written again: that would cost as much as the rest.
    if full != room {
        let full = i32::try_from(full).unwrap_or(0);
        writes.push((length_at, full.to_ne_bytes().to_vec()));
    }
    Ok(writes)
}

/// Reads a path argument as UTF-8, lossily. Errors: `EFAULT`, `ENAMETOOLONG`.
pub(crate) fn read_text(call: &Call, argument: usize, limit: usize) -> Result<String, Errno> {
    let bytes = call.guest.read_string(call.addr(argument), limit)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Like [`read_text`]; NULL reads as the empty string.
pub(crate) fn read_optional_text(
    call: &Call,
    argument: usize,
    limit: usize,
) -> Result<String, Errno> {
    if call.addr(argument).is_null() { Ok(String::new()) } else { read_text(call, argument, limit) }
}
