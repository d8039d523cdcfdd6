//! [`Console`]: conversations at a socket, and one on the standard streams of the program.
//!
//! One thread serves the socket and all who come to it, without ever waiting for one of them;
//! another serves the streams. Both end with their value.

use std::{
    collections::HashMap,
    fs::{self, Permissions},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::SigSet,
    unistd::read,
};

use super::session::{Outcome, PROMPT, Session};
use crate::{
    cable::Stop,
    error::OpenError,
    switch::{
        directory::bind,
        managed::{ManagedSwitch, group},
        server::Access,
    },
    vde::handshake::is_transient,
};

/// Conversations at one socket; more are turned away.
const MOST_SESSIONS: usize = 64;
/// The longest line.
const LONGEST_LINE: usize = 4096;
/// Who does not read so much is left.
const MOST_UNREAD: usize = 1 << 20;

/// A thread that talks; dropping it ends its conversations.
#[derive(Debug)]
pub struct Console {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    socket: Option<PathBuf>,
}

impl Console {
    /// Listens at a socket. What a dead switch left there is taken over. `mode` are its
    /// permissions, `group` a name or a number.
    ///
    /// # Errors
    /// [`OpenError::Refused`] (EADDRINUSE) when somebody listens there, or it is no socket;
    /// [`OpenError::System`].
    pub fn listen(
        switch: &ManagedSwitch,
        path: &Path,
        mode: u32,
        group_name: Option<&str>,
    ) -> Result<Self, OpenError> {
        let place = path.display().to_string();
        let failed = || OpenError::system(&place, "making the management socket");
        let group = group_name.map(|name| group(&place, name)).transpose()?;
        let path = std::path::absolute(path).map_err(failed())?;
        let refused = |problem: &str| OpenError::Refused {
            place: place.clone(),
            problem: problem.to_owned(),
            errno: libc::EADDRINUSE,
        };
        if fs::symlink_metadata(&path).is_ok_and(|found| !found.file_type().is_socket()) {
            return Err(refused("there is something else where the management socket should be"));
        }
        let listener = bind(&path).map_err(failed())?;
        let listener =
            listener.ok_or_else(|| refused("another switch has its management socket there"))?;
        let prepared = fs::set_permissions(&path, Permissions::from_mode(0o600))
            .and_then(|()| Access { mode, group }.apply(&path))
            .and_then(|()| listener.set_nonblocking(true));
        prepared.map_err(failed())?;
        *switch.control().socket.lock() = Some((path.clone(), mode));
        let stop = Stop::new().map_err(failed())?;
        let talks = Talks { listener, stop: stop.clone(), all: HashMap::new(), next: 0 };
        let new = session_maker(switch);
        let thread = spawn(move || talks.run(&new)).map_err(failed())?;
        Ok(Self { stop, thread: Some(thread), socket: Some(path) })
    }

    /// Talks on the standard input and output; `at_end` is called when the input ends.
    ///
    /// # Errors
    /// Those of `eventfd(2)` and `pthread_create(3)`.
    pub fn on_streams(
        switch: &ManagedSwitch,
        at_end: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Stop::new()?;
        let given = stop.clone();
        let session = switch.session()?;
        let thread = spawn(move || {
            if talk_on_streams(&session, &given) {
                at_end();
            }
        })?;
        Ok(Self { stop, thread: Some(thread), socket: None })
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.stop.stop();
        // The one on the streams may wait for a reader of the output.
        if let Some(thread) = self.thread.take().filter(|_| self.socket.is_some()) {
            let _ = thread.join();
        }
        if let Some(path) = &self.socket {
            let _ = fs::remove_file(path);
        }
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("vde-mgmt".into()).spawn(move || {
        // Signals are the business of the program's own threads.
        let _ = SigSet::all().thread_block();
        work();
    })
}

fn session_maker(switch: &ManagedSwitch) -> impl Fn() -> io::Result<Session> + use<> {
    let control = std::sync::Arc::clone(switch.control());
    move || Session::new(std::sync::Arc::clone(&control))
}

/// The conversations at a socket.
struct Talks {
    listener: UnixListener,
    stop: Stop,
    all: HashMap<u64, Talk>,
    next: u64,
}

/// One of them.
struct Talk {
    stream: UnixStream,
    session: Session,
    lines: Lines,
    unread: Vec<u8>,
    /// It ends when all is read.
    ending: bool,
}

impl Talks {
    fn run(mut self, new_session: &dyn Fn() -> io::Result<Session>) {
        loop {
            let (stopped, came, ready) = match self.wait() {
                Ok(found) => found,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "the switch can no longer be managed");
                    return;
                }
            };
            if stopped {
                return;
            }
            for id in ready {
                if self.all.get_mut(&id).is_some_and(|talk| talk.serve().is_err()) {
                    self.all.remove(&id);
                }
            }
            if came && let Ok((stream, _)) = self.listener.accept() {
                self.welcome(stream, new_session);
            }
        }
    }

    /// Waits; returns whether to stop, whether somebody came, and who has something to do.
    fn wait(&self) -> nix::Result<(bool, bool, Vec<u64>)> {
        let mut polled =
            vec![self.stop.descriptor(), PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        let ids: Vec<u64> = self.all.keys().copied().collect();
        for talk in ids.iter().filter_map(|id| self.all.get(id)) {
            let room = if talk.unread.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
            polled.push(PollFd::new(talk.stream.as_fd(), PollFlags::POLLIN | room));
            polled.push(PollFd::new(talk.session.watcher().bell(), PollFlags::POLLIN));
        }
        poll(&mut polled, PollTimeout::NONE)?;
        let is = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        let pairs = polled[2..].chunks_exact(2).zip(ids);
        let ready = pairs.filter(|(pair, _)| pair.iter().any(is)).map(|(_, id)| id).collect();
        Ok((is(&polled[0]), is(&polled[1]), ready))
    }

    fn welcome(&mut self, stream: UnixStream, new_session: &dyn Fn() -> io::Result<Session>) {
        if self.all.len() >= MOST_SESSIONS {
            return;
        }
        let made = stream.set_nonblocking(true).and_then(|()| new_session());
        match made {
            Ok(session) => {
                let unread = session.greeting().into_bytes();
                let lines = Lines::default();
                let mut talk = Talk { stream, session, lines, unread, ending: false };
                if talk.flush().is_ok() {
                    self.next += 1;
                    self.all.insert(self.next, talk);
                }
            }
            Err(error) => tracing::warn!(%error, "cannot begin a conversation"),
        }
    }
}

/// The conversation is over.
struct Over;

impl Talk {
    fn serve(&mut self) -> Result<(), Over> {
        self.unread.extend(self.session.watcher().take().into_bytes());
        let mut bytes = [0; LONGEST_LINE];
        match self.stream.read(&mut bytes) {
            Ok(0) => return Err(Over),
            Ok(length) => self.lines.push(&bytes[..length]),
            Err(error) if is_transient(&error) => {}
            Err(_) => return Err(Over),
        }
        while let Some(line) = self.lines.next_line().filter(|_| !self.ending) {
            let (text, outcome) = self.session.converse(&line);
            self.unread.extend(text.into_bytes());
            self.ending = matches!(outcome, Outcome::Logout | Outcome::Shutdown);
        }
        self.flush()?;
        let too_much = self.unread.len() > MOST_UNREAD || self.lines.is_too_long();
        if too_much || (self.ending && self.unread.is_empty()) { Err(Over) } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Over> {
        while !self.unread.is_empty() {
            match self.stream.write(&self.unread) {
                Ok(length) => drop(self.unread.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Over),
            }
        }
        Ok(())
    }
}

/// Cuts what is read into lines.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn next_line(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == b'\n')?;
        let line = self.0.drain(..=end).collect::<Vec<_>>();
        Some(String::from_utf8_lossy(&line).into_owned())
    }

    fn is_too_long(&self) -> bool {
        self.0.len() > LONGEST_LINE
    }
}

/// Talks until the input ends or it is stopped; returns whether the input ended.
fn talk_on_streams(session: &Session, stop: &Stop) -> bool {
    let input = io::stdin();
    let mut lines = Lines::default();
    let mut bytes = [0; LONGEST_LINE];
    loop {
        match wait_on(input.as_fd(), session, stop) {
            Ok(Heard::Stop) => return false,
            Ok(Heard::Events) => {
                say(&session.watcher().take());
                continue;
            }
            Ok(Heard::Input) => {}
            Err(_) => return true,
        }
        match read(input.as_fd(), &mut bytes) {
            Ok(0) => return true,
            Ok(length) => lines.push(&bytes[..length]),
            Err(Errno::EINTR | Errno::EAGAIN) => continue,
            Err(_) => return true,
        }
        while let Some(line) = lines.next_line() {
            match session.converse(&line) {
                (_, Outcome::Shutdown) => return false,
                // There is no other end to go away from.
                (_, Outcome::Logout) => say(PROMPT),
                (text, Outcome::Nothing | Outcome::Reply(_)) => say(&text),
            }
        }
        if lines.is_too_long() {
            lines = Lines::default();
        }
    }
}

enum Heard {
    Stop,
    Events,
    Input,
}

fn wait_on(input: BorrowedFd<'_>, session: &Session, stop: &Stop) -> nix::Result<Heard> {
    let bell = session.watcher().bell();
    let mut polled = [
        stop.descriptor(),
        PollFd::new(bell, PollFlags::POLLIN),
        PollFd::new(input, PollFlags::POLLIN),
    ];
    loop {
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    let is = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
    Ok(match &polled {
        [stop, ..] if is(stop) => Heard::Stop,
        [_, bell, _] if is(bell) => Heard::Events,
        _ => Heard::Input,
    })
}

/// Writes to the standard output; a reader that has gone away is no error.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_wherever_they_come_in_pieces() {
        let mut lines = Lines::default();
        lines.push(b"port/");
        assert_eq!(lines.next_line(), None);
        lines.push(b"print\n\nvl");
        assert_eq!(lines.next_line().as_deref(), Some("port/print\n"));
        assert_eq!(lines.next_line().as_deref(), Some("\n"));
        assert_eq!(lines.next_line(), None);
        assert!(!lines.is_too_long());
        lines.push(&[b'x'; LONGEST_LINE]);
        assert!(lines.is_too_long());
    }
}
