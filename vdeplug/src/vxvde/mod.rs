//! `vxvde://`: a switch without a switch, distributed over the members of a multicast group.
//!
//! A member sends frames for addresses it does not know to the group and frames for known ones to
//! the member that owns them; it knows from whom it has heard. Its own multicasts come back and
//! are ignored: they have its own port and an address of this host.
//!
//! `sockets.rs` joins the group, `wire.rs` has the bytes; the options, the sending half and the
//! framing are those of `vxlan/`.

mod sockets;
mod wire;

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
    socket::SockaddrStorage,
};
use parking_lot::Mutex;

use self::{sockets::Sockets, wire::Message};
use crate::{
    batch,
    error::OpenError,
    frame::{Frame, is_wire_length},
    transport::{Transport, Waker},
    vnl::Vnl,
    vxlan::{
        options::{Dialect, Options, Reach},
        tunnel::{Peers, Tunnel, socket_address},
        wire::HEADER,
    },
};

const DIALECT: Dialect = Dialect {
    scheme: "vxvde",
    names: &[
        "port",
        "vni",
        "grp",
        "ttl",
        "v4",
        "v6",
        "if",
        "bind",
        "hashsize",
        "expiretime",
        "rcvbuf",
    ],
    port: 14_789,
    reach: Reach::Groups,
};

/// Opens `vxvde://[group][/option...]`.
pub(crate) fn open(vnl: &Vnl, _description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    let place = vnl.to_string();
    let options = Options::of(vnl, &DIALECT)?;
    let sockets = Sockets::open(&place, &options)?;
    let epoll = watch(&sockets).map_err(OpenError::system(&place, "watching the sockets"))?;
    let tunnel = Tunnel::new(&options);
    Ok(Arc::new(Member { tunnel, sockets, epoll, own_address: Mutex::new(None) }))
}

fn watch(sockets: &Sockets) -> nix::Result<Epoll> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&sockets.group, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
    epoll.add(&sockets.own, EpollEvent::new(EpollFlags::EPOLLIN, 1))?;
    Ok(epoll)
}

/// A member of a distributed switch.
#[derive(Debug)]
struct Member {
    tunnel: Tunnel,
    sockets: Sockets,
    epoll: Epoll,
    /// An address of this host from which own multicasts were seen to come.
    own_address: Mutex<Option<IpAddr>>,
}

impl Member {
    /// Reads up to `budget` datagrams; returns whether there may be more.
    fn receive_from(
        &self,
        socket: &UdpSocket,
        into: &mut VecDeque<Frame>,
        budget: usize,
    ) -> io::Result<bool> {
        let now = self.tunnel.now();
        let mut peers = self.tunnel.peers();
        let mut handle = |bytes: &[u8], sender: Option<SockaddrStorage>| {
            let Some(sender) = sender.as_ref().and_then(socket_address) else {
                return self.tunnel.drops.add(1);
            };
            if self.is_own(sender) {
                return;
            }
            match hear(&mut peers, &self.tunnel.header, bytes, sender, now) {
                Heard::Frame(frame) => into.push_back(Frame::from(frame.to_vec())),
                Heard::Farewell => {}
                Heard::Garbage => self.tunnel.drops.add(1),
            }
        };
        Ok(batch::receive(socket.as_fd(), budget, &mut handle)?.more)
    }

    /// Whether a datagram is one that we multicast ourselves.
    fn is_own(&self, sender: SocketAddr) -> bool {
        if sender.port() != self.sockets.own_port {
            return false;
        }
        let mut known = self.own_address.lock();
        if *known == Some(sender.ip()) {
            return true;
        }
        // Only an address of this host can be bound to.
        let own = UdpSocket::bind(SocketAddr::new(sender.ip(), 0)).is_ok();
        if own {
            *known = Some(sender.ip());
        }
        own
    }
}

/// What a datagram was.
#[derive(Debug)]
pub(crate) enum Heard<'a> {
    Frame(&'a [u8]),
    Farewell,
    Garbage,
}

/// Follows a datagram of another member.
pub(crate) fn hear<'a>(
    peers: &mut Peers,
    header: &[u8; HEADER],
    datagram: &'a [u8],
    sender: SocketAddr,
    now: u32,
) -> Heard<'a> {
    match wire::decode(datagram, header) {
        Some(Message::Close) => {
            peers.forget(sender);
            Heard::Farewell
        }
        Some(Message::Frame(frame)) if is_wire_length(frame.len()) => {
            peers.learn(frame, sender, now);
            Heard::Frame(frame)
        }
        _ => Heard::Garbage,
    }
}

impl Transport for Member {
    fn send(&self, frames: &mut Vec<Frame>) {
        self.tunnel.send(&self.sockets.own, frames);
    }

    fn receive(&self, into: &mut VecDeque<Frame>, budget: usize) -> io::Result<usize> {
        let before = into.len();
        // Half for each, so that neither socket starves the other.
        let mut sockets = [Some(&self.sockets.own), Some(&self.sockets.group)];
        while sockets.iter().any(Option::is_some) && into.len() - before < budget {
            for slot in &mut sockets {
                let left = budget - (into.len() - before);
                let Some(socket) = *slot else { continue };
                let more = self.receive_from(socket, into, left.div_ceil(2))?;
                if !more {
                    *slot = None;
                }
            }
        }
        Ok(into.len() - before)
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.0.as_fd())
    }

    fn set_waker(&self, _waker: Waker) {}

    fn drops(&self) -> u64 {
        self.tunnel.drops.get()
    }
}

impl Drop for Member {
    /// Tells the others to forget us.
    fn drop(&mut self) {
        let _ = self.sockets.own.send_to(&self.tunnel.header, self.tunnel.group);
    }
}
