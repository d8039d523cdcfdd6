//! Commands about the switch itself.

use std::{fmt::Write as _, fs, process};

use nix::errno::Errno;

use super::{
    commands::COMMANDS,
    reply::Reply,
    session::{Session, version},
};
use crate::switch::bridge::mac_text;

pub(crate) fn help(_session: &Session, arguments: &str) -> Reply {
    let mut text = String::from(
        "COMMAND PATH       SYNTAX          HELP\n------------       --------------  ------------\n",
    );
    for entry in COMMANDS.iter().filter(|entry| entry.path.starts_with(arguments)) {
        let _ = writeln!(text, "{:18} {:15} {}", entry.path, entry.syntax, entry.help);
    }
    Reply::data(Ok(text))
}

/// The end of a conversation or of the switch is the business of the session.
pub(crate) fn nothing(_session: &Session, _arguments: &str) -> Reply {
    Reply::done(Ok(()))
}

pub(crate) fn info(session: &Session, _arguments: &str) -> Reply {
    let control = session.control();
    let mut text = format!(
        "{}\npid {} MAC {} uptime {}\n",
        version(),
        process::id(),
        mac_text(control.mac),
        control.started.elapsed().as_secs()
    );
    if let Some((path, mode)) = &*control.socket.lock() {
        let _ = writeln!(text, "mgmt {} perm 0{mode:03o}", path.display());
    }
    Reply::data(Ok(text))
}

pub(crate) fn sockets(session: &Session, _arguments: &str) -> Reply {
    let control = session.control();
    let (directory, mode) = (control.directory.display(), control.mode);
    Reply::data(Ok(format!("ctl dir {directory}\nstd mode 0{mode:03o}\n")))
}

/// Executes a file; the conversation gets each command with its reply.
pub(crate) fn load(session: &Session, arguments: &str) -> Reply {
    let Ok(script) = fs::read_to_string(arguments) else { return Reply::done(Err(Errno::ENOENT)) };
    session.run_script(arguments, &script)
}

pub(crate) fn plugins(_session: &Session, _arguments: &str) -> Reply {
    let head = "NAME                   HELP\n------------           ----\n";
    Reply::data(Ok(head.to_owned())).and(Errno::ENOENT)
}

/// Errors: EINVAL without a name, ENOENT.
pub(crate) fn no_plugin(_session: &Session, arguments: &str) -> Reply {
    Reply::done(Err(if arguments.is_empty() { Errno::EINVAL } else { Errno::ENOENT }))
}
