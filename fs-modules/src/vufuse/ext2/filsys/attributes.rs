//! Extended attributes (xattr(7)).
#![expect(unsafe_code, reason = "calls of a C library")]

use std::{
    ffi::{CString, c_int, c_void},
    ptr, slice,
};

use umvu_abi::Errno;

use super::{
    super::{channel, errors::check},
    Filsys,
};

/// An extended attribute: its name and its value.
pub(in super::super) type Attribute = (Vec<u8>, Vec<u8>);

impl Filsys {
    fn with_attributes<T>(
        &self,
        ino: u32,
        act: impl FnOnce(*mut c_void) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut handle = ptr::null_mut();
        // SAFETY: it is open; `handle` takes the handle, which is let go once.
        unsafe {
            check((self.library.ext2fs_xattrs_open)(self.raw, ino, &raw mut handle))?;
            let result =
                check((self.library.ext2fs_xattrs_read)(handle)).and_then(|()| act(handle));
            let closed = check((self.library.ext2fs_xattrs_close)(&raw mut handle));
            result.and_then(|result| closed.map(|()| result))
        }
    }

    /// The extended attributes of a file. Errors: `EUCLEAN`, `EIO`.
    pub(in super::super) fn attributes(&self, ino: u32) -> Result<Vec<Attribute>, Errno> {
        unsafe extern "C" fn each(
            name: *mut std::ffi::c_char,
            value: *mut std::ffi::c_char,
            length: usize,
            to: *mut c_void,
        ) -> c_int {
            // SAFETY: the library passes a string and a value of that length; `to` is what is passed
            // below.
            unsafe {
                let name = std::ffi::CStr::from_ptr(name).to_bytes().to_vec();
                let value = match length {
                    0 => Vec::new(),
                    length => slice::from_raw_parts(value.cast::<u8>(), length).to_vec(),
                };
                (*to.cast::<Vec<Attribute>>()).push((name, value));
            }
            0
        }
        let mut found: Vec<Attribute> = Vec::new();
        let place = channel::opaque(&mut found);
        self.with_attributes(ino, |handle| {
            // SAFETY: the handle is open; `each` gets what it expects, for this call only.
            check(unsafe { (self.library.ext2fs_xattrs_iterate)(handle, each, place) })
        })?;
        Ok(found)
    }

    /// Sets an extended attribute, or removes it when there is no value. Errors: `ENOSPC`, `ENODATA`.
    pub(in super::super) fn set_attribute(
        &mut self,
        ino: u32,
        name: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), Errno> {
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        // SAFETY: the handle is open; the name ends and the value has its length.
        self.with_attributes(ino, |handle| unsafe {
            check(match value {
                Some(value) => (self.library.ext2fs_xattr_set)(
                    handle,
                    name.as_ptr(),
                    value.as_ptr(),
                    value.len(),
                ),
                None => (self.library.ext2fs_xattr_remove)(handle, name.as_ptr()),
            })
        })
    }
}
