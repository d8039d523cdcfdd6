//! `ptp://`: a cable between two processes, through a Unix socket.
//!
//! The first end listens at the path; the second connects and is told by one byte whether the
//! cable was free. Then every message of the `SOCK_SEQPACKET` connection is a frame. When an end
//! goes away the other loses the carrier and waits, or takes over listening. See
//! [`rendezvous`] for how the ends meet.
//!
//! Lock: the other end of a listener (read to send and receive, written when it comes and goes).

mod rendezvous;

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsRawFd, BorrowedFd},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use nix::{
    errno::Errno,
    sys::{
        epoll::Epoll,
        socket::{MsgFlags, UnixAddr, connect, recv, send},
    },
};
use parking_lot::RwLock;

use self::rendezvous::{Listener, Meeting};
use crate::{
    batch,
    error::OpenError,
    frame::Frame,
    outlet::Outlet,
    reconnect::{Call, Desk, Dial, Link, Lost, Plug, Progress},
    transport::{Drops, Transport},
    vde::{absolute, handshake::BoundPath},
    vnl::Vnl,
};

const FREE: u8 = 0;

/// Opens `ptp://path`.
pub(crate) fn open(vnl: &Vnl, _description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    vnl.parameters.resolve("ptp", &[])?;
    let place = vnl.to_string();
    if vnl.path.is_empty() {
        let problem = "needs the path of a socket, the same at both ends".to_owned();
        return Err(OpenError::Refused { place, problem, errno: libc::EINVAL });
    }
    let way = Way { place: place.clone(), path: absolute(&vnl.path) };
    Ok(Arc::new(Plug::open(&place, way)?))
}

/// Where the ends meet.
#[derive(Debug)]
struct Way {
    place: String,
    path: PathBuf,
}

impl Dial for Way {
    fn dial(&self, desk: &Desk) -> Result<Progress, OpenError> {
        let meet = || -> io::Result<Progress> {
            let outlet = |socket| Outlet::new(socket, Arc::clone(&desk.epoll), 1);
            Ok(match rendezvous::meet(&self.path)? {
                Meeting::First(listener) => {
                    listener.watch(&desk.epoll)?;
                    let (epoll, peer) = (Arc::clone(&desk.epoll), RwLock::new(None));
                    Progress::Connected(Box::new(First { listener, peer, epoll }))
                }
                Meeting::Second(socket) => {
                    let (outlet, place) = (outlet(socket)?, self.place.clone());
                    Progress::Calling(Box::new(Asking { outlet, place }))
                }
                Meeting::Datagram(socket, own) => {
                    let (outlet, path) = (outlet(socket)?, self.path.clone());
                    Progress::Connected(Box::new(Datagram { outlet, path, _own: own }))
                }
            })
        };
        meet().map_err(OpenError::system(&self.place, "meeting the other end of the cable"))
    }
}

fn refused(place: String, errno: Errno) -> OpenError {
    let problem = match errno {
        Errno::EISCONN => "both ends of the cable are taken (use a switch:// for more)".to_owned(),
        other => format!("the other end refused: {}", other.desc()),
    };
    OpenError::Refused { place, problem, errno: errno as i32 }
}

fn read_answer(outlet: &Outlet) -> nix::Result<()> {
    let mut answer = [0];
    match recv(outlet.socket().as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)? {
        0 => Err(Errno::ECONNRESET),
        _ if answer == [FREE] => Ok(()),
        _ => Err(Errno::from_raw(answer[0].into())),
    }
}

/// Connected, but the other end has not said that the cable is free.
#[derive(Debug)]
struct Asking {
    outlet: Outlet,
    place: String,
}

impl Call for Asking {
    fn advance(self: Box<Self>) -> Result<Progress, OpenError> {
        match read_answer(&self.outlet) {
            Ok(()) => Ok(Progress::Connected(Box::new(Second(self.outlet)))),
            Err(Errno::EAGAIN) => Ok(Progress::Calling(self)),
            Err(errno) => Err(refused(self.place, errno)),
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.outlet.socket()
    }
}

/// The end that listens; the other one may come and go.
#[derive(Debug)]
struct First {
    listener: Listener,
    peer: RwLock<Option<Outlet>>,
    epoll: Arc<Epoll>,
}

impl Link for First {
    fn send(&self, frames: &mut Vec<Frame>, drops: &Drops) {
        let packets = batch::wire_ready(frames, drops);
        match &*self.peer.read() {
            Some(outlet) => outlet.send(packets, drops),
            None => drops.add(packets.len()),
        }
    }

    fn receive(
        &self,
        into: &mut VecDeque<Frame>,
        budget: usize,
        drops: &Drops,
    ) -> Result<usize, Lost> {
        let peer = self.peer.read();
        Ok(peer.as_ref().and_then(|peer| peer.receive(into, budget, drops).ok()).unwrap_or(0))
    }

    /// Sees who left and who came; who comes second is told that the cable is taken.
    fn check(&self, _now: Instant) -> Result<(), Lost> {
        let mut peer = self.peer.write();
        *peer = peer.take().filter(|peer| !peer.has_hung_up());
        while let Ok(socket) = self.listener.accept() {
            let taken = u8::try_from(libc::EISCONN).unwrap_or(u8::MAX);
            let answer = if peer.is_some() { taken } else { FREE };
            let told = send(socket.as_raw_fd(), &[answer], MsgFlags::MSG_NOSIGNAL).is_ok();
            if told && peer.is_none() {
                *peer = Outlet::new(socket, Arc::clone(&self.epoll), 1).ok();
            }
        }
        Ok(())
    }

    fn carrier(&self) -> bool {
        self.peer.read().is_some()
    }
}

/// The end that connected.
#[derive(Debug)]
struct Second(Outlet);

impl Link for Second {
    fn send(&self, frames: &mut Vec<Frame>, drops: &Drops) {
        self.0.send(batch::wire_ready(frames, drops), drops);
    }

    fn receive(
        &self,
        into: &mut VecDeque<Frame>,
        budget: usize,
        drops: &Drops,
    ) -> Result<usize, Lost> {
        Ok(self.0.receive(into, budget, drops).unwrap_or(0))
    }

    fn check(&self, _now: Instant) -> Result<(), Lost> {
        if self.0.has_hung_up() { Err("the other end is gone".into()) } else { Ok(()) }
    }
}

/// The other end is of an older kind, two datagram sockets that never tell who left.
#[derive(Debug)]
struct Datagram {
    outlet: Outlet,
    path: PathBuf,
    _own: BoundPath,
}

impl Link for Datagram {
    fn send(&self, frames: &mut Vec<Frame>, drops: &Drops) {
        self.outlet.send(batch::wire_ready(frames, drops), drops);
    }

    fn receive(
        &self,
        into: &mut VecDeque<Frame>,
        budget: usize,
        drops: &Drops,
    ) -> Result<usize, Lost> {
        Ok(self.outlet.receive(into, budget, drops).unwrap_or(0))
    }

    /// Connecting once more changes nothing, unless the other end is gone.
    fn check(&self, _now: Instant) -> Result<(), Lost> {
        let connected = UnixAddr::new(&self.path)
            .and_then(|address| connect(self.outlet.socket().as_raw_fd(), &address));
        connected.map_err(|_| "the other end is gone".into())
    }
}
