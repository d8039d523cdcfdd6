//! Commands about the table of addresses.

use std::fmt::Write as _;

use nix::errno::Errno;

use super::{arguments, reply::Reply, session::Session};
use crate::{
    mac_table::{Key, Known, MacTable},
    switch::{bridge::mac_text, layout::PortNumber, managed::Ageing},
};

/// Larger tables are refused.
const LARGEST: i32 = 1 << 24;

pub(crate) fn info(session: &Session, _arguments: &str) -> Reply {
    let Ageing { size, collection, expiry, persistence } = *session.control().ageing.lock();
    Reply::data(Ok(format!(
        "Hash size {}\nGC interval {collection} secs\nGC expire {expiry} secs\n\
         Min persistence {persistence} secs\n",
        size.next_power_of_two()
    )))
}

/// Errors: EINVAL.
pub(crate) fn set_size(session: &Session, text: &str) -> Reply {
    let size = arguments::number(text);
    let Some(size) = usize::try_from(size).ok().filter(|_| (1..=LARGEST).contains(&size)) else {
        return Reply::done(Err(Errno::EINVAL));
    };
    let mut ageing = session.control().ageing.lock();
    ageing.size = size;
    let bridge = session.control().bridge();
    bridge.forget(|_| true, |table: &mut MacTable<PortNumber>| *table = ageing.table());
    Reply::done(Ok(()))
}

/// Old addresses are never found, however long they stay in the table: the number is kept only.
pub(crate) fn set_collection(session: &Session, text: &str) -> Reply {
    session.control().ageing.lock().collection = arguments::number(text);
    Reply::done(Ok(()))
}

pub(crate) fn set_expiry(session: &Session, text: &str) -> Reply {
    change(session, |ageing| ageing.expiry = arguments::number(text))
}

pub(crate) fn set_persistence(session: &Session, text: &str) -> Reply {
    change(session, |ageing| ageing.persistence = arguments::number(text))
}

fn change(session: &Session, change: impl FnOnce(&mut Ageing)) -> Reply {
    let mut ageing = session.control().ageing.lock();
    change(&mut ageing);
    ageing.apply(&mut session.control().bridge().table.lock());
    Reply::done(Ok(()))
}

pub(crate) fn print(session: &Session, _arguments: &str) -> Reply {
    let control = session.control();
    let table = control.bridge().table.lock();
    Reply::data(Ok(table.known(control.fabric.uptime()).map(line).collect()))
}

/// Errors: EINVAL for what is no address, ENODEV when it is not known.
pub(crate) fn find(session: &Session, text: &str) -> Reply {
    let mut words = text.split_whitespace();
    let key = arguments::mac(words.next().unwrap_or_default()).and_then(|address| {
        let vlan = arguments::vlan(words.next().unwrap_or_default())?;
        Key::new(address, vlan).ok_or(Errno::EINVAL)
    });
    let control = session.control();
    let table = control.bridge().table.lock();
    let mut known = table.known(control.fabric.uptime());
    Reply::data(key.and_then(|key| {
        let found = known.find(|known| known.key == key).map(line);
        found.ok_or(Errno::ENODEV)
    }))
}

fn line(known: Known<PortNumber>) -> String {
    let (address, vlan) = known.key.parts();
    let mut text = String::new();
    let _ = writeln!(
        text,
        "Hash: {:04} Addr: {} VLAN {vlan:04} to port: {:03}  age {} secs",
        known.set,
        mac_text(address),
        known.value,
        known.age
    );
    text
}
