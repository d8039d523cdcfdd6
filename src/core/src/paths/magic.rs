//! The links of processes in procfs: where they lead, and what they show.
//!
//! The kernel's own text tells our private files, and is right about nothing else of the view. What a
//! link leads to is the file itself, which may have lost its name.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    sync::Arc,
};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use umvu_abi::{Errno, Tid};

use super::{
    content, host,
    lexical::{components, number},
    locate::{self, os_path},
    resolve::Magic,
    root,
};
use crate::{
    Core,
    files::{Inode, attributes::of_host, fcntl},
};

/// Where a link of a process leads; `link` is its text, an absolute path.
/// Errors: `ENOENT` for what is forgotten.
pub(crate) fn lead(core: &Core, path: &[u8], link: Vec<u8>) -> Result<Magic, Errno> {
    if is_ours(path) {
        return Ok(Magic::Nameless);
    }
    if let Some(root) = root_of(core, path) {
        return Ok(Magic::Directory(root));
    }
    if let Some(held) = core.objects.stands_for(&link) {
        return held.map(|held| Magic::Inode(held.inode));
    }
    if let Some(directory) = core.paths.directories.stands_for(&link) {
        return directory.map(Magic::Directory);
    }
    let Ok(found) = fs::metadata(os_path(path)) else { return Ok(Magic::Nameless) };
    if let Some(inode) = dressed(core, path, &found).filter(|inode| !inode.is_removed()) {
        return Ok(Magic::Inode(inode));
    }
    let is_there = || {
        let named = fs::symlink_metadata(os_path(&link)).ok();
        named.is_some_and(|named| (named.dev(), named.ino()) == (found.dev(), found.ino()))
    };
    Ok(match found.is_dir() {
        true => Magic::Directory(link),
        false if is_there() => Magic::File(link),
        false => Magic::Nameless,
    })
}

/// Whether this is a link of our own, who hold the files of all guests.
fn is_ours(path: &[u8]) -> bool {
    let process = components(path).nth(1).and_then(number);
    process.and_then(|process| u32::try_from(process).ok()) == Some(std::process::id())
}

/// The root directory of the process whose link this is, when it has one of its own.
fn root_of(core: &Core, path: &[u8]) -> Option<Vec<u8>> {
    let mut parts = components(path).rev();
    if parts.next() != Some(b"root") {
        return None;
    }
    Some(core.paths.root(Tid(number(parts.next()?)?))?.to_vec())
}

/// The inode of a file of the host that a mount has handed over, and that a process has open or mapped.
fn dressed(core: &Core, path: &[u8], found: &Metadata) -> Option<Arc<Inode>> {
    let is_handed_over = |part: &[u8]| matches!(part, b"fd" | b"map_files");
    if !core.objects.any_dressed() || !components(path).any(is_handed_over) {
        return None;
    }
    core.objects.dressed(&of_host(found)).map(|(inode, _)| inode)
}

/// What a link of procfs tells about a process of the view, where that is not what the host says.
pub(crate) fn shown(core: &Core, tid: Tid, path: &[u8]) -> Option<Vec<u8>> {
    // `self` is the reader.
    let is_process = path.strip_prefix(b"/proc/").is_some_and(|rest| rest.contains(&b'/'));
    if !is_process || is_ours(path) {
        return None;
    }
    let link = host::read_link(path).ok()?;
    let target = shown_as(core, path, &link).or_else(|| locate::stands_for(core, &link)?.ok());
    if !core.paths.threads.are_rooted() {
        return target;
    }
    root::shown(core, tid, path, target.as_ref().unwrap_or(&link))
}

/// What a link to a file of the host shows, when a mount has handed that file over, or when the file is
/// ours and holds a generated text.
fn shown_as(core: &Core, path: &[u8], link: &[u8]) -> Option<Vec<u8>> {
    if let Some(generated) = content::shown(link) {
        return Some(generated.to_vec());
    }
    if path.ends_with(b"/exe") {
        return core.objects.name_of_program(link);
    }
    let is_socket = link.starts_with(b"socket:");
    if !(link.starts_with(b"/") || is_socket) || !core.objects.any_named() {
        return None;
    }
    let found = fs::metadata(os_path(path)).ok()?;
    let opened_by = || core.objects.named(&of_host(&found)).filter(|_| is_marked(path));
    Some(dressed(core, path, &found).or_else(opened_by)?.path())
}

/// Whether a descriptor, named by its link, is one of a file that was opened by a path of a mount.
fn is_marked(path: &[u8]) -> bool {
    let mut parts = components(path);
    let process = parts.nth(1).and_then(number).and_then(Pid::from_raw);
    let descriptor = match (parts.next_back(), parts.next_back()) {
        (Some(descriptor), Some(b"fd")) => number(descriptor),
        _ => None,
    };
    let fetch = |(process, descriptor)| {
        let process = pidfd_open(process, PidfdFlags::empty()).ok()?;
        pidfd_getfd(process, descriptor, PidfdGetfdFlags::empty()).ok()
    };
    process.zip(descriptor).and_then(fetch).is_some_and(fcntl::is_marked)
}
