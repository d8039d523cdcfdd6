//! [`Outlet`]: a connected datagram socket that does not lose bursts.
//!
//! A Unix datagram socket takes ten datagrams (`net.unix.max_dgram_qlen`) before it makes the
//! sender wait, fewer than one TCP window. An outlet keeps what does not fit in a bounded backlog
//! and asks the epoll instance it belongs to for writability; whoever waits there calls
//! [`Outlet::flush`].
//!
//! Locks: the backlog, held during the system call, so that frames stay in order. Nothing else is
//! locked under it.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::epoll::{Epoll, EpollEvent, EpollFlags},
};
use parking_lot::Mutex;

use crate::{batch, frame::Frame, intake, transport::Drops};

/// How many frames may wait for a slow peer.
const LONGEST_BACKLOG: usize = 1024;

/// A connected datagram socket with a backlog, registered in an epoll instance.
#[derive(Debug)]
pub(crate) struct Outlet {
    socket: OwnedFd,
    epoll: Arc<Epoll>,
    token: u64,
    backlog: Mutex<VecDeque<Vec<u8>>>,
}

impl Outlet {
    /// Registers `socket` for input in `epoll` under `token`.
    pub(crate) fn new(socket: OwnedFd, epoll: Arc<Epoll>, token: u64) -> nix::Result<Self> {
        epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        Ok(Self { socket, epoll, token, backlog: Mutex::default() })
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// How many frames wait.
    pub(crate) fn backlog(&self) -> usize {
        self.backlog.lock().len()
    }

    /// Whether the other end of the socket is gone.
    pub(crate) fn has_hung_up(&self) -> bool {
        let mut descriptors = [PollFd::new(self.socket(), PollFlags::empty())];
        let _ = poll(&mut descriptors, PollTimeout::ZERO);
        let events = descriptors[0].revents().unwrap_or(PollFlags::empty());
        events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR)
    }

    /// Sends frames, or keeps them for [`Self::flush`]; beyond the backlog they are dropped.
    pub(crate) fn send(&self, mut packets: Vec<Vec<u8>>, drops: &Drops) {
        let mut backlog = self.backlog.lock();
        self.drain(&mut backlog, drops);
        if backlog.is_empty() {
            let done = self.transmit(packets.iter(), drops);
            if done < packets.len() {
                self.watch(EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT);
            }
            packets.drain(..done).for_each(intake::give);
        }
        let room = LONGEST_BACKLOG - backlog.len();
        drops.add(packets.len().saturating_sub(room));
        backlog.extend(packets.into_iter().take(room).map(intake::keep));
    }

    /// Receives up to `budget` frames; sends what waits, since room may be what woke the owner.
    pub(crate) fn receive(
        &self,
        into: &mut VecDeque<Frame>,
        budget: usize,
        drops: &Drops,
    ) -> nix::Result<usize> {
        self.flush(drops);
        batch::receive_frames(self.socket(), budget, drops, &mut |frame| into.push_back(frame))
    }

    /// Sends what waits, as far as the socket takes it.
    pub(crate) fn flush(&self, drops: &Drops) {
        self.drain(&mut self.backlog.lock(), drops);
    }

    fn drain(&self, backlog: &mut VecDeque<Vec<u8>>, drops: &Drops) {
        if !backlog.is_empty() {
            let done = self.transmit(backlog.iter(), drops);
            backlog.drain(..done);
            if backlog.is_empty() {
                self.watch(EpollFlags::EPOLLIN);
            }
        }
    }

    fn transmit<'a>(&self, packets: impl Iterator<Item = &'a Vec<u8>>, drops: &Drops) -> usize {
        batch::send_all(self.socket(), packets, drops).done
    }

    fn watch(&self, interest: EpollFlags) {
        let mut event = EpollEvent::new(interest, self.token);
        if let Err(error) = self.epoll.modify(&self.socket, &mut event) {
            tracing::debug!(%error, "cannot watch a socket for writability");
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        // The descriptor would leave the instance when closed, unless a child shares it.
        let _ = self.epoll.delete(&self.socket);
    }
}
