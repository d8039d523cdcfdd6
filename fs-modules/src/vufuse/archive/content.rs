//! The content of a member: runs of bytes in the image or in a unit, with holes between them.

use umvu_abi::{Errno, files::Seek};

use super::{input::Place, units::Units};

/// Bytes that are together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Where in the file.
    pub(super) at: u64,
    /// Where in the image, or in the unit.
    pub(super) start: u64,
    pub(super) length: u64,
}

/// The content of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// What has to be unpacked; None for bytes of the image.
    pub(super) unit: Option<usize>,
    /// In order; what is in none reads as zeros.
    pub(super) runs: Box<[Run]>,
}

impl Content {
    /// Bytes that are together, of an archive as it was unpacked.
    pub(super) fn whole(unit: Option<usize>, start: u64, length: u64) -> Self {
        let run = Run { at: 0, start, length };
        Self { unit, runs: if length > 0 { Box::new([run]) } else { Box::default() } }
    }

    fn place(&self, units: &Units) -> Result<(Place, u64), Errno> {
        match self.unit {
            Some(unit) if !self.runs.is_empty() => units.get(unit),
            _ => Ok((units.image(), 0)),
        }
    }

    /// Has everything unpacked that is needed to read. Errors: `EIO`, `ENOSPC`, `EACCES`.
    pub(super) fn prepare(&self, units: &Units) -> Result<(), Errno> {
        self.place(units).map(|_| ())
    }

    /// Reads a part of a file of a size. Errors: as [`Content::prepare`].
    pub(super) fn read(
        &self,
        units: &Units,
        size: u64,
        at: u64,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        let rest = usize::try_from(size.saturating_sub(at)).unwrap_or(usize::MAX);
        let count = rest.min(buffer.len());
        let buffer = &mut buffer[..count];
        buffer.fill(0);
        let (place, base) = self.place(units)?;
        let end = at + count as u64;
        let first = self.runs.partition_point(|run| run.at + run.length <= at);
        for run in self.runs[first..].iter().take_while(|run| run.at < end) {
            let (from, to) = (run.at.max(at), (run.at + run.length).min(end));
            let index = |at: u64| usize::try_from(at).map_err(|_| Errno::EIO);
            let part = &mut buffer[index(from - at)?..index(to - at)?];
            place.fill(base + run.start + (from - run.at), part)?;
        }
        Ok(count)
    }

    /// Where data or a hole begins, from a place before the end of a file on.
    pub(super) fn next(&self, at: u64, size: u64, what: Seek) -> Option<u64> {
        let mut from = at;
        for run in &self.runs {
            let end = run.at + run.length;
            match what {
                Seek::Data if end > at => return Some(run.at.max(at)),
                Seek::Hole if run.at <= from && end > from => from = end,
                _ => {}
            }
        }
        (what == Seek::Hole).then_some(from.min(size))
    }
}
