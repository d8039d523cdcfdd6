//! `vxvde://`: a switch without a switch, distributed over the members of a multicast group.
//!
//! A member sends frames for addresses it does not know to the group and frames for known ones to
//! the member that owns them; it knows from whom it has heard. Its own multicasts come back and
//! are ignored: they have its own port and an address of this host.
//!
//! `options.rs` reads the locator, `sockets.rs` joins the group, `wire.rs` has the bytes.

mod options;
mod sockets;
pub(crate) mod wire;

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Instant,
};

use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
    socket::SockaddrStorage,
};
use parking_lot::Mutex;

use self::{
    options::Options,
    sockets::Sockets,
    wire::{HEADER, Message},
};
use crate::{
    batch,
    error::OpenError,
    frame::{Frame, is_wire_length},
    mac_table::{Key, MacTable, address_at, is_group},
    transport::{Drops, Transport, Waker},
    vnl::Vnl,
};

/// Opens `vxvde://[group][/option...]`.
pub(crate) fn open(vnl: &Vnl, _description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    let place = vnl.to_string();
    let options = Options::of(vnl)?;
    let sockets = Sockets::open(&place, &options)?;
    let epoll = watch(&sockets).map_err(OpenError::system(&place, "watching the sockets"))?;
    Ok(Arc::new(Member {
        group: options.group,
        header: wire::header(options.vni),
        sockets,
        epoll,
        peers: Mutex::new(MacTable::new(options.table_size, options.expiry, None)),
        own_address: Mutex::new(None),
        started: Instant::now(),
        drops: Drops::default(),
    }))
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
    group: SocketAddr,
    header: [u8; HEADER],
    sockets: Sockets,
    epoll: Epoll,
    /// Who owns which address; always Some in an entry.
    peers: Mutex<MacTable<Option<SocketAddr>>>,
    /// An address of this host from which own multicasts were seen to come.
    own_address: Mutex<Option<IpAddr>>,
    started: Instant,
    drops: Drops,
}

impl Member {
    fn now(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// Reads up to `budget` datagrams; returns whether there may be more.
    fn receive_from(
        &self,
        socket: &UdpSocket,
        into: &mut VecDeque<Frame>,
        budget: usize,
    ) -> io::Result<bool> {
        let now = self.now();
        let mut peers = self.peers.lock();
        let mut handle = |bytes: &[u8], sender: Option<SockaddrStorage>| {
            let Some(sender) = sender.as_ref().and_then(socket_address) else {
                return self.drops.add(1);
            };
            if self.is_own(sender) {
                return;
            }
            match hear(&mut peers, &self.header, bytes, sender, now) {
                Heard::Frame(frame) => into.push_back(Frame::from(frame.to_vec())),
                Heard::Farewell => {}
                Heard::Garbage => self.drops.add(1),
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
    peers: &mut MacTable<Option<SocketAddr>>,
    header: &[u8; HEADER],
    datagram: &'a [u8],
    sender: SocketAddr,
    now: u32,
) -> Heard<'a> {
    match wire::decode(datagram, header) {
        Some(Message::Close) => {
            peers.forget(Some(sender));
            Heard::Farewell
        }
        Some(Message::Frame(frame)) if is_wire_length(frame.len()) => {
            if let Some(key) = member_key(frame, 6) {
                peers.learn(key, Some(sender), now);
            }
            Heard::Frame(frame)
        }
        _ => Heard::Garbage,
    }
}

/// The key of the address at an offset; None if many stations share it. VLANs are not told apart.
fn member_key(frame: &[u8], offset: usize) -> Option<Key> {
    let address = address_at(frame, offset);
    if is_group(address) { None } else { Key::new(address, 0) }
}

fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|a| SocketAddr::V4(SocketAddrV4::from(*a)));
    v4.or_else(|| storage.as_sockaddr_in6().map(|a| SocketAddr::V6(SocketAddrV6::from(*a))))
}

impl Transport for Member {
    fn send(&self, frames: &mut Vec<Frame>) {
        let packets = batch::wire_ready(frames, &self.drops);
        let now = self.now();
        let mut peers = self.peers.lock();
        let addresses: Vec<_> = packets
            .iter()
            .map(|packet| {
                let peer = member_key(packet, 0).and_then(|key| peers.lookup(key, now)).flatten();
                Some(SockaddrStorage::from(peer.unwrap_or(self.group)))
            })
            .collect();
        drop(peers);
        let slices: Vec<_> = packets
            .iter()
            .map(|packet| [IoSlice::new(&self.header), IoSlice::new(packet)])
            .collect();
        let done = batch::send(self.sockets.own.as_fd(), &slices, &addresses, &self.drops);
        self.drops.add(packets.len() - done);
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
        self.drops.get()
    }
}

impl Drop for Member {
    /// Tells the others to forget us.
    fn drop(&mut self) {
        let _ = self.sockets.own.send_to(&self.header, self.group);
    }
}
