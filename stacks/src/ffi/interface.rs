//! The interface requests of netdevice(7), on a socket of the namespace that they are about.
#![expect(unsafe_code, reason = "ioctl(2) with structures that nix does not wrap")]

use std::{
    ffi::c_ulong,
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use umvu_abi::Errno;

fn request<T>(socket: BorrowedFd<'_>, number: c_ulong, argument: &mut T) -> Result<(), Errno> {
    // SAFETY: every caller passes memory as large as the structure that the request is defined
    // with, exclusively borrowed for the call; pointers in it lead to memory that outlives it.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), number, std::ptr::from_mut(argument)) };
    if done < 0 { Err(io::Error::last_os_error().into()) } else { Ok(()) }
}

/// The first and the last request with a `struct ifreq`, and those whose union is a pointer.
const FIRST: u32 = 0x8910;
const LAST: u32 = 0x89ef;
const SIOCGIFCONF: u32 = 0x8912;
const SIOCETHTOOL: u32 = 0x8946;

/// Serves the request of a guest on a socket of the kernel, as [`NetStack::interface_ioctl`] does.
/// Errors: `ENOTTY` for requests without a `struct ifreq`, `EOPNOTSUPP` for those that lead to more
/// memory, and the kernel's.
///
/// [`NetStack::interface_ioctl`]: umvu_abi::net::NetStack::interface_ioctl
pub(crate) fn serve(
    socket: BorrowedFd<'_>,
    number: u32,
    argument: &mut Vec<u8>,
) -> Result<i32, Errno> {
    match number {
        SIOCGIFCONF => return list(socket, argument),
        SIOCETHTOOL => return Err(Errno::EOPNOTSUPP),
        FIRST..=LAST => {}
        _ => return Err(Errno::ENOTTY),
    }
    let whole = argument.first_chunk_mut::<{ size_of::<libc::ifreq>() }>().ok_or(Errno::EINVAL)?;
    request(socket, c_ulong::from(number), whole).map(|()| 0)
}

/// SIOCGIFCONF: as many entries as there is room for.
fn list(socket: BorrowedFd<'_>, room: &mut Vec<u8>) -> Result<i32, Errno> {
    let length = i32::try_from(room.len()).map_err(|_| Errno::EINVAL)?;
    let ifcu_buf = room.as_mut_ptr().cast();
    let mut argument =
        libc::ifconf { ifc_len: length, ifc_ifcu: libc::__c_anonymous_ifc_ifcu { ifcu_buf } };
    request(socket, c_ulong::from(SIOCGIFCONF), &mut argument)?;
    room.truncate(usize::try_from(argument.ifc_len).unwrap_or(0));
    Ok(argument.ifc_len)
}

/// Gives a tap a carrier, or takes it away.
pub(crate) fn set_carrier(tap: BorrowedFd<'_>, carrier: bool) -> Result<(), Errno> {
    let mut argument = libc::c_int::from(carrier);
    request(tap, libc::TUNSETCARRIER, &mut argument)
}
