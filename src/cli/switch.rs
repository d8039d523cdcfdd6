//! `umvu switch`: a switch with ports, VLANs and management, as Debian's `vde_switch`.

use std::{
    env, fs, io,
    io::IsTerminal,
    path::{Path, PathBuf},
    thread,
};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use vdeplug::{
    ManagedSwitch, OpenError, SwitchSettings,
    cable::{self, Stop},
    management::{Console, Outcome},
};

use super::{
    ask,
    background::{self, PidFile},
    failure::Failure,
    logging, output,
};

const NAME: &str = "umvu-switch";
const DIRECTORY: &str = "/tmp/vde.ctl";
/// The scripts that are run when `-f` names none, as those of `vde_switch`.
const SYSTEM_RC: &str = "/etc/vde2/vde_switch.rc";
const USER_RC: &str = ".vderc";

pub(super) fn command() -> Command {
    let value = |name: &'static str, placeholder: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(placeholder).help(help)
    };
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    let command = Command::new(NAME)
        .about("A virtual Ethernet switch with ports, VLANs and management")
        .override_usage("umvu switch [OPTIONS]\n       umvu switch --ask SOCK COMMAND...")
        .arg(
            value("sock", "DIR", "Directory where others join (vde://DIR)")
                .short('s')
                .aliases(["vdesock", "unix"])
                .default_value(DIRECTORY),
        )
        .arg(
            value("mode", "MODE", "Permissions of the sockets, octal")
                .short('m')
                .aliases(["mod"])
                .value_parser(octal)
                .default_value("600"),
        )
        .arg(value("dirmode", "MODE", "Permissions of the directory, octal").value_parser(octal))
        .arg(value("group", "GROUP", "Group that owns them").short('g'))
        .arg(
            value("tap", "TAP", "Plug in this tap interface of the kernel")
                .short('t')
                .value_delimiter(',')
                .action(ArgAction::Append),
        );
    background::options(command)
        .arg(
            value(
                "rcfile",
                "FILE",
                "Run the commands of this file first, instead of those of \
                /etc/vde2/vde_switch.rc and ~/.vderc",
            )
            .short('f')
            .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            value("mgmt", "SOCK", "Listen for management at this socket")
                .short('M')
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            value("mgmtmode", "MODE", "Permissions of that socket, octal")
                .value_parser(octal)
                .default_value("600"),
        )
        .arg(value("mgmtgroup", "GROUP", "Group that owns it"))
        .arg(flag("nostdin", "Take no commands from the standard input"))
        .arg(
            value("numports", "N", "Number of ports; port 0 is none")
                .short('n')
                .value_parser(value_parser!(u16).range(2..=4096))
                .default_value("32"),
        )
        .arg(flag("hub", "Be a hub: all frames go to all ports").short('x'))
        .arg(flag("fstp", "Accepted for compatibility: there is no spanning tree").short('F'))
        .arg(
            value("hashsize", "N", "Size of the table of addresses")
                .value_parser(value_parser!(u32).range(1..=1 << 24))
                .default_value("128"),
        )
        .arg(value("macaddr", "MAC", "Address of the switch itself").value_parser(mac))
        .arg(
            value("priority", "N", "Priority of the switch (shown only)")
                .value_parser(value_parser!(u16))
                .default_value("32768"),
        )
        .arg(
            value("ask", "SOCK", "Send a command to the switch managed there, print its reply")
                .value_parser(value_parser!(PathBuf))
                .requires("command"),
        )
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .help("The management command, with its arguments")
                .num_args(1..)
                .allow_hyphen_values(true)
                .trailing_var_arg(true)
                .requires("ask"),
        )
        .arg(Arg::new("show-version").short('v').action(ArgAction::SetTrue).help("Print version"))
        .after_help(
            "In front the standard input takes management commands (try `help`); the switch ends \
             with it, by `shutdown` or a signal.",
        )
}

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| "permissions are octal, for example 660".to_owned())
}

fn mac(text: &str) -> Result<[u8; 6], String> {
    let bytes: Option<Vec<u8>> =
        text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| "for example 00:ff:01:02:03:04".to_owned())
}

pub(super) fn run(matches: &ArgMatches) -> u8 {
    if matches.get_flag("show-version") {
        output::print(&format!("{NAME} {}\n", env!("CARGO_PKG_VERSION")));
        return 0;
    }
    run_checked(matches).unwrap_or_else(|Failure(message, status)| {
        output::complain(&format!("{NAME}: {message}"));
        status
    })
}

fn run_checked(matches: &ArgMatches) -> Result<u8, Failure> {
    if let Some(place) = matches.get_one::<PathBuf>("ask") {
        let words = matches.get_many::<String>("command").unwrap_or_default();
        let command = words.map(String::as_str).collect::<Vec<_>>().join(" ");
        return ask::ask(place, &command);
    }
    if let Some(status) = background::detach(matches, NAME) {
        return Ok(status);
    }
    background::begin(matches)?;
    background::hold_signals()?;
    logging::start(logging::DEFAULT_LEVEL, -1, None)?;
    if matches.get_flag("fstp") {
        output::complain(&format!("{NAME}: no spanning tree here (-F): cables must make no loop"));
    }
    let switch = ManagedSwitch::start(settings(matches)).map_err(opened)?;
    let cables = taps(matches, &switch)?;
    run_scripts(matches, &switch)?;
    let socket = listen(matches, &switch)?;
    let pid = PidFile::of(matches)?;
    let stopper = switch.stopper();
    background::on_signal(move |_| stopper.stop())?;
    background::ready_anywhere(matches)?;
    let streams = converse(matches, &switch)?;
    switch.wait();
    cables.stop();
    drop((streams, socket));
    drop(switch);
    // Last: whoever waits for this file to go finds nothing of the switch.
    drop(pid);
    Ok(0)
}

fn opened(error: OpenError) -> Failure {
    Failure(error.to_string(), 1)
}

fn settings(matches: &ArgMatches) -> SwitchSettings {
    let text = |name| matches.get_one::<String>(name).cloned();
    let mut settings = SwitchSettings::new(text("sock").unwrap_or_default());
    settings.mode = matches.get_one("mode").copied().unwrap_or(settings.mode);
    settings.directory_mode = matches.get_one("dirmode").copied();
    settings.group = text("group");
    settings.ports = matches.get_one("numports").copied().unwrap_or(settings.ports);
    settings.hub = matches.get_flag("hub");
    let size = matches.get_one::<u32>("hashsize").and_then(|size| usize::try_from(*size).ok());
    settings.table_size = size.unwrap_or(settings.table_size);
    settings.mac = matches.get_one("macaddr").copied();
    settings.priority = matches.get_one("priority").copied().unwrap_or(settings.priority);
    settings
}

/// Plugs in tap interfaces; the result ends their cables.
fn taps(matches: &ArgMatches, switch: &ManagedSwitch) -> Result<Stop, Failure> {
    let stop = Stop::new()?;
    for name in matches.get_many::<String>("tap").unwrap_or_default() {
        let tap = vdeplug::open(&format!("tap://{name}"), NAME).map_err(opened)?;
        let plug = switch.plug(None, "tuntap", name)?;
        let stop = stop.clone();
        let name = name.clone();
        thread::Builder::new().name("tap".into()).spawn(move || {
            if let Err(error) = cable::join(&*tap, &*plug, &stop) {
                tracing::error!(tap = name, %error, "the interface is gone");
            }
        })?;
    }
    Ok(stop)
}

/// Runs the commands of the script that `-f` names, or of the usual ones that exist.
fn run_scripts(matches: &ArgMatches, switch: &ManagedSwitch) -> Result<(), Failure> {
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(USER_RC));
    let usual = [Some(PathBuf::from(SYSTEM_RC)), home].into_iter().flatten();
    let files: Vec<PathBuf> = match matches.get_one::<PathBuf>("rcfile") {
        Some(file) => vec![file.clone()],
        None => usual.filter(|path| path.is_file()).collect(),
    };
    let session = switch.session()?;
    for path in files {
        let failed = |error| format!("{}: {}", path.display(), output::describe(&error));
        for (number, line) in (1..).zip(fs::read_to_string(&path).map_err(failed)?.lines()) {
            if let Outcome::Reply(reply) = session.answer(line)
                && reply.status() != 0
            {
                let reason = output::describe(&io::Error::from_raw_os_error(reply.status()));
                output::complain(&format!("{NAME}: {}:{number}: {line}: {reason}", path.display()));
            }
        }
    }
    Ok(())
}

fn listen(matches: &ArgMatches, switch: &ManagedSwitch) -> Result<Option<Console>, Failure> {
    let Some(path) = matches.get_one::<PathBuf>("mgmt") else { return Ok(None) };
    let mode = matches.get_one("mgmtmode").copied().unwrap_or(0o600);
    let group = matches.get_one::<String>("mgmtgroup").map(String::as_str);
    Console::listen(switch, path, mode, group).map(Some).map_err(opened)
}

/// Takes commands from the standard input, unless it is not ours.
fn converse(matches: &ArgMatches, switch: &ManagedSwitch) -> Result<Option<Console>, Failure> {
    if matches.get_flag("daemon") || matches.get_flag("nostdin") {
        return Ok(None);
    }
    if io::stdin().is_terminal() {
        output::print(&switch.session()?.greeting());
    }
    let stopper = switch.stopper();
    let console = Console::on_streams(switch, move || {
        output::complain(&format!(
            "{NAME}: the standard input has ended, and so does the switch \
                                   (-d or --nostdin keep it)"
        ));
        stopper.stop();
    })?;
    Ok(Some(console))
}
