//! `vumount` and `vuumount`: mount(2) and umount2(2) from the command line.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{output, outside, probe, vucalls, words};

fn flag(name: &'static str, short: char, help: &'static str) -> Arg {
    Arg::new(name).short(short).long(name).action(ArgAction::SetTrue).help(help)
}

pub(super) fn mount_command() -> Command {
    Command::new("vumount")
        .about("Mount a file system, a device or a network stack in the umvu view")
        .arg(
            Arg::new("options")
                .short('o')
                .long("options")
                .action(ArgAction::Append)
                .value_name("LIST")
                .help("Mount words, and options of the type, separated by commas"),
        )
        .arg(
            Arg::new("types")
                .short('t')
                .long("types")
                .value_name("TYPE")
                .help("The type, for instance vunetioth, vunetsmoltcp, vufusemem, vufs; else that of the image"),
        )
        .arg(flag("read-only", 'r', "Mount read-only (the same as -o ro)"))
        .arg(flag("read-write", 'w', "Mount read-write (the default)").visible_alias("rw"))
        .arg(flag("bind", 'B', "Mount a subtree somewhere else"))
        .arg(flag("move", 'M', "Move a subtree to some other place"))
        .arg(flag("rbind", 'R', "Mount a subtree and its submounts somewhere else"))
        .arg(flag("verbose", 'v', "Say what was mounted"))
        .arg(Arg::new("source").required(true).help("What to mount: a stack, a VNL, a path, none"))
        .arg(Arg::new("directory").required(true).help("Where to mount it"))
}

pub(super) fn umount_command() -> Command {
    Command::new("vuumount")
        .about("Unmount from the umvu view")
        .arg(flag("force", 'f', "Take it away from those that still use it (MNT_FORCE)"))
        .arg(flag("detach-loop", 'd', "Detach now, clean up when no longer busy (MNT_DETACH)"))
        .arg(Arg::new("target").required(true).help("The mount point"))
}

pub(super) fn mount(matches: &ArgMatches) -> u8 {
    if !vucalls::inside() {
        return outside(mount_command());
    }
    let options: Vec<&str> =
        matches.get_many::<String>("options").unwrap_or_default().map(String::as_str).collect();
    let (mut flags, data) = words::split(&options.join(","), libc::MS_SILENT);
    for (name, set, clear) in [
        ("read-only", libc::MS_RDONLY, 0),
        ("read-write", 0, libc::MS_RDONLY),
        ("bind", libc::MS_BIND, 0),
        ("move", libc::MS_MOVE, 0),
        ("rbind", libc::MS_BIND | libc::MS_REC, 0),
    ] {
        if matches.get_flag(name) {
            flags = (flags | set) & !clear;
        }
    }
    let word = |name| matches.get_one::<String>(name).map_or("", String::as_str);
    let (source, target) = (word("source"), word("directory"));
    let types = word("types");
    let untyped = libc::MS_BIND | libc::MS_MOVE | libc::MS_REMOUNT;
    let found = match types.is_empty() && flags & untyped == 0 {
        true => probe::probe(source),
        false => Ok(Some(types)),
    };
    let fstype = match found {
        Ok(Some(fstype)) => fstype,
        Ok(None) => {
            output::complain(&format!("vumount: {source}: is of no type that is known (give -t)"));
            return 1;
        }
        Err(error) => {
            output::failed("vumount", source, &error);
            return 1;
        }
    };
    match vucalls::mount(source, target, fstype, flags, &data) {
        Ok(()) => {
            if let Some(notice) = vucalls::last_error() {
                output::complain(&notice);
            }
            if matches.get_flag("verbose") {
                output::complain(&format!("vumount: {source} mounted on {target}"));
            }
            0
        }
        Err(error) => {
            output::failed("vumount", target, &error);
            1
        }
    }
}

pub(super) fn umount(matches: &ArgMatches) -> u8 {
    if !vucalls::inside() {
        return outside(umount_command());
    }
    let mut flags = 0;
    if matches.get_flag("force") {
        flags |= libc::MNT_FORCE;
    }
    if matches.get_flag("detach-loop") {
        flags |= libc::MNT_DETACH;
    }
    let target = matches.get_one::<String>("target").map_or("", String::as_str);
    match vucalls::umount(target, flags) {
        Ok(()) => 0,
        Err(error) => {
            output::failed("vuumount", target, &error);
            1
        }
    }
}
