//! The data of a file, in pages: what was never written takes no room, or is what was there before.

use std::{collections::BTreeMap, fmt, sync::Arc};

use umvu_abi::{Errno, files::Seek};

pub(super) const PAGE: usize = 4096;

/// What a file has where nothing was written.
pub(in crate::vufuse) trait Base: Send + Sync + fmt::Debug {
    /// Reads; short at the end only. Errors: `EIO`.
    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<usize, Errno>;

    /// Where data or a hole begins, from a place before the end on.
    fn next(&self, at: u64, what: Seek) -> Option<u64>;

    /// What of an archive has to be unpacked for it, by number.
    fn unit(&self) -> Option<usize>;
}

/// A base, and up to where it counts.
#[derive(Debug, Clone)]
pub(super) struct Below {
    base: Arc<dyn Base>,
    end: u64,
}

impl Below {
    /// Fills a buffer; what is behind the end is zeros. Errors: `EIO`.
    pub(super) fn fill(&self, at: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        let rest = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let length = rest.min(buffer.len());
        let got = if length > 0 { self.base.read(at, &mut buffer[..length])? } else { 0 };
        if got < length {
            return Err(Errno::EIO);
        }
        buffer[length..].fill(0);
        Ok(())
    }

    fn next(&self, at: u64, what: Seek) -> Option<u64> {
        if at >= self.end {
            return None;
        }
        let found = self.base.next(at, what)?;
        match what {
            Seek::Data => Some(found).filter(|found| *found < self.end),
            Seek::Hole => Some(found.min(self.end)),
        }
    }
}

/// The content of a file.
#[derive(Debug, Default)]
pub(in crate::vufuse) struct Data {
    size: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
    below: Option<Below>,
}

/// The pieces of a range of bytes, page by page: page, offset in it, offset in the range, length.
fn pieces(at: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= length {
            return None;
        }
        let place = at + done as u64;
        let inside = usize::try_from(place % PAGE as u64).unwrap_or(0);
        let piece = (place / PAGE as u64, inside, done, (PAGE - inside).min(length - done));
        done += piece.3;
        Some(piece)
    })
}

impl Data {
    /// What was there before, of a size.
    pub(super) fn over(base: Arc<dyn Base>, size: u64) -> Self {
        Self { size, pages: BTreeMap::new(), below: Some(Below { base, end: size }) }
    }

    pub(in crate::vufuse) fn size(&self) -> u64 {
        self.size
    }

    /// What was there before, if there was something.
    pub(in crate::vufuse) fn base(&self) -> Option<&Arc<dyn Base>> {
        self.below.as_ref().map(|below| &below.base)
    }

    /// In units of 512 bytes.
    pub(super) fn blocks(&self) -> u64 {
        let below = self.below.as_ref().map_or(0, |below| below.end.div_ceil(512));
        (self.bytes() / 512).max(below)
    }

    /// How much room it takes.
    pub(super) fn bytes(&self) -> u64 {
        self.pages.len() as u64 * PAGE as u64
    }

    /// All of it, as long as nothing was written.
    pub(super) fn untouched(&self) -> Option<&Below> {
        self.below.as_ref().filter(|_| self.pages.is_empty())
    }

    /// Reads; short at the end only. Errors: `EIO`.
    pub(in crate::vufuse) fn read(&self, at: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let rest = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let length = buffer.len().min(rest);
        match &self.below {
            Some(below) => below.fill(at, &mut buffer[..length])?,
            None => buffer[..length].fill(0),
        }
        for (page, inside, done, count) in pieces(at, length) {
            if let Some(page) = self.pages.get(&page) {
                buffer[done..done + count].copy_from_slice(&page[inside..inside + count]);
            }
        }
        Ok(length)
    }

    /// A page as it is, to change it. Errors: `EIO`.
    fn page(&mut self, number: u64) -> Result<&mut [u8; PAGE], Errno> {
        if !self.pages.contains_key(&number) {
            let mut page = Box::new([0; PAGE]);
            if let Some(below) = &self.below {
                below.fill(number * PAGE as u64, &mut *page)?;
            }
            self.pages.insert(number, page);
        }
        self.pages.get_mut(&number).map(|page| &mut **page).ok_or(Errno::EIO)
    }

    fn is_below(&self, page: u64) -> bool {
        self.below.as_ref().is_some_and(|below| page * (PAGE as u64) < below.end)
    }

    /// How many new pages a write needs.
    pub(super) fn needed(&self, at: u64, length: usize) -> u64 {
        pieces(at, length).filter(|piece| !self.pages.contains_key(&piece.0)).count() as u64
    }

    /// Writes. Errors: `EIO` when what was there before cannot be read.
    pub(super) fn write(&mut self, at: u64, data: &[u8]) -> Result<(), Errno> {
        for (number, inside, done, count) in pieces(at, data.len()) {
            let page = if count == PAGE {
                self.pages.entry(number).or_insert_with(|| Box::new([0; PAGE]))
            } else {
                self.page(number)?
            };
            page[inside..inside + count].copy_from_slice(&data[done..done + count]);
        }
        self.size = self.size.max(at + data.len() as u64);
        Ok(())
    }

    pub(super) fn resize(&mut self, size: u64) {
        if size < self.size {
            self.pages.split_off(&size.div_ceil(PAGE as u64));
            let inside = usize::try_from(size % PAGE as u64).unwrap_or(0);
            if let Some(page) = self.pages.get_mut(&(size / PAGE as u64)) {
                page[inside..].fill(0);
            }
            if let Some(below) = &mut self.below {
                below.end = below.end.min(size);
            }
        }
        self.size = size;
    }

    /// Makes a hole; the size stays. Errors: as [`Data::write`].
    pub(super) fn punch(&mut self, at: u64, length: u64) -> Result<(), Errno> {
        let length = usize::try_from(length.min(self.size.saturating_sub(at))).unwrap_or(0);
        for (number, inside, done, count) in pieces(at, length) {
            let reaches_the_end = at + (done + count) as u64 >= self.size;
            let whole = count == PAGE || inside == 0 && reaches_the_end;
            if whole && !self.is_below(number) {
                self.pages.remove(&number);
            } else if self.is_below(number) || self.pages.contains_key(&number) {
                self.page(number)?[inside..inside + count].fill(0);
            }
        }
        Ok(())
    }

    /// The next data or hole; None behind the end.
    pub(in crate::vufuse) fn seek(&self, at: u64, what: Seek) -> Option<u64> {
        if at >= self.size {
            return None;
        }
        let page = at / PAGE as u64;
        let below = |at| self.below.as_ref().and_then(|below| below.next(at, what));
        match what {
            Seek::Data => {
                let page = self.pages.range(page..).next();
                let written = page.map(|(page, _)| (page * PAGE as u64).max(at));
                let data = [written, below(at)].into_iter().flatten().min()?;
                (data < self.size).then_some(data)
            }
            Seek::Hole => {
                let mut end = at;
                loop {
                    let page = end / PAGE as u64;
                    end = match below(end) {
                        _ if self.pages.contains_key(&page) => (page + 1) * PAGE as u64,
                        Some(hole) if hole > end => hole,
                        _ => return Some(end.min(self.size)),
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_read_as_zeros_and_take_no_room() {
        let mut data = Data::default();
        data.write(10_000, b"end").expect("written");
        assert_eq!((data.size(), data.bytes()), (10_003, 4096));
        let mut buffer = [7; 20_000];
        assert_eq!(data.read(0, &mut buffer), Ok(10_003));
        assert_eq!((buffer[0], &buffer[10_000..10_003]), (0, &b"end"[..]));
        assert_eq!((data.seek(0, Seek::Data), data.seek(0, Seek::Hole)), (Some(8192), Some(0)));
        assert_eq!(
            (data.seek(9000, Seek::Hole), data.seek(10_003, Seek::Data)),
            (Some(10_003), None)
        );
    }

    #[test]
    fn what_was_cut_off_does_not_come_back() {
        let mut data = Data::default();
        data.write(0, &[1; 9000]).expect("written");
        data.resize(5000);
        data.resize(9000);
        let mut buffer = [7; 9000];
        data.read(0, &mut buffer).expect("read");
        assert_eq!((buffer[4999], buffer[5000], buffer[8999]), (1, 0, 0));
    }

    #[test]
    fn a_hole_can_be_punched() {
        let mut data = Data::default();
        data.write(0, &[1; 3 * PAGE]).expect("written");
        data.punch(100, 2 * PAGE as u64).expect("punched");
        assert_eq!((data.bytes(), data.size()), (2 * PAGE as u64, 3 * PAGE as u64));
        let mut buffer = [7; 3 * PAGE];
        data.read(0, &mut buffer).expect("read");
        assert_eq!(
            (buffer[99], buffer[100], buffer[2 * PAGE + 99], buffer[2 * PAGE + 100]),
            (1, 0, 0, 1)
        );
    }

    /// Ones, with a hole from 8192 to 16384.
    #[derive(Debug)]
    struct Ones(u64);

    impl Base for Ones {
        fn read(&self, at: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
            for (at, byte) in (at..).zip(buffer.iter_mut()) {
                *byte = u8::from(!(8192..16384).contains(&at));
            }
            Ok(buffer.len().min(usize::try_from(self.0 - at).expect("inside")))
        }

        fn next(&self, at: u64, what: Seek) -> Option<u64> {
            match (what, (8192..16384).contains(&at)) {
                (Seek::Data, true) => Some(16384),
                (Seek::Data, false) | (Seek::Hole, true) => Some(at),
                (Seek::Hole, false) if at < 8192 => Some(8192),
                (Seek::Hole, false) => Some(self.0),
            }
        }

        fn unit(&self) -> Option<usize> {
            None
        }
    }

    #[test]
    fn what_was_there_before_shows_where_nothing_was_written() {
        let mut data = Data::over(Arc::new(Ones(20_000)), 20_000);
        assert!(data.untouched().is_some());
        data.write(5000, b"new").expect("written");
        data.write(10_000, b"x").expect("written");
        let mut buffer = vec![7; 20_000];
        assert_eq!(data.read(0, &mut buffer), Ok(20_000));
        assert_eq!((buffer[4999], &buffer[5000..5003], buffer[5003]), (1, &b"new"[..], 1));
        assert_eq!((buffer[9999], buffer[10_000], buffer[10_001], buffer[16_384]), (0, b'x', 0, 1));
        assert_eq!(
            (data.seek(0, Seek::Hole), data.seek(12_288, Seek::Data)),
            (Some(12_288), Some(16_384))
        );
        data.punch(0, 4096).expect("punched");
        data.resize(6000);
        data.resize(20_000);
        assert_eq!(data.read(0, &mut buffer), Ok(20_000));
        assert_eq!(
            (buffer[0], buffer[4999], buffer[5999], buffer[6000], buffer[19_999]),
            (0, 1, 1, 0, 0)
        );
        assert_eq!(data.seek(8192, Seek::Data), None);
    }
}
