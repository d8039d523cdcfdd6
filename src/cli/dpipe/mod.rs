//! `umvu dpipe`: commands with their standard streams crossed, as Debian's `dpipe`.
//!
//! [`plan`] reads the words; here the pipes and processes are made. The exit status is that of the
//! last command.

mod plan;

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::{CommandExt, parent_id},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use nix::{
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    sys::{
        prctl::set_pdeathsig,
        signal::{SigSet, Signal, kill},
    },
    unistd::{Pid, getpgrp, pipe2, setpgid, tcgetpgrp},
};

use self::plan::{Plan, Stage};
use super::{
    background::{self, PidFile},
    failure::Failure,
    output,
    plug::shell_status,
};

const NAME: &str = "umvu-dpipe";
/// The hidden word of the process that removes the files of commands that are nobody's children.
const SWEEP: &str = "sweep";

pub(super) fn command() -> clap::Command {
    let switch = |name: &'static str, short: char| {
        Arg::new(name).long(name).short(short).action(ArgAction::SetTrue)
    };
    let command = clap::Command::new(NAME)
        .about("Run commands that read what their neighbours write, both ways")
        .override_usage("umvu dpipe [OPTIONS] CMD [ARGS]... = CMD [ARGS]... [= CMD [ARGS]...]...");
    background::options(command)
        .arg(
            Arg::new("pgrpfile")
                .short('P')
                .long("pgrpfile")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Run in a process group of its own, and write its id (negative) to this file"),
        )
        .arg(switch("nowrapproc", 'n').help("Become the last command instead of waiting for all"))
        .arg(switch("nowrapnoclean", 'N').help("The same, and let the files stay"))
        .arg(Arg::new(SWEEP).long(SWEEP).action(ArgAction::SetTrue).hide(true))
        .arg(
            Arg::new("commands")
                .num_args(1..)
                .required(true)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .value_parser(value_parser!(OsString))
                .value_name("CMD")
                .help("Commands, with `=` between them"),
        )
        .after_help(
            "`=} CMD }=` processes only what goes to the right, `={ CMD {=` what goes to the left.\n\
             A command in the middle has its right neighbour on the descriptors that ALTERNATE_STDIN \
             and ALTERNATE_STDOUT name.\nThe exit status is that of the last command.",
        )
}

pub(super) fn run(matches: &ArgMatches) -> u8 {
    if matches.get_flag(SWEEP) {
        return sweep(matches);
    }
    run_checked(matches).unwrap_or_else(|Failure(message, status)| {
        output::complain(&format!("{NAME}: {message}"));
        status
    })
}

fn run_checked(matches: &ArgMatches) -> Result<u8, Failure> {
    let plan = Plan::read(&background::words(matches, "commands"))?;
    if let Some(status) = background::detach(matches, NAME) {
        return Ok(status);
    }
    background::begin(matches)?;
    if matches.get_one::<PathBuf>("pgrpfile").is_some() && !background::is_detached(matches) {
        let own = Pid::from_raw(0);
        setpgid(own, own).map_err(io::Error::from)?;
    }
    if matches.get_flag("nowrapproc") || matches.get_flag("nowrapnoclean") {
        return become_last(matches, plan);
    }
    let children = Children::default();
    let result = start_all(matches, &plan.stages, &mut Pipes::new(plan.lines)?, &children)
        .and_then(|()| supervise(matches, &children));
    if result.is_err() {
        children.end();
        children.wait();
    }
    result
}

/// Waits for the commands, with the files that were asked for.
fn supervise(matches: &ArgMatches, children: &Children) -> Result<u8, Failure> {
    background::hold_signals()?;
    let _files = files(matches)?;
    let started = Arc::clone(&children.0);
    let received = background::on_signal(move |signal| pass_on(signal, &started))?;
    background::ready(matches)?;
    Ok(received.status(children.wait()))
}

/// Writes the files that `-p` and `-P` ask for.
fn files(matches: &ArgMatches) -> Result<Vec<PidFile>, Failure> {
    let mut files = Vec::new();
    if let Some(path) = matches.get_one::<PathBuf>("pgrpfile") {
        files.push(PidFile::write(path, -i64::from(getpgrp().as_raw()))?);
    }
    files.extend(PidFile::of(matches)?);
    Ok(files)
}

/// The processes that were started, from left to right; None: it has ended.
#[derive(Default)]
struct Children(Arc<Mutex<Vec<Option<Pid>>>>, Mutex<Vec<Child>>);

impl Children {
    fn add(&self, child: Child) {
        let id = i32::try_from(child.id()).ok().map(Pid::from_raw);
        lock(&self.0).push(id);
        lock(&self.1).push(child);
    }

    /// Asks those that run to end.
    fn end(&self) {
        pass_on(Signal::SIGTERM, &self.0);
    }

    /// Waits for all; returns the status of the last one.
    fn wait(&self) -> u8 {
        let mut last = 1;
        for (number, child) in lock(&self.1).iter_mut().enumerate() {
            last = child.wait().map_or(1, shell_status);
            if let Some(id) = lock(&self.0).get_mut(number) {
                *id = None;
            }
        }
        last
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Gives a signal to the commands, unless the terminal has given it to them already.
fn pass_on(signal: Signal, children: &Mutex<Vec<Option<Pid>>>) {
    let from_terminal = signal == Signal::SIGINT
        && OpenOptions::new()
            .read(true)
            .open("/dev/tty")
            .is_ok_and(|terminal| tcgetpgrp(&terminal) == Ok(getpgrp()));
    if !from_terminal {
        for child in lock(children).iter().flatten() {
            let _ = kill(*child, signal);
        }
    }
}

/// Starts commands.
fn start_all(
    matches: &ArgMatches,
    stages: &[Stage],
    pipes: &mut Pipes,
    children: &Children,
) -> Result<(), Failure> {
    for stage in stages {
        let mut ready = pipes.prepare(matches, stage)?;
        children
            .add(ready.command.spawn().map_err(|error| Failure::not_run(&stage.words[0], &error))?);
        drop(ready);
        pipes.reserve()?;
    }
    Ok(())
}

/// The pipes, each with its ends that no command has yet.
struct Pipes {
    ends: Vec<(Option<OwnedFd>, Option<OwnedFd>)>,
    /// Holds two low numbers for alternate streams: shells know descriptors of one digit only.
    reserved: Vec<File>,
}

/// A command ready to start, with what it inherits.
struct Ready {
    command: Command,
    _alternate: Option<(OwnedFd, OwnedFd)>,
}

impl Pipes {
    fn new(count: usize) -> io::Result<Self> {
        let mut pipes = Self { ends: Vec::new(), reserved: Vec::new() };
        pipes.reserve()?;
        for _ in 0..count {
            let (reading, writing) = pipe2(OFlag::O_CLOEXEC)?;
            pipes.ends.push((Some(reading), Some(writing)));
        }
        Ok(pipes)
    }

    fn reserve(&mut self) -> io::Result<()> {
        while self.reserved.len() < 2 {
            self.reserved.push(File::open("/dev/null")?);
        }
        Ok(())
    }

    fn reading(&mut self, line: usize) -> io::Result<OwnedFd> {
        self.ends.get_mut(line).and_then(|ends| ends.0.take()).ok_or_else(taken)
    }

    fn writing(&mut self, line: usize) -> io::Result<OwnedFd> {
        self.ends.get_mut(line).and_then(|ends| ends.1.take()).ok_or_else(taken)
    }

    fn prepare(&mut self, matches: &ArgMatches, stage: &Stage) -> io::Result<Ready> {
        let mut command = Command::new(&stage.words[0]);
        command.args(&stage.words[1..]);
        command.stdin(Stdio::from(self.reading(stage.input)?));
        command.stdout(Stdio::from(self.writing(stage.output)?));
        if background::is_detached(matches) {
            command.stderr(Stdio::null());
        }
        let Some((input, output)) = stage.alternate else {
            return Ok(Ready { command, _alternate: None });
        };
        let ends = (self.reading(input)?, self.writing(output)?);
        self.reserved.clear();
        let ends = (ends.0.try_clone()?, ends.1.try_clone()?);
        for (name, end) in [("ALTERNATE_STDIN", &ends.0), ("ALTERNATE_STDOUT", &ends.1)] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::empty()))?;
            command.env(name, end.as_raw_fd().to_string());
        }
        Ok(Ready { command, _alternate: Some(ends) })
    }
}

fn taken() -> io::Error {
    io::Error::other("a line has two readers")
}

/// Starts all commands but the last one, and becomes that.
fn become_last(matches: &ArgMatches, mut plan: Plan) -> Result<u8, Failure> {
    let Some(last) = plan.stages.pop() else { return Ok(0) };
    let mut pipes = Pipes::new(plan.lines)?;
    let children = Children::default();
    let result = start_all(matches, &plan.stages, &mut pipes, &children)
        .and_then(|()| replace(matches, &last, &mut pipes));
    if result.is_err() {
        children.end();
    }
    result
}

/// Becomes a command, which is what remains to be started.
fn replace(matches: &ArgMatches, last: &Stage, pipes: &mut Pipes) -> Result<u8, Failure> {
    let mut ready = pipes.prepare(matches, last)?;
    let files = files(matches)?;
    if !files.is_empty() && !matches.get_flag("nowrapnoclean") {
        start_sweeper(&files)?;
    }
    background::ready(matches)?;
    let error = ready.command.exec();
    Err(Failure::not_run(&last.words[0], &error))
}

/// Starts the process that removes files when this one ends.
fn start_sweeper(files: &[PidFile]) -> io::Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg0(NAME).arg(format!("--{SWEEP}")).args(files.iter().map(PidFile::path));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map(drop)
}

/// Waits for the end of the parent, and removes the files.
fn sweep(matches: &ArgMatches) -> u8 {
    let parent = parent_id();
    let end = SigSet::from(Signal::SIGTERM);
    let ready = background::hold_signals().is_ok() && set_pdeathsig(Signal::SIGTERM).is_ok();
    // A parent that has ended before that tells nobody.
    while ready && parent_id() == parent && parent != 1 {
        let _ = end.wait();
    }
    for path in background::words(matches, "commands") {
        let _ = std::fs::remove_file(path);
    }
    0
}
