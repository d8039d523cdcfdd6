//! `/proc/net`, `/proc/sys/net` and `/sys/class/net` of a namespace, read through its helper.

use std::{
    fs::File,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    sync::Arc,
};

use umvu_abi::{
    Errno,
    tree::{Entry, Tree},
};

use super::helper::Helper;

/// A directory as the namespace sees it.
#[derive(Debug)]
pub(crate) struct NamespaceTree {
    helper: Arc<Helper>,
    root: &'static str,
}

impl NamespaceTree {
    /// The tree below `root`.
    pub(crate) fn new(helper: Arc<Helper>, root: &'static str) -> Self {
        Self { helper, root }
    }

    fn open(&self, path: &str, flags: i32) -> Result<OwnedFd, Errno> {
        if path.split('/').any(|part| part == "..") {
            return Err(Errno::ENOENT);
        }
        self.helper.open(&format!("{}/{path}", self.root), flags)
    }
}

impl Tree for NamespaceTree {
    fn entry(&self, path: &str) -> Result<Entry, Errno> {
        let fd = self.open(path, libc::O_PATH)?;
        let metadata = File::from(fd).metadata()?;
        if !metadata.is_dir() {
            return Ok(Entry::File { mode: metadata.permissions().mode() & 0o777 });
        }
        let fd = self.open(path, libc::O_RDONLY | libc::O_DIRECTORY)?;
        let mut directory = nix::dir::Dir::from_fd(fd).map_err(|errno| Errno(errno as i32))?;
        let mut names = Vec::new();
        for entry in directory.iter() {
            let entry = entry.map_err(|errno| Errno(errno as i32))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(Entry::Directory(names))
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let mut file = File::from(self.open(path, libc::O_RDONLY)?);
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        Ok(content)
    }

    fn tells_errors(&self) -> bool {
        true
    }

    fn write(&self, path: &str, data: &[u8]) -> Result<(), Errno> {
        let mut file = File::from(self.open(path, libc::O_WRONLY)?);
        file.write_all(data)?;
        Ok(())
    }
}
