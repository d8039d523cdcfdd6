//! [`Session`]: one conversation of management commands.

use std::{cell::Cell, fmt, io, sync::Arc};

use nix::errno::Errno;

use super::{commands, reply::Reply};
use crate::switch::{events::Watcher, managed::Control};

/// Scripts that load scripts deeper than this load themselves.
const DEEPEST: u32 = 8;
/// What a conversation at a socket ends with.
const END: &str = "9999 END OF SESSION";
/// What a conversation waits with.
pub(crate) const PROMPT: &str = "\nvde$ ";

/// What a switch of ours says it is.
pub(crate) fn version() -> String {
    format!(
        "VDE switch V.{} (umvu)\nVirtual Distributed Ethernet in user space\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// A conversation with a switch: it executes commands and gathers the events that it watches.
pub struct Session {
    control: Arc<Control>,
    watcher: Arc<Watcher>,
    depth: Cell<u32>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("switch", &self.control.directory).finish_non_exhaustive()
    }
}

/// What comes of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was asked.
    Nothing,
    /// The command has a reply.
    Reply(Reply),
    /// The conversation is to end.
    Logout,
    /// The switch is to end.
    Shutdown,
}

impl Session {
    pub(crate) fn new(control: Arc<Control>) -> io::Result<Self> {
        let watcher = control.bridge().events.watch()?;
        Ok(Self { control, watcher, depth: Cell::new(0) })
    }

    /// Executes a command; `shutdown` ends [`ManagedSwitch::wait`](crate::ManagedSwitch::wait).
    #[must_use]
    pub fn execute(&self, line: &str) -> Reply {
        match self.answer(line) {
            Outcome::Reply(reply) => reply,
            Outcome::Nothing | Outcome::Logout | Outcome::Shutdown => Reply::done(Ok(())),
        }
    }

    /// Executes a line of a conversation. Empty lines and those that begin with `#` ask nothing.
    #[must_use]
    pub fn answer(&self, line: &str) -> Outcome {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Outcome::Nothing;
        }
        match commands::find(line) {
            None => Outcome::Reply(Reply::done(Err(Errno::ENOSYS))),
            Some((entry, _, _)) if entry.path == "logout" => Outcome::Logout,
            Some((entry, _, _)) if entry.path == "shutdown" => {
                self.control.shutdown.stop();
                Outcome::Shutdown
            }
            Some((_, run, arguments)) => Outcome::Reply(run(self, arguments)),
        }
    }

    /// Returns what a conversation begins with.
    #[must_use]
    pub fn greeting(&self) -> String {
        format!("{}{PROMPT}", version())
    }

    /// Returns what a line of a conversation is answered with; None: that it ends, after `END`.
    pub(crate) fn converse(&self, line: &str) -> (String, Outcome) {
        let outcome = self.answer(line);
        let events = self.watcher.take();
        let text = match &outcome {
            Outcome::Nothing => format!("{events}{PROMPT}"),
            Outcome::Reply(reply) => format!("{events}{reply}{PROMPT}"),
            Outcome::Logout | Outcome::Shutdown => format!("{events}{END}"),
        };
        (text, outcome)
    }

    /// Executes the lines of a script; the reply shows each with its own.
    pub(crate) fn run_script(&self, name: &str, script: &str) -> Reply {
        if self.depth.get() >= DEEPEST {
            return Reply::done(Err(Errno::ELOOP));
        }
        self.depth.set(self.depth.get() + 1);
        let mut text = String::new();
        for line in script.lines().filter(|line| !line.trim().is_empty()) {
            let reply = self.execute(line);
            let events = self.watcher.take();
            text += &format!("vde[{name}]: {line}\n{events}{reply}");
        }
        self.depth.set(self.depth.get() - 1);
        Reply::done(Ok(())).after(text)
    }

    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    pub(crate) fn watcher(&self) -> &Watcher {
        &self.watcher
    }

    /// Watches these kinds of events.
    pub(crate) fn watch(&self, kinds: u32) {
        self.control.bridge().events.choose(&self.watcher, kinds);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.watch(0);
    }
}
