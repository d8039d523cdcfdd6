//! `vu_insmod`, `vu_rmmod`, `vu_lsmod`.

use std::io;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{output, outside, vucalls};

fn names() -> Arg {
    Arg::new("module").required(true).num_args(1..).help("Names of modules")
}

pub(super) fn insmod_command() -> Command {
    Command::new("vu_insmod")
        .about("Load modules into the umvu view")
        .arg(
            Arg::new("permanent")
                .short('p')
                .long("permanent")
                .action(ArgAction::SetTrue)
                .help("Forbid to unload the modules"),
        )
        .arg(names())
}

pub(super) fn rmmod_command() -> Command {
    Command::new("vu_rmmod").about("Unload modules from the umvu view").arg(names())
}

pub(super) fn lsmod_command() -> Command {
    Command::new("vu_lsmod").about("List the modules of the umvu view")
}

pub(super) fn insmod(matches: &ArgMatches) -> u8 {
    let permanent = matches.get_flag("permanent");
    each(insmod_command(), matches, |module| vucalls::insmod(module, permanent))
}

pub(super) fn rmmod(matches: &ArgMatches) -> u8 {
    each(rmmod_command(), matches, vucalls::rmmod)
}

pub(super) fn lsmod(_matches: &ArgMatches) -> u8 {
    match vucalls::lsmod() {
        Ok(list) => {
            output::print(&list);
            0
        }
        Err(_) => outside(lsmod_command()),
    }
}

/// Does something to each module; the exit status is 1 if any failed.
fn each(command: Command, matches: &ArgMatches, act: impl Fn(&str) -> io::Result<()>) -> u8 {
    if !vucalls::inside() {
        return outside(command);
    }
    let mut status = 0;
    for module in matches.get_many::<String>("module").unwrap_or_default() {
        if let Err(error) = act(module) {
            output::failed(command.get_name(), module, &error);
            status = 1;
        }
    }
    status
}
