//! What `/proc/mounts` shows of a bind mount: the file system behind it (mount(2), proc_pid_mountinfo(5)).

use std::{fs, os::unix::fs::MetadataExt, sync::Arc};

use umvu_abi::Tid;

use crate::{
    Core,
    files::{Inode, flags::Flags},
    paths::{
        lexical::below,
        locate::{self, os_path},
        resolve::{Last, Place},
    },
    view::{Mount, Shown},
};

/// What is behind an absolute path of the view; None for what is no file.
pub(super) fn shown(core: &Core, tid: Tid, source: &str) -> Option<Shown> {
    match locate::resolve(core, tid, source.as_bytes(), Last::Follow).ok()? {
        Place::Inode(found) => of_inode(core, &found.inode),
        Place::Real(path) | Place::Merged(path) => of_host(&path),
        _ => None,
    }
}

/// Whether both are directories, or none is: all that mount(2) binds to each other. What is not there fits.
pub(super) fn fits(core: &Core, tid: Tid, source: &str, target: &str) -> bool {
    let [source, target] = [source, target].map(|path| is_directory(core, tid, path));
    source.is_none() || target.is_none() || source == target
}

fn is_directory(core: &Core, tid: Tid, path: &str) -> Option<bool> {
    match locate::resolve(core, tid, path.as_bytes(), Last::Follow).ok()? {
        Place::Inode(found) => Some(found.inode.kind().ok()? == libc::S_IFDIR),
        Place::Real(path) => Some(fs::metadata(os_path(&path)).ok()?.is_dir()),
        Place::Merged(_) | Place::Directory(_) => Some(true),
        _ => None,
    }
}

fn of_inode(core: &Core, inode: &Arc<Inode>) -> Option<Shown> {
    let mounts = core.view.mounts();
    let is_it =
        |mount: &&Arc<Mount>| mount.files().is_some_and(|files| Arc::ptr_eq(files, &inode.files));
    let mount = mounts.iter().find(is_it)?;
    let path = inode.path();
    let rest = below(&path, mount.target.as_bytes()).unwrap_or_default();
    let flags = inode.files.flags();
    Some(match &mount.source_of {
        Some(above) => Shown { root: joined(&above.root, rest), flags, ..above.clone() },
        None => Shown {
            fstype: mount.fstype.clone(),
            source: mount.source.clone(),
            root: joined("/", rest),
            options: inode.files.options().unwrap_or_else(|| mount.data.clone()),
            dev: Some(mount.dev),
            flags,
            files: Some(Arc::clone(&inode.files)),
        },
    })
}

fn of_host(path: &[u8]) -> Option<Shown> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let rows = table.lines().filter_map(Row::parse);
    let fitting = rows.filter(|row| below(path, row.target.as_bytes()).is_some());
    // The longest, and of those the last.
    let row = fitting.max_by_key(|row| row.target.len())?;
    let rest = below(path, row.target.as_bytes()).unwrap_or_default();
    let (file_system, options) = row.options.split_once(',').unwrap_or((row.options, ""));
    let of_file_system = |word: &&str| ["sync", "dirsync", "mand", "lazytime"].contains(word);
    let own: Vec<&str> = options.split(',').filter(|word| !of_file_system(word)).collect();
    Some(Shown {
        fstype: row.fstype.to_owned(),
        source: row.source,
        root: joined(&row.root, rest),
        options: own.join(","),
        dev: fs::metadata(os_path(path)).ok().map(|found| found.dev()),
        flags: Flags::named(row.flags, &format!("{file_system},{options}")),
        files: None,
    })
}

fn joined(root: &str, rest: &[u8]) -> String {
    let rest = String::from_utf8_lossy(rest);
    let rest = rest.trim_start_matches('/');
    match (root.trim_end_matches('/'), rest) {
        ("", "") => "/".to_owned(),
        (root, "") => root.to_owned(),
        (root, rest) => format!("{root}/{rest}"),
    }
}

/// A line of `/proc/self/mountinfo`.
struct Row<'a> {
    root: String,
    target: String,
    flags: &'a str,
    fstype: &'a str,
    source: String,
    options: &'a str,
}

impl<'a> Row<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, target, flags) = (fields.next()?, fields.next()?, fields.next()?);
        let mut fields = file_system.split(' ');
        let (fstype, source, options) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Self {
            root: super::foreign::unescape(root),
            target: super::foreign::unescape(target),
            flags,
            fstype,
            source: super::foreign::unescape(source),
            options,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line =
            "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let row = Row::parse(line).expect("a line");
        assert_eq!((row.root.as_str(), row.target.as_str()), ("/mnt1", "/mnt 2"));
        assert_eq!((row.flags, row.fstype), ("rw,noatime", "ext3"));
        assert_eq!((row.source.as_str(), row.options), ("/dev/root", "rw,errors=continue"));
        assert!(Row::parse("36 35").is_none());
    }

    #[test]
    fn roots_are_joined() {
        assert_eq!(joined("/", b""), "/");
        assert_eq!(joined("/a", b""), "/a");
        assert_eq!(joined("/", b"/b"), "/b");
        assert_eq!(joined("/a", b"b/c"), "/a/b/c");
    }
}
