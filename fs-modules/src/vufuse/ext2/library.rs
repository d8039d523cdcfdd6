//! The interface of libext2fs, which is loaded when the first image is mounted. Types and constants are
//! those of `<ext2fs/ext2fs.h>` 1.47; Debian's package is `libext2fs2`.
#![expect(unsafe_code, reason = "bindings of a C library")]

use std::{
    ffi::{c_char, c_int, c_long, c_uint, c_void},
    sync::OnceLock,
};

use libloading::os::unix::{Library as Shared, RTLD_LOCAL, RTLD_NOW};
use umvu_abi::{Errno, module::MountError};

/// The name of the library whose interface this is.
const SONAME: &str = "libext2fs.so.2";

/// `errcode_t`: 0, an errno, or a number of libext2fs.
pub(super) type Code = c_long;

/// The beginning of `struct struct_ext2_filsys`.
#[repr(C)]
pub(super) struct RawFs {
    pub(super) magic: Code,
    pub(super) io: *mut IoChannel,
    pub(super) flags: c_int,
    pub(super) device_name: *mut c_char,
    pub(super) superblock: *mut u8,
    pub(super) block_size: c_uint,
}

/// `struct struct_io_channel`.
#[repr(C)]
pub(super) struct IoChannel {
    pub(super) magic: Code,
    pub(super) manager: *const IoManager,
    pub(super) name: *mut c_char,
    pub(super) block_size: c_int,
    pub(super) read_error: *mut c_void,
    pub(super) write_error: *mut c_void,
    pub(super) refcount: c_int,
    pub(super) flags: c_int,
    pub(super) reserved: [c_long; 14],
    pub(super) private_data: *mut c_void,
    pub(super) app_data: *mut c_void,
    pub(super) align: c_int,
}

type Channel = *mut IoChannel;

/// `struct struct_io_manager`.
#[repr(C)]
pub(super) struct IoManager {
    pub(super) magic: Code,
    pub(super) name: *const c_char,
    pub(super) open: unsafe extern "C" fn(*const c_char, c_int, *mut Channel) -> Code,
    pub(super) close: unsafe extern "C" fn(Channel) -> Code,
    pub(super) set_blksize: unsafe extern "C" fn(Channel, c_int) -> Code,
    pub(super) read_blk: unsafe extern "C" fn(Channel, std::ffi::c_ulong, c_int, *mut u8) -> Code,
    pub(super) write_blk:
        unsafe extern "C" fn(Channel, std::ffi::c_ulong, c_int, *const u8) -> Code,
    pub(super) flush: unsafe extern "C" fn(Channel) -> Code,
    pub(super) write_byte: Option<unsafe extern "C" fn()>,
    pub(super) set_option: Option<unsafe extern "C" fn()>,
    pub(super) get_stats: Option<unsafe extern "C" fn()>,
    pub(super) read_blk64: unsafe extern "C" fn(Channel, u64, c_int, *mut u8) -> Code,
    pub(super) write_blk64: unsafe extern "C" fn(Channel, u64, c_int, *const u8) -> Code,
    pub(super) discard: Option<unsafe extern "C" fn()>,
    pub(super) cache_readahead: Option<unsafe extern "C" fn()>,
    pub(super) zeroout: unsafe extern "C" fn(Channel, u64, u64) -> Code,
    pub(super) reserved: [c_long; 14],
}

// SAFETY: it is constant; its only pointer is to a constant string.
unsafe impl Sync for IoManager {}

/// `struct ext2fs_extent`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RawExtent {
    pub(super) physical: u64,
    pub(super) logical: u64,
    pub(super) length: u32,
    pub(super) flags: u32,
}

/// The beginning of `struct ext2_dir_entry`; the name follows.
#[repr(C)]
pub(super) struct RawEntry {
    pub(super) inode: u32,
    pub(super) record: u16,
    pub(super) name_length: u8,
    pub(super) kind: u8,
}

pub(super) type DirEach = unsafe extern "C" fn(
    u32,
    c_int,
    *mut RawEntry,
    c_int,
    c_int,
    *mut c_char,
    *mut c_void,
) -> c_int;
pub(super) type BlockEach =
    unsafe extern "C" fn(*mut RawFs, *mut u64, i64, u64, c_int, *mut c_void) -> c_int;
pub(super) type AttributeEach =
    unsafe extern "C" fn(*mut c_char, *mut c_char, usize, *mut c_void) -> c_int;
pub(super) type Freed = unsafe extern "C" fn(*mut RawFs, u64, c_int);
pub(super) type FreedRange = unsafe extern "C" fn(*mut RawFs, u64, u32, c_int);
type Fs = *mut RawFs;
type Opaque = *mut c_void;

macro_rules! functions {
    ($($name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions of the library.
        pub(super) struct Library {
            _shared: Shared,
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Library {
            fn open() -> Result<Self, libloading::Error> {
                // SAFETY: libext2fs has no initializers that demand anything; the types are those of
                // the header of the library that has this name.
                unsafe {
                    let shared = Shared::open(Some(SONAME), RTLD_NOW | RTLD_LOCAL)?;
                    Ok(Self {
                        $($name: *shared.get(concat!(stringify!($name), "\0").as_bytes())?,)*
                        _shared: shared,
                    })
                }
            }
        }
    };
}

functions! {
    ext2fs_open2(*const c_char, *const c_char, c_int, c_int, c_uint, *const IoManager, *mut Fs) -> Code;
    ext2fs_read_bitmaps(Fs) -> Code;
    ext2fs_flush2(Fs, c_int) -> Code;
    ext2fs_free(Fs);
    ext2fs_read_inode_full(Fs, u32, *mut u32, c_int) -> Code;
    ext2fs_write_inode_full(Fs, u32, *mut u32, c_int) -> Code;
    ext2fs_dir_iterate2(Fs, u32, c_int, *mut c_char, DirEach, Opaque) -> Code;
    ext2fs_link(Fs, u32, *const c_char, u32, c_int) -> Code;
    ext2fs_unlink(Fs, u32, *const c_char, u32, c_int) -> Code;
    ext2fs_expand_dir(Fs, u32) -> Code;
    ext2fs_mkdir(Fs, u32, u32, *const c_char) -> Code;
    ext2fs_new_inode(Fs, u32, c_int, Opaque, *mut u32) -> Code;
    ext2fs_inode_alloc_stats2(Fs, u32, c_int, c_int);
    ext2fs_punch(Fs, u32, *mut u32, *mut c_char, u64, u64) -> Code;
    ext2fs_fallocate(Fs, c_int, u32, *mut u32, u64, u64, u64) -> Code;
    ext2fs_bmap2(Fs, u32, *mut u32, *mut c_char, c_int, u64, *mut c_int, *mut u64) -> Code;
    ext2fs_block_iterate3(Fs, u32, c_int, *mut c_char, BlockEach, Opaque) -> Code;
    ext2fs_extent_open2(Fs, u32, *mut u32, *mut Opaque) -> Code;
    ext2fs_extent_get(Opaque, c_int, *mut RawExtent) -> Code;
    ext2fs_extent_free(Opaque);
    ext2fs_file_open2(Fs, u32, *mut u32, c_int, *mut Opaque) -> Code;
    ext2fs_file_llseek(Opaque, u64, c_int, *mut u64) -> Code;
    ext2fs_file_read(Opaque, *mut u8, c_uint, *mut c_uint) -> Code;
    ext2fs_file_write(Opaque, *const u8, c_uint, *mut c_uint) -> Code;
    ext2fs_file_set_size2(Opaque, i64) -> Code;
    ext2fs_file_close(Opaque) -> Code;
    ext2fs_xattrs_open(Fs, u32, *mut Opaque) -> Code;
    ext2fs_xattrs_read(Opaque) -> Code;
    ext2fs_xattrs_iterate(Opaque, AttributeEach, Opaque) -> Code;
    ext2fs_xattr_set(Opaque, *const c_char, *const u8, usize) -> Code;
    ext2fs_xattr_remove(Opaque, *const c_char) -> Code;
    ext2fs_xattrs_close(*mut Opaque) -> Code;
    ext2fs_free_ext_attr(Fs, u32, *mut u32) -> Code;
    ext2fs_set_block_alloc_stats_callback(Fs, Freed, *mut Opaque);
    ext2fs_set_block_alloc_stats_range_callback(Fs, FreedRange, *mut Opaque);
}

static LIBRARY: OnceLock<Library> = OnceLock::new();

/// Loads the library, which then stays. Errors: `ENOSYS` with what to install.
pub(super) fn library() -> Result<&'static Library, MountError> {
    if let Some(library) = LIBRARY.get() {
        return Ok(library);
    }
    let library = Library::open().map_err(|error| {
        let reason = format!("vufuseext2 needs libext2fs (apt-get install libext2fs2): {error}");
        MountError::new(Errno::ENOSYS, reason)
    })?;
    hush();
    Ok(LIBRARY.get_or_init(|| library))
}

/// What libcom_err calls in place of printing to the standard error: name, code, format, arguments.
type Complaint = unsafe extern "C" fn(*const c_char, Code, *const c_char, *mut c_void);

unsafe extern "C" fn ignore(_: *const c_char, _: Code, _: *const c_char, _: *mut c_void) {}

/// Has the library keep complaints about damaged images to itself: who asked is told by an errno.
fn hush() {
    // SAFETY: libext2fs has loaded that library already; the function has this type, and keeps a pointer
    // to one that stays.
    unsafe {
        if let Ok(shared) = Shared::open(Some("libcom_err.so.2"), RTLD_NOW | RTLD_LOCAL) {
            if let Ok(set) =
                shared.get::<unsafe extern "C" fn(Complaint) -> *mut c_void>(b"set_com_err_hook\0")
            {
                set(ignore);
            }
            std::mem::forget(shared);
        }
    }
}
