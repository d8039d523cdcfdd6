//! `ptp://`: a cable between two processes, through a Unix socket.
//!
//! The first end listens at the path; the second connects and is told by one byte whether the
//! cable was free. Then every message of the `SOCK_SEQPACKET` connection is a frame. When an end
//! goes away the other loses the carrier and waits, or takes over listening. See
//! [`rendezvous`] for how the ends meet.
//!
//! Locks: the state (read to send and receive, written to change it), then the outlet's backlog.

mod rendezvous;

use std::{
    collections::VecDeque,
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        epoll::{Epoll, EpollCreateFlags},
        socket::{MsgFlags, recv, send},
    },
};
use parking_lot::RwLock;

use self::rendezvous::{Listener, Meeting};
use crate::{
    batch,
    error::OpenError,
    frame::Frame,
    outlet::Outlet,
    transport::{Drops, Transport, Waker, WakerSlot},
    vde::{absolute, handshake::BoundPath},
    vnl::Vnl,
};

/// How long the other end may take to say that the cable is free.
const PATIENCE_MILLISECONDS: u16 = 2000;
/// How often an end that is alone looks around.
const HEARTBEAT: Duration = Duration::from_secs(1);
const FREE: u8 = 0;

/// Opens `ptp://path`.
pub(crate) fn open(vnl: &Vnl, _description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    vnl.parameters.resolve("ptp", &[])?;
    let place = vnl.to_string();
    if vnl.path.is_empty() {
        let problem = "needs the path of a socket, the same at both ends".to_owned();
        return Err(OpenError::Refused { place, problem, errno: libc::EINVAL });
    }
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
        .map_err(OpenError::system(&place, "making an epoll descriptor"))?;
    let cable = Cable {
        path: absolute(&vnl.path),
        epoll: Arc::new(epoll),
        state: RwLock::new(State::Alone),
        waker: WakerSlot::default(),
        drops: Drops::default(),
    };
    let meeting =
        cable.meet().map_err(OpenError::system(&place, "meeting the other end of the cable"))?;
    let meeting = match meeting {
        State::Asking(outlet) => match wait_for_answer(&outlet) {
            Ok(()) => State::Joined(outlet),
            Err(errno) => return Err(refused(place, errno)),
        },
        other => other,
    };
    *cable.state.write() = meeting;
    Ok(Arc::new(cable))
}

fn refused(place: String, errno: Errno) -> OpenError {
    let problem = match errno {
        Errno::EISCONN => "both ends of the cable are taken (use a switch:// for more)".to_owned(),
        Errno::ETIMEDOUT => "the other end does not answer".to_owned(),
        other => format!("the other end refused: {}", other.desc()),
    };
    OpenError::Refused { place, problem, errno: errno as i32 }
}

fn wait_for_answer(outlet: &Outlet) -> nix::Result<()> {
    let descriptor = PollFd::new(outlet.socket(), PollFlags::POLLIN);
    match poll(&mut [descriptor], PollTimeout::from(PATIENCE_MILLISECONDS))? {
        0 => Err(Errno::ETIMEDOUT),
        _ => read_answer(outlet),
    }
}

fn read_answer(outlet: &Outlet) -> nix::Result<()> {
    let mut answer = [0];
    match recv(outlet.socket().as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)? {
        0 => Err(Errno::ECONNRESET),
        _ if answer == [FREE] => Ok(()),
        _ => Err(Errno::from_raw(answer[0].into())),
    }
}

/// One end of a cable.
#[derive(Debug)]
struct Cable {
    path: PathBuf,
    epoll: Arc<Epoll>,
    state: RwLock<State>,
    waker: WakerSlot,
    drops: Drops,
}

#[derive(Debug)]
enum State {
    /// The other end went away, and nothing was found to meet a new one.
    Alone,
    /// We listen; the other end may have come.
    Listening(Listener, Option<Outlet>),
    /// Connected, but the other end has not said that the cable is free.
    Asking(Outlet),
    Joined(Outlet),
    /// The other end is of an older kind, two datagram sockets that never tell who left.
    Datagram(Outlet, #[expect(dead_code, reason = "removed with the state")] BoundPath),
}

impl State {
    fn outlet(&self) -> Option<&Outlet> {
        match self {
            Self::Listening(_, Some(outlet)) | Self::Joined(outlet) | Self::Datagram(outlet, _) => {
                Some(outlet)
            }
            Self::Listening(_, None) | Self::Asking(_) | Self::Alone => None,
        }
    }
}

impl Cable {
    fn meet(&self) -> io::Result<State> {
        let outlet = |socket, token| Outlet::new(socket, Arc::clone(&self.epoll), token);
        Ok(match rendezvous::meet(&self.path)? {
            Meeting::First(listener) => {
                listener.watch(&self.epoll)?;
                State::Listening(listener, None)
            }
            Meeting::Second(socket) => State::Asking(outlet(socket, 1)?),
            Meeting::Datagram(socket, path) => State::Datagram(outlet(socket, 1)?, path),
        })
    }

    /// Sees who came and who left.
    fn settle(&self) {
        let mut state = self.state.write();
        let before = state.outlet().is_some();
        *state = match mem::replace(&mut *state, State::Alone) {
            State::Listening(listener, peer) => {
                let peer = peer.filter(|peer| !peer.has_hung_up());
                let peer = self.admit(&listener, peer);
                State::Listening(listener, peer)
            }
            State::Asking(outlet) => match read_answer(&outlet) {
                Ok(()) => State::Joined(outlet),
                Err(Errno::EAGAIN) => State::Asking(outlet),
                Err(_) => State::Alone,
            },
            State::Joined(outlet) if !outlet.has_hung_up() => State::Joined(outlet),
            datagram @ State::Datagram(..) => datagram,
            State::Joined(_) | State::Alone => self.meet().unwrap_or(State::Alone),
        };
        let after = state.outlet().is_some();
        drop(state);
        if before != after {
            self.waker.wake();
        }
    }

    /// Accepts the other end; who comes later is told that the cable is taken.
    fn admit(&self, listener: &Listener, mut peer: Option<Outlet>) -> Option<Outlet> {
        while let Ok(socket) = listener.accept() {
            let taken = u8::try_from(libc::EISCONN).unwrap_or(u8::MAX);
            let answer = if peer.is_some() { taken } else { FREE };
            let told = send(socket.as_raw_fd(), &[answer], MsgFlags::MSG_NOSIGNAL).is_ok();
            if told && peer.is_none() {
                peer = Outlet::new(socket, Arc::clone(&self.epoll), 1).ok();
            }
        }
        peer
    }
}

impl Transport for Cable {
    fn send(&self, frames: &mut Vec<Frame>) {
        let packets = batch::wire_ready(frames, &self.drops);
        match self.state.read().outlet() {
            Some(outlet) => outlet.send(packets, &self.drops),
            None => self.drops.add(packets.len()),
        }
    }

    fn receive(&self, into: &mut VecDeque<Frame>, budget: usize) -> io::Result<usize> {
        if let Some(outlet) = self.state.read().outlet() {
            outlet.flush(&self.drops);
            let mut push = |frame| into.push_back(frame);
            let received = batch::receive_frames(outlet.socket(), budget, &self.drops, &mut push);
            let count = received.unwrap_or(0);
            if count > 0 || budget == 0 {
                return Ok(count);
            }
        }
        self.settle();
        Ok(0)
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.0.as_fd())
    }

    fn set_waker(&self, waker: Waker) {
        self.waker.set(waker);
    }

    fn carrier(&self) -> bool {
        self.state.read().outlet().is_some()
    }

    fn tick(&self, now: Instant) -> Option<Instant> {
        self.settle();
        Some(now + HEARTBEAT)
    }

    fn drops(&self) -> u64 {
        self.drops.get()
    }
}
