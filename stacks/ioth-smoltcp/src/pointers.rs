//! The pointers of a C caller as slices and values.
#![expect(unsafe_code, reason = "pointers of the caller")]

use std::{
    ffi::c_void,
    io::{IoSlice, IoSliceMut},
    slice,
};

use libc::{iovec, sockaddr, socklen_t};
use umvu_abi::{Errno, SockAddr};

/// `UIO_MAXIOV`.
const PIECES: usize = 1024;

type Result<T> = std::result::Result<T, Errno>;

/// The bytes that a caller gives. Errors: `EFAULT`.
///
/// # Safety
/// `length` bytes can be read at `at`, unless it is null.
pub(crate) unsafe fn bytes<'a>(at: *const c_void, length: usize) -> Result<&'a [u8]> {
    match (at.is_null(), length) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Errno::EFAULT),
        // SAFETY: as the caller of this function says.
        (false, _) => Ok(unsafe { slice::from_raw_parts(at.cast(), length) }),
    }
}

/// The buffer that a caller gives. Errors: `EFAULT`.
///
/// # Safety
/// `length` bytes can be written at `at`, unless it is null, and nobody else uses them.
pub(crate) unsafe fn buffer<'a>(at: *mut c_void, length: usize) -> Result<&'a mut [u8]> {
    match (at.is_null(), length) {
        (_, 0) => Ok(&mut []),
        (true, _) => Err(Errno::EFAULT),
        // SAFETY: as the caller of this function says.
        (false, _) => Ok(unsafe { slice::from_raw_parts_mut(at.cast(), length) }),
    }
}

/// A socket address of the caller's. Errors: `EFAULT`, `EINVAL`, `EAFNOSUPPORT`.
///
/// # Safety
/// `length` bytes can be read at `at`, unless it is null.
pub(crate) unsafe fn address(at: *const sockaddr, length: socklen_t) -> Result<SockAddr> {
    let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
    // SAFETY: as the caller of this function says.
    SockAddr::decode(unsafe { bytes(at.cast(), length.min(128)) }?)
}

/// Gives a value back, cut to the room there is; `room` tells its whole length afterwards.
/// Errors: `EFAULT`, `EINVAL`.
///
/// # Safety
/// `room`, unless it is null, can be read and written, and so many bytes at `at`.
pub(crate) unsafe fn give(value: &[u8], at: *mut c_void, room: *mut socklen_t) -> Result<()> {
    // SAFETY: as the caller of this function says.
    let Some(room) = (unsafe { room.as_mut() }) else { return Err(Errno::EFAULT) };
    let space = usize::try_from(*room).map_err(|_| Errno::EINVAL)?;
    let count = value.len().min(space);
    // SAFETY: as the caller of this function says.
    unsafe { buffer(at, count) }?.copy_from_slice(&value[..count]);
    *room = socklen_t::try_from(value.len()).map_err(|_| Errno::EINVAL)?;
    Ok(())
}

/// Gives back the name of a peer, if it is asked for.
///
/// # Safety
/// As for [`give`].
pub(crate) unsafe fn give_name(
    name: &SockAddr,
    at: *mut sockaddr,
    room: *mut socklen_t,
) -> Result<()> {
    if at.is_null() {
        return Ok(());
    }
    let name = if *name == SockAddr::Unspec { Vec::new() } else { name.encode() };
    // SAFETY: as the caller of this function says.
    unsafe { give(&name, at.cast(), room) }
}

/// The pieces of a vector, to read from. Errors: `EMSGSIZE`, `EFAULT`.
///
/// # Safety
/// `count` elements can be read at `at`, and each describes memory that can be read, or nothing.
pub(crate) unsafe fn pieces<'a>(at: *const iovec, count: usize) -> Result<&'a [IoSlice<'a>]> {
    match count {
        0 => Ok(&[]),
        1..=PIECES if at.is_null() => Err(Errno::EFAULT),
        // SAFETY: as the caller of this function says; an IoSlice is an iovec.
        1..=PIECES => Ok(unsafe { slice::from_raw_parts(at.cast(), count) }),
        _ => Err(Errno::EMSGSIZE),
    }
}

/// The pieces of a vector, to write to. Errors: `EMSGSIZE`, `EFAULT`.
///
/// # Safety
/// `count` elements can be read at `at`, and each describes memory that can be written and that
/// nobody else uses, or nothing.
pub(crate) unsafe fn buffers<'a>(at: *const iovec, count: usize) -> Result<Vec<IoSliceMut<'a>>> {
    // SAFETY: as the caller of this function says.
    let pieces = unsafe { pieces(at, count) }?;
    // SAFETY: each piece can be written, as the caller says.
    let each =
        |piece: &IoSlice<'_>| unsafe { buffer(piece.as_ptr().cast_mut().cast(), piece.len()) };
    pieces.iter().map(|piece| each(piece).map(IoSliceMut::new)).collect()
}
