//! Rock Ridge (IEEE P1282): names, owners, modes, times, links and devices of Unix, in fields of two
//! letters and a length behind directory records, and elsewhere.

use umvu_abi::{
    Errno,
    files::{Attributes, Backing, Time},
};

use super::{
    record::{Record, long_time, short_time, word},
    volume::{SECTOR, exact},
};

/// How often the fields of one record may go on elsewhere, how long a name and a target may be.
const MANY: usize = 32;
const NAME: usize = 255;
const TARGET: usize = 4096;

/// What the fields say.
#[derive(Debug, Default)]
pub(super) struct Rock {
    pub(super) name: Vec<u8>,
    pub(super) target: Vec<u8>,
    /// Mode, links, owner, group.
    posix: Option<[u32; 4]>,
    device: Option<[u32; 2]>,
    /// Of creation, modification, access, change.
    times: [Option<Time>; 4],
    /// A directory that is elsewhere: its first sector.
    pub(super) child: Option<u32>,
    /// A directory that is shown elsewhere.
    pub(super) is_moved: bool,
    /// A component of the target goes on.
    joins: bool,
}

impl Rock {
    /// Reads the fields of a record. Errors: `EIO`.
    pub(super) fn read(image: &dyn Backing, record: &Record, skip: usize) -> Result<Self, Errno> {
        let mut rock = Self::default();
        let mut area = record.extra.get(skip..).unwrap_or_default().to_vec();
        for _ in 0..MANY {
            let Some([block, offset, length]) = rock.fields(&area)? else { return Ok(rock) };
            if u64::from(length) > SECTOR || u64::from(offset) > SECTOR {
                return Err(Errno::EIO);
            }
            area = vec![0; usize::try_from(length).map_err(|_| Errno::EIO)?];
            exact(image, u64::from(block) * SECTOR + u64::from(offset), &mut area)?;
        }
        Err(Errno::EIO)
    }

    /// Takes the fields of one area; returns where they go on.
    fn fields(&mut self, mut area: &[u8]) -> Result<Option<[u32; 3]>, Errno> {
        let mut more = None;
        while let [first, second, length, _, ..] = *area {
            let length = usize::from(length);
            if first == 0 {
                break;
            }
            if length < 4 || length > area.len() {
                return Err(Errno::EIO);
            }
            let (field, rest) = area.split_at(length);
            area = rest;
            match [first, second] {
                [b'C', b'E'] => more = Some([word(field, 4), word(field, 12), word(field, 20)]),
                [b'S', b'T'] => break,
                [b'P', b'X'] => self.posix = Some([4, 12, 20, 28].map(|at| word(field, at))),
                [b'P', b'N'] => self.device = Some([4, 12].map(|at| word(field, at))),
                [b'N', b'M'] => self.name(field)?,
                [b'S', b'L'] => self.target(field)?,
                [b'T', b'F'] => self.times(field),
                [b'C', b'L'] => self.child = Some(word(field, 4)),
                [b'R', b'E'] => self.is_moved = true,
                _ => {}
            }
        }
        Ok(more)
    }

    fn name(&mut self, field: &[u8]) -> Result<(), Errno> {
        // `.` and `..` are not shown.
        if field.get(4).is_some_and(|flags| flags & 6 == 0) {
            self.name.extend_from_slice(&field[5..]);
        }
        if self.name.len() > NAME { Err(Errno::EIO) } else { Ok(()) }
    }

    fn target(&mut self, field: &[u8]) -> Result<(), Errno> {
        let mut parts = field.get(5..).unwrap_or_default();
        while let [flags, length, rest @ ..] = parts {
            let (text, rest) = rest.split_at_checked(usize::from(*length)).ok_or(Errno::EIO)?;
            parts = rest;
            if !self.joins && !self.target.is_empty() && self.target != b"/" {
                self.target.push(b'/');
            }
            match flags & 14 {
                2 => self.target.push(b'.'),
                4 => self.target.extend_from_slice(b".."),
                8 => self.target = b"/".to_vec(),
                _ => self.target.extend_from_slice(text),
            }
            self.joins = flags & 1 != 0;
        }
        if self.target.len() > TARGET { Err(Errno::EIO) } else { Ok(()) }
    }

    fn times(&mut self, field: &[u8]) {
        let flags = field.get(4).copied().unwrap_or(0);
        let length = if flags & 0x80 == 0 { 7 } else { 17 };
        let mut values = field.get(5..).unwrap_or_default().chunks_exact(length);
        for (bit, time) in self.times.iter_mut().enumerate() {
            if flags & 1 << bit != 0
                && let Some(value) = values.next()
            {
                *time = Some(if length == 7 { short_time(value) } else { long_time(value) });
            }
        }
    }

    /// Puts what they say into what the record has said.
    pub(super) fn apply(&self, to: &mut Attributes) {
        if let Some([mode, nlink, uid, gid]) = self.posix {
            (to.mode, to.nlink, to.uid, to.gid) = (mode & 0o177_777, nlink, uid, gid);
        }
        let [born, modified, accessed, changed] = self.times;
        to.mtime = modified.unwrap_or(to.mtime);
        to.atime = accessed.unwrap_or(to.mtime);
        to.ctime = changed.unwrap_or(to.mtime);
        to.btime = born;
        if to.is_link() {
            to.size = self.target.len() as u64;
        }
        if let Some([high, low]) = self.device
            && matches!(to.kind(), libc::S_IFBLK | libc::S_IFCHR)
        {
            // Some writers put all of a number into the lower half.
            let whole = high == 0 && low > 0xff;
            to.rdev =
                if whole { libc::makedev(low >> 8, low & 0xff) } else { libc::makedev(high, low) };
        }
    }
}
