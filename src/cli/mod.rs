//! The commands: one clap definition each, used for parsing, help, manual pages and completions.
//!
//! [`main`] dispatches by the name the program was called by, or by the first word (`umvu plug`).
//! Architecture invariant: commands
//! other than `umvu` speak to the hypervisor only by [`vucalls`].

mod ask;
mod background;
mod debug;
mod doctor;
mod dpipe;
mod failure;
mod families;
mod launch;
mod link;
mod logging;
mod modules;
mod mounts;
mod name;
mod output;
mod pages;
mod plug;
mod probe;
mod stack;
mod switch;
mod user;
pub mod vucalls;
mod words;

use std::{ffi::OsString, path::Path, process::ExitCode};

use clap::{Arg, ArgAction, ArgMatches, Command};

/// What every command prints outside umvu, letter by letter as VUOS does.
const OUTSIDE: &str = "This is a VUOS command.It works only inside a vuos virtual namespace";

/// One command: its definition and what it does; the result is the exit status.
struct Entry {
    define: fn() -> Command,
    run: fn(&ArgMatches) -> u8,
    /// The exit status of wrong usage, as VUOS has it.
    usage: u8,
}

const COMMANDS: &[Entry] = &[
    Entry { define: launch::command, run: launch::run, usage: 1 },
    Entry { define: modules::insmod_command, run: modules::insmod, usage: 2 },
    Entry { define: modules::rmmod_command, run: modules::rmmod, usage: 2 },
    Entry { define: modules::lsmod_command, run: modules::lsmod, usage: 2 },
    Entry { define: mounts::mount_command, run: mounts::mount, usage: 1 },
    Entry { define: mounts::umount_command, run: mounts::umount, usage: 1 },
    Entry { define: stack::command, run: stack::run, usage: 1 },
    Entry { define: link::command, run: link::run, usage: 2 },
    Entry { define: name::command, run: name::run, usage: 1 },
    Entry { define: user::command, run: user::run, usage: 1 },
    Entry { define: debug::command, run: debug::run, usage: 1 },
    Entry { define: plug::command, run: plug::run, usage: 1 },
    Entry { define: dpipe::command, run: dpipe::run, usage: 1 },
    Entry { define: switch::command, run: switch::run, usage: 1 },
];

/// The definitions of all commands.
pub fn commands() -> impl Iterator<Item = Command> {
    COMMANDS.iter().map(|entry| complete((entry.define)()))
}

/// Adds what every command has: `--version`, without a short form since some need `-V`.
fn complete(command: Command) -> Command {
    let version = Arg::new("version").long("version").action(ArgAction::Version);
    command
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .arg(version.help("Print version"))
}

/// Runs the command that `arguments` name; the first one is the program's name.
#[must_use]
pub fn main(mut arguments: Vec<OsString>) -> ExitCode {
    let entry = chosen(&mut arguments);
    match complete((entry.define)()).try_get_matches_from(arguments) {
        Ok(matches) => ExitCode::from((entry.run)(&matches)),
        Err(error) => {
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(entry.usage) } else { ExitCode::SUCCESS }
        }
    }
}

/// Finds the command by the program's name; `umvu WORD` is `umvu-WORD`, and the word is removed.
fn chosen(arguments: &mut Vec<OsString>) -> &'static Entry {
    let named = |name: &str| COMMANDS[1..].iter().find(|entry| (entry.define)().get_name() == name);
    let called = arguments.first().map(Path::new).and_then(Path::file_name);
    if let Some(entry) = called.and_then(|name| named(name.to_str()?)) {
        return entry;
    }
    let word = arguments.get(1).and_then(|word| word.to_str());
    match word.and_then(|word| named(&format!("umvu-{word}"))) {
        Some(entry) => {
            arguments.remove(0);
            entry
        }
        None => &COMMANDS[0],
    }
}

/// Says that a command works inside umvu only, with its usage; the exit status is 2.
fn outside(command: Command) -> u8 {
    output::complain(OUTSIDE);
    output::complain(&command.clone().render_usage().to_string());
    2
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definitions_are_consistent() {
        for command in super::commands() {
            command.debug_assert();
        }
    }
}
