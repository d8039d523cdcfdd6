//! Commands about VLANs.

use std::fmt::Write as _;

use nix::errno::Errno;

use super::{arguments, port::change, reply::Reply, session::Session};
use crate::switch::layout::{Lane, Layout, Vid};

pub(crate) fn create(session: &Session, text: &str) -> Reply {
    change(session, |layout| layout.create_vlan(arguments::vlan(text)?))
}

pub(crate) fn remove(session: &Session, text: &str) -> Reply {
    let bridge = session.control().bridge();
    let result =
        arguments::vlan(text).and_then(|vid| bridge.layout.write().remove_vlan(vid).map(|()| vid));
    Reply::done(result.map(|vid| {
        bridge.forget(|known| known.key.parts().1 == vid, |table| table.forget_vlan(vid));
    }))
}

pub(crate) fn add(session: &Session, text: &str) -> Reply {
    change(session, |layout| {
        let [vid, port] = arguments::words(text)?;
        layout.add_tagged(arguments::vlan(vid)?, arguments::port(port)?)
    })
}

pub(crate) fn delete(session: &Session, text: &str) -> Reply {
    change(session, |layout| {
        let [vid, port] = arguments::words(text)?;
        layout.delete_tagged(arguments::vlan(vid)?, arguments::port(port)?)
    })
}

pub(crate) fn print(session: &Session, text: &str) -> Reply {
    list(session, text, Which::Active)
}

pub(crate) fn print_all(session: &Session, text: &str) -> Reply {
    list(session, text, Which::All)
}

/// Which ports of a VLAN are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Active,
    All,
}

fn list(session: &Session, text: &str, which: Which) -> Reply {
    let layout = session.control().bridge().layout.read();
    Reply::data(
        chosen(&layout, text)
            .map(|vids| vids.into_iter().map(|vid| describe(&layout, vid, which)).collect()),
    )
}

/// The VLANs that an optional number names. Errors: EINVAL, ENXIO.
pub(crate) fn chosen(layout: &Layout, text: &str) -> Result<Vec<Vid>, Errno> {
    if text.is_empty() {
        return Ok(layout.vlans.keys().copied().collect());
    }
    let vid = arguments::vlan(text)?;
    if layout.vlans.contains_key(&vid) { Ok(vec![vid]) } else { Err(Errno::ENXIO) }
}

fn describe(layout: &Layout, vid: Vid, which: Which) -> String {
    let mut text = format!("VLAN {vid:04}\n");
    for (number, port, lane) in layout.members(vid) {
        let (tagged, active) = (u8::from(lane == Lane::Tagged), u8::from(port.is_active()));
        let status = if port.is_active() { "Forwarding" } else { "Learning" };
        if port.is_active() || which == Which::All {
            let _ = writeln!(
                text,
                " -- Port {number:04} tagged={tagged} active={active} status={status}"
            );
        }
    }
    text
}
