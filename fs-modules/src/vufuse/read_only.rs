//! What the formats that are read only share: how an image is mounted, directories that are kept while
//! they are looked at, and what may be opened.

use std::sync::Arc;

use parking_lot::Mutex;
use umvu_abi::{
    Errno,
    files::{Attributes, Backing, DirEntry, FileSystem, Node, Opened, Outside},
    module::{MountError, MountRequest},
};

use super::{
    image::{self, Access},
    lru::Lru,
};
use crate::options::Options;

/// How many names of directories are kept.
const KEPT: usize = 256 << 10;

/// Why an image is not mounted.
#[derive(Debug)]
pub struct Refusal {
    errno: Errno,
    reason: String,
}

impl Refusal {
    /// For what was to be mounted.
    pub(super) fn of(self, source: &str) -> MountError {
        MountError::new(self.errno, format!("{source}: {}", self.reason))
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { errno: Errno::EINVAL, reason }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        let errno = match error.kind() {
            std::io::ErrorKind::StorageFull => Errno::ENOSPC,
            std::io::ErrorKind::PermissionDenied => Errno::EACCES,
            _ => error.raw_os_error().map_or(Errno::EINVAL, Errno),
        };
        Self { errno, reason: error.to_string() }
    }
}

/// Mounts an image whose options were looked at. Errors: why it cannot be looked at, `EROFS` for `rw+`,
/// those of open(2).
pub fn mount<F: FileSystem + 'static, R: Into<Refusal>>(
    request: &MountRequest,
    outside: &Arc<dyn Outside>,
    mut options: Options,
    look: impl FnOnce(Arc<dyn Backing>) -> Result<F, R>,
) -> Result<Arc<dyn FileSystem>, MountError> {
    image::reads_only(request, &mut options)?;
    options.finish()?;
    let image = image::open(request, outside, Access::Read)?;
    let files = look(image).map_err(|refusal| refusal.into().of(&request.source))?;
    Ok(Arc::new(files))
}

/// Opens a file by what it looks like. Errors: `EISDIR`, `ENXIO` for a device that is not there.
pub fn open(file: &Attributes) -> Result<Opened, Errno> {
    match file.kind() {
        libc::S_IFREG => Ok(Opened::cached()),
        libc::S_IFDIR => Err(Errno::EISDIR),
        kind => crate::specials::open(kind, file.rdev),
    }
}

/// A name of a directory.
#[derive(Debug)]
pub struct Name {
    /// The name.
    pub name: Box<[u8]>,
    /// The node that it leads to.
    pub node: u64,
    /// `d_ino`.
    pub ino: u64,
    /// The type bits of the mode.
    pub kind: u32,
}

/// The names of a directory, in order.
pub type Names = Arc<Vec<Name>>;

/// The directories that were looked at last.
#[derive(Debug)]
pub struct Directories(Mutex<Lru<u64, Names>>);

impl Default for Directories {
    fn default() -> Self {
        Self(Mutex::new(Lru::new(KEPT)))
    }
}

impl Directories {
    /// The names of a directory, which are read in any order when they are not kept. Errors: those of
    /// reading.
    pub fn names(
        &self,
        node: u64,
        read: impl FnOnce() -> Result<Vec<Name>, Errno>,
    ) -> Result<Names, Errno> {
        if let Some(names) = self.0.lock().get(&node) {
            return Ok(names);
        }
        let mut names = read()?;
        names.sort_by(|one, other| one.name.cmp(&other.name));
        let names = Arc::new(names);
        self.0.lock().put(node, Arc::clone(&names), 1 + names.len());
        Ok(names)
    }
}

/// Finds a name. Errors: `ENOENT`.
pub fn find(names: &[Name], name: &[u8]) -> Result<Node, Errno> {
    let found = names.binary_search_by(|entry| (*entry.name).cmp(name));
    found.map(|at| Node(names[at].node)).map_err(|_| Errno::ENOENT)
}

/// Lists names.
pub fn list(names: &[Name], each: &mut dyn FnMut(DirEntry)) {
    for entry in names {
        each(DirEntry { name: entry.name.to_vec(), ino: entry.ino, kind: entry.kind });
    }
}
