//! What stands for the files that guests watch by inotify(7).
//!
//! A guest's inotify descriptor is the kernel's. For a file of a mount it watches a *shadow*: a file or
//! a directory of ours with the names that the watched one has. What a guest does to the file by a call
//! that is answered here is done to the shadow as well, so that the kernel tells of it, with names and
//! cookies, to all who watch; what it does with a descriptor (reading, writing, closing) is told by the
//! kernel to us ([`super::worker`]) and passed on. Nothing is done while nobody watches.
//!
//! Before anything is done to a shadow what the kernel has told so far is passed on: so the order stays.

mod shadow;

use std::{
    collections::{HashMap, HashSet, hash_map::DefaultHasher},
    fs::{self, File},
    hash::Hasher,
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::inotify::{AddWatchFlags, WatchDescriptor};
use parking_lot::Mutex;
use umvu_abi::{
    Errno,
    files::{Caller, DirEntry, Seen, SetTime},
};
use umvu_tracer::api::Handing;

pub(crate) use self::shadow::Deed;
use self::shadow::Shadow;
use super::{Inode, Objects, names::Side};

/// How many names of directories shadows have in all, as `max_user_watches` limits the kernel's.
const NAMES_LIMIT: usize = 1 << 20;
/// How many files are kept open because guests have them open.
const OPEN_LIMIT: usize = 512;
/// After how many new shadows those are looked for that nobody watches any more.
const SWEEP_EVERY: u64 = 64;

/// How long is waited at most for our own descriptors to be closed.
const PATIENCE: Duration = Duration::from_millis(50);

/// A mount and a node.
type Key = (u64, u64);

fn key(inode: &Inode) -> Key {
    (inode.files.dev, inode.node.0)
}

/// A file that a guest has open: what is kept open for it.
#[derive(Debug)]
struct Open {
    writes: bool,
    _files: Vec<File>,
}

#[derive(Debug, Default)]
struct Table {
    shadows: HashMap<Key, Shadow>,
    open: HashMap<Key, Vec<Open>>,
    /// Whose layers we watch ourselves.
    layers: HashMap<WatchDescriptor, Arc<Inode>>,
    next: u64,
}

/// The shadows of one hypervisor.
#[derive(Debug)]
pub(crate) struct Shadows {
    root: PathBuf,
    any: AtomicBool,
    /// Descriptors that guests are being given.
    handing: Arc<AtomicUsize>,
    table: Mutex<Table>,
}

impl Shadows {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, any: AtomicBool::new(false), handing: Arc::default(), table: Mutex::default() }
    }

    /// Whether anybody watches.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }
}

impl Table {
    /// The shadows of an inode: among the names of its directory, and its own.
    fn of(&self, inode: &Inode) -> Vec<PathBuf> {
        let named = inode.standing().and_then(|(parent, name)| {
            let shadow = self.shadows.get(&key(&parent))?;
            Some(shadow.child(&name))
        });
        let own = self.shadows.get(&key(inode)).map(|shadow| shadow.path.clone());
        named.into_iter().chain(own).collect()
    }

    fn names(&self) -> usize {
        self.shadows.values().map(|shadow| shadow.names + 1).sum()
    }

    fn open_files(&self) -> usize {
        self.open.values().map(Vec::len).sum()
    }
}

/// Does something to a shadow; a name that has come without our knowledge is made first.
fn at<T>(path: &Path, inode: &Inode, mut work: impl FnMut(&Path) -> io::Result<T>) -> Option<T> {
    let done = match work(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = shadow::make(path, inode.is_directory().unwrap_or(false));
            made.and_then(|()| work(path))
        }
        done => done,
    };
    told(done)
}

/// What is not told is not worth an error of what was done.
fn told<T>(done: io::Result<T>) -> Option<T> {
    done.inspect_err(|error| tracing::debug!("watched files: {error}")).ok()
}

/// The file that is watched when one watches another: a mount may pass on the files of others.
pub(crate) fn innermost(inode: &Arc<Inode>) -> (Arc<Inode>, Seen) {
    let mut inode = Arc::clone(inode);
    loop {
        match inode.files.fs.seen_at(inode.node) {
            Seen::Same(other) => match other.downcast::<Inode>() {
                Ok(other) => inode = other,
                Err(_) => return (inode, Seen::Here),
            },
            seen => return (inode, seen),
        }
    }
}

fn list(inode: &Arc<Inode>) -> Result<Vec<DirEntry>, Errno> {
    let (fs, caller) = (inode.files.ask()?, Caller::root());
    let handle = fs.opendir(&caller, inode.node)?;
    let mut found = Vec::new();
    let listed = fs.readdir(&caller, inode.node, handle, &mut |entry| found.push(entry));
    fs.releasedir(inode.node, handle);
    listed.map(|()| found)
}

impl Objects {
    /// Has a guest watch an inode, by `add`, which is given the path of its shadow; `marked` tells by
    /// `st_ino` which shadows guests watch. Errors: `ENOSPC` when too much is watched, those of listing
    /// a directory and of `add`.
    pub(crate) fn watch_by<T>(
        self: &Arc<Self>,
        inode: &Arc<Inode>,
        seen: &Seen,
        marked: impl FnOnce() -> HashSet<u64>,
        add: impl FnOnce(&Path) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.prepare()?;
        // What was done before is not told.
        self.hear();
        let is_directory = inode.is_directory()?;
        let is_new = !self.shadows.table.lock().shadows.contains_key(&key(inode));
        let names = if is_new && is_directory { list(inode)? } else { Vec::new() };
        let mut table = self.shadows.table.lock();
        if is_new && table.next.is_multiple_of(SWEEP_EVERY) && !table.shadows.is_empty() {
            let marked = marked();
            let is_idle = |shadow: &Shadow| !marked.contains(&shadow.ino);
            self.drop_shadows(&mut table, is_idle, |path| {
                fs::remove_file(path).or_else(|_| fs::remove_dir_all(path))
            });
        }
        if table.names() + names.len() > NAMES_LIMIT {
            return Err(Errno::ENOSPC);
        }
        if !table.shadows.contains_key(&key(inode)) {
            let shadow = self.shadow(&mut table, inode, is_directory, &names)?;
            table.shadows.insert(key(inode), shadow);
        }
        let first = !self.shadows.any.swap(true, Ordering::AcqRel);
        if first {
            self.see_all()?;
        }
        if let Seen::Layers(paths) = seen {
            self.watch_layers(&mut table, inode, paths);
        }
        let path = table.shadows.get(&key(inode)).map(|shadow| shadow.path.clone());
        add(&path.ok_or(Errno::EIO)?)
    }

    fn shadow(
        &self,
        table: &mut Table,
        inode: &Arc<Inode>,
        is_directory: bool,
        names: &[DirEntry],
    ) -> Result<Shadow, Errno> {
        let root = &self.shadows.root;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let path = root.join(table.next.to_string());
        table.next += 1;
        shadow::make(&path, is_directory)?;
        let ino = fs::metadata(&path)?.ino();
        let shadow = Shadow { inode: Arc::clone(inode), path, ino, names: names.len() };
        for entry in names {
            shadow::make(&shadow.child(&entry.name), entry.kind == libc::S_IFDIR)?;
        }
        Ok(shadow)
    }

    fn watch_layers(&self, table: &mut Table, inode: &Arc<Inode>, paths: &[Vec<u8>]) {
        let flags = AddWatchFlags::IN_ACCESS | AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CLOSE;
        for path in paths {
            if let Some(watch) = self.see(path, flags) {
                table.layers.insert(watch, Arc::clone(inode));
            }
        }
    }

    /// Takes shadows away.
    fn drop_shadows(
        &self,
        table: &mut Table,
        which: impl Fn(&Shadow) -> bool,
        take: fn(&Path) -> io::Result<()>,
    ) {
        let gone: Vec<Key> =
            table.shadows.iter().filter(|(_, of)| which(of)).map(|(key, _)| *key).collect();
        for shadow in gone.iter().filter_map(|key| table.shadows.remove(key)) {
            told(take(&shadow.path));
        }
        let Table { shadows, layers, open, .. } = table;
        layers.retain(|watch, inode| {
            let stays = shadows.contains_key(&key(inode)) || open.contains_key(&key(inode));
            if !stays {
                self.see_no_more(*watch);
            }
            stays
        });
        if shadows.is_empty() {
            open.clear();
        }
    }

    /// An empty file of our own to watch, one for each path, to which nothing happens. Errors: those of
    /// making it.
    pub(crate) fn still(self: &Arc<Self>, path: &[u8]) -> Result<PathBuf, Errno> {
        let place = self.shadows.root.join("still");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&place)?;
        let mut hasher = DefaultHasher::new();
        hasher.write(path);
        let place = place.join(hasher.finish().to_string());
        match shadow::make(&place, false) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error.into()),
            _ => Ok(place),
        }
    }

    /// A mount is taken away: so is what stands for its files, but for directories that have names:
    /// nothing was deleted in them.
    pub(super) fn unwatch(&self, files: &super::MountedFiles) {
        if self.shadows.any() {
            let mut table = self.shadows.table.lock();
            self.drop_shadows(
                &mut table,
                |shadow| shadow.inode.files.dev == files.dev,
                shadow::take,
            );
        }
    }

    /// Before a name changes: what was done with the file so far is told of the old one.
    pub(super) fn hear_before(&self) {
        if self.shadows.any() {
            self.hear();
        }
    }

    /// A guest is given a descriptor: the kernel tells of its closing when ours is closed too.
    pub(crate) fn handing(&self) -> Option<Handing> {
        self.shadows.any().then(|| Handing::begin(&self.shadows.handing))
    }

    /// Waits until all descriptors of ours are closed that guests have been given.
    pub(super) fn await_handed(&self) {
        let begun = Instant::now();
        while self.shadows.handing.load(Ordering::SeqCst) > 0 && begun.elapsed() < PATIENCE {
            thread::yield_now();
        }
    }

    /// Begins to tell of a deed; None while nobody watches.
    fn telling(&self) -> Option<parking_lot::MutexGuard<'_, Table>> {
        if !self.shadows.any() {
            return None;
        }
        self.hear();
        Some(self.shadows.table.lock())
    }

    /// Something was done to a file.
    pub(crate) fn tell(&self, inode: &Inode, deed: Deed) {
        if let Some(table) = self.telling() {
            act(&table, inode, deed);
        }
    }

    /// A file has one more name: told to who watches the file itself.
    pub(crate) fn tell_links(&self, inode: &Inode) {
        if let Some(table) = self.telling()
            && let Some(shadow) = table.shadows.get(&key(inode))
        {
            told(shadow::act(&shadow.path, Deed::Look));
        }
    }

    /// A guest has opened a directory, for which another may stand.
    pub(crate) fn tell_open_directory(&self, inode: &Arc<Inode>) {
        if self.shadows.any() {
            self.tell_open_as(inode, &innermost(inode).0, false);
        }
    }

    /// A guest has read a directory.
    pub(crate) fn tell_listed(&self, inode: &Arc<Inode>) {
        if self.shadows.any() {
            self.tell(&innermost(inode).0, Deed::Read);
        }
    }

    /// Times of a file were set.
    pub(crate) fn tell_times(&self, inode: &Inode, times: [Option<SetTime>; 2]) {
        match times {
            [Some(_), Some(_)] => self.tell(inode, Deed::Look),
            [Some(_), None] => self.tell(inode, Deed::Read),
            [None, Some(_)] => self.tell(inode, Deed::Write),
            [None, None] => {}
        }
    }

    /// A guest has opened a file.
    pub(crate) fn tell_open(&self, inode: &Inode, writes: bool) {
        self.tell_open_as(inode, inode, writes);
    }

    /// A guest has opened a file, by one that stands for it and will be closed.
    fn tell_open_as(&self, held: &Inode, inode: &Inode, writes: bool) {
        let Some(mut table) = self.telling() else { return };
        let shadows = table.of(inode);
        if shadows.is_empty() {
            return;
        }
        if let Some((parent, _)) = inode.standing()
            && let Seen::Layers(paths) = parent.files.fs.seen_at(parent.node)
        {
            // One may have come since.
            self.watch_layers(&mut table, &parent, &paths);
        }
        let opened = |path: &PathBuf| at(path, inode, |path| shadow::open(path, writes));
        let files: Vec<File> = shadows.iter().filter_map(opened).collect();
        if table.open_files() < OPEN_LIMIT {
            table.open.entry(key(held)).or_default().push(Open { writes, _files: files });
        }
    }

    /// A name was made.
    pub(crate) fn tell_made(&self, parent: &Inode, name: &[u8], inode: &Inode) {
        let Some(mut table) = self.telling() else { return };
        let Some(shadow) = table.shadows.get_mut(&key(parent)) else { return };
        let path = shadow.child(name);
        // Taken away without our knowledge.
        let _ = shadow::take(&path);
        shadow.names += 1;
        told(shadow::make(&path, inode.is_directory().unwrap_or(false)));
    }

    /// A name was taken away.
    pub(crate) fn tell_taken(&self, parent: &Inode, name: &[u8], inode: &Arc<Inode>) {
        let Some(mut table) = self.telling() else { return };
        if let Some(shadow) = table.shadows.get_mut(&key(parent)) {
            shadow.names = shadow.names.saturating_sub(1);
            at(&shadow.child(name), inode, shadow::take);
        }
        self.lost_a_name(&mut table, inode);
    }

    /// A file has one name less, and is gone with the last.
    fn lost_a_name(&self, table: &mut Table, inode: &Arc<Inode>) {
        let Some(shadow) = table.shadows.get(&key(inode)) else { return };
        let looks = inode.files.fs.getattr(&Caller::root(), inode.node, None);
        if looks.is_ok_and(|looks| looks.nlink > 0 && !looks.is_directory()) {
            told(shadow::act(&shadow.path, Deed::Look));
            return;
        }
        self.drop_shadows(table, |shadow| shadow.inode.is(inode), shadow::take);
    }

    /// A name was renamed.
    pub(crate) fn tell_moved(&self, from: &Side, to: &Side, exchange: bool) {
        let Some(mut table) = self.telling() else { return };
        let Some(moved) = &from.inode else { return };
        let path = |side: &Side| {
            let shadow = table.shadows.get(&key(&side.parent))?;
            Some(shadow.child(&side.name))
        };
        let (source, target) = (path(from), path(to));
        if source.is_some() || target.is_some() {
            let [aside, away] = ["aside", "away"].map(|name| self.shadows.root.join(name));
            // Where nobody watches, something has to come from or to go to all the same.
            let (source, target) = (source.unwrap_or(aside), target.unwrap_or(away));
            if let Some(other) = to.inode.as_ref().filter(|_| exchange)
                && !target.exists()
            {
                told(shadow::make(&target, other.is_directory().unwrap_or(false)));
            }
            at(&source, moved, |source| shadow::rename(source, &target, exchange));
            for left in [&source, &target] {
                if left.parent() == Some(&self.shadows.root) {
                    let _ = shadow::take(left);
                }
            }
        }
        if let Some(replaced) = &to.inode {
            if exchange {
                self.moved_itself(&mut table, replaced);
            } else if !replaced.is(moved) {
                self.lost_a_name(&mut table, replaced);
            }
        }
        self.moved_itself(&mut table, moved);
    }

    fn moved_itself(&self, table: &mut Table, inode: &Inode) {
        let to = self.shadows.root.join(table.next.to_string());
        if let Some(shadow) = table.shadows.get_mut(&key(inode))
            && told(shadow::rename(&shadow.path, &to, false)).is_some()
        {
            shadow.path = to;
            table.next += 1;
        }
    }

    /// The kernel has told of what a guest does with a descriptor of a file.
    pub(super) fn pass_on(&self, inode: &Inode, event: AddWatchFlags, ours: bool) {
        let mut table = self.shadows.table.lock();
        if event.contains(AddWatchFlags::IN_ACCESS) {
            act(&table, inode, Deed::Read);
        } else if event.contains(AddWatchFlags::IN_MODIFY) {
            act(&table, inode, Deed::Write);
        } else if event.intersects(AddWatchFlags::IN_CLOSE) {
            let writes = event.contains(AddWatchFlags::IN_CLOSE_WRITE);
            let known = table.open.get_mut(&key(inode)).and_then(|open| {
                let at = open.iter().position(|open| open.writes == writes)?;
                Some(open.remove(at))
            });
            if known.is_none() && ours && writes {
                // It was opened before it was watched.
                for path in table.of(inode) {
                    at(&path, inode, |path| shadow::open(path, writes));
                }
            }
            table.open.retain(|_, open| !open.is_empty());
        }
    }

    /// The same, of a file in a layer of a union.
    pub(super) fn pass_on_from_layer(
        &self,
        watch: WatchDescriptor,
        name: Option<&[u8]>,
        event: AddWatchFlags,
    ) {
        let mut table = self.shadows.table.lock();
        if event.contains(AddWatchFlags::IN_IGNORED) {
            table.layers.remove(&watch);
            return;
        }
        let Some(inode) = table.layers.get(&watch).map(Arc::clone) else { return };
        let is_watched = |inode: &Inode| table.shadows.contains_key(&key(inode));
        let told_by_name = inode.standing().is_some_and(|(parent, _)| is_watched(&parent));
        drop(table);
        let inode = match name {
            Some(name) => inode.files.known(&inode, name),
            None => Some(inode).filter(|_| !told_by_name),
        };
        if let Some(inode) = inode.filter(|inode| !inode.is_directory().unwrap_or(true)) {
            self.pass_on(&inode, event, false);
        }
    }
}

fn act(table: &Table, inode: &Inode, deed: Deed) {
    for path in table.of(inode) {
        at(&path, inode, |path| shadow::act(path, deed));
    }
}
