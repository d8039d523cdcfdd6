//! What a whole archive is compressed by, known by how it begins.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::{LzipReader, LzmaReader, XzReader};

/// How much memory a dictionary may ask for, in KiB: those of `xz -9` and `zstd --ultra --long` are smaller.
const MEMORY: u32 = 256 << 10;
/// How many times something may be compressed.
const LAYERS: usize = 4;

/// A compressor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    Gzip,
    Bzip2,
    Xz,
    Zstd,
    Lz4,
    Lzip,
    Lzma,
}

impl Filter {
    /// What begins so.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        let begins: [(&[u8], Self); 7] = [
            (b"\x1f\x8b\x08", Self::Gzip),
            (b"BZh", Self::Bzip2),
            (b"\xfd7zXZ\0", Self::Xz),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
            (b"\x04\x22\x4d\x18", Self::Lz4),
            (b"LZIP\x01", Self::Lzip),
            (b"\x5d\0\0", Self::Lzma),
        ];
        begins.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, filter)| *filter)
    }

    /// Unpacks what is read. Errors: those of reading.
    fn over(self, from: Box<dyn Read>) -> io::Result<Box<dyn Read>> {
        let from = BufReader::with_capacity(1 << 18, from);
        Ok(match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(from)),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(from)),
            Self::Xz => Box::new(XzReader::new_mem_limit(from, true, MEMORY)),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(from)?),
            Self::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(from)),
            Self::Lzip => Box::new(LzipReader::new(from)),
            Self::Lzma => Box::new(LzmaReader::new_mem_limit(from, MEMORY, None)?),
        })
    }
}

/// Unpacks through every layer, until what is read is no longer compressed. Errors: those of reading.
pub(super) fn unpacked(from: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    let mut from: Box<dyn Read> = Box::new(from);
    for _ in 0..LAYERS {
        let mut head = Vec::new();
        from.by_ref().take(8).read_to_end(&mut head)?;
        let filter = Filter::of(&head);
        from = Box::new(io::Cursor::new(head).chain(from));
        match filter {
            Some(filter) => from = filter.over(from)?,
            None => break,
        }
    }
    Ok(from)
}
