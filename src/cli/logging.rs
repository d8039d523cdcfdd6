//! Where log lines go: standard error or a file, and the system log (syslog(3)).

use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::net::UnixDatagram,
    path::Path,
    sync::Mutex,
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};
use umvu_core::debug::TARGET;

/// The console level without `-l`: warnings.
pub(super) const DEFAULT_LEVEL: i32 = 4;
/// The facility LOG_USER.
const FACILITY: u8 = 1;

/// A subscriber for `tracing` that knows the eight levels of syslog(3).
struct Log {
    console: i32,
    syslog: i32,
    out: Mutex<Option<File>>,
    socket: Option<UnixDatagram>,
}

/// Starts logging: `console` and `syslog` are the highest levels to show (-1: nothing).
/// Errors: those of opening the output file.
pub(super) fn start(console: i32, syslog: i32, output: Option<&Path>) -> io::Result<()> {
    let file = match output {
        Some(path) => Some(OpenOptions::new().create(true).append(true).open(path)?),
        None => None,
    };
    let socket = (syslog >= 0).then(UnixDatagram::unbound).transpose()?.filter(|socket| {
        socket.set_nonblocking(true).is_ok() && socket.connect("/dev/log").is_ok()
    });
    let log = Log { console, syslog, out: Mutex::new(file), socket };
    tracing::subscriber::set_global_default(log).map_err(io::Error::other)
}

fn severity(level: Level) -> i32 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = severity(*metadata.level());
        metadata.target() == TARGET
            || level <= self.console
            || (self.socket.is_some() && level <= self.syslog)
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let level = severity(*event.metadata().level());
        let mut message = Message(String::new());
        event.record(&mut message);
        let debug = event.metadata().target() == TARGET;
        if debug || level <= self.console {
            let prefix = if debug { "" } else { "umvu: " };
            let line = format!("{prefix}{}\n", message.0);
            let mut out = self.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let _ = match out.as_mut() {
                Some(file) => file.write_all(line.as_bytes()),
                None => io::stderr().lock().write_all(line.as_bytes()),
            };
        }
        if let Some(socket) = self.socket.as_ref().filter(|_| !debug && level <= self.syslog) {
            // RFC 3164 as local syslog daemons read it: <PRI>TAG: message.
            let priority = i32::from(FACILITY) * 8 + level;
            let id = std::process::id();
            let _ = socket.send(format!("<{priority}>umvu[{id}]: {}", message.0).as_bytes());
        }
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

/// Gathers the message and the fields of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = if field.name() == "message" {
            write!(self.0, "{value:?}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }
}
