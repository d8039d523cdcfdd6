//! A stack of a plugin: its functions behind safe calls, for one thread.
//!
//! Each call says what the C function of that name says; data goes by [`super::transfer`]. A count or a
//! length that a plugin returns is never taken for more than it was given room for.
#![expect(unsafe_code, reason = "calls functions of a plugin")]

use std::{
    ffi::{CString, c_char, c_int, c_ulong, c_void},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use libc::{sockaddr, socklen_t};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use umvu_abi::{
    Errno, SockAddr,
    net::{Shutdown, SocketSpec},
};

use super::{
    super::spares::Loaded,
    functions::{self, Functions},
    library::Library,
};

/// Room for any socket address.
pub(super) const NAME: usize = 128;
/// `FIONBIO` (asm-generic/ioctls.h).
const FIONBIO: c_ulong = 0x5421;
/// `struct ifconf`: a length and a pointer.
const SIOCGIFCONF: u32 = 0x8912;
const SIOCADDRT: u32 = 0x890b;
const SIOCDELRT: u32 = 0x890c;
/// `struct rtentry` and its pointer to the name of the device.
const RTENTRY: usize = 120;
const RT_DEV: usize = 96;

/// A buffer with the alignment of socket addresses and control messages.
#[repr(C, align(8))]
pub(super) struct Aligned<const N: usize>(pub(super) [u8; N]);

/// A descriptor of a plugin, which only the plugin's `close` may close.
pub(crate) type PluginFd = c_int;

/// One stack.
pub(crate) struct Plugin {
    pub(super) functions: Functions,
    data: *mut c_void,
    loaded: Loaded,
}

// SAFETY: what `newstack` returns is handed to the plugin's own functions only, and those are
// called by one thread, the one that called `newstack`.
unsafe impl Send for Plugin {}
// SAFETY: as above.
unsafe impl Sync for Plugin {}

impl Plugin {
    /// Starts a stack on networks. Errors: `ENOENT` when there is no `newstack`, and its own.
    pub(crate) fn start(
        loaded: Loaded,
        stack: &str,
        networks: &[CString],
        options: &CString,
    ) -> Result<Self, Errno> {
        let library = loaded.library();
        library.enter();
        let mut functions = Functions::of(library, stack);
        let newstack = functions.newstack.ok_or(Errno::ENOENT)?;
        let mut list: Vec<*const c_char> = networks.iter().map(|vnl| vnl.as_ptr()).collect();
        list.push(ptr::null());
        functions::set_stack_data(ptr::null_mut());
        library.clear_errno();
        // SAFETY: the list ends with a null pointer, its strings and the options with NULs, all
        // outlive the call; the table is ours and has the layout that plugins are built with.
        let data = unsafe { newstack(list.as_ptr(), options.as_ptr(), &raw mut functions) };
        if data.is_null() {
            return Err(library.last_errno());
        }
        functions::set_stack_data(data);
        Ok(Self { functions, data, loaded })
    }

    /// Ends the stack and unloads the plugin, which stays loaded if it does not want to end.
    pub(crate) fn end(self) -> Result<(), Errno> {
        let Some(delstack) = self.functions.delstack else { return Ok(()) };
        self.library().clear_errno();
        // SAFETY: `data` is what `newstack` returned, and is not used any more.
        if unsafe { delstack(self.data) } == 0 {
            return Ok(());
        }
        let errno = self.library().last_errno();
        // It may still be at work: its code must stay.
        std::mem::forget(self);
        Err(errno)
    }

    /// The C library's own functions, where the plugin has put them into its table: none of them
    /// keeps a record of sockets.
    pub(crate) fn is_plain(&self) -> bool {
        const NOT_OF_SOCKETS: [&str; 4] = ["getstackdata", "newstack", "delstack", "socket"];
        self.functions.addresses().iter().filter(|(name, _)| !NOT_OF_SOCKETS.contains(name)).all(
            |(name, address)| {
                self.library().symbol(name).is_some_and(|own| own.addr().get() == *address)
            },
        )
    }

    pub(super) fn library(&self) -> &Library {
        self.loaded.library()
    }

    fn check(&self, result: c_int) -> Result<c_int, Errno> {
        if result < 0 { Err(self.library().last_errno()) } else { Ok(result) }
    }

    pub(super) fn count(&self, result: isize, room: usize) -> Result<usize, Errno> {
        usize::try_from(result)
            .map(|count| count.min(room))
            .map_err(|_| self.library().last_errno())
    }

    /// socket(2).
    pub(crate) fn socket(&self, spec: &SocketSpec) -> Result<PluginFd, Errno> {
        let socket = self.functions.socket.ok_or(Errno::ENOSYS)?;
        self.library().clear_errno();
        // SAFETY: takes three integers.
        self.check(unsafe { socket(spec.domain, spec.kind, spec.protocol) })
    }

    /// close(2).
    pub(crate) fn close(&self, fd: PluginFd) {
        if let Some(close) = self.functions.close {
            // SAFETY: takes an integer.
            unsafe { close(fd) };
        }
    }

    /// Sets O_NONBLOCK, by fcntl(2) or, where there is none, by ioctl(2).
    pub(crate) fn set_nonblocking(&self, fd: PluginFd) -> Result<(), Errno> {
        self.library().clear_errno();
        if let Some(fcntl) = self.functions.fcntl {
            // SAFETY: this request takes no argument.
            let flags = unsafe { fcntl(fd, libc::F_GETFL, 0) }.max(0);
            // SAFETY: this one takes an integer.
            let done = unsafe { fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) };
            return self.check(done).map(|_| ());
        }
        if let Some(ioctl) = self.functions.ioctl {
            let mut on: c_int = 1;
            // SAFETY: the request reads one int.
            return self.check(unsafe { ioctl(fd, FIONBIO, &raw mut on) }).map(|_| ());
        }
        // It is a descriptor of the kernel's too: the plugin may look there.
        fcntl(borrow(fd), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map(|_| ())
            .map_err(|errno| Errno(errno as i32))
    }

    /// bind(2).
    pub(crate) fn bind(&self, fd: PluginFd, addr: &SockAddr) -> Result<(), Errno> {
        self.named(self.functions.bind, fd, addr)
    }

    /// connect(2).
    pub(crate) fn connect(&self, fd: PluginFd, addr: &SockAddr) -> Result<(), Errno> {
        self.named(self.functions.connect, fd, addr)
    }

    fn named(
        &self,
        function: Option<unsafe extern "C" fn(c_int, *const sockaddr, socklen_t) -> c_int>,
        fd: PluginFd,
        addr: &SockAddr,
    ) -> Result<(), Errno> {
        let function = function.ok_or(Errno::ENOSYS)?;
        let (name, length) = encode(addr);
        self.library().clear_errno();
        // SAFETY: the address has as many bytes as is said, and outlives the call.
        let done = unsafe { function(fd, name.0.as_ptr().cast(), length) };
        self.check(done).map(|_| ())
    }

    /// listen(2).
    pub(crate) fn listen(&self, fd: PluginFd, backlog: u32) -> Result<(), Errno> {
        let listen = self.functions.listen.ok_or(Errno::EOPNOTSUPP)?;
        self.library().clear_errno();
        // SAFETY: takes two integers.
        self.check(unsafe { listen(fd, c_int::try_from(backlog).unwrap_or(c_int::MAX)) })
            .map(|_| ())
    }

    /// accept(2): the new socket and its peer, if the plugin says.
    pub(crate) fn accept(&self, fd: PluginFd) -> Result<(PluginFd, Option<SockAddr>), Errno> {
        self.naming(self.functions.accept, fd)
    }

    /// getsockname(2).
    pub(crate) fn local(&self, fd: PluginFd) -> Result<SockAddr, Errno> {
        self.naming(self.functions.getsockname, fd)?.1.ok_or(Errno::EINVAL)
    }

    /// getpeername(2).
    pub(crate) fn peer(&self, fd: PluginFd) -> Result<SockAddr, Errno> {
        self.naming(self.functions.getpeername, fd)?.1.ok_or(Errno::ENOTCONN)
    }

    fn naming(
        &self,
        function: Option<unsafe extern "C" fn(c_int, *mut sockaddr, *mut socklen_t) -> c_int>,
        fd: PluginFd,
    ) -> Result<(c_int, Option<SockAddr>), Errno> {
        let function = function.ok_or(Errno::ENOSYS)?;
        let mut name = Aligned([0; NAME]);
        let mut length = length_of(NAME);
        self.library().clear_errno();
        // SAFETY: the buffer has the room that is said; both outlive the call.
        let done = unsafe { function(fd, name.0.as_mut_ptr().cast(), &raw mut length) };
        Ok((self.check(done)?, decode(&name, length)))
    }

    /// Whether the plugin can say why a connection failed.
    pub(crate) fn has_options(&self) -> bool {
        self.functions.getsockopt.is_some()
    }

    /// setsockopt(2). Errors: `ENOPROTOOPT` when the plugin has no options.
    pub(crate) fn set_option(
        &self,
        fd: PluginFd,
        level: i32,
        name: i32,
        value: &[u8],
    ) -> Result<(), Errno> {
        let set = self.functions.setsockopt.ok_or(Errno::ENOPROTOOPT)?;
        self.library().clear_errno();
        // SAFETY: the value has as many bytes as is said, and outlives the call.
        let done = unsafe { set(fd, level, name, value.as_ptr().cast(), length_of(value.len())) };
        self.check(done).map(|_| ())
    }

    /// getsockopt(2): `value` is what the buffer holds before. Errors: `ENOPROTOOPT` when the plugin
    /// has no options.
    pub(crate) fn option(
        &self,
        fd: PluginFd,
        level: i32,
        name: i32,
        mut value: Vec<u8>,
    ) -> Result<Vec<u8>, Errno> {
        let get = self.functions.getsockopt.ok_or(Errno::ENOPROTOOPT)?;
        let mut length = length_of(value.len());
        self.library().clear_errno();
        // SAFETY: the buffer has the room that is said; both outlive the call.
        let done = unsafe { get(fd, level, name, value.as_mut_ptr().cast(), &raw mut length) };
        self.check(done)?;
        value.truncate(usize::try_from(length).unwrap_or(0));
        Ok(value)
    }

    /// The pending error of a socket, which is taken (`SO_ERROR`).
    pub(crate) fn take_error(&self, fd: PluginFd) -> Option<Errno> {
        let value = self.option(fd, libc::SOL_SOCKET, libc::SO_ERROR, vec![0; 4]).ok()?;
        let number = value.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
        (number > 0).then_some(Errno(number))
    }

    /// shutdown(2).
    pub(crate) fn shutdown(&self, fd: PluginFd, how: Shutdown) -> Result<(), Errno> {
        let shutdown = self.functions.shutdown.ok_or(Errno::ENOSYS)?;
        let how = match how {
            Shutdown::Read => libc::SHUT_RD,
            Shutdown::Write => libc::SHUT_WR,
            Shutdown::Both => libc::SHUT_RDWR,
        };
        self.library().clear_errno();
        // SAFETY: takes two integers.
        self.check(unsafe { shutdown(fd, how) }).map(|_| ())
    }

    /// ioctl(2) with a structure: `ifreq`, `rtentry` (the name of its device behind it), `arpreq`,
    /// an int; for `SIOCGIFCONF` the list that its pointer leads to. Errors: `ENOTTY` when the
    /// plugin has no such function.
    pub(crate) fn ioctl(
        &self,
        fd: PluginFd,
        request: u32,
        argument: &mut Vec<u8>,
    ) -> Result<i32, Errno> {
        let ioctl = self.functions.ioctl.ok_or(Errno::ENOTTY)?;
        let number = c_ulong::from(request);
        self.library().clear_errno();
        if request == SIOCGIFCONF {
            let mut list = libc::ifconf {
                ifc_len: c_int::try_from(argument.len()).unwrap_or(c_int::MAX),
                ifc_ifcu: libc::__c_anonymous_ifc_ifcu {
                    ifcu_buf: argument.as_mut_ptr().cast::<c_char>(),
                },
            };
            // SAFETY: the structure has a buffer of the length that it says.
            let value = self.check(unsafe { ioctl(fd, number, &raw mut list) })?;
            argument.truncate(usize::try_from(list.ifc_len).unwrap_or(0));
            return Ok(value);
        }
        if matches!(request, SIOCADDRT | SIOCDELRT) && argument.len() > RTENTRY {
            let name = argument[RTENTRY..].as_ptr().addr() as u64;
            argument[RT_DEV..RT_DEV + 8].copy_from_slice(&name.to_ne_bytes());
        }
        // SAFETY: the caller brings the structure that the request is defined with; a pointer in it
        // is null or leads behind it.
        self.check(unsafe { ioctl(fd, number, argument.as_mut_ptr()) })
    }
}

/// The descriptor as the kernel knows it, to watch it.
pub(crate) fn borrow(fd: PluginFd) -> BorrowedFd<'static> {
    // SAFETY: the plugin keeps it open until its `close` is called; who asks for it here uses it
    // before that, on the plugin's thread or while the socket is known to be open.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// The network namespace of a kernel socket. Errors: `EPERM`, `ENOTTY`.
pub(crate) fn namespace_of(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const SIOCGSKNS: c_ulong = 0x894c;
    // SAFETY: the request takes no argument.
    let fd = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS) };
    if fd < 0 { Err(std::io::Error::last_os_error().into()) } else { Ok(adopt(fd)) }
}

/// Takes over a descriptor of a plugin whose `close` is close(2).
pub(crate) fn adopt(fd: PluginFd) -> OwnedFd {
    // SAFETY: a system call or the plugin's `socket` has just returned it, and nobody else has a
    // record of it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

pub(super) fn length_of(length: usize) -> socklen_t {
    socklen_t::try_from(length).unwrap_or(socklen_t::MAX)
}

pub(super) fn encode(addr: &SockAddr) -> (Aligned<NAME>, socklen_t) {
    let bytes = addr.encode();
    let mut name = Aligned([0; NAME]);
    name.0[..bytes.len()].copy_from_slice(&bytes);
    (name, length_of(bytes.len()))
}

pub(super) fn decode(name: &Aligned<NAME>, length: socklen_t) -> Option<SockAddr> {
    let length = usize::try_from(length).unwrap_or(NAME).min(NAME);
    SockAddr::decode(&name.0[..length]).ok().filter(|addr| *addr != SockAddr::Unspec)
}
