//! execve(2) and execveat(2) of programs in mounted file systems.
//!
//! The kernel executes the kept content of the file, by a link to it that has the program's own name
//! (the name of the process is taken from it). A script is executed by its interpreter, which is
//! looked up in the view, for virtual scripts and for real ones with a virtual interpreter.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::Read,
    os::{
        fd::AsRawFd,
        unix::ffi::{OsStrExt, OsStringExt},
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use umvu_abi::{
    Errno, GuestAddr,
    files::{Caller, EXECUTE},
    module::{ExecFormats, Interpreter},
};
use umvu_tracer::api::{Action, Call, Exec};

use super::{
    descriptors, host,
    lexical::{PATH_MAX, normalise},
    linker::{self, Linker},
    locate::{self, At, Target, locate, os_path},
    open_inode,
    resolve::{Last, Place},
    stat::is_empty_path,
};
use crate::{
    Core,
    dispatch::{Row, always},
    files::{Inode, access},
};

/// How much of a file the kernel looks at (`BINPRM_BUF_SIZE`).
const HEAD: usize = 256;
/// How many interpreters may be interpreted (binfmt_script).
const DEPTH: usize = 4;
/// How many arguments and bytes of them are copied for a script.
const ARGUMENTS_LIMIT: usize = 65_536;
const ARGUMENT_LIMIT: usize = 131_072;

pub(super) fn rows() -> Vec<Row> {
    const NOTE: &str = "also of virtual programs, and of scripts with a virtual interpreter";
    vec![
        always("execve", |core, call| execute(core, call, locate::path(0), 1, 0), NOTE),
        always("execveat", |core, call| execute(core, call, locate::at(0), 2, call.int(4)), NOTE),
    ]
}

/// A program to be executed.
enum Program {
    /// A file of a mounted file system.
    Virtual(Arc<Inode>),
    /// A file of the host, which the kernel finds at this path.
    Real(Vec<u8>),
}

fn execute(core: &Core, call: &Call, at: At, vectors: usize, flags: i32) -> Action {
    let is_rooted = core.paths.root(call.tid()).is_some();
    if core.paths.territory(&core.view).is_empty() && !is_rooted {
        return Action::Forward;
    }
    let vectors = [call.addr(vectors), call.addr(vectors + 1)];
    match plan(core, call, at, vectors, flags) {
        Ok(Some(exec)) => Action::Exec(exec),
        Ok(None) => Action::Forward,
        Err(errno) => errno.into(),
    }
}

/// What is to be executed instead; None for what the kernel can do alone.
fn plan(
    core: &Core,
    call: &Call,
    at: At,
    vectors: [GuestAddr; 2],
    flags: i32,
) -> Result<Option<Exec>, Errno> {
    let Ok(text) = call.guest.read_string(call.addr(at.path), PATH_MAX) else { return Ok(None) };
    let task = core.tasks.get(call.tid());
    if core.objects.is_program(&text) || task.is_executing(&text) {
        return Ok(None);
    }
    let Some(mut run) = Run::named(core, call, at, flags, text)? else { return Ok(None) };
    task.set_linker(None);
    task.set_program(None);
    // The call that we have made in place of the guest's comes by here as well.
    let is_ours = task.name_keeper().is_some_and(|ours| ours == run.name);
    if !is_ours {
        task.keep_name(None);
    }
    let caller = core.caller(call.tid());
    let formats = core.view.exec_formats();
    for _ in 0..DEPTH {
        if let Program::Virtual(inode) = &run.program {
            check(inode, &caller)?;
        }
        let (path, head) = open(core, &caller, &run.program)?;
        let known = find_format(&formats, &run.program, &path, &run.name, &head)?;
        let keeps_name = known.as_ref().is_some_and(|known| known.keeps_name);
        run.changed |= known.is_some();
        run.name_is_kept |= keeps_name;
        if run.is_open && (known.is_some() || interpreter(&head).is_some()) {
            // As the kernel, which passes one program on.
            return Err(Errno::ENOEXEC);
        }
        if known.as_ref().is_some_and(|known| known.opens_program) {
            task.set_program(regular(&path).map(Into::into));
            run.is_open = true;
        }
        let host = known.as_ref().and_then(|known| known.host.clone());
        match known.map(|known| (known.path, None)).or_else(|| interpreter(&head)) {
            Some(found) => run.is_interpreted(core, call, vectors, found, (host, keeps_name))?,
            None => return run.finish(core, call, &caller, path, vectors),
        }
    }
    Err(Errno::ELOOP)
}

/// A program on its way to be executed.
struct Run {
    program: Program,
    /// What the guest has named.
    called: Vec<u8>,
    /// The name that it is called by.
    name: Vec<u8>,
    /// Its arguments, where they are not the guest's.
    arguments: Option<Vec<Vec<u8>>>,
    /// Whether the kernel would look for it in the wrong place.
    elsewhere: bool,
    /// Whether the kernel would do something else.
    changed: bool,
    /// Whether an interpreter gets the program's own name.
    name_is_kept: bool,
    /// Whether an interpreter gets the program itself.
    is_open: bool,
    /// Whether the guest has a root of its own.
    is_rooted: bool,
}

impl Run {
    /// What a guest has named; None for what the kernel is to judge. Errors: those of the path.
    fn named(
        core: &Core,
        call: &Call,
        at: At,
        flags: i32,
        text: Vec<u8>,
    ) -> Result<Option<Self>, Errno> {
        let mut elsewhere = false;
        let program = if text.is_empty() && is_empty_path(flags) {
            match descriptors::held(core, call, 0)? {
                Some(held) => Program::Virtual(held.inode),
                None => return Ok(None),
            }
        } else {
            let keep = flags & libc::AT_SYMLINK_NOFOLLOW != 0;
            match locate(core, call, at, if keep { Last::Keep } else { Last::Follow })? {
                Target::Virtual(Place::Inode(found)) => Program::Virtual(found.inode),
                Target::Virtual(Place::Vacant(_) | Place::Missing(_)) => return Err(Errno::ENOENT),
                Target::Virtual(_) => return Err(Errno::EACCES),
                Target::Elsewhere(path) => {
                    elsewhere = true;
                    Program::Real(path)
                }
                Target::Kernel if text.starts_with(b"/") => Program::Real(text.clone()),
                Target::Kernel => match locate::absolute(core, call, at) {
                    Ok(path) => Program::Real(path),
                    Err(_) => return Ok(None),
                },
            }
        };
        let is_rooted = core.paths.root(call.tid()).is_some();
        let is_virtual = matches!(program, Program::Virtual(_));
        let changed = is_virtual || !text.starts_with(b"/") || is_rooted;
        let (arguments, name_is_kept) = (None, false);
        Ok(Some(Self {
            program,
            called: text.clone(),
            name: text,
            arguments,
            elsewhere,
            changed,
            name_is_kept,
            is_open: false,
            is_rooted,
        }))
    }

    fn take_arguments(&mut self, call: &Call, at: GuestAddr) -> Result<Vec<Vec<u8>>, Errno> {
        match self.arguments.take() {
            Some(given) => Ok(given),
            None => read_arguments(call, at),
        }
    }

    /// The program is one argument of its interpreter, which is looked up in the view.
    fn is_interpreted(
        &mut self,
        core: &Core,
        call: &Call,
        vectors: [GuestAddr; 2],
        (interpreter, argument): (Vec<u8>, Option<Vec<u8>>),
        (host, keeps_name): (Option<Vec<u8>>, bool),
    ) -> Result<(), Errno> {
        let next = match host {
            Some(path) => Program::Real(path),
            None => match locate::resolve_named(core, call.tid(), &interpreter)? {
                Place::Inode(found) => Program::Virtual(found.inode),
                Place::Real(path) => Program::Real(path),
                _ => return Err(Errno::ENOENT),
            },
        };
        self.changed |= matches!(next, Program::Virtual(_));
        let given = self.take_arguments(call, vectors[0])?;
        let mut all = vec![interpreter.clone()];
        all.extend(argument);
        all.push(std::mem::replace(&mut self.name, interpreter));
        all.extend(given.into_iter().skip(usize::from(!keeps_name)));
        (self.arguments, self.program) = (Some(all), next);
        Ok(())
    }

    /// What the kernel is to execute, from this path; None for what the guest has named.
    fn finish(
        mut self,
        core: &Core,
        call: &Call,
        caller: &Caller,
        path: Vec<u8>,
        vectors: [GuestAddr; 2],
    ) -> Result<Option<Exec>, Errno> {
        let task = core.tasks.get(call.tid());
        if let Some(linker) = linker::of(core, call, caller, &path)? {
            if !linker.has_rival {
                return self.by_linker(core, call, &linker, vectors).map(Some);
            }
            task.set_linker(Some(core.paths.linkers.content(&linker.path)?));
        }
        // What the kernel can find by itself it shall find.
        if self.arguments.is_none() && !self.is_rooted && finds(&self.name, &path) {
            return Ok(None);
        }
        let is_own = self.elsewhere
            || matches!(self.program, Program::Virtual(_))
            || self.arguments.is_some() && self.changed;
        let path = if is_own { core.objects.program_called(&path, &self.called)? } else { path };
        if self.name_is_kept {
            task.keep_name(Some(path.clone()));
        }
        // The call comes by here again, where a root of its own would be put before the path.
        task.executes(Some(path.clone()).filter(|_| self.is_rooted));
        let arguments = self.arguments.take();
        if is_own {
            task.calls(Some(self.called));
        }
        Ok(is_own.then_some(Exec { path, arguments, vectors }))
    }

    /// Has a dynamic linker of the view execute a program of which the kernel has none.
    fn by_linker(
        mut self,
        core: &Core,
        call: &Call,
        linker: &Linker,
        vectors: [GuestAddr; 2],
    ) -> Result<Exec, Errno> {
        let given = self.take_arguments(call, vectors[0])?;
        let arguments = Some(linker::arguments(linker, &self.name, given));
        let path = core.objects.program_called(&linker.path, &self.called)?;
        core.tasks.get(call.tid()).executes(Some(path.clone()));
        Ok(Exec { path, arguments, vectors })
    }
}

/// The format of a program that a module knows. Errors: `EACCES` and its like for what may not be
/// executed.
fn find_format(
    formats: &[Arc<dyn ExecFormats>],
    program: &Program,
    path: &[u8],
    name: &[u8],
    head: &[u8],
) -> Result<Option<Interpreter>, Errno> {
    let shown = match program {
        Program::Virtual(inode) => inode.path(),
        Program::Real(path) => normalise(path).into_owned(),
    };
    let found = formats.iter().find_map(|format| format.interpreter(&shown, name, head));
    if found.is_some() && matches!(program, Program::Real(_)) {
        host::access(path, libc::X_OK, Last::Follow)?;
        if !fs::metadata(os_path(path))?.is_file() {
            return Err(Errno::EACCES);
        }
    }
    Ok(found)
}

/// Whether the kernel finds a program of the host by the name that the guest has given, as a file that a
/// mount shows at its own place.
fn finds(name: &[u8], path: &[u8]) -> bool {
    let leads_there = |found: PathBuf| found.as_os_str().as_bytes() == path;
    name == path || name.starts_with(b"/") && fs::canonicalize(os_path(name)).is_ok_and(leads_there)
}

fn check(inode: &Arc<Inode>, caller: &Caller) -> Result<(), Errno> {
    if inode.kind()? != libc::S_IFREG {
        return Err(Errno::EACCES);
    }
    access::check(inode, caller, EXECUTE)
}

/// The path by which the kernel executes a program, and how the file begins.
fn open(core: &Core, caller: &Caller, program: &Program) -> Result<(Vec<u8>, Vec<u8>), Errno> {
    let path = match program {
        Program::Real(path) => path.clone(),
        Program::Virtual(inode) => open_inode::program(core, caller, inode)?,
    };
    let mut head = Vec::new();
    // What cannot be read may be executable all the same.
    if let Some(file) = regular(&path) {
        let _ = file.take(HEAD as u64).read_to_end(&mut head);
    }
    Ok((path, head))
}

/// A file that can be executed: opening others may wait.
pub(super) fn regular(path: &[u8]) -> Option<fs::File> {
    let mut options = fs::OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(os_path(path)).ok()?;
    file.metadata().is_ok_and(|found| found.is_file()).then_some(file)
}

/// The interpreter of a script and its argument (execve(2)).
fn interpreter(head: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let line = head.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?;
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = line.iter().position(|byte| !is_blank(byte))?;
    let line = &line[start..];
    let end = line.iter().position(is_blank).unwrap_or(line.len());
    let (path, rest) = line.split_at(end);
    let from = rest.iter().position(|byte| !is_blank(byte));
    let argument = from.map(|from| {
        let to = rest.iter().rposition(|byte| !is_blank(byte)).unwrap_or(from);
        rest[from..=to].to_vec()
    });
    Some((path.to_vec(), argument))
}

/// Reads the arguments of a guest. Errors: `EFAULT`, `E2BIG`.
fn read_arguments(call: &Call, at: GuestAddr) -> Result<Vec<Vec<u8>>, Errno> {
    let mut arguments = Vec::new();
    if at.is_null() {
        return Ok(arguments);
    }
    loop {
        let mut pointer = [0; 8];
        call.guest.read(at.offset(8 * arguments.len() as u64), &mut pointer)?;
        let pointer = GuestAddr(u64::from_ne_bytes(pointer));
        if pointer.is_null() {
            return Ok(arguments);
        }
        if arguments.len() >= ARGUMENTS_LIMIT {
            return Err(Errno::E2BIG);
        }
        let text = call.guest.read_string(pointer, ARGUMENT_LIMIT);
        let too_long = |errno| if errno == Errno::ENAMETOOLONG { Errno::E2BIG } else { errno };
        arguments.push(text.map_err(too_long)?);
    }
}

impl crate::files::Objects {
    fn programs(&self) -> PathBuf {
        self.root().join("programs")
    }

    /// Whether a path is one that a guest has been told to execute.
    fn is_program(&self, path: &[u8]) -> bool {
        path.starts_with(self.root().as_os_str().as_bytes())
    }

    /// A link to an object with a name of its own. Errors: those of mkdir(2) and symlink(2).
    pub(super) fn program(&self, inode: &Inode, object: &Path) -> Result<Vec<u8>, Errno> {
        let number = object.file_name().ok_or(Errno::EIO)?;
        let folder = self.programs().join(number);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let path = inode.path();
        let path = path.strip_suffix(b" (deleted)").unwrap_or(&path);
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        link(folder.join(os_path(name)), object)
    }

    /// A path to execute a program by, which ends with the name that the guest has called: the kernel
    /// takes the name of the process from it, be it that of a script or of a symbolic link. Errors:
    /// those of mkdir(2) and symlink(2).
    fn program_called(&self, path: &[u8], called: &[u8]) -> Result<Vec<u8>, Errno> {
        let own = |path: &[u8]| path.rsplit(|byte| *byte == b'/').next().map(<[u8]>::to_vec);
        let Some(name) =
            own(called).filter(|name| !name.is_empty() && own(path).as_ref() != Some(name))
        else {
            return Ok(path.to_vec());
        };
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        let folder = self.programs().join(format!("called-{:016x}", hasher.finish()));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        link(folder.join(os_path(&name)), os_path(path))
    }
}

/// Makes a symbolic link that may be there. Errors: those of symlink(2).
fn link(link: PathBuf, target: &Path) -> Result<Vec<u8>, Errno> {
    match std::os::unix::fs::symlink(target, &link) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(link.into_os_string().into_vec()),
    }
}

/// A path of the kernel for a descriptor of ours.
pub(super) fn own_path(file: &impl AsRawFd) -> Option<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_names_the_interpreter() {
        let read = |text: &str| interpreter(text.as_bytes());
        let bytes = |text: &str| text.as_bytes().to_vec();
        assert_eq!(read("#!/bin/sh\nx"), Some((bytes("/bin/sh"), None)));
        let with = Some((bytes("/usr/bin/env"), Some(bytes("python3 -u"))));
        assert_eq!(read("#! /usr/bin/env  python3 -u \n"), with);
        assert_eq!(read("\x7fELF"), None);
        assert_eq!(read("#!"), None);
        assert_eq!(read("#!  \n"), None);
    }
}
