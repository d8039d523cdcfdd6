//! What is in an image: the type to mount it by, as blkid(8) finds it.

use std::{
    fs::File,
    io::{self, Read},
};

/// Where a format has its mark, the mark, and the type that mounts it.
const MARKS: &[(usize, &[u8], &str)] = &[
    (1080, b"\x53\xef", "vufuseext2"),
    (0, b"hsqs", "vufusesquash"),
    (0x8001, b"CD001", "vufuseiso"),
    (3, b"EXFAT   ", "vufusefatfs"),
    (54, b"FAT1", "vufusefatfs"),
    (82, b"FAT32   ", "vufusefatfs"),
    (0, b"QFI\xfb", "vudevvdi"),
    (0, b"KDMV", "vudevvdi"),
    (0, b"# Disk DescriptorFile", "vudevvdi"),
    (0, b"conectix", "vudevvdi"),
    (64, b"\x7f\x10\xda\xbe", "vudevvdi"),
    (257, b"ustar", "vufusearchive"),
    (0, b"PK\x03\x04", "vufusearchive"),
    (0, b"7z\xbc\xaf\x27\x1c", "vufusearchive"),
    (0, b"!<arch>\n", "vufusearchive"),
    (0, b"07070", "vufusearchive"),
    (0, b"\x1f\x8b", "vufusearchive"),
    (0, b"BZh", "vufusearchive"),
    (0, b"\xfd7zXZ\0", "vufusearchive"),
    (0, b"\x28\xb5\x2f\xfd", "vufusearchive"),
    (0, b"\x04\x22\x4d\x18", "vufusearchive"),
    (0, b"LZIP", "vufusearchive"),
];

/// How much of an image is looked at.
const HEAD: u64 = 0x8006;

/// The type of what a file or disk holds; None for what is not known. Errors: those of open(2) and read(2).
pub(super) fn probe(path: &str) -> io::Result<Option<&'static str>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    Ok(known(&head))
}

fn known(head: &[u8]) -> Option<&'static str> {
    let is_there = |(at, mark, _): &&(usize, &[u8], &str)| {
        head.get(*at..).is_some_and(|rest| rest.starts_with(mark))
    };
    MARKS.iter().find(is_there).map(|(.., fstype)| *fstype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_where_they_are() {
        let mut head = vec![0; 2048];
        assert_eq!((known(&head), known(b"")), (None, None));
        head[1080..1082].copy_from_slice(b"\x53\xef");
        assert_eq!(known(&head), Some("vufuseext2"));
        assert_eq!(known(b"hsqs"), Some("vufusesquash"));
        assert!(MARKS.iter().all(|(at, mark, _)| (at + mark.len()) as u64 <= HEAD));
    }
}
