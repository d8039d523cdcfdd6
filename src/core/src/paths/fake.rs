//! Stand-ins for the tests: a view with stacks, a world of files, a guest, a scratch directory.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use parking_lot::Mutex;
use umvu_abi::{
    Errno, Tid,
    module::{Module, MountError, MountRequest, Mounted},
    net::{NetStack, NewSocket, SocketEvents, SocketSpec},
    tree::{Entry, Tree},
};

use super::resolve::{Magic, TreeEntry, World};
use crate::view::{Mount, View};

#[derive(Debug, Default)]
pub(super) struct FakeTree {
    pub(super) knob: Mutex<Vec<Vec<u8>>>,
}

impl Tree for FakeTree {
    fn entry(&self, path: &str) -> Result<Entry, Errno> {
        match path {
            "" => Ok(Entry::Directory(["dev", "link", "conf"].map(str::to_owned).to_vec())),
            "dev" => Ok(Entry::File { mode: 0o444 }),
            "link" => Ok(Entry::Link("dev".to_owned())),
            "conf" => Ok(Entry::Directory(vec!["knob".to_owned()])),
            "conf/knob" => Ok(Entry::File { mode: 0o644 }),
            _ => Err(Errno::ENOENT),
        }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        match path {
            "dev" => Ok(b"text\n".to_vec()),
            "conf/knob" => Ok(self.knob.lock().last().cloned().unwrap_or_default()),
            _ => Err(Errno::EISDIR),
        }
    }

    fn write(&self, path: &str, data: &[u8]) -> Result<(), Errno> {
        if path != "conf/knob" {
            return Err(Errno::EACCES);
        }
        self.knob.lock().push(data.to_vec());
        Ok(())
    }
}

#[derive(Debug, Default)]
struct FakeStack(Arc<FakeTree>);

impl NetStack for FakeStack {
    fn supports(&self, _: i32) -> bool {
        true
    }

    fn socket(&self, _: &SocketSpec, _: Arc<dyn SocketEvents>) -> Result<NewSocket, Errno> {
        Err(Errno::EAFNOSUPPORT)
    }

    fn proc_net(&self) -> Option<Arc<dyn Tree>> {
        Some(Arc::clone(&self.0) as _)
    }

    fn proc_sys_net(&self) -> Option<Arc<dyn Tree>> {
        self.proc_net()
    }

    fn sys_class_net(&self) -> Option<Arc<dyn Tree>> {
        self.proc_net()
    }
}

#[derive(Debug)]
struct FakeModule;

impl Module for FakeModule {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn description(&self) -> &'static str {
        "stands in"
    }

    fn mount(&self, _: &MountRequest) -> Result<Mounted, MountError> {
        Ok(Mounted::Stack(Arc::new(FakeStack::default())))
    }
}

pub(super) fn view(targets: &[&str]) -> View {
    let view = View::new(vec![Arc::new(FakeModule)], String::new());
    view.insert("fake", false).expect("the module is there");
    for target in targets {
        view.mount(MountRequest {
            source: String::new(),
            target: (*target).to_owned(),
            fstype: "fake".to_owned(),
            flags: 0,
            data: String::new(),
            environment: Vec::new(),
            view: String::new(),
        })
        .expect("nothing is mounted there yet");
    }
    view
}

/// A file of a fake tree, as found in `/proc/1/net`.
pub(super) fn entry(inner: &str, mode: u32) -> TreeEntry {
    TreeEntry {
        mount: Arc::clone(&view(&["/dev/net/lab"]).mounts()[0]),
        tree: Arc::new(FakeTree::default()),
        inner: inner.to_owned(),
        path: format!("/proc/1/net/{inner}").into_bytes(),
        entry: Entry::File { mode },
    }
}

pub(super) struct FakeWorld {
    pub(super) view: View,
    links: BTreeMap<Vec<u8>, Vec<u8>>,
    existing: BTreeSet<Vec<u8>>,
    networked: Vec<Tid>,
}

pub(super) fn world(targets: &[&str]) -> FakeWorld {
    FakeWorld {
        view: view(targets),
        links: BTreeMap::new(),
        existing: ["/", "/proc", "/sys", "/usr"].map(|path| path.as_bytes().to_vec()).into(),
        networked: Vec::new(),
    }
}

impl FakeWorld {
    pub(super) fn with_dirs(mut self, paths: &[&str]) -> Self {
        self.existing.extend(paths.iter().map(|path| path.as_bytes().to_vec()));
        self
    }

    pub(super) fn with_links(mut self, links: &[(&str, &str)]) -> Self {
        let bytes = |text: &str| text.as_bytes().to_vec();
        self.links.extend(links.iter().map(|(path, target)| (bytes(path), bytes(target))));
        self
    }

    /// These threads use the first stack.
    pub(super) fn with_network(mut self, tids: &[i32]) -> Self {
        self.networked = tids.iter().copied().map(Tid).collect();
        self
    }
}

impl World for FakeWorld {
    fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        let pretended = path.starts_with(b"/proc") || path.starts_with(b"/sys");
        match self.links.get(path) {
            Some(target) => Ok(target.clone()),
            None if pretended || self.existing.contains(path) => Err(Errno::EINVAL),
            None => Err(Errno::ENOENT),
        }
    }

    fn exists(&self, path: &[u8]) -> bool {
        self.existing.contains(path) || self.links.contains_key(path)
    }

    fn network_of(&self, tid: Tid) -> Option<Arc<Mount>> {
        self.networked.contains(&tid).then(|| self.view.mounts().first().cloned()).flatten()
    }

    fn magic(&self, _: &[u8], link: Vec<u8>) -> Result<Magic, Errno> {
        Ok(match link {
            link if link.starts_with(b"/run/dirs/") => Magic::Directory(b"/dev/net".to_vec()),
            link if self.existing.contains(&link) => Magic::Directory(link),
            _ => Magic::Nameless,
        })
    }

    fn credentials(&self, _: Tid) -> umvu_abi::files::Caller {
        umvu_abi::files::Caller::root()
    }
}

/// A directory that is removed at the end of the test.
pub(super) struct ScratchDir(PathBuf);

impl ScratchDir {
    pub(super) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("umvu-paths-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("the temporary directory is writable");
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
