//! What both sides agree to by INIT.

use umvu_abi::Errno;

use super::wire::{Body, Reader};

/// The version that is offered: 7.38 is libfuse 3.14's.
const MAJOR: u32 = 7;
const MINOR: u32 = 38;
/// The oldest that is spoken: attributes and modes have had their form since.
const OLDEST: u32 = 12;
/// The most data that one READ or WRITE moves.
pub(super) const MOST: usize = 128 << 10;

const ASYNC_READ: u64 = 1;
const BIG_WRITES: u64 = 1 << 5;
const DONT_MASK: u64 = 1 << 6;
const AUTO_INVAL_DATA: u64 = 1 << 12;
const DO_READDIRPLUS: u64 = 1 << 13;
const READDIRPLUS_AUTO: u64 = 1 << 14;
const ASYNC_DIO: u64 = 1 << 15;
const NO_OPEN_SUPPORT: u64 = 1 << 17;
const PARALLEL_DIROPS: u64 = 1 << 18;
const MAX_PAGES: u64 = 1 << 22;
const NO_OPENDIR_SUPPORT: u64 = 1 << 24;
const INIT_EXT: u64 = 1 << 30;

/// What is offered. Locks are local (no `POSIX_LOCKS`, no `FLOCK_LOCKS`); `O_TRUNC` is a SETATTR; the mask
/// of new files is told, and has been applied already: to do so once more changes nothing.
const OFFERED: u64 = ASYNC_READ
    | BIG_WRITES
    | DONT_MASK
    | AUTO_INVAL_DATA
    | DO_READDIRPLUS
    | READDIRPLUS_AUTO
    | ASYNC_DIO
    | NO_OPEN_SUPPORT
    | PARALLEL_DIROPS
    | MAX_PAGES
    | NO_OPENDIR_SUPPORT
    | INIT_EXT;

/// What the program has agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    minor: u32,
    flags: u64,
    /// The most data that one WRITE moves.
    pub(super) max_write: usize,
}

impl Terms {
    pub(super) fn has_batch_forget(self) -> bool {
        self.minor >= 16
    }

    pub(super) fn has_fallocate(self) -> bool {
        self.minor >= 19
    }

    pub(super) fn has_rename2(self) -> bool {
        self.minor >= 23
    }

    pub(super) fn has_lseek(self) -> bool {
        self.minor >= 24
    }

    pub(super) fn has_copy_file_range(self) -> bool {
        self.minor >= 28
    }

    pub(super) fn has_readdirplus(self) -> bool {
        self.flags & DO_READDIRPLUS != 0
    }

    /// Whether READDIRPLUS is for the beginning of a listing only.
    pub(super) fn is_readdirplus_sparing(self) -> bool {
        self.flags & READDIRPLUS_AUTO != 0
    }

    /// Whether OPEN may be answered by `ENOSYS`, and is not asked any more then.
    pub(super) fn may_lack_open(self) -> bool {
        self.minor >= 23
    }
}

/// `struct fuse_init_in`.
pub(super) fn offer() -> Body {
    let [low, high] = [OFFERED & 0xffff_ffff, OFFERED >> 32];
    let word = |half: u64| u32::try_from(half).unwrap_or(0);
    let readahead = u32::try_from(MOST).unwrap_or(0);
    Body::new().u32(MAJOR).u32(MINOR).u32(readahead).u32(word(low)).u32(word(high)).bytes(&[0; 44])
}

/// Reads `struct fuse_init_out`. Errors: `EIO`, also for a version that is not spoken.
pub(super) fn agreed(reply: &[u8]) -> Result<Terms, Errno> {
    let mut reader = Reader(reply);
    let (major, minor) = (reader.u32()?, reader.u32()?);
    if major != MAJOR || minor < OLDEST {
        return Err(Errno::EIO);
    }
    let _readahead = reader.u32()?;
    let low = u64::from(reader.u32()?);
    let _background = reader.u32()?;
    let max_write = usize::try_from(reader.u32()?).map_err(|_| Errno::EIO)?;
    let _granularity = reader.u32().unwrap_or(0);
    let _pages = reader.u32().unwrap_or(0);
    let high = if low & INIT_EXT == 0 { 0 } else { u64::from(reader.u32().unwrap_or(0)) };
    let big = low & BIG_WRITES != 0 || minor >= 32;
    let most = if big { MOST } else { 4096 };
    Ok(Terms {
        minor: minor.min(MINOR),
        flags: (low | high << 32) & OFFERED,
        max_write: max_write.clamp(4096, most),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_programs_are_understood() {
        let reply = |minor, flags| {
            Body::new().u32(7).u32(minor).u32(0).u32(flags).u32(0).u32(1 << 20).bytes(&[0; 40]).0
        };
        let new = agreed(&reply(38, u32::MAX)).expect("libfuse 3.14");
        assert!(new.has_readdirplus() && new.has_lseek() && new.max_write == MOST);
        let old = agreed(&reply(12, 0)[..24]).expect("an old one");
        assert!(!old.has_batch_forget() && old.max_write == 4096);
        assert!(agreed(&reply(11, 0)).is_err() && agreed(&[]).is_err());
        assert_eq!(offer().0.len(), 64);
    }
}
