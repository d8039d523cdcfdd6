//! What a whole archive is compressed by, known by how it begins.

use std::io::{self, BufReader, Read, Write};

use flate2::{Compression, bufread::MultiGzDecoder, write::GzEncoder};
use lzma_rust2::{
    LzipOptions, LzipReader, LzipWriter, LzmaOptions, LzmaReader, LzmaWriter, XzOptions, XzReader,
    XzWriter,
};

/// How much memory a dictionary may ask for, in KiB: those of `xz -9` and `zstd --ultra --long` are smaller.
const MEMORY: u32 = 256 << 10;
/// How much xz, lzip and lzma try: what their programs do by themselves.
const PRESET: u32 = 6;
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

/// Something that compresses what is written to it.
pub(super) enum Packer<W: Write> {
    Plain(W),
    Gzip(GzEncoder<W>),
    Bzip2(bzip2::write::BzEncoder<W>),
    Xz(Box<XzWriter<W>>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
    Lz4(Box<lz4_flex::frame::FrameEncoder<W>>),
    Lzip(Box<LzipWriter<W>>),
    Lzma(Box<LzmaWriter<W>>),
}

impl<W: Write> Packer<W> {
    /// Compresses as the program of a compressor does by itself. Errors: those of writing.
    pub(super) fn new(filter: Option<Filter>, into: W) -> io::Result<Self> {
        Ok(match filter {
            None => Self::Plain(into),
            Some(Filter::Gzip) => Self::Gzip(GzEncoder::new(into, Compression::default())),
            Some(Filter::Bzip2) => {
                Self::Bzip2(bzip2::write::BzEncoder::new(into, bzip2::Compression::best()))
            }
            Some(Filter::Xz) => {
                Self::Xz(Box::new(XzWriter::new(into, XzOptions::with_preset(PRESET))?))
            }
            Some(Filter::Zstd) => Self::Zstd(zstd::stream::write::Encoder::new(into, 0)?),
            Some(Filter::Lz4) => Self::Lz4(Box::new(lz4_flex::frame::FrameEncoder::new(into))),
            Some(Filter::Lzip) => {
                Self::Lzip(Box::new(LzipWriter::new(into, LzipOptions::with_preset(PRESET))))
            }
            Some(Filter::Lzma) => {
                let options = LzmaOptions::with_preset(PRESET);
                Self::Lzma(Box::new(LzmaWriter::new_use_header(into, &options, None)?))
            }
        })
    }

    /// Writes the end; returns what it wrote to. Errors: those of writing.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(into) => Ok(into),
            Self::Gzip(packer) => packer.finish(),
            Self::Bzip2(packer) => packer.finish(),
            Self::Xz(packer) => packer.finish(),
            Self::Zstd(packer) => packer.finish(),
            Self::Lz4(packer) => packer.finish().map_err(io::Error::other),
            Self::Lzip(packer) => packer.finish(),
            Self::Lzma(packer) => packer.finish(),
        }
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(into) => into.write(bytes),
            Self::Gzip(packer) => packer.write(bytes),
            Self::Bzip2(packer) => packer.write(bytes),
            Self::Xz(packer) => packer.write(bytes),
            Self::Zstd(packer) => packer.write(bytes),
            Self::Lz4(packer) => packer.write(bytes),
            Self::Lzip(packer) => packer.write(bytes),
            Self::Lzma(packer) => packer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether what is in a compressed stream is compressed once more. Errors: those of reading.
pub(super) fn is_twofold(filter: Filter, from: impl Read + 'static) -> io::Result<bool> {
    let mut head = Vec::new();
    filter.over(Box::new(from))?.take(8).read_to_end(&mut head)?;
    Ok(Filter::of(&head).is_some())
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
