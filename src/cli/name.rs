//! `vuname`: uname(1) with the name of the view.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{output, vucalls};

/// Option, short letter, meaning; in the order in which the fields are printed.
const FIELDS: [(&str, char, &str); 10] = [
    ("kernel-name", 's', "Print the kernel name"),
    ("nodename", 'n', "Print the network node hostname"),
    ("kernel-release", 'r', "Print the kernel release"),
    ("kernel-version", 'v', "Print the kernel version"),
    ("machine", 'm', "Print the machine hardware name"),
    ("processor", 'p', "Print the processor type (non-portable)"),
    ("hardware-platform", 'i', "Print the hardware platform (non-portable)"),
    ("operating-system", 'o', "Print the operating system"),
    ("serverid", 'U', "Print the id of the umvu that runs this view"),
    ("viewname", 'V', "Print the name of the view"),
];

pub(super) fn command() -> Command {
    let mut command = Command::new("vuname")
        .about("Print information about the system and the umvu view, or name the view")
        .arg(switch("all", 'a', "Print all information"))
        .arg(switch("prompt", 'P', "Print a name for the prompt: view, or host[id]"))
        .arg(switch("quiet", 'q', "Print nothing when there is no view"))
        .arg(switch("nouname", 'x', "Outside umvu, do not behave as uname"))
        .arg(Arg::new("newname").help("The new name of the view"));
    for (name, short, help) in FIELDS {
        command = command.arg(switch(name, short, help));
    }
    command
}

fn switch(name: &'static str, short: char, help: &'static str) -> Arg {
    Arg::new(name).short(short).long(name).action(ArgAction::SetTrue).help(help)
}

pub(super) fn run(matches: &ArgMatches) -> u8 {
    let inside = vucalls::info();
    if let Some(name) = matches.get_one::<String>("newname") {
        return match vucalls::set_name(name) {
            Ok(()) => 0,
            Err(_) if inside.is_err() => super::outside(command()),
            Err(error) => {
                output::failed("vuname", name, &error);
                1
            }
        };
    }
    let is_inside = inside.is_ok();
    if !is_inside && matches.get_flag("nouname") {
        return if matches.get_flag("quiet") { 1 } else { super::outside(command()) };
    }
    let info = inside.unwrap_or_else(|_| host());
    if matches.get_flag("prompt") {
        output::print(&format!("{}\n", prompt(&info, is_inside)));
        return 0;
    }
    let all = matches.get_flag("all");
    let wanted = |name: &str| matches.get_flag(name);
    let any = FIELDS.iter().any(|(name, ..)| wanted(name));
    let mut printed = Vec::new();
    for (at, (name, ..)) in FIELDS.iter().enumerate() {
        let unknown = matches!(*name, "processor" | "hardware-platform");
        let chosen =
            if all { !unknown && (is_inside || at < 8) } else { wanted(name) || (!any && at == 0) };
        if chosen {
            printed.push(field(&info, name, is_inside));
        }
    }
    output::print(&format!("{}\n", printed.join(" ").trim_end()));
    0
}

fn field(info: &[String; 8], name: &str, inside: bool) -> String {
    let [sysname, nodename, release, version, machine, _domain, serverid, viewname] = info;
    match name {
        "kernel-name" => sysname.clone(),
        "nodename" => nodename.clone(),
        "kernel-release" => release.clone(),
        "kernel-version" => version.clone(),
        "machine" => machine.clone(),
        "operating-system" if inside => "GNU/Linux/VUOS".to_owned(),
        "operating-system" => "GNU/Linux".to_owned(),
        "serverid" => serverid.clone(),
        "viewname" => viewname.clone(),
        _ => "unknown".to_owned(),
    }
}

fn prompt(info: &[String; 8], inside: bool) -> String {
    let [_, nodename, _, _, _, _, serverid, viewname] = info;
    if !inside {
        nodename.clone()
    } else if viewname.is_empty() {
        format!("{nodename}[{serverid}]")
    } else {
        viewname.clone()
    }
}

/// What uname(2) says of the host.
fn host() -> [String; 8] {
    let mut fields: [String; 8] = std::array::from_fn(|_| String::new());
    if let Ok(host) = nix::sys::utsname::uname() {
        let known =
            [host.sysname(), host.nodename(), host.release(), host.version(), host.machine()];
        for (field, value) in fields.iter_mut().zip(known) {
            *field = value.to_string_lossy().into_owned();
        }
    }
    fields
}
