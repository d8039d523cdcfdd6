//! The functions that libioth looks for, by name.
//!
//! Each turns its pointers into slices, calls `calls` or `requests`, and gives back -1 and
//! `errno` on failure. A panic ends here: the call fails with `EIO`.
#![expect(unsafe_code, reason = "a C interface: exported names, and pointers of the caller")]

use std::{
    ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void},
    io::{IoSlice, IoSliceMut},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
};

use libc::{iovec, msghdr, size_t, sockaddr, socklen_t, ssize_t};
use umvu_abi::{Errno, SockAddr};

use crate::{
    calls,
    message::Arrived,
    pointers::{address, buffer, buffers, bytes, give, give_name, pieces},
    registry::{self, CurrentStack},
    requests, sys,
};

/// The longest socket option.
const OPTION: usize = 4096;

type Result<T> = std::result::Result<T, Errno>;

/// A pointer that any thread may read.
#[derive(Debug)]
#[repr(transparent)]
pub struct Text(*const c_char);

// SAFETY: the pointer is null, and stays so.
unsafe impl Sync for Text {}

/// The license that libioth asks for: none, since its rules know no permissive license but the
/// LGPL, and would keep this one, `MIT OR Apache-2.0`, from programs that may use it.
#[unsafe(no_mangle)]
pub static ioth_smoltcp_license: Text = Text(ptr::null());

/// The start of `struct ioth_functions`; the rest is libioth's to fill in.
#[derive(Debug)]
#[repr(C)]
pub struct Functions {
    /// Tells the stack of a call.
    getstackdata: Option<CurrentStack>,
}

/// Runs a call; an error goes to `errno`, and -1 is returned.
fn guard<T: From<i8>>(call: impl FnOnce() -> Result<T>) -> T {
    let errno = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => return value,
        Ok(Err(errno)) => errno,
        Err(_) => Errno::EIO,
    };
    sys::set_errno(errno);
    T::from(-1)
}

/// A length that a C call returns.
fn length(count: usize) -> Result<ssize_t> {
    ssize_t::try_from(count).map_err(|_| Errno::EOVERFLOW)
}

/// Makes a stack with an interface on each network of `vnlv`, a vector that ends with a null
/// pointer; see the plugins of libioth. `options` are those of a mount of umvu.
///
/// # Safety
/// The pointers are null or what libioth says they are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioth_smoltcp_newstack(
    vnlv: *const *const c_char,
    options: *const c_char,
    functions: *const Functions,
) -> *mut c_void {
    let text = |at: *const c_char| -> Result<&str> {
        // SAFETY: the string of a caller ends with a NUL.
        unsafe { CStr::from_ptr(at) }.to_str().map_err(|_| Errno::EINVAL)
    };
    let number: isize = guard(|| {
        let mut networks = Vec::new();
        if !vnlv.is_null() {
            // SAFETY: the vector ends with a null pointer, where this stops.
            let entries = (0..).map(|at| unsafe { *vnlv.add(at) });
            for network in entries.take_while(|entry| !entry.is_null()) {
                networks.push(text(network)?);
            }
        }
        let options = if options.is_null() { "" } else { text(options)? };
        // SAFETY: the pointer is null or libioth's, whose first member this is.
        let functions = unsafe { functions.as_ref() };
        let current = functions.and_then(|known| known.getstackdata).ok_or(Errno::EINVAL)?;
        let number = calls::new_stack(&networks, options, current)?;
        isize::try_from(number).map_err(|_| Errno::ENOMEM)
    });
    if number < 0 { ptr::null_mut() } else { number.cast_unsigned() as *mut c_void }
}

/// Ends a stack. `EBUSY` while it has sockets.
#[unsafe(no_mangle)]
pub extern "C" fn ioth_smoltcp_delstack(stack: *mut c_void) -> c_int {
    guard(|| calls::delete_stack(stack as usize).map(|()| 0))
}

/// The stack of this call, as libioth knows it.
#[unsafe(no_mangle)]
pub extern "C" fn ioth_smoltcp_getstackdata() -> *mut c_void {
    registry::current_data()
}

/// socket(2).
#[unsafe(no_mangle)]
pub extern "C" fn ioth_smoltcp_socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    guard(|| calls::socket(domain, kind, protocol))
}

/// close(2).
#[unsafe(no_mangle)]
pub extern "C" fn ioth_smoltcp_close(fd: c_int) -> c_int {
    guard(|| registry::close(fd).map(|()| 0))
}

/// bind(2).
///
/// # Safety
/// As for bind(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioth_smoltcp_bind(
    fd: c_int,
    addr: *const sockaddr,
    length: socklen_t,
) -> c_int {
    // SAFETY: the caller describes an address.
    guard(|| calls::bind(fd, &unsafe { address(addr, length) }?).map(|()| 0))
}

/// connect(2).
///
/// # Safety
/// As for connect(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioth_smoltcp_connect(
    fd: c_int,
    addr: *const sockaddr,
    length: socklen_t,
) -> c_int {
    // SAFETY: the caller describes an address.
    guard(|| calls::connect(fd, &unsafe { address(addr, length) }?).map(|()| 0))
}

/// listen(2).
#[unsafe(no_mangle)]
pub extern "C" fn ioth_smoltcp_listen(fd: c_int, backlog: c_int) -> c_int {
    guard(|| calls::listen(fd, backlog).map(|()| 0))
}

/// accept(2).
///
/// # Safety
/// As for accept(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioth_smoltcp_accept(
    fd: c_int,
    addr: *mut sockaddr,
    room: *mut socklen_t,
) -> c_int {
    guard(|| {
        let (new, peer) = calls::accept(fd)?;
        // SAFETY: the caller describes room for an address.
        unsafe { give_name(&peer, addr, room) }.inspect_err(|_| _ = registry::close(new))?;
        Ok(new)
    })
}

/// getsockname(2).
///
/// # Safety
/// As for getsockname(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioth_smoltcp_getsockname(
    fd: c_int,
    addr: *mut sockaddr,
    room: *mut socklen_t,
) -> c_int {
    // SAFETY: the caller describes room for an address.
    guard(|| unsafe { give(&calls::local(fd)?.encode(), addr.cast(), room) }.map(|()| 0))
}

/// getpeername(2).
///
/// # Safety
/// As for getpeername(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioth_smoltcp_getpeername(
    fd: c_int,
    addr: *mut sockaddr,
    room: *mut socklen_t,
) -> c_int {
    // SAFETY: the caller describes room for an address.
    guard(|| unsafe { give(&calls::peer(fd)?.encode(), addr.cast(), room) }.map(|()| 0))
}

/// setsockopt(2).
///
/// # Safety
/// As for setsockopt(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioth_smoltcp_setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    size: socklen_t,
) -> c_int {
    guard(|| {
        let size = usize::try_from(size).ok().filter(|size| *size <= OPTION);
        // SAFETY: the caller describes a value.
        let value = unsafe { bytes(value, size.ok_or(Errno::EINVAL)?) }?;
        calls::set_option(fd, level, name, value).map(|()| 0)
    })
}

/// getsockopt(2).
///
/// # Safety
/// As for getsockopt(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioth_smoltcp_getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    room: *mut socklen_t,
) -> c_int {
    guard(|| {
        // SAFETY: the caller describes room for a value.
        let size = unsafe { room.as_ref() }.ok_or(Errno::EFAULT)?;
        let size = usize::try_from(*size).map_err(|_| Errno::EINVAL)?.min(OPTION);
        // SAFETY: the caller describes room for a value.
        let found = calls::option(fd, level, name, unsafe { bytes(value, size) }?)?;
        // Unlike that of an address, the length told is that of what was copied.
        let count = found.len().min(size);
        // SAFETY: the caller describes room for a value.
        unsafe { give(&found[..count], value, room) }.map(|()| 0)
    })
}

/// shutdown(2).
#[unsafe(no_mangle)]
pub extern "C" fn ioth_smoltcp_shutdown(fd: c_int, how: c_int) -> c_int {
    guard(|| calls::shutdown(fd, how).map(|()| 0))
}

/// ioctl(2), with its argument always there: callers of a variadic function pass it alike.
///
/// # Safety
/// As for ioctl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioth_smoltcp_ioctl(
    fd: c_int,
    request: c_ulong,
    argument: *mut c_void,
) -> c_int {
    guard(|| {
        let request = u32::try_from(request & 0xffff_ffff).map_err(|_| Errno::ENOTTY)?;
        if request == requests::SIOCGIFCONF {
            // SAFETY: the argument of this request is a `struct ifconf`.
            return unsafe { interface_list(fd, argument) };
        }
        let size = requests::size(fd, request)?.ok_or(Errno::ENOTTY)?;
        // SAFETY: the argument of this request has this size.
        let place = unsafe { buffer(argument, size) }?;
        let mut value = place.to_vec();
        let result = requests::ioctl(fd, request, &mut value)?;
        let count = value.len().min(size);
        place[..count].copy_from_slice(&value[..count]);
        Ok(result)
    })
}

/// `SIOCGIFCONF`: a null buffer asks for the size.
///
/// # Safety
/// `argument` is null or a `struct ifconf`.
unsafe fn interface_list(fd: c_int, argument: *mut c_void) -> Result<c_int> {
    /// `struct ifconf`.
    #[repr(C)]
    struct List {
        length: c_int,
        buffer: *mut c_void,
    }
    const LONGEST: usize = 1 << 16;
    // SAFETY: as the caller of this function says.
    let list = unsafe { argument.cast::<List>().as_mut() }.ok_or(Errno::EFAULT)?;
    let room = usize::try_from(list.length).unwrap_or(0).min(LONGEST);
    let mut rows = vec![0; if list.buffer.is_null() { LONGEST } else { room }];
    if !rows.is_empty() {
        requests::ioctl(fd, requests::SIOCGIFCONF, &mut rows)?;
    }
    if !list.buffer.is_null() {
        let count = rows.len().min(room);
        // SAFETY: the structure says that so much can be written there.
        unsafe { buffer(list.buffer, count) }?.copy_from_slice(&rows[..count]);
    }
    list.length = c_int::try_from(rows.len()).map_err(|_| Errno::EINVAL)?;
    Ok(0)
}

/// fcntl(2), with its argument always there: callers of a variadic function pass it alike.
#[unsafe(no_mangle)]
pub extern "C" fn ioth_smoltcp_fcntl(fd: c_int, command: c_int, argument: c_long) -> c_int {
    guard(|| requests::fcntl(fd, command, argument))
}

/// Receives to one buffer.
///
/// # Safety
/// As for recvfrom(2).
unsafe fn receive_to(fd: c_int, at: *mut c_void, size: size_t, flags: c_int) -> Result<Arrived> {
    // SAFETY: the caller describes a buffer.
    let buffer = unsafe { buffer(at, size) }?;
    calls::receive(fd, &mut [IoSliceMut::new(buffer)], flags)
}

/// read(2).
///
/// # Safety
/// As for read(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioth_smoltcp_read(fd: c_int, at: *mut c_void, size: size_t) -> ssize_t {
    // SAFETY: the caller describes a buffer.
    guard(|| length(unsafe { receive_to(fd, at, size, 0) }?.length))
}

/// readv(2).
///
/// # Safety
/// As for readv(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioth_smoltcp_readv(
    fd: c_int,
    vector: *const iovec,
    count: c_int,
) -> ssize_t {
    guard(|| {
        let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
        // SAFETY: the caller describes buffers.
        length(calls::receive(fd, &mut unsafe { buffers(vector, count) }?, 0)?.length)
    })
}

/// recv(2).
///
/// # Safety
/// As for recv(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioth_smoltcp_recv(
    fd: c_int,
    at: *mut c_void,
    size: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller describes a buffer.
    guard(|| length(unsafe { receive_to(fd, at, size, flags) }?.length))
}

/// recvfrom(2).
///
/// # Safety
/// As for recvfrom(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioth_smoltcp_recvfrom(
    fd: c_int,
    at: *mut c_void,
    size: size_t,
    flags: c_int,
    from: *mut sockaddr,
    room: *mut socklen_t,
) -> ssize_t {
    guard(|| {
        // SAFETY: the caller describes a buffer, and room for an address.
        unsafe {
            let arrived = receive_to(fd, at, size, flags)?;
            give_name(&arrived.source, from, room)?;
            length(arrived.length)
        }
    })
}

/// recvmsg(2).
///
/// # Safety
/// As for recvmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioth_smoltcp_recvmsg(
    fd: c_int,
    header: *mut msghdr,
    flags: c_int,
) -> ssize_t {
    guard(|| {
        // SAFETY: the caller describes a header.
        let header = unsafe { header.as_mut() }.ok_or(Errno::EFAULT)?;
        // SAFETY: the header describes buffers.
        let mut into = unsafe { buffers(header.msg_iov, header.msg_iovlen) }?;
        let arrived = calls::receive(fd, &mut into, flags)?;
        // SAFETY: the header describes room for an address.
        unsafe { give_name(&arrived.source, header.msg_name.cast(), &raw mut header.msg_namelen) }?;
        let room = if header.msg_control.is_null() { 0 } else { header.msg_controllen };
        let (control, cut) = arrived.control.fit(room);
        // SAFETY: the header describes room for control messages.
        unsafe { buffer(header.msg_control, control.len()) }?.copy_from_slice(&control);
        header.msg_controllen = control.len();
        header.msg_flags = arrived.flags | if cut { libc::MSG_CTRUNC } else { 0 };
        length(arrived.length)
    })
}

/// Sends from one buffer.
///
/// # Safety
/// `size` bytes can be read at `at`.
unsafe fn send_from(
    fd: c_int,
    at: *const c_void,
    size: size_t,
    flags: c_int,
    to: Option<&SockAddr>,
) -> Result<ssize_t> {
    // SAFETY: the caller describes the data.
    let data = unsafe { bytes(at, size) }?;
    length(calls::send(fd, &[IoSlice::new(data)], to, &[], flags)?)
}

/// write(2).
///
/// # Safety
/// As for write(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioth_smoltcp_write(fd: c_int, at: *const c_void, size: size_t) -> ssize_t {
    // SAFETY: the caller describes the data.
    guard(|| unsafe { send_from(fd, at, size, 0, None) })
}

/// writev(2).
///
/// # Safety
/// As for writev(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioth_smoltcp_writev(
    fd: c_int,
    vector: *const iovec,
    count: c_int,
) -> ssize_t {
    guard(|| {
        let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
        // SAFETY: the caller describes the data.
        length(calls::send(fd, unsafe { pieces(vector, count) }?, None, &[], 0)?)
    })
}

/// send(2).
///
/// # Safety
/// As for send(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioth_smoltcp_send(
    fd: c_int,
    at: *const c_void,
    size: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller describes the data.
    guard(|| unsafe { send_from(fd, at, size, flags, None) })
}

/// sendto(2).
///
/// # Safety
/// As for sendto(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioth_smoltcp_sendto(
    fd: c_int,
    at: *const c_void,
    size: size_t,
    flags: c_int,
    to: *const sockaddr,
    room: socklen_t,
) -> ssize_t {
    guard(|| {
        // SAFETY: the caller describes an address and the data.
        unsafe {
            let to = if to.is_null() { None } else { Some(address(to, room)?) };
            send_from(fd, at, size, flags, to.as_ref())
        }
    })
}

/// sendmsg(2).
///
/// # Safety
/// As for sendmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioth_smoltcp_sendmsg(
    fd: c_int,
    header: *const msghdr,
    flags: c_int,
) -> ssize_t {
    guard(|| {
        // SAFETY: the caller describes a header.
        let header = unsafe { header.as_ref() }.ok_or(Errno::EFAULT)?;
        // SAFETY: the header describes an address, the data and control messages.
        unsafe {
            let name = header.msg_name.cast::<sockaddr>().cast_const();
            let to = if name.is_null() { None } else { Some(address(name, header.msg_namelen)?) };
            let control = bytes(header.msg_control, header.msg_controllen)?;
            let data = pieces(header.msg_iov, header.msg_iovlen)?;
            length(calls::send(fd, data, to.as_ref(), control, flags)?)
        }
    })
}
