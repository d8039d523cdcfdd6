//! The VU calls as the commands make them: system calls with negative numbers.

#![expect(unsafe_code, reason = "raw system calls and mount(2) with opaque data")]

use std::{
    ffi::{CStr, CString},
    io,
};

use umvu_abi::vu;

/// How much room a text gets that the hypervisor copies out.
const TEXT: usize = 16 * 1024;

/// What debug tags apply to: the `local` argument of the VU call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The whole view.
    View = 0,
    /// The calling thread and what it starts.
    Thread = 1,
}

fn check(result: libc::c_long) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn text(argument: &str) -> io::Result<CString> {
    CString::new(argument).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Whether this process runs inside umvu.
#[must_use]
pub fn inside() -> bool {
    let tag = libc::c_long::from(vu::VUCTL_GETINFO);
    // SAFETY: a NULL pointer only asks the question; outside the kernel answers ENOSYS.
    unsafe { libc::syscall(libc::c_long::from(vu::SYS_VUCTL), tag, 0) == 0 }
}

/// Loads a module. Errors: `EEXIST`, `ENOENT`, `ENOSYS` outside.
pub fn insmod(module: &str, permanent: bool) -> io::Result<()> {
    let module = text(module)?;
    let number = libc::c_long::from(vu::SYS_INSMOD);
    // SAFETY: the hypervisor reads one NUL-terminated string.
    check(unsafe { libc::syscall(number, module.as_ptr(), i32::from(permanent)) }).map(|_| ())
}

/// Lets this thread become any virtual user. Errors: `EOPNOTSUPP` without a module for that.
pub fn free_ids() -> io::Result<()> {
    let tag = libc::c_long::from(vu::VUCTL_FREE_IDS);
    // SAFETY: the call takes no pointers.
    check(unsafe { libc::syscall(libc::c_long::from(vu::SYS_VUCTL), tag) }).map(|_| ())
}

/// Unloads a module. Errors: `EBUSY`, `ENOENT`, `ENOSYS` outside.
pub fn rmmod(module: &str) -> io::Result<()> {
    let module = text(module)?;
    let number = libc::c_long::from(vu::SYS_RMMOD);
    // SAFETY: the hypervisor reads one NUL-terminated string.
    check(unsafe { libc::syscall(number, module.as_ptr()) }).map(|_| ())
}

/// The text of `vu_lsmod`. Errors: `ENOSYS` outside.
pub fn lsmod() -> io::Result<String> {
    let mut buffer = vec![0_u8; TEXT];
    let number = libc::c_long::from(vu::SYS_LSMOD);
    // SAFETY: the hypervisor writes at most the given length to the buffer.
    check(unsafe { libc::syscall(number, buffer.as_mut_ptr(), buffer.len()) })?;
    Ok(until_nul(&buffer))
}

/// Sets the default stack of this thread. Errors: `ENOENT`, `ENOTSUP` for what is no stack,
/// `EAFNOSUPPORT`, `ENOSYS` outside.
pub fn default_stack(stack: &str, family: i32) -> io::Result<()> {
    msocket(stack, family, vu::SOCK_DEFAULT)
}

/// Whether a stack supports a family.
#[must_use]
pub fn supports(stack: &str, family: i32) -> bool {
    match msocket(stack, family, -1) {
        Ok(()) => true,
        Err(error) => error.raw_os_error() == Some(libc::EINVAL),
    }
}

fn msocket(stack: &str, family: i32, kind: i32) -> io::Result<()> {
    let stack = text(stack)?;
    let number = libc::c_long::from(vu::SYS_MSOCKET);
    // SAFETY: the hypervisor reads one NUL-terminated string; the rest are integers.
    check(unsafe { libc::syscall(number, stack.as_ptr(), family, kind, 0) }).map(|_| ())
}

/// The reason of this thread's last failed call, or the notice of a mount, if the hypervisor gave one.
#[must_use]
pub fn last_error() -> Option<String> {
    copy_out(vu::VUCTL_LAST_ERROR, None).ok().filter(|reason| !reason.is_empty())
}

/// The mount point of this thread's stack for a family; empty for the kernel's.
/// Errors: `ENOSYS` outside.
pub fn current_stack(family: i32) -> io::Result<String> {
    copy_out(vu::VUCTL_GET_STACK, Some(family))
}

/// Adds an interface to this thread's stack of AF_NETLINK. Errors: `EOPNOTSUPP`, `EEXIST`, those of
/// the network; `ENOSYS` outside.
pub fn add_link(name: &str, vnl: &str) -> io::Result<()> {
    let (name, vnl) = (text(name)?, text(vnl)?);
    let number = libc::c_long::from(vu::SYS_VUCTL);
    // SAFETY: the hypervisor reads two NUL-terminated strings.
    check(unsafe { libc::syscall(number, vu::VUCTL_ADD_LINK, name.as_ptr(), vnl.as_ptr()) })
        .map(|_| ())
}

/// The active debug tags of a scope. Errors: `ENOSYS` outside.
pub fn debug_tags(scope: Scope) -> io::Result<String> {
    let mut buffer = vec![0_u8; TEXT];
    let number = libc::c_long::from(vu::SYS_VUCTL);
    let (at, length) = (buffer.as_mut_ptr(), buffer.len());
    let tag = vu::VUCTL_GET_DEBUGTAGS;
    // SAFETY: the hypervisor writes at most `length` bytes to the buffer.
    check(unsafe { libc::syscall(number, tag, at, length, scope as i32) })?;
    Ok(until_nul(&buffer))
}

/// The name of a debug tag. Errors: `EINVAL` for a letter that is not used.
pub fn debug_tag_name(tag: u8) -> io::Result<String> {
    copy_out(vu::VUCTL_GET_DEBUGTAGNAME, Some(i32::from(tag)))
}

/// Adds or removes debug tags, or sets colours, by the tag of the request. Errors: `EINVAL`.
pub fn debug(request: u32, argument: &str, scope: Scope) -> io::Result<()> {
    let argument = text(argument)?;
    let number = libc::c_long::from(vu::SYS_VUCTL);
    // SAFETY: the hypervisor reads one NUL-terminated string.
    check(unsafe { libc::syscall(number, request, argument.as_ptr(), scope as i32) }).map(|_| ())
}

/// Names the view. Errors: `ENOSYS` outside, `ENAMETOOLONG`.
pub fn set_name(name: &str) -> io::Result<()> {
    debug(vu::VUCTL_SETNAME, name, Scope::View)
}

/// The eight fields of `struct vu_info`, each cut at its NUL: sysname, nodename, release, version,
/// machine, domain name, server id, view name. Errors: `ENOSYS` outside.
pub fn info() -> io::Result<[String; 8]> {
    let mut buffer = vec![0_u8; vu::VU_INFO_SIZE];
    let number = libc::c_long::from(vu::SYS_VUCTL);
    // SAFETY: the hypervisor writes one struct vu_info, the size of the buffer.
    check(unsafe { libc::syscall(number, vu::VUCTL_GETINFO, buffer.as_mut_ptr()) })?;
    let mut fields = buffer.chunks_exact(vu::NAME_FIELD).map(until_nul);
    Ok(std::array::from_fn(|_| fields.next().unwrap_or_default()))
}

fn copy_out(request: u32, argument: Option<i32>) -> io::Result<String> {
    let mut buffer = vec![0_u8; TEXT];
    let number = libc::c_long::from(vu::SYS_VUCTL);
    let (at, length) = (buffer.as_mut_ptr(), buffer.len());
    // SAFETY: the hypervisor writes at most `length` bytes to the buffer.
    check(unsafe {
        match argument {
            Some(argument) => libc::syscall(number, request, argument, at, length),
            None => libc::syscall(number, request, at, length),
        }
    })?;
    Ok(until_nul(&buffer))
}

fn until_nul(bytes: &[u8]) -> String {
    CStr::from_bytes_until_nul(bytes).map_or_else(
        |_| String::from_utf8_lossy(bytes).into_owned(),
        |text| text.to_string_lossy().into_owned(),
    )
}

/// mount(2) with text data. Errors: those of mount(2).
pub fn mount(source: &str, target: &str, fstype: &str, flags: u64, data: &str) -> io::Result<()> {
    let [source, target, fstype, data] = [source, target, fstype, data].map(text);
    let (source, target, fstype, data) = (source?, target?, fstype?, data?);
    // SAFETY: four NUL-terminated strings that outlive the call.
    let result = unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), fstype.as_ptr(), flags, data.as_ptr().cast())
    };
    check(libc::c_long::from(result)).map(|_| ())
}

/// umount2(2). Errors: those of umount2(2).
pub fn umount(target: &str, flags: i32) -> io::Result<()> {
    let target = text(target)?;
    // SAFETY: one NUL-terminated string that outlives the call.
    let result = unsafe { libc::umount2(target.as_ptr(), flags) };
    check(libc::c_long::from(result)).map(|_| ())
}
