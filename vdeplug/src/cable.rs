//! Cables: frames carried between two plugs, or between a plug and a stream of bytes.
//!
//! [`join`] carries both ways between two plugs. [`upload`] and [`download`] carry one way each,
//! from and to a stream where a frame follows its length (two bytes, the most significant first),
//! as `vde_plug` has them on its standard streams. All of them block their thread until an end is
//! gone or a [`Stop`] is given.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
    unistd::{read, write},
};

use crate::{
    cmd::stream::{Decoder, encode},
    frame::Frame,
    transport::{Drops, Transport},
};

/// Frames that one end gives before the other has its turn.
const TURN: usize = 256;
/// As much as a pipe holds.
const CHUNK: usize = 1 << 16;
/// A far end with so many frames to take is given no more.
const CONGESTED: usize = 256;
/// How often a congested end is looked at.
const PATIENCE: Duration = Duration::from_millis(1);
/// How long the last frames may take to leave.
const LINGER: Duration = Duration::from_secs(2);

/// Ends cables from another thread.
#[derive(Debug, Clone)]
pub struct Stop(Arc<EventFd>);

impl Stop {
    /// Makes one that has not been given.
    ///
    /// # Errors
    /// Those of `eventfd(2)`.
    pub fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self(Arc::new(event)))
    }

    /// Ends all cables that were started with it or a clone of it.
    pub fn stop(&self) {
        // A counter that cannot grow has been given already.
        let _ = self.0.write(1);
    }

    /// Waits until it is given.
    pub fn wait(&self) {
        while poll(&mut [self.descriptor()], PollTimeout::NONE) == Err(Errno::EINTR) {}
    }

    pub(crate) fn descriptor(&self) -> PollFd<'_> {
        PollFd::new(self.0.as_fd(), PollFlags::POLLIN)
    }
}

/// Carries frames between two plugs.
///
/// # Errors
/// That of a plug that is dead: its far end is gone and will not come back.
pub fn join(left: &dyn Transport, right: &dyn Transport, stop: &Stop) -> io::Result<()> {
    let plugs = [left, right];
    let mut watch = Watch::new(&plugs)?;
    let mut frames = VecDeque::new();
    loop {
        let mut carried = 0;
        for (from, to) in [(left, right), (right, left)] {
            if to.backlog() < CONGESTED {
                carried += from.receive(&mut frames, TURN)?;
                to.send(&mut frames.drain(..).collect());
            }
        }
        let congested = plugs.map(|plug| plug.backlog() >= CONGESTED);
        // Who waits for a congested end is not listened to.
        let heard = [!congested[1], !congested[0]];
        if watch.wait(stop, &heard, carried > 0)? {
            drain(&plugs);
            return Ok(());
        }
    }
}

/// Carries frames from a stream to a plug, until the stream ends.
///
/// # Errors
/// `InvalidData`: what was read is no stream of frames; and those of `read(2)`.
pub fn upload(input: impl AsFd, plug: &dyn Transport, stop: &Stop) -> io::Result<()> {
    let (mut decoder, drops) = (Decoder::default(), Drops::default());
    let mut bytes = vec![0; CHUNK];
    loop {
        let mut ready = [PollFd::new(input.as_fd(), PollFlags::POLLIN), stop.descriptor()];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) if is_ready(&ready[1]) => break,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        match read(input.as_fd(), &mut bytes) {
            Ok(0) => break,
            Ok(length) => decoder.push(&bytes[..length]),
            Err(Errno::EINTR | Errno::EAGAIN) => continue,
            Err(error) => return Err(error.into()),
        }
        while feed(&mut decoder, plug, &drops)? {
            if relieve(plug, stop, CONGESTED)? {
                return Ok(());
            }
        }
    }
    drain(&[plug]);
    Ok(())
}

/// Sends a turn of the frames that were read; returns whether there may be more.
fn feed(decoder: &mut Decoder, plug: &dyn Transport, drops: &Drops) -> io::Result<bool> {
    let mut frames = Vec::new();
    while frames.len() < CONGESTED {
        let next = decoder.next_frame(drops);
        match next.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, NO_FRAMES))? {
            Some(frame) => frames.push(Frame::from(frame)),
            None => break,
        }
    }
    let more = frames.len() == CONGESTED;
    plug.send(&mut frames);
    Ok(more)
}

const NO_FRAMES: &str =
    "what comes is no stream of frames (the other side should be a vde_plug or umvu-plug)";

/// Waits until fewer than `enough` frames wait in a plug; returns whether it was stopped.
fn relieve(plug: &dyn Transport, stop: &Stop, enough: usize) -> io::Result<bool> {
    let pause = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::ZERO);
    while plug.backlog() >= enough {
        // An empty batch gives the plug the occasion to send what waits.
        plug.send(&mut Vec::new());
        match poll(&mut [stop.descriptor()], pause) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// Gives the last frames the time to leave.
fn drain(plugs: &[&dyn Transport]) {
    let end = Instant::now() + LINGER;
    while plugs.iter().any(|plug| plug.backlog() > 0) && Instant::now() < end {
        plugs.iter().for_each(|plug| plug.send(&mut Vec::new()));
        std::thread::sleep(PATIENCE);
    }
}

/// Carries frames from a plug to a stream, until nobody reads it any more.
///
/// A stream that is not read makes it wait in `write(2)`, where a [`Stop`] does not reach it.
///
/// # Errors
/// Those of `write(2)`, but `EPIPE`; and that of a plug that is dead.
pub fn download(plug: &dyn Transport, output: impl AsFd, stop: &Stop) -> io::Result<()> {
    let plugs = [plug];
    let mut watch = Watch::new(&plugs)?;
    let mut frames = VecDeque::new();
    let drops = Drops::default();
    let mut bytes = Vec::with_capacity(CHUNK);
    loop {
        let carried = plug.receive(&mut frames, TURN)?;
        bytes.clear();
        for packet in crate::batch::wire_ready(&mut frames.drain(..).collect(), &drops) {
            bytes.extend(encode(&packet).unwrap_or_default());
        }
        match write_all(output.as_fd(), &bytes) {
            Err(Errno::EPIPE) => return Ok(()),
            result => result?,
        }
        if watch.wait(stop, &[true], carried > 0)? {
            return Ok(());
        }
    }
}

fn write_all(output: BorrowedFd<'_>, mut bytes: &[u8]) -> nix::Result<()> {
    while !bytes.is_empty() {
        match write(output, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::EINTR) => {}
            // Whoever shares the stream with us made it so.
            Err(Errno::EAGAIN) => {
                let _ = poll(&mut [PollFd::new(output, PollFlags::POLLOUT)], PollTimeout::NONE);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits for plugs, whichever way they tell, and does their housekeeping.
struct Watch<'a> {
    plugs: &'a [&'a dyn Transport],
    woken: Arc<EventFd>,
    /// When each plug wants its housekeeping done.
    due: Vec<Option<Instant>>,
}

impl<'a> Watch<'a> {
    fn new(plugs: &'a [&'a dyn Transport]) -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let woken = Arc::new(event);
        for plug in plugs {
            let waker = Arc::clone(&woken);
            plug.set_waker(Arc::new(move || {
                let _ = waker.write(1);
            }));
        }
        let now = Instant::now();
        Ok(Self { plugs, woken, due: plugs.iter().map(|plug| plug.tick(now)).collect() })
    }

    /// Waits until a plug that is `heard` has something, unless `busy`; returns whether to stop.
    fn wait(&mut self, stop: &Stop, heard: &[bool], busy: bool) -> io::Result<bool> {
        let now = Instant::now();
        for (plug, due) in self.plugs.iter().zip(&mut self.due) {
            if due.is_some_and(|due| due <= now) {
                *due = plug.tick(now);
            }
        }
        let deaf = heard.iter().any(|heard| !heard).then_some(PATIENCE);
        let next = self.due.iter().flatten().map(|due| due.saturating_duration_since(now));
        let timeout = if busy { Some(Duration::ZERO) } else { next.chain(deaf).min() };
        let mut ready = vec![stop.descriptor(), PollFd::new(self.woken.as_fd(), PollFlags::POLLIN)];
        let heard = self.plugs.iter().zip(heard).filter(|(_, heard)| **heard);
        let descriptors = heard.filter_map(|(plug, _)| plug.poll_fd());
        ready.extend(descriptors.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        match poll(&mut ready, timeout.map_or(PollTimeout::NONE, round_up)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if is_ready(&ready[1]) {
            let _ = self.woken.read();
        }
        Ok(is_ready(&ready[0]))
    }
}

fn is_ready(descriptor: &PollFd<'_>) -> bool {
    descriptor.revents().is_some_and(|events| !events.is_empty())
}

/// A time of poll(2) that is no shorter.
fn round_up(time: Duration) -> PollTimeout {
    let millis = time.as_micros().div_ceil(1000);
    u16::try_from(millis).map_or(PollTimeout::from(u16::MAX), PollTimeout::from)
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, thread};

    use super::*;

    fn frame(number: u8) -> Frame {
        let mut bytes = vec![0xff; 60];
        bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, number]);
        Frame::from(bytes)
    }

    fn receive(plug: &dyn Transport) -> Frame {
        let mut frames = VecDeque::new();
        while frames.is_empty() {
            plug.receive(&mut frames, 1).expect("a live plug");
            thread::yield_now();
        }
        frames.remove(0).expect("one frame")
    }

    fn switch(directory: &tempfile::TempDir, name: &str) -> String {
        format!("switch://{}/{name}", directory.path().display())
    }

    #[test]
    fn a_cable_joins_two_switches_both_ways_until_it_is_stopped() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = |name| crate::open(&switch(&directory, name), "test").expect("a switch");
        let (near, far) = (open("a"), open("b"));
        let ends = [open("a"), open("b")];
        let stop = Stop::new().expect("a descriptor");
        thread::scope(|scope| {
            let cable = scope.spawn(|| join(&*ends[0], &*ends[1], &stop));
            near.send(&mut vec![frame(1)]);
            assert_eq!(receive(&*far), frame(1));
            far.send(&mut vec![frame(2)]);
            assert_eq!(receive(&*near), frame(2));
            stop.stop();
            cable.join().expect("no panic").expect("a clean end");
        });
    }

    #[test]
    fn a_stream_carries_frames_with_their_lengths() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || crate::open(&switch(&directory, "a"), "test").expect("a switch");
        let (near, end) = (open(), open());
        let (input, mut writer) = io::pipe().expect("a pipe");
        let (mut reader, output) = io::pipe().expect("a pipe");
        let stop = Stop::new().expect("a descriptor");
        thread::scope(|scope| {
            let up = scope.spawn(|| upload(&input, &*end, &stop));
            let down = scope.spawn(|| download(&*end, &output, &stop));
            let bytes = encode(&frame(1).bytes).expect("a length");
            writer.write_all(&bytes).expect("room");
            assert_eq!(receive(&*near), frame(1));
            near.send(&mut vec![frame(2)]);
            let mut bytes = [0; 62];
            io::Read::read_exact(&mut reader, &mut bytes).expect("a frame");
            assert_eq!(bytes[..2], [0, 60]);
            assert_eq!(bytes[2..], frame(2).bytes);
            drop(writer);
            up.join().expect("no panic").expect("the end of the stream");
            stop.stop();
            down.join().expect("no panic").expect("a clean end");
        });
    }

    #[test]
    fn what_is_no_stream_of_frames_is_an_error() {
        let plug = crate::open("null://", "test").expect("a plug");
        let (input, mut writer) = io::pipe().expect("a pipe");
        writer.write_all(b"Hello, world\n").expect("room");
        let error = upload(&input, &*plug, &Stop::new().expect("a descriptor"));
        assert_eq!(error.expect_err("text").kind(), io::ErrorKind::InvalidData);
    }
}
