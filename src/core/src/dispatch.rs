//! The table of intercepted system calls.
//!
//! Each row names a call, says when it is trapped, whether a signal may interrupt it, who answers
//! it, and what is promised about it. A call is either performed by the hypervisor from its own
//! copy of the arguments, or forwarded with no promise about it: an argument that was looked at
//! and is read again by the kernel may have been changed by another thread of the guest.

use std::{collections::HashMap, str::FromStr};

use syscalls::Sysno;
use umvu_abi::{module::Facet, vu};
use umvu_tracer::api::{Action, Call, Subscription, Trap};

use crate::{Core, handlers, paths, view::View};

/// Answers one call.
pub type Handler = fn(&Core, &Call) -> Action;

/// What the hypervisor does about one system call.
#[derive(Clone, Copy)]
pub struct Row {
    /// The name, as in syscalls(2); a name that this architecture lacks is skipped.
    pub name: &'static str,
    /// When it is trapped.
    pub trap: Trap,
    /// Whether a signal may interrupt it with `EINTR`.
    pub interruptible: bool,
    /// Who answers.
    pub handler: Handler,
    /// What is supported, for the table in the documentation.
    pub note: &'static str,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Row({})", self.name)
    }
}

/// The calls about files that programs make most, with the argument that holds the path: guests
/// judge it themselves after a while.
const JUDGED_BY_GUESTS: [(&str, u8); 11] = [
    ("open", 0),
    ("openat", 1),
    ("stat", 0),
    ("lstat", 0),
    ("newfstatat", 1),
    ("statx", 1),
    ("access", 0),
    ("faccessat", 1),
    ("faccessat2", 1),
    ("readlink", 0),
    ("readlinkat", 1),
];

/// The calls that are trapped always where a module virtualizes something.
const OF_FACETS: [(Facet, &[&str]); 5] = [
    (
        Facet::Ids,
        &[
            "getuid",
            "geteuid",
            "getgid",
            "getegid",
            "getresuid",
            "getresgid",
            "getgroups",
            "fstat",
            "newfstatat",
            "fstatat",
            "statx",
            "capget",
            "capset",
            "prctl",
        ],
    ),
    (Facet::Capabilities, &["capget", "capset", "prctl"]),
    (
        Facet::Clock,
        &[
            "clock_gettime",
            "gettimeofday",
            "time",
            "clock_settime",
            "settimeofday",
            "clock_nanosleep",
            "futex",
            "futex_waitv",
            "timerfd_settime",
            "timer_settime",
            "fstat",
            "newfstatat",
            "fstatat",
            "statx",
            "utimensat",
        ],
    ),
    (
        Facet::Pace,
        &[
            "nanosleep",
            "rt_sigtimedwait",
            "semtimedop",
            "poll",
            "ppoll",
            "select",
            "pselect6",
            "epoll_wait",
            "epoll_pwait",
            "epoll_pwait2",
            "timerfd_gettime",
            "timer_gettime",
            "setitimer",
            "getitimer",
            "alarm",
        ],
    ),
    (Facet::HostNames, &["uname", "sethostname", "setdomainname"]),
];

/// The calls by number.
#[derive(Debug)]
pub struct Table {
    handlers: HashMap<i64, Row>,
    subscriptions: Vec<Subscription>,
}

impl Table {
    /// Builds the table for this architecture.
    #[must_use]
    pub fn new() -> Self {
        let mut handlers = HashMap::new();
        let mut subscriptions = Vec::new();
        for row in rows() {
            let Ok(sysno) = Sysno::from_str(row.name) else { continue };
            let number = i64::from(sysno.id());
            handlers.insert(number, row);
            let Row { trap, interruptible, .. } = row;
            let judged = JUDGED_BY_GUESTS.iter().find(|(name, _)| *name == row.name);
            let path = judged.map(|(_, argument)| *argument);
            subscriptions.push(Subscription { number, trap, interruptible, path });
        }
        for (number, row) in handlers::vu::rows() {
            handlers.insert(i64::from(number), row);
        }
        Self { handlers, subscriptions }
    }

    /// Who answers a call; None forwards it.
    #[must_use]
    pub fn handler(&self, number: i64) -> Option<Handler> {
        self.handlers.get(&number).map(|row| row.handler)
    }

    /// The numbers of the calls that are trapped for what modules virtualize.
    pub(crate) fn numbers_for(&self, view: &View) -> Vec<i64> {
        let facets = OF_FACETS.iter().filter(|(facet, _)| view.has(*facet));
        let names = facets.flat_map(|(_, names)| *names);
        names.filter_map(|name| Some(i64::from(Sysno::from_str(name).ok()?.id()))).collect()
    }

    /// What an armed view traps.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<Subscription> {
        self.subscriptions.clone()
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

/// Every row, in no particular order.
#[must_use]
pub fn rows() -> Vec<Row> {
    let mut rows = handlers::rows();
    rows.extend(paths::rows());
    rows
}

/// A row for a call that the filter itself refuses.
pub(crate) const fn refused(name: &'static str, note: &'static str) -> Row {
    Row {
        name,
        trap: Trap::Refuse(umvu_abi::Errno::ENOSYS),
        interruptible: false,
        handler: |_, _| Action::Forward,
        note,
    }
}

/// A row for a call that is trapped always and never interrupted.
pub(crate) const fn always(name: &'static str, handler: Handler, note: &'static str) -> Row {
    Row { name, trap: Trap::Always, interruptible: false, handler, note }
}

/// A row for a call that is trapped only where a module virtualizes what it tells or changes.
pub(crate) const fn optional(name: &'static str, handler: Handler, note: &'static str) -> Row {
    Row { name, trap: Trap::Optional, interruptible: false, handler, note }
}

/// The number of the first VU call; they count down from here.
pub const FIRST_VU_CALL: i32 = vu::SYS_INSMOD;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_has_two_rows() {
        let mut names: Vec<_> = rows().iter().map(|row| row.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn the_five_vu_calls_are_answered() {
        let table = Table::new();
        for number in -5..0 {
            assert!(table.handler(number).is_some(), "{number}");
        }
        assert!(table.handler(-6).is_none());
    }
}
