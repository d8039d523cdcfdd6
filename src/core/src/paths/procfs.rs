//! The files of procfs that tell about mounts and mapped files: the kernel's, with what is virtual.

use std::{fs, sync::Arc};

use umvu_abi::{
    Errno,
    module::Mounted,
    tree::{Entry, Tree},
};

use super::{lexical::below, mapped};
use crate::{files::Objects, view::Mount};

/// The names in `/proc/PID` that are served from here.
pub(super) const NAMES: [&[u8]; 6] =
    [b"mounts", b"mountinfo", b"mountstats", b"maps", b"smaps", b"numa_maps"];
/// The ids of virtual mounts begin here; the kernel's are small.
const FIRST_ID: u64 = 1_000_000;

/// What procfs shows of one generation of the view. Paths are `PID/NAME`.
#[derive(Debug)]
pub(super) struct Procfs {
    mounts: Vec<Arc<Mount>>,
    objects: Arc<Objects>,
}

impl Procfs {
    /// With these mounts; what is no directory is left out.
    pub(super) fn new(mounts: &[Arc<Mount>], objects: &Arc<Objects>) -> Self {
        let shown = |mount: &&Arc<Mount>| {
            matches!(mount.content, Mounted::FileSystem(_) | Mounted::Tree(_))
        };
        let mounts = mounts.iter().filter(shown).cloned().collect();
        Self { mounts, objects: Arc::clone(objects) }
    }

    fn options(mount: &Mount) -> &'static str {
        let read_only = mount
            .files()
            .map_or(mount.flags & libc::MS_RDONLY != 0, |files| files.writable().is_err());
        if read_only { "ro" } else { "rw" }
    }

    /// A line of `/proc/PID/mounts` (proc_pid_mounts(5)).
    fn line(mount: &Mount) -> String {
        let fields = [&mount.source, &mount.target, &mount.fstype].map(|text| escape(text));
        let [source, target, fstype] = fields;
        let options = Self::all_options(mount);
        format!("{source} {target} {fstype} {options} 0 0\n")
    }

    /// `rw` or `ro`, and the options of the file system.
    fn all_options(mount: &Mount) -> String {
        let options = Self::options(mount);
        let own = mount.files().and_then(|files| files.options());
        match own.as_ref().unwrap_or(&mount.data) {
            own if own.is_empty() => options.to_owned(),
            own => format!("{options},{}", escape(own)),
        }
    }

    /// The lines of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)), below those of the kernel.
    fn info(&self, kernel: &str) -> String {
        let parse = |line: &str| {
            let mut fields = line.split(' ');
            let id = fields.next()?.parse::<u64>().ok()?;
            Some((id, fields.nth(3)?.as_bytes().to_vec()))
        };
        let mut known: Vec<(u64, Vec<u8>)> = kernel.lines().filter_map(parse).collect();
        let mut text = String::new();
        for (number, mount) in self.mounts.iter().enumerate() {
            let target = escape(&mount.target);
            let above = known.iter().filter(|(_, at)| below(target.as_bytes(), at).is_some());
            // The longest, and of those the last.
            let parent = above.max_by_key(|(_, at)| at.len()).map_or(1, |(id, _)| *id);
            let id = FIRST_ID + number as u64;
            let (major, minor) = (libc::major(mount.dev), libc::minor(mount.dev));
            let (options, own) = (Self::options(mount), Self::all_options(mount));
            let [fstype, source] = [&mount.fstype, &mount.source].map(|text| escape(text));
            text += &format!(
                "{id} {parent} {major}:{minor} / {target} {options} - {fstype} {source} {own}\n"
            );
            known.push((id, target.into_bytes()));
        }
        text
    }
}

impl Tree for Procfs {
    fn entry(&self, path: &str) -> Result<Entry, Errno> {
        fs::symlink_metadata(format!("/proc/{path}"))?;
        Ok(Entry::File { mode: 0o444 })
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let mut text = fs::read(format!("/proc/{path}"))?;
        let name = path.rsplit('/').next().unwrap_or_default();
        match name {
            "mounts" => text.extend(self.mounts.iter().flat_map(|m| Self::line(m).into_bytes())),
            "mountinfo" => {
                let more = self.info(&String::from_utf8_lossy(&text));
                text.extend(more.into_bytes());
            }
            "maps" | "smaps" => text = mapped::maps(&self.objects, &text),
            "numa_maps" => text = mapped::numa_maps(&self.objects, &text),
            _ => {
                for mount in &self.mounts {
                    let [source, target, fstype] =
                        [&mount.source, &mount.target, &mount.fstype].map(|text| escape(text));
                    let line =
                        format!("device {source} mounted on {target} with fstype {fstype}\n");
                    text.extend(line.into_bytes());
                }
            }
        }
        Ok(text)
    }
}

/// Blanks and backslashes as octal numbers; nothing is `none`.
fn escape(text: &str) -> String {
    if text.is_empty() {
        return "none".to_owned();
    }
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            ' ' | '\t' | '\n' | '\\' | '#' => escaped += &format!("\\{:03o}", u32::from(letter)),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_are_escaped_as_the_kernel_does() {
        assert_eq!(escape("a b\\c"), "a\\040b\\134c");
        assert_eq!(escape(""), "none");
    }
}
