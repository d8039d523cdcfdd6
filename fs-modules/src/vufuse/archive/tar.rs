//! tar: that of the seventh edition, ustar, those of GNU and pax.

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};
use umvu_abi::{
    Errno,
    files::{Attributes, Time},
};

use super::{
    content::{Content, Run},
    input::Place,
    pax::{Records, decimal},
    tree::{Body, Inode, Target, Tree},
};

const BLOCK: u64 = 512;
/// A block as it is read.
type Block = [u8; 512];
/// How long an extended header or a long name may be.
const LONGEST: u64 = 4 << 20;
/// How many parts of one file may be data.
const RUNS: usize = 1 << 20;
/// How far a file may reach.
const FARTHEST: u64 = i64::MAX as u64;

/// What is said of the next member before it comes.
#[derive(Debug, Default)]
struct Ahead {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    pax: Records,
}

/// Reads the headers of an archive.
struct Reader<'a> {
    place: &'a Place,
    unit: Option<usize>,
    at: u64,
    size: u64,
    global: Records,
    /// Whether content of the last member is missing.
    is_cut: bool,
}

/// Whether a place begins with the header of a member; an archive without members has none.
pub(super) fn begins(place: &Place) -> bool {
    let (mut block, mut more): (Block, Block) = ([0; _], [0; _]);
    let empty = place.size().is_ok_and(|size| size % BLOCK == 0 && size <= 1 << 20);
    if place.fill(0, &mut block).is_err() {
        return false;
    }
    let is_zero = |block: &Block| block.iter().all(|byte| *byte == 0);
    is_header(Header::from_byte_slice(&block))
        || empty && is_zero(&block) && place.fill(BLOCK, &mut more).is_ok() && is_zero(&more)
}

/// Whether the checksum is right; some have added up signed bytes.
fn is_header(header: &Header) -> bool {
    let bytes = header.as_bytes();
    let sum = |at: usize| if (148..156).contains(&at) { b' ' } else { bytes[at] };
    let unsigned: u32 = (0..bytes.len()).map(|at| u32::from(sum(at))).sum();
    let signed: i32 = (0..bytes.len()).map(|at| i32::from(sum(at).cast_signed())).sum();
    bytes.iter().any(|byte| *byte != 0)
        && header.cksum().is_ok_and(|told| told == unsigned || i64::from(told) == i64::from(signed))
}

/// Adds all members. Returns what is wrong with the archive behind those that were added. Errors: there is
/// too much in it.
pub(super) fn read(
    place: &Place,
    unit: Option<usize>,
    tree: &mut Tree,
) -> Result<Option<String>, String> {
    let size = place.size().map_err(|errno| errno.to_string())?;
    let global = Records::default();
    let mut reader = Reader { place, unit, at: 0, size, global, is_cut: false };
    loop {
        let begin = reader.at;
        match reader.member(tree) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(Wrong::TooMuch(reason)) => return Err(reason),
            Err(Wrong::Damaged) => return Ok(Some(format!("damaged or cut off at byte {begin}"))),
        }
    }
}

/// Why there is no next member.
enum Wrong {
    Damaged,
    TooMuch(String),
}

impl From<String> for Wrong {
    fn from(reason: String) -> Self {
        Self::TooMuch(reason)
    }
}

impl From<Errno> for Wrong {
    fn from(_: Errno) -> Self {
        Self::Damaged
    }
}

impl From<std::io::Error> for Wrong {
    fn from(_: std::io::Error) -> Self {
        Self::Damaged
    }
}

impl Reader<'_> {
    /// The next header. None at the end.
    fn header(&mut self) -> Result<Option<Header>, Wrong> {
        if self.at >= self.size {
            return if self.is_cut { Err(Wrong::Damaged) } else { Ok(None) };
        }
        let mut header = Header::new_old();
        self.place.fill(self.at, header.as_mut_bytes())?;
        self.at += BLOCK;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if is_header(&header) { Ok(Some(header)) } else { Err(Wrong::Damaged) }
    }

    /// Skips content, which must be there.
    fn skip(&mut self, length: u64) -> Result<(), Wrong> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.size);
        let end = end.ok_or(Wrong::Damaged)?;
        self.at = end.next_multiple_of(BLOCK);
        Ok(())
    }

    /// The content of a header that says something of another.
    fn text(&mut self, header: &Header) -> Result<Vec<u8>, Wrong> {
        let length = header.entry_size()?;
        if length > LONGEST {
            return Err(Wrong::Damaged);
        }
        let begin = self.at;
        self.skip(length)?;
        let mut text = vec![0; usize::try_from(length).map_err(|_| Wrong::Damaged)?];
        self.place.fill(begin, &mut text)?;
        Ok(text)
    }

    /// Adds the next member; returns whether there was one.
    fn member(&mut self, tree: &mut Tree) -> Result<bool, Wrong> {
        let mut ahead = Ahead { pax: self.global.clone(), ..Ahead::default() };
        loop {
            let Some(header) = self.header()? else { return Ok(false) };
            match header.entry_type() {
                EntryType::XHeader => {
                    let text = self.text(&header)?;
                    ahead.pax.read(&text);
                }
                EntryType::XGlobalHeader => {
                    let text = self.text(&header)?;
                    self.global.read(&text);
                    ahead.pax.read(&text);
                }
                EntryType::GNULongName => ahead.path = Some(until_zero(self.text(&header)?)),
                EntryType::GNULongLink => ahead.target = Some(until_zero(self.text(&header)?)),
                // The name of a volume, and what goes on from an earlier one.
                kind if matches!(kind.as_byte(), b'V' | b'M' | b'N') => {
                    let size = header.entry_size()?;
                    self.skip(size)?;
                }
                kind => {
                    self.add(tree, &header, kind, &ahead)?;
                    return Ok(true);
                }
            }
        }
    }

    fn add(
        &mut self,
        tree: &mut Tree,
        header: &Header,
        kind: EntryType,
        ahead: &Ahead,
    ) -> Result<(), Wrong> {
        let pax = &ahead.pax;
        let stored = match pax.number("size") {
            Some(size) => size,
            None => header.entry_size()?,
        };
        let path = pax.get("GNU.sparse.name").or_else(|| pax.get("path"));
        let path = path.map(<[u8]>::to_vec).or_else(|| ahead.path.clone());
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let target = pax.get("linkpath").map(<[u8]>::to_vec).or_else(|| ahead.target.clone());
        let target = target
            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
            .unwrap_or_default();
        let mut attributes = attributes(header, pax, tree);
        let special = |kind| (kind, Body::Special);
        let (kind, body) = match kind {
            EntryType::Link => {
                if !self.goes_on() {
                    self.skip(stored)?;
                }
                return Ok(tree.link(&path, &target)?);
            }
            EntryType::Symlink => (libc::S_IFLNK, Body::Link(Target::Known(target))),
            EntryType::Char => special(libc::S_IFCHR),
            EntryType::Block => special(libc::S_IFBLK),
            EntryType::Fifo => special(libc::S_IFIFO),
            kind if kind == EntryType::Directory || kind.as_byte() == b'D' => {
                if kind != EntryType::Directory {
                    self.skip(stored)?;
                }
                (libc::S_IFDIR, Body::Directory(Default::default()))
            }
            _ if path.ends_with(b"/") => (libc::S_IFDIR, Body::Directory(Default::default())),
            kind => {
                let (size, content) = self.content(header, kind, pax, stored)?;
                attributes.size = size;
                (libc::S_IFREG, Body::File(content))
            }
        };
        attributes.mode |= kind;
        if let Body::Link(Target::Known(target)) = &body {
            attributes.size = target.len() as u64;
        }
        let xattrs = pax.below("SCHILY.xattr.");
        let xattrs = xattrs.map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        tree.add(&path, Inode { attributes, body, xattrs })?;
        Ok(())
    }

    /// Whether the next member follows at once: links tell a size, of which some have no content.
    fn goes_on(&self) -> bool {
        let mut header = Header::new_old();
        let bytes = header.as_mut_bytes();
        self.at >= self.size || self.place.fill(self.at, bytes).is_err() || {
            bytes.iter().all(|byte| *byte == 0) || is_header(&header)
        }
    }

    /// The size and the content of a file.
    fn content(
        &mut self,
        header: &Header,
        kind: EntryType,
        pax: &Records,
        stored: u64,
    ) -> Result<(u64, Content), Wrong> {
        let (size, map, begin) = if kind == EntryType::GNUSparse {
            let (size, map) = self.old_map(header)?;
            (size, Some(map), self.at)
        } else if let (Some(1), Some(size)) =
            (pax.number("GNU.sparse.major"), pax.number("GNU.sparse.realsize"))
        {
            let (map, length) = self.map_ahead(stored)?;
            (size, Some(map), self.at + length)
        } else if let Some(size) = pax.number("GNU.sparse.size") {
            (size, Some(pax_map(pax).ok_or(Wrong::Damaged)?), self.at)
        } else {
            (stored, None, self.at)
        };
        let end = self.at.checked_add(stored).ok_or(Wrong::Damaged)?;
        // A member that is cut off is shown, but what is missing cannot be read.
        self.is_cut = end > self.size;
        self.at = end.checked_next_multiple_of(BLOCK).ok_or(Wrong::Damaged)?;
        let Some(map) = map else {
            return if size > FARTHEST || end > FARTHEST {
                Err(Wrong::Damaged)
            } else {
                Ok((size, Content::whole(self.unit, begin, size)))
            };
        };
        let runs = placed(&map, size, begin, end).ok_or(Wrong::Damaged)?;
        Ok((size, Content { unit: self.unit, runs }))
    }

    /// The map in a header of GNU's, and in the blocks behind it.
    fn old_map(&mut self, header: &Header) -> Result<(u64, Vec<(u64, u64)>), Wrong> {
        let gnu = header.as_gnu().ok_or(Wrong::Damaged)?;
        let mut map = Vec::new();
        old_runs(&gnu.sparse, &mut map)?;
        let mut goes_on = gnu.is_extended();
        while goes_on {
            let mut more = GnuExtSparseHeader::new();
            self.place.fill(self.at, more.as_mut_bytes())?;
            self.at += BLOCK;
            old_runs(more.sparse(), &mut map)?;
            goes_on = more.is_extended();
        }
        Ok((gnu.real_size()?, map))
    }

    /// The map of version 1.0, which comes before the data: numbers in lines, up to the end of a block.
    fn map_ahead(&self, stored: u64) -> Result<(Vec<(u64, u64)>, u64), Wrong> {
        let (mut text, mut numbers) = (Vec::new(), Vec::new());
        let mut wanted = 1;
        let mut length = 0;
        while numbers.len() < wanted {
            let mut block: Block = [0; _];
            if length + BLOCK > stored.next_multiple_of(BLOCK) {
                return Err(Wrong::Damaged);
            }
            self.place.fill(self.at + length, &mut block)?;
            length += BLOCK;
            text.extend_from_slice(&block);
            while numbers.len() < wanted
                && let Some(end) = text.iter().position(|byte| *byte == b'\n')
            {
                numbers.push(decimal(&text[..end]).ok_or(Wrong::Damaged)?);
                text.drain(..=end);
                let count = usize::try_from(numbers[0]).unwrap_or(usize::MAX);
                if count > RUNS {
                    return Err(Wrong::Damaged);
                }
                wanted = 1 + 2 * count;
            }
        }
        Ok((numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect(), length))
    }
}

fn old_runs(entries: &[GnuSparseHeader], map: &mut Vec<(u64, u64)>) -> Result<(), Wrong> {
    for entry in entries.iter().take_while(|entry| !entry.is_empty()) {
        map.push((entry.offset()?, entry.length()?));
    }
    if map.len() > RUNS { Err(Wrong::Damaged) } else { Ok(()) }
}

/// The maps of versions 0.0 and 0.1.
fn pax_map(pax: &Records) -> Option<Vec<(u64, u64)>> {
    let numbers: Option<Vec<u64>> = match pax.get("GNU.sparse.map") {
        Some(map) => map.split(|byte| *byte == b',').map(decimal).collect(),
        None => {
            let both = pax.below("GNU.sparse.");
            both.filter(|(name, _)| matches!(*name, b"offset" | b"numbytes"))
                .map(|(_, value)| decimal(value))
                .collect()
        }
    };
    let numbers = numbers?;
    (numbers.len() % 2 == 0)
        .then(|| numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// Where the parts of a map are: one behind the other from a place on. None for what cannot be.
fn placed(map: &[(u64, u64)], size: u64, begin: u64, end: u64) -> Option<Box<[Run]>> {
    let (mut runs, mut start, mut last) = (Vec::new(), begin, 0);
    for (at, length) in map {
        let stop = at.checked_add(*length)?;
        if *at < last || stop > size || size > FARTHEST || start.checked_add(*length)? > end {
            return None;
        }
        if *length > 0 {
            runs.push(Run { at: *at, start, length: *length });
        }
        start += length;
        last = stop;
    }
    Some(runs.into())
}

fn until_zero(mut text: Vec<u8>) -> Vec<u8> {
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    text.truncate(end);
    text
}

/// What is said of a member besides its name, kind and content.
fn attributes(header: &Header, pax: &Records, tree: &Tree) -> Attributes {
    let id = |text: &str, told: std::io::Result<u64>, default: u32| {
        let id = pax.number(text).or(told.ok());
        id.and_then(|id| u32::try_from(id).ok()).unwrap_or(default)
    };
    let [uid, gid] = tree.defaults.owner;
    let mtime = pax.time("mtime").unwrap_or(Time { seconds: seconds(header), nanos: 0 });
    let device = |number: std::io::Result<Option<u32>>| number.ok().flatten().unwrap_or(0);
    Attributes {
        mode: header.mode().unwrap_or(0) & 0o7777,
        uid: id("uid", header.uid(), uid),
        gid: id("gid", header.gid(), gid),
        rdev: libc::makedev(device(header.device_major()), device(header.device_minor())),
        mtime,
        atime: pax.time("atime").unwrap_or(mtime),
        ctime: pax.time("ctime").unwrap_or(mtime),
        ..Attributes::default()
    }
}

/// When a member was changed last. Binary numbers of GNU's may be negative.
fn seconds(header: &Header) -> i64 {
    match header.as_old().mtime {
        [0xff, .., a, b, c, d, e, f, g, h] => i64::from_be_bytes([a, b, c, d, e, f, g, h]),
        _ => header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or(0),
    }
}
