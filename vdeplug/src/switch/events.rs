//! [`Events`]: what happens in a switch, for those who watch it.
//!
//! A [`Watcher`] chooses categories; lines about them gather until it takes them, and a
//! descriptor tells that there are some.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use parking_lot::Mutex;

/// Lines that a watcher does not take are cut off here.
const MOST_BYTES: usize = 1 << 16;

/// A kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    Learned,
    Forgotten,
    PortNew,
    PortClosed,
    Described,
    Joined,
    Left,
    TreeStatus,
    TreeRoot,
    TreeActive,
    TreeInactive,
}

/// The name of a kind, its number in replies, and what it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Category {
    pub(crate) kind: Kind,
    pub(crate) path: &'static str,
    pub(crate) tag: u16,
    pub(crate) help: &'static str,
}

/// All categories, in the order of lists.
pub(crate) const CATEGORIES: [Category; 11] = {
    const fn category(kind: Kind, path: &'static str, tag: u16, help: &'static str) -> Category {
        Category { kind, path, tag, help }
    }
    [
        category(Kind::Learned, "hash/+", 11, "an address was learned"),
        category(Kind::Forgotten, "hash/-", 12, "an address was forgotten"),
        category(Kind::TreeStatus, "fstp/status", 44, "a port changed its state in a tree"),
        category(Kind::TreeRoot, "fstp/root", 45, "a tree has another root or way to it"),
        category(Kind::TreeActive, "fstp/+", 41, "a port joined a tree"),
        category(Kind::TreeInactive, "fstp/-", 42, "a port left a tree"),
        category(Kind::PortNew, "port/+", 21, "a port was made"),
        category(Kind::PortClosed, "port/-", 22, "a port is no longer used"),
        category(Kind::Described, "port/descr", 23, "a plug has a description"),
        category(Kind::Joined, "port/ep/+", 31, "a plug joined"),
        category(Kind::Left, "port/ep/-", 32, "a plug left"),
    ]
};

impl Category {
    /// Whether a path names this category or one above it.
    pub(crate) fn is_below(&self, path: &str) -> bool {
        let rest = self.path.strip_prefix(path);
        rest.is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with('/'))
    }
}

/// The events of a switch.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// The kinds that anybody watches, a bit for each.
    watched: AtomicU32,
    watchers: Mutex<Vec<Weak<Watcher>>>,
}

impl Events {
    /// Adds a watcher, who watches nothing yet.
    pub(crate) fn watch(&self) -> nix::Result<Arc<Watcher>> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let watcher = Arc::new(Watcher { kinds: AtomicU32::new(0), lines: Mutex::default(), bell });
        let mut watchers = self.watchers.lock();
        watchers.retain(|watcher| watcher.strong_count() > 0);
        watchers.push(Arc::downgrade(&watcher));
        Ok(watcher)
    }

    /// Whether anybody watches a kind.
    pub(crate) fn is_watched(&self, kind: Kind) -> bool {
        self.watched.load(Ordering::Relaxed) & bit(kind) != 0
    }

    /// Tells those who watch; `text` follows the category in the line.
    pub(crate) fn tell(&self, kind: Kind, text: impl FnOnce() -> String) {
        if !self.is_watched(kind) {
            return;
        }
        let Some(category) = CATEGORIES.iter().find(|category| category.kind == kind) else {
            return;
        };
        let line = format!("3{:03} {} {}\n", category.tag, category.path, text());
        for watcher in self.watchers.lock().iter().filter_map(Weak::upgrade) {
            watcher.hear(kind, &line);
        }
    }

    /// Makes `watcher` watch the kinds that `change` makes of those it watches.
    pub(crate) fn choose(&self, watcher: &Watcher, kinds: u32) {
        watcher.kinds.store(kinds, Ordering::Relaxed);
        let watchers = self.watchers.lock();
        let all = watchers.iter().filter_map(Weak::upgrade);
        let union = all.fold(0, |kinds, other| kinds | other.kinds.load(Ordering::Relaxed));
        self.watched.store(union, Ordering::Relaxed);
    }
}

pub(crate) fn bit(kind: Kind) -> u32 {
    1 << (kind as u32)
}

/// Somebody who watches a switch.
#[derive(Debug)]
pub(crate) struct Watcher {
    kinds: AtomicU32,
    lines: Mutex<String>,
    bell: EventFd,
}

impl Watcher {
    /// The kinds watched, a bit for each.
    pub(crate) fn kinds(&self) -> u32 {
        self.kinds.load(Ordering::Relaxed)
    }

    /// Polls readable when there are lines.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Takes the lines.
    pub(crate) fn take(&self) -> String {
        let _ = self.bell.read();
        std::mem::take(&mut *self.lines.lock())
    }

    fn hear(&self, kind: Kind, line: &str) {
        if self.kinds() & bit(kind) == 0 {
            return;
        }
        let mut lines = self.lines.lock();
        if lines.len() < MOST_BYTES {
            lines.push_str(line);
            let _ = self.bell.write(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_hear_what_they_watch() {
        let events = Events::default();
        let watcher = events.watch().expect("a descriptor");
        events.tell(Kind::PortNew, || unreachable!("nobody watches"));
        events.choose(&watcher, bit(Kind::PortNew));
        events.tell(Kind::PortNew, || "04".to_owned());
        events.tell(Kind::PortClosed, || "04".to_owned());
        assert_eq!(watcher.take(), "3021 port/+ 04\n");
        assert_eq!(watcher.take(), "");
    }

    #[test]
    fn categories_are_named_by_their_path_or_one_above() {
        let below = |path: &str| CATEGORIES.iter().filter(|c| c.is_below(path)).count();
        assert_eq!([below(""), below("port"), below("port/ep"), below("port/+")], [11, 5, 2, 1]);
        assert_eq!([below("po"), below("port/"), below("x")], [0; 3]);
    }
}
