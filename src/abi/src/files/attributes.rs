//! What stat(2) and statfs(2) tell, and what setattr changes.

/// A time stamp: seconds and nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Time {
    /// Seconds, possibly negative.
    pub seconds: i64,
    /// Nanoseconds, under 1,000,000,000.
    pub nanos: u32,
}

impl Time {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(Self::default(), |since| Self {
            seconds: since.as_secs().try_into().unwrap_or(i64::MAX),
            nanos: since.subsec_nanos(),
        })
    }
}

/// What stat(2) tells about a file. Fields are named after those of `struct stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes {
    /// `st_dev` when the file has one of its own, as one of the host's; None for that of the mount.
    pub dev: Option<u64>,
    /// `st_ino`.
    pub ino: u64,
    /// `st_mode`: type and permission bits.
    pub mode: u32,
    /// `st_nlink`.
    pub nlink: u32,
    /// `st_uid`.
    pub uid: u32,
    /// `st_gid`.
    pub gid: u32,
    /// `st_rdev` of a device.
    pub rdev: u64,
    /// `st_size`, in bytes.
    pub size: u64,
    /// `st_blocks`, in units of 512 bytes.
    pub blocks: u64,
    /// `st_blksize`; 0 counts as 4096.
    pub blksize: u32,
    /// `st_atim`.
    pub atime: Time,
    /// `st_mtim`.
    pub mtime: Time,
    /// `st_ctim`.
    pub ctime: Time,
    /// `stx_btime`, when it is known.
    pub btime: Option<Time>,
}

impl Attributes {
    /// The type bits of the mode, for instance `S_IFREG`.
    #[must_use]
    pub fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    /// Whether this is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }

    /// Whether this is a regular file.
    #[must_use]
    pub fn is_regular(&self) -> bool {
        self.kind() == libc::S_IFREG
    }

    /// Whether this is a symbolic link.
    #[must_use]
    pub fn is_link(&self) -> bool {
        self.kind() == libc::S_IFLNK
    }
}

/// A time to set: utimensat(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// `UTIME_NOW`.
    Now,
    /// This one.
    To(Time),
}

impl SetTime {
    /// The time it stands for at this moment.
    #[must_use]
    pub fn resolve(self) -> Time {
        match self {
            Self::Now => Time::now(),
            Self::To(time) => time,
        }
    }
}

/// What is to be changed; None stays. The change time follows by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// Permission bits (with set-id and sticky bits), without the type.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size: truncate(2).
    pub size: Option<u64>,
    /// Time of the last access.
    pub atime: Option<SetTime>,
    /// Time of the last modification.
    pub mtime: Option<SetTime>,
    /// When the change was made, if not now: a guest has written, and it is told later.
    pub ctime: Option<Time>,
}

/// What statfs(2) tells. Fields are named after those of `struct statfs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatFs {
    /// `f_type`: a magic number.
    pub kind: i64,
    /// `f_bsize` and `f_frsize`, in bytes.
    pub block_size: u32,
    /// `f_blocks`.
    pub blocks: u64,
    /// `f_bfree`.
    pub free: u64,
    /// `f_bavail`: free for the unprivileged.
    pub available: u64,
    /// `f_files`.
    pub files: u64,
    /// `f_ffree`.
    pub free_files: u64,
    /// `f_namelen`.
    pub name_length: u32,
}
