//! The process that lives in a network namespace of its own and opens sockets and files there.
//!
//! It is a grandchild, so that nobody has to wait for it, and ends when the other end of its
//! socket is closed: with the hypervisor at the latest. After fork(2) it makes system calls only:
//! no allocation, no lock, no panic (signal-safety(7)).
#![expect(unsafe_code, reason = "fork(2), unshare(2) and descriptor passing without allocation")]

use std::{
    ffi::{c_char, c_int, c_void},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use umvu_abi::Errno;

/// What a request may hold: the operation, three numbers, a path with its NUL.
pub(crate) const REQUEST: usize = 16 + 512;
/// An answer: an error number (0: none) and a number.
pub(crate) const ANSWER: usize = 8;
/// Operations.
pub(crate) const SOCKET: i32 = 1;
pub(crate) const OPEN: i32 = 2;
pub(crate) const TAP: i32 = 3;

/// `IFF_TAP | IFF_NO_PI | IFF_VNET_HDR` in the type of the request.
const TAP_FLAGS: libc::c_short = 0x5002;
/// `TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6`: what the kernel may leave to the reader.
const OFFLOADS: libc::c_ulong = 7;

/// Which step of the setup an error belongs to; the number in the helper's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// unshare(2).
    Namespaces,
    /// Opening `/dev/net/tun`.
    Device,
    /// Making the tap interface.
    Tap,
}

impl Step {
    /// The step of a negative number in an answer.
    pub(crate) fn from_number(number: i32) -> Option<Self> {
        match number {
            -1 => Some(Self::Namespaces),
            -2 => Some(Self::Device),
            -3 => Some(Self::Tap),
            _ => None,
        }
    }
}

/// Starts the helper. The descriptor returned speaks to it; its first message is the answer to the
/// setup.
pub(crate) fn start() -> Result<OwnedFd, Errno> {
    let mut pair = [0; 2];
    // SAFETY: the array has room for two descriptors.
    let made = unsafe {
        libc::socketpair(
            libc::AF_UNIX,
            libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC,
            0,
            pair.as_mut_ptr(),
        )
    };
    if made < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: both descriptors are new and ours.
    let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(pair[0]), OwnedFd::from_raw_fd(pair[1])) };
    // SAFETY: the child calls only functions that signal-safety(7) allows, and never returns.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error().into()),
        0 => {
            // SAFETY: as above; the first child only makes the second and leaves.
            unsafe {
                if libc::fork() == 0 {
                    serve(theirs.as_raw_fd());
                }
                libc::_exit(0)
            }
        }
        child => {
            drop(theirs);
            let mut status = 0;
            // SAFETY: waits for our own child only; somebody else may have done so already.
            unsafe { libc::waitpid(child, &raw mut status, libc::__WALL) };
            Ok(ours)
        }
    }
}

fn errno() -> c_int {
    // SAFETY: the location is this thread's and always valid.
    unsafe { *libc::__errno_location() }
}

/// The life of the helper.
///
/// # Safety
/// To be called in a forked child only.
unsafe fn serve(socket: RawFd) -> ! {
    // SAFETY: plain system calls on descriptors of this process; the buffers are locals.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, c"umvu-netns".as_ptr());
        // Nothing of the hypervisor's may stay open here: its ends of sockets must be able to end.
        if socket != 3 {
            libc::dup2(socket, 3);
        }
        libc::syscall(libc::SYS_close_range, 4u32, u32::MAX, 0u32);
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        for fd in 0..3 {
            libc::dup2(null, fd);
        }
        libc::close(null);
        for signal in [libc::SIGINT, libc::SIGHUP, libc::SIGTERM, libc::SIGPIPE] {
            libc::signal(signal, libc::SIG_IGN);
        }
        set_up();
        answer_requests()
    }
}

/// Enters the namespaces; answers with the process id.
///
/// # Safety
/// In the helper only.
unsafe fn set_up() {
    // SAFETY: as in `serve`.
    unsafe {
        let network = libc::CLONE_NEWNET | libc::CLONE_NEWNS;
        if libc::unshare(network) < 0 && libc::unshare(network | libc::CLONE_NEWUSER) < 0 {
            answer(errno(), -1, -1);
            libc::_exit(1);
        }
        // A view of /sys for this namespace; without it /sys/class/net stays the host's.
        let private = libc::MS_REC | libc::MS_PRIVATE;
        libc::mount(c"none".as_ptr(), c"/".as_ptr(), ptr::null(), private, ptr::null());
        libc::mount(c"sysfs".as_ptr(), c"/sys".as_ptr(), c"sysfs".as_ptr(), 0, ptr::null());
        answer(0, libc::getpid(), -1);
    }
}

/// Makes a tap interface of this name. Gives its descriptor, or the number of the step that failed.
///
/// # Safety
/// In the helper only; `name` ends with a NUL.
unsafe fn make_tap(name: *const c_char) -> c_int {
    // SAFETY: as in `serve`; at most 15 bytes of the name are copied, up to its NUL.
    unsafe {
        let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let tap = libc::open(c"/dev/net/tun".as_ptr(), flags);
        if tap < 0 {
            return -2;
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        libc::strncpy(request.ifr_name.as_mut_ptr(), name, request.ifr_name.len() - 1);
        request.ifr_ifru.ifru_flags = TAP_FLAGS;
        if libc::ioctl(tap, libc::TUNSETIFF, &raw mut request) < 0 {
            let error = errno();
            libc::close(tap);
            *libc::__errno_location() = error;
            return -3;
        }
        // A kernel that refuses this does the work itself.
        libc::ioctl(tap, libc::TUNSETOFFLOAD, OFFLOADS);
        tap
    }
}

/// Serves requests until the hypervisor is gone.
///
/// # Safety
/// In the helper only.
unsafe fn answer_requests() -> ! {
    // SAFETY: as in `serve`; a request is read into a buffer of its greatest size.
    unsafe {
        loop {
            let mut request = [0u8; REQUEST + 1];
            let count = libc::recv(3, request.as_mut_ptr().cast::<c_void>(), REQUEST, 0);
            if count < 0 && errno() == libc::EINTR {
                continue;
            }
            if count < 16 {
                libc::_exit(0);
            }
            let number = |at: usize| {
                i32::from_ne_bytes([request[at], request[at + 1], request[at + 2], request[at + 3]])
            };
            let fd = match number(0) {
                SOCKET => libc::socket(number(4), number(8), number(12)),
                OPEN => {
                    // The buffer is one byte longer than a request: the path ends.
                    libc::open(request.as_ptr().add(16).cast(), number(4))
                }
                TAP => make_tap(request.as_ptr().add(16).cast()),
                _ => -1,
            };
            if fd < 0 {
                answer(errno(), fd, -1);
            } else {
                answer(0, 0, fd);
                libc::close(fd);
            }
        }
    }
}

/// Sends an answer, with a descriptor unless it is negative.
///
/// # Safety
/// In the helper only.
unsafe fn answer(error: c_int, number: i32, fd: RawFd) {
    let mut body = [0u8; ANSWER];
    body[..4].copy_from_slice(&error.to_ne_bytes());
    body[4..].copy_from_slice(&number.to_ne_bytes());
    let mut control = [0u64; 4];
    // SAFETY: the message refers to locals that outlive the call; the control buffer is aligned
    // and large enough for one descriptor.
    unsafe {
        let mut part = libc::iovec { iov_base: body.as_mut_ptr().cast(), iov_len: ANSWER };
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if fd >= 0 {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(4) as usize;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
            ptr::write_unaligned(libc::CMSG_DATA(header).cast::<c_int>(), fd);
        }
        libc::sendmsg(3, &raw const message, libc::MSG_NOSIGNAL);
    }
}
