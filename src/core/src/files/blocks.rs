//! Checksums of a file's blocks, by which is known what of it has changed.

use std::{
    collections::hash_map::DefaultHasher, fs::File, hash::Hasher, io, os::unix::fs::FileExt,
};

use nix::unistd::Whence;
use umvu_abi::Errno;

/// The unit of comparing and writing back, in bytes.
pub(super) const BLOCK: usize = 16 << 10;

/// Never zero, which stands for a hole.
pub(super) fn checksum(block: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(block);
    hasher.finish() | 1
}

/// The checksum of each block of a file, 0 for a hole. Errors: those of reading it.
pub(super) fn of(file: &File) -> Result<Vec<u64>, Errno> {
    let size = file.metadata()?.len();
    let mut blocks = vec![0; usize::try_from(size).unwrap_or(0).div_ceil(BLOCK)];
    each_block(file, size, |index, block| {
        blocks[index] = checksum(block);
        Ok(())
    })?;
    Ok(blocks)
}

/// Follows a change of the file's size to `size` bytes. Errors: those of reading it.
pub(super) fn resize(blocks: &mut Vec<u64>, file: &File, size: u64) -> io::Result<()> {
    let size = usize::try_from(size).unwrap_or(0);
    // The block with the old or the new end is another one; what lies behind is a hole.
    blocks.truncate(blocks.len().saturating_sub(1).min(size / BLOCK));
    let edge = blocks.len();
    blocks.resize(size.div_ceil(BLOCK), 0);
    let Some(known) = blocks.get_mut(edge) else { return Ok(()) };
    let mut block = vec![0; (size - edge * BLOCK).min(BLOCK)];
    file.read_exact_at(&mut block, (edge * BLOCK) as u64)?;
    *known = if block.iter().all(|byte| *byte == 0) { 0 } else { checksum(&block) };
    Ok(())
}

/// Calls for each block that holds data.
pub(super) fn each_block(
    file: &File,
    size: u64,
    mut each: impl FnMut(usize, &[u8]) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    while at < size {
        let whence = Whence::SeekData;
        let data = match nix::unistd::lseek(file, i64::try_from(at).unwrap_or(i64::MAX), whence) {
            Ok(data) => u64::try_from(data).unwrap_or(at),
            Err(nix::Error::ENXIO) => break,
            Err(_) => at,
        };
        let index = usize::try_from(data.max(at)).unwrap_or(0) / BLOCK;
        let start = index as u64 * BLOCK as u64;
        // The file may have grown meanwhile.
        if start >= size {
            break;
        }
        let length = usize::try_from((size - start).min(BLOCK as u64)).unwrap_or(BLOCK);
        let mut got = 0;
        while got < length {
            match file.read_at(&mut block[got..length], start + got as u64)? {
                0 => break,
                count => got += count,
            }
        }
        block[got..length].fill(0);
        each(index, &block[..length])?;
        at = start + BLOCK as u64;
    }
    Ok(())
}
