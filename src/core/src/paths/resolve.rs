//! Path resolution: one function that walks a path as the kernel does and knows what is virtual.
//!
//! [`Resolver::resolve`] takes an absolute starting directory without symbolic links and any path,
//! and returns the [`Place`] it names. Everything virtual is found here: mounted nodes, directories
//! that exist only because something is mounted below, and the trees of stacks. Paths of procfs are
//! made canonical (`/proc/self` becomes `/proc/PID`), so that a canonical path means the same file
//! to every process.

use std::sync::Arc;

use umvu_abi::{Errno, Tid, tree::Entry, tree::Tree};

use super::{
    lexical::{components, demands_directory, number, pop, push},
    territory::Territory,
};
use crate::view::Mount;

/// How many symbolic links one path may have (path_resolution(7)).
const LINKS_LIMIT: usize = 40;
/// How many components may wait: a chain of long links is cut here.
const COMPONENTS_LIMIT: usize = 8192;

/// Whether a symbolic link at the end of the path is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// `AT_SYMLINK_FOLLOW`: stat(2), open(2).
    Follow,
    /// `AT_SYMLINK_NOFOLLOW`: lstat(2), unlink(2).
    Keep,
}

/// What a path names. Paths are absolute, canonical, without symbolic links but perhaps the last.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// The kernel's file, or none.
    Real(Vec<u8>),
    /// The kernel's directory, with mount points in it that the kernel does not show.
    Merged(Vec<u8>),
    /// A directory that exists only because something is mounted below it.
    Directory(Vec<u8>),
    /// A mount point.
    Node(Arc<Mount>),
    /// Something in the tree of a stack.
    Entry(TreeEntry),
    /// A name that a directory of a tree has not.
    Missing(Vec<u8>),
}

impl Place {
    /// The canonical absolute path.
    pub(super) fn path(&self) -> &[u8] {
        match self {
            Self::Real(path) | Self::Merged(path) | Self::Directory(path) | Self::Missing(path) => {
                path
            }
            Self::Node(mount) => mount.target.as_bytes(),
            Self::Entry(entry) => &entry.path,
        }
    }
}

/// Something in the tree of a stack.
#[derive(Debug, Clone)]
pub(super) struct TreeEntry {
    /// The stack's mount.
    pub mount: Arc<Mount>,
    /// The tree.
    pub tree: Arc<dyn Tree>,
    /// The path in the tree.
    pub inner: String,
    /// The canonical absolute path.
    pub path: Vec<u8>,
    /// What stands there.
    pub entry: Entry,
}

/// What the resolver asks of the world outside.
pub(super) trait World {
    /// Reads a symbolic link of the kernel's. Errors: `EINVAL` for what is not one, `ENOENT`.
    fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, Errno>;

    /// Whether a path of the kernel's exists, links not followed.
    fn exists(&self, path: &[u8]) -> bool;

    /// The mount whose files a thread sees as its network; None for the kernel's.
    fn network_of(&self, tid: Tid) -> Option<Arc<Mount>>;

    /// The virtual path that a kernel path of a materialised directory stands for.
    fn stands_for(&self, link: &[u8]) -> Option<Result<Vec<u8>, Errno>>;
}

/// Resolves paths for one thread.
#[derive(Debug)]
pub(super) struct Resolver<'a, W> {
    /// What is virtual.
    pub territory: &'a Territory,
    /// The world outside.
    pub world: &'a W,
    /// The thread.
    pub caller: Tid,
    /// The leader of its group.
    pub leader: Tid,
}

/// What one component turned out to be.
enum Step {
    Onward,
    Leaf,
    /// A name that a tree has not.
    Absent,
    /// A name that the kernel has not.
    Nowhere,
    Link(Vec<u8>),
}

/// A position in the tree of a stack.
struct Located {
    mount: Arc<Mount>,
    tree: Arc<dyn Tree>,
    inner: String,
}

impl<W: World> Resolver<'_, W> {
    /// Walks `path` from `start`. Errors: `ENOENT`, `ENOTDIR`, `ELOOP` where the walk is virtual;
    /// errors of the kernel's directories are left for the kernel to report.
    pub(super) fn resolve(&self, start: &[u8], path: &[u8], last: Last) -> Result<Place, Errno> {
        self.walk(start, path, last).map(|(place, _)| place)
    }

    /// As [`Resolver::resolve`], and tells whether the walk has left a directory that the kernel
    /// has not by `..`.
    pub(super) fn walk(
        &self,
        start: &[u8],
        path: &[u8],
        last: Last,
    ) -> Result<(Place, bool), Errno> {
        let mut has_left = false;
        let mut here = if start == b"/" { Vec::new() } else { start.to_vec() };
        if path.starts_with(b"/") {
            here.clear();
        }
        if self.territory.node(&here).is_some() {
            return Err(Errno::ENOTDIR);
        }
        let mut waiting: Vec<Vec<u8>> = components(path).rev().map(<[u8]>::to_vec).collect();
        let directory = demands_directory(path);
        let mut links = 0;
        while let Some(name) = waiting.pop() {
            match name.as_slice() {
                b"." => continue,
                b".." => {
                    has_left |= self.is_only_virtual(&here);
                    pop(&mut here);
                    continue;
                }
                name => push(&mut here, name),
            }
            let is_last = waiting.is_empty();
            match self.step(&here)? {
                Step::Link(target) if !is_last || directory || last == Last::Follow => {
                    links += 1;
                    if links > LINKS_LIMIT || waiting.len() > COMPONENTS_LIMIT {
                        return Err(Errno::ELOOP);
                    }
                    pop(&mut here);
                    if target.starts_with(b"/") {
                        here.clear();
                    }
                    waiting.extend(components(&target).rev().map(<[u8]>::to_vec));
                }
                Step::Leaf if !is_last || directory => return Err(Errno::ENOTDIR),
                Step::Absent if !is_last => return Err(Errno::ENOENT),
                Step::Nowhere if !is_last => {
                    // The kernel will say so; a path to be mounted on is taken as text.
                    let rest = waiting.iter().rev();
                    rest.for_each(|name| push(&mut here, name));
                    return Ok((Place::Real(here), has_left));
                }
                _ => {}
            }
        }
        if here.is_empty() {
            here.push(b'/');
        }
        self.place(here).map(|place| (place, has_left))
    }

    /// Whether the kernel has no such directory.
    fn is_only_virtual(&self, path: &[u8]) -> bool {
        let concerned = self.locate(path).is_some() || self.territory.children(path).is_some();
        concerned && !self.world.exists(path)
    }

    fn step(&self, path: &[u8]) -> Result<Step, Errno> {
        if self.territory.is_private(path) {
            return Err(Errno::EACCES);
        }
        if let Some(located) = self.locate(path) {
            return match located.tree.entry(&located.inner) {
                Ok(Entry::Directory(_)) => Ok(Step::Onward),
                Ok(Entry::File { .. }) => Ok(Step::Leaf),
                Ok(Entry::Link(target)) => Ok(Step::Link(target.into_bytes())),
                Err(Errno::ENOENT) => Ok(Step::Absent),
                Err(errno) => Err(errno),
            };
        }
        if self.territory.node(path).is_some() {
            return Ok(Step::Leaf);
        }
        if let Some(target) = self.link_of_procfs(path) {
            return Ok(Step::Link(target.into_bytes()));
        }
        match self.world.read_link(path) {
            // Anonymous files (`pipe:[1]`) have no path to go on with: the kernel knows.
            Ok(target) if is_magic(path) && !target.starts_with(b"/") => Ok(Step::Onward),
            Ok(target) => match self.world.stands_for(&target) {
                Some(path) => path.map(Step::Link),
                None => Ok(Step::Link(target)),
            },
            Err(Errno::ENOENT) if self.territory.children(path).is_none() => Ok(Step::Nowhere),
            Err(_) => Ok(Step::Onward),
        }
    }

    /// The links of procfs whose target depends on the reader.
    fn link_of_procfs(&self, path: &[u8]) -> Option<String> {
        match path.strip_prefix(b"/proc/")? {
            b"self" => Some(self.leader.to_string()),
            b"thread-self" => Some(format!("{}/task/{}", self.leader, self.caller)),
            // On Linux always self/net. A thread that has chosen another stack than its leader
            // sees its own here.
            b"net" if self.caller == self.leader => Some("self/net".to_owned()),
            b"net" => Some("thread-self/net".to_owned()),
            _ => None,
        }
    }

    /// Finds the tree that a canonical path lies in.
    fn locate(&self, path: &[u8]) -> Option<Located> {
        if self.territory.is_empty() {
            return None;
        }
        let mut parts = components(path);
        let (mount, tree) = match parts.next()? {
            b"proc" => match parts.next()? {
                b"sys" if parts.next()? == b"net" => {
                    let mount = self.world.network_of(self.caller)?;
                    let tree = mount.stack().proc_sys_net()?;
                    (mount, tree)
                }
                process => {
                    let mut task = number(process)?;
                    let mut part = parts.next()?;
                    if part == b"task" {
                        task = number(parts.next()?)?;
                        part = parts.next()?;
                    }
                    if part != b"net" {
                        return None;
                    }
                    let mount = self.world.network_of(Tid(task))?;
                    let tree = mount.stack().proc_net()?;
                    (mount, tree)
                }
            },
            b"sys" => {
                let found = match parts.next()? {
                    b"class" => parts.next()? == b"net",
                    // Where chdir(2) through a link of the kernel's class directory leads.
                    b"devices" => parts.next()? == b"virtual" && parts.next()? == b"net",
                    _ => false,
                };
                let mount = self.world.network_of(self.caller).filter(|_| found)?;
                let tree = mount.stack().sys_class_net()?;
                (mount, tree)
            }
            _ => return None,
        };
        let inner: Vec<&[u8]> = parts.collect();
        // A name that is not UTF-8 is in no tree; the replacement character finds nothing either.
        let inner = String::from_utf8_lossy(&inner.join(&b'/')).into_owned();
        Some(Located { mount, tree, inner })
    }

    fn place(&self, path: Vec<u8>) -> Result<Place, Errno> {
        if let Some(Located { mount, tree, inner }) = self.locate(&path) {
            return match tree.entry(&inner) {
                Ok(entry) => Ok(Place::Entry(TreeEntry { mount, tree, inner, path, entry })),
                Err(Errno::ENOENT) => Ok(Place::Missing(path)),
                Err(errno) => Err(errno),
            };
        }
        if let Some(mount) = self.territory.node(&path) {
            return Ok(Place::Node(Arc::clone(mount)));
        }
        if let Some(children) = self.territory.children(&path) {
            if !self.world.exists(&path) {
                return Ok(Place::Directory(path));
            }
            let shown = |name: &Vec<u8>| {
                let mut child = path.clone();
                push(&mut child, name);
                self.world.exists(&child)
            };
            if !children.iter().all(shown) {
                return Ok(Place::Merged(path));
            }
        }
        Ok(Place::Real(path))
    }
}

/// Whether a path is a link of procfs that the kernel follows by itself (proc(5)).
fn is_magic(path: &[u8]) -> bool {
    path.starts_with(b"/proc/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::fake::{self, FakeWorld};

    fn resolve(world: &FakeWorld, start: &str, path: &str, last: Last) -> Result<Place, Errno> {
        let territory = Territory::of(&world.view, b"/run/dirs");
        let (caller, leader) = (Tid(11), Tid(10));
        let resolver = Resolver { territory: &territory, world, caller, leader };
        resolver.resolve(start.as_bytes(), path.as_bytes(), last)
    }

    fn show(place: Result<Place, Errno>) -> String {
        let text = |kind: &str, path: &[u8]| format!("{kind} {}", String::from_utf8_lossy(path));
        match place {
            Ok(Place::Real(path)) => text("real", &path),
            Ok(Place::Merged(path)) => text("merged", &path),
            Ok(Place::Directory(path)) => text("directory", &path),
            Ok(Place::Node(mount)) => format!("node {}", mount.target),
            Ok(Place::Entry(entry)) => text("entry", &entry.path),
            Ok(Place::Missing(path)) => text("missing", &path),
            Err(errno) => format!("{errno:?}"),
        }
    }

    fn check(world: &FakeWorld, cases: &[(&str, &str)]) {
        for (path, expected) in cases {
            assert_eq!(show(resolve(world, "/dev", path, Last::Follow)), *expected, "{path}");
        }
    }

    #[test]
    fn nodes_and_the_directories_above_them_appear() {
        let world = fake::world(&["/dev/net/lab"]).with_dirs(&["/dev", "/usr"]);
        check(
            &world,
            &[
                ("/dev/net/lab", "node /dev/net/lab"),
                ("net/lab", "node /dev/net/lab"),
                ("./net//.././net/lab", "node /dev/net/lab"),
                ("/usr/../dev/net/lab", "node /dev/net/lab"),
                ("/dev/net", "directory /dev/net"),
                ("net/", "directory /dev/net"),
                ("/dev", "merged /dev"),
                (".", "merged /dev"),
                ("/", "real /"),
                ("/dev/net/lab/", "ENOTDIR"),
                ("/dev/net/lab/x", "ENOTDIR"),
                ("/dev/net/other", "real /dev/net/other"),
                ("/../../dev/null", "real /dev/null"),
            ],
        );
        let left = |path: &str| {
            let territory = Territory::of(&world.view, b"/run/dirs");
            let (caller, leader) = (Tid(11), Tid(10));
            let resolver = Resolver { territory: &territory, world: &world, caller, leader };
            resolver.walk(b"/", path.as_bytes(), Last::Follow).map(|(_, left)| left)
        };
        assert_eq!(left("/dev/net/../null"), Ok(true));
        assert_eq!(left("/usr/../dev/null"), Ok(false));
    }

    #[test]
    fn a_directory_that_shows_its_node_really_is_the_kernels() {
        let world = fake::world(&["/srv/lab"]).with_dirs(&["/srv", "/srv/lab"]);
        check(&world, &[("/srv", "real /srv"), ("/srv/lab", "node /srv/lab")]);
    }

    #[test]
    fn links_are_followed_into_virtual_places_up_to_a_limit() {
        let world = fake::world(&["/dev/net/lab"]).with_dirs(&["/dev"]).with_links(&[
            ("/dev/here", "net"),
            ("/srv", "/dev/here"),
            ("/loop", "loop"),
            ("/a", "/a/x"),
        ]);
        check(
            &world,
            &[
                ("here/lab", "node /dev/net/lab"),
                ("/srv/lab", "node /dev/net/lab"),
                ("/srv", "directory /dev/net"),
                ("/loop", "ELOOP"),
                ("/a/b", "ELOOP"),
            ],
        );
        assert_eq!(show(resolve(&world, "/", "/srv", Last::Keep)), "real /srv");
        assert_eq!(show(resolve(&world, "/", "/srv/", Last::Keep)), "directory /dev/net");
    }

    #[test]
    fn network_files_are_those_of_the_process_that_is_named() {
        let world = fake::world(&["/dev/net/lab"]).with_network(&[10, 20]);
        check(
            &world,
            &[
                ("/proc/self/net/dev", "entry /proc/10/net/dev"),
                ("/proc/10/net", "entry /proc/10/net"),
                ("/proc/20/net/dev", "entry /proc/20/net/dev"),
                ("/proc/20/net/nothing", "missing /proc/20/net/nothing"),
                ("/proc/20/net/dev/", "ENOTDIR"),
                ("/proc/20/net/no/x", "ENOENT"),
                ("/proc/20/net/link", "entry /proc/20/net/dev"),
                ("/proc/30/net/dev", "real /proc/30/net/dev"),
                ("/proc/11/net/dev", "real /proc/11/net/dev"),
                ("/proc/net/dev", "real /proc/10/task/11/net/dev"),
                ("/proc/sys/net/ipv4", "real /proc/sys/net/ipv4"),
                ("/proc/10/status", "real /proc/10/status"),
                ("/proc/self/net/../status", "real /proc/10/status"),
            ],
        );
        let world = fake::world(&["/dev/net/lab"]).with_network(&[11]);
        check(
            &world,
            &[
                ("/proc/net/dev", "entry /proc/10/task/11/net/dev"),
                ("/proc/thread-self/net/dev", "entry /proc/10/task/11/net/dev"),
                ("/proc/sys/net/dev", "entry /proc/sys/net/dev"),
                ("/sys/class/net/dev", "entry /sys/class/net/dev"),
                ("/sys/class/net/../net", "entry /sys/class/net"),
                ("/sys/devices/virtual/net/dev", "entry /sys/devices/virtual/net/dev"),
                ("/sys/devices/system/net", "real /sys/devices/system/net"),
                ("/proc/self/net/dev", "real /proc/10/net/dev"),
            ],
        );
        assert_eq!(show(resolve(&world, "/", "/proc/net", Last::Keep)), "real /proc/net");
    }

    #[test]
    fn links_of_processes_lead_on_by_their_text() {
        let world = fake::world(&["/dev/net/lab"]).with_dirs(&["/run"]).with_links(&[
            ("/proc/10/cwd", "/dev"),
            ("/proc/10/fd/3", "pipe:[7]"),
            ("/proc/10/fd/4", "/run/dirs/1"),
        ]);
        check(
            &world,
            &[
                ("/proc/self/cwd/net/lab", "node /dev/net/lab"),
                ("/proc/self/fd/3", "real /proc/10/fd/3"),
                ("/proc/self/fd/4/lab", "node /dev/net/lab"),
                ("/run/dirs/1/lab", "EACCES"),
            ],
        );
    }

    #[test]
    fn nothing_is_found_behind_what_does_not_exist() {
        let world = fake::world(&["/dev/net/lab"]).with_dirs(&["/dev"]);
        check(&world, &[("/no/../dev/net/lab", "real /no/../dev/net/lab")]);
    }

    #[test]
    fn any_bytes_resolve_to_something() {
        let world = fake::world(&["/dev/net/lab"]).with_network(&[11]);
        let territory = Territory::of(&world.view, b"/run/dirs");
        let resolver =
            Resolver { territory: &territory, world: &world, caller: Tid(11), leader: Tid(11) };
        for path in [&b"\xff\xff"[..], b"/proc/net/\xff", b"/proc/99999999999/net", b"", b"////"] {
            let _ = resolver.resolve(b"/", path, Last::Follow);
        }
    }
}
