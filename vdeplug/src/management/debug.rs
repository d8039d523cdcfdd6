//! Commands about the events that a conversation shows.

use std::fmt::Write as _;

use nix::errno::Errno;

use super::{reply::Reply, session::Session};
use crate::switch::events::{CATEGORIES, bit};

pub(crate) fn list(session: &Session, _arguments: &str) -> Reply {
    let kinds = session.watcher().kinds();
    let mut text = String::from(
        "CATEGORY               TAG STATUS HELP\n------------           --- ------ ----\n",
    );
    for category in CATEGORIES {
        let status = if kinds & bit(category.kind) == 0 { "OFF" } else { "ON" };
        let (path, tag, help) = (category.path, category.tag, category.help);
        let _ = writeln!(text, "{path:22} {tag:03} {status:6} {help}");
    }
    Reply::data(Ok(text))
}

/// Errors: EINVAL no such category, EEXIST all of it is shown.
pub(crate) fn add(session: &Session, arguments: &str) -> Reply {
    let change = chosen(arguments).and_then(|chosen| {
        let before = session.watcher().kinds();
        if before & chosen == chosen { Err(Errno::EEXIST) } else { Ok(before | chosen) }
    });
    Reply::done(change.map(|kinds| session.watch(kinds)))
}

/// Errors: EINVAL no such category, ENOENT nothing of it is shown.
pub(crate) fn delete(session: &Session, arguments: &str) -> Reply {
    let change = chosen(arguments).and_then(|chosen| {
        let before = session.watcher().kinds();
        if before & chosen == 0 { Err(Errno::ENOENT) } else { Ok(before & !chosen) }
    });
    Reply::done(change.map(|kinds| session.watch(kinds)))
}

fn chosen(path: &str) -> Result<u32, Errno> {
    let chosen = CATEGORIES.iter().filter(|category| category.is_below(path));
    match chosen.fold(0, |kinds, category| kinds | bit(category.kind)) {
        0 => Err(Errno::EINVAL),
        kinds => Ok(kinds),
    }
}
