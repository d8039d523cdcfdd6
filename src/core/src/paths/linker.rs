//! The dynamic linker of a program (`PT_INTERP`), looked up in the view of who executes it.
//!
//! Where that has other content than what the kernel finds, the program gets it before it runs. Where the kernel
//! finds none, the program is executed by it, as ld.so(8) can.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::{FileExt, MetadataExt},
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;

use umvu_abi::{Errno, elf, files::Caller};
use umvu_tracer::api::Call;

use super::{
    exec::regular,
    lexical::PATH_MAX,
    locate::{self, os_path},
    open_inode,
    resolve::Place,
};
use crate::Core;

/// The longest file that is taken for a dynamic linker.
const LONGEST: u64 = 64 << 20;

/// How many dynamic linkers are remembered.
const KNOWN: usize = 4;

/// A dynamic linker that the kernel would not choose.
pub(super) struct Linker {
    /// How the program names it.
    pub(super) name: Vec<u8>,
    /// Where the kernel finds it.
    pub(super) path: Vec<u8>,
    /// Whether the kernel finds any by the name.
    pub(super) has_rival: bool,
}

/// The dynamic linker of the program at a path of the kernel, when it is not the kernel's choice.
/// Errors: `ENOENT` when there is none in the view, those of opening it.
pub(super) fn of(
    core: &Core,
    call: &Call,
    caller: &Caller,
    program: &[u8],
) -> Result<Option<Linker>, Errno> {
    let Some(name) = name_in(program) else { return Ok(None) };
    let choice = fs::metadata(os_path(&name)).map(|found| (found.dev(), found.ino())).ok();
    let path = match locate::resolve_named(core, call.tid(), &name)? {
        Place::Real(path) | Place::Merged(path) => path,
        Place::Inode(found) => open_inode::program(core, caller, &found.inode)?,
        Place::Vacant(_) | Place::Missing(_) => return Err(Errno::ENOENT),
        _ => return Err(Errno::EACCES),
    };
    let found = fs::metadata(os_path(&path))?;
    if choice == Some((found.dev(), found.ino())) {
        return Ok(None);
    }
    let known = &core.paths.linkers;
    let wanted = known.content(&path)?;
    if choice.is_some() && known.content(&name).is_ok_and(|choice| choice == wanted) {
        return Ok(None);
    }
    Ok(Some(Linker { name, path, has_rival: choice.is_some() }))
}

/// What a file was when it was read: device, number, size, and when it was changed, in nanoseconds.
type Version = (u64, u64, u64, (i64, i64));

/// The contents of the dynamic linkers that programs had last, the latest at the end.
#[derive(Debug, Default)]
pub(super) struct Linkers(Mutex<Vec<(Version, Arc<[u8]>)>>);

impl Linkers {
    /// The content of a dynamic linker at a path of the kernel. Errors: `EACCES` for what is none,
    /// `ELIBBAD`, those of reading it.
    pub(super) fn content(&self, path: &[u8]) -> Result<Arc<[u8]>, Errno> {
        let file = regular(path).ok_or(Errno::EACCES)?;
        let found = file.metadata()?;
        if found.len() > LONGEST {
            return Err(Errno(libc::ELIBBAD));
        }
        let version = (found.dev(), found.ino(), found.len(), (found.ctime(), found.ctime_nsec()));
        let mut known = self.0.lock();
        if let Some(index) = known.iter().position(|(read, _)| *read == version) {
            return Ok(Arc::clone(&known[index].1));
        }
        let mut content = Vec::with_capacity(usize::try_from(found.len()).unwrap_or(0) + 1);
        file.take(LONGEST).read_to_end(&mut content)?;
        let content = Arc::from(content);
        if known.len() == KNOWN {
            known.remove(0);
        }
        known.push((version, Arc::clone(&content)));
        Ok(content)
    }
}

/// What a program names as its dynamic linker; None for what names none.
fn name_in(program: &[u8]) -> Option<Vec<u8>> {
    let file = regular(program)?;
    // What is of another machine the kernel refuses.
    let header = header_of(&file).filter(|header| machine() == Some(header.machine))?;
    let (from, to) = header.table;
    let mut table = vec![0; usize::try_from(to - from).ok()?];
    file.read_exact_at(&mut table, from).ok()?;
    let segments = elf::segments(&table);
    let segment = segments.iter().find(|segment| segment.kind == elf::INTERPRETER)?;
    let length = usize::try_from(segment.file_size).ok().filter(|length| *length <= PATH_MAX)?;
    let mut name = vec![0; length];
    file.read_exact_at(&mut name, segment.offset).ok()?;
    name.truncate(name.iter().position(|byte| *byte == 0)?);
    name.starts_with(b"/").then_some(name)
}

fn header_of(file: &fs::File) -> Option<elf::Header> {
    let mut head = [0; elf::HEADER_SIZE];
    file.read_exact_at(&mut head, 0).ok()?;
    elf::header(&head)
}

/// The machine that programs run on: that of the hypervisor.
fn machine() -> Option<u16> {
    static OWN: OnceLock<Option<u16>> = OnceLock::new();
    *OWN.get_or_init(|| Some(header_of(&fs::File::open("/proc/self/exe").ok()?)?.machine))
}

/// A program as its dynamic linker executes it (ld.so(8)): by the name that it has in the view.
pub(super) fn arguments(linker: &Linker, name: &[u8], given: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut given = given.into_iter();
    let own = given.next().unwrap_or_default();
    let head = [linker.name.clone(), b"--argv0".to_vec(), own, name.to_vec()];
    head.into_iter().chain(given).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_scripts_name_it_or_not() {
        assert!(name_in(b"/proc/self/exe").expect("dynamic").starts_with(b"/lib"));
        assert_eq!(name_in(b"/etc/passwd"), None);
        assert_eq!(name_in(b"/nonexistent"), None);
    }
}
