//! A transaction: into the journal, and home.

use umvu_abi::{Errno, files::Backing};

use super::{
    Journal,
    format::{COMMIT, DESCRIPTOR, ESCAPED, LAST_TAG, SAME_UUID, Tag, begin, looks_like_ours, put},
};
use crate::vufuse::ext2::cache::Written;

impl Journal {
    /// Takes the image from one state to the next. `batch` is in the order of its numbers. What is more
    /// than the journal takes goes in several steps. Errors: `EIO`, `ENOSPC` of the image.
    pub(in super::super) fn commit(
        &mut self,
        image: &dyn Backing,
        batch: &[Written],
    ) -> Result<(), Errno> {
        batch.chunks(self.capacity().max(1)).try_for_each(|part| self.transaction(image, part))
    }

    fn transaction(&mut self, image: &dyn Backing, batch: &[Written]) -> Result<(), Errno> {
        let sequence = self.header.sequence().max(1);
        self.log(image, batch, sequence)?;
        // Each step is lasting before the next.
        image.flush()?;
        self.header.set(image, &self.place, sequence, self.header.first())?;
        image.flush()?;
        write_home(image, batch, self.place.block)?;
        image.flush()?;
        self.header.set(image, &self.place, sequence.wrapping_add(1), 0)
    }

    /// Writes the log: descriptors with what they describe, and the end.
    fn log(&self, image: &dyn Backing, batch: &[Written], sequence: u32) -> Result<(), Errno> {
        let size = self.place.block;
        let mut number = self.header.first();
        for part in batch.chunks(self.header.tags_in(size).max(1)) {
            let mut tags = Vec::with_capacity(part.len());
            let described = number;
            for (at, (block, data)) in part.iter().enumerate() {
                let mut flags = if at == 0 { 0 } else { SAME_UUID };
                flags |= if at + 1 == part.len() { LAST_TAG } else { 0 };
                let mut data = data.to_vec();
                if looks_like_ours(&data) {
                    put(&mut data, 0, 0);
                    flags |= ESCAPED;
                }
                number += 1;
                image.write_at(self.place.at(number)?, &data)?;
                tags.push(Tag {
                    block: *block,
                    flags,
                    checksum: self.header.tag_checksum(sequence, &data),
                });
            }
            let mut descriptor = begin(size, DESCRIPTOR, sequence);
            self.header.put_tags(&mut descriptor, &tags);
            if self.header.has_checksums() {
                let checksum = self.header.block_checksum(&descriptor, size - 4);
                put(&mut descriptor, size - 4, checksum);
            }
            image.write_at(self.place.at(described)?, &descriptor)?;
            number += 1;
        }
        let mut end = begin(size, COMMIT, sequence);
        if self.header.has_checksums() {
            let checksum = self.header.block_checksum(&end, 16);
            put(&mut end, 16, checksum);
        }
        image.write_at(self.place.at(number)?, &end)
    }
}

/// How much is written at once.
const RUN: usize = 1 << 20;

/// Writes blocks to where they belong, neighbours at once. Errors: `EIO`, `ENOSPC`.
pub(in super::super) fn write_home(
    image: &dyn Backing,
    batch: &[Written],
    size: usize,
) -> Result<(), Errno> {
    let mut run: Vec<u8> = Vec::new();
    let mut start = 0;
    for (number, data) in batch {
        if !run.is_empty()
            && (start * size as u64 + run.len() as u64 != number * size as u64 || run.len() >= RUN)
        {
            image.write_at(start * size as u64, &run)?;
            run.clear();
        }
        if run.is_empty() {
            start = *number;
        }
        run.extend_from_slice(data);
    }
    if run.is_empty() { Ok(()) } else { image.write_at(start * size as u64, &run) }
}
