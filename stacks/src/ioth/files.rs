//! `/proc/net` of a plugin's stack: what a namespace has, or the names of the interfaces.
//!
//! A plugin has no files; without these trees its guests would see the host's.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use umvu_abi::{
    Errno,
    tree::{Entry, Tree},
};

use super::{Control, kernel::Namespace};

const SIOCGIFCONF: u32 = 0x8912;
/// The size of `struct ifreq`.
const IFREQ: usize = 40;

/// An empty directory.
#[derive(Debug)]
pub(crate) struct NoFiles;

impl Tree for NoFiles {
    fn entry(&self, path: &str) -> Result<Entry, Errno> {
        if path.is_empty() { Ok(Entry::Directory(Vec::new())) } else { Err(Errno::ENOENT) }
    }

    fn read(&self, _path: &str) -> Result<Vec<u8>, Errno> {
        Err(Errno::ENOENT)
    }
}

/// A directory with `dev`, for programs that look there for the names of interfaces.
#[derive(Debug)]
pub(crate) struct Interfaces(pub(crate) Arc<Control>);

impl Tree for Interfaces {
    fn entry(&self, path: &str) -> Result<Entry, Errno> {
        match path {
            "" => Ok(Entry::Directory(vec!["dev".to_owned()])),
            "dev" => Ok(Entry::File { mode: 0o444 }),
            _ => Err(Errno::ENOENT),
        }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        if path != "dev" {
            return Err(if path.is_empty() { Errno::EISDIR } else { Errno::ENOENT });
        }
        let mut list = vec![0; 64 * IFREQ];
        let listed = self.0.request(SIOCGIFCONF, &mut list).is_ok();
        let list = if listed { list.as_slice() } else { &[] };
        Ok(device_table(list).into_bytes())
    }
}

/// `/proc/net/dev` of the interfaces in an array of `struct ifreq`; plugins do not count.
fn device_table(list: &[u8]) -> String {
    let mut table = String::from(
        "Inter-|   Receive                                                |  Transmit\n \
         face |bytes    packets errs drop fifo frame compressed multicast|\
         bytes    packets errs drop fifo colls carrier compressed\n",
    );
    let mut seen = Vec::new();
    for entry in list.chunks_exact(IFREQ) {
        let name = entry[..16].split(|byte| *byte == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        if !name.is_empty() && !seen.contains(&name) {
            table.push_str(&format!("{name:>6}:{}\n", " 0".repeat(16)));
            seen.push(name);
        }
    }
    table
}

impl Namespace {
    fn place(self, path: &str) -> Result<PathBuf, Errno> {
        Ok(self.folder().ok_or(Errno::ENOENT)?.join("net").join(path))
    }
}

/// `/proc/net` of the namespace.
impl Tree for Namespace {
    fn entry(&self, path: &str) -> Result<Entry, Errno> {
        let place = self.place(path)?;
        if fs::metadata(&place)?.is_dir() {
            return Ok(Entry::Directory(names(&place)?));
        }
        Ok(Entry::File { mode: 0o444 })
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        Ok(fs::read(self.place(path)?)?)
    }
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(directory)?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interface_has_one_row() {
        let mut list = vec![0; 3 * IFREQ];
        for (entry, name) in list.chunks_exact_mut(IFREQ).zip(["lo0", "vd0", "vd0"]) {
            entry[..3].copy_from_slice(name.as_bytes());
        }
        let table = device_table(&list);
        let rows: Vec<_> = table.lines().skip(2).map(|row| row.split(':').next()).collect();
        assert_eq!(rows, [Some("   lo0"), Some("   vd0")]);
    }
}
