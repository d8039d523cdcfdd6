//! `vusu`: su(1) inside a view. The module of virtual user ids that it needs is not built yet.

use std::{env, os::unix::process::CommandExt, process};

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{output, vucalls};

pub(super) fn command() -> Command {
    let switch = |name: &'static str, short: char, help: &'static str| {
        Arg::new(name).short(short).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("vusu")
        .about("Become another user inside the umvu view (not built yet)")
        .arg(switch("login", 'l', "Start a login shell"))
        .arg(switch("preserve-environment", 'm', "Keep the environment").visible_short_alias('p'))
        .arg(Arg::new("command").short('c').long("command").value_name("CMD").help("Run a command"))
        .arg(Arg::new("shell").short('s').long("shell").value_name("SHELL").help("Run this shell"))
        .arg(
            Arg::new("user")
                .num_args(0..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .value_names(["USER", "ARG"])
                .help("- for a login shell; the user (root), arguments of the shell"),
        )
}

pub(super) fn run(_matches: &ArgMatches) -> u8 {
    if vucalls::inside() {
        output::complain("vusu: needs a module of virtual user ids, and there is none yet");
        return 1;
    }
    // Outside it is su(1), as in VUOS.
    let error = process::Command::new("su").args(env::args_os().skip(1)).exec();
    output::not_run("vusu", "su".as_ref(), &error)
}
