//! Commands about ports.

use std::{fmt::Write as _, net::Shutdown};

use nix::{
    errno::Errno,
    unistd::{Gid, Group, Uid, User},
};

use super::{arguments, reply::Reply, session::Session};
use crate::switch::layout::{Counter, Layout, NumberedPort, PortNumber};

/// The word that lets everybody in.
const EVERYBODY: &str = "NONE";

/// Changes the layout; errors become the status.
pub(crate) fn change(
    session: &Session,
    change: impl FnOnce(&mut Layout) -> Result<(), Errno>,
) -> Reply {
    Reply::done(change(&mut session.control().bridge().layout.write()))
}

pub(crate) fn info(session: &Session, _arguments: &str) -> Reply {
    let layout = session.control().bridge().layout.read();
    let (limit, hub) = (layout.limit, layout.hub);
    Reply::data(Ok(format!("Numports={limit}\nHUB={hub}\ncounters=true\n")))
}

pub(crate) fn set_limit(session: &Session, text: &str) -> Reply {
    change(session, |layout| layout.set_limit(arguments::port(text)?))
}

pub(crate) fn set_hub(session: &Session, text: &str) -> Reply {
    let hub = arguments::number(text) != 0;
    change(session, |layout| {
        layout.hub = hub;
        Ok(())
    })
}

pub(crate) fn set_vlan(session: &Session, text: &str) -> Reply {
    let bridge = session.control().bridge();
    let result = arguments::words(text).and_then(|[port, vlan]| {
        let port = arguments::port(port)?;
        bridge.layout.write().set_vlan(port, arguments::vlan(vlan)?)?;
        Ok(port)
    });
    // What is behind the port is in another VLAN now.
    Reply::done(result.map(|port| {
        bridge.forget(|known| known.value == port, |table| table.forget(port));
    }))
}

pub(crate) fn create(session: &Session, text: &str) -> Reply {
    let result = arguments::port(text)
        .and_then(|port| session.control().bridge().layout.write().create(port).map(|()| port));
    Reply::done(result.map(|port| tell_new(session, port)))
}

pub(crate) fn create_any(session: &Session, _arguments: &str) -> Reply {
    let result = session.control().bridge().layout.write().create_any();
    Reply::data(result.map(|port| {
        tell_new(session, port);
        format!("Port {port:04}\n")
    }))
}

fn tell_new(session: &Session, port: PortNumber) {
    let events = &session.control().bridge().events;
    events.tell(crate::switch::events::Kind::PortNew, || format!("{port:02}"));
}

pub(crate) fn remove(session: &Session, text: &str) -> Reply {
    change(session, |layout| layout.remove(arguments::port(text)?))
}

pub(crate) fn set_allocatable(session: &Session, text: &str) -> Reply {
    change(session, |layout| {
        let [port, value] = arguments::words(text)?;
        layout.port_mut(arguments::port(port)?)?.allocatable = arguments::number(value) != 0;
        Ok(())
    })
}

pub(crate) fn set_user(session: &Session, text: &str) -> Reply {
    change(session, |layout| {
        let [port, name] = arguments::words(text)?;
        let user = owner(name, |name| Some(User::from_name(name).ok()??.uid), Uid::from_raw)?;
        layout.port_mut(arguments::port(port)?)?.user = user;
        Ok(())
    })
}

pub(crate) fn set_group(session: &Session, text: &str) -> Reply {
    change(session, |layout| {
        let [port, name] = arguments::words(text)?;
        let group = owner(name, |name| Some(Group::from_name(name).ok()??.gid), Gid::from_raw)?;
        layout.port_mut(arguments::port(port)?)?.group = group;
        Ok(())
    })
}

/// Reads a name or a number. Errors: EINVAL.
fn owner<T>(
    text: &str,
    find: impl FnOnce(&str) -> Option<T>,
    from: impl FnOnce(u32) -> T,
) -> Result<Option<T>, Errno> {
    if text == EVERYBODY {
        return Ok(None);
    }
    let found = find(text).or_else(|| text.parse().ok().map(from));
    found.map(Some).ok_or(Errno::EINVAL)
}

/// Errors: EINVAL, ENXIO.
pub(crate) fn close(session: &Session, text: &str) -> Reply {
    let bridge = session.control().bridge();
    let slot = arguments::words(text).and_then(|[port, id]| {
        let layout = bridge.layout.read();
        let number = arguments::port(port)?;
        layout.check(number)?;
        let port = layout.ports.get(&number).ok_or(Errno::ENXIO)?;
        let id = u64::try_from(arguments::number(id)).map_err(|_| Errno::ENXIO)?;
        let end = port.endpoints.iter().find(|end| end.id == id).ok_or(Errno::ENXIO)?;
        // Whoever serves it hears of that and clears up.
        let _ = end.stream.as_ref().map(|stream| stream.shutdown(Shutdown::Both));
        Ok(end.slot)
    });
    Reply::done(slot.map(|slot| bridge.leave(slot)))
}

/// Queues have one length, which the system and the switch know best.
pub(crate) fn queue(_session: &Session, _arguments: &str) -> Reply {
    Reply::done(Err(Errno::EOPNOTSUPP))
}

pub(crate) fn reset(session: &Session, text: &str) -> Reply {
    let layout = session.control().bridge().layout.read();
    match chosen(&layout, text, Some) {
        Ok(ports) => ports.into_iter().for_each(|(_, port)| {
            port.input.reset();
            port.output.reset();
        }),
        Err(Errno::EINVAL) => return Reply::done(Err(Errno::EINVAL)),
        // A port that is not there has nothing to reset.
        Err(_) => {}
    }
    Reply::done(Ok(()))
}

pub(crate) fn print(session: &Session, text: &str) -> Reply {
    let layout = session.control().bridge().layout.read();
    let ports = chosen(&layout, text, |port| port.is_active().then_some(port));
    Reply::data(ports.map(|ports| ports.into_iter().map(describe).collect()))
}

pub(crate) fn print_all(session: &Session, text: &str) -> Reply {
    let layout = session.control().bridge().layout.read();
    let ports = chosen(&layout, text, Some);
    Reply::data(ports.map(|ports| ports.into_iter().map(describe).collect()))
}

/// The ports that an optional number names, as far as `filter` keeps them. Errors: EINVAL, ENXIO.
fn chosen<'a>(
    layout: &'a Layout,
    text: &str,
    filter: impl Fn(&'a NumberedPort) -> Option<&'a NumberedPort>,
) -> Result<Vec<(PortNumber, &'a NumberedPort)>, Errno> {
    if text.is_empty() {
        let all = layout.ports.iter();
        return Ok(all.filter_map(|(number, port)| Some((*number, filter(port)?))).collect());
    }
    let number = arguments::port(text)?;
    if number >= layout.limit {
        return Err(Errno::EINVAL);
    }
    let port = layout.ports.get(&number).and_then(filter).ok_or(Errno::ENXIO)?;
    Ok(vec![(number, port)])
}

fn describe((number, port): (PortNumber, &NumberedPort)) -> String {
    let active = if port.is_active() { "ACTIVE" } else { "INACTIVE" };
    let not = if port.allocatable { "" } else { "NOT " };
    let user =
        |uid: Uid| User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |u| u.name);
    let group =
        |gid: Gid| Group::from_gid(gid).ok().flatten().map_or_else(|| gid.to_string(), |g| g.name);
    let none = || EVERYBODY.to_owned();
    let mut text = format!(
        "Port {number:04} untagged_vlan={:04} {active} - {not}Unnamed Allocatable\n \
         Current User: {} Access Control: (User: {} - Group: {})\n{}{}",
        port.untagged,
        port.endpoints.first().map_or_else(none, |end| user(end.user)),
        port.user.map_or_else(none, user),
        port.group.map_or_else(none, group),
        count("IN: ", &port.input),
        count("OUT:", &port.output),
    );
    for end in &port.endpoints {
        let (id, module, description) = (end.id, end.module, &end.description);
        let _ = writeln!(text, "  -- endpoint ID {id:04} module {module:12}: {description}");
    }
    text
}

fn count(name: &str, counter: &Counter) -> String {
    let (packets, bytes) = counter.get();
    format!(" {name} pkts {packets:10}          bytes {bytes:20}\n")
}
