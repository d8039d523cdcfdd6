//! The tree `/proc/sys/net`: a sysctl per file, its name's dots as slashes.

use std::{collections::BTreeSet, fmt, sync::Arc};

use umvu_abi::{
    Errno,
    tree::{Entry, Tree},
};

use crate::host::HostNet;

/// The tree `/proc/sys/net`.
pub(super) struct ProcSysNet {
    host: Arc<dyn HostNet>,
}

impl ProcSysNet {
    pub(super) fn new(host: Arc<dyn HostNet>) -> Self {
        Self { host }
    }

    /// The names of the entries of a directory; None when there is none.
    fn children(&self, path: &str) -> Option<BTreeSet<String>> {
        let names = self.host.sysctl_names();
        let children: BTreeSet<String> = names
            .iter()
            .map(|name| to_path(name))
            .filter_map(|file| {
                let below = match path {
                    "" => file.as_str(),
                    _ => file.strip_prefix(path)?.strip_prefix('/')?,
                };
                below.split('/').next().map(str::to_owned)
            })
            .collect();
        (!children.is_empty() || path.is_empty()).then_some(children)
    }
}

/// A name as a path: dots become slashes and the other way round (sysctl(8)).
fn to_path(name: &str) -> String {
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}

impl fmt::Debug for ProcSysNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcSysNet")
    }
}

impl Tree for ProcSysNet {
    fn entry(&self, path: &str) -> Result<Entry, Errno> {
        let name = to_path(path);
        if self.host.sysctl(&name).is_some() {
            let mode = if self.host.sysctl_is_writable(&name) { 0o644 } else { 0o444 };
            return Ok(Entry::File { mode });
        }
        if let Some(children) = self.children(path) {
            return Ok(Entry::Directory(children.into_iter().collect()));
        }
        let below_file = path
            .match_indices('/')
            .any(|(at, _)| self.host.sysctl(&to_path(&path[..at])).is_some());
        Err(if below_file { Errno::ENOTDIR } else { Errno::ENOENT })
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        match self.host.sysctl(&to_path(path)) {
            Some(value) => Ok(format!("{value}\n").into_bytes()),
            None => self.entry(path).and(Err(Errno::EISDIR)),
        }
    }

    fn tells_errors(&self) -> bool {
        true
    }

    fn write(&self, path: &str, data: &[u8]) -> Result<(), Errno> {
        if self.host.sysctl(&to_path(path)).is_none() {
            return self.entry(path).and(Err(Errno::EISDIR));
        }
        let value = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        self.host.set_sysctl(&to_path(path), value)
    }
}
