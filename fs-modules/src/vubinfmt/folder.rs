//! The files of a mount.

use std::sync::Arc;

use parking_lot::RwLock;
use umvu_abi::{
    Errno,
    files::Outside,
    module::Interpreter,
    tree::{Entry as Place, Tree},
};

use super::{entry::Entry, fixed::Fixed};

#[derive(Debug)]
struct State {
    enabled: bool,
    /// The newest first: that is the order in which they are asked.
    entries: Vec<Entry>,
}

/// A mount.
#[derive(Debug)]
pub(super) struct Folder {
    /// Where the programs are that it is for; empty: everywhere.
    below: Vec<u8>,
    /// The tree in which interpreters are looked up at once.
    outside: Arc<dyn Outside>,
    state: RwLock<State>,
}

/// What is written to `status` and to the files of formats.
enum Order {
    /// Nothing was.
    None,
    Disable,
    Enable,
    Remove,
}

impl Order {
    fn parse(data: &[u8]) -> Result<Self, Errno> {
        match data.strip_suffix(b"\n").unwrap_or(data) {
            b"" if data.is_empty() => Ok(Self::None),
            b"0" => Ok(Self::Disable),
            b"1" => Ok(Self::Enable),
            b"-1" => Ok(Self::Remove),
            _ => Err(Errno::EINVAL),
        }
    }
}

impl Folder {
    /// For the programs below a path; all, if the source is none.
    pub(super) fn new(source: &str, outside: &Arc<dyn Outside>) -> Self {
        let below = if source.starts_with('/') { source.trim_end_matches('/') } else { "" };
        let state = State { enabled: true, entries: Vec::new() };
        let below = below.as_bytes().to_vec();
        Self { below, outside: Arc::clone(outside), state: RwLock::new(state) }
    }

    /// What executes a program, if it is in one of the formats.
    pub(super) fn interpreter(&self, path: &[u8], name: &[u8], head: &[u8]) -> Option<Interpreter> {
        let rest = path.strip_prefix(self.below.as_slice())?;
        let state = self.state.read();
        let concerns = self.below.is_empty() || rest.starts_with(b"/");
        if !state.enabled || !concerns {
            return None;
        }
        state.entries.iter().find_map(|entry| entry.interpreter(name, head))
    }

    fn register(&self, line: &[u8]) -> Result<(), Errno> {
        let mut entry = Entry::parse(line)?;
        if entry.is_fixed() {
            entry.fixed = Some(Arc::new(Fixed::open(&self.outside, &entry.interpreter)?));
        }
        let mut state = self.state.write();
        let taken = |other: &Entry| other.name == entry.name;
        if ["register", "status"].contains(&entry.name.as_str()) || state.entries.iter().any(taken)
        {
            return Err(Errno::EEXIST);
        }
        state.entries.insert(0, entry);
        Ok(())
    }
}

impl Tree for Folder {
    fn entry(&self, path: &str) -> Result<Place, Errno> {
        let state = self.state.read();
        let mut names = state.entries.iter().map(|entry| entry.name.as_str());
        match path {
            "" => {
                let all = names.chain(["register", "status"]).map(str::to_owned);
                Ok(Place::Directory(all.collect()))
            }
            "register" => Ok(Place::File { mode: 0o200 }),
            "status" => Ok(Place::File { mode: 0o644 }),
            path if names.any(|name| name == path) => Ok(Place::File { mode: 0o644 }),
            path if path.contains('/') => Err(Errno::ENOTDIR),
            _ => Err(Errno::ENOENT),
        }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let state = self.state.read();
        match path {
            "" => Err(Errno::EISDIR),
            "register" => Err(Errno::EINVAL),
            "status" if state.enabled => Ok(b"enabled\n".to_vec()),
            "status" => Ok(b"disabled\n".to_vec()),
            path => {
                let entry = state.entries.iter().find(|entry| entry.name == path);
                entry.map(Entry::text).ok_or(Errno::ENOENT)
            }
        }
    }

    fn tells_errors(&self) -> bool {
        true
    }

    fn write(&self, path: &str, data: &[u8]) -> Result<(), Errno> {
        if path == "register" {
            return self.register(data);
        }
        let order = Order::parse(data)?;
        let mut state = self.state.write();
        match (path, order) {
            (_, Order::None) => {}
            ("status", Order::Remove) => state.entries.clear(),
            ("status", order) => state.enabled = matches!(order, Order::Enable),
            (path, order) => {
                let at = state.entries.iter().position(|entry| entry.name == path);
                let at = at.ok_or(Errno::ENOENT)?;
                match order {
                    Order::Remove => drop(state.entries.remove(at)),
                    order => state.entries[at].enabled = matches!(order, Order::Enable),
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use umvu_abi::files::{Backing, Caller, GuestFile, Source};

    use super::*;

    /// A tree in which nothing is.
    #[derive(Debug)]
    struct Nothing;

    impl Outside for Nothing {
        fn files(&self, _: &[u8]) -> Result<Source, Errno> {
            Err(Errno::ENOENT)
        }

        fn backing(&self, _: &[u8], _: bool) -> Result<Arc<dyn Backing>, Errno> {
            Err(Errno::ENOENT)
        }

        fn descriptor(&self, _: i32) -> Result<Arc<dyn GuestFile>, Errno> {
            Err(Errno::EBADF)
        }

        fn caller(&self) -> Caller {
            Caller::root()
        }

        fn absolute(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
            Ok(path.to_vec())
        }
    }

    #[test]
    fn formats_are_registered_switched_and_removed() {
        let outside: Arc<dyn Outside> = Arc::new(Nothing);
        let folder = Folder::new("/opt/", &outside);
        let finds = |path: &[u8]| folder.interpreter(path, path, b"").map(|found| found.path);
        let write = |path, data: &[u8]| folder.write(path, data);
        write("register", b":one:E::x::/one:").expect("new");
        write("register", b":two:E::x::/two:").expect("new");
        assert_eq!(write("register", b":two:E::y::/two:"), Err(Errno::EEXIST));
        assert_eq!(write("register", b":fixed:E::y::/none:F"), Err(Errno::ENOENT));
        assert_eq!(finds(b"/opt/a.x"), Some(b"/two".to_vec()));
        assert_eq!((finds(b"/a.x"), finds(b"/opt2/a.x")), (None, None));
        write("two", b"0\n").expect("there");
        assert_eq!(finds(b"/opt/a.x"), Some(b"/one".to_vec()));
        write("status", b"0").expect("there");
        assert_eq!((finds(b"/opt/a.x"), folder.read("status")), (None, Ok(b"disabled\n".to_vec())));
        write("status", b"1").expect("there");
        write("one", b"-1").expect("there");
        assert_eq!(write("one", b"-1"), Err(Errno::ENOENT));
        assert_eq!(finds(b"/opt/a.x"), None);
        write("status", b"").expect("as the kernel has it");
        assert_eq!(write("status", b"\n"), Err(Errno::EINVAL));
        write("status", b"-1").expect("there");
        assert_eq!(folder.entry("two"), Err(Errno::ENOENT));
    }
}
