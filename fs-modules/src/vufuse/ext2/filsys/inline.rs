//! Files whose data is in the inode (`inline_data`).
#![expect(unsafe_code, reason = "calls of a C library")]

use std::{
    ffi::{c_int, c_uint, c_void},
    ptr,
};

use umvu_abi::Errno;

use super::{super::errors::check, Filsys};

impl Filsys {
    /// Does something with data that is in the inode, from a place on.
    fn with_inline<T>(
        &self,
        ino: u32,
        flags: c_int,
        at: u64,
        act: impl FnOnce(*mut c_void) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let (mut file, mut place) = (ptr::null_mut(), 0);
        // SAFETY: it is open; `file` takes the handle, which is let go once.
        unsafe {
            check((self.library.ext2fs_file_open2)(
                self.raw,
                ino,
                ptr::null_mut(),
                flags,
                &raw mut file,
            ))?;
            let sought = check((self.library.ext2fs_file_llseek)(file, at, 0, &raw mut place));
            let result = sought.and_then(|()| act(file));
            let closed = check((self.library.ext2fs_file_close)(file));
            result.and_then(|result| closed.map(|()| result))
        }
    }

    /// Reads data that is in the inode. Errors: `EUCLEAN`.
    pub(in super::super) fn read_inline(
        &self,
        ino: u32,
        at: u64,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        self.with_inline(ino, 0, at, |file| {
            let mut got = 0;
            let length = c_uint::try_from(buffer.len()).unwrap_or(c_uint::MAX);
            // SAFETY: the handle is open; there is room for as much as is said.
            check(unsafe {
                (self.library.ext2fs_file_read)(file, buffer.as_mut_ptr(), length, &raw mut got)
            })?;
            Ok(usize::try_from(got).unwrap_or(0).min(buffer.len()))
        })
    }

    /// Writes data of which some is in the inode; it may get blocks then. Errors: `ENOSPC`.
    pub(in super::super) fn write_inline(
        &mut self,
        ino: u32,
        at: u64,
        data: &[u8],
    ) -> Result<usize, Errno> {
        self.with_inline(ino, 1, at, |file| {
            let mut wrote = 0;
            let length = c_uint::try_from(data.len()).unwrap_or(c_uint::MAX);
            // SAFETY: the handle is open; there is as much as is said.
            check(unsafe {
                (self.library.ext2fs_file_write)(file, data.as_ptr(), length, &raw mut wrote)
            })?;
            Ok(usize::try_from(wrote).unwrap_or(0))
        })
    }

    /// Sets the size of a file whose data is in the inode. Errors: `ENOSPC`.
    pub(in super::super) fn resize_inline(&mut self, ino: u32, size: u64) -> Result<(), Errno> {
        let size = i64::try_from(size).map_err(|_| Errno::EFBIG)?;
        self.with_inline(ino, 1, 0, |file| {
            // SAFETY: the handle is open.
            check(unsafe { (self.library.ext2fs_file_set_size2)(file, size) })
        })
    }
}
