//! An inode as it is in the image (`struct ext2_inode_large`), little-endian words.

use umvu_abi::files::{Attributes, Time};

use super::superblock::{Geometry, feature};

/// Flags of inodes.
pub(super) mod flag {
    pub(in super::super) const IMMUTABLE: u32 = 0x10;
    pub(in super::super) const APPEND: u32 = 0x20;
    pub(in super::super) const NOATIME: u32 = 0x80;
    pub(in super::super) const HUGE_FILE: u32 = 0x4_0000;
    pub(in super::super) const EXTENTS: u32 = 0x8_0000;
    pub(in super::super) const INLINE_DATA: u32 = 0x1000_0000;
}

/// What is handled of an inode without its attributes.
const LARGE: usize = 160;
/// Where the numbers of its blocks are, or a short link's target.
const BLOCKS: usize = 40;
/// The longest target that is in the inode, and one byte more.
pub(super) const SHORT: u64 = 60;

/// A time stamp's place: the seconds, and the nanoseconds with two more bits.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stamp {
    Access,
    Change,
    Modify,
    Birth,
}

impl Stamp {
    fn places(self) -> (usize, usize) {
        match self {
            Self::Access => (8, 140),
            Self::Change => (12, 132),
            Self::Modify => (16, 136),
            Self::Birth => (144, 148),
        }
    }
}

/// The inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Raw {
    pub(super) words: Vec<u32>,
}

impl Raw {
    /// One of zeros, for a file system with this geometry.
    pub(super) fn empty(shape: &Geometry) -> Self {
        Self { words: vec![0; shape.inode_size.min(LARGE) / 4] }
    }

    fn u32(&self, at: usize) -> u32 {
        self.words.get(at / 4).copied().unwrap_or(0)
    }

    fn put(&mut self, at: usize, value: u32) {
        if let Some(word) = self.words.get_mut(at / 4) {
            *word = value;
        }
    }

    fn u16(&self, at: usize) -> u16 {
        let word = self.u32(at) >> if at.is_multiple_of(4) { 0 } else { 16 };
        u16::try_from(word & 0xffff).unwrap_or(0)
    }

    fn put16(&mut self, at: usize, value: u16) {
        let shift = if at.is_multiple_of(4) { 0 } else { 16 };
        let word = self.u32(at) & !(0xffff << shift) | u32::from(value) << shift;
        self.put(at, word);
    }

    pub(super) fn mode(&self) -> u32 {
        u32::from(self.u16(0))
    }

    pub(super) fn set_mode(&mut self, mode: u32) {
        self.put16(0, u16::try_from(mode & 0xffff).unwrap_or(0));
    }

    pub(super) fn kind(&self) -> u32 {
        self.mode() & libc::S_IFMT
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }

    fn id(&self, low: usize, high: usize) -> u32 {
        u32::from(self.u16(low)) | u32::from(self.u16(high)) << 16
    }

    pub(super) fn owner(&self) -> [u32; 2] {
        [self.id(2, 120), self.id(24, 122)]
    }

    pub(super) fn set_owner(&mut self, owner: [u32; 2]) {
        for (id, [low, high]) in owner.into_iter().zip([[2, 120], [24, 122]]) {
            self.put16(low, u16::try_from(id & 0xffff).unwrap_or(0));
            self.put16(high, u16::try_from(id >> 16).unwrap_or(0));
        }
    }

    pub(super) fn links(&self) -> u16 {
        self.u16(26)
    }

    pub(super) fn set_links(&mut self, links: u16) {
        self.put16(26, links);
    }

    pub(super) fn size(&self) -> u64 {
        u64::from(self.u32(4)) | u64::from(self.u32(108)) << 32
    }

    pub(super) fn set_size(&mut self, size: u64) {
        for (at, part) in [(4, size & 0xffff_ffff), (108, size >> 32)] {
            self.put(at, u32::try_from(part).unwrap_or(0));
        }
    }

    pub(super) fn flags(&self) -> u32 {
        self.u32(32)
    }

    /// `i_generation`.
    pub(super) fn generation(&self) -> u32 {
        self.u32(100)
    }

    pub(super) fn set_flags(&mut self, flags: u32) {
        self.put(32, flags);
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags() & flag != 0
    }

    /// `i_dtime`: when it was deleted, or the next in the list of orphans.
    pub(super) fn deleted(&self) -> u32 {
        self.u32(20)
    }

    pub(super) fn set_deleted(&mut self, value: u32) {
        self.put(20, value);
    }

    /// `st_blocks`.
    fn sectors(&self, shape: &Geometry) -> u64 {
        let wide =
            if shape.ro_compat & feature::HUGE_FILE != 0 { u64::from(self.u16(116)) } else { 0 };
        let count = u64::from(self.u32(28)) | wide << 32;
        if self.has(flag::HUGE_FILE) {
            count.saturating_mul(shape.block as u64 / 512)
        } else {
            count
        }
    }

    /// Whether it has blocks of its own.
    pub(super) fn has_blocks(&self) -> bool {
        match self.kind() {
            libc::S_IFREG | libc::S_IFDIR => !self.has(flag::INLINE_DATA),
            libc::S_IFLNK => !self.has(flag::INLINE_DATA) && !self.is_short_link(),
            _ => false,
        }
    }

    pub(super) fn is_short_link(&self) -> bool {
        self.kind() == libc::S_IFLNK
            && self.size() < SHORT
            && !self.has(flag::EXTENTS | flag::INLINE_DATA)
    }

    /// The words where the numbers of blocks are.
    pub(super) fn place(&self) -> Vec<u8> {
        self.words.iter().skip(BLOCKS / 4).take(15).flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Puts up to 60 bytes there.
    pub(super) fn set_place(&mut self, bytes: &[u8]) {
        for (at, part) in bytes.chunks(4).take(15).enumerate() {
            let mut word = [0; 4];
            word[..part.len()].copy_from_slice(part);
            self.put(BLOCKS + at * 4, u32::from_le_bytes(word));
        }
    }

    /// The beginning of an empty tree of extents.
    pub(super) fn set_extents(&mut self) {
        self.set_flags(self.flags() | flag::EXTENTS);
        self.set_place(&[0x0a, 0xf3, 0, 0, 4, 0]);
    }

    /// `st_rdev`: the old form in the first word, or the new one in the second.
    fn device(&self) -> u64 {
        let old = self.u32(BLOCKS);
        if old != 0 {
            return libc::makedev(old >> 8 & 0xff, old & 0xff);
        }
        let new = self.u32(BLOCKS + 4);
        libc::makedev((new & 0xf_ff00) >> 8, new & 0xff | new >> 12 & 0xf_ff00)
    }

    pub(super) fn set_device(&mut self, device: u64) {
        let (major, minor) = (libc::major(device), libc::minor(device));
        if major < 256 && minor < 256 {
            self.put(BLOCKS, major << 8 | minor);
        } else {
            self.put(BLOCKS + 4, minor & 0xff | (major & 0xfff) << 8 | (minor & !0xff) << 12);
        }
    }

    /// The room that has a meaning behind the first 128 bytes.
    fn reaches(&self, end: usize) -> bool {
        end <= self.words.len() * 4 && end <= 128 + usize::from(self.u16(128))
    }

    /// Gives a new inode all its fields.
    pub(super) fn set_extra(&mut self) {
        if self.words.len() * 4 == LARGE {
            self.put16(128, 32);
        }
    }

    pub(super) fn time(&self, stamp: Stamp) -> Option<Time> {
        let (at, extra) = stamp.places();
        let whole = self.reaches(extra + 4);
        if at >= 128 && !whole {
            return None;
        }
        let seconds = i64::from(self.u32(at).cast_signed());
        let extra = if whole { self.u32(extra) } else { 0 };
        let nanos = (extra >> 2).min(999_999_999);
        Some(Time { seconds: seconds + (i64::from(extra & 3) << 32), nanos })
    }

    /// Sets a time, as near as there is room for it.
    pub(super) fn set_time(&mut self, stamp: Stamp, time: Time) {
        let (at, extra) = stamp.places();
        let whole = self.reaches(extra + 4);
        if at >= 128 && !whole {
            return;
        }
        let most = i64::from(i32::MAX) + if whole { 3 << 32 } else { 0 };
        let least = i64::from(i32::MIN);
        let seconds = time.seconds.clamp(least, most);
        // At both ends there are whole seconds only, as Linux has it.
        let nanos = if seconds == least || seconds == most { 0 } else { time.nanos };
        let low = u32::try_from(seconds & 0xffff_ffff).unwrap_or(0);
        self.put(at, low);
        if whole {
            let epoch = (seconds - i64::from(low.cast_signed())) >> 32 & 3;
            self.put(extra, nanos << 2 | u32::try_from(epoch).unwrap_or(0));
        }
    }

    pub(super) fn attributes(&self, ino: u32, shape: &Geometry) -> Attributes {
        let [uid, gid] = self.owner();
        let time = |stamp| self.time(stamp).unwrap_or_default();
        let is_device = matches!(self.kind(), libc::S_IFCHR | libc::S_IFBLK);
        Attributes {
            dev: None,
            ino: u64::from(ino),
            mode: self.mode(),
            nlink: u32::from(self.links()),
            uid,
            gid,
            rdev: if is_device { self.device() } else { 0 },
            size: if self.kind() == libc::S_IFREG
                || self.is_directory()
                || self.kind() == libc::S_IFLNK
            {
                self.size()
            } else {
                0
            },
            blocks: self.sectors(shape),
            blksize: u32::try_from(shape.block).unwrap_or(4096).max(4096),
            atime: time(Stamp::Access),
            mtime: time(Stamp::Modify),
            ctime: time(Stamp::Change),
            btime: self.time(Stamp::Birth),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> Raw {
        let mut raw = Raw { words: vec![0; 40] };
        raw.set_extra();
        raw
    }

    #[test]
    fn times_before_1970_and_behind_2038_keep_their_nanoseconds() {
        for seconds in [
            -1,
            0,
            1,
            i64::from(i32::MIN) + 1,
            i64::from(i32::MAX),
            1 << 31,
            1 << 32,
            15_000_000_000,
        ] {
            let (mut raw, time) = (raw(), Time { seconds, nanos: 123_456_789 });
            raw.set_time(Stamp::Modify, time);
            assert_eq!(raw.time(Stamp::Modify), Some(time));
        }
    }

    #[test]
    fn the_first_and_the_last_time_are_whole_seconds() {
        for (seconds, kept) in [(-1 << 40, i64::from(i32::MIN)), (1 << 40, 15_032_385_535)] {
            let mut raw = raw();
            raw.set_time(Stamp::Modify, Time { seconds, nanos: 123_456_789 });
            assert_eq!(raw.time(Stamp::Modify), Some(Time { seconds: kept, nanos: 0 }));
        }
    }

    #[test]
    fn a_small_inode_has_whole_seconds_and_no_birth() {
        let mut raw = Raw { words: vec![0; 32] };
        raw.set_extra();
        for stamp in [Stamp::Access, Stamp::Birth] {
            raw.set_time(stamp, Time { seconds: 1 << 40, nanos: 5 });
        }
        assert_eq!(raw.time(Stamp::Access), Some(Time { seconds: i64::from(i32::MAX), nanos: 0 }));
        assert_eq!(raw.time(Stamp::Birth), None);
    }

    #[test]
    fn owners_sizes_and_devices_come_back() {
        let mut raw = raw();
        raw.set_owner([0x1234_5678, 0x9abc_def0]);
        raw.set_size(0x12_3456_789a);
        assert_eq!((raw.owner(), raw.size()), ([0x1234_5678, 0x9abc_def0], 0x12_3456_789a));
        for (major, minor) in [(1, 3), (255, 255), (259, 70_000)] {
            let (mut raw, device) = (self::raw(), libc::makedev(major, minor));
            raw.set_device(device);
            assert_eq!(raw.device(), device);
        }
    }
}
