//! `vustack`: runs a command on a network stack.

use std::{ffi::OsString, io, os::unix::process::CommandExt, process};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::{families, output, vucalls};

/// `vustack kernel`: back to the kernel's stack.
const KERNEL: &str = "kernel";

pub(super) fn command() -> Command {
    Command::new("vustack")
        .about("Run a command on a network stack of the umvu view")
        .disable_help_flag(true)
        .arg(
            Arg::new("help")
                .short('h')
                .long("help")
                .action(ArgAction::SetTrue)
                .help("Print help; with -v also the names of the address families"),
        )
        .arg(
            Arg::new("verbose")
                .short('v')
                .long("verbose")
                .action(ArgAction::SetTrue)
                .help("Say which address families use the stack"),
        )
        .arg(
            Arg::new("supported")
                .short('s')
                .long("supported")
                .action(ArgAction::SetTrue)
                .help("Use the stack for the address families it says it supports"),
        )
        .arg(
            Arg::new("family")
                .short('f')
                .long("family")
                .visible_alias("families")
                .value_name("LIST")
                .help("Use the stack for these address families"),
        )
        .arg(
            Arg::new("list")
                .short('o')
                .value_name("LIST")
                .allow_hyphen_values(true)
                .conflicts_with_all(["family", "supported"])
                .help("Add and take away families: +ip,-ipv6 (all u 4 6 n p b i ip #N)"),
        )
        .arg(
            Arg::new("show")
                .long("show")
                .action(ArgAction::SetTrue)
                .help("Print which stack each address family uses now"),
        )
        .arg(
            Arg::new("command")
                .num_args(0..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .value_parser(value_parser!(OsString))
                .value_names(["STACK", "CMD"])
                .help("The mounted stack (or: kernel), the command and its arguments"),
        )
}

pub(super) fn run(matches: &ArgMatches) -> u8 {
    if matches.get_flag("help") {
        output::print(&command().render_help().to_string());
        if matches.get_flag("verbose") {
            list_families();
        }
        return 0;
    }
    if !vucalls::inside() {
        output::complain("vustack is a vuos command");
        return 1;
    }
    if matches.get_flag("show") {
        return show();
    }
    let words: Vec<&OsString> =
        matches.get_many::<OsString>("command").unwrap_or_default().collect();
    let [stack, program, arguments @ ..] = words.as_slice() else {
        output::complain("vustack: a stack and a command are needed");
        output::complain(&command().render_usage().to_string());
        return 1;
    };
    let stack = stack.to_string_lossy();
    if let Err(message) = choose(matches, &stack) {
        output::complain(&format!("vustack: {message}"));
        return 1;
    }
    let error = process::Command::new(program).args(arguments).exec();
    output::not_run("vustack", program, &error)
}

/// Makes the stack the default for the families that were asked for.
fn choose(matches: &ArgMatches, stack: &str) -> Result<(), String> {
    let listed = match (matches.get_one::<String>("family"), matches.get_one::<String>("list")) {
        (Some(list), _) => Some(families::plain(list)?),
        (None, Some(list)) => Some(families::signed(list)?),
        (None, None) => matches.get_flag("supported").then(|| {
            let all = 1..i32::try_from(families::NAMES.len()).unwrap_or(0);
            all.filter(|family| vucalls::supports(stack, *family)).collect()
        }),
    };
    let verbose = matches.get_flag("verbose");
    let complain = |error: io::Error| match error.raw_os_error() {
        Some(libc::ENOTSUP) => format!("{stack}: not a network stack"),
        Some(libc::ENOENT) => format!("{stack}: no stack is mounted there (see vumount)"),
        _ => format!("{stack}: {}", output::describe(&error)),
    };
    match listed {
        None => {
            if verbose {
                output::complain(&format!("Using {stack} for ALL address families"));
            }
            vucalls::default_stack(stack, 0).map_err(complain)
        }
        Some(list) => {
            if verbose {
                let names: Vec<_> = list
                    .iter()
                    .map(|family| format!("{}({family})", families::name(*family)))
                    .collect();
                output::complain(&format!("Using {stack} for the following address families:"));
                output::complain(&format!("    {}", names.join(" ")));
            }
            list.into_iter().try_for_each(|family| {
                vucalls::default_stack(stack, family).map_err(|error| {
                    if error.raw_os_error() == Some(libc::EAFNOSUPPORT) {
                        format!("{stack}: {}: not supported by this stack", families::name(family))
                    } else {
                        complain(error)
                    }
                })
            })
        }
    }
}

fn show() -> u8 {
    for family in ["inet", "inet6", "netlink", "packet"] {
        let number = families::NAMES.iter().position(|name| *name == family).unwrap_or(0);
        let stack = vucalls::current_stack(i32::try_from(number).unwrap_or(0)).unwrap_or_default();
        let stack = if stack.is_empty() { KERNEL } else { &stack };
        output::print(&format!("{family}({number}) {stack}\n"));
    }
    0
}

fn list_families() {
    output::print("\nAddress families:\n");
    for (number, name) in families::NAMES.iter().enumerate() {
        output::print(&format!("  {name}({number})\n"));
    }
    output::print("Aliases:\n");
    for (alias, list) in families::ALIASES.iter().filter(|(alias, _)| alias.len() > 1) {
        let names: Vec<_> = list.iter().map(|family| families::name(*family)).collect();
        output::print(&format!("  {alias}: {}\n", names.join(",")));
    }
}
