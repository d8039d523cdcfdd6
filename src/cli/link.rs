//! `iplink`: makes and removes the interfaces of a stack, by netlink on the caller's sockets.

#![expect(unsafe_code, reason = "nix does not know the options of netlink sockets")]

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use clap::{Arg, ArgAction, ArgMatches, Command};
use netlink_emu::{
    Failure,
    client::{self, Answer},
    values::{LinkChange, NewLink},
};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use umvu_abi::{Errno, IfIndex};

use super::{output, vucalls};

/// More than any acknowledgement.
const ANSWER: usize = 16 * 1024;

const SYNTAX: &str = "iplink add [name] NAME [index IDX] [vnl|data VNL] type TYPE\n       \
                      iplink del|delete DEV\n       iplink del|delete dev DEV [index IDX]";

pub(super) fn command() -> Command {
    Command::new("iplink")
        .about("Add or remove interfaces of the network stack in use")
        .override_usage(SYNTAX)
        .arg(
            Arg::new("words")
                .value_name("WORDS")
                .required(true)
                .num_args(1..)
                .action(ArgAction::Append)
                .trailing_var_arg(true)
                .help(
                    "What to do, as above; without vnl or data, type vde joins the default network",
                ),
        )
}

pub(super) fn run(matches: &ArgMatches) -> u8 {
    let words: Vec<&str> =
        matches.get_many::<String>("words").unwrap_or_default().map(String::as_str).collect();
    let request = match parse(&words) {
        Ok(request) => request,
        Err(problem) => {
            output::complain(&format!("iplink: {problem}\nusage: {SYNTAX}"));
            return 2;
        }
    };
    match request.carry_out() {
        Ok(()) => 0,
        Err(failure) => {
            output::complain(&format!("iplink: {failure}"));
            1
        }
    }
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Request {
    Add(NewLink),
    Remove(client::Command),
}

impl Request {
    fn carry_out(&self) -> Result<(), Failure> {
        match self {
            Self::Remove(command) => ask(command),
            Self::Add(link) => match ask(&client::Command::add_link(link)) {
                Err(failure) if failure.errno == Errno::EOPNOTSUPP && link.kind == "vde" => {
                    add_by_umvu(link).map_err(|instead| instead.unwrap_or(failure))
                }
                other => other,
            },
        }
    }
}

/// The kernel does not know the type: the stack may be one of umvu's all the same. Without an answer
/// of umvu's, that of the kernel counts.
fn add_by_umvu(link: &NewLink) -> Result<(), Option<Failure>> {
    let name = link.properties.name.as_deref().unwrap_or_default();
    let vnl = link.vnl.as_deref().unwrap_or_default();
    vucalls::add_link(name, vnl).map_err(|error| {
        let reason = vucalls::last_error()?;
        Some(Failure::new(Errno::from_io(&error), reason))
    })
}

/// Reads the words of the command line.
fn parse(words: &[&str]) -> Result<Request, String> {
    match words {
        ["add", rest @ ..] => add(rest),
        ["del" | "delete", rest @ ..] => remove(rest),
        [other, ..] => Err(format!("{other}: neither add nor del")),
        [] => Err("add or del?".to_owned()),
    }
}

fn add(words: &[&str]) -> Result<Request, String> {
    let mut link = NewLink { properties: LinkChange::default(), ..NewLink::default() };
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word {
            "name" => link.properties.name = Some(value()?.to_owned()),
            "index" => link.index = Some(index(value()?)?),
            "vnl" | "data" => link.vnl = Some(value()?.to_owned()),
            "type" => value()?.clone_into(&mut link.kind),
            name if link.properties.name.is_none() => link.properties.name = Some(name.to_owned()),
            other => return Err(format!("{other}: unknown word")),
        }
    }
    if link.kind.is_empty() {
        return Err("which type? (write: type vde)".to_owned());
    }
    Ok(Request::Add(link))
}

fn remove(words: &[&str]) -> Result<Request, String> {
    let (mut name, mut at) = (None, IfIndex(0));
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word {
            "dev" => name = Some(value()?),
            "index" => at = index(value()?)?,
            device if name.is_none() => name = Some(device),
            other => return Err(format!("{other}: unknown word")),
        }
    }
    if name.is_none() && at.0 == 0 {
        return Err("which interface?".to_owned());
    }
    Ok(Request::Remove(client::Command::del_link(at, name)))
}

fn index(text: &str) -> Result<IfIndex, String> {
    let index = text.parse().ok().filter(|index| *index > 0 && i32::try_from(*index).is_ok());
    index.map(IfIndex).ok_or_else(|| format!("{text}: not an index of an interface"))
}

/// Sends a request and waits for its acknowledgement.
fn ask(request: &client::Command) -> Result<(), Failure> {
    let failed = |errno: nix::errno::Errno| Failure::from(Errno(errno as i32));
    let socket = open().map_err(failed)?;
    send(socket.as_raw_fd(), &request.bytes(1), MsgFlags::empty()).map_err(failed)?;
    let mut buffer = vec![0; ANSWER];
    loop {
        let length = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other.map_err(failed)?,
        };
        for (_, answer) in client::answers(&buffer[..length]) {
            match answer {
                Answer::Done => return Ok(()),
                Answer::Failed(failure) if failure.message.is_empty() => {
                    let text = output::describe(&io::Error::from_raw_os_error(failure.errno.0));
                    return Err(Failure::new(failure.errno, text));
                }
                Answer::Failed(failure) => return Err(failure),
                Answer::Message(..) => {}
            }
        }
    }
}

fn open() -> nix::Result<OwnedFd> {
    let route = SockProtocol::NetlinkRoute;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, route)?;
    // Without them there is no text: no reason to give up.
    switch_on(&socket, libc::NETLINK_EXT_ACK);
    switch_on(&socket, libc::NETLINK_CAP_ACK);
    Ok(socket)
}

fn switch_on(socket: &OwnedFd, option: i32) {
    let (on, size) = (1_i32, libc::socklen_t::from(4_u8));
    // SAFETY: the option is an int, which outlives the call.
    unsafe {
        let on = std::ptr::from_ref(&on).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_NETLINK, option, on, size)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_reference() {
        let named = parse(&["add", "name", "v1", "index", "7", "vnl", "null://", "type", "vde"]);
        let bare = parse(&["add", "v1", "type", "vde", "data", "null://", "index", "7"]);
        assert!(named.is_ok());
        assert_eq!(named, bare);
        assert_eq!(parse(&["del", "v1"]), parse(&["delete", "dev", "v1"]));
        assert!(parse(&["del", "dev", "v1", "index", "7"]).is_ok());
    }

    #[test]
    fn mistakes_are_named() {
        for (words, problem) in [
            (&["add", "v1"][..], "type"),
            (&["add", "v1", "type"], "type needs a value"),
            (&["add", "v1", "v2", "type", "vde"], "v2"),
            (&["add", "v1", "index", "x", "type", "vde"], "x"),
            (&["del"], "which"),
            (&["make", "v1"], "make"),
        ] {
            let error = parse(words).expect_err("wrong words");
            assert!(error.contains(problem), "{error}");
        }
    }
}
