//! Tells the C libraries of the process that it has threads.
//!
//! glibc takes locks without atomic operations, and wakes nobody when it lets go of them, while it
//! knows of one thread only. Each link namespace has a copy of it, which knows of the threads that it
//! has made itself, but all copies share the lock of the dynamic linker. So a program with one thread
//! of its own, in dlmopen(3) for its second stack, would leave a thread of the first one waiting for
//! that lock for ever. A thread of no effect, made by the copy of the program and by our own before
//! anything else, has both of them lock properly.
#![expect(unsafe_code, reason = "a constructor of the library, and threads of the C library's own")]

use std::{ffi::c_void, mem::MaybeUninit, ptr};

type Start = extern "C" fn(*mut c_void) -> *mut c_void;
type Create = unsafe extern "C" fn(
    *mut libc::pthread_t,
    *const libc::pthread_attr_t,
    Start,
    *mut c_void,
) -> libc::c_int;
type Join = unsafe extern "C" fn(libc::pthread_t, *mut *mut c_void) -> libc::c_int;

/// Runs while the library is loaded, before any of its functions.
#[used]
// SAFETY: what the section holds are functions of this type, as the ELF specification has it.
#[unsafe(link_section = ".init_array")]
static ON_LOAD: extern "C" fn() = on_load;

extern "C" fn on_load() {
    make_one(libc::pthread_create, libc::pthread_join);
    if let Some((create, join)) = of_program() {
        make_one(create, join);
    }
}

/// The functions of the program's C library.
fn of_program() -> Option<(Create, Join)> {
    // SAFETY: the names are NUL-terminated; RTLD_NOLOAD only looks for what is loaded, and the
    // handle is never closed. The symbols of these names have these types in every glibc.
    unsafe {
        let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD;
        let handle = libc::dlmopen(libc::LM_ID_BASE, c"libc.so.6".as_ptr(), flags);
        if handle.is_null() {
            return None;
        }
        let create = libc::dlsym(handle, c"pthread_create".as_ptr());
        let join = libc::dlsym(handle, c"pthread_join".as_ptr());
        Some((
            std::mem::transmute::<*mut c_void, Option<Create>>(create)?,
            std::mem::transmute::<*mut c_void, Option<Join>>(join)?,
        ))
    }
}

/// Makes a thread and waits for its end. Without it the library works, but may have to wait.
fn make_one(create: Create, join: Join) {
    let mut thread = MaybeUninit::uninit();
    // SAFETY: pthread_create(3) fills in the thread when it returns 0; the thread touches nothing,
    // and is joined once.
    unsafe {
        if create(thread.as_mut_ptr(), ptr::null(), nothing, ptr::null_mut()) == 0 {
            join(thread.assume_init(), ptr::null_mut());
        }
    }
}

extern "C" fn nothing(_: *mut c_void) -> *mut c_void {
    ptr::null_mut()
}
