//! `cmd://`: a network behind a command, whose standard streams carry frames.
//!
//! Usually that is `vde_plug` on another host: `cmd://ssh host vde_plug`. The command gets a
//! session of its own, without a terminal, and is ended with the plug; when it ends by itself it is
//! started again. Errors that it prints go to our standard error.
//!
//! `words.rs` reads the command, `process.rs` starts it, `stream.rs` has the framing, `sink.rs`
//! writes without blocking.
//!
//! Locks: the source and the sink, never together.

mod process;
mod sink;
pub(crate) mod stream;
mod words;

use std::{
    collections::VecDeque,
    env, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    unistd::{AccessFlags, access, read},
};
use parking_lot::Mutex;

pub(crate) use self::process::{Process, Started};
use self::{sink::Sink, stream::Decoder};
use crate::{
    batch,
    error::OpenError,
    frame::Frame,
    reconnect::{COMMAND, Desk, Dial, Link, Lost, Pace, Plug, Progress, Watched},
    transport::{Drops, Transport},
    vnl::Vnl,
};

/// How long a command that was started again must run before it is believed to be connected.
const PROBATION: Duration = Duration::from_secs(2);
/// As much as a pipe holds.
const CHUNK: usize = 1 << 16;

/// Opens `cmd://command`.
pub(crate) fn open(vnl: &Vnl, _description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    let place = vnl.to_string();
    let refused =
        |problem: String| OpenError::Refused { place: place.clone(), problem, errno: libc::EINVAL };
    let words = words::split(&vnl.path).map_err(refused)?;
    let Some(program) = words.first() else {
        return Err(refused(
            "needs a command that carries frames, for example cmd://ssh HOST vde_plug".to_owned(),
        ));
    };
    let path = find(program).ok_or_else(|| OpenError::Absent {
        place: place.clone(),
        problem: format!("no program `{program}`"),
        remedy: "install it, or give its path".to_owned(),
    })?;
    let program = Program { place: place.clone(), path, words, ran_before: AtomicBool::new(false) };
    Ok(Arc::new(Plug::open(&place, program)?))
}

/// The command to run.
#[derive(Debug)]
struct Program {
    place: String,
    path: PathBuf,
    words: Vec<String>,
    ran_before: AtomicBool,
}

impl Dial for Program {
    fn dial(&self, desk: &Desk) -> Result<Progress, OpenError> {
        let Started { process, input, output } = process::start(&self.path, &self.words).map_err(
            OpenError::system(&self.place, &format!("starting {}", self.path.display())),
        )?;
        let output = Watched::new(output, &desk.epoll)
            .map_err(OpenError::system(&self.place, "watching the command"))?;
        let again = self.ran_before.swap(true, Ordering::SeqCst);
        Ok(Progress::Connected(Box::new(Command {
            source: Mutex::new(Source { pipe: output, decoder: Decoder::default() }),
            sink: Mutex::new(Sink::new(input, Arc::clone(&desk.epoll))),
            started: Instant::now(),
            proven: AtomicBool::new(!again),
            _process: process,
        })))
    }

    fn pace(&self) -> Pace {
        COMMAND
    }
}

/// Runs a command line for somebody else; it gets no shell.
///
/// # Errors
/// `EINVAL` for an open quote, `ENOENT` for no program, and those of fork(2) and execve(2).
pub(crate) fn start(command: &str) -> io::Result<Started> {
    let words = words::split(command).map_err(|_| Errno::EINVAL)?;
    let path = words.first().and_then(|program| find(program)).ok_or(Errno::ENOENT)?;
    process::start(&path, &words)
}

/// Finds a program as a shell does.
fn find(program: &str) -> Option<PathBuf> {
    let runs = |path: &PathBuf| path.is_file() && access(path.as_path(), AccessFlags::X_OK).is_ok();
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(runs);
    }
    let path = env::var_os("PATH")?;
    let found = env::split_paths(&path).map(|folder| folder.join(Path::new(program))).find(runs);
    found.filter(|_| !program.is_empty())
}

/// A command that runs.
#[derive(Debug)]
struct Command {
    source: Mutex<Source>,
    sink: Mutex<Sink>,
    started: Instant,
    /// Whether it may be believed to carry frames: one that ended before has to show it.
    proven: AtomicBool,
    /// Ended with this value.
    _process: Process,
}

/// What the command writes.
#[derive(Debug)]
struct Source {
    pipe: Watched<OwnedFd>,
    decoder: Decoder,
}

impl Command {
    /// Reads and decodes until the pipe is empty or `budget` frames are there.
    fn drain(&self, into: &mut VecDeque<Frame>, budget: usize, drops: &Drops) -> Result<(), Lost> {
        let mut source = self.source.lock();
        let Source { pipe, decoder } = &mut *source;
        let full = into.len() + budget;
        let mut bytes = Vec::new();
        loop {
            while into.len() < full {
                match decoder.next_frame(drops).map_err(|garbage| Lost(garbage.to_string()))? {
                    Some(frame) => into.push_back(Frame::from(frame)),
                    None => break,
                }
            }
            if into.len() == full {
                return Ok(());
            }
            bytes.resize(CHUNK, 0);
            match read(pipe.as_fd(), &mut bytes) {
                Ok(0) => return Err("the command has ended".into()),
                Ok(length) => decoder.push(&bytes[..length]),
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.desc().into()),
            }
        }
    }
}

impl Link for Command {
    fn send(&self, frames: &mut Vec<Frame>, drops: &Drops) {
        let packets = batch::wire_ready(frames, drops);
        self.sink.lock().send(packets, drops);
    }

    fn receive(
        &self,
        into: &mut VecDeque<Frame>,
        budget: usize,
        drops: &Drops,
    ) -> Result<usize, Lost> {
        self.sink.lock().flush(drops);
        let before = into.len();
        let drained = self.drain(into, budget, drops);
        let count = into.len() - before;
        if count > 0 {
            self.proven.store(true, Ordering::SeqCst);
            // What was read must not be lost; the end shows again at the next call.
            return Ok(count);
        }
        drained.map(|()| 0)
    }

    fn check(&self, now: Instant) -> Result<(), Lost> {
        if now.saturating_duration_since(self.started) >= PROBATION {
            self.proven.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    fn backlog(&self) -> usize {
        self.sink.lock().backlog()
    }

    fn carrier(&self) -> bool {
        self.proven.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn errors_say_what_would_be_right() {
        for (place, expected) in [
            (
                "cmd://",
                "cmd://: needs a command that carries frames, for example cmd://ssh HOST vde_plug",
            ),
            (
                "cmd://nosuchprogram x",
                "cmd://nosuchprogram x: no program `nosuchprogram` (install it, or give its path)",
            ),
            ("cmd:///etc", "cmd:///etc: no program `/etc` (install it, or give its path)"),
            ("cmd://cat 'x", "cmd://cat 'x: `'` is never closed"),
        ] {
            let error = crate::open(place, "test").expect_err(place);
            assert_eq!(error.to_string(), expected);
        }
    }
}
