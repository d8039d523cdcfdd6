//! The client's end of a connection to a switch.
//!
//! One frame is one datagram on a Unix socket; a stream to the switch stays open as long as the
//! connection lives. The backlog waits for room in the plug's epoll instance (see `outlet.rs`).

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
            handshake::Progress::Done(Connection { stream, data }) => {
                let outlet = Outlet::new(data, epoll, 1)
                    .map_err(OpenError::system(&place, "watching the connection"))?;
                Progress::Connected(Box::new(Joined { stream, outlet }))
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
    outlet: Outlet,
}

impl Link for Joined {
    fn send(&self, frames: &mut Vec<Frame>, drops: &Drops) {
        self.outlet.send(batch::wire_ready(frames, drops), drops);
    }

    fn receive(
        &self,
        into: &mut VecDeque<Frame>,
        budget: usize,
        drops: &Drops,
    ) -> Result<usize, Lost> {
        // An error of the data socket means that the far end closed it: the stream will tell.
        Ok(self.outlet.receive(into, budget, drops).unwrap_or(0))
    }

    fn backlog(&self) -> usize {
        self.outlet.backlog()
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
