//! From the arguments of a call to what its path names, fast for what is not virtual.
//!
//! A path that the view does not concern costs the read of the string, and one readlinkat(2) when
//! it is relative to a descriptor or to a working directory that is not known to be boring.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path, sync::Arc};

use nix::unistd::Uid;
use umvu_abi::{Errno, Tid};
use umvu_tracer::api::{Action, Call};

use super::{
    host,
    lexical::{PATH_MAX, climbs, join},
    magic,
    reach::reach,
    resolve::{Last, Magic, Place, Resolver, World},
    territory::Territory,
    threads::Root,
};
use crate::{Core, files::Inode, view::Mount};

/// Which arguments of a call make its path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    /// The argument with the directory descriptor; None for the working directory.
    pub directory: Option<usize>,
    /// The argument with the path.
    pub path: usize,
}

/// The path in argument `n`, relative to the working directory.
pub(crate) const fn path(n: usize) -> At {
    At { directory: None, path: n }
}

/// The path in argument `n + 1`, relative to the descriptor in argument `n`.
pub(crate) const fn at(n: usize) -> At {
    At { directory: Some(n), path: n + 1 }
}

/// What the path of a call names.
#[derive(Debug)]
pub(crate) enum Target {
    /// The kernel's: forward the call.
    Kernel,
    /// Something virtual.
    Virtual(Place),
    /// A file of the kernel's, named relative to a materialised directory or through one that only
    /// we have: the kernel would look in the wrong place, so the hypervisor makes the call itself.
    Elsewhere(Vec<u8>),
}

/// Answers a call about one path: forwards what is the kernel's. Merged directories are the
/// kernel's here: only their listings differ.
pub(crate) fn answer(
    core: &Core,
    call: &Call,
    at: At,
    last: Last,
    of_place: impl FnOnce(Place) -> Action,
    elsewhere: impl FnOnce(Vec<u8>) -> Action,
) -> Action {
    match locate(core, call, at, last) {
        Ok(Target::Kernel | Target::Virtual(Place::Merged(_))) => Action::Forward,
        Ok(Target::Virtual(place)) => of_place(place),
        Ok(Target::Elsewhere(path)) => elsewhere(path),
        Err(errno) => errno.into(),
    }
}

/// Tells what the path of a call names. Errors: those of [`Resolver::resolve`].
pub(crate) fn locate(core: &Core, call: &Call, at: At, last: Last) -> Result<Target, Errno> {
    core.settle();
    let territory = core.paths.territory(&core.view);
    let root = core.paths.root(call.tid());
    if territory.is_empty() && root.is_none() {
        return Ok(Target::Kernel);
    }
    // The kernel reports bad addresses and lengths, and what an empty path means, by itself.
    let Ok(path) = call.guest.read_string(call.addr(at.path), PATH_MAX) else {
        return Ok(Target::Kernel);
    };
    let base = match base(core, call, at, &territory, (&path, root.as_ref())) {
        Base::Unknown => return Ok(Target::Kernel),
        Base::Root if !territory.is_crossed_by(&path) && !leads_away(&territory, &path, last) => {
            return Ok(Target::Kernel);
        }
        Base::Kernel(base)
            if !territory.is_crossed_by(&join(&base, &path))
                && !leads_away(&territory, &join(&base, &path), last) =>
        {
            return Ok(Target::Kernel);
        }
        base => base,
    };
    let leader = core.paths.threads.get(call.tid()).leader();
    let world = &Live(core);
    let root = root.as_deref().unwrap_or(b"/");
    let resolver = Resolver { territory: &territory, world, caller: call.tid(), leader, root };
    let (place, has_left) = match &base {
        Base::Root | Base::Unknown => resolver.walk(b"/", &path, last),
        Base::Kernel(start) | Base::Materialised(start) => resolver.walk(start, &path, last),
        Base::Inode(directory) => resolver.walk_in(directory, &path, last),
    }?;
    let is_materialised = matches!(base, Base::Materialised(_) | Base::Inode(_));
    core.say(call.tid(), b'p', || describe(&path, &place));
    match place {
        Place::Real(path) | Place::Merged(path) if is_materialised || has_left => {
            // What we do ourselves is done with our own rights.
            if core.paths.caller(call.tid()).uid == Uid::effective().as_raw() {
                Ok(Target::Elsewhere(path))
            } else {
                Err(Errno::EACCES)
            }
        }
        Place::Real(_) => Ok(Target::Kernel),
        place => Ok(Target::Virtual(place)),
    }
}

/// Whether a path of the host passes a symbolic link, which may lead to something mounted.
fn leads_away(territory: &Territory, path: &[u8], last: Last) -> bool {
    territory.has_files() && !path.starts_with(b"/proc/") && host::has_links(path, last)
}

fn describe(path: &[u8], place: &Place) -> String {
    let kind = match place {
        Place::Real(_) => "the kernel's",
        Place::Merged(_) => "a merged directory",
        Place::Directory(_) => "a directory",
        Place::Node(_) => "a node",
        Place::Entry(_) => "generated",
        Place::Missing(_) | Place::Vacant(_) => "nothing",
        Place::Inode(_) => "of a mounted file system",
    };
    let [path, found] = [path, place.path()].map(String::from_utf8_lossy);
    format!("{path} is {found}, {kind}")
}

/// Resolves an absolute path of the view for a thread. Errors: those of [`Resolver::resolve`].
pub(crate) fn resolve(core: &Core, tid: Tid, path: &[u8], last: Last) -> Result<Place, Errno> {
    resolve_in(core, &core.paths.territory(&core.view), tid, path, last)
}

/// As [`resolve`], in the view of some moment.
pub(crate) fn resolve_in(
    core: &Core,
    territory: &Territory,
    tid: Tid,
    path: &[u8],
    last: Last,
) -> Result<Place, Errno> {
    let leader = core.paths.threads.get(tid).leader();
    let root = core.paths.root(tid);
    let root = root.as_deref().unwrap_or(b"/");
    Resolver { territory, world: &Live(core), caller: tid, leader, root }.find(path, last)
}

/// Resolves a path that a thread names, an absolute one from its root directory.
/// Errors: those of [`Resolver::resolve`].
pub(crate) fn resolve_named(core: &Core, tid: Tid, path: &[u8]) -> Result<Place, Errno> {
    walk_in(core, &core.paths.territory(&core.view), tid, b"/", path)
}

/// Walks a path from a directory, links at the end followed.
pub(crate) fn walk_in(
    core: &Core,
    territory: &Territory,
    tid: Tid,
    start: &[u8],
    path: &[u8],
) -> Result<Place, Errno> {
    walk_last(core, territory, tid, start, path, Last::Follow)
}

/// As [`walk_in`], and says what is done about a link at the end.
pub(crate) fn walk_last(
    core: &Core,
    territory: &Territory,
    tid: Tid,
    start: &[u8],
    path: &[u8],
    last: Last,
) -> Result<Place, Errno> {
    let leader = core.paths.threads.get(tid).leader();
    let root = core.paths.root(tid);
    let root = root.as_deref().unwrap_or(b"/");
    Resolver { territory, world: &Live(core), caller: tid, leader, root }.resolve(start, path, last)
}

/// The virtual path that a path of the kernel stands for.
pub(crate) fn stands_for(core: &Core, link: &[u8]) -> Option<Result<Vec<u8>, Errno>> {
    match core.objects.stands_for(link) {
        Some(held) => Some(held.map(|held| held.inode.path())),
        None => core.paths.directories.stands_for(link),
    }
}

/// The working directory of a caller, in its view. Errors: `ENOENT`.
pub(crate) fn cwd(core: &Core, call: &Call) -> Result<Vec<u8>, Errno> {
    let link = call.guest.cwd_link()?;
    stands_for(core, &link).unwrap_or(Ok(link))
}

/// Where a path of a call starts: at the root of the caller, or its working directory.
/// Errors: `ENOENT`.
pub(crate) fn start(core: &Core, call: &Call, path: &[u8]) -> Result<Vec<u8>, Errno> {
    if path.starts_with(b"/") {
        return Ok(core.paths.root(call.tid()).map_or(b"/".to_vec(), |root| root.to_vec()));
    }
    cwd(core, call)
}

/// Where a path starts.
enum Base {
    /// At the root.
    Root,
    /// At a directory that the kernel knows.
    Kernel(Vec<u8>),
    /// At a materialised directory, which stands for this path.
    Materialised(Vec<u8>),
    /// At the object of this directory.
    Inode(Arc<Inode>),
    /// Nowhere that concerns the view.
    Unknown,
}

fn base(
    core: &Core,
    call: &Call,
    at: At,
    territory: &Territory,
    (path, root): (&[u8], Option<&Root>),
) -> Base {
    if path.starts_with(b"/") {
        // The kernel does not know the root, and looks nowhere for us.
        return root.map_or(Base::Root, |root| Base::Materialised(root.to_vec()));
    }
    if path.is_empty() {
        return Base::Unknown;
    }
    let link = match at.directory {
        Some(n) if call.fd(n).0 != libc::AT_FDCWD => call.guest.fd_link(call.fd(n)),
        _ => {
            let thread = core.paths.threads.get(call.tid());
            let generation = territory.generation();
            if root.is_none() && thread.is_bored(generation) && !climbs(path) {
                return Base::Unknown;
            }
            let is_boring = |directory: &[u8]| {
                let materialised = core.paths.directories.stands_for(directory).is_some();
                let object = core.objects.stands_for(directory).is_some();
                !materialised && !object && territory.is_boring(directory)
            };
            thread.look(generation, || call.guest.cwd_link(), is_boring)
        }
    };
    let Ok(link) = link else { return Base::Unknown };
    match core.paths.directories.stands_for(&link) {
        Some(Ok(path)) => return Base::Materialised(path),
        Some(Err(_)) => return Base::Unknown,
        None => {}
    }
    match core.objects.stands_for(&link) {
        Some(Ok(held)) => Base::Inode(held.inode),
        // What is forgotten: there is nothing in it.
        Some(Err(_)) => Base::Materialised(b"/proc/0".to_vec()),
        None if link.starts_with(b"/") && root.is_some() => Base::Materialised(link),
        None if link.starts_with(b"/") => Base::Kernel(link),
        None => Base::Unknown,
    }
}

/// The absolute path of a call as text. Errors: `EFAULT`, `ENOENT` for the empty path, `EBADF`.
pub(crate) fn absolute(core: &Core, call: &Call, at: At) -> Result<Vec<u8>, Errno> {
    let path = call.guest.read_string(call.addr(at.path), PATH_MAX)?;
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    if core.paths.root(call.tid()).is_some() {
        let start = match at.directory {
            Some(n) if !path.starts_with(b"/") && call.fd(n).0 != libc::AT_FDCWD => {
                let link = call.guest.fd_link(call.fd(n))?;
                stands_for(core, &link).unwrap_or(Ok(link))?
            }
            _ => start(core, call, &path)?,
        };
        let territory = core.paths.territory(&core.view);
        let place = walk_last(core, &territory, call.tid(), &start, &path, Last::Keep)?;
        return Ok(place.path().to_vec());
    }
    let link = match at.directory {
        _ if path.starts_with(b"/") => return Ok(path),
        Some(n) if call.fd(n).0 != libc::AT_FDCWD => call.guest.fd_link(call.fd(n))?,
        _ => call.guest.cwd_link()?,
    };
    let base = stands_for(core, &link).unwrap_or(Ok(link))?;
    Ok(join(&base, &path))
}

/// The world of a running hypervisor.
struct Live<'a>(&'a Core);

impl World for Live<'_> {
    fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        host::read_link(path)
    }

    fn credentials(&self, tid: Tid) -> umvu_abi::files::Caller {
        self.0.caller(tid)
    }

    fn exists(&self, path: &[u8]) -> bool {
        reach(path).is_ok_and(|path| fs::symlink_metadata(path.path()).is_ok())
    }

    fn network_of(&self, tid: Tid) -> Option<Arc<Mount>> {
        let stacks = self.0.tasks.get(tid).stacks();
        let families = [libc::AF_INET, libc::AF_NETLINK, libc::AF_INET6];
        families.iter().find_map(|family| stacks.get(family).cloned())
    }

    fn magic(&self, path: &[u8], link: Vec<u8>) -> Result<Magic, Errno> {
        magic::lead(self.0, path, link)
    }
}

/// Bytes as a path of the host.
pub(crate) fn os_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}
