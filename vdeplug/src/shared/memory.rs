//! [`Memory`]: a piece of memory in two processes, as words that either may change at any time.
//!
//! It is a sealed memfd: nobody can make it shorter, so that reading it never fails. Everything
//! is read and written by atomic operations; what the words mean is the business of `ring.rs`.

#![expect(unsafe_code, reason = "mmap, and descriptors in messages, have no safe wrappers")]

use std::{
    ffi::c_void,
    io::{self, IoSliceMut},
    num::NonZeroUsize,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    ptr::NonNull,
    slice,
    sync::atomic::AtomicU64,
};

use nix::{
    cmsg_space,
    errno::Errno,
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        mman::{MapFlags, ProtFlags, mmap, munmap},
        socket::{ControlMessageOwned, MsgFlags, recvmsg},
        stat::fstat,
        statfs::{TMPFS_MAGIC, fstatfs},
    },
    unistd::ftruncate,
};

/// Shared words; unmapped with this value.
#[derive(Debug)]
pub(crate) struct Memory {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping belongs to this value alone, and is only used as atomic words.
unsafe impl Send for Memory {}
// SAFETY: as above; atomic words may be used by any number of threads.
unsafe impl Sync for Memory {}

impl Memory {
    /// Makes so many words, all zero, and the descriptor that another process can [`adopt`] them by.
    ///
    /// [`adopt`]: Self::adopt
    pub(crate) fn create(words: usize) -> io::Result<(Self, OwnedFd)> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = memfd_create(c"vde-ring", flags)?;
        let length = i64::try_from(words * size_of::<u64>()).map_err(|_| Errno::EOVERFLOW)?;
        ftruncate(&file, length)?;
        fcntl(&file, FcntlArg::F_ADD_SEALS(fixed() | SealFlag::F_SEAL_SEAL))?;
        Ok((Self::map(file.as_fd(), words)?, file))
    }

    /// Maps what another process made.
    ///
    /// # Errors
    /// EPROTO: it is not of that size, or may change its size, or may have no memory behind it.
    pub(crate) fn adopt(file: &OwnedFd, words: usize) -> io::Result<Self> {
        let seals = fcntl(file, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_truncate);
        let sealed = seals.is_ok_and(|seals| seals.contains(fixed()));
        // One of huge pages could have none left when it is read.
        let ordinary = fstatfs(file)?.filesystem_type() == TMPFS_MAGIC;
        let size = usize::try_from(fstat(file)?.st_size).ok();
        if !sealed || !ordinary || size != Some(words * size_of::<u64>()) {
            return Err(Errno::EPROTO.into());
        }
        Self::map(file.as_fd(), words)
    }

    fn map(file: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        let length = NonZeroUsize::new(words * size_of::<u64>()).ok_or(Errno::EINVAL)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let start = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { start: start.cast(), words })
    }

    /// The words.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is so long, aligned to a page, lives as long as `self`, and its file
        // cannot shrink (sealed). Whoever else writes there writes what is a valid u64.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and `words` borrows from `self`.
        let _ = unsafe { munmap(self.start.cast::<c_void>(), self.words * size_of::<u64>()) };
    }
}

/// What keeps the size as it is.
fn fixed() -> SealFlag {
    SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW
}

/// Reads from a stream, with a descriptor if one comes along.
pub(crate) fn receive(
    stream: &UnixStream,
    bytes: &mut [u8],
) -> nix::Result<(usize, Option<OwnedFd>)> {
    let mut space = cmsg_space!([i32; 1]);
    let mut slices = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    let mut descriptor = None;
    // What of the control message did not fit has no part here.
    for control in message.cmsgs().into_iter().flatten() {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            for number in numbers {
                // SAFETY: the kernel has just installed it for us, and nobody else knows of it.
                descriptor = Some(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
    Ok((message.bytes, descriptor))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, sync::atomic::Ordering};

    use super::*;

    #[test]
    fn what_one_writes_the_other_reads() {
        let (ours, file) = Memory::create(1024).expect("memory");
        let theirs = Memory::adopt(&file, 1024).expect("the same");
        ours.words()[1023].store(7, Ordering::Relaxed);
        assert_eq!(theirs.words()[1023].load(Ordering::Relaxed), 7);
        assert_eq!(ftruncate(&file, 0), Err(Errno::EPERM), "it stays as long as it is");
    }

    #[test]
    fn what_could_fail_later_is_not_adopted() {
        let refused = |file: OwnedFd, words| {
            let error = Memory::adopt(&file, words).expect_err("not to be trusted");
            assert_eq!(error.raw_os_error(), Some(libc::EPROTO));
        };
        refused(Memory::create(1024).expect("memory").1, 2048);
        let open = memfd_create(c"open", MFdFlags::MFD_ALLOW_SEALING).expect("a memfd");
        ftruncate(&open, 8192).expect("room");
        refused(open, 1024);
        refused(tempfile::tempfile().expect("a file").into(), 1024);
        refused(File::open("/dev/null").expect("a device").into(), 1024);
    }
}
