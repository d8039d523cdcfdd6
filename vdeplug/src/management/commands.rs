//! The table of management commands.

use super::{debug, general, hash, port, reply::Reply, session::Session, tree, vlan};

/// What a command does with its arguments.
pub(crate) type Run = fn(&Session, &str) -> Reply;

/// One command, or the title of a menu.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: &'static str,
    pub(crate) syntax: &'static str,
    pub(crate) help: &'static str,
    /// None: a title.
    pub(crate) run: Option<Run>,
}

const fn menu(path: &'static str, help: &'static str) -> Entry {
    Entry { path, syntax: "============", help, run: None }
}

const fn command(path: &'static str, syntax: &'static str, help: &'static str, run: Run) -> Entry {
    Entry { path, syntax, help, run: Some(run) }
}

/// All commands, in the order of `help`.
pub(crate) const COMMANDS: &[Entry] = &[
    menu("ds", "DATA SOCKETS"),
    command("ds/showinfo", "", "show where plugs join", general::sockets),
    command("help", "[arg]", "list the commands (that begin with arg)", general::help),
    command("logout", "", "end this conversation", general::nothing),
    command("shutdown", "", "end the switch", general::nothing),
    command("showinfo", "", "show what switch this is", general::info),
    command("load", "path", "execute the commands of a file", general::load),
    menu("debug", "EVENTS"),
    command("debug/list", "", "list the categories of events", debug::list),
    command("debug/add", "dbgpath", "show the events of a category here", debug::add),
    command("debug/del", "dbgpath", "show them no longer", debug::delete),
    menu("plugin", "PLUGINS"),
    command("plugin/list", "", "list the plugins (there are none)", general::plugins),
    command("plugin/add", "library", "load a plugin (there are none)", general::no_plugin),
    command("plugin/del", "name", "unload a plugin (there are none)", general::no_plugin),
    menu("hash", "TABLE OF ADDRESSES"),
    command("hash/showinfo", "", "show size and times", hash::info),
    command("hash/setsize", "N", "change the size", hash::set_size),
    command(
        "hash/setgcint",
        "N",
        "change how often old addresses are removed",
        hash::set_collection,
    ),
    command(
        "hash/setexpire",
        "N",
        "change after how many seconds addresses are old",
        hash::set_expiry,
    ),
    command(
        "hash/setminper",
        "N",
        "change how long a station stays before it may move",
        hash::set_persistence,
    ),
    command("hash/print", "", "list the addresses", hash::print),
    command("hash/find", "MAC [VLAN]", "find an address", hash::find),
    menu("fstp", "FAST SPANNING TREE"),
    command("fstp/showinfo", "", "show address and priority", tree::info),
    command("fstp/setfstp", "0/1", "fast spanning tree: 1=on 0=off", tree::set),
    command(
        "fstp/setedge",
        "VLAN PORT 1/0",
        "a port of a vlan leads to stations only: 1=yes 0=no",
        tree::set_edge,
    ),
    command(
        "fstp/bonus",
        "VLAN PORT COST",
        "prefer a port of a vlan by so much cost",
        tree::set_bonus,
    ),
    command("fstp/print", "[N]", "show the tree of a vlan, or all", tree::print),
    menu("port", "PORTS"),
    command("port/showinfo", "", "show number and kind", port::info),
    command("port/setnumports", "N", "change the number of ports", port::set_limit),
    command("port/sethub", "0/1", "1=hub 0=switch", port::set_hub),
    command(
        "port/setvlan",
        "N VLAN",
        "change the vlan of frames without tag (4095=none)",
        port::set_vlan,
    ),
    command("port/createauto", "", "make a port with the first free number", port::create_any),
    command("port/create", "N", "make port N, for plugs that name it", port::create),
    command("port/remove", "N", "remove port N", port::remove),
    command(
        "port/allocatable",
        "N 0/1",
        "give port N to plugs that name none: 1=yes 0=no",
        port::set_allocatable,
    ),
    command("port/setuser", "N user", "let only this user in (NONE=all)", port::set_user),
    command("port/setgroup", "N group", "let only this group in (NONE=all)", port::set_group),
    command("port/epclose", "N ID", "unplug endpoint ID of port N", port::close),
    command("port/defqlen", "LEN", "change the length of queues (fixed here)", port::queue),
    command("port/epqlen", "N ID LEN", "change the length of a queue (fixed here)", port::queue),
    command("port/resetcounter", "[N]", "set the counters (of port N) to zero", port::reset),
    command("port/print", "[N]", "show the ports in use", port::print),
    command("port/allprint", "[N]", "show all ports", port::print_all),
    menu("vlan", "VLANS"),
    command("vlan/create", "N", "make vlan N", vlan::create),
    command("vlan/remove", "N", "remove vlan N", vlan::remove),
    command("vlan/addport", "N PORT", "add a port to vlan N, tagged", vlan::add),
    command("vlan/delport", "N PORT", "remove a tagged port from vlan N", vlan::delete),
    command("vlan/print", "[N]", "show vlans and their ports in use", vlan::print),
    command("vlan/allprint", "[N]", "show vlans and all their ports", vlan::print_all),
];

/// Finds the command at the beginning of a line; returns it with its arguments.
pub(crate) fn find(line: &str) -> Option<(&'static Entry, Run, &str)> {
    let (name, arguments) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let entry = COMMANDS.iter().find(|entry| entry.path == name)?;
    Some((entry, entry.run?, arguments.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_whole_words_and_titles_are_none() {
        let found = |line| find(line).map(|(entry, _, arguments)| (entry.path, arguments));
        assert_eq!(found("port/print"), Some(("port/print", "")));
        assert_eq!(found("port/print \t 7 "), Some(("port/print", "7")));
        for none in ["port", "po/pr", "PORT/print", "port /print", "port/printx", "", "?"] {
            assert_eq!(found(none), None, "{none}");
        }
    }
}
