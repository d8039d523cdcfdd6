//! getdents64(2) and getdents(2) of virtual directories.
//!
//! The position is the kernel's, of the empty directory that the guest has open: dup, fork and
//! lseek(2) need nothing of us.

use std::sync::Arc;

use nix::unistd::{Whence, lseek};
use umvu_abi::{Errno, files::DirEntry};
use umvu_tracer::api::{Action, Call};

use super::{
    descriptors::{give, of_held, watched},
    lexical::{join, push},
};
use crate::{
    Core,
    dispatch::Row,
    files::{Held, Inode},
};

/// The most that one call returns.
const BUFFER_LIMIT: usize = 1 << 20;
/// `.` and `..` come first.
const DOTS: usize = 2;

pub(super) fn rows() -> Vec<Row> {
    vec![
        watched("getdents64", |core, call| {
            of_held(core, call, |held| list(core, call, held, modern))
        }),
        watched("getdents", |core, call| of_held(core, call, |held| list(core, call, held, old))),
    ]
}

/// Encodes one entry: name, number, `d_type`, the position behind it.
type Encode = fn(&[u8], u64, u8, u64) -> Vec<u8>;

fn list(core: &Core, call: &Call, held: &Held, encode: Encode) -> Action {
    list_into(core, call, held, encode).unwrap_or_else(Into::into)
}

fn list_into(core: &Core, call: &Call, held: &Held, encode: Encode) -> Result<Action, Errno> {
    let inode = &held.inode;
    if !inode.is_directory()? {
        return Err(Errno::ENOTDIR);
    }
    let directory = call.guest.fetch_fd(call.fd(0))?;
    let failed = |errno: nix::Error| Errno::from(std::io::Error::from(errno));
    let position = lseek(&directory, 0, Whence::SeekCur).map_err(failed)?;
    let position = usize::try_from(position).map_err(|_| Errno::EINVAL)?;
    if position == 0 {
        let found = read(core, call, inode)?;
        inode.listing.lock().refresh(found);
    }
    if inode.is_removed() {
        return Err(Errno::ENOENT);
    }
    core.objects.tell_listed(inode);
    inode.was_read();
    let room = usize::try_from(call.int(2).cast_unsigned()).unwrap_or(0).min(BUFFER_LIMIT);
    let (bytes, next) = fill(inode, position, room, encode)?;
    if bytes.is_empty() {
        return Ok(Action::value(0));
    }
    let next = i64::try_from(next).map_err(|_| Errno::EINVAL)?;
    lseek(&directory, next, Whence::SeekSet).map_err(failed)?;
    let count = i64::try_from(bytes.len()).unwrap_or(0);
    Ok(give(call, 1, bytes, count))
}

/// Entries from a position on, and the position behind the last. Errors: `EINVAL` when not even one
/// fits.
fn fill(
    inode: &Arc<Inode>,
    position: usize,
    room: usize,
    encode: Encode,
) -> Result<(Vec<u8>, usize), Errno> {
    let (mut bytes, mut next) = (Vec::new(), position);
    let mut add = |name: &[u8], ino: u64, kind: u8, behind: usize| {
        let entry = encode(name, ino, kind, behind as u64);
        let fits = bytes.len() + entry.len() <= room;
        if fits {
            bytes.extend(entry);
            next = behind;
        }
        fits
    };
    let caller = umvu_abi::files::Caller::root();
    let mut fits = true;
    for (at, name) in [&b"."[..], b".."].into_iter().enumerate().skip(position) {
        let ino = inode.attributes(&caller).map_or(1, |looks| looks.ino);
        fits = fits && add(name, ino, libc::DT_DIR, at + 1);
    }
    let listing = inode.listing.lock();
    for (behind, entry) in listing.from(position.saturating_sub(DOTS)) {
        fits = fits && add(&entry.name, entry.ino, d_type(entry.kind), behind + DOTS);
        if !fits {
            break;
        }
    }
    if bytes.is_empty() && !fits { Err(Errno::EINVAL) } else { Ok((bytes, next)) }
}

/// What a directory holds: its own entries, and what is mounted in it.
fn read(core: &Core, call: &Call, inode: &Arc<Inode>) -> Result<Vec<DirEntry>, Errno> {
    let caller = core.caller(call.tid());
    let fs = inode.files.ask()?;
    let handle = fs.opendir(&caller, inode.node)?;
    let mut found = Vec::new();
    let result = fs.readdir(&caller, inode.node, handle, &mut |entry| found.push(entry));
    fs.releasedir(inode.node, handle);
    result?;
    let territory = core.paths.territory(&core.view);
    let path = inode.path();
    for name in territory.names_in(&path) {
        let mount = territory.node(&join(&path, &name));
        if found.iter().any(|entry| entry.name == name) {
            continue;
        }
        let root = mount.and_then(|mount| mount.root.as_ref());
        let kind = root.map_or(libc::S_IFDIR, |root| root.kind().unwrap_or(0));
        let mut whole = path.clone();
        push(&mut whole, &name);
        found.push(DirEntry { name, ino: whole.len() as u64, kind });
    }
    Ok(found)
}

fn d_type(kind: u32) -> u8 {
    u8::try_from(kind >> 12 & 15).unwrap_or(libc::DT_UNKNOWN)
}

/// `struct linux_dirent64`.
fn modern(name: &[u8], ino: u64, kind: u8, next: u64) -> Vec<u8> {
    let mut entry = ino.to_ne_bytes().to_vec();
    entry.extend_from_slice(&next.to_ne_bytes());
    let length = (8 + 8 + 2 + 1 + name.len() + 1).next_multiple_of(8);
    entry.extend_from_slice(&u16::try_from(length).unwrap_or(0).to_ne_bytes());
    entry.push(kind);
    entry.extend_from_slice(name);
    entry.resize(length, 0);
    entry
}

/// `struct linux_dirent`: the type is the last byte.
fn old(name: &[u8], ino: u64, kind: u8, next: u64) -> Vec<u8> {
    let mut entry = ino.to_ne_bytes().to_vec();
    entry.extend_from_slice(&next.to_ne_bytes());
    let length = (8 + 8 + 2 + name.len() + 2).next_multiple_of(8);
    entry.extend_from_slice(&u16::try_from(length).unwrap_or(0).to_ne_bytes());
    entry.extend_from_slice(name);
    entry.resize(length - 1, 0);
    entry.push(kind);
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_laid_out_as_the_kernel_does() {
        let entry = modern(b"name", 7, libc::DT_REG, 3);
        assert_eq!(entry.len(), 24);
        assert_eq!((entry[16], entry[18], &entry[19..24]), (24, 8, &b"name\0"[..]));
        let entry = old(b"name", 7, libc::DT_DIR, 3);
        assert_eq!((entry.len(), entry[16], entry[23]), (24, 24, libc::DT_DIR));
    }
}
