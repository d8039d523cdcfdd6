//! The bytes of the FUSE protocol (fuse(4), `<linux/fuse.h>`): requests are built, replies are read.
//!
//! A reply that is too short, or says what cannot be, is `EIO`.

use std::time::Duration;

use umvu_abi::{
    Errno,
    files::{Attributes, Changes, DirEntry, SetTime, StatFs, Time},
};

/// The length of `struct fuse_in_header`.
pub(super) const IN_HEADER: usize = 40;
/// The longest name of a file.
pub(super) const NAME_MAX: usize = 1024;

/// The numbers of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub(super) enum Opcode {
    Lookup = 1,
    Forget = 2,
    Getattr = 3,
    Setattr = 4,
    Readlink = 5,
    Symlink = 6,
    Mknod = 8,
    Mkdir = 9,
    Unlink = 10,
    Rmdir = 11,
    Rename = 12,
    Link = 13,
    Open = 14,
    Read = 15,
    Write = 16,
    Statfs = 17,
    Release = 18,
    Fsync = 20,
    Setxattr = 21,
    Getxattr = 22,
    Listxattr = 23,
    Removexattr = 24,
    Flush = 25,
    Init = 26,
    Opendir = 27,
    Readdir = 28,
    Releasedir = 29,
    Fsyncdir = 30,
    Access = 34,
    Create = 35,
    Interrupt = 36,
    Destroy = 38,
    Ioctl = 39,
    Poll = 40,
    NotifyReply = 41,
    BatchForget = 42,
    Fallocate = 43,
    Readdirplus = 44,
    Rename2 = 45,
    Lseek = 46,
    CopyFileRange = 47,
}

impl Opcode {
    /// Its number.
    #[must_use]
    pub(super) fn number(self) -> u32 {
        self as u32
    }
}

/// Numbers and bytes, one after the other.
#[derive(Debug, Default, Clone)]
pub(super) struct Body(pub(super) Vec<u8>);

impl Body {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    pub(super) fn bytes(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(value);
        self
    }

    /// A name with its NUL.
    pub(super) fn name(self, name: &[u8]) -> Self {
        self.bytes(name).bytes(&[0])
    }
}

/// Reads a reply from its beginning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Errno> {
        let (piece, rest) = self.0.split_at_checked(length).ok_or(Errno::EIO)?;
        self.0 = rest;
        Ok(piece)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Errno> {
        let bytes = self.take(4)?.first_chunk().ok_or(Errno::EIO)?;
        Ok(u32::from_ne_bytes(*bytes))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Errno> {
        let bytes = self.take(8)?.first_chunk().ok_or(Errno::EIO)?;
        Ok(u64::from_ne_bytes(*bytes))
    }
}

/// `struct fuse_out_header`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutHeader {
    pub(super) length: u32,
    pub(super) error: i32,
    pub(super) unique: u64,
}

impl OutHeader {
    /// Reads the header of a reply.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Errno> {
        let length = reader.u32()?;
        let error = reader.u32()?.cast_signed();
        Ok(Self { length, error, unique: reader.u64()? })
    }
}

/// How long an answer holds.
fn validity(seconds: u64, nanos: u32) -> Duration {
    Duration::new(seconds, nanos.min(999_999_999))
}

/// `dev_t` as the protocol has it, in 32 bits.
pub(super) fn encode_dev(dev: u64) -> u32 {
    let (major, minor) = (libc::major(dev), libc::minor(dev));
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

fn decode_dev(dev: u32) -> u64 {
    let major = dev >> 8 & 0xfff;
    let minor = dev & 0xff | dev >> 12 & 0xf_ff00;
    libc::makedev(major, minor)
}

fn time(seconds: u64, nanos: u32) -> Time {
    Time { seconds: seconds.cast_signed(), nanos: nanos.min(999_999_999) }
}

/// Reads `struct fuse_attr`. Errors: `EIO` for a type that is none, a size beyond all files.
fn attributes(reader: &mut Reader<'_>) -> Result<Attributes, Errno> {
    let (ino, size, blocks) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let (atime, mtime, ctime) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let nanos = [reader.u32()?, reader.u32()?, reader.u32()?];
    let [mode, nlink, uid, gid, rdev, blksize] =
        [reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?];
    let _flags = reader.u32()?;
    let is_type = matches!(
        mode & libc::S_IFMT,
        libc::S_IFREG
            | libc::S_IFDIR
            | libc::S_IFLNK
            | libc::S_IFCHR
            | libc::S_IFBLK
            | libc::S_IFIFO
            | libc::S_IFSOCK
    );
    if !is_type || i64::try_from(size).is_err() {
        return Err(Errno::EIO);
    }
    Ok(Attributes {
        dev: None,
        ino,
        mode: mode & 0o177_777,
        nlink,
        uid,
        gid,
        rdev: decode_dev(rdev),
        size,
        blocks,
        blksize,
        atime: time(atime, nanos[0]),
        mtime: time(mtime, nanos[1]),
        ctime: time(ctime, nanos[2]),
        btime: None,
    })
}

/// What a name leads to: `struct fuse_entry_out`.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryOut {
    pub(super) node: u64,
    pub(super) attributes: Attributes,
    pub(super) valid: Duration,
    pub(super) attributes_valid: Duration,
}

impl EntryOut {
    /// Reads an entry; None for one that says "there is no such name" (node 0).
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Errno> {
        let node = reader.u64()?;
        let _generation = reader.u64()?;
        let (valid, attributes_valid) = (reader.u64()?, reader.u64()?);
        let nanos = [reader.u32()?, reader.u32()?];
        let looks = reader.take(88)?;
        if node == 0 {
            return Ok(None);
        }
        Ok(Some(Self {
            node,
            attributes: attributes(&mut Reader(looks))?,
            valid: validity(valid, nanos[0]),
            attributes_valid: validity(attributes_valid, nanos[1]),
        }))
    }
}

/// Reads `struct fuse_attr_out`: the attributes, and how long they hold.
pub(super) fn attr_out(reader: &mut Reader<'_>) -> Result<(Attributes, Duration), Errno> {
    let seconds = reader.u64()?;
    let nanos = reader.u32()?;
    let _padding = reader.u32()?;
    Ok((attributes(reader)?, validity(seconds, nanos)))
}

/// Reads `struct fuse_open_out`: the handle and the `FOPEN_*` flags.
pub(super) fn open_out(reader: &mut Reader<'_>) -> Result<(u64, u32), Errno> {
    let handle = reader.u64()?;
    let flags = reader.u32()?;
    let _padding = reader.u32()?;
    Ok((handle, flags))
}

/// Reads `struct fuse_statfs_out`.
pub(super) fn statfs_out(reader: &mut Reader<'_>) -> Result<StatFs, Errno> {
    const FUSE_SUPER_MAGIC: i64 = 0x6573_5546;
    let [blocks, free, available, files, free_files] =
        [reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?];
    let (bsize, name_length, frsize) = (reader.u32()?, reader.u32()?, reader.u32()?);
    Ok(StatFs {
        kind: FUSE_SUPER_MAGIC,
        block_size: if frsize == 0 { bsize } else { frsize },
        blocks,
        free,
        available,
        files,
        free_files,
        name_length,
    })
}

/// The entries of a directory in a reply, and the offset behind the last one.
///
/// `each` gets the entry, and what its name leads to in a reply to READDIRPLUS. Errors: `EIO` for names
/// that cannot be.
pub(super) fn entries(
    reply: &[u8],
    plus: Plus,
    mut each: impl FnMut(DirEntry, Option<EntryOut>),
) -> Result<Option<u64>, Errno> {
    let mut reader = Reader(reply);
    let mut end = None;
    let least = if plus == Plus::Yes { 128 + 24 } else { 24 };
    while reader.0.len() >= least {
        let entry = match plus {
            Plus::Yes => EntryOut::read(&mut reader)?,
            Plus::No => None,
        };
        let (ino, offset) = (reader.u64()?, reader.u64()?);
        let (length, kind) = (reader.u32()?, reader.u32()?);
        let length = usize::try_from(length).map_err(|_| Errno::EIO)?;
        if length == 0 || length > NAME_MAX {
            return Err(Errno::EIO);
        }
        // The last one may be cut off.
        let Ok(name) = reader.take(length) else { break };
        let padding = length.next_multiple_of(8) - length;
        reader.0 = reader.0.get(padding..).unwrap_or_default();
        if name.contains(&b'/') || name.contains(&0) {
            return Err(Errno::EIO);
        }
        end = Some(offset);
        let entry = entry.filter(|_| !is_dots(name));
        if is_dots(name) {
            continue;
        }
        each(DirEntry { name: name.to_vec(), ino, kind: (kind & 0xf) << 12 }, entry);
    }
    Ok(end)
}

fn is_dots(name: &[u8]) -> bool {
    name == b"." || name == b".."
}

/// Whether the entries of a listing come with what they lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plus {
    /// READDIRPLUS.
    Yes,
    /// READDIR.
    No,
}

/// `struct fuse_setattr_in`. `kind` are the type bits of the file.
pub(super) fn setattr_in(changes: &Changes, kind: u32, handle: Option<u64>) -> Body {
    const MODE: u32 = 1;
    const UID: u32 = 1 << 1;
    const GID: u32 = 1 << 2;
    const SIZE: u32 = 1 << 3;
    const HANDLE: u32 = 1 << 6;
    let mut valid = 0;
    let mut set = |bit: u32, is_set: bool| valid |= if is_set { bit } else { 0 };
    set(MODE, changes.mode.is_some());
    set(UID, changes.uid.is_some());
    set(GID, changes.gid.is_some());
    set(SIZE, changes.size.is_some());
    set(HANDLE, handle.is_some());
    let mut time = |bit: u32, time: Option<SetTime>| {
        let is_now = matches!(time, Some(SetTime::Now));
        valid |= if time.is_some() { bit } else { 0 } | if is_now { bit << 3 } else { 0 };
        time.map_or(Time::default(), SetTime::resolve)
    };
    let atime = time(1 << 4, changes.atime);
    let mtime = time(1 << 5, changes.mtime);
    Body::new()
        .u32(valid)
        .u32(0)
        .u64(handle.unwrap_or(0))
        .u64(changes.size.unwrap_or(0))
        .u64(0)
        .u64(atime.seconds.cast_unsigned())
        .u64(mtime.seconds.cast_unsigned())
        .u64(0)
        .u32(atime.nanos)
        .u32(mtime.nanos)
        .u32(0)
        .u32(kind | changes.mode.unwrap_or(0))
        .u32(0)
        .u32(changes.uid.unwrap_or(0))
        .u32(changes.gid.unwrap_or(0))
        .u32(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_go_both_ways() {
        for (major, minor) in [(0, 0), (8, 1), (259, 70_000), (4095, 0xf_ffff)] {
            let dev = libc::makedev(major, minor);
            assert_eq!(decode_dev(encode_dev(dev)), dev);
        }
    }

    fn dirent(name: &[u8], offset: u64) -> Vec<u8> {
        let mut body = Body::new().u64(7).u64(offset);
        body = body.u32(u32::try_from(name.len()).expect("short")).u32(8).bytes(name);
        body.0.resize(body.0.len().next_multiple_of(8), 0);
        body.0
    }

    #[test]
    fn listings_leave_dots_out_and_refuse_slashes() {
        let listed = [dirent(b".", 1), dirent(b"..", 2), dirent(b"a", 3)].concat();
        let mut names = Vec::new();
        let end = entries(&listed, Plus::No, |entry, _| names.push((entry.name, entry.kind)));
        assert_eq!(end, Ok(Some(3)));
        assert_eq!(names, [(b"a".to_vec(), libc::S_IFREG)]);
        for bad in [&b"a/b"[..], b"a\0b", b""] {
            assert_eq!(entries(&dirent(bad, 1), Plus::No, |_, _| ()), Err(Errno::EIO));
        }
    }

    #[test]
    fn an_entry_with_no_file_type_is_an_error() {
        let entry = Body::new().u64(2).bytes(&[0; 120]);
        assert!(EntryOut::read(&mut Reader(&entry.0)).is_err());
        assert!(matches!(EntryOut::read(&mut Reader(&[0; 128])), Ok(None)));
        assert!(EntryOut::read(&mut Reader(&[0; 127])).is_err());
    }
}
