//! `cmd://`: a network behind a command, whose standard streams carry frames.
//!
//! Usually that is `vde_plug` on another host: `cmd://ssh host vde_plug`. The command gets a
//! session of its own, without a terminal, and is ended with the plug; when it ends by itself the
//! plug is dead. Errors that it prints go to our standard error.
//!
//! `words.rs` reads the command, `process.rs` starts it, `stream.rs` has the framing, `sink.rs`
//! writes without blocking.
//!
//! Locks: the source, then the sink. The waker is called with no lock held.

mod process;
mod sink;
pub(crate) mod stream;
mod words;

use std::{
    collections::VecDeque,
    env, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
    unistd::{AccessFlags, access, read},
};
use parking_lot::Mutex;

use self::{
    process::{Process, Started},
    sink::Sink,
    stream::Decoder,
};
use crate::{
    batch,
    error::OpenError,
    frame::Frame,
    transport::{Drops, Transport, Waker, WakerSlot},
    vnl::Vnl,
};

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
    let Started { process, input, output } = process::start(&path, &words)
        .map_err(OpenError::system(&place, &format!("starting {}", path.display())))?;
    let epoll = watch(&output).map_err(OpenError::system(&place, "watching the command"))?;
    let epoll = Arc::new(epoll);
    Ok(Arc::new(Command {
        source: Mutex::new(Source { pipe: output, decoder: Decoder::default() }),
        sink: Mutex::new(Sink::new(input, Arc::clone(&epoll))),
        place,
        epoll,
        ended: AtomicBool::new(false),
        waker: WakerSlot::default(),
        drops: Drops::default(),
        _process: process,
    }))
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

fn watch(output: &OwnedFd) -> nix::Result<Epoll> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(output, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
    Ok(epoll)
}

/// A plug in the network behind a command.
#[derive(Debug)]
struct Command {
    place: String,
    source: Mutex<Source>,
    sink: Mutex<Sink>,
    epoll: Arc<Epoll>,
    ended: AtomicBool,
    waker: WakerSlot,
    drops: Drops,
    /// Ended with this value.
    _process: Process,
}

/// What the command writes.
#[derive(Debug)]
struct Source {
    pipe: OwnedFd,
    decoder: Decoder,
}

impl Command {
    /// Reads and decodes until the pipe is empty or `budget` frames are there.
    fn drain(&self, into: &mut VecDeque<Frame>, budget: usize) -> io::Result<()> {
        let mut source = self.source.lock();
        let Source { pipe, decoder } = &mut *source;
        let full = into.len() + budget;
        let mut bytes = Vec::new();
        loop {
            while into.len() < full {
                match decoder.next_frame(&self.drops) {
                    Ok(Some(frame)) => into.push_back(Frame::from(frame)),
                    Ok(None) => break,
                    Err(garbage) => return Err(self.end(pipe, &garbage.to_string())),
                }
            }
            if into.len() == full {
                return Ok(());
            }
            bytes.resize(CHUNK, 0);
            match read(pipe.as_fd(), &mut bytes) {
                Ok(0) => return Err(self.end(pipe, "the command has ended")),
                Ok(length) => decoder.push(&bytes[..length]),
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(self.end(pipe, error.desc())),
            }
        }
    }

    /// Builds the error of a dead plug; the first time, stops watching the command.
    fn end(&self, pipe: &OwnedFd, why: &str) -> io::Error {
        if !self.ended.swap(true, Ordering::SeqCst) {
            tracing::info!(place = %self.place, why, "the network is gone");
            let _ = self.epoll.delete(pipe);
            self.sink.lock().close();
        }
        io::Error::new(io::ErrorKind::BrokenPipe, format!("{}: {why}", self.place))
    }
}

impl Transport for Command {
    fn send(&self, frames: &mut Vec<Frame>) {
        let packets = batch::wire_ready(frames, &self.drops);
        self.sink.lock().send(packets, &self.drops);
    }

    fn receive(&self, into: &mut VecDeque<Frame>, budget: usize) -> io::Result<usize> {
        self.sink.lock().flush(&self.drops);
        let before = into.len();
        let alive = self.carrier();
        let drained = self.drain(into, budget);
        if alive && drained.is_err() {
            self.waker.wake();
        }
        match drained {
            // What was read must not be lost; the error shows again at the next call.
            Err(error) if into.len() == before => Err(error),
            _ => Ok(into.len() - before),
        }
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.0.as_fd())
    }

    fn set_waker(&self, waker: Waker) {
        self.waker.set(waker);
    }

    fn carrier(&self) -> bool {
        !self.ended.load(Ordering::SeqCst)
    }

    fn backlog(&self) -> usize {
        self.sink.lock().backlog()
    }

    fn drops(&self) -> u64 {
        self.drops.get()
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
