//! The files of procfs that tell about mounts and mapped files: the kernel's, with what is virtual.

use std::{fs, sync::Arc};

use umvu_abi::{
    Errno,
    module::Mounted,
    tree::{Entry, Tree},
};

use super::{lexical::below, mapped};
use crate::{
    files::{Objects, flags::Flags},
    view::Mount,
};

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

    /// A line of `/proc/PID/mounts` (proc_pid_mounts(5)).
    fn line(mount: &Mount) -> String {
        let Fields { source, fstype, flags, own, .. } = Fields::of(mount);
        let target = escape(&mount.target);
        format!("{source} {target} {fstype} {}{own} 0 0\n", flags.of_both())
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
            let Fields { source, fstype, root, flags, own, dev } = Fields::of(mount);
            let (major, minor) = (libc::major(dev), libc::minor(dev));
            let (options, of_files) = (flags.of_mount(), flags.of_file_system());
            text += &format!(
                "{id} {parent} {major}:{minor} {root} {target} {options} - {fstype} {source} {of_files}{own}\n"
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
                    let Fields { source, fstype, .. } = Fields::of(mount);
                    let target = escape(&mount.target);
                    let line =
                        format!("device {source} mounted on {target} with fstype {fstype}\n");
                    text.extend(line.into_bytes());
                }
            }
        }
        Ok(text)
    }
}

/// What the tables say of a mount, with blanks escaped.
struct Fields {
    source: String,
    fstype: String,
    root: String,
    flags: Flags,
    /// The options of the file system, each after a comma.
    own: String,
    dev: u64,
}

impl Fields {
    fn of(mount: &Mount) -> Self {
        let flags = mount.files().map_or_else(|| Flags::of(mount.flags), |files| files.flags());
        let after_comma = |options: &str| match options {
            "" => String::new(),
            options => format!(",{}", escape(options)),
        };
        let Some(shown) = &mount.source_of else {
            let own = mount.files().and_then(|files| files.options());
            return Self {
                source: escape(&mount.source),
                fstype: escape(&mount.fstype),
                root: "/".to_owned(),
                flags,
                own: after_comma(own.as_ref().unwrap_or(&mount.data)),
                dev: mount.dev,
            };
        };
        Self {
            source: escape(&shown.source),
            fstype: escape(&shown.fstype),
            root: escape(&shown.root),
            flags,
            own: after_comma(&shown.options),
            dev: shown.dev.unwrap_or(mount.dev),
        }
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
