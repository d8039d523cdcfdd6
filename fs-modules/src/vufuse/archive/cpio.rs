//! cpio archives, of the formats `newc`, `crc` and `odc`, as in initramfs images.

use std::collections::HashMap;

use umvu_abi::files::{Attributes, Time};

use super::{
    content::Content,
    input::Place,
    tree::{Body, Inode, Target, Tree},
};

/// How long a name may be.
const LONGEST: u64 = 1 << 16;

/// Where a format has its numbers.
struct Format {
    magic: &'static [u8],
    /// Digits of a number, or None where they differ.
    radix: u32,
    header: usize,
    align: u64,
    /// ino, mode, uid, gid, nlink, mtime, size, major, minor, name: where, and how long.
    fields: [(usize, usize); 10],
    /// The device that a file is on.
    device: (usize, usize),
}

const fn newc(at: usize) -> (usize, usize) {
    (6 + 8 * at, 8)
}

const NEWC: Format = Format {
    magic: b"070701",
    radix: 16,
    header: 110,
    align: 4,
    fields: [
        newc(0),
        newc(1),
        newc(2),
        newc(3),
        newc(4),
        newc(5),
        newc(6),
        newc(9),
        newc(10),
        newc(11),
    ],
    device: (6 + 8 * 7, 16),
};
const CRC: Format = Format { magic: b"070702", ..NEWC };
const ODC: Format = Format {
    magic: b"070707",
    radix: 8,
    header: 76,
    align: 1,
    fields: [
        (12, 6),
        (18, 6),
        (24, 6),
        (30, 6),
        (36, 6),
        (48, 11),
        (65, 11),
        (42, 6),
        (42, 0),
        (59, 6),
    ],
    device: (6, 6),
};

/// Whether a place begins with a member.
pub(super) fn begins(place: &Place) -> bool {
    let mut magic = [0; 6];
    place.fill(0, &mut magic).is_ok() && format(&magic).is_some()
}

fn format(magic: &[u8]) -> Option<&'static Format> {
    [&NEWC, &CRC, &ODC].into_iter().find(|format| magic.starts_with(format.magic))
}

/// Adds all members. Returns what is wrong with the archive behind those that were added. Errors: there is
/// too much in it.
pub(super) fn read(
    place: &Place,
    unit: Option<usize>,
    tree: &mut Tree,
) -> Result<Option<String>, String> {
    let mut links = HashMap::new();
    let mut at = 0;
    loop {
        let Some(member) = Member::read(place, at) else {
            return Ok(Some(format!("damaged or cut off at byte {at}")));
        };
        if member.name == b"TRAILER!!!" {
            return Ok(None);
        }
        at = member.next;
        member.add(place, unit, tree, &mut links)?;
    }
}

struct Member {
    ino: u64,
    device: u64,
    links: u64,
    name: Vec<u8>,
    attributes: Attributes,
    start: u64,
    next: u64,
}

impl Member {
    /// None for what is none.
    fn read(place: &Place, at: u64) -> Option<Self> {
        let mut header = [0; 110];
        place.fill(at, &mut header[..6]).ok()?;
        let format = format(&header)?;
        place.fill(at, &mut header[..format.header]).ok()?;
        let number = |(at, length): (usize, usize)| match length {
            0 => Some(0),
            _ => {
                let text = std::str::from_utf8(&header[at..at + length]).ok()?;
                u64::from_str_radix(text, format.radix).ok()
            }
        };
        let mut numbers = [0; 10];
        for (value, field) in numbers.iter_mut().zip(format.fields) {
            *value = number(field)?;
        }
        let [ino, mode, uid, gid, links, mtime, size, major, minor, length] = numbers;
        if length == 0 || length > LONGEST {
            return None;
        }
        let mut name = vec![0; usize::try_from(length).ok()?];
        let behind = at + format.header as u64;
        place.fill(behind, &mut name).ok()?;
        name.pop();
        let small = |value: u64| u32::try_from(value).ok();
        let rdev = if format.align == 4 {
            libc::makedev(small(major)?, small(minor)?)
        } else {
            libc::makedev(small(major >> 8)?, small(major & 0xff)?)
        };
        let time = Time { seconds: i64::try_from(mtime).ok()?, nanos: 0 };
        let attributes = Attributes {
            mode: small(mode)?,
            uid: small(uid)?,
            gid: small(gid)?,
            size,
            rdev,
            atime: time,
            mtime: time,
            ctime: time,
            ..Attributes::default()
        };
        let start = (behind + length).next_multiple_of(format.align);
        let next = (start + size).next_multiple_of(format.align);
        let device = number(format.device)?;
        Some(Self { ino, device, links, name, attributes, start, next })
    }

    fn add(
        mut self,
        place: &Place,
        unit: Option<usize>,
        tree: &mut Tree,
        links: &mut HashMap<(u64, u64), usize>,
    ) -> Result<(), String> {
        let size = self.attributes.size;
        let content = Content::whole(unit, self.start, size);
        let key = (self.device, self.ino);
        let is_file = self.attributes.is_regular();
        // The content comes with the last of the names.
        if let Some(index) = links.get(&key).copied().filter(|_| is_file && self.links > 1) {
            if size > 0 {
                tree.fill(index, size, content);
            }
            return tree.name(&self.name, index);
        }
        let body = match self.attributes.kind() {
            libc::S_IFDIR => Body::Directory(Default::default()),
            libc::S_IFREG => Body::File(content),
            libc::S_IFLNK if size <= LONGEST => {
                let mut target = vec![0; usize::try_from(size).unwrap_or(0)];
                match place.fill(self.start, &mut target) {
                    Ok(()) => Body::Link(Target::Known(target)),
                    Err(_) => return Ok(()),
                }
            }
            libc::S_IFLNK => return Ok(()),
            _ => Body::Special,
        };
        if matches!(body, Body::Directory(_) | Body::Special) {
            self.attributes.size = 0;
        }
        let inode = Inode { attributes: self.attributes, body, xattrs: Vec::new() };
        if let Some(index) = tree.add(&self.name, inode)?
            && is_file
            && self.links > 1
        {
            links.insert(key, index);
        }
        Ok(())
    }
}
