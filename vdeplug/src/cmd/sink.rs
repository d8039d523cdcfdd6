//! [`Sink`]: a pipe to write frames into that never blocks and never cuts a frame short.
//!
//! What the pipe does not take waits in a bounded backlog, and the pipe is watched for room in the
//! plug's epoll instance; whoever waits there calls [`Sink::flush`].

use std::{
    collections::VecDeque,
    io::IoSlice,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollEvent, EpollFlags},
        uio::writev,
    },
};

use crate::{cmd::stream, transport::Drops};

/// How many frames may wait for a slow command.
const LONGEST_BACKLOG: usize = 1024;
/// How many frames one system call writes at most.
const BATCH: usize = 64;

/// The non-blocking end of a pipe, with a backlog.
#[derive(Debug)]
pub(crate) struct Sink {
    /// None: nobody reads any more.
    pipe: Option<OwnedFd>,
    epoll: Arc<Epoll>,
    /// Frames with their lengths.
    backlog: VecDeque<Vec<u8>>,
    /// How many bytes of the first one were written.
    written: usize,
    watched: bool,
}

impl Sink {
    pub(crate) fn new(pipe: OwnedFd, epoll: Arc<Epoll>) -> Self {
        let backlog = VecDeque::new();
        Self { pipe: Some(pipe), epoll, backlog, written: 0, watched: false }
    }

    /// Writes frames, or keeps them for [`Self::flush`]; beyond the backlog they are dropped.
    pub(crate) fn send(&mut self, packets: Vec<Vec<u8>>, drops: &Drops) {
        for packet in packets {
            if self.backlog.len() == LONGEST_BACKLOG {
                self.flush(drops);
            }
            match stream::encode(&packet) {
                Some(bytes) if self.pipe.is_some() && self.backlog.len() < LONGEST_BACKLOG => {
                    self.backlog.push_back(bytes);
                }
                _ => drops.add(1),
            }
        }
        self.flush(drops);
    }

    /// How many frames wait.
    pub(crate) fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// Writes what waits, as far as the pipe takes it.
    pub(crate) fn flush(&mut self, drops: &Drops) {
        while let Some(pipe) = self.pipe.as_ref().filter(|_| !self.backlog.is_empty()) {
            let mut slices: Vec<_> =
                self.backlog.iter().take(BATCH).map(|bytes| IoSlice::new(bytes)).collect();
            if let Some(first) = slices.first_mut() {
                first.advance(self.written);
            }
            match writev(pipe, &slices) {
                Ok(length) => self.advance(length),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return self.watch(),
                Err(_) => {
                    drops.add(self.backlog.len());
                    self.close();
                }
            }
        }
        self.unwatch();
    }

    /// Tells the command that nothing more will come.
    pub(crate) fn close(&mut self) {
        self.unwatch();
        self.backlog.clear();
        self.pipe = None;
    }

    fn advance(&mut self, length: usize) {
        self.written += length;
        while let Some(first) = self.backlog.front().filter(|first| first.len() <= self.written) {
            self.written -= first.len();
            self.backlog.pop_front();
        }
    }

    fn watch(&mut self) {
        let Some(pipe) = self.pipe.as_ref().filter(|_| !self.watched) else { return };
        match self.epoll.add(pipe.as_fd(), EpollEvent::new(EpollFlags::EPOLLOUT, 1)) {
            Ok(()) => self.watched = true,
            Err(error) => tracing::debug!(%error, "cannot watch a pipe for room"),
        }
    }

    fn unwatch(&mut self) {
        if let Some(pipe) = self.pipe.as_ref().filter(|_| self.watched) {
            let _ = self.epoll.delete(pipe.as_fd());
            self.watched = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use nix::{
        fcntl::OFlag,
        sys::epoll::EpollCreateFlags,
        unistd::{pipe2, read},
    };

    use super::*;

    fn pipe() -> (OwnedFd, Sink) {
        let (reading, writing) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).expect("a pipe");
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("a descriptor");
        (reading, Sink::new(writing, Arc::new(epoll)))
    }

    #[test]
    fn a_slow_reader_gets_whole_frames_in_order() {
        let (reading, mut sink) = pipe();
        let drops = Drops::default();
        let packets: Vec<_> = (0..200_u8).map(|n| vec![n; 1001]).collect();
        sink.send(packets.clone(), &drops);
        assert!(sink.watched, "a pipe holds less than this");
        let mut decoder = stream::Decoder::default();
        let mut received = Vec::new();
        let mut bytes = [0; 5000];
        while received.len() < packets.len() {
            let length = read(&reading, &mut bytes).expect("more bytes");
            decoder.push(&bytes[..length]);
            while let Some(frame) = decoder.next_frame(&drops).expect("frames") {
                received.push(frame);
            }
            sink.flush(&drops);
        }
        assert_eq!(received, packets);
        assert_eq!(drops.get(), 0);
        assert!(!sink.watched);
    }

    #[test]
    fn frames_beyond_the_backlog_and_for_nobody_are_dropped() {
        let (reading, mut sink) = pipe();
        let drops = Drops::default();
        sink.send(vec![vec![0; 1000]; 2000], &drops);
        assert_eq!(sink.backlog.len(), LONGEST_BACKLOG);
        let before = drops.get();
        assert!(before > 0);
        drop(reading);
        sink.flush(&drops);
        sink.send(vec![vec![0; 60]], &drops);
        assert_eq!(drops.get(), before + 1025);
    }
}
