//! The C layouts of `struct stat`, `struct statx`, `struct statfs`, and nothing else.

use umvu_abi::files;

/// What stat(2) tells about a file. Fields are named after those of `struct stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Attributes {
    /// `st_dev`.
    pub dev: u64,
    /// `st_ino`.
    pub ino: u64,
    /// `st_mode`.
    pub mode: u32,
    /// `st_nlink`.
    pub nlink: u32,
    /// `st_uid`.
    pub uid: u32,
    /// `st_gid`.
    pub gid: u32,
    /// `st_rdev`.
    pub rdev: u64,
    /// `st_size`.
    pub size: i64,
    /// `st_blksize`.
    pub blksize: i32,
    /// `st_blocks`.
    pub blocks: i64,
    /// `st_atim`, `st_mtim`, `st_ctim`: seconds and nanoseconds.
    pub times: [(i64, i64); 3],
    /// `stx_btime`, when it is known.
    pub btime: Option<(i64, i64)>,
}

impl From<&files::Attributes> for Attributes {
    fn from(file: &files::Attributes) -> Self {
        let time = |time: files::Time| (time.seconds, i64::from(time.nanos));
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        Self {
            dev: file.dev.unwrap_or(0),
            ino: file.ino,
            mode: file.mode,
            nlink: file.nlink,
            uid: file.uid,
            gid: file.gid,
            rdev: file.rdev,
            size: signed(file.size),
            blksize: match i32::try_from(file.blksize) {
                Ok(0) | Err(_) => 4096,
                Ok(size) => size,
            },
            blocks: signed(file.blocks),
            times: [time(file.atime), time(file.mtime), time(file.ctime)],
            btime: file.btime.map(time),
        }
    }
}

/// Where the fields of `struct stat` are that differ between architectures.
struct StatLayout {
    size: usize,
    nlink: (usize, usize),
    mode: usize,
    uid: usize,
    rdev: usize,
    st_size: usize,
    blksize: (usize, usize),
    blocks: usize,
    times: usize,
}

const X86_64: StatLayout = StatLayout {
    size: 144,
    nlink: (16, 8),
    mode: 24,
    uid: 28,
    rdev: 40,
    st_size: 48,
    blksize: (56, 8),
    blocks: 64,
    times: 72,
};

/// `asm-generic/stat.h`: aarch64, riscv64.
const GENERIC: StatLayout = StatLayout {
    size: 128,
    nlink: (20, 4),
    mode: 16,
    uid: 24,
    rdev: 32,
    st_size: 48,
    blksize: (56, 4),
    blocks: 64,
    times: 72,
};

const NATIVE: StatLayout = if cfg!(target_arch = "x86_64") { X86_64 } else { GENERIC };

/// `STATX_BASIC_STATS`.
const STATX_BASIC_STATS: u32 = 0x7ff;
/// `STATX_BTIME`.
const STATX_BTIME: u32 = 0x800;
const STATX_SIZE: usize = 256;
const STATFS_SIZE: usize = 120;

struct Bytes(Vec<u8>);

impl Bytes {
    fn put(&mut self, at: usize, value: &[u8]) {
        self.0[at..at + value.len()].copy_from_slice(value);
    }

    /// Puts a number into a field of 4 or 8 bytes.
    fn put_sized(&mut self, (at, width): (usize, usize), value: u32) {
        if width == 8 {
            self.put(at, &u64::from(value).to_ne_bytes());
        } else {
            self.put(at, &value.to_ne_bytes());
        }
    }
}

/// Encodes `struct stat` for stat(2) and newfstatat(2).
pub(crate) fn stat(attributes: &Attributes) -> Vec<u8> {
    encode_stat(attributes, &NATIVE)
}

fn encode_stat(a: &Attributes, layout: &StatLayout) -> Vec<u8> {
    let mut bytes = Bytes(vec![0; layout.size]);
    bytes.put(0, &a.dev.to_ne_bytes());
    bytes.put(8, &a.ino.to_ne_bytes());
    bytes.put(layout.mode, &a.mode.to_ne_bytes());
    bytes.put_sized(layout.nlink, a.nlink);
    bytes.put(layout.uid, &a.uid.to_ne_bytes());
    bytes.put(layout.uid + 4, &a.gid.to_ne_bytes());
    bytes.put(layout.rdev, &a.rdev.to_ne_bytes());
    bytes.put(layout.st_size, &a.size.to_ne_bytes());
    bytes.put_sized(layout.blksize, u32::try_from(a.blksize).unwrap_or(4096));
    bytes.put(layout.blocks, &a.blocks.to_ne_bytes());
    for (index, (seconds, nanos)) in a.times.iter().enumerate() {
        bytes.put(layout.times + 16 * index, &seconds.to_ne_bytes());
        bytes.put(layout.times + 16 * index + 8, &nanos.to_ne_bytes());
    }
    bytes.0
}

/// Encodes `struct statx` with the basic fields (statx(2)), the same on all architectures.
pub(crate) fn statx(a: &Attributes) -> Vec<u8> {
    let mut bytes = Bytes(vec![0; STATX_SIZE]);
    let [atime, mtime, ctime] = a.times;
    let mask = STATX_BASIC_STATS | if a.btime.is_some() { STATX_BTIME } else { 0 };
    bytes.put(0, &mask.to_ne_bytes());
    bytes.put(4, &a.blksize.to_ne_bytes());
    bytes.put(16, &a.nlink.to_ne_bytes());
    bytes.put(20, &a.uid.to_ne_bytes());
    bytes.put(24, &a.gid.to_ne_bytes());
    bytes.put(28, &u16::try_from(a.mode & 0xffff).unwrap_or(0).to_ne_bytes());
    bytes.put(32, &a.ino.to_ne_bytes());
    bytes.put(40, &a.size.to_ne_bytes());
    bytes.put(48, &a.blocks.to_ne_bytes());
    let btime = a.btime.unwrap_or_default();
    for (at, (seconds, nanos)) in [(64, atime), (80, btime), (96, ctime), (112, mtime)] {
        bytes.put(at, &seconds.to_ne_bytes());
        bytes.put(at + 8, &u32::try_from(nanos).unwrap_or(0).to_ne_bytes());
    }
    for (at, device) in [(128, a.rdev), (136, a.dev)] {
        bytes.put(at, &libc::major(device).to_ne_bytes());
        bytes.put(at + 4, &libc::minor(device).to_ne_bytes());
    }
    bytes.0
}

/// Encodes `struct statfs` (statfs(2)), with its `f_flags`.
pub(crate) fn statfs_of(found: &files::StatFs, dev: u64, flags: i64) -> Vec<u8> {
    let mut bytes = Bytes(vec![0; STATFS_SIZE]);
    let block = i64::from(found.block_size);
    bytes.put(0, &found.kind.to_ne_bytes());
    bytes.put(8, &block.to_ne_bytes());
    let counts = [found.blocks, found.free, found.available, found.files, found.free_files];
    for (index, count) in counts.into_iter().enumerate() {
        bytes.put(16 + 8 * index, &count.to_ne_bytes());
    }
    bytes.put(56, &dev.to_ne_bytes());
    bytes.put(64, &i64::from(found.name_length).to_ne_bytes());
    bytes.put(72, &block.to_ne_bytes());
    bytes.put(80, &flags.to_ne_bytes());
    bytes.0
}

/// Encodes `struct statfs` of an empty file system of this type (statfs(2)).
pub(crate) fn statfs(kind: i64) -> Vec<u8> {
    const BLOCK: i64 = 4096;
    const NAME_MAX: i64 = 255;
    let mut bytes = Bytes(vec![0; STATFS_SIZE]);
    bytes.put(0, &kind.to_ne_bytes());
    bytes.put(8, &BLOCK.to_ne_bytes());
    bytes.put(64, &NAME_MAX.to_ne_bytes());
    bytes.put(72, &BLOCK.to_ne_bytes());
    bytes.0
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn struct_stat_is_laid_out_as_in_c() {
        assert_eq!(size_of::<libc::stat>(), NATIVE.size);
        assert_eq!(offset_of!(libc::stat, st_dev), 0);
        assert_eq!(offset_of!(libc::stat, st_ino), 8);
        assert_eq!(offset_of!(libc::stat, st_nlink), NATIVE.nlink.0);
        assert_eq!(size_of::<libc::nlink_t>(), NATIVE.nlink.1);
        assert_eq!(offset_of!(libc::stat, st_mode), NATIVE.mode);
        assert_eq!(offset_of!(libc::stat, st_uid), NATIVE.uid);
        assert_eq!(offset_of!(libc::stat, st_gid), NATIVE.uid + 4);
        assert_eq!(offset_of!(libc::stat, st_rdev), NATIVE.rdev);
        assert_eq!(offset_of!(libc::stat, st_size), NATIVE.st_size);
        assert_eq!(offset_of!(libc::stat, st_blksize), NATIVE.blksize.0);
        assert_eq!(size_of::<libc::blksize_t>(), NATIVE.blksize.1);
        assert_eq!(offset_of!(libc::stat, st_blocks), NATIVE.blocks);
        assert_eq!(offset_of!(libc::stat, st_atime), NATIVE.times);
        assert_eq!(offset_of!(libc::stat, st_mtime), NATIVE.times + 16);
        assert_eq!(offset_of!(libc::stat, st_ctime_nsec), NATIVE.times + 40);
    }

    #[test]
    fn struct_statx_is_laid_out_as_in_c() {
        assert_eq!(size_of::<libc::statx>(), STATX_SIZE);
        assert_eq!(offset_of!(libc::statx, stx_blksize), 4);
        assert_eq!(offset_of!(libc::statx, stx_nlink), 16);
        assert_eq!(offset_of!(libc::statx, stx_uid), 20);
        assert_eq!(offset_of!(libc::statx, stx_gid), 24);
        assert_eq!(offset_of!(libc::statx, stx_mode), 28);
        assert_eq!(offset_of!(libc::statx, stx_ino), 32);
        assert_eq!(offset_of!(libc::statx, stx_size), 40);
        assert_eq!(offset_of!(libc::statx, stx_blocks), 48);
        assert_eq!(offset_of!(libc::statx, stx_atime), 64);
        assert_eq!(offset_of!(libc::statx, stx_ctime), 96);
        assert_eq!(offset_of!(libc::statx, stx_mtime), 112);
        assert_eq!(offset_of!(libc::statx, stx_rdev_major), 128);
        assert_eq!(offset_of!(libc::statx, stx_dev_major), 136);
    }

    #[test]
    fn struct_statfs_is_laid_out_as_in_c() {
        assert_eq!(size_of::<libc::statfs>(), STATFS_SIZE);
        assert_eq!(offset_of!(libc::statfs, f_bsize), 8);
        assert_eq!(offset_of!(libc::statfs, f_namelen), 64);
        assert_eq!(offset_of!(libc::statfs, f_frsize), 72);
    }

    #[test]
    fn values_land_in_their_fields_on_both_architectures() {
        let attributes = Attributes {
            dev: 0x7601,
            ino: 9,
            mode: 0o160_755,
            nlink: 1,
            uid: 1000,
            gid: 100,
            size: -1,
            blksize: 4096,
            times: [(1, 2), (3, 4), (5, 6)],
            ..Attributes::default()
        };
        for layout in [&X86_64, &GENERIC] {
            let bytes = encode_stat(&attributes, layout);
            assert_eq!(bytes[layout.mode..layout.mode + 4], 0o160_755_u32.to_ne_bytes());
            assert_eq!(bytes[layout.uid..layout.uid + 4], 1000_u32.to_ne_bytes());
            assert_eq!(bytes[layout.times + 16], 3);
        }
        let bytes = statx(&attributes);
        assert_eq!(bytes[28..30], 0o160_755_u16.to_ne_bytes());
        assert_eq!(bytes[112], 3);
        assert_eq!(bytes[96], 5);
        assert_eq!(bytes[136..140], libc::major(0x7601).to_ne_bytes());
    }
}
