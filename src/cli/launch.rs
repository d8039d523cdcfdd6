//! `umvu`: starts a command in a partial virtual machine.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use nix::{
    fcntl::AtFlags,
    unistd::{AccessFlags, faccessat},
};
use umvu_core::Config;
use umvu_tracer::Mode;

use super::{doctor, logging, output, pages, vucalls};

/// A word that is not a program to run; a program of this name runs as `./doctor`. So are those of
/// the commands `umvu-WORD`, as the first word.
const DOCTOR: &str = "doctor";
/// The init file of all users.
const SYSTEM_RC: &str = "/etc/vurc";

pub(super) fn command() -> Command {
    let switch = |name: &'static str, short: char, help: &'static str| {
        Arg::new(name).short(short).long(name).action(ArgAction::SetTrue).help(help)
    };
    let value = |name: &'static str, short: char, placeholder: &'static str, help: &'static str| {
        Arg::new(name).short(short).long(name).value_name(placeholder).help(help)
    };
    let level = || value_parser!(i32).range(-1..=7);
    Command::new("umvu")
        .about("A virtual operating system in user space: gives any process its own network")
        .arg(switch("nonesting", 'x', "Accepted for compatibility: there is no re-exec to avoid"))
        .arg(switch("norc", 'N', "Run no init files"))
        .arg(
            value("rc", 'f', "FILE", "Run this init file instead of /etc/vurc and ~/.vurc")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(value("vu_name", 'V', "NAME", "Name the view"))
        .arg(
            value("output", 'o', "FILE", "Append log lines to a file instead of standard error")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            value("loglevel", 'l', "N", "Log lines up to this level, 0 (emerg) to 7 (debug)")
                .value_parser(level())
                .default_value("4"),
        )
        .arg(
            value("syslog", 's', "N", "Send log lines up to this level to the system log")
                .value_parser(level())
                .allow_hyphen_values(true)
                .default_value("-1"),
        )
        .arg(value("debugtags", 'd', "TAGS", "Debug tags to begin with (see vudebug)"))
        .arg(
            value("debugcols", 'D', "TAGS:COLORS", "Colours of debug tags")
                .action(ArgAction::Append),
        )
        .arg(switch("noseccomp", 'S', "Intercept by ptrace alone: slower, for old kernels"))
        .arg(Arg::new("seccomp").long("seccomp").action(ArgAction::SetTrue).hide(true))
        .arg(
            value("modules", 'm', "LIST", "Load these modules first, separated by commas")
                .value_delimiter(',')
                .action(ArgAction::Append),
        )
        .arg(
            Arg::new("man")
                .long("man")
                .value_name("FOLDER")
                .hide(true)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(Arg::new("calls").long("calls").action(ArgAction::SetTrue).hide(true))
        .arg(
            Arg::new("completions")
                .long("completions")
                .value_name("SHELL")
                .value_parser(value_parser!(Shell))
                .help("Print completions for a shell"),
        )
        .arg(
            Arg::new("command")
                .num_args(1..)
                .required_unless_present_any(["man", "calls", "completions"])
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .value_parser(value_parser!(OsString))
                .value_name("CMD")
                .help("The command and its arguments"),
        )
        .after_help(
            "The exit status is that of the command; 128+N when signal N ended it.\n\
             `umvu doctor` tells what this host allows, and how to get what is missing.\n\
             `umvu switch`, `umvu plug` and `umvu dpipe` are the commands umvu-switch, umvu-plug and \
             umvu-dpipe. A program that has \
             such a name runs as `umvu ./plug` or `umvu -- plug`.",
        )
}

pub(super) fn run(matches: &ArgMatches) -> u8 {
    if let Some(folder) = matches.get_one::<PathBuf>("man") {
        return report(pages::manuals(folder).map(|()| 0));
    }
    if matches.get_flag("calls") {
        output::print(&pages::support());
        return 0;
    }
    if let Some(shell) = matches.get_one::<Shell>("completions") {
        pages::completions(*shell, &mut io::stdout().lock());
        return 0;
    }
    let mut words = matches.get_many::<OsString>("command").unwrap_or_default();
    if words.len() == 1 && words.next().is_some_and(|word| word == DOCTOR) {
        return doctor::run();
    }
    report(start(matches))
}

fn report(result: io::Result<u8>) -> u8 {
    result.unwrap_or_else(|error| {
        output::complain(&format!("umvu: {error}"));
        match error.kind() {
            io::ErrorKind::NotFound => 127,
            _ => 1,
        }
    })
}

fn start(matches: &ArgMatches) -> io::Result<u8> {
    if vucalls::inside() {
        let reason = "already inside umvu: load modules into this view with vu_insmod";
        return Err(io::Error::other(reason));
    }
    let level = |name| matches.get_one::<i32>(name).copied();
    let file = matches.get_one::<PathBuf>("output").map(PathBuf::as_path);
    let console = level("loglevel").unwrap_or(logging::DEFAULT_LEVEL);
    logging::start(console, level("syslog").unwrap_or(-1), file)?;
    let words = matches.get_many::<OsString>("command").unwrap_or_default();
    let mut programs: Vec<Vec<OsString>> =
        rc_files(matches).into_iter().map(|path| vec![path.into_os_string()]).collect();
    programs.push(words.cloned().collect());
    let preload = matches.get_many::<String>("modules").unwrap_or_default();
    umvu_core::run(Config {
        programs,
        environment: env::vars_os().collect(),
        mode: if matches.get_flag("noseccomp") { Mode::Ptrace } else { Mode::Notifications },
        view_name: matches.get_one::<String>("vu_name").cloned(),
        modules: Box::new(crate::modules),
        preload: preload.filter(|name| !name.is_empty()).cloned().collect(),
        debug_tags: matches.get_one::<String>("debugtags").cloned().unwrap_or_default(),
        debug_colors: matches
            .get_many::<String>("debugcols")
            .unwrap_or_default()
            .cloned()
            .collect::<Vec<_>>()
            .join(","),
        prepare: Box::new(put_commands_on_path),
    })
}

/// The init files that exist and may be executed.
fn rc_files(matches: &ArgMatches) -> Vec<PathBuf> {
    if matches.get_flag("norc") {
        return Vec::new();
    }
    let files = match matches.get_one::<PathBuf>("rc") {
        Some(file) => vec![file.clone()],
        None => {
            let home = env::var_os("HOME").map(|home| Path::new(&home).join(".vurc"));
            [Some(PathBuf::from(SYSTEM_RC)), home].into_iter().flatten().collect()
        }
    };
    let executable = |path: &PathBuf| {
        path.is_file()
            && faccessat(nix::fcntl::AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS).is_ok()
    };
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    files.into_iter().filter(executable).map(absolute).collect()
}

/// Makes links to this program, under the names of the commands, and puts them first on the PATH
/// of the guests. Errors: those of symlink(2).
fn put_commands_on_path(
    run_dir: &Path,
    environment: &mut Vec<(OsString, OsString)>,
) -> io::Result<()> {
    let folder = run_dir.join("bin");
    fs::create_dir(&folder)?;
    let program = env::current_exe()?;
    for command in super::commands() {
        symlink(&program, folder.join(command.get_name()))?;
    }
    let mut path = folder.into_os_string();
    match environment.iter_mut().find(|(name, _)| name == "PATH") {
        Some((_, value)) => {
            path.push(":");
            path.push(&*value);
            *value = path;
        }
        None => {
            path.push(":/usr/local/bin:/usr/bin:/bin");
            environment.push(("PATH".into(), path));
        }
    }
    Ok(())
}
