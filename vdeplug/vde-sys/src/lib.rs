//! Bindings of libvdeplug, the C library of Virtual Distributed Ethernet.
//!
//! The library is loaded at run time: a program that uses this crate builds, starts and works
//! without it, and [`library`] tells whether it is there. Debian's package is `libvdeplug2`.
//!
//! `bindings.rs` is what bindgen makes of `libvdeplug.h` 4.0.1, checked in; the script
//! `regenerate` of this crate makes it anew and says what it needs. The header's `vde_open` is a
//! macro: call [`Libvdeplug::vde_open_real`] with [`LIBVDEPLUG_INTERFACE_VERSION`].
//!
//! ```
//! match vde_sys::library() {
//!     Ok(library) => println!("vde_open is at {:?}", library.vde_open_real),
//!     Err(error) => println!("{error}"),
//! }
//! ```
#![expect(unsafe_code, reason = "bindings of a C library")]

#[allow(
    missing_docs,
    missing_debug_implementations,
    non_camel_case_types,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::missing_safety_doc,
    clippy::undocumented_unsafe_blocks,
    reason = "made by bindgen; the header documents it"
)]
mod bindings;

use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

pub use bindings::{
    LIBVDEPLUG_INTERFACE_VERSION, Libvdeplug, VDE_ETHBUFSIZE, VDE_MAXMTU, VDECONN, vde_open_args,
    vdeconn,
};

/// The name of the library whose interface this is.
pub const SONAME: &str = "libvdeplug.so.2";

static LIBRARY: OnceLock<Libvdeplug> = OnceLock::new();

/// Loads libvdeplug; once loaded it stays for the life of the process.
///
/// It is looked for as `dlopen(3)` does: `LD_LIBRARY_PATH`, then the system's folders. Its symbols
/// are made visible to libraries that are loaded later, because its plugins use them.
///
/// # Errors
/// The words of `dlerror(3)`. The next call tries again.
pub fn library() -> Result<&'static Libvdeplug, libloading::Error> {
    if let Some(library) = LIBRARY.get() {
        return Ok(library);
    }
    // SAFETY: libvdeplug has no initializers that demand anything.
    let library = unsafe { Library::open(Some(SONAME), RTLD_NOW | RTLD_GLOBAL) }?;
    let library: libloading::Library = library.into();
    // SAFETY: the types are those of the header of the library that has this name.
    let library = unsafe { Libvdeplug::from_library(library) }?;
    Ok(LIBRARY.get_or_init(|| library))
}

#[cfg(test)]
mod tests {
    use std::{ffi::CString, ptr};

    use super::*;

    #[test]
    fn a_plug_can_be_opened_and_closed() {
        let Ok(library) = library() else {
            return eprintln!("skipped: {SONAME} is not installed");
        };
        let url = CString::new("null://").expect("a text").into_raw();
        let description = CString::new("test").expect("a text").into_raw();
        let version = libc::c_int::try_from(LIBVDEPLUG_INTERFACE_VERSION).expect("a small number");
        // SAFETY: both texts end with a zero and stay; no arguments may be null.
        let plug = unsafe { library.vde_open_real(url, description, version, ptr::null_mut()) };
        assert!(!plug.is_null(), "{}", std::io::Error::last_os_error());
        // SAFETY: the plug is open, and nobody uses it afterwards.
        assert_eq!(unsafe { library.vde_close(plug) }, 0);
        // SAFETY: both come from `into_raw`.
        drop(unsafe { (CString::from_raw(url), CString::from_raw(description)) });
    }
}
