//! The first program of a tree: found in PATH, started, traced before it runs.

use std::{
    ffi::{CString, OsStr, OsString},
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::PathBuf,
};

use nix::{
    sys::{
        ptrace::{self, Options as PtraceOptions},
        signal::{SigSet, Signal, kill},
        wait::waitpid,
    },
    unistd::Pid,
};

use crate::{filter::Instruction, options::Program, sys};

/// Starts a program, traced, with a filter (empty for none) and a signal mask. It executes nothing
/// until a byte is written to the gate that is returned. Errors: `ENOENT` when there is no such
/// program, those of fork(2) and ptrace(2).
pub(crate) fn start(
    program: &Program,
    filter: Vec<Instruction>,
    mask: SigSet,
) -> io::Result<(Pid, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    let (gate, opener) = (OwnedFd::from(reader), OwnedFd::from(writer));
    let environment: Vec<_> = program.environment.iter().map(join).collect();
    let launch = sys::Launch {
        paths: candidates(program)?,
        arguments: c_strings(program.command.iter().map(OsString::as_os_str))?,
        environment: c_strings(environment.iter().map(OsString::as_os_str))?,
        filter,
        mask,
    };
    let pid = sys::fork_exec(&launch, &gate, &opener)?;
    let options = PtraceOptions::PTRACE_O_TRACEFORK
        | PtraceOptions::PTRACE_O_TRACEVFORK
        | PtraceOptions::PTRACE_O_TRACECLONE
        | PtraceOptions::PTRACE_O_TRACEEXEC
        | PtraceOptions::PTRACE_O_TRACESECCOMP
        | PtraceOptions::PTRACE_O_TRACESYSGOOD
        | PtraceOptions::PTRACE_O_EXITKILL;
    if let Err(errno) = ptrace::seize(pid, options) {
        let _ = kill(pid, Signal::SIGKILL);
        let _ = waitpid(pid, None);
        return Err(io::Error::other(format!("cannot trace: {errno} (see ptrace(2), yama)")));
    }
    Ok((pid, opener))
}

fn join((name, value): &(OsString, OsString)) -> OsString {
    let mut text = name.clone();
    text.push("=");
    text.push(value);
    text
}

fn c_strings<'a>(texts: impl Iterator<Item = &'a OsStr>) -> io::Result<Vec<CString>> {
    texts.map(|text| CString::new(text.as_bytes()).map_err(io::Error::other)).collect()
}

/// Where a program may be: its path, or each folder of the PATH it is given.
fn candidates(program: &Program) -> io::Result<Vec<CString>> {
    let Some(name) = program.command.first() else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    let path = program.environment.iter().find(|(key, _)| key == "PATH");
    let path = path.map_or_else(|| OsString::from("/bin:/usr/bin"), |(_, value)| value.clone());
    let places: Vec<PathBuf> = if name.as_bytes().contains(&b'/') {
        vec![PathBuf::from(name)]
    } else {
        std::env::split_paths(&path).map(|folder| folder.join(name)).collect()
    };
    let found: Vec<PathBuf> = places.into_iter().filter(|place| place.exists()).collect();
    if found.is_empty() {
        let reason = format!("{}: command not found", name.to_string_lossy());
        return Err(io::Error::new(io::ErrorKind::NotFound, reason));
    }
    c_strings(found.iter().map(|place| place.as_os_str()))
}
