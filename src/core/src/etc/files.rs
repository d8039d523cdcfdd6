//! The private files of stacks: a folder each, made when it is first needed.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use umvu_abi::net::ResolvConf;

use crate::view::Mount;

/// The file that stacks themselves have something to say about.
const RESOLV_CONF: &str = "resolv.conf";

/// The folders of all stacks.
#[derive(Debug)]
pub struct Files {
    root: PathBuf,
    /// By the device number of a mount: which word of its stack was written down last.
    written: Mutex<HashMap<u64, u64>>,
}

impl Files {
    /// Folders in a private directory.
    #[must_use]
    pub fn new(private: &Path) -> Self {
        Self { root: private.join("etc"), written: Mutex::default() }
    }

    /// The folder of a stack, brought up to date with what the stack tells.
    pub(super) fn folder(&self, mount: &Mount, told: &ResolvConf) -> Option<Folder> {
        let folder = Folder(self.root.join(mount.dev.to_string()));
        let mut written = self.written.lock();
        if written.get(&mount.dev) == Some(&told.generation) {
            return Some(folder);
        }
        if let Err(error) = folder.write_down(told) {
            tracing::warn!(%error, stack = %mount.target, "cannot keep the name servers of a stack");
            return None;
        }
        written.insert(mount.dev, told.generation);
        Some(folder)
    }
}

/// The folder of one stack.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    fn write_down(&self, told: &ResolvConf) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        match &told.text {
            Some(text) => self.put(RESOLV_CONF, text.as_bytes()),
            // The stack has had something to say, and has not any more.
            None if told.generation > 0 => {
                let _ = fs::remove_file(self.0.join(RESOLV_CONF));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Replaces a file as a whole.
    pub(super) fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let new = self.0.join(".new");
        fs::write(&new, content)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
        fs::rename(new, self.0.join(name))
    }

    /// Where a file is, or would be.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Whether the stack has a file of its own.
    pub(super) fn has(&self, name: &str) -> bool {
        fs::symlink_metadata(self.place(name)).is_ok()
    }

    /// Makes a file of its own of the host's, if there is one; one that is there stays.
    pub(super) fn take_over(&self, name: &str) {
        if self.has(name) {
            return;
        }
        if let Ok(content) = fs::read(Path::new("/etc").join(name)) {
            let _ = self.put(name, &content);
        }
    }

    /// Whether the host's file is a symbolic link: it leads a program to places that are not ours.
    pub(super) fn is_link_of_host(name: &str) -> bool {
        let found = fs::symlink_metadata(Path::new("/etc").join(name));
        found.is_ok_and(|found| found.is_symlink())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_stack_tells_replaces_what_was_there_once() {
        let private = tempfile::tempdir().expect("a directory");
        let folder = Folder(private.path().join("1"));
        let told = |generation, text: Option<&str>| ResolvConf {
            generation,
            text: text.map(str::to_owned),
        };
        folder.write_down(&told(0, None)).expect("writable");
        assert!(!folder.has(RESOLV_CONF));
        folder.write_down(&told(1, Some("nameserver 10.0.0.1\n"))).expect("writable");
        let text = fs::read_to_string(folder.place(RESOLV_CONF)).expect("there");
        assert_eq!(text, "nameserver 10.0.0.1\n");
        folder.write_down(&told(2, None)).expect("writable");
        assert!(!folder.has(RESOLV_CONF));
    }
}
