//! The stacks and the sockets of this process.

use std::{
    collections::HashMap,
    ffi::c_void,
    os::fd::RawFd,
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use umvu_abi::Errno;
use umvu_reactor::Reactor;
use umvu_stacks::net::Stack;

use crate::open::Open;

/// Tells which stack a call is for: a function of libioth.
pub(crate) type CurrentStack = extern "C" fn() -> *mut c_void;

/// A stack of the program.
#[derive(Debug)]
pub(crate) struct Host {
    /// Its number, which libioth keeps as a pointer.
    pub(crate) number: usize,
    /// The stack.
    pub(crate) stack: Stack,
    /// The event loop that runs it and shows the readiness of its sockets.
    pub(crate) reactor: Reactor,
}

static CURRENT: OnceLock<CurrentStack> = OnceLock::new();
static LAST: AtomicUsize = AtomicUsize::new(0);
static HOSTS: LazyLock<Mutex<HashMap<usize, Arc<Host>>>> = LazyLock::new(Mutex::default);
static SOCKETS: LazyLock<RwLock<HashMap<RawFd, Arc<Open>>>> = LazyLock::new(RwLock::default);

/// Keeps a new stack; gives its number.
pub(crate) fn add(stack: Stack, reactor: Reactor, current: CurrentStack) -> usize {
    let _ = CURRENT.set(current);
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    HOSTS.lock().insert(number, Arc::new(Host { number, stack, reactor }));
    number
}

/// What libioth says is the stack of this call.
pub(crate) fn current_data() -> *mut c_void {
    CURRENT.get().map_or(std::ptr::null_mut(), |current| current())
}

/// The stack of this call. Errors: `EINVAL` when there is none.
pub(crate) fn current() -> Result<Arc<Host>, Errno> {
    let number = current_data() as usize;
    HOSTS.lock().get(&number).cloned().ok_or(Errno::EINVAL)
}

/// Takes a stack out. Errors: `EINVAL`, `EBUSY` while it has sockets.
pub(crate) fn remove(number: usize) -> Result<Arc<Host>, Errno> {
    let mut hosts = HOSTS.lock();
    if SOCKETS.read().values().any(|open| open.host.number == number) {
        return Err(Errno::EBUSY);
    }
    hosts.remove(&number).ok_or(Errno::EINVAL)
}

/// Keeps a socket. One that was at `fd` was closed behind our back.
pub(crate) fn insert(fd: RawFd, open: Arc<Open>) {
    let old = SOCKETS.write().insert(fd, open);
    drop(old);
}

/// The socket of a descriptor. Errors: `EBADF`.
pub(crate) fn find(fd: RawFd) -> Result<Arc<Open>, Errno> {
    SOCKETS.read().get(&fd).cloned().ok_or(Errno::EBADF)
}

/// Closes a descriptor and its socket. Errors: `EBADF`.
pub(crate) fn close(fd: RawFd) -> Result<(), Errno> {
    let open = SOCKETS.write().remove(&fd).ok_or(Errno::EBADF)?;
    let closed = nix::unistd::close(fd);
    drop(open);
    closed.map_err(|errno| Errno(errno as i32))
}
