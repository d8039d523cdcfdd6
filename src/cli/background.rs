//! Programs that run in the background: detaching, the file with their process id, their end.
//!
//! Detaching runs this program again in a session of its own, with the same words and
//! [`DETACHED`] before them, so that nothing is forked that has threads. The one in front waits
//! until the other says that it is ready, or takes over its exit status if it ends before that.

use std::{
    env,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    thread,
};

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use nix::{
    sys::signal::{SigSet, Signal},
    unistd::{chdir, dup2_stderr, dup2_stdin, dup2_stdout, setsid, write},
};

use super::output;

/// The word that tells a program that it is the one in the background.
const DETACHED: &str = "detached";

/// Adds `-d`, `-p` and what they need.
pub(super) fn options(command: clap::Command) -> clap::Command {
    let switch = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    command
        .arg(switch("daemon").short('d').help("Run in the background, once it works"))
        .arg(
            Arg::new("pidfile")
                .short('p')
                .long("pidfile")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Write the process id to this file; it is removed at the end"),
        )
        .arg(switch(DETACHED).hide(true))
}

/// Detaches if `-d` asks for it and this is the program in front: then the result is the status
/// to exit with.
pub(super) fn detach(matches: &ArgMatches, name: &str) -> Option<u8> {
    if !matches.get_flag("daemon") || is_detached(matches) {
        return None;
    }
    Some(start(name).unwrap_or_else(|error| {
        output::complain(&format!("{name}: cannot go to the background: {error}"));
        1
    }))
}

fn start(name: &str) -> io::Result<u8> {
    let (mut here, there) = UnixStream::pair()?;
    let mut words = env::args_os();
    let called = words.next().unwrap_or_default();
    if Path::new(&called).file_name() != Some(name.as_ref()) {
        // It was called as `umvu NAME`.
        words.next();
    }
    let mut command = Command::new(env::current_exe()?);
    command.arg0(name).arg(format!("--{DETACHED}")).args(words);
    let mut child = command.stdin(Stdio::from(OwnedFd::from(there))).spawn()?;
    drop(command);
    match here.read(&mut [0])? {
        0 => Ok(child.wait()?.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        _ => Ok(0),
    }
}

/// What a program has to do first: one in the background leaves the terminal.
pub(super) fn begin(matches: &ArgMatches) -> io::Result<()> {
    if is_detached(matches) {
        setsid()?;
    }
    Ok(())
}

/// Keeps the signals that end programs for whoever waits for them. To be called before there are
/// threads, and after commands were started: they would inherit it.
pub(super) fn hold_signals() -> io::Result<()> {
    Ok(ends().thread_block()?)
}

/// Whether this is the program in the background.
pub(super) fn is_detached(matches: &ArgMatches) -> bool {
    matches.get_flag(DETACHED)
}

/// Says that the program works; one in the background lets go of its terminal.
pub(super) fn ready(matches: &ArgMatches) -> io::Result<()> {
    if is_detached(matches) {
        write(io::stdin().as_fd(), b"!")?;
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        dup2_stderr(&null)?;
    }
    Ok(())
}

/// The same of a program that needs its folder no more.
pub(super) fn ready_anywhere(matches: &ArgMatches) -> io::Result<()> {
    ready(matches)?;
    if is_detached(matches) {
        chdir("/")?;
    }
    Ok(())
}

/// The signals that end a program.
fn ends() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect()
}

/// Calls `stop`, in another thread, at the first signal that ends programs, which the result then
/// tells.
pub(super) fn on_signal(stop: impl Fn(Signal) + Send + 'static) -> io::Result<Received> {
    let received = Received::default();
    let number = Arc::clone(&received.0);
    thread::Builder::new().name("signals".into()).spawn(move || {
        while let Ok(signal) = ends().wait() {
            number.store(signal as i32, Ordering::SeqCst);
            stop(signal);
        }
    })?;
    Ok(received)
}

/// The signal that came, if any.
#[derive(Debug, Clone, Default)]
pub(super) struct Received(Arc<AtomicI32>);

impl Received {
    /// The exit status: 128 and the number of the signal, or else the one given.
    pub(super) fn status(&self, otherwise: u8) -> u8 {
        match self.0.load(Ordering::SeqCst) {
            0 => otherwise,
            signal => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

/// A file with the process id, removed with this value.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file that `-p` asks for. Errors: a message to print.
    pub(super) fn of(matches: &ArgMatches) -> Result<Option<Self>, String> {
        let path = matches.get_one::<PathBuf>("pidfile");
        path.map(|path| Self::write(path, i64::from(process::id()))).transpose()
    }

    /// Writes an id to a file. Errors: a message to print.
    pub(super) fn write(path: &Path, id: i64) -> Result<Self, String> {
        let failed = |error| format!("{}: {}", path.display(), output::describe(&error));
        let absolute = std::path::absolute(path).map_err(failed)?;
        File::create(&absolute)
            .and_then(|mut file| io::Write::write_all(&mut file, format!("{id}\n").as_bytes()))
            .map_err(failed)?;
        Ok(Self(absolute))
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The words of an argument as they are.
pub(super) fn words(matches: &ArgMatches, name: &str) -> Vec<OsString> {
    matches.get_many::<OsString>(name).unwrap_or_default().cloned().collect()
}
