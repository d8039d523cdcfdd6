//! The data of files: it goes between the guests and the image directly, in the blocks that the structures
//! name.

use umvu_abi::{
    Errno,
    files::{Backing, Seek, Time},
};

use super::{
    cache::Cache,
    filsys::{Room, Run},
    inode::{Stamp, flag},
    superblock::{feature, field},
    volume::Volume,
};

/// Why data was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// What belonged to others there is not yet given up for good: commit, and try again.
    Commit,
    /// An error.
    Failed(Errno),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

/// The part of `runs` that is in a range of blocks.
fn within(runs: &[Run], start: u64, end: u64) -> impl Iterator<Item = Run> + '_ {
    let first = runs.partition_point(|run| run.logical + run.length <= start);
    runs[first..].iter().take_while(move |run| run.logical < end).map(move |run| {
        let skip = start.saturating_sub(run.logical);
        let length = (run.logical + run.length).min(end) - run.logical - skip;
        Run { logical: run.logical + skip, physical: run.physical + skip, length, ..*run }
    })
}

/// A range of bytes as positions of a buffer. It never is longer than the buffer.
fn place(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// A file that is worked at.
pub(super) struct Work<'a> {
    pub(super) volume: &'a mut Volume,
    pub(super) cache: &'a Cache,
    pub(super) ino: u32,
}

impl Work<'_> {
    pub(super) fn block(&self) -> u64 {
        self.cache.block() as u64
    }

    pub(super) fn runs(&mut self) -> Result<&[Run], Errno> {
        let known = self.volume.get(self.ino)?;
        if known.runs.is_none() {
            let raw = known.raw.clone();
            let runs = self.volume.fs.runs(self.ino, &raw)?;
            self.volume.get(self.ino)?.runs = Some(runs);
        }
        Ok(self.volume.get(self.ino)?.runs.as_deref().unwrap_or_default())
    }

    /// pread(2). Errors: `EUCLEAN`, `EIO`.
    pub(super) fn read(&mut self, at: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let raw = &self.volume.get(self.ino)?.raw;
        let length = place(raw.size().saturating_sub(at)).min(buffer.len());
        let buffer = &mut buffer[..length];
        if length == 0 {
            return Ok(0);
        }
        if raw.has(flag::INLINE_DATA) {
            return self.volume.fs.read_inline(self.ino, at, buffer);
        }
        let (block, cache) = (self.block(), self.cache);
        let image = cache.image()?;
        let overlays = cache.has_pending();
        buffer.fill(0);
        let end = at + length as u64;
        for run in within(self.runs()?, at / block, end.div_ceil(block)).filter(|run| !run.is_blank)
        {
            let from = (run.logical * block).max(at);
            let to = ((run.logical + run.length) * block).min(end);
            let source = run.physical * block + (from - run.logical * block);
            let part = &mut buffer[place(from - at)..place(to - at)];
            if image.read_at(source, part)? < part.len() {
                return Err(Errno::EIO);
            }
            if overlays {
                patch(cache, source, part);
            }
        }
        Ok(length)
    }

    /// lseek(2) to data or a hole. Errors: `ENXIO`.
    pub(super) fn seek(&mut self, at: u64, what: Seek) -> Result<u64, Errno> {
        let raw = &self.volume.get(self.ino)?.raw;
        let (size, is_inline) = (raw.size(), raw.has(flag::INLINE_DATA));
        if at >= size {
            return Err(Errno::ENXIO);
        }
        let block = self.block();
        let mut end = at;
        let runs = if is_inline { &[][..] } else { self.runs()? };
        for run in runs.iter().filter(|run| !run.is_blank) {
            let (start, stop) = (run.logical * block, (run.logical + run.length) * block);
            match what {
                Seek::Data if stop > at && start < size => return Ok(start.max(at)),
                Seek::Hole if start <= end && stop > end => end = stop,
                _ => {}
            }
        }
        match what {
            Seek::Data if is_inline => Ok(at),
            Seek::Data => Err(Errno::ENXIO),
            Seek::Hole if is_inline => Ok(size),
            Seek::Hole => Ok(end.min(size)),
        }
    }

    /// pwrite(2): some of the data at least. Errors: `ENOSPC`, `EFBIG`, `EIO`.
    pub(super) fn write(&mut self, at: u64, data: &[u8]) -> Result<usize, Refusal> {
        let raw = &self.volume.get(self.ino)?.raw;
        if data.is_empty() {
            return Ok(0);
        }
        let end = at.checked_add(data.len() as u64).ok_or(Errno::EFBIG)?;
        let (size, is_inline) = (raw.size(), raw.has(flag::INLINE_DATA));
        self.check_size(end)?;
        if is_inline {
            let wrote = self.volume.fs.write_inline(self.ino, at, data)?;
            self.volume.reread(self.ino)?;
            return Ok(wrote);
        }
        let wrote = self.write_blocks(at, data, size)?;
        let (now, end) = (Time::now(), size.max(at + wrote as u64));
        self.note_large(end);
        self.volume.change(self.ino, |raw| {
            raw.set_size(end);
            raw.set_time(Stamp::Modify, now);
            raw.set_time(Stamp::Change, now);
        })?;
        Ok(wrote)
    }

    fn write_blocks(&mut self, at: u64, data: &[u8], size: u64) -> Result<usize, Refusal> {
        let block = self.block();
        let (start, end) = (at / block, (at + data.len() as u64).div_ceil(block));
        // What lies behind the old end in its block is not taken for zeros.
        if size < at && !size.is_multiple_of(block) {
            self.zero(size, (size.div_ceil(block) * block).min(at))?;
        }
        let before = self.cache.freed_so_far();
        let mut fresh = self.room(start, end)?;
        let image = self.cache.image()?;
        let runs: Vec<Run> = within(self.runs()?, start, end).collect();
        let stop = runs
            .iter()
            .fold(start, |stop, run| if run.logical == stop { stop + run.length } else { stop });
        if stop == start {
            return Err(Errno::ENOSPC.into());
        }
        // Data that came out of an inode waits to be written where more is to be written now.
        let waits = |run: &Run| {
            self.cache.holds(run.physical, run.length)
                && (0..run.length).any(|at| {
                    fresh.binary_search(&(run.logical + at)).is_err()
                        && self.cache.holds(run.physical + at, 1)
                })
        };
        let may = |run: &Run| !waits(run) && self.cache.gives_way(run.physical, run.length);
        if !runs.iter().all(may) {
            // The room stays; what of it is new has to be known as new again.
            self.give_back(&fresh, before)?;
            return Err(Refusal::Commit);
        }
        let length = data.len().min(place(stop * block - at));
        fresh.retain(|number| *number < stop);
        for run in runs.iter().filter(|run| run.logical < stop) {
            self.write_run(image.as_ref(), run, at, &data[..length], &fresh)?;
        }
        Ok(length)
    }

    /// Writes the part of `data`, which begins at `at`, that is in a run; new blocks get zeros around it.
    fn write_run(
        &self,
        image: &dyn Backing,
        run: &Run,
        at: u64,
        data: &[u8],
        fresh: &[u64],
    ) -> Result<(), Errno> {
        let block = self.block();
        let (first, last) = (run.logical * block, (run.logical + run.length) * block);
        let (from, to) = (first.max(at), last.min(at + data.len() as u64));
        let part = &data[place(from - at)..place(to - at)];
        let is_fresh = |byte: u64| fresh.binary_search(&(byte / block)).is_ok();
        let before = if is_fresh(from) { from % block } else { 0 };
        let behind = if is_fresh(to - 1) { to.next_multiple_of(block) - to } else { 0 };
        let target = run.physical * block + (from - first);
        if before == 0 && behind == 0 {
            return image.write_at(target, part);
        }
        let mut whole = vec![0; place(before)];
        whole.extend_from_slice(part);
        whole.resize(whole.len() + place(behind), 0);
        image.write_at(target - before, &whole)
    }

    /// Has blocks for a range; returns those that have no data yet. As many as there is room for, from the
    /// start, at least one. Errors: `ENOSPC`.
    fn room(&mut self, start: u64, end: u64) -> Result<Vec<u64>, Errno> {
        let mut written = vec![false; place(end - start)];
        let mut blank = Vec::new();
        for run in within(self.runs()?, start, end) {
            for number in run.logical..run.logical + run.length {
                if run.is_blank {
                    blank.push((number, run.physical + (number - run.logical)));
                } else {
                    written[place(number - start)] = true;
                }
            }
        }
        let fresh: Vec<u64> =
            (start..end).filter(|number| !written[place(*number - start)]).collect();
        if fresh.is_empty() {
            return Ok(fresh);
        }
        let before = self.cache.freed_so_far();
        for (number, physical) in &blank {
            self.volume.fs.fill(self.ino, *number, *physical)?;
        }
        let holes = fresh.len() > blank.len();
        let given = if holes { self.give(Room::ForData, start, end - start) } else { Ok(()) };
        self.volume.reread(self.ino)?;
        match given {
            Ok(()) => Ok(fresh),
            Err(Errno::ENOSPC) if end - start > 1 => {
                self.give_back(&fresh, before)?;
                self.room(start, start + (end - start) / 2)
            }
            Err(errno) => {
                self.give_back(&fresh, before)?;
                Err(errno)
            }
        }
    }

    /// Gives blocks to the holes of a range. Errors: `ENOSPC`; some may be there then.
    fn give(&mut self, room: Room, start: u64, count: u64) -> Result<(), Errno> {
        let runs = self.runs()?;
        // Before the first extent of a file the library would fill all up to it.
        let is_before_all = runs.first().is_some_and(|first| first.logical > start);
        if is_before_all {
            self.volume.fs.allocate_one(self.ino, room, start)?;
        }
        self.volume.fs.allocate(self.ino, room, start, count)
    }

    /// Gives blocks back that were taken since `before` ([`Cache::freed_so_far`]) and got no data.
    fn give_back(&mut self, fresh: &[u64], before: usize) -> Result<(), Errno> {
        for run in fresh.chunk_by(|one, next| one + 1 == *next) {
            if let [first, .., last] | [first @ last] = run {
                self.volume.fs.punch(self.ino, *first, *last)?;
            }
        }
        self.cache.freed_for_nothing(before);
        if fresh.is_empty() { Ok(()) } else { self.volume.reread(self.ino) }
    }

    /// Writes zeros where there is data, as far as it is in one block.
    fn zero(&mut self, from: u64, to: u64) -> Result<(), Refusal> {
        let block = self.block();
        if from >= to {
            return Ok(());
        }
        let image = self.cache.image()?;
        let runs: Vec<Run> = within(self.runs()?, from / block, to.div_ceil(block)).collect();
        for run in runs.iter().filter(|run| !run.is_blank) {
            if self.cache.holds(run.physical, run.length)
                || !self.cache.gives_way(run.physical, run.length)
            {
                return Err(Refusal::Commit);
            }
            let zeros = vec![0; place(to - from)];
            image.write_at(run.physical * block + (from - run.logical * block), &zeros)?;
        }
        Ok(())
    }

    /// Zeros at the ends of a range that are in blocks which stay; the whole blocks between.
    fn clear_ends(&mut self, at: u64, end: u64) -> Result<(u64, u64), Refusal> {
        let block = self.block();
        let (first, last) = (at.div_ceil(block), end / block);
        if first > last {
            self.zero(at, end)?;
        } else {
            self.zero(at, first * block)?;
            self.zero(last * block, end)?;
        }
        Ok((first, last))
    }

    /// truncate(2). Errors: `EFBIG`, `EIO`.
    pub(super) fn resize(&mut self, size: u64) -> Result<(), Refusal> {
        self.check_size(size)?;
        let raw = &self.volume.get(self.ino)?.raw;
        let (old, is_inline) = (raw.size(), raw.has(flag::INLINE_DATA));
        if is_inline {
            self.volume.fs.resize_inline(self.ino, size)?;
            self.volume.reread(self.ino)?;
        } else {
            let (block, low) = (self.block(), old.min(size));
            self.zero(low, low.div_ceil(block) * block)?;
            if size < old {
                self.volume.cut(self.ino, size)?;
            }
            self.note_large(size);
        }
        let now = Time::now();
        self.volume.change(self.ino, |raw| {
            raw.set_size(size);
            raw.set_time(Stamp::Modify, now);
            raw.set_time(Stamp::Change, now);
        })?;
        Ok(())
    }

    /// fallocate(2). Errors: `EOPNOTSUPP` for other modes, and for files without extents but for a hole;
    /// `ENOSPC`, `EFBIG`.
    pub(super) fn fallocate(&mut self, mode: i32, at: u64, length: u64) -> Result<(), Refusal> {
        const HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        const ZEROS: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        let end = at.checked_add(length).ok_or(Errno::EFBIG)?;
        let block = self.block();
        let raw = &self.volume.get(self.ino)?.raw;
        let size = raw.size();

        if raw.has(flag::INLINE_DATA) || mode != HOLE && !raw.has(flag::EXTENTS) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        match mode {
            0 | libc::FALLOC_FL_KEEP_SIZE => {}
            HOLE | libc::FALLOC_FL_ZERO_RANGE | ZEROS => {
                let (first, last) = self.clear_ends(at, end)?;
                if first < last {
                    self.volume.fs.punch(self.ino, first, last - 1)?;
                    self.volume.reread(self.ino)?;
                }
            }
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
        if mode != HOLE {
            self.check_size(end)?;
            let (first, last) = (at / block, end.div_ceil(block));
            let given = self.give(Room::Blank, first, last - first);
            self.volume.reread(self.ino)?;
            given?;
            if mode & libc::FALLOC_FL_KEEP_SIZE == 0 && end > size {
                self.note_large(end);
                self.volume.change(self.ino, |raw| raw.set_size(end))?;
            }
        }
        self.volume.touched(self.ino)?;
        Ok(())
    }

    /// Errors: `EFBIG` for a size that a file cannot have.
    fn check_size(&mut self, size: u64) -> Result<(), Errno> {
        let block = self.block();
        let blocks = if self.volume.get(self.ino)?.raw.has(flag::EXTENTS) {
            u64::from(u32::MAX)
        } else {
            let pointers = block / 4;
            let all = 12 + pointers + pointers * pointers + pointers * pointers * pointers;
            // Their count in units of 512 bytes has 32 bits.
            all.min((1 << 41) / block)
        };
        if size > blocks * block { Err(Errno::EFBIG) } else { Ok(()) }
    }

    /// A file beyond 2 GiB is a feature of the file system.
    fn note_large(&mut self, size: u64) {
        let features = self.volume.fs.superblock().u32(field::RO_COMPAT);
        if size > i32::MAX.cast_unsigned().into() && features & feature::LARGE_FILE == 0 {
            let features = features | feature::LARGE_FILE;
            self.volume.fs.set_superblock(field::RO_COMPAT, &features.to_le_bytes());
        }
    }
}

/// Puts over data that was read what waits to be written there.
fn patch(cache: &Cache, at: u64, data: &mut [u8]) {
    let block = cache.block() as u64;
    let end = at + data.len() as u64;
    for number in at / block..end.div_ceil(block) {
        if let Some(pending) = cache.pending(number) {
            let (from, to) = ((number * block).max(at), ((number + 1) * block).min(end));
            let source = &pending[place(from - number * block)..place(to - number * block)];
            data[place(from - at)..place(to - at)].copy_from_slice(source);
        }
    }
}
