//! 7z archives. Their units are the blocks, of which a solid archive has few large ones.

use std::io::{self, Write};

use sevenz_rust2::{Archive, ArchiveEntry, BlockDecoder, Error, Password};
use umvu_abi::files::{Attributes, Time};

use super::{
    content::Content,
    input::{Input, Place},
    tree::{Inode, Tree},
};

/// How much memory a decoder may ask for, in KiB.
const MEMORY: usize = 512 << 10;
/// The bits of Windows that say that a file is a directory, or must not be written to, and that of 7-Zip
/// that says that a mode is in the upper half.
const BITS: [u32; 3] = [0x10, 0x01, 0x8000];
/// The epoch, in units of 100 ns since the beginning of 1601.
const EPOCH: i64 = 116_444_736_000_000_000;

/// An archive.
#[derive(Debug)]
pub(super) struct Seven {
    archive: Archive,
    input: Input,
    /// How many members are encrypted.
    pub(super) encrypted: usize,
}

impl Seven {
    /// Reads the directory of an archive. Errors: why that fails.
    pub(super) fn new(place: Place) -> io::Result<Self> {
        let mut input = Input::new(place)?;
        let archive = Archive::read_with_memory_limit(&mut input, &Password::empty(), MEMORY);
        let archive = archive.map_err(|error| wrong(&error))?;
        Ok(Self { archive, input, encrypted: 0 })
    }

    /// Adds all members. Errors: there is too much in it.
    pub(super) fn read(&mut self, tree: &mut Tree) -> Result<(), String> {
        let mut begins = vec![0_u64; self.archive.blocks.len()];
        for (index, entry) in self.archive.files.iter().enumerate() {
            let block = self.archive.stream_map.file_block_index.get(index).copied().flatten();
            let mut content = Content::default();
            if let (Some(block), true) = (block, entry.has_stream) {
                let begin = begins.get_mut(block).ok_or("a block is missing")?;
                let end = begin.checked_add(entry.size).filter(|end| i64::try_from(*end).is_ok());
                content = Content::whole(Some(block), *begin, entry.size);
                *begin = end.ok_or("a member is too large")?;
            }
            if self.archive.is_file_encrypted(index) {
                self.encrypted += 1;
            }
            if entry.is_anti_item {
                continue;
            }
            let attributes = attributes(entry, tree);
            tree.add(entry.name.as_bytes(), Inode::stored(attributes, content))?;
        }
        Ok(())
    }

    /// Unpacks a block. Errors: `PermissionDenied` for one that is encrypted, those of reading and writing.
    pub(super) fn unpack(&self, block: usize, out: &mut dyn Write) -> io::Result<()> {
        let (mut input, password) = (self.input.clone(), Password::empty());
        let decoder = BlockDecoder::new_with_memory_limit(
            1,
            MEMORY,
            block,
            &self.archive,
            &password,
            &mut input,
        );
        let mut failed = None;
        let done = decoder.for_each_entries(&mut |_, from| match io::copy(from, out) {
            Ok(_) => Ok(true),
            Err(error) => {
                failed = Some(error);
                Ok(false)
            }
        });
        match (failed, done) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(wrong(&error)),
            (None, Ok(_)) => Ok(()),
        }
    }
}

fn wrong(error: &Error) -> io::Error {
    match error {
        Error::UnsupportedCompressionMethod(method) if method.contains("AES") => {
            io::Error::new(io::ErrorKind::PermissionDenied, "encrypted; unpack it with 7z x")
        }
        error => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    }
}

fn attributes(entry: &ArchiveEntry, tree: &Tree) -> Attributes {
    let told = if entry.has_windows_attributes { entry.windows_attributes } else { 0 };
    let is_directory = entry.is_directory || told & BITS[0] != 0;
    let plain = if told & BITS[1] != 0 { 0o555 } else { 0o755 };
    let unix = Some(told >> 16).filter(|mode| told & BITS[2] != 0 && *mode != 0);
    let mode = match (unix, is_directory) {
        (Some(mode), true) => libc::S_IFDIR | mode & 0o7777,
        (Some(mode), false) if mode & libc::S_IFMT == 0 => libc::S_IFREG | mode & 0o7777,
        (Some(mode), false) => mode,
        (None, true) => libc::S_IFDIR | plain,
        (None, false) => libc::S_IFREG | plain & 0o666,
    };
    let time = |has: bool, time: sevenz_rust2::NtTime| {
        let since = i64::try_from(u64::from(time)).ok().filter(|_| has)? - EPOCH;
        let nanos = u32::try_from(since.rem_euclid(10_000_000)).ok()? * 100;
        Some(Time { seconds: since.div_euclid(10_000_000), nanos })
    };
    let mtime = time(entry.has_last_modified_date, entry.last_modified_date);
    let mtime = mtime.unwrap_or(tree.defaults.time);
    let [uid, gid] = tree.defaults.owner;
    Attributes {
        mode,
        uid,
        gid,
        size: entry.size,
        atime: time(entry.has_access_date, entry.access_date).unwrap_or(mtime),
        mtime,
        ctime: mtime,
        ..Attributes::default()
    }
}
