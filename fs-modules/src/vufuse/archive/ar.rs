//! ar archives: packages of Debian, and static libraries with the long names of GNU or BSD.

use umvu_abi::files::{Attributes, Time};

use super::{
    content::Content,
    input::Place,
    tree::{Body, Inode, Tree},
};

const MAGIC: &[u8] = b"!<arch>\n";
/// How long the table of long names may be.
const LONGEST: u64 = 16 << 20;

/// Whether a place begins with the mark of the format.
pub(super) fn begins(place: &Place) -> bool {
    let mut magic = [0; 8];
    place.fill(0, &mut magic).is_ok() && magic == MAGIC
}

/// Adds all members. Returns what is wrong with the archive behind those that were added. Errors: there is
/// too much in it.
pub(super) fn read(
    place: &Place,
    unit: Option<usize>,
    tree: &mut Tree,
) -> Result<Option<String>, String> {
    let end = place.size().map_err(|errno| errno.to_string())?;
    let (mut at, mut names) = (MAGIC.len() as u64, Vec::new());
    while at < end {
        match member(place, unit, at, &mut names, tree)? {
            Some(next) => at = next,
            None => return Ok(Some(format!("damaged or cut off at byte {at}"))),
        }
    }
    Ok(None)
}

/// Adds a member; returns where the next one is, None for what is no member.
fn member(
    place: &Place,
    unit: Option<usize>,
    at: u64,
    names: &mut Vec<u8>,
    tree: &mut Tree,
) -> Result<Option<u64>, String> {
    let Some((header, name)) = Header::read(place, at) else { return Ok(None) };
    let (mut start, mut size) = (at + 60, header.size);
    let next = (start + size).next_multiple_of(2);
    let text = |start: u64, length: u64| {
        let mut text = vec![0; usize::try_from(length.min(LONGEST)).ok()?];
        place.fill(start, &mut text).ok()?;
        Some(text)
    };
    let name = match &name[..] {
        b"/" | b"/SYM64/" | b"__.SYMDEF" | b"__.SYMDEF SORTED" => return Ok(Some(next)),
        b"//" => {
            *names = text(start, size).unwrap_or_default();
            return Ok(Some(next));
        }
        [b'/', digits @ ..] => {
            let from = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<usize>().ok());
            let Some(rest) = from.and_then(|from| names.get(from..)) else { return Ok(None) };
            let stop = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            rest[..stop].strip_suffix(b"/").unwrap_or(&rest[..stop]).to_vec()
        }
        [b'#', b'1', b'/', digits @ ..] => {
            let length = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<u64>().ok());
            let Some(length) = length.filter(|length| *length <= size) else { return Ok(None) };
            let Some(mut name) = text(start, length) else { return Ok(None) };
            (start, size) = (start + length, size - length);
            name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
            name
        }
        name => name.strip_suffix(b"/").unwrap_or(name).to_vec(),
    };
    let attributes = Attributes { size, ..header.attributes };
    let body = Body::File(Content::whole(unit, start, size));
    tree.add(&name, Inode { attributes, body, xattrs: Vec::new() })?;
    Ok(Some(next))
}

struct Header {
    size: u64,
    attributes: Attributes,
}

impl Header {
    /// Reads a header with its name. None for what is none.
    fn read(place: &Place, at: u64) -> Option<(Self, Vec<u8>)> {
        let mut bytes = [0; 60];
        place.fill(at, &mut bytes).ok()?;
        let number = |from: usize, to: usize, radix| {
            let text = std::str::from_utf8(&bytes[from..to]).ok()?.trim_end();
            if text.is_empty() { Some(0) } else { u32::from_str_radix(text, radix).ok() }
        };
        let size = std::str::from_utf8(&bytes[48..58]).ok()?.trim_end().parse().ok()?;
        let mtime = std::str::from_utf8(&bytes[16..28]).ok()?.trim_end().parse().unwrap_or(0);
        if &bytes[58..] != b"`\n" {
            return None;
        }
        let time = Time { seconds: mtime, nanos: 0 };
        let attributes = Attributes {
            mode: libc::S_IFREG | number(40, 48, 8)? & 0o7777,
            uid: number(28, 34, 10)?,
            gid: number(34, 40, 10)?,
            atime: time,
            mtime: time,
            ctime: time,
            ..Attributes::default()
        };
        Some((Self { size, attributes }, bytes[..16].trim_ascii_end().to_vec()))
    }
}
