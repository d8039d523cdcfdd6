//! The client's end of a connection to a switch.
//!
//! One frame is one datagram on a Unix socket; a stream to the switch stays open as long as the
//! connection lives. The backlog waits for room in the plug's epoll instance (see `outlet.rs`).
//! With a switch of this library frames pass through shared memory instead (see `shared/`).

use std::{
    collections::VecDeque,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    time::Instant,
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollEvent, EpollFlags},
        socket::{MsgFlags, recv},
    },
};

use crate::{
    batch,
    error::OpenError,
    frame::Frame,
    outlet::Outlet,
    reconnect::{Call, Desk, Dial, Link, Lost, Progress},
    shared::{End, Line, ring::Broken},
    transport::Drops,
    vde::handshake::{self, Connection, Handshake, Target},
};

impl Dial for Target {
    fn dial(&self, desk: &Desk) -> Result<Progress, OpenError> {
        let handshake = Handshake::start(self)?;
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
        desk.epoll
            .add(handshake.stream(), EpollEvent::new(interest, 0))
            .map_err(OpenError::system(&self.place, "watching the connection"))?;
        Ok(Progress::Calling(Box::new(Asking { handshake, epoll: Arc::clone(&desk.epoll) })))
    }
}

/// A switch that has not answered.
#[derive(Debug)]
struct Asking {
    handshake: Handshake,
    epoll: Arc<Epoll>,
}

impl Call for Asking {
    fn advance(self: Box<Self>) -> Result<Progress, OpenError> {
        let Self { handshake, epoll } = *self;
        let place = handshake.place().to_owned();
        Ok(match handshake.advance()? {
            handshake::Progress::Waiting(handshake) => {
                Progress::Calling(Box::new(Self { handshake, epoll }))
            }
            handshake::Progress::Done(Connection { stream, data, memory }) => {
                let way = match memory {
                    Some(memory) => {
                        Line::new(data, (epoll, 1), memory, End::Client).map(Way::Shared)
                    }
                    None => Outlet::new(data, epoll, 1).map(Way::Datagrams),
                };
                let way = way.map_err(OpenError::system(&place, "watching the connection"))?;
                Progress::Connected(Box::new(Joined { stream, way }))
            }
        })
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.handshake.stream()
    }
}

/// A port of a switch.
#[derive(Debug)]
struct Joined {
    stream: UnixStream,
    way: Way,
}

/// How frames pass.
#[derive(Debug)]
enum Way {
    Datagrams(Outlet),
    Shared(Line),
}

impl Link for Joined {
    fn send(&self, frames: &mut Vec<Frame>, drops: &Drops) {
        match &self.way {
            Way::Datagrams(outlet) => outlet.send(batch::wire_ready(frames, drops), drops),
            Way::Shared(line) => line.send(frames.drain(..), drops),
        }
    }

    fn receive(
        &self,
        into: &mut VecDeque<Frame>,
        budget: usize,
        drops: &Drops,
    ) -> Result<usize, Lost> {
        match &self.way {
            // An error of the socket means that the far end closed it: the stream will tell.
            Way::Datagrams(outlet) => Ok(outlet.receive(into, budget, drops).unwrap_or(0)),
            Way::Shared(line) => line
                .receive(budget, &mut |frame| into.push_back(frame))
                .map_err(|Broken| "the switch is gone, or out of order".into()),
        }
    }

    fn accepts_offload(&self) -> bool {
        matches!(self.way, Way::Shared(_))
    }

    fn backlog(&self) -> usize {
        match &self.way {
            Way::Datagrams(outlet) => outlet.backlog(),
            Way::Shared(line) => line.backlog(),
        }
    }

    /// The switch closes the stream. What it may have written there is of no interest.
    fn check(&self, _now: Instant) -> Result<(), Lost> {
        let mut bytes = [0; 256];
        loop {
            match recv(self.stream.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN) => return Ok(()),
                Ok(1..) | Err(Errno::EINTR) => {}
                Ok(0) | Err(_) => return Err("the switch is gone".into()),
            }
        }
    }
}
