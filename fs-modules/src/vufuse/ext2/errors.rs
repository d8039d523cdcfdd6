//! Error numbers of libext2fs as those of system calls.

use umvu_abi::Errno;

use super::library::Code;

/// Behind it the numbers of `<ext2fs/ext2_err.h>` count from 1.
const BASE: Code = 2_133_571_328;

/// A directory has no room for a name: it is to be extended.
pub(super) const DIR_NO_SPACE: Code = BASE + 38;
/// The end of the extents.
pub(super) const EXTENT_NO_NEXT: Code = BASE + 124;
/// There are no extents.
pub(super) const NO_CURRENT_NODE: Code = BASE + 128;
pub(super) const MAGIC_CHANNEL: Code = BASE + 5;
pub(super) const MAGIC_MANAGER: Code = BASE + 7;
const FEATURES: [Code; 2] = [BASE + 67, BASE + 68];

/// What a code says; an errno passes, the structure that is not as it should be is `EUCLEAN`.
pub(super) fn errno(code: Code) -> Errno {
    match code.checked_sub(BASE) {
        _ if (1..=4095).contains(&code) => Errno(i32::try_from(code).unwrap_or(libc::EIO)),
        _ if FEATURES.contains(&code) => Errno::EOPNOTSUPP,
        Some(21 | 77) => Errno::EROFS,
        Some(38 | 72 | 73 | 122 | 163 | 167) => Errno::ENOSPC,
        Some(70) => Errno::ENOMEM,
        Some(75) => Errno::EMLINK,
        Some(76) => Errno::ENOENT,
        Some(79 | 155) => Errno::EEXIST,
        Some(82) => Errno::EFBIG,
        Some(162) => Errno::ENODATA,
        Some(158) => Errno::ERANGE,
        Some(159) => Errno::ENOSPC,
        Some(22..=34 | 36 | 37) => Errno::EIO,
        _ => Errno::EUCLEAN,
    }
}

/// A code as a result.
pub(super) fn check(code: Code) -> Result<(), Errno> {
    if code == 0 { Ok(()) } else { Err(errno(code)) }
}
