//! The compressors of squashfs, by their number in the super block.

use std::io::Read;

use flate2::{Decompress, FlushDecompress, Status};
use lzma_rust2::{LzmaReader, XzReader};
use parking_lot::Mutex;
use umvu_abi::Errno;
use zstd::bulk::Decompressor;

use super::lzo;

/// How much memory an xz or lzma block may ask for, in KiB: mksquashfs writes dictionaries of the size of a
/// block, of at most 1 MiB.
const MEMORY: u32 = 16 << 10;

/// A way to compress blocks, with states that are ready to be used again.
pub(super) enum Codec {
    Gzip(Mutex<Vec<Decompress>>),
    Lzma,
    Lzo,
    Xz,
    Lz4,
    Zstd(Mutex<Vec<Decompressor<'static>>>),
}

impl Codec {
    /// The compressor of a number; None for an unknown one.
    pub(super) fn of(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Gzip(Mutex::default()),
            2 => Self::Lzma,
            3 => Self::Lzo,
            4 => Self::Xz,
            5 => Self::Lz4,
            6 => Self::Zstd(Mutex::default()),
            _ => return None,
        })
    }

    /// Unpacks a block; returns its length. Errors: `EIO`, also for one that is longer than `out`.
    pub(super) fn unpack(&self, packed: &[u8], out: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Gzip(states) => {
                let mut state = states.lock().pop().unwrap_or_else(|| Decompress::new(true));
                state.reset(true);
                let done = state.decompress(packed, out, FlushDecompress::Finish);
                let length = usize::try_from(state.total_out()).map_err(|_| Errno::EIO)?;
                states.lock().push(state);
                if matches!(done, Ok(Status::StreamEnd)) { Ok(length) } else { Err(Errno::EIO) }
            }
            Self::Zstd(states) => {
                let kept = states.lock().pop();
                let mut state = kept.map_or_else(Decompressor::new, Ok).map_err(|_| Errno::EIO)?;
                let done = state.decompress_to_buffer(packed, out);
                states.lock().push(state);
                done.map_err(|_| Errno::EIO)
            }
            Self::Lz4 => lz4_flex::block::decompress_into(packed, out).map_err(|_| Errno::EIO),
            Self::Lzo => lzo::unpack(packed, out).ok_or(Errno::EIO),
            Self::Xz => fill(XzReader::new_mem_limit(packed, false, MEMORY), out),
            Self::Lzma => {
                let reader = LzmaReader::new_mem_limit(packed, MEMORY, None);
                fill(reader.map_err(|_| Errno::EIO)?, out)
            }
        }
    }
}

/// Reads to the end, which must come in time.
fn fill(mut from: impl Read, out: &mut [u8]) -> Result<usize, Errno> {
    let mut done = 0;
    while done < out.len() {
        match from.read(&mut out[done..]) {
            Ok(0) => return Ok(done),
            Ok(count) => done += count,
            Err(_) => return Err(Errno::EIO),
        }
    }
    match from.read(&mut [0]) {
        Ok(0) => Ok(done),
        _ => Err(Errno::EIO),
    }
}
