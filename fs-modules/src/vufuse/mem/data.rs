//! The data of a file, in pages: what was never written takes no room.

use std::collections::BTreeMap;

use umvu_abi::files::Seek;

pub(super) const PAGE: usize = 4096;

/// The content of a file.
#[derive(Debug, Default)]
pub(super) struct Data {
    size: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
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
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// In units of 512 bytes.
    pub(super) fn blocks(&self) -> u64 {
        self.bytes() / 512
    }

    /// How much room it takes.
    pub(super) fn bytes(&self) -> u64 {
        self.pages.len() as u64 * PAGE as u64
    }

    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) -> usize {
        let rest = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let length = buffer.len().min(rest);
        for (page, inside, done, count) in pieces(at, length) {
            let to = &mut buffer[done..done + count];
            match self.pages.get(&page) {
                Some(page) => to.copy_from_slice(&page[inside..inside + count]),
                None => to.fill(0),
            }
        }
        length
    }

    /// How many new pages a write needs.
    pub(super) fn needed(&self, at: u64, length: usize) -> u64 {
        pieces(at, length).filter(|piece| !self.pages.contains_key(&piece.0)).count() as u64
    }

    pub(super) fn write(&mut self, at: u64, data: &[u8]) {
        for (page, inside, done, count) in pieces(at, data.len()) {
            let page = self.pages.entry(page).or_insert_with(|| Box::new([0; PAGE]));
            page[inside..inside + count].copy_from_slice(&data[done..done + count]);
        }
        self.size = self.size.max(at + data.len() as u64);
    }

    pub(super) fn resize(&mut self, size: u64) {
        if size < self.size {
            self.pages.split_off(&size.div_ceil(PAGE as u64));
            let inside = usize::try_from(size % PAGE as u64).unwrap_or(0);
            if let Some(page) = self.pages.get_mut(&(size / PAGE as u64)) {
                page[inside..].fill(0);
            }
        }
        self.size = size;
    }

    /// Makes a hole; the size stays.
    pub(super) fn punch(&mut self, at: u64, length: u64) {
        let length = usize::try_from(length.min(self.size.saturating_sub(at))).unwrap_or(0);
        for (number, inside, done, count) in pieces(at, length) {
            let reaches_the_end = at + (done + count) as u64 >= self.size;
            let whole = count == PAGE || inside == 0 && reaches_the_end;
            if whole {
                self.pages.remove(&number);
            } else if let Some(page) = self.pages.get_mut(&number) {
                page[inside..inside + count].fill(0);
            }
        }
    }

    /// The next data or hole; None behind the end.
    pub(super) fn seek(&self, at: u64, what: Seek) -> Option<u64> {
        if at >= self.size {
            return None;
        }
        let page = at / PAGE as u64;
        match what {
            Seek::Data => {
                let (found, _) = self.pages.range(page..).next()?;
                let data = (found * PAGE as u64).max(at);
                (data < self.size).then_some(data)
            }
            Seek::Hole => {
                let mut end = page;
                while self.pages.contains_key(&end) {
                    end += 1;
                }
                Some((end * PAGE as u64).max(at).min(self.size))
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
        data.write(10_000, b"end");
        assert_eq!((data.size(), data.bytes()), (10_003, 4096));
        let mut buffer = [7; 20_000];
        assert_eq!(data.read(0, &mut buffer), 10_003);
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
        data.write(0, &[1; 9000]);
        data.resize(5000);
        data.resize(9000);
        let mut buffer = [7; 9000];
        data.read(0, &mut buffer);
        assert_eq!((buffer[4999], buffer[5000], buffer[8999]), (1, 0, 0));
    }

    #[test]
    fn a_hole_can_be_punched() {
        let mut data = Data::default();
        data.write(0, &[1; 3 * PAGE]);
        data.punch(100, 2 * PAGE as u64);
        assert_eq!((data.bytes(), data.size()), (2 * PAGE as u64, 3 * PAGE as u64));
        let mut buffer = [7; 3 * PAGE];
        data.read(0, &mut buffer);
        assert_eq!(
            (buffer[99], buffer[100], buffer[2 * PAGE + 99], buffer[2 * PAGE + 100]),
            (1, 0, 0, 1)
        );
    }
}
