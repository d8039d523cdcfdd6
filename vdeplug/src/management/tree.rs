//! Commands about the fast spanning tree, which this switch does not have: it never blocks a port,
//! and loops of cables between switches are for people to avoid.

use std::fmt::Write as _;

use nix::errno::Errno;

use super::{arguments, reply::Reply, session::Session, vlan};
use crate::switch::bridge::mac_text;

pub(crate) fn info(session: &Session, _arguments: &str) -> Reply {
    let control = session.control();
    let (mac, priority) = (mac_text(control.mac), control.priority);
    Reply::data(Ok(format!("MAC {mac} Priority {priority} (0x{priority:x})\nFSTP=false\n")))
}

/// Errors: EOPNOTSUPP for switching it on.
pub(crate) fn set(_session: &Session, text: &str) -> Reply {
    let on = arguments::number(text) != 0;
    Reply::data(if on { Err(Errno::EOPNOTSUPP) } else { Ok(String::new()) })
}

/// Errors: EOPNOTSUPP.
pub(crate) fn set_edge(_session: &Session, _arguments: &str) -> Reply {
    Reply::done(Err(Errno::EOPNOTSUPP))
}

/// Errors: EOPNOTSUPP.
pub(crate) fn set_bonus(_session: &Session, _arguments: &str) -> Reply {
    Reply::done(Err(Errno::EOPNOTSUPP))
}

pub(crate) fn print(session: &Session, text: &str) -> Reply {
    let control = session.control();
    let vids = vlan::chosen(&control.bridge().layout.read(), text);
    let [high, low] = control.priority.to_be_bytes();
    let root = format!("{high:02x}:{low:02x}:{}", mac_text(control.mac));
    let age = control.started.elapsed().as_secs();
    Reply::data(vids.map(|vids| {
        vids.into_iter().fold(String::new(), |mut text, vid| {
            let _ = write!(
                text,
                "FST DATA VLAN {vid:04} ROOTSWITCH FSTP IS DISABLED\n ++ root {root}\n \
                 ++ designated ff:ff:ff:ff:ff:ff:ff:ff\n \
                 ++ rootport 0000 cost 0 age {age} bonusport 0000 bonuscost 0\n"
            );
            text
        })
    }))
}
