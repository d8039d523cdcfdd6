//! Writing cpio, of the format `newc`.

use std::io::{self, Write};

use super::{Member, View, cannot, copy};

/// The name that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";
/// Archives are a multiple of it.
const BLOCK: u64 = 512;

/// Writes members, and the end of the archive. Errors: `EINVAL` for a file over 4 GiB, those of reading and
/// writing.
pub(super) fn write(out: &mut impl Write, members: &[Member<'_>]) -> io::Result<()> {
    let mut written = 0;
    for (at, member) in members.iter().enumerate() {
        // Names of the same file come one after the other; the last one has the content.
        let next = members.get(at + 1).map(|next| next.attributes.ino);
        written += add(out, member, next == Some(member.attributes.ino))?;
    }
    written += head(out, TRAILER, [0, 0, 0, 0, 1, 0, 0, 0, 0])?;
    zeros(out, written.next_multiple_of(BLOCK) - written)
}

fn zeros(out: &mut impl Write, count: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), count), out).map(drop)
}

/// Writes a header with its name; returns how many bytes that is. The numbers: inode, mode, user, group,
/// links, time, size, major and minor number of a device.
fn head(out: &mut impl Write, name: &[u8], numbers: [u32; 9]) -> io::Result<u64> {
    let [ino, mode, uid, gid, links, time, size, major, minor] = numbers;
    let length = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
    let all = [ino, mode, uid, gid, links, time, size, 0, 0, major, minor, length, 0];
    out.write_all(b"070701")?;
    for number in all {
        write!(out, "{number:08X}")?;
    }
    out.write_all(name)?;
    let end = 110 + u64::from(length);
    let padded = end.next_multiple_of(4);
    zeros(out, 1 + padded - end)?;
    Ok(padded)
}

fn add(out: &mut impl Write, member: &Member<'_>, goes_on: bool) -> io::Result<u64> {
    let looks = &member.attributes;
    let size = match &member.content {
        View::File(data) if !goes_on => data.size(),
        View::Link(target) => target.len() as u64,
        _ => 0,
    };
    let short = u32::try_from(size).map_err(|_| cannot(member, "too large for cpio (4 GiB)"))?;
    let time = u32::try_from(looks.mtime.seconds.max(0)).unwrap_or(u32::MAX);
    let ino = u32::try_from(looks.ino).unwrap_or(u32::MAX);
    let device = [libc::major(looks.rdev), libc::minor(looks.rdev)];
    let numbers =
        [ino, looks.mode, looks.uid, looks.gid, looks.nlink, time, short, device[0], device[1]];
    let path = if member.path.is_empty() { b"." } else { member.path.as_slice() };
    let before = head(out, path, numbers)?;
    match &member.content {
        View::File(_) if !goes_on => copy(member, 0, size, out)?,
        View::Link(target) => out.write_all(target)?,
        _ => {}
    }
    zeros(out, size.next_multiple_of(4) - size)?;
    Ok(before + size.next_multiple_of(4))
}
