//! Memory that is shared with guests: the rings of packet sockets.
#![expect(unsafe_code, reason = "mapped memory that others write to as well")]

use std::{
    fs::File,
    num::NonZeroUsize,
    os::fd::{AsFd, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        mman::{MapFlags, ProtFlags, mmap, munmap},
    },
};
use umvu_abi::Errno;

/// A memory file of a fixed size, and our mapping of it. Whoever else maps it may write anything at
/// any time: what is read here is not to be trusted.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    file: File,
    at: NonNull<u8>,
    size: usize,
}

// SAFETY: the mapping belongs to the value, not to a thread, and every access through it is either
// atomic or a copy of bytes that have no meaning to this program.
unsafe impl Send for SharedMemory {}

impl SharedMemory {
    /// Makes zeroed memory, whose pages exist from their first use on. Errors: `EINVAL` for size 0,
    /// `ENOMEM`, `EMFILE`.
    pub(crate) fn new(size: usize) -> Result<Self, Errno> {
        let whole = NonZeroUsize::new(size).ok_or(Errno::EINVAL)?;
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = File::from(memfd_create("packet-ring", flags).map_err(errno)?);
        file.set_len(u64::try_from(size).map_err(|_| Errno::ENOMEM)?)?;
        // Nobody can take the pages away from under either mapping.
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(errno)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces none.
        let at = unsafe { mmap(None, whole, access, MapFlags::MAP_SHARED, &file, 0) };
        Ok(Self { file, at: at.map_err(errno)?.cast(), size })
    }

    /// The memory as a file, for other mappings of it.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Writes bytes; those beyond the end are left out.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let length = bytes.len().min(self.size.saturating_sub(offset));
        if length == 0 {
            return;
        }
        // SAFETY: `offset + length` lies within the mapping, which is as long as the sealed file;
        // `bytes` is memory of ours and overlaps no mapping of a guest.
        unsafe { self.at.add(offset).copy_from_nonoverlapping(NonNull::from(bytes).cast(), length) }
    }

    /// Reads a word after everything that was written before it was; 0 beyond the end.
    pub(crate) fn load(&self, offset: usize) -> u32 {
        self.word(offset).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Writes a word after everything that has been written.
    pub(crate) fn store(&mut self, offset: usize, value: u32) {
        if let Some(word) = self.word(offset) {
            word.store(value, Ordering::Release);
        }
    }

    fn word(&self, offset: usize) -> Option<&AtomicU32> {
        let inside = offset.checked_add(4).is_some_and(|end| end <= self.size);
        if !inside || !offset.is_multiple_of(4) {
            return None;
        }
        // SAFETY: the four bytes lie within the mapping, which lives as long as `self` and begins
        // at a page, so the word is aligned; all accesses to it while the reference lives are
        // atomic ones, those of guests included as far as the processor is concerned.
        Some(unsafe { AtomicU32::from_ptr(self.at.add(offset).cast().as_ptr()) })
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is the one of `new`, and no reference into it outlives the value.
        let _ = unsafe { munmap(self.at.cast(), self.size) };
    }
}

fn errno(error: nix::Error) -> Errno {
    Errno(error as i32)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn what_is_written_is_in_the_file_and_nothing_beyond_the_end() {
        let mut memory = SharedMemory::new(4096).expect("memory");
        memory.write(4094, b"abcd");
        memory.write(9000, b"x");
        memory.store(8, 77);
        memory.store(4096, 1);
        memory.store(6, 1);
        let file = File::from(memory.file().try_clone_to_owned().expect("a descriptor"));
        let mut bytes = [0; 4096];
        file.read_exact_at(&mut bytes, 0).expect("whole");
        assert_eq!((&bytes[4094..], &bytes[8..12]), (&b"ab"[..], &77_u32.to_ne_bytes()[..]));
        file.write_at(&5_u32.to_ne_bytes(), 8).expect("writable");
        assert_eq!([8, 4096, 6].map(|at| memory.load(at)), [5, 0, 0]);
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(8192).is_err());
    }
}
