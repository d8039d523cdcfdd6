//! The libraries in link namespaces of their own, so that these last.
//!
//! glibc has 16 link namespaces, and gives the memory that a C library has in every thread (static
//! TLS) back only when the library that came last goes first. So a library that is not the last
//! one stays as a spare until it is; it is used again for a stack of the same file when nothing
//! else can be loaded. A library that cannot be unloaded is a spare at once, and used again first.

use std::{
    ffi::{CStr, CString, OsStr},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

use parking_lot::Mutex;

use super::ffi::library::{Library, Namespace};

/// All libraries in namespaces of their own, in the order in which they were loaded.
static LOADED: Mutex<Vec<Slot>> = Mutex::new(Vec::new());

struct Slot {
    file: File,
    path: CString,
    /// None while a stack uses it.
    spare: Option<Library>,
    /// It cannot be unloaded.
    stays: bool,
    number: u64,
}

impl Slot {
    /// Unloads a spare. Returns whether that was possible.
    fn unload(&mut self) -> bool {
        if !self.stays {
            self.spare = self.spare.take().and_then(|library| library.unload(&self.path));
            self.stays = self.spare.is_some();
        }
        !self.stays
    }
}

/// A file as it was when it was loaded: device, inode, time of the last change in nanoseconds.
type File = (u64, u64, i64, i64);

/// A library in use; dropping it unloads it or makes it a spare.
#[derive(Debug)]
pub(crate) struct Loaded {
    library: Option<Library>,
    /// Its number if it has a namespace of its own.
    number: Option<u64>,
}

impl Loaded {
    /// Loads a file. Errors: the text of dlerror(3).
    pub(crate) fn open(path: &CStr, namespace: Namespace) -> Result<Self, String> {
        if namespace == Namespace::Base {
            let library = Library::open(path, namespace)?;
            return Ok(Self { library: Some(library), number: None });
        }
        let file = identity(path)?;
        let mut loaded = LOADED.lock();
        if let Some(found) = Self::reuse(&mut loaded, |slot| slot.file == file && slot.stays) {
            return Ok(found);
        }
        let library = match Library::open(path, namespace) {
            Err(reason) if is_exhaustion(&reason) => {
                if let Some(found) = Self::reuse(&mut loaded, |slot| slot.file == file) {
                    return Ok(found);
                }
                loaded.retain_mut(|slot| slot.spare.is_none() || !slot.unload());
                Library::open(path, namespace)?
            }
            result => result?,
        };
        let number = loaded.iter().map(|slot| slot.number + 1).max().unwrap_or(0);
        loaded.push(Slot { file, path: path.to_owned(), spare: None, stays: false, number });
        Ok(Self { library: Some(library), number: Some(number) })
    }

    /// Takes the first spare that is wanted.
    fn reuse(loaded: &mut [Slot], wanted: impl Fn(&Slot) -> bool) -> Option<Self> {
        let slot = loaded.iter_mut().find(|slot| slot.spare.is_some() && wanted(slot))?;
        Some(Self { library: slot.spare.take(), number: Some(slot.number) })
    }

    /// The library.
    pub(crate) fn library(&self) -> &Library {
        self.library.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut loaded = LOADED.lock();
        if let Some(slot) = loaded.iter_mut().find(|slot| slot.number == number) {
            slot.spare = self.library.take();
        }
        while loaded.last_mut().is_some_and(|slot| slot.spare.is_some() && slot.unload()) {
            loaded.pop();
        }
    }
}

/// Whether dlmopen(3) has failed for want of namespaces or of what each of them takes.
pub(crate) fn is_exhaustion(reason: &str) -> bool {
    reason.contains("namespace") || reason.contains("static TLS")
}

fn identity(path: &CStr) -> Result<File, String> {
    let path = Path::new(OsStr::from_bytes(path.to_bytes()));
    let data = std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((data.dev(), data.ino(), data.mtime(), data.mtime_nsec()))
}
