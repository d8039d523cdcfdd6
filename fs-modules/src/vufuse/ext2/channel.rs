//! The I/O manager of libext2fs that reads and writes a [`Cache`].
#![expect(unsafe_code, reason = "callbacks of a C library")]

use std::{
    cell::RefCell,
    ffi::{c_char, c_int, c_long, c_ulong, c_void},
    ptr, slice,
    sync::Arc,
};

use umvu_abi::Errno;

use super::{
    cache::Cache,
    errors::{MAGIC_CHANNEL, MAGIC_MANAGER},
    library::{Code, IoChannel, IoManager, RawFs},
};

thread_local! {
    /// The cache for the channel that this thread is having opened.
    static OPENING: RefCell<Option<Arc<Cache>>> = const { RefCell::new(None) };
}

/// Opens by libext2fs with a cache in place of a file.
pub(super) fn with_cache<T>(cache: &Arc<Cache>, open: impl FnOnce() -> T) -> T {
    OPENING.set(Some(Arc::clone(cache)));
    let result = open();
    OPENING.set(None);
    result
}

/// The name that is shown nowhere.
const NAME: &std::ffi::CStr = c"image";

/// The manager.
pub(super) static MANAGER: IoManager = IoManager {
    magic: MAGIC_MANAGER,
    name: NAME.as_ptr(),
    open,
    close,
    set_blksize,
    read_blk,
    write_blk,
    flush,
    write_byte: None,
    set_option: None,
    get_stats: None,
    read_blk64,
    write_blk64,
    discard: None,
    cache_readahead: None,
    zeroout,
    reserved: [0; 14],
};

fn code(result: Result<(), Errno>) -> Code {
    result.map_or_else(|errno| c_long::from(errno.0), |()| 0)
}

unsafe extern "C" fn open(_: *const c_char, _: c_int, to: *mut *mut IoChannel) -> Code {
    let Some(cache) = OPENING.take() else { return c_long::from(libc::EINVAL) };
    let channel = IoChannel {
        magic: MAGIC_CHANNEL,
        manager: &raw const MANAGER,
        name: NAME.as_ptr().cast_mut(),
        block_size: 1024,
        read_error: ptr::null_mut(),
        write_error: ptr::null_mut(),
        refcount: 1,
        flags: 0,
        reserved: [0; 14],
        private_data: Arc::into_raw(cache).cast_mut().cast(),
        app_data: ptr::null_mut(),
        align: 0,
    };
    // SAFETY: the library passes a place for the pointer.
    unsafe { *to = Box::into_raw(Box::new(channel)) };
    0
}

unsafe extern "C" fn close(channel: *mut IoChannel) -> Code {
    // SAFETY: the channel is one of `open`, whose box and cache are given back once: when the last of
    // its users closes it.
    unsafe {
        (*channel).refcount -= 1;
        if (*channel).refcount <= 0 {
            let channel = Box::from_raw(channel);
            drop(Arc::from_raw(channel.private_data.cast::<Cache>()));
        }
    }
    0
}

unsafe extern "C" fn set_blksize(channel: *mut IoChannel, size: c_int) -> Code {
    // SAFETY: the channel is one of `open`.
    unsafe { (*channel).block_size = size };
    0
}

/// The cache behind a channel, and the place of a block: at, length in bytes (of `count` blocks, or of
/// `-count` bytes).
///
/// # Safety
/// The channel is one of `open`.
unsafe fn place<'a>(
    channel: *mut IoChannel,
    block: u64,
    count: c_int,
) -> Option<(&'a Cache, u64, usize)> {
    // SAFETY: as the caller says; the cache lives as long as the channel.
    let (cache, size) =
        unsafe { (&*(*channel).private_data.cast::<Cache>(), (*channel).block_size) };
    let size = u64::try_from(size).ok()?;
    let length = match u64::try_from(count) {
        Ok(count) => size.checked_mul(count)?,
        Err(_) => u64::from(count.unsigned_abs()),
    };
    Some((cache, block.checked_mul(size)?, usize::try_from(length).ok()?))
}

unsafe extern "C" fn read_blk64(
    channel: *mut IoChannel,
    block: u64,
    count: c_int,
    to: *mut u8,
) -> Code {
    // SAFETY: the channel is one of `open`.
    let Some((cache, at, length)) = (unsafe { place(channel, block, count) }) else {
        return c_long::from(libc::EIO);
    };
    // SAFETY: the library passes room for as much as it asks for.
    code(cache.read(at, unsafe { slice::from_raw_parts_mut(to, length) }))
}

unsafe extern "C" fn write_blk64(
    channel: *mut IoChannel,
    block: u64,
    count: c_int,
    from: *const u8,
) -> Code {
    // SAFETY: the channel is one of `open`.
    let Some((cache, at, length)) = (unsafe { place(channel, block, count) }) else {
        return c_long::from(libc::EIO);
    };
    // SAFETY: the library passes as much as it asks to write.
    code(cache.write(at, unsafe { slice::from_raw_parts(from, length) }))
}

unsafe extern "C" fn read_blk(
    channel: *mut IoChannel,
    block: c_ulong,
    count: c_int,
    to: *mut u8,
) -> Code {
    // SAFETY: as there.
    unsafe { read_blk64(channel, block, count, to) }
}

unsafe extern "C" fn write_blk(
    channel: *mut IoChannel,
    block: c_ulong,
    count: c_int,
    from: *const u8,
) -> Code {
    // SAFETY: as there.
    unsafe { write_blk64(channel, block, count, from) }
}

unsafe extern "C" fn flush(_: *mut IoChannel) -> Code {
    0
}

unsafe extern "C" fn zeroout(channel: *mut IoChannel, block: u64, count: u64) -> Code {
    // SAFETY: the channel is one of `open`, and so is its cache.
    let cache = unsafe { &*(*channel).private_data.cast::<Cache>() };
    code(cache.zero(block, count))
}

/// The library has given a block to somebody or taken it back.
pub(super) unsafe extern "C" fn block_changed(fs: *mut RawFs, block: u64, in_use: c_int) {
    // SAFETY: as there.
    unsafe { range_changed(fs, block, 1, in_use) }
}

/// The library has given blocks to somebody or taken them back.
pub(super) unsafe extern "C" fn range_changed(
    fs: *mut RawFs,
    block: u64,
    count: u32,
    in_use: c_int,
) {
    if in_use < 0 {
        // SAFETY: the file system was opened by `MANAGER`, so its channel is one of `open`.
        let cache = unsafe { &*(*(*fs).io).private_data.cast::<Cache>() };
        cache.freed(block, u64::from(count));
    }
}

/// For a parameter that takes any pointer.
pub(super) fn opaque<T>(to: &mut T) -> *mut c_void {
    ptr::from_mut(to).cast()
}
