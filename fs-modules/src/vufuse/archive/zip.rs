//! zip archives. Members are found by the directory at the end; those that are stored are read from the
//! image, others are units.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use umvu_abi::files::{Attributes, Time};
use zip::{
    CompressionMethod, System, ZipArchive,
    extra_fields::ExtraField,
    read::ZipFile,
    result::{ZipError, ZipResult},
};

use super::{
    content::Content,
    input::{Input, Place},
    tree::{Inode, Tree},
};

/// The number of the field with user and group of a file, of Info-ZIP.
pub(super) const UNIX: u16 = 0x7875;
/// The bit of MS-DOS that says that a file is a directory, or must not be written to.
const DOS: [u32; 2] = [0x10, 0x01];

/// An archive.
#[derive(Debug)]
pub(super) struct Zip {
    archive: ZipArchive<Input>,
    /// Where those members begin that are in the image as they are.
    stored: HashMap<usize, u64>,
    /// How many members are encrypted.
    pub(super) encrypted: usize,
}

impl Zip {
    /// Reads the directory of an archive. Errors: why that fails.
    pub(super) fn new(place: Place) -> io::Result<Self> {
        let archive = ZipArchive::new(Input::new(place)?)?;
        Ok(Self { archive, stored: HashMap::new(), encrypted: 0 })
    }

    /// Adds all members. Errors: there is too much in it.
    pub(super) fn read(&mut self, tree: &mut Tree) -> Result<(), String> {
        for index in 0..self.archive.len() {
            let Ok(entry) = self.archive.by_index_raw(index) else {
                tree.damaged += 1;
                continue;
            };
            let (size, start) = (entry.size(), entry.data_start());
            let end = start.and_then(|start| start.checked_add(size));
            if i64::try_from(size).is_err() || end.is_none_or(|end| i64::try_from(end).is_err()) {
                tree.damaged += 1;
                continue;
            }
            if entry.encrypted() {
                self.encrypted += 1;
            } else if entry.compression() == CompressionMethod::Stored {
                self.stored.extend(start.map(|start| (index, start)));
            }
            let content = Content::whole(Some(index), 0, size);
            let attributes = attributes(&entry, tree);
            let name = match entry.name_raw() {
                // As programs of MS-DOS have written it.
                raw if std::str::from_utf8(raw).is_err() => match entry.name() {
                    Ok(name) => name.as_bytes().to_vec(),
                    Err(_) => raw.to_vec(),
                },
                raw => raw.to_vec(),
            };
            tree.add(&name, Inode::stored(attributes, content))?;
        }
        Ok(())
    }

    /// Where in the image the content of a member is, if it is there as it is.
    pub(super) fn stored(&self, index: usize) -> Option<u64> {
        self.stored.get(&index).copied()
    }

    /// How a member is packed, if one can be packed so.
    pub(super) fn method(&self, index: usize) -> Option<CompressionMethod> {
        use CompressionMethod::{Bzip2, Deflated, Stored, Zstd};
        let method = self.archive.clone().by_index_raw(index).ok()?.compression();
        matches!(method, Stored | Deflated | Bzip2 | Zstd).then_some(method)
    }

    /// Unpacks a member. Errors: `PermissionDenied` for one that is encrypted, those of reading and writing.
    pub(super) fn unpack(&self, index: usize, out: &mut dyn Write) -> io::Result<()> {
        let mut archive = self.archive.clone();
        io::copy(&mut readable(archive.by_index(index))?, out)?;
        Ok(())
    }
}

fn readable<T>(member: ZipResult<T>) -> io::Result<T> {
    member.map_err(|error| match error {
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) => {
            io::Error::new(io::ErrorKind::PermissionDenied, "encrypted; unpack it with unzip")
        }
        error => error.into(),
    })
}

fn attributes(entry: &ZipFile<'_, Input>, tree: &Tree) -> Attributes {
    let told = entry.external_attributes();
    let is_directory = entry.name_raw().ends_with(b"/") || told & DOS[0] != 0;
    let has_mode = matches!(entry.system(), System::Unix | System::OsDarwin);
    let unix = Some(told >> 16).filter(|mode| *mode != 0 && has_mode);
    let plain = if told & DOS[1] != 0 { 0o555 } else { 0o755 };
    let mode = match (unix, is_directory) {
        (Some(mode), true) => libc::S_IFDIR | mode & 0o7777,
        (Some(mode), false) if mode & libc::S_IFMT == 0 => libc::S_IFREG | mode & 0o7777,
        (Some(mode), false) => mode,
        (None, true) => libc::S_IFDIR | plain,
        (None, false) => libc::S_IFREG | plain & 0o666,
    };
    let [uid, gid] = owner(entry).unwrap_or(tree.defaults.owner);
    let time = modified(entry).unwrap_or(tree.defaults.time);
    let size = entry.size();
    Attributes {
        mode,
        uid,
        gid,
        size,
        atime: time,
        mtime: time,
        ctime: time,
        ..Attributes::default()
    }
}

/// The user and the group of a member: a version, then each number with its length.
fn owner(entry: &ZipFile<'_, Input>) -> Option<[u32; 2]> {
    let data = entry.extra_data_fields().find_map(|field| match field {
        ExtraField::Custom(field) if field.header_id == UNIX => Some(&*field.data),
        _ => None,
    })?;
    let number = |bytes: &[u8]| {
        let (length, rest) = bytes.split_first()?;
        let bytes = rest.get(..usize::from(*length)).filter(|bytes| bytes.len() <= 4)?;
        Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    };
    let rest = data.strip_prefix(b"\x01")?;
    let uid = number(rest)?;
    let gid = number(rest.get(1 + usize::from(rest[0])..)?)?;
    Some([uid, gid])
}

/// When a member was changed last: to the second where that is told, else as MS-DOS has it, which is taken
/// for universal time.
fn modified(entry: &ZipFile<'_, Input>) -> Option<Time> {
    let exact = entry.extra_data_fields().find_map(|field| match field {
        ExtraField::ExtendedTimestamp(times) => times.mod_time(),
        _ => None,
    });
    if let Some(seconds) = exact {
        return Some(Time { seconds: i64::from(seconds.cast_signed()), nanos: 0 });
    }
    let time = entry.last_modified()?;
    let number = |value: u16| i64::from(value);
    let (year, month) = (number(time.year()), i64::from(time.month()));
    // Days since the epoch, with years that begin in March: leap days come at their ends.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100
        + year / 400
        + (153 * month + 2) / 5
        + i64::from(time.day())
        - 719_469;
    let seconds = ((days * 24 + i64::from(time.hour())) * 60 + i64::from(time.minute())) * 60;
    Some(Time { seconds: seconds + i64::from(time.second()), nanos: 0 })
}
