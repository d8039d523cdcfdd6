//! Virtual files and directories: the path calls of an armed view.
//!
//! Every path call passes [`locate`](locate::locate), which forwards what the view does not concern
//! ([`territory`]) and resolves the rest ([`resolve`]). Virtual are: the nodes of mounted stacks,
//! the directories that exist only because something is mounted below them, and the network files
//! of procfs and sysfs, which come from the trees of the caller's stack. Each family of calls has a
//! file: [`stat`], [`open`], [`inspect`] (access, readlink, statfs, getxattr), [`change`] (chmod,
//! chown, times, truncate), [`names`] (link, unlink, rename, mkdir), [`notify`] (inotify),
//! [`cwd`].
//!
//! Directories whose listing is not the kernel's are shown as real ones in the private directory
//! ([`directories`]); content is shown as memfds ([`content`]). So getdents64, read, lseek, mmap
//! and fstat run in the kernel.
//!
//! Limits: symbolic links are followed into virtual places only from paths whose text concerns the
//! view; a symbolic link elsewhere that leads to `/proc/net/dev` shows the kernel's. Programs are
//! not executed from virtual places.
//!
//! Lock order: the writers, then a stack (through its tree); the others are leaves.

mod attributes;
mod blocks;
mod change;
mod content;
mod credentials;
mod cwd;
mod descriptors;
mod directories;
mod exec;
#[cfg(test)]
mod fake;
pub(crate) mod host;
pub(crate) mod inspect;
mod layout;
pub(crate) mod lexical;
mod linker;
mod listdir;
mod listing;
pub(crate) mod locate;
pub(crate) mod magic;
mod mapped;
mod names;
mod notify;
mod open;
mod open_inode;
pub(crate) mod owners;
mod patience;
mod procfs;
mod promises;
pub(crate) mod reach;
pub(crate) mod resolve;
mod root;
mod stat;
mod status;
pub(crate) mod territory;
#[cfg(test)]
mod tests;
mod threads;
mod times;
pub(crate) mod transfer;
pub(crate) mod unix;

use std::sync::Arc;

use parking_lot::RwLock;
use umvu_abi::{Errno, Tid, files::Caller, module::Facet};
use umvu_tracer::api::{Birth, Call};

pub(crate) use self::patience::may_wait;
use self::{
    content::Writers,
    directories::Directories,
    lexical::{PATH_MAX, normalise},
    promises::Promises,
    territory::Territory,
    threads::{Root, Threads},
};
use crate::{Core, dispatch::Row, identity::Credentials, rundir::RunDir, view::View};

/// What the path calls keep.
#[derive(Debug)]
pub struct Paths {
    threads: Threads,
    linkers: linker::Linkers,
    directories: Directories,
    writers: Writers,
    promises: Promises,
    territory: RwLock<Arc<Territory>>,
}

impl Paths {
    /// Starts with nothing virtual.
    #[must_use]
    pub fn new(run_dir: &Arc<RunDir>) -> Self {
        Self {
            threads: Threads::default(),
            linkers: linker::Linkers::default(),
            directories: Directories::new(run_dir.path()),
            writers: Writers::default(),
            promises: Promises::default(),
            territory: RwLock::default(),
        }
    }

    /// Follows the birth of a task.
    pub fn born(&self, parent: Tid, child: Tid, birth: Birth) {
        self.threads.born(parent, child, birth);
    }

    /// Follows an exec.
    pub fn executed(&self, task: Tid, former: Tid) {
        self.threads.executed(task, former);
    }

    /// Follows the end of a task.
    pub fn ended(&self, task: Tid) {
        self.threads.ended(task);
    }

    /// Delivers what guests have written to generated files; whether there may have been something.
    /// Cheap when none is open for writing.
    pub fn settle(&self) -> bool {
        self.writers.settle()
    }

    /// Says that a thread is about to change its credentials to the kernel.
    pub(crate) fn caller_changes(&self, tid: Tid) {
        self.threads.get(tid).moves();
    }

    /// The leader of a thread's group.
    pub(crate) fn leader(&self, tid: Tid) -> Tid {
        self.threads.get(tid).leader()
    }

    /// The root directory of a thread in the view, when chroot(2) has given it one.
    pub(crate) fn root(&self, tid: Tid) -> Option<Root> {
        self.threads.root(tid)
    }

    /// The kernel's credentials of a thread.
    pub(crate) fn caller(&self, tid: Tid) -> Caller {
        self.threads.get(tid).credentials()
    }

    /// The first components of all paths that may concern the view now; None: every path does.
    #[must_use]
    pub fn first_components(&self, view: &View) -> Option<Vec<Vec<u8>>> {
        let territory = self.territory(view);
        (!territory.covers_all() && !self.threads.are_rooted())
            .then(|| territory.first_components())
    }

    /// What was virtual before a mount was made.
    pub(crate) fn territory_before(&self, view: &View, serial: u64) -> Territory {
        Territory::before(view, self.directories.root(), serial)
    }

    /// What is virtual now.
    pub(crate) fn territory(&self, view: &View) -> Arc<Territory> {
        let current = Arc::clone(&self.territory.read());
        if current.is_current(view) {
            return current;
        }
        let fresh = Arc::new(Territory::of(view, self.directories.root()));
        *self.territory.write() = Arc::clone(&fresh);
        fresh
    }
}

impl Core {
    /// The credentials of a thread that count for files of the view.
    pub(crate) fn caller(&self, tid: Tid) -> Caller {
        let mut caller = self.paths.caller(tid);
        if let Some(who) = self.credentials(tid) {
            owners::as_virtual(&who, &mut caller);
        }
        caller
    }

    /// Whether any thread may have virtual credentials.
    pub(crate) fn has_virtual_credentials(&self) -> bool {
        self.view.has(Facet::Ids) || self.view.has(Facet::Capabilities)
    }

    /// The virtual credentials of a thread; None while they are the kernel's.
    pub(crate) fn credentials(&self, tid: Tid) -> Option<Arc<Credentials>> {
        if !self.has_virtual_credentials() {
            return None;
        }
        self.tasks.get(tid).credentials()
    }

    /// Makes a path argument absolute, in the caller's view: relative to its working directory,
    /// without `.`, `..` and symbolic links. What does not exist is taken as text.
    /// Errors: `ENOENT` for the empty path, `ENAMETOOLONG`, `ELOOP`, `ENOTDIR`, `EINVAL` when the
    /// result is not UTF-8.
    pub(crate) fn absolute(&self, call: &Call, path: &[u8]) -> Result<String, Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let start = locate::start(self, call, path)?;
        // A mount point may be a file: whether a slash may follow is not asked here.
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(1, |at| at + 1);
        let path = &path[..end];
        let territory = self.paths.territory(&self.view);
        let absolute = match locate::walk_in(self, &territory, call.tid(), &start, path) {
            Ok(place) => normalise(place.path()).into_owned(),
            Err(Errno::ENOENT) => normalise(&lexical::beneath(&start, path)).into_owned(),
            Err(errno) => return Err(errno),
        };
        if absolute.len() >= PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        String::from_utf8(absolute).map_err(|_| Errno::EINVAL)
    }
}

/// The rows of the path calls.
#[must_use]
pub fn rows() -> Vec<Row> {
    let mut rows = open::rows();
    rows.extend(stat::rows());
    rows.extend(inspect::rows());
    rows.extend(change::rows());
    rows.extend(times::rows());
    rows.extend(names::rows());
    rows.extend(notify::rows());
    rows.extend(cwd::rows());
    rows.extend(root::rows());
    rows.extend(credentials::rows());
    rows.extend(descriptors::rows());
    rows.extend(listdir::rows());
    rows.extend(exec::rows());
    rows.extend(transfer::rows());
    rows
}
