//! Path resolution: one function that walks a path as the kernel does and knows what is virtual.
//!
//! [`Resolver::resolve`] takes an absolute starting directory without symbolic links and any path,
//! and returns the [`Place`] it names. Everything virtual is found here: mounted nodes, directories
//! that exist only because something is mounted below, and the trees of stacks. Paths of procfs are
//! made canonical (`/proc/self` becomes `/proc/PID`), so that a canonical path means the same file
//! to every process.
//!
//! [`place`] says what a path can name; [`magic`] follows the links of processes in procfs; [`trees`]
//! finds generated trees.

mod magic;
mod place;
mod trees;

use std::sync::Arc;

use umvu_abi::{Errno, Tid, files::Caller, tree::Entry};

use self::trees::Located;
pub(crate) use self::{
    magic::Magic,
    place::{Found, Last, Place, TreeEntry, Vacant},
};

use super::{
    lexical::{components, demands_directory, pop, push},
    territory::Territory,
};
use crate::{
    files::{Inode, access},
    view::Mount,
};

/// How many symbolic links one path may have (path_resolution(7)).
const LINKS_LIMIT: usize = 40;
/// How many components may wait: a chain of long links is cut here.
const COMPONENTS_LIMIT: usize = 8192;
/// The longest name (`NAME_MAX`).
const NAME_MAX: usize = 255;

/// What the resolver asks of the world outside.
pub(crate) trait World {
    /// Reads a symbolic link of the kernel's. Errors: `EINVAL` for what is not one, `ENOENT`.
    fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, Errno>;

    /// Whether a path of the kernel's exists, links not followed.
    fn exists(&self, path: &[u8]) -> bool;

    /// The mount whose files a thread sees as its network; None for the kernel's.
    fn network_of(&self, tid: Tid) -> Option<Arc<Mount>>;

    /// Where a link of a process in procfs leads; `link` is its text, an absolute path.
    /// Errors: `ENOENT` for what is forgotten.
    fn magic(&self, path: &[u8], link: Vec<u8>) -> Result<Magic, Errno>;

    /// The credentials of the thread that asks.
    fn credentials(&self, tid: Tid) -> Caller;
}

/// Resolves paths for one thread.
#[derive(Debug)]
pub(crate) struct Resolver<'a, W> {
    /// What is virtual.
    pub territory: &'a Territory,
    /// The world outside.
    pub world: &'a W,
    /// The thread.
    pub caller: Tid,
    /// The leader of its group.
    pub leader: Tid,
    /// Its root directory, absolute and canonical.
    pub root: &'a [u8],
}

/// What one component turned out to be.
enum Step {
    Onward,
    Leaf,
    /// A name that a tree has not.
    Absent,
    /// A name that the kernel has not.
    Nowhere,
    /// A name that a mounted file system has not.
    Vacant,
    Link(Vec<u8>),
    /// A link that leads to a file, not to a path.
    Jump(Trail),
}

/// What one component of a path stands on.
#[derive(Debug, Clone)]
enum Spot {
    /// The kernel's, a tree's, or nothing.
    Other,
    /// A file of a mounted file system.
    Inode(Arc<Inode>),
}

/// A path under way: its components and what each stands on, the root first.
struct Trail {
    here: Vec<u8>,
    spots: Vec<Spot>,
}

impl Trail {
    fn top(&self) -> &Spot {
        self.spots.last().unwrap_or(&Spot::Other)
    }

    fn push(&mut self, spot: Spot) {
        self.spots.push(spot);
    }

    /// One component up; the root stays.
    fn pop(&mut self) {
        pop(&mut self.here);
        if self.spots.len() > 1 {
            self.spots.pop();
        }
    }
}

impl<W: World> Resolver<'_, W> {
    /// Walks `path` from `start`. Errors: `ENOENT`, `ENOTDIR`, `ELOOP` where the walk is virtual;
    /// errors of the kernel's directories are left for the kernel to report.
    pub(crate) fn resolve(&self, start: &[u8], path: &[u8], last: Last) -> Result<Place, Errno> {
        self.walk(start, path, last).map(|(place, _)| place)
    }

    /// As [`Resolver::resolve`], of an absolute path of the view, whatever the root of the thread is.
    pub(crate) fn find(&self, path: &[u8], last: Last) -> Result<Place, Errno> {
        let start = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
        self.resolve(b"/", &path[start..], last)
    }

    /// As [`Resolver::resolve`], and tells whether the walk has left a directory that the kernel
    /// has not by `..`.
    pub(crate) fn walk(
        &self,
        start: &[u8],
        path: &[u8],
        last: Last,
    ) -> Result<(Place, bool), Errno> {
        let trail = self.start(if path.starts_with(b"/") { self.root } else { start })?;
        self.walk_on(trail, path, last)
    }

    /// As [`Resolver::walk`], of a relative path in a directory of a mounted file system.
    pub(crate) fn walk_in(
        &self,
        directory: &Arc<Inode>,
        path: &[u8],
        last: Last,
    ) -> Result<(Place, bool), Errno> {
        self.walk_on(self.trail_of(directory), path, last)
    }

    fn walk_on(&self, mut trail: Trail, path: &[u8], last: Last) -> Result<(Place, bool), Errno> {
        let mut has_left = false;
        let mut waiting: Vec<Vec<u8>> = components(path).rev().map(<[u8]>::to_vec).collect();
        let directory = demands_directory(path);
        let mut links = 0;
        let mut vacant = None;
        while let Some(name) = waiting.pop() {
            if let Spot::Inode(inode) = trail.top()
                && !inode.is_directory()?
            {
                return Err(Errno::ENOTDIR);
            }
            match name.as_slice() {
                b"." => continue,
                b".." if trail.here == self.root => continue,
                b".." => {
                    let virtually = matches!(trail.top(), Spot::Inode(_));
                    has_left |= virtually || self.is_only_virtual(&trail.here);
                    trail.pop();
                    continue;
                }
                name => push(&mut trail.here, name),
            }
            let is_last = waiting.is_empty();
            let above = trail.top().clone();
            let links_here = if is_last && !directory { last } else { Last::Follow };
            let (step, spot) = self.step(&above, &trail.here, &name, links_here)?;
            trail.push(spot);
            match step {
                Step::Link(target) => {
                    links += 1;
                    if links > LINKS_LIMIT || waiting.len() > COMPONENTS_LIMIT {
                        return Err(Errno::ELOOP);
                    }
                    if target.is_empty() {
                        return Err(Errno::ENOENT);
                    }
                    has_left |= matches!(above, Spot::Inode(_));
                    trail.pop();
                    if target.starts_with(b"/") {
                        trail = self.start(self.root)?;
                    }
                    if demands_directory(&target) {
                        waiting.push(b".".to_vec());
                    }
                    waiting.extend(components(&target).rev().map(<[u8]>::to_vec));
                }
                Step::Jump(to) => {
                    links += 1;
                    if links > LINKS_LIMIT {
                        return Err(Errno::ELOOP);
                    }
                    trail = to;
                    if is_last && directory {
                        waiting.push(b".".to_vec());
                    }
                }
                Step::Leaf if !is_last || directory => return Err(Errno::ENOTDIR),
                Step::Absent | Step::Vacant if !is_last => return Err(Errno::ENOENT),
                Step::Vacant => {
                    if let Spot::Inode(parent) = above {
                        vacant = Some((parent, name));
                    }
                }
                Step::Nowhere if !is_last => {
                    // The kernel will say so; a path to be mounted on is taken as text.
                    let mut here = trail.here;
                    let rest = waiting.iter().rev();
                    rest.for_each(|name| push(&mut here, name));
                    return Ok((Place::Real(here), has_left));
                }
                _ => {}
            }
        }
        if trail.here.is_empty() {
            trail.here.push(b'/');
        }
        if let Some((parent, name)) = vacant {
            let vacant = Vacant { parent, name, path: trail.here, slash: directory };
            return Ok((Place::Vacant(vacant), has_left));
        }
        self.place(trail).map(|place| (place, has_left))
    }

    /// A trail that has got to a directory without symbolic links. Errors: `ENOTDIR` for the node of
    /// a stack, those of the file systems on the way.
    fn start(&self, directory: &[u8]) -> Result<Trail, Errno> {
        let mut trail = Trail { here: Vec::new(), spots: vec![self.root_of(b"/", &Spot::Other)] };
        for name in components(directory) {
            push(&mut trail.here, name);
            let mut spot = self.root_of(&trail.here, trail.top());
            let left = match spot {
                Spot::Other => self.left(&trail.here, Last::Follow)?,
                Spot::Inode(_) => None,
            };
            if let Some((_, left)) = left {
                trail.push(left);
                continue;
            }
            if let (Spot::Other, Spot::Inode(above)) = (&spot, trail.top()) {
                let caller = self.world.credentials(self.caller);
                match above.files.lookup(&caller, above, name) {
                    Ok(inode) => spot = Spot::Inode(inode),
                    Err(Errno::ENOENT) if self.territory.children(&trail.here).is_some() => {}
                    Err(errno) => return Err(errno),
                }
            }
            trail.push(spot);
        }
        if self.territory.node(&trail.here).is_some_and(|mount| mount.is_stack()) {
            return Err(Errno::ENOTDIR);
        }
        Ok(trail)
    }

    /// What is mounted at exactly this path, when that is a file system or a device.
    fn root_of(&self, path: &[u8], _above: &Spot) -> Spot {
        let mount = self.territory.node(path);
        mount.and_then(|mount| mount.root.clone()).map_or(Spot::Other, Spot::Inode)
    }

    /// Whether the kernel has no such directory.
    fn is_only_virtual(&self, path: &[u8]) -> bool {
        let concerned = self.locate(path).is_some() || self.territory.children(path).is_some();
        concerned && !self.world.exists(path)
    }

    /// What the component `name` is, which makes the path `path`. A link that is kept is not read,
    /// which would show in its time of last access: it is a leaf, the kernel's whatever it is.
    fn step(
        &self,
        above: &Spot,
        path: &[u8],
        name: &[u8],
        links: Last,
    ) -> Result<(Step, Spot), Errno> {
        if let Spot::Inode(root) = self.root_of(path, above) {
            let step = if root.is_directory()? { Step::Onward } else { Step::Leaf };
            return Ok((step, Spot::Inode(root)));
        }
        if let Some(left) = self.left(path, links)? {
            return Ok(left);
        }
        if let Some(device) = self.sub_device(path) {
            return Ok((Step::Leaf, Spot::Inode(device)));
        }
        match above {
            Spot::Inode(directory) => self.step_inside(directory, path, name, links),
            Spot::Other => self.step_outside(path, links).map(|step| (step, Spot::Other)),
        }
    }

    /// What stands at a path at which a mount leaves what was there.
    fn left(&self, path: &[u8], links: Last) -> Result<Option<(Step, Spot)>, Errno> {
        let Some(earlier) = self.territory.exception(path) else { return Ok(None) };
        let before = match earlier {
            Some(territory) => Resolver { territory, ..*self }.find(path, Last::Keep)?,
            None => Place::Real(Vec::new()),
        };
        match before {
            Place::Inode(found) => {
                let caller = self.world.credentials(self.caller);
                let step = step_onto(&found.inode, &caller, links)?;
                Ok(Some((step, Spot::Inode(found.inode))))
            }
            _ => self.step_outside(path, links).map(|step| Some((step, Spot::Other))),
        }
    }

    fn sub_device(&self, path: &[u8]) -> Option<Arc<Inode>> {
        let (mount, number) = self.territory.sub_device(path)?;
        let root = mount.root.as_ref()?;
        let name = number.to_string();
        root.files.lookup(&Caller::root(), root, name.as_bytes()).ok()
    }

    /// A name in a directory of a mounted file system.
    fn step_inside(
        &self,
        directory: &Arc<Inode>,
        path: &[u8],
        name: &[u8],
        links: Last,
    ) -> Result<(Step, Spot), Errno> {
        let caller = self.world.credentials(self.caller);
        access::search(directory, &caller)?;
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        match directory.files.lookup(&caller, directory, name) {
            Ok(inode) => Ok((step_onto(&inode, &caller, links)?, Spot::Inode(inode))),
            Err(Errno::ENOENT) if self.territory.children(path).is_some() => {
                Ok((Step::Onward, Spot::Other))
            }
            Err(Errno::ENOENT) if self.territory.node(path).is_some() => {
                Ok((Step::Leaf, Spot::Other))
            }
            Err(Errno::ENOENT) => Ok((Step::Vacant, Spot::Other)),
            Err(errno) => Err(errno),
        }
    }

    fn step_outside(&self, path: &[u8], links: Last) -> Result<Step, Errno> {
        if self.territory.is_private(path) {
            return Err(Errno::EACCES);
        }
        if let Some(located) = self.locate(path) {
            return match located.tree.entry(&located.inner) {
                Ok(Entry::Directory(_)) => Ok(Step::Onward),
                Ok(Entry::Link(_)) if links == Last::Keep => Ok(Step::Leaf),
                Ok(Entry::File { .. }) => Ok(Step::Leaf),
                Ok(Entry::Link(target)) => Ok(Step::Link(target.into_bytes())),
                Err(Errno::ENOENT) => Ok(Step::Absent),
                Err(errno) => Err(errno),
            };
        }
        if self.territory.node(path).is_some() {
            return Ok(Step::Leaf);
        }
        if links == Last::Keep {
            return Ok(Step::Onward);
        }
        if let Some(target) = self.link_of_procfs(path) {
            return Ok(Step::Link(target.into_bytes()));
        }
        match self.world.read_link(path) {
            Ok(target) if magic::is_magic(path) => self.follow_magic(path, target),
            Ok(target) => Ok(Step::Link(target)),
            Err(Errno::ENOENT) if self.territory.children(path).is_none() => Ok(Step::Nowhere),
            Err(_) => Ok(Step::Onward),
        }
    }

    fn place(&self, trail: Trail) -> Result<Place, Errno> {
        let Trail { here: path, mut spots } = trail;
        if let Some(Spot::Inode(inode)) = spots.pop() {
            let is_root = self.territory.node(&path).is_some();
            let parent = match spots.pop() {
                Some(Spot::Inode(parent)) if !is_root => {
                    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                    Some((parent, name.to_vec()))
                }
                _ => None,
            };
            return Ok(Place::Inode(Found { inode, parent, path }));
        }
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
        if self.territory.children(&path).is_some() {
            if !self.world.exists(&path) {
                return Ok(Place::Directory(path));
            }
            let shown = |name: &Vec<u8>| {
                let mut child = path.clone();
                push(&mut child, name);
                self.world.exists(&child)
            };
            if !self.territory.names_in(&path).iter().all(shown) {
                return Ok(Place::Merged(path));
            }
        }
        Ok(Place::Real(path))
    }
}

/// What an inode is on the way of a path.
fn step_onto(inode: &Arc<Inode>, caller: &Caller, links: Last) -> Result<Step, Errno> {
    Ok(match inode.kind()? {
        libc::S_IFLNK if links == Last::Keep => Step::Leaf,
        libc::S_IFLNK => {
            let target = inode.files.ask()?.readlink(caller, inode.node)?;
            inode.was_read();
            Step::Link(target)
        }
        libc::S_IFDIR => Step::Onward,
        _ => Step::Leaf,
    })
}

#[cfg(test)]
mod tests;
