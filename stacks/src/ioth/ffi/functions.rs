//! `struct ioth_functions`, the table that a plugin fills in (`ioth.h`).
#![expect(unsafe_code, reason = "symbols are untyped addresses")]

use std::{
    cell::Cell,
    ffi::{c_char, c_int, c_ulong, c_void},
    ptr::NonNull,
};

use libc::{iovec, msghdr, size_t, sockaddr, socklen_t, ssize_t};

use super::library::Library;

type Receive = unsafe extern "C" fn(c_int, *mut c_void, size_t) -> ssize_t;
type ReceiveFlags = unsafe extern "C" fn(c_int, *mut c_void, size_t, c_int) -> ssize_t;
type ReceiveFrom = unsafe extern "C" fn(
    c_int,
    *mut c_void,
    size_t,
    c_int,
    *mut sockaddr,
    *mut socklen_t,
) -> ssize_t;
type Send = unsafe extern "C" fn(c_int, *const c_void, size_t) -> ssize_t;
type SendFlags = unsafe extern "C" fn(c_int, *const c_void, size_t, c_int) -> ssize_t;
type SendTo = unsafe extern "C" fn(
    c_int,
    *const c_void,
    size_t,
    c_int,
    *const sockaddr,
    socklen_t,
) -> ssize_t;
type Vector = unsafe extern "C" fn(c_int, *const iovec, c_int) -> ssize_t;
type Named = unsafe extern "C" fn(c_int, *const sockaddr, socklen_t) -> c_int;
type Naming = unsafe extern "C" fn(c_int, *mut sockaddr, *mut socklen_t) -> c_int;

/// Declares the table with its fields in the order of the C struct, and how it is looked up.
macro_rules! table {
    ($($(#[$doc:meta])* $name:ident: $kind:ty,)*) => {
        /// Corresponds to `struct ioth_functions`. A plugin sets the fields of its functions in
        /// `newstack`, or exports them as `ioth_STACK_FUNCTION`, or leaves them out.
        #[repr(C)]
        #[derive(Clone)]
        pub(crate) struct Functions {
            $($(#[$doc])* pub(crate) $name: Option<$kind>,)*
        }

        impl Functions {
            /// Looks up what a plugin exports under the name of a stack.
            pub(crate) fn of(library: &Library, stack: &str) -> Self {
                let find = |name: &str| library.symbol(&format!("ioth_{stack}_{name}"));
                let mut table = Self {
                    $($name: find(stringify!($name)).map(|address| {
                        // SAFETY: a plugin defines this name as a function of this type; both are
                        // one address.
                        unsafe { std::mem::transmute::<NonNull<c_void>, $kind>(address) }
                    }),)*
                };
                table.getstackdata = Some(stack_data);
                table
            }

            /// The addresses of the functions that work on sockets, with their names; 0 where
            /// there is none.
            pub(crate) fn addresses(&self) -> Vec<(&'static str, usize)> {
                vec![$((stringify!($name), self.$name.map_or(0, |function| function as usize)),)*]
            }
        }
    };
}

table! {
    /// The host's, for the plugin: what `newstack` has returned for the stack in question.
    getstackdata: extern "C" fn() -> *mut c_void,
    newstack: unsafe extern "C" fn(
        *const *const c_char,
        *const c_char,
        *mut Functions,
    ) -> *mut c_void,
    delstack: unsafe extern "C" fn(*mut c_void) -> c_int,
    socket: unsafe extern "C" fn(c_int, c_int, c_int) -> c_int,
    close: unsafe extern "C" fn(c_int) -> c_int,
    bind: Named,
    connect: Named,
    listen: unsafe extern "C" fn(c_int, c_int) -> c_int,
    accept: Naming,
    getsockname: Naming,
    getpeername: Naming,
    setsockopt: unsafe extern "C" fn(c_int, c_int, c_int, *const c_void, socklen_t) -> c_int,
    getsockopt: unsafe extern "C" fn(c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int,
    shutdown: unsafe extern "C" fn(c_int, c_int) -> c_int,
    ioctl: unsafe extern "C" fn(c_int, c_ulong, ...) -> c_int,
    fcntl: unsafe extern "C" fn(c_int, c_int, ...) -> c_int,
    read: Receive,
    readv: Vector,
    recv: ReceiveFlags,
    recvfrom: ReceiveFrom,
    recvmsg: unsafe extern "C" fn(c_int, *mut msghdr, c_int) -> ssize_t,
    write: Send,
    writev: Vector,
    send: SendFlags,
    sendto: SendTo,
    sendmsg: unsafe extern "C" fn(c_int, *const msghdr, c_int) -> ssize_t,
}

thread_local! {
    /// The stack of the call that this thread is making.
    static STACK_DATA: Cell<*mut c_void> = const { Cell::new(std::ptr::null_mut()) };
}

/// Says which stack the calls of this thread are for.
pub(super) fn set_stack_data(data: *mut c_void) {
    STACK_DATA.set(data);
}

extern "C" fn stack_data() -> *mut c_void {
    STACK_DATA.get()
}
