//! An open file system of libext2fs: its functions, with errors as errnos.
//!
//! The library is not made for several threads: whoever has a [`Filsys`] has it alone.
#![expect(unsafe_code, reason = "calls of a C library")]

mod attributes;
mod inline;

use std::{
    ffi::{CString, c_int, c_void},
    fmt, ptr, slice,
    sync::Arc,
};

use umvu_abi::Errno;

use super::{
    cache::{Cache, Zeroing},
    channel::{self, MANAGER, with_cache},
    errors::{self, check, errno},
    inode::{Raw, flag},
    library::{Library, RawEntry, RawExtent, RawFs},
    superblock::{self, Geometry, Superblock, feature, field},
};

const RW: c_int = 0x1;
const CHANGED: c_int = 0x2;
const DIRTY: c_int = 0x4;
const BITMAPS_DIRTY: c_int = 0x30;
const MASTER_SB_ONLY: c_int = 0x200;
const WIDE_BITMAPS: c_int = 0x2_0000;
const SKIP_MMP: c_int = 0x10_0000;

/// Blocks that follow each other, in a file and in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) logical: u64,
    pub(super) physical: u64,
    pub(super) length: u64,
    /// Room that was never written to: it reads as zeros.
    pub(super) is_blank: bool,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: Vec<u8>,
    pub(super) ino: u32,
    /// `EXT2_FT_*`; 0 when it is not known.
    pub(super) kind: u8,
}

/// How blocks are given to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// For data that follows at once.
    ForData,
    /// Blank.
    Blank,
}

/// The file system.
pub(super) struct Filsys {
    raw: *mut RawFs,
    library: &'static Library,
    cache: Arc<Cache>,
    shape: Geometry,
}

// SAFETY: the library keeps nothing for a thread, and whoever has this has it alone.
unsafe impl Send for Filsys {}

impl fmt::Debug for Filsys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filsys({:?})", self.shape)
    }
}

impl Drop for Filsys {
    fn drop(&mut self) {
        // SAFETY: opened by `open`, and let go once.
        unsafe { (self.library.ext2fs_free)(self.raw) }
    }
}

/// What a callback of an iteration has: where to put what it finds, and when to stop.
struct Collector<T> {
    found: Vec<T>,
    limit: u64,
    seen: u64,
    is_wrong: bool,
}

impl Filsys {
    /// Opens for reading, or for writing as the cache does. Errors: `EUCLEAN`, `EOPNOTSUPP` for features
    /// that are not known.
    pub(super) fn open(
        library: &'static Library,
        cache: &Arc<Cache>,
        shape: Geometry,
    ) -> Result<Self, Errno> {
        let writes = cache.mode() == super::cache::Mode::Open;
        let flags = WIDE_BITMAPS | SKIP_MMP | if writes { RW } else { 0 };
        let mut raw = ptr::null_mut();
        let name = c"image".as_ptr();
        // SAFETY: the strings live for the call, `raw` takes the result, the manager for ever.
        let code = with_cache(cache, || unsafe {
            (library.ext2fs_open2)(name, ptr::null(), flags, 0, 0, &raw const MANAGER, &raw mut raw)
        });
        check(code)?;
        let opened = Self { raw, library, cache: Arc::clone(cache), shape };
        if writes {
            // SAFETY: it is open; the callbacks are right for a channel of `MANAGER`.
            unsafe {
                check((library.ext2fs_read_bitmaps)(raw))?;
                let mut before = ptr::null_mut();
                (library.ext2fs_set_block_alloc_stats_callback)(
                    raw,
                    channel::block_changed,
                    &raw mut before,
                );
                (library.ext2fs_set_block_alloc_stats_range_callback)(
                    raw,
                    channel::range_changed,
                    &raw mut before,
                );
                (*raw).flags |= MASTER_SB_ONLY;
            }
        }
        Ok(opened)
    }

    pub(super) fn shape(&self) -> &Geometry {
        &self.shape
    }

    /// The superblock as it is now.
    pub(super) fn superblock(&self) -> Superblock {
        let mut copy = Superblock([0; superblock::LENGTH]);
        // SAFETY: the library has the superblock there, of that length.
        copy.0.copy_from_slice(unsafe {
            slice::from_raw_parts((*self.raw).superblock, superblock::LENGTH)
        });
        copy
    }

    /// Changes bytes of the superblock.
    pub(super) fn set_superblock(&mut self, at: usize, bytes: &[u8]) {
        // SAFETY: as above; nobody else looks at it meanwhile.
        unsafe {
            let all = slice::from_raw_parts_mut((*self.raw).superblock, superblock::LENGTH);
            if let Some(to) = all.get_mut(at..at + bytes.len()) {
                to.copy_from_slice(bytes);
            }
            (*self.raw).flags |= CHANGED | DIRTY;
        }
    }

    /// Whether the library keeps changes to itself.
    pub(super) fn is_changed(&self) -> bool {
        // SAFETY: it is open.
        unsafe { (*self.raw).flags & (CHANGED | DIRTY | BITMAPS_DIRTY) != 0 }
    }

    /// Hands all that the library has kept to itself to the cache. Errors: `EIO`, `EUCLEAN`.
    pub(super) fn flush(&mut self) -> Result<(), Errno> {
        // SAFETY: it is open.
        check(unsafe { (self.library.ext2fs_flush2)(self.raw, 1) })
    }

    fn known(&self, ino: u32) -> Result<(), Errno> {
        if ino == 0 || ino > self.shape.inodes { Err(Errno::EUCLEAN) } else { Ok(()) }
    }

    /// Reads an inode. Errors: `EUCLEAN`, `EIO`.
    pub(super) fn inode(&self, ino: u32) -> Result<Raw, Errno> {
        self.known(ino)?;
        let mut raw = Raw::empty(&self.shape);
        let size = c_int::try_from(raw.words.len() * 4).unwrap_or(0);
        // SAFETY: there is room for as much as is said.
        check(unsafe {
            (self.library.ext2fs_read_inode_full)(self.raw, ino, raw.words.as_mut_ptr(), size)
        })?;
        Ok(raw)
    }

    /// Writes an inode; what is behind its fields stays. Errors: `EUCLEAN`, `EIO`.
    pub(super) fn set_inode(&mut self, ino: u32, raw: &Raw) -> Result<(), Errno> {
        self.write_words(ino, &mut raw.words.clone())
    }

    /// Writes an inode of which nothing stays. Errors: as [`Filsys::set_inode`].
    pub(super) fn new_inode(&mut self, ino: u32, raw: &Raw) -> Result<(), Errno> {
        let mut words = raw.words.clone();
        words.resize(self.shape.inode_size / 4, 0);
        self.write_words(ino, &mut words)
    }

    fn write_words(&mut self, ino: u32, words: &mut [u32]) -> Result<(), Errno> {
        self.known(ino)?;
        let size = c_int::try_from(words.len() * 4).unwrap_or(0);
        // SAFETY: there is as much as is said; the library computes the checksum in it.
        check(unsafe {
            (self.library.ext2fs_write_inode_full)(self.raw, ino, words.as_mut_ptr(), size)
        })
    }

    /// Finds a number for a new inode near a directory; it is not yet taken. Errors: `ENOSPC`.
    pub(super) fn free_inode(&mut self, near: u32, mode: u32) -> Result<u32, Errno> {
        let (mut ino, mode) = (0, c_int::try_from(mode).unwrap_or(0));
        // SAFETY: the bitmaps were read; `ino` takes the result.
        check(unsafe {
            (self.library.ext2fs_new_inode)(self.raw, near, mode, ptr::null_mut(), &raw mut ino)
        })?;
        Ok(ino)
    }

    /// Takes an inode, or gives it back.
    pub(super) fn account(&mut self, ino: u32, change: Account, raw: &Raw) {
        let by = if change == Account::Take { 1 } else { -1 };
        // SAFETY: the bitmaps were read; the number is one of the file system's.
        unsafe {
            (self.library.ext2fs_inode_alloc_stats2)(
                self.raw,
                ino,
                by,
                c_int::from(raw.is_directory()),
            )
        }
    }

    /// Makes an empty directory in a free inode and counts it in its parent. Errors: `ENOSPC`.
    pub(super) fn make_directory(&mut self, parent: u32, ino: u32) -> Result<(), Errno> {
        // SAFETY: it is open; without a name none is made.
        check(unsafe { (self.library.ext2fs_mkdir)(self.raw, parent, ino, ptr::null()) })
    }

    /// Gives a name. Errors: `ENOSPC`.
    pub(super) fn link(
        &mut self,
        directory: u32,
        name: &[u8],
        ino: u32,
        kind: u8,
    ) -> Result<(), Errno> {
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        let kind = if self.shape.incompat & feature::FILETYPE != 0 { c_int::from(kind) } else { 0 };
        // SAFETY: it is open; the name ends.
        let link =
            || unsafe { (self.library.ext2fs_link)(self.raw, directory, name.as_ptr(), ino, kind) };
        let code = link();
        if code != errors::DIR_NO_SPACE {
            return check(code);
        }
        // SAFETY: it is open.
        check(unsafe { (self.library.ext2fs_expand_dir)(self.raw, directory) })?;
        check(link())
    }

    /// Takes a name away. Errors: `ENOENT`.
    pub(super) fn unlink(&mut self, directory: u32, name: &[u8]) -> Result<(), Errno> {
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        // SAFETY: it is open; the name ends.
        check(unsafe { (self.library.ext2fs_unlink)(self.raw, directory, name.as_ptr(), 0, 0) })
    }

    /// Lists a directory, `.` and `..` too. Errors: `EUCLEAN`, `EIO`.
    pub(super) fn list(&self, directory: u32) -> Result<Vec<Found>, Errno> {
        unsafe extern "C" fn each(
            _: u32,
            _: c_int,
            entry: *mut RawEntry,
            _: c_int,
            _: c_int,
            _: *mut std::ffi::c_char,
            to: *mut c_void,
        ) -> c_int {
            // SAFETY: the library has checked that the entry lies in its block with its name; `to` is what
            // `list` has passed, which nobody else uses meanwhile.
            let (entry, name, to) = unsafe {
                let name = entry.cast::<u8>().add(size_of::<RawEntry>());
                let name = slice::from_raw_parts(name, usize::from((*entry).name_length));
                (&*entry, name, &mut *to.cast::<Collector<Found>>())
            };
            to.seen += 1;
            if to.seen > to.limit {
                to.is_wrong = true;
                return 2;
            }
            if entry.inode != 0 && !name.is_empty() {
                to.found.push(Found { name: name.to_vec(), ino: entry.inode, kind: entry.kind });
            }
            0
        }
        let limit = self.shape.size / 12;
        let mut to = Collector { found: Vec::new(), limit, seen: 0, is_wrong: false };
        let place = channel::opaque(&mut to);
        // SAFETY: it is open; `each` gets what it expects, for this call only.
        check(unsafe {
            (self.library.ext2fs_dir_iterate2)(self.raw, directory, 0, ptr::null_mut(), each, place)
        })?;
        if to.is_wrong { Err(Errno::EUCLEAN) } else { Ok(to.found) }
    }

    /// Has a name that is there lead to another inode. Errors: `ENOENT`.
    pub(super) fn relink(
        &mut self,
        directory: u32,
        name: &[u8],
        ino: u32,
        kind: u8,
    ) -> Result<(), Errno> {
        struct Wanted<'a> {
            name: &'a [u8],
            ino: u32,
            kind: u8,
            is_done: bool,
        }
        unsafe extern "C" fn each(
            _: u32,
            _: c_int,
            entry: *mut RawEntry,
            _: c_int,
            _: c_int,
            _: *mut std::ffi::c_char,
            to: *mut c_void,
        ) -> c_int {
            // SAFETY: as in `list`; the entry may be changed when that is said.
            unsafe {
                let name = entry.cast::<u8>().add(size_of::<RawEntry>());
                let name = slice::from_raw_parts(name, usize::from((*entry).name_length));
                let to = &mut *to.cast::<Wanted<'_>>();
                if name != to.name {
                    return 0;
                }
                ((*entry).inode, (*entry).kind) = (to.ino, to.kind);
                to.is_done = true;
            }
            // DIRENT_CHANGED | DIRENT_ABORT
            3
        }
        let kind = if self.shape.incompat & feature::FILETYPE != 0 { kind } else { 0 };
        let mut to = Wanted { name, ino, kind, is_done: false };
        let place = channel::opaque(&mut to);
        // SAFETY: as in `list`.
        check(unsafe {
            (self.library.ext2fs_dir_iterate2)(self.raw, directory, 0, ptr::null_mut(), each, place)
        })?;
        if to.is_done { Ok(()) } else { Err(Errno::ENOENT) }
    }

    /// The blocks of a file, in their order. Errors: `EUCLEAN`, `EIO`.
    pub(super) fn runs(&self, ino: u32, raw: &Raw) -> Result<Vec<Run>, Errno> {
        if !raw.has_blocks() {
            return Ok(Vec::new());
        }
        if raw.has(flag::EXTENTS) { self.extents(ino, raw) } else { self.mapped(ino) }
    }

    fn push(&self, runs: &mut Vec<Run>, new: Run) -> Result<(), Errno> {
        let end = new.physical.checked_add(new.length).ok_or(Errno::EUCLEAN)?;
        let last = runs.last().map_or(0, |last| last.logical + last.length);
        if new.physical == 0
            || end > self.shape.blocks
            || new.logical < last
            || new.logical >> 32 != 0
        {
            return Err(Errno::EUCLEAN);
        }
        match runs.last_mut() {
            Some(last)
                if last.logical + last.length == new.logical
                    && last.physical + last.length == new.physical
                    && last.is_blank == new.is_blank =>
            {
                last.length += new.length;
            }
            _ => runs.push(new),
        }
        Ok(())
    }

    fn extents(&self, ino: u32, raw: &Raw) -> Result<Vec<Run>, Errno> {
        const ROOT: c_int = 1;
        const NEXT_LEAF: c_int = 7;
        let mut words = raw.words.clone();
        let mut handle = ptr::null_mut();
        // SAFETY: the library reads the first 128 bytes of the inode, which lives until the handle is let
        // go, and puts the handle.
        check(unsafe {
            (self.library.ext2fs_extent_open2)(self.raw, ino, words.as_mut_ptr(), &raw mut handle)
        })?;
        let mut runs = Vec::new();
        let mut how = ROOT;
        let result = loop {
            let mut found = RawExtent::default();
            // SAFETY: the handle is open; `found` takes the result.
            let code = unsafe { (self.library.ext2fs_extent_get)(handle, how, &raw mut found) };
            match code {
                0 if found.flags & 1 == 0 || found.length == 0 => {}
                0 => {
                    let run = Run {
                        logical: found.logical,
                        physical: found.physical,
                        length: u64::from(found.length),
                        is_blank: found.flags & 2 != 0,
                    };
                    if let Err(errno) = self.push(&mut runs, run) {
                        break Err(errno);
                    }
                }
                errors::EXTENT_NO_NEXT | errors::NO_CURRENT_NODE => break Ok(()),
                code => break Err(errno(code)),
            }
            // The library may stay where it is in a tree that is not one.
            if how == NEXT_LEAF && found.flags & 1 == 0 {
                break Err(Errno::EUCLEAN);
            }
            how = NEXT_LEAF;
        };
        // SAFETY: the handle is open and let go once.
        unsafe { (self.library.ext2fs_extent_free)(handle) };
        result.map(|()| runs)
    }

    fn mapped(&self, ino: u32) -> Result<Vec<Run>, Errno> {
        unsafe extern "C" fn each(
            _: *mut RawFs,
            block: *mut u64,
            logical: i64,
            _: u64,
            _: c_int,
            to: *mut c_void,
        ) -> c_int {
            // SAFETY: the library passes a number; `to` is what `mapped` has passed.
            let (block, to) = unsafe { (*block, &mut *to.cast::<Collector<Run>>()) };
            to.seen += 1;
            let Ok(logical) = u64::try_from(logical) else { return 0 };
            if to.seen > to.limit {
                to.is_wrong = true;
                return 2;
            }
            match to.found.last_mut() {
                Some(last)
                    if last.logical + last.length == logical
                        && last.physical + last.length == block =>
                {
                    last.length += 1;
                }
                _ => to.found.push(Run { logical, physical: block, length: 1, is_blank: false }),
            }
            0
        }
        const DATA_ONLY_READ_ONLY: c_int = 4 | 8;
        let limit = self.shape.blocks;
        let mut to = Collector { found: Vec::new(), limit, seen: 0, is_wrong: false };
        let place = channel::opaque(&mut to);
        // SAFETY: it is open; `each` gets what it expects, for this call only.
        check(unsafe {
            (self.library.ext2fs_block_iterate3)(
                self.raw,
                ino,
                DATA_ONLY_READ_ONLY,
                ptr::null_mut(),
                each,
                place,
            )
        })?;
        if to.is_wrong {
            return Err(Errno::EUCLEAN);
        }
        let mut runs = Vec::new();
        to.found.into_iter().try_for_each(|run| self.push(&mut runs, run))?;
        Ok(runs)
    }

    /// Gives blocks to the holes in a range of a file. Errors: `ENOSPC`; some may be there then.
    pub(super) fn allocate(
        &mut self,
        ino: u32,
        room: Room,
        start: u64,
        count: u64,
    ) -> Result<(), Errno> {
        let how = match room {
            // FORCE_INIT, ZERO_BLOCKS, INIT_BEYOND_EOF
            Room::ForData => 2 | 1 | 8,
            // FORCE_UNINIT, INIT_BEYOND_EOF
            Room::Blank => 4 | 8,
        };
        self.cache.set_zeroing(zeroing(room));
        // SAFETY: it is open; the library reads the inode itself.
        let code = unsafe {
            let none = ptr::null_mut();
            (self.library.ext2fs_fallocate)(self.raw, how, ino, none, u64::MAX, start, count)
        };
        self.cache.set_zeroing(Zeroing::Done);
        check(code)
    }

    /// Gives one block to a hole. Errors: `ENOSPC`.
    pub(super) fn allocate_one(&mut self, ino: u32, room: Room, at: u64) -> Result<(), Errno> {
        // ALLOC, UNINIT
        let how = if room == Room::Blank { 1 | 4 } else { 1 };
        self.cache.set_zeroing(zeroing(room));
        let done = self.map(ino, how, at, 0);
        self.cache.set_zeroing(Zeroing::Done);
        done
    }

    /// Makes a blank block of a file one with data. Errors: `ENOSPC`.
    pub(super) fn fill(&mut self, ino: u32, logical: u64, physical: u64) -> Result<(), Errno> {
        const SET: c_int = 2;
        self.map(ino, SET, logical, physical)
    }

    fn map(&mut self, ino: u32, how: c_int, logical: u64, mut physical: u64) -> Result<(), Errno> {
        let (mut flags, none) = (0, ptr::null_mut());
        // SAFETY: it is open; the library reads the inode itself; both places take what it tells.
        check(unsafe {
            (self.library.ext2fs_bmap2)(
                self.raw,
                ino,
                none,
                ptr::null_mut(),
                how,
                logical,
                &raw mut flags,
                &raw mut physical,
            )
        })
    }

    /// Gives blocks of a file back, the last one too. Errors: `EUCLEAN`, `EIO`.
    pub(super) fn punch(&mut self, ino: u32, start: u64, last: u64) -> Result<(), Errno> {
        let raw = self.inode(ino)?;
        let blocks = self.shape.blocks;
        let ends = |run: &Run| run.physical + run.length == blocks;
        // The library (1.47) takes the last block of the file system for one behind it, when it is in an
        // extent, and does not give back what it has cut off. Here no run leads behind it.
        let reaches_end =
            raw.has(flag::EXTENTS) && self.runs(ino, &raw).is_ok_and(|runs| runs.iter().any(ends));
        if !reaches_end {
            return self.punch_inside(ino, start, last);
        }
        self.set_blocks(blocks + 1);
        let punched = self.punch_inside(ino, start, last);
        self.set_blocks(blocks);
        punched
    }

    fn set_blocks(&mut self, count: u64) {
        let [low, high] = [count, count >> 32].map(|word| (word & 0xffff_ffff).to_le_bytes());
        self.set_superblock(field::BLOCKS, &low[..4]);
        if self.superblock().u32(field::INCOMPAT) & feature::WIDE != 0 {
            self.set_superblock(field::BLOCKS_HIGH, &high[..4]);
        }
    }

    fn punch_inside(&mut self, ino: u32, start: u64, last: u64) -> Result<(), Errno> {
        // SAFETY: it is open; the library reads the inode itself.
        check(unsafe {
            (self.library.ext2fs_punch)(
                self.raw,
                ino,
                ptr::null_mut(),
                ptr::null_mut(),
                start,
                last,
            )
        })
    }

    /// Lets the block with the attributes of a file go. Errors: `EUCLEAN`, `EIO`.
    pub(super) fn drop_attributes(&mut self, ino: u32, raw: &mut Raw) -> Result<(), Errno> {
        let mut words = raw.words.clone();
        words.resize(self.shape.inode_size.max(160) / 4, 0);
        // SAFETY: there are as many words as the library handles.
        check(unsafe { (self.library.ext2fs_free_ext_attr)(self.raw, ino, words.as_mut_ptr()) })?;
        let length = raw.words.len();
        raw.words.copy_from_slice(&words[..length]);
        Ok(())
    }
}

fn zeroing(room: Room) -> Zeroing {
    match room {
        Room::ForData => Zeroing::LeftOut,
        Room::Blank => Zeroing::Done,
    }
}

/// Whether an inode is taken or given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    Take,
    Give,
}
