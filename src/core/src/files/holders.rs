//! The guests that have a file open.

use std::{collections::HashSet, fs, path::Path};

use umvu_abi::Tid;

use crate::Core;

/// The processes that have a file open whose name in `/proc/PID/fd` is one of these, with one of their
/// descriptors for it.
pub(super) fn of(core: &Core, is_it: impl Fn(&Path) -> bool) -> Vec<(i32, i32)> {
    let groups: HashSet<i32> =
        core.tasks.ids().into_iter().filter_map(|tid| group_of(tid.0)).collect();
    groups.into_iter().filter_map(|group| Some((group, held_by(group, &is_it)?))).collect()
}

/// The descriptors of a process for the socket with this inode.
pub(crate) fn of_socket(process: i32, inode: u64) -> Vec<i32> {
    let wanted = format!("socket:[{inode}]");
    let entries = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let of_it = |entry: &fs::DirEntry| {
        fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
    };
    entries.filter(of_it).filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn held_by(process: i32, is_it: impl Fn(&Path) -> bool) -> Option<i32> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).ok()?;
    entries.flatten().find_map(|entry| {
        let is_it = fs::read_link(entry.path()).is_ok_and(|link| is_it(&link));
        if is_it { entry.file_name().to_str()?.parse().ok() } else { None }
    })
}

fn group_of(tid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
}

/// The threads of a process.
pub(crate) fn threads_of(group: i32) -> Vec<Tid> {
    let threads = fs::read_dir(format!("/proc/{group}/task")).into_iter().flatten().flatten();
    threads.filter_map(|entry| Some(Tid(entry.file_name().to_str()?.parse().ok()?))).collect()
}
