//! Writing tar: ustar, with records of pax(1) for what does not fit in its header, and for holes those of
//! GNU tar (sparse format 1.0).

use std::io::{self, Write};

use tar::{EntryType, Header};
use umvu_abi::files::{Seek, Time};

use super::{Member, View, copy};

const BLOCK: u64 = 512;
/// The largest numbers of a header: eleven octal digits for sizes and times, seven for owners.
const LARGEST: [u64; 2] = [0o777_7777_7777, 0o777_7777];
/// How long a name in a header is.
const NAME: usize = 100;

/// Writes members, and the end of the archive. Errors: those of reading and writing.
pub(super) fn write(out: &mut impl Write, members: &[Member<'_>]) -> io::Result<()> {
    let mut before: Option<&Member<'_>> = None;
    let mut written = 0;
    for member in members {
        // Names of the same file come one after the other.
        let first = before.filter(|before| before.attributes.ino == member.attributes.ino);
        written += add(out, member, first)?;
        before = first.or(Some(member));
    }
    // Two empty blocks, up to the end of a record of 20.
    let rest = 20 * BLOCK - written % (20 * BLOCK);
    let rest = if rest < 2 * BLOCK { rest + 20 * BLOCK } else { rest };
    zeros(out, rest)
}

fn zeros(out: &mut impl Write, count: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), count), out).map(drop)
}

/// The records of a member: what its header does not hold.
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    fn add(&mut self, key: &str, value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        // The length counts its own digits.
        let mut length = rest + 1;
        while rest + length.to_string().len() > length {
            length += 1;
        }
        self.0.extend_from_slice(format!("{length} {key}=").as_bytes());
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }
}

/// The parts of a file that are data. None for one without holes.
fn parts(member: &Member<'_>) -> Option<Vec<(u64, u64)>> {
    let View::File(data) = member.content else { return None };
    let (mut parts, mut at, size) = (Vec::new(), 0, data.size());
    while let Some(from) = data.seek(at, Seek::Data) {
        at = data.seek(from, Seek::Hole).unwrap_or(size).min(size);
        parts.push((from, at - from));
    }
    if size == 0 || parts.as_slice() == [(0, size)] {
        return None;
    }
    // GNU tar takes the end from the map.
    if parts.last().is_none_or(|(from, length)| from + length < size) {
        parts.push((size, 0));
    }
    Some(parts)
}

/// The map before the data of a file with holes.
fn map(parts: &[(u64, u64)]) -> Vec<u8> {
    let mut text = format!("{}\n", parts.len());
    for (from, length) in parts {
        text.push_str(&format!("{from}\n{length}\n"));
    }
    let mut map = text.into_bytes();
    map.resize(map.len().next_multiple_of(512), 0);
    map
}

/// Adds a member, or one more name of one; returns how many bytes it is.
fn add(out: &mut impl Write, member: &Member<'_>, first: Option<&Member<'_>>) -> io::Result<u64> {
    let mut records = Records::default();
    let mut header = Header::new_ustar();
    let looks = &member.attributes;
    let mut path = if member.path.is_empty() { b".".to_vec() } else { member.path.clone() };
    let mut target: &[u8] = &[];
    let mut runs = vec![];
    let mut ahead = Vec::new();
    let kind = match (&member.content, first) {
        (View::Directory, _) => {
            path.push(b'/');
            EntryType::Directory
        }
        (_, Some(first)) => {
            target = &first.path;
            EntryType::Link
        }
        (View::File(data), None) => {
            runs.push((0, data.size()));
            if let Some(parts) = parts(member) {
                records.add("GNU.sparse.major", b"1");
                records.add("GNU.sparse.minor", b"0");
                records.add("GNU.sparse.name", &path);
                records.add("GNU.sparse.realsize", data.size().to_string().as_bytes());
                path = [b"GNUSparseFile.0/", &path[path.len().saturating_sub(80)..]].concat();
                ahead = map(&parts);
                runs = parts;
            }
            EntryType::Regular
        }
        (View::Link(to), None) => {
            target = to;
            EntryType::Symlink
        }
        (View::Special, None) => match looks.kind() {
            libc::S_IFBLK => EntryType::Block,
            libc::S_IFCHR => EntryType::Char,
            _ => EntryType::Fifo,
        },
    };
    let size = ahead.len() as u64 + runs.iter().map(|(_, length)| length).sum::<u64>();
    header.set_entry_type(kind);
    header.set_mode(looks.mode & 0o7777);
    header.set_uid(fits(&mut records, "uid", looks.uid.into(), LARGEST[1]));
    header.set_gid(fits(&mut records, "gid", looks.gid.into(), LARGEST[1]));
    header.set_size(fits(&mut records, "size", size, LARGEST[0]));
    header.set_mtime(time(&mut records, looks.mtime));
    if matches!(kind, EntryType::Block | EntryType::Char) {
        header.set_device_major(libc::major(looks.rdev))?;
        header.set_device_minor(libc::minor(looks.rdev))?;
    }
    text(&mut records, "path", &path, &mut header.as_mut_bytes()[..NAME]);
    text(&mut records, "linkpath", target, &mut header.as_mut_bytes()[157..157 + NAME]);
    if first.is_none() {
        for (name, value) in &member.xattrs {
            records.add(&format!("SCHILY.xattr.{}", String::from_utf8_lossy(name)), value);
        }
    }
    header.set_cksum();
    let said = records.0.len() as u64;
    if said > 0 {
        let mut before = Header::new_ustar();
        before.set_entry_type(EntryType::XHeader);
        before.set_mode(0o644);
        before.set_size(said);
        let short = &path[path.len().saturating_sub(80)..];
        let name = [b"PaxHeaders/", short].concat();
        before.as_mut_bytes()[..name.len()].copy_from_slice(&name);
        before.set_cksum();
        out.write_all(before.as_bytes())?;
        out.write_all(&records.0)?;
        zeros(out, said.next_multiple_of(BLOCK) - said)?;
    }
    out.write_all(header.as_bytes())?;
    out.write_all(&ahead)?;
    for (from, length) in runs {
        copy(member, from, from + length, out)?;
    }
    zeros(out, size.next_multiple_of(BLOCK) - size)?;
    let extra = if said > 0 { BLOCK + said.next_multiple_of(BLOCK) } else { 0 };
    Ok(extra + BLOCK + size.next_multiple_of(BLOCK))
}

/// A number for a header; one that is too large becomes a record.
fn fits(records: &mut Records, key: &str, number: u64, largest: u64) -> u64 {
    if number <= largest {
        return number;
    }
    records.add(key, number.to_string().as_bytes());
    0
}

/// Seconds for a header; a time with a fraction, or before 1970, becomes a record.
fn time(records: &mut Records, time: Time) -> u64 {
    let seconds = u64::try_from(time.seconds).ok().filter(|seconds| *seconds <= LARGEST[0]);
    if seconds.is_none() || time.nanos != 0 {
        let total = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
        let (sign, total) = (if total < 0 { "-" } else { "" }, total.unsigned_abs());
        let text = format!("{sign}{}.{:09}", total / 1_000_000_000, total % 1_000_000_000);
        records.add("mtime", text.trim_end_matches('0').trim_end_matches('.').as_bytes());
    }
    seconds.unwrap_or(0)
}

/// A text for a header; one that is too long becomes a record.
fn text(records: &mut Records, key: &str, text: &[u8], field: &mut [u8]) {
    if text.len() > field.len() {
        records.add(key, text);
    }
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_record_counts_its_own_digits() {
        let record = |value: &str| {
            let mut records = Records::default();
            records.add("path", value.as_bytes());
            records.0
        };
        assert_eq!(record("a"), b"9 path=a\n");
        for length in 0..300 {
            let record = record(&"x".repeat(length));
            let told = record.split(|byte| *byte == b' ').next().map(<[u8]>::to_vec);
            assert_eq!(told, Some(record.len().to_string().into_bytes()));
        }
    }

    #[test]
    fn times_that_a_header_does_not_hold_become_records() {
        let said = |seconds, nanos| {
            let mut records = Records::default();
            let number = time(&mut records, Time { seconds, nanos });
            (number, String::from_utf8(records.0).expect("text"))
        };
        assert_eq!(said(7, 0), (7, String::new()));
        assert_eq!(said(7, 500_000_000), (7, "13 mtime=7.5\n".to_owned()));
        assert_eq!(said(-2, 500_000_000), (0, "14 mtime=-1.5\n".to_owned()));
        assert_eq!(said(-10, 0), (0, "13 mtime=-10\n".to_owned()));
    }
}
