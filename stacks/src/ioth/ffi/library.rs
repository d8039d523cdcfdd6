//! A shared object in a link namespace: dlmopen(3).
//!
//! A new namespace has a C library of its own, with its own `errno` and its own tables of
//! character classes for each thread.
#![expect(unsafe_code, reason = "dlmopen(3) and dlsym(3) have no safe wrapper")]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    ptr::{self, NonNull},
};

use umvu_abi::Errno;

/// Where a shared object is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Namespace {
    /// With everything else of this process: one copy, whoever loads it.
    Base,
    /// Apart, with copies of all the libraries that it needs.
    Own,
}

/// A loaded shared object; dropping it unloads it.
#[derive(Debug)]
pub(crate) struct Library {
    handle: NonNull<c_void>,
    errno: unsafe extern "C" fn() -> *mut c_int,
}

// SAFETY: a handle of dlmopen(3) may be used by any thread.
unsafe impl Send for Library {}
// SAFETY: as above; the functions that take it lock by themselves.
unsafe impl Sync for Library {}

impl Library {
    /// Loads a file, all its symbols resolved. Errors: the text of dlerror(3).
    pub(crate) fn open(path: &CStr, namespace: Namespace) -> Result<Self, String> {
        let list = match namespace {
            Namespace::Base => libc::LM_ID_BASE,
            Namespace::Own => libc::LM_ID_NEWLM,
        };
        // SAFETY: the path ends with a NUL. The constructors of the object are run: that is what
        // loading a plugin means.
        let handle = unsafe { libc::dlmopen(list, path.as_ptr(), libc::RTLD_NOW) };
        let handle = NonNull::new(handle).ok_or_else(reason)?;
        let mut library = Self { handle, errno: libc::__errno_location };
        if let Some(errno) = library.symbol("__errno_location") {
            // SAFETY: the C library defines this name as such a function.
            library.errno = unsafe {
                std::mem::transmute::<NonNull<c_void>, unsafe extern "C" fn() -> *mut c_int>(errno)
            };
        }
        Ok(library)
    }

    /// Unloads it, unless something keeps it: a mark in the file (`-z nodelete`), or threads that
    /// have yet to clean up. Then it is given back.
    pub(crate) fn unload(self, path: &CStr) -> Option<Self> {
        let mut list: libc::Lmid_t = 0;
        let mut map: *const usize = ptr::null();
        // SAFETY: the handle is open; these requests write a number and a pointer.
        let (numbered, found) = unsafe {
            let handle = self.handle.as_ptr();
            (
                libc::dlinfo(handle, libc::RTLD_DI_LMID, (&raw mut list).cast()),
                libc::dlinfo(handle, libc::RTLD_DI_LINKMAP, (&raw mut map).cast()),
            )
        };
        if numbered != 0 || found != 0 || map.is_null() {
            return None;
        }
        // SAFETY: a `struct link_map` begins with the address at which the file is mapped.
        let address = unsafe { *map };
        let errno = self.errno;
        drop(self);
        // Only if it is still there: glibc keeps its lock when a namespace is asked for that is gone.
        if !is_mapped(address, path) {
            return None;
        }
        let flags = libc::RTLD_NOW | libc::RTLD_NOLOAD;
        // SAFETY: the path ends with a NUL; nothing is loaded.
        let handle = unsafe { libc::dlmopen(list, path.as_ptr(), flags) };
        NonNull::new(handle).map(|handle| Self { handle, errno })
    }

    /// The address of a symbol of the object or of what it needs.
    pub(crate) fn symbol(&self, name: &str) -> Option<NonNull<c_void>> {
        let name = CString::new(name).ok()?;
        // SAFETY: the handle is open and the name ends with a NUL.
        NonNull::new(unsafe { libc::dlsym(self.handle.as_ptr(), name.as_ptr()) })
    }

    /// The text that a variable of the object, a `const char *`, leads to.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let variable = self.symbol(name)?.cast::<*const c_char>();
        // SAFETY: a plugin defines the name as such a variable; its text ends with a NUL.
        unsafe {
            let text = variable.read_unaligned();
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    }

    /// Prepares the calling thread, which another C library has made, for this one's.
    pub(crate) fn enter(&self) {
        if let Some(init) = self.symbol("__ctype_init") {
            // SAFETY: glibc defines it as a function without arguments that sets variables of the
            // calling thread; it may be called again.
            unsafe { std::mem::transmute::<NonNull<c_void>, unsafe extern "C" fn()>(init)() };
        }
    }

    /// Forgets the error number of former calls.
    pub(crate) fn clear_errno(&self) {
        // SAFETY: the location is the calling thread's and always valid.
        unsafe { *(self.errno)() = 0 };
    }

    /// The error number of the call just made; `EIO` when it has set none.
    pub(crate) fn last_errno(&self) -> Errno {
        // SAFETY: as above.
        match unsafe { *(self.errno)() } {
            number if number > 0 => Errno(number),
            _ => Errno::EIO,
        }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: the handle is open; who drops the library calls nothing of it any more.
        unsafe { libc::dlclose(self.handle.as_ptr()) };
    }
}

/// Whether a file is mapped at an address (proc(5), `/proc/PID/maps`).
fn is_mapped(address: usize, path: &CStr) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let start = format!("{address:08x}-");
    let name = path.to_string_lossy();
    let name = name.rsplit('/').next().unwrap_or_default();
    maps.lines().any(|line| line.starts_with(&start) && line.ends_with(name))
}

/// What dlerror(3) says.
fn reason() -> String {
    // SAFETY: the text is valid until this thread's next call of the family, and is copied.
    unsafe {
        let text = libc::dlerror();
        if text.is_null() {
            return "dlmopen failed".to_owned();
        }
        CStr::from_ptr(text).to_string_lossy().into_owned()
    }
}
