//! The view: loaded modules, mounts, its name and debug tags.

use std::{
    collections::HashSet,
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use umvu_abi::{
    Errno,
    files::{FileSystem, Outside},
    module::{
        Clock, ExecFormats, Facet, HostNames, Module, MountError, MountRequest, Mounted, Standing,
    },
    net::{NetStack, NewSocket, SocketEvents, SocketSpec},
    tree::Tree,
};

use crate::files::{
    Inode, MountedFiles, Objects, device::DeviceFiles, flags::Flags, whole::Nowhere,
};

/// Something mounted at a path.
#[derive(Debug)]
pub struct Mount {
    /// The absolute mount point.
    pub target: String,
    /// The source argument of mount(2).
    pub source: String,
    /// The file-system type.
    pub fstype: String,
    /// The data argument of mount(2).
    pub data: String,
    /// The `MS_*` flags.
    pub flags: u64,
    /// Paths below the mount point at which everything is as it was before the mount.
    pub(crate) exceptions: Vec<Vec<u8>>,
    /// Counts the mounts of the view.
    pub serial: u64,
    /// What is there.
    pub content: Mounted,
    /// What it shows of another mount.
    pub(crate) source_of: Option<Shown>,
    /// The root of a file system or device; None for stacks and generated trees.
    pub(crate) root: Option<Arc<Inode>>,
    /// The device number that stat(2) shows, distinct per mount.
    pub dev: u64,
    /// Permission bits, owner and group of the node, which chmod(2) and chown(2) change.
    pub owner: Mutex<Ownership>,
    /// When it was mounted, seconds since the epoch.
    pub mounted_at: i64,
    permanent: bool,
}

/// What `/proc/mounts` shows of a mount in place of how it was made: of a bind mount, what is behind it.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// The type of file system.
    pub(crate) fstype: String,
    /// The source.
    pub(crate) source: String,
    /// The place in the file system that is the root of the mount.
    pub(crate) root: String,
    /// The options of the file system, behind its flags.
    pub(crate) options: String,
    /// `st_dev` of the file system; None for that of the mount.
    pub(crate) dev: Option<u64>,
    /// The flags of the mount and of the file system, as they were.
    pub(crate) flags: Flags,
    /// The mount of the view that has the file system.
    pub(crate) files: Option<Arc<MountedFiles>>,
}

/// Permission bits and ids of a mounted node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// Permission bits, at first 0777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Mount {
    /// The same mount at another place.
    fn moved(&self, target: String) -> Self {
        if let Some(files) = self.files() {
            files.move_to(&target);
        }
        Self {
            target,
            source: self.source.clone(),
            fstype: self.fstype.clone(),
            data: self.data.clone(),
            exceptions: self.exceptions.clone(),
            source_of: self.source_of.clone(),
            content: self.content.clone(),
            root: self.root.clone(),
            owner: Mutex::new(*self.owner.lock()),
            ..*self
        }
    }

    /// A mount for tests, at a place of no meaning.
    #[cfg(test)]
    pub(crate) fn for_tests(content: Mounted, owner: Ownership) -> Self {
        let text = String::new;
        Self {
            target: "/dev/net/test".to_owned(),
            source: text(),
            fstype: text(),
            data: text(),
            flags: 0,
            exceptions: Vec::new(),
            source_of: None,
            serial: 0,
            content,
            root: None,
            dev: 1,
            owner: Mutex::new(owner),
            mounted_at: 0,
            permanent: false,
        }
    }

    /// A generated tree that is where it is because of a mount, whose device number it shows.
    pub(crate) fn generated(target: String, tree: Arc<dyn Tree>, dev: u64) -> Self {
        Self {
            target,
            source: String::new(),
            fstype: String::new(),
            data: String::new(),
            flags: 0,
            exceptions: Vec::new(),
            source_of: None,
            serial: 0,
            content: Mounted::Tree(tree),
            root: None,
            dev,
            owner: Mutex::new(Ownership { mode: 0o755, uid: 0, gid: 0 }),
            mounted_at: 0,
            permanent: false,
        }
    }

    /// The stack that is mounted here; one that supports nothing where none is.
    #[must_use]
    pub fn stack(&self) -> &Arc<dyn NetStack> {
        static NONE: LazyLock<Arc<dyn NetStack>> = LazyLock::new(|| Arc::new(NoStack));
        match &self.content {
            Mounted::Stack(stack) => stack,
            _ => &NONE,
        }
    }

    /// Whether a network stack is mounted here.
    #[must_use]
    pub fn is_stack(&self) -> bool {
        matches!(self.content, Mounted::Stack(_))
    }

    /// The file system that is mounted here.
    pub(crate) fn files(&self) -> Option<&Arc<MountedFiles>> {
        self.root.as_ref().map(|root| &root.files)
    }

    /// Stops what is mounted here.
    pub(crate) fn stop(&self) {
        self.stack().stop();
        if let Some(files) = self.files() {
            files.forget_names();
            if let Err(errno) = files.fs.sync() {
                tracing::error!("{}: what was written may be lost: {errno}", self.target);
            }
            files.fs.stop();
        }
    }
}

/// In place of a stack where something else is mounted.
#[derive(Debug)]
struct NoStack;

impl NetStack for NoStack {
    fn supports(&self, _: i32) -> bool {
        false
    }

    fn socket(&self, _: &SocketSpec, _: Arc<dyn SocketEvents>) -> Result<NewSocket, Errno> {
        Err(Errno::EAFNOSUPPORT)
    }
}

#[derive(Debug)]
struct Loaded {
    module: Arc<dyn Module>,
    permanent: bool,
}

/// The state of one view.
#[derive(Debug)]
pub struct View {
    available: Vec<Arc<dyn Module>>,
    loaded: RwLock<Vec<Loaded>>,
    mounts: RwLock<Arc<Vec<Arc<Mount>>>>,
    /// Serialises changes of the mounts; the targets for which modules are opening something, which
    /// may take a while and holds nobody else up.
    mounting: Mutex<HashSet<String>>,
    name: Mutex<String>,
    /// Debug tags.
    pub debug: crate::debug::Tags,
    /// The colours of debug lines.
    pub colors: crate::debug::Colors,
    next_dev: AtomicU64,
    generation: AtomicU32,
    /// One bit for each [`Facet`] that a loaded module virtualizes.
    facets: AtomicU32,
    objects: OnceLock<Arc<Objects>>,
}

impl View {
    /// Makes a view in which nothing is loaded.
    #[must_use]
    pub fn new(available: Vec<Arc<dyn Module>>, name: String) -> Self {
        Self {
            available,
            loaded: RwLock::default(),
            mounts: RwLock::default(),
            mounting: Mutex::default(),
            name: Mutex::new(name),
            debug: crate::debug::Tags::default(),
            colors: crate::debug::Colors::default(),
            next_dev: AtomicU64::new(0x7600),
            generation: AtomicU32::new(0),
            facets: AtomicU32::new(0),
            objects: OnceLock::new(),
        }
    }

    /// Says where the objects of virtual files are.
    #[must_use]
    pub fn with_objects(self, objects: &Arc<Objects>) -> Self {
        let _ = self.objects.set(Arc::clone(objects));
        self
    }

    /// Where the objects of virtual files are.
    pub(crate) fn objects(&self) -> &Arc<Objects> {
        self.objects.get_or_init(|| Objects::new(&std::env::temp_dir()))
    }

    /// Loads a module; returns what it mounts by itself. Errors: `EEXIST` loaded already, `ENOENT` no such module.
    pub fn insert(&self, name: &str, permanent: bool) -> Result<&'static [Standing], MountError> {
        let mut loaded = self.loaded.write();
        if loaded.iter().any(|one| one.module.name() == name) {
            return Err(MountError::new(Errno::EEXIST, format!("{name}: already loaded")));
        }
        let Some(module) = self.available.iter().find(|one| one.name() == name) else {
            let known: Vec<_> = self.available.iter().map(|one| one.name()).collect();
            let reason = format!("{name}: no such module (there are: {})", known.join(" "));
            return Err(MountError::new(Errno::ENOENT, reason));
        };
        loaded.push(Loaded { module: Arc::clone(module), permanent });
        self.count_facets(&loaded);
        Ok(module.standing())
    }

    /// Unloads a module; returns what it mounts by itself, which is to be taken away. Errors: `ENOENT`
    /// not loaded, `EBUSY` permanent or in use by another mount.
    pub fn remove(&self, name: &str) -> Result<&'static [Standing], MountError> {
        let mut loaded = self.loaded.write();
        let Some(at) = loaded.iter().position(|one| one.module.name() == name) else {
            return Err(MountError::new(Errno::ENOENT, format!("{name}: not loaded")));
        };
        if loaded[at].permanent {
            return Err(MountError::new(Errno::EBUSY, format!("{name}: loaded permanently")));
        }
        let standing = loaded[at].module.standing();
        // Files that came with the module go with it.
        let came = |mount: &Mount| {
            let is_it = |one: &Standing| mount.target == one.target && mount.fstype == one.fstype;
            standing.iter().any(is_it)
        };
        let used = |mount: &Mount| mount.fstype.starts_with(name) && !came(mount);
        if let Some(user) = self.mounts().iter().find(|mount| used(mount)) {
            let reason = format!("{name}: in use by {}", user.target);
            return Err(MountError::new(Errno::EBUSY, reason));
        }
        loaded.remove(at);
        self.count_facets(&loaded);
        Ok(standing)
    }

    /// Whether a loaded module virtualizes this.
    #[must_use]
    pub fn has(&self, facet: Facet) -> bool {
        self.facets.load(Ordering::Acquire) & bit(facet) != 0
    }

    /// The names of the view, if a module keeps them.
    #[must_use]
    pub fn host_names(&self) -> Option<Arc<dyn HostNames>> {
        if !self.has(Facet::HostNames) {
            return None;
        }
        self.loaded.read().iter().find_map(|one| one.module.host_names())
    }

    /// The formats of programs that loaded modules know.
    #[must_use]
    pub fn exec_formats(&self) -> Vec<Arc<dyn ExecFormats>> {
        self.loaded.read().iter().filter_map(|one| one.module.exec_formats()).collect()
    }

    /// The clock of the view, if a module keeps one.
    #[must_use]
    pub fn clock(&self) -> Option<Arc<dyn Clock>> {
        if !self.has(Facet::Clock) {
            return None;
        }
        self.loaded.read().iter().find_map(|one| one.module.clock())
    }

    /// Looks what the modules virtualize now; true when that has changed.
    pub(crate) fn survey_facets(&self) -> bool {
        let before = self.facets.load(Ordering::Acquire);
        self.count_facets(&self.loaded.read());
        self.facets.load(Ordering::Acquire) != before
    }

    fn count_facets(&self, loaded: &[Loaded]) {
        let facets = loaded.iter().flat_map(|one| one.module.facets());
        self.facets.store(facets.fold(0, |all, facet| all | bit(*facet)), Ordering::Release);
    }

    /// The text of `vu_lsmod`: one line `name: description` per module.
    #[must_use]
    pub fn list(&self) -> String {
        let loaded = self.loaded.read();
        let line = |one: &Loaded| format!("{}: {}\n", one.module.name(), one.module.description());
        loaded.iter().map(line).collect()
    }

    /// The mounts, oldest first. Cheap: a snapshot.
    #[must_use]
    pub fn mounts(&self) -> Arc<Vec<Arc<Mount>>> {
        Arc::clone(&self.mounts.read())
    }

    /// A number that changes with each mount and umount.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    /// The newest mount at exactly this path.
    #[must_use]
    pub fn mount_at(&self, path: &str) -> Option<Arc<Mount>> {
        self.mounts().iter().rev().find(|mount| mount.target == path).cloned()
    }

    /// The mounts that stand on one, the newest first: below its mount point, and made after it.
    #[must_use]
    pub(crate) fn standing_on(&self, mount: &Arc<Mount>) -> Vec<Arc<Mount>> {
        let mounts = self.mounts();
        let below = |other: &str| {
            let rest = other.strip_prefix(mount.target.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
        };
        let later = mounts.iter().rev().take_while(|other| !Arc::ptr_eq(other, mount));
        later.filter(|other| below(&other.target)).cloned().collect()
    }

    /// Whether a file-system type is a matter of this view: a loaded module's, or one of a module
    /// that could be loaded.
    #[must_use]
    pub fn serves(&self, fstype: &str) -> bool {
        self.available.iter().any(|module| belongs(module.as_ref(), fstype))
    }

    /// The type that a bind mount becomes, if a module that makes them is loaded.
    pub(crate) fn bind_type(&self) -> Option<&'static str> {
        self.loaded.read().iter().find_map(|one| one.module.bind_type())
    }

    /// The type of a loaded module for one of the kernel's, and the option to write.
    pub(crate) fn native_type(&self, fstype: &str) -> Option<(&'static str, Option<&'static str>)> {
        self.loaded.read().iter().find_map(|one| one.module.native_type(fstype))
    }

    /// Mounts what needs nothing of the tree of files. Errors: `ENODEV`, `EBUSY`, what the module reports.
    pub fn mount(&self, request: MountRequest) -> Result<(), MountError> {
        let nowhere: Arc<dyn Outside> = Arc::new(Nowhere);
        self.mount_over(request, None, &nowhere)
    }

    /// Mounts; `shown` is what its table tells of it. Errors: `ENODEV` for a type whose module is not loaded, `EBUSY` when a stack is
    /// mounted there, and what the module reports.
    pub(crate) fn mount_over(
        &self,
        mut request: MountRequest,
        shown: Option<Shown>,
        outside: &Arc<dyn Outside>,
    ) -> Result<(), MountError> {
        request.view = self.name();
        let module = self.module_for(&request.fstype)?;
        // Until the end: nobody else opens something for this place.
        let _opening = Opening::begin(self, &request.target)?;
        let dev = self.next_dev.fetch_add(1, Ordering::Relaxed);
        let mut mount = open(module.as_ref(), request, outside)?;
        mount.dev = dev;
        mount.serial = dev;
        let flags = shown.as_ref().map_or_else(|| Flags::of(mount.flags), |shown| shown.flags);
        let beneath = shown.as_ref().and_then(|shown| shown.files.clone());
        mount.source_of = shown;
        let files: Option<Arc<dyn FileSystem>> = match &mount.content {
            Mounted::FileSystem(files) => Some(Arc::clone(files)),
            Mounted::Device(device) => Some(Arc::new(DeviceFiles::new(Arc::clone(device)))),
            Mounted::Stack(_) | Mounted::Tree(_) => None,
        };
        let objects = self.objects();
        let files = files
            .map(|files| MountedFiles::new(files, &mount.target, dev, (flags, beneath), objects));
        mount.root = files.as_ref().map(MountedFiles::root);
        self.change(|mounts| mounts.push(Arc::new(mount)));
        if let Some(files) = files {
            files.begin();
        }
        Ok(())
    }

    /// What generated files tell is out of date.
    pub(crate) fn has_changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The serial number of the next mount.
    pub(crate) fn next_serial(&self) -> u64 {
        self.next_dev.load(Ordering::Relaxed)
    }

    /// Takes a mount away, after `busy` has agreed (it returns the reason why not).
    /// Errors: `EINVAL` nothing mounted there, `EBUSY` permanent or in use.
    pub fn umount(
        &self,
        target: &str,
        busy: &dyn Fn(&Arc<Mount>) -> Option<String>,
    ) -> Result<Arc<Mount>, MountError> {
        let _guard = self.mounting.lock();
        let Some(mount) = self.mount_at(target) else {
            return Err(MountError::new(Errno::EINVAL, format!("{target}: not mounted")));
        };
        if mount.permanent {
            return Err(MountError::new(Errno::EBUSY, format!("{target}: mounted permanently")));
        }
        if let Some(reason) = busy(&mount) {
            return Err(MountError::new(Errno::EBUSY, format!("{target}: {reason}")));
        }
        self.change(|mounts| mounts.retain(|other| !Arc::ptr_eq(other, &mount)));
        Ok(mount)
    }

    /// Moves a mount with what is mounted below it: mount(2) with `MS_MOVE`. Errors: `EINVAL` where no file
    /// system or device is mounted, `ELOOP` below itself, `EBUSY` for a permanent one.
    pub(crate) fn move_mount(&self, from: &str, to: &str) -> Result<(), MountError> {
        let _guard = self.mounting.lock();
        let refused = |errno, why| Err(MountError::new(errno, format!("{from}: {why}")));
        match self.mount_at(from) {
            None => return refused(Errno::EINVAL, "not mounted"),
            Some(mount) if mount.permanent => return refused(Errno::EBUSY, "mounted permanently"),
            Some(mount) if mount.root.is_none() || !mount.exceptions.is_empty() => {
                return refused(Errno::EINVAL, "cannot be moved");
            }
            Some(_) => {}
        }
        let rest = |mount: &Mount| mount.target.strip_prefix(from).map(str::to_owned);
        let rest =
            |mount: &Mount| rest(mount).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        if to.strip_prefix(from).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return refused(Errno::ELOOP, "cannot be moved below itself");
        }
        self.change(|mounts| {
            // What another mount covers there stays.
            let first = mounts.iter().rposition(|mount| mount.target == from).unwrap_or(0);
            let (moved, mut stay): (Vec<_>, Vec<_>) = std::mem::take(mounts)
                .into_iter()
                .enumerate()
                .partition(|(at, mount)| *at >= first && rest(mount).is_some());
            let moved = moved.into_iter().map(|(at, mount)| {
                let target = format!("{to}{}", rest(&mount).unwrap_or_default());
                (at, Arc::new(mount.moved(target)))
            });
            stay.extend(moved);
            *mounts = stay.into_iter().map(|(_, mount)| mount).collect();
        });
        Ok(())
    }

    /// The name of the view, empty when it has none.
    #[must_use]
    pub fn name(&self) -> String {
        self.name.lock().clone()
    }

    /// Names the view.
    pub fn set_name(&self, name: &str) {
        name.clone_into(&mut self.name.lock());
    }

    /// Stops every mounted stack: the hypervisor ends.
    pub fn stop(&self) {
        for mount in self.mounts().iter() {
            mount.stop();
        }
        self.change(Vec::clear);
    }

    fn change(&self, edit: impl FnOnce(&mut Vec<Arc<Mount>>)) {
        edit(Arc::make_mut(&mut self.mounts.write()));
        self.has_changed();
    }

    /// The loaded module whose name is the longest prefix of the type.
    fn module_for(&self, fstype: &str) -> Result<Arc<dyn Module>, MountError> {
        let loaded = self.loaded.read();
        let fitting = loaded.iter().filter(|one| belongs(one.module.as_ref(), fstype));
        if let Some(found) = fitting.max_by_key(|one| one.module.name().len()) {
            return Ok(Arc::clone(&found.module));
        }
        let missing = self.available.iter().find(|one| belongs(one.as_ref(), fstype));
        Err(MountError::new(
            Errno::ENODEV,
            match missing {
                Some(module) => {
                    let name = module.name();
                    format!("{fstype}: module {name} is not loaded (run: vu_insmod {name})")
                }
                None => format!("{fstype}: unknown file-system type"),
            },
        ))
    }
}

/// A place for which a module is opening something.
struct Opening<'a> {
    view: &'a View,
    target: String,
}

impl<'a> Opening<'a> {
    fn begin(view: &'a View, target: &str) -> Result<Self, MountError> {
        let mut opening = view.mounting.lock();
        let taken = view.mount_at(target).is_some_and(|mount| mount.is_stack());
        if taken || !opening.insert(target.to_owned()) {
            let reason = format!("{target}: something is mounted there already");
            return Err(MountError::new(Errno::EBUSY, reason));
        }
        Ok(Self { view, target: target.to_owned() })
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.view.mounting.lock().remove(&self.target);
    }
}

/// Lets a module open what is to be mounted.
fn open(
    module: &dyn Module,
    mut request: MountRequest,
    outside: &Arc<dyn Outside>,
) -> Result<Mount, MountError> {
    let permanent = request.data.split(',').any(|word| word == "permanent");
    let kept = request.data.split(',').filter(|word| *word != "permanent");
    request.data = kept.collect::<Vec<_>>().join(",");
    let content = module.mount_over(&request, outside)?;
    let above = request.target.trim_end_matches('/').as_bytes();
    let exceptions = module.exceptions(&request);
    let exceptions = exceptions.iter().map(|path| [above, path].concat()).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Ok(Mount {
        target: request.target,
        source: request.source,
        fstype: request.fstype,
        data: request.data,
        flags: request.flags,
        exceptions,
        source_of: None,
        serial: 0,
        content,
        root: None,
        dev: 0,
        owner: Mutex::new(Ownership { mode: 0o777, uid: 0, gid: 0 }),
        mounted_at: now.map_or(0, |time| time.as_secs().try_into().unwrap_or(i64::MAX)),
        permanent,
    })
}

fn bit(facet: Facet) -> u32 {
    1 << facet as u32
}

fn belongs(module: &dyn Module, fstype: &str) -> bool {
    fstype.starts_with(module.name())
}
