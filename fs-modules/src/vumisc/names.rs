//! The names of the view, and the files that show what uname(2) tells.

use std::sync::Arc;

use parking_lot::RwLock;
use umvu_abi::{
    Errno,
    module::HostNames,
    tree::{Entry, Tree},
};

/// `__NEW_UTS_LEN`.
const LIMIT: usize = 64;
/// What can be changed.
const CHANGING: [&str; 2] = ["nodename", "domainname"];
const FIXED: [&str; 4] = ["machine", "release", "sysname", "version"];

/// The names; None as long as they are the host's.
#[derive(Debug, Default)]
pub(super) struct Names {
    node: RwLock<Option<Vec<u8>>>,
    domain: RwLock<Option<Vec<u8>>>,
}

impl HostNames for Names {
    fn node(&self) -> Option<Vec<u8>> {
        self.node.read().clone()
    }

    fn domain(&self) -> Option<Vec<u8>> {
        self.domain.read().clone()
    }

    fn set_node(&self, name: Vec<u8>) {
        *self.node.write() = Some(name);
    }

    fn set_domain(&self, name: Vec<u8>) {
        *self.domain.write() = Some(name);
    }
}

/// A folder of all of them, or one file.
#[derive(Debug)]
pub(super) struct Files {
    names: Arc<Names>,
    /// The only file; none: the folder.
    only: Option<&'static str>,
}

impl Files {
    /// The source of the mount names one of the files that can be changed, or nothing of ours.
    pub(super) fn new(names: &Arc<Names>, source: &str) -> Self {
        let only = CHANGING.into_iter().find(|name| *name == source);
        Self { names: Arc::clone(names), only }
    }

    fn name<'a>(&self, path: &'a str) -> &'a str {
        self.only.filter(|_| path.is_empty()).unwrap_or(path)
    }
}

impl Tree for Files {
    fn entry(&self, path: &str) -> Result<Entry, Errno> {
        match self.name(path) {
            "" => {
                let all = FIXED.iter().chain(&CHANGING).map(|name| (*name).to_owned());
                Ok(Entry::Directory(all.collect()))
            }
            _ if self.only.is_some() && !path.is_empty() => Err(Errno::ENOTDIR),
            name if CHANGING.contains(&name) => Ok(Entry::File { mode: 0o644 }),
            name if FIXED.contains(&name) => Ok(Entry::File { mode: 0o444 }),
            _ => Err(Errno::ENOENT),
        }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let host = rustix::system::uname();
        let mut text = match self.name(path) {
            "nodename" => self.names.node().unwrap_or_else(|| host.nodename().to_bytes().to_vec()),
            "domainname" => {
                self.names.domain().unwrap_or_else(|| host.domainname().to_bytes().to_vec())
            }
            "machine" => host.machine().to_bytes().to_vec(),
            "release" => host.release().to_bytes().to_vec(),
            "sysname" => host.sysname().to_bytes().to_vec(),
            "version" => host.version().to_bytes().to_vec(),
            "" => return Err(Errno::EISDIR),
            _ => return Err(Errno::ENOENT),
        };
        text.push(b'\n');
        Ok(text)
    }

    fn tells_errors(&self) -> bool {
        true
    }

    fn write(&self, path: &str, data: &[u8]) -> Result<(), Errno> {
        // As the kernel takes them: up to the end of the line, and what is too long is cut off.
        let line = data.split(|byte| matches!(byte, b'\n' | 0)).next().unwrap_or_default();
        let name = line[..line.len().min(LIMIT)].to_vec();
        match self.name(path) {
            "nodename" => self.names.set_node(name),
            "domainname" => self.names.set_domain(name),
            _ => return Err(Errno::EACCES),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_was_written() {
        let names = Arc::new(Names::default());
        let folder = Files::new(&names, "none");
        folder.write("nodename", b"one\ntwo").expect("may change");
        assert_eq!(Files::new(&names, "nodename").read(""), Ok(b"one\n".to_vec()));
        folder.write("nodename", &[b'x'; 99]).expect("may change");
        assert_eq!(names.node().map(|name| name.len()), Some(LIMIT));
        assert_eq!(folder.write("machine", b"z"), Err(Errno::EACCES));
        assert_eq!(folder.entry("nodename/x"), Err(Errno::ENOENT));
    }
}
