//! What procfs tells about mapped files: names and numbers of virtual files in place of those of the
//! files that hold their content (proc_pid_maps(5), numa(7)).

use std::{fs, os::unix::fs::MetadataExt, sync::Arc};

use super::{content, locate::os_path};
use crate::files::{Inode, Objects, attributes::of_host};

/// Where the path begins in a line of `maps`.
const PATH_AT: usize = 73;

/// Rewrites `/proc/PID/maps`, or `smaps`, whose other lines have no path.
pub(super) fn maps(objects: &Objects, kernel: &[u8]) -> Vec<u8> {
    let line = |line: &[u8]| rewritten(objects, line).unwrap_or_else(|| line.to_vec());
    kernel.split_inclusive(|byte| *byte == b'\n').flat_map(line).collect()
}

/// What is mapped, as the guest knows it.
struct Shown {
    path: Vec<u8>,
    /// `st_dev` and `st_ino`, where they are not the kernel's.
    numbers: Option<(u64, u64)>,
}

impl Shown {
    fn of(inode: &Arc<Inode>) -> Self {
        Self { path: inode.path(), numbers: inode.numbers() }
    }
}

fn rewritten(objects: &Objects, line: &[u8]) -> Option<Vec<u8>> {
    let at = line.iter().position(|byte| *byte == b'/')?;
    let path = line[at..].strip_suffix(b"\n").unwrap_or(&line[at..]);
    let text = std::str::from_utf8(&line[..at]).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let [range, rights, offset, dev, ino] = std::array::from_fn(|_| fields.next().unwrap_or(""));
    let shown = shown(objects, path, numbers(dev, ino))?;
    let shown_numbers = shown.numbers.map_or(format!("{dev} {ino}"), |(dev, ino)| {
        format!("{:02x}:{:02x} {ino}", libc::major(dev), libc::minor(dev))
    });
    let head = format!("{range} {rights} {offset} {shown_numbers} ");
    let path = escaped(&shown.path, b"\n");
    Some([format!("{head:PATH_AT$}").as_bytes(), &path, b"\n"].concat())
}

/// What stands behind a path that the kernel tells, unless that is right; `numbers` are `st_dev` and
/// `st_ino` of the mapped file, where they are known.
fn shown(objects: &Objects, path: &[u8], numbers: Option<(u64, u64)>) -> Option<Shown> {
    if let Some(held) = objects.stands_for(path) {
        return held.ok().map(|held| Shown::of(&held.inode));
    }
    if let Some(path) = content::shown(path) {
        return Some(Shown { path: path.to_vec(), numbers: None });
    }
    if !objects.any_dressed() {
        return None;
    }
    let inode = match fs::metadata(os_path(path)) {
        Ok(found) => {
            let is_it = numbers.is_none_or(|numbers| numbers == (found.dev(), found.ino()));
            objects.dressed(&of_host(&found)).map(|(inode, _)| inode).filter(|_| is_it)
        }
        Err(_) => numbers.and_then(|numbers| objects.dressed_by_numbers(numbers)),
    };
    let by_name = || Some(Shown { path: objects.name_of_program(path)?, numbers: None });
    inode.map(|inode| Shown::of(&inode)).or_else(by_name)
}

/// `st_dev` and `st_ino` as a line of `maps` has them.
fn numbers(dev: &str, ino: &str) -> Option<(u64, u64)> {
    let (major, minor) = dev.split_once(':')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    Some((libc::makedev(number(major)?, number(minor)?), ino.parse().ok()?))
}

/// Rewrites `/proc/PID/numa_maps`.
pub(super) fn numa_maps(objects: &Objects, kernel: &[u8]) -> Vec<u8> {
    const FILE: &[u8] = b"file=";
    let word = |word: &[u8]| {
        let path = word.strip_prefix(FILE).map(plain)?;
        let shown = shown(objects, &path, None)?;
        Some([FILE, &escaped(&shown.path, b"\n\t= ")].concat())
    };
    let line = |line: &[u8]| {
        let words = line.split(|byte| *byte == b' ');
        words.map(|one| word(one).unwrap_or_else(|| one.to_vec())).collect::<Vec<_>>().join(&b' ')
    };
    let lines = kernel.split(|byte| *byte == b'\n').map(line);
    lines.collect::<Vec<_>>().join(&b'\n')
}

/// Some bytes as octal numbers.
fn escaped(path: &[u8], which: &[u8]) -> Vec<u8> {
    let one = |byte: &u8| {
        if which.contains(byte) { format!("\\{byte:03o}").into_bytes() } else { vec![*byte] }
    };
    path.iter().flat_map(one).collect()
}

/// The other way round, of what the kernel has escaped.
fn plain(mut text: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(text.len());
    while let Some((first, rest)) = text.split_first() {
        let digits = rest.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let octal = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let (byte, rest) = match octal.filter(|_| *first == b'\\') {
            Some(byte) => (byte, &rest[3..]),
            None => (*first, rest),
        };
        path.push(byte);
        text = rest;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_escaped_and_back() {
        let path = b"/tmp/a b=\\c (deleted)";
        assert_eq!(escaped(path, b"= "), b"/tmp/a\\040b\\075\\c\\040(deleted)");
        assert_eq!(plain(&escaped(path, b"= ")), path);
        assert_eq!(plain(b"\\04"), b"\\04");
    }
}
