//! Ports of this host that lead to guests (`tcpfwd`, `udpfwd`).
//!
//! A guest sees who calls it, unless that is this host or looks like a part of the virtual network:
//! then the router calls.

use std::{io, net::SocketAddr, os::fd::AsRawFd};

use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollEvent, EpollFlags},
};
use smoltcp::time::{Duration, Instant};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{
    flow::Key,
    nat::{Nat, Work},
    options::{Config, Forward, Protocol},
    place::Place,
    stream::{self, Stream},
};
use crate::{error::OpenError, ip::hash::Map};

/// Connections accepted, or datagrams taken, in one turn.
const TURN: usize = 16;
/// Connections that the kernel keeps for us.
const BACKLOG: i32 = 128;
/// Hosts that a forwarded UDP port talks to, and how long it remembers one that is silent.
const PEERS: usize = 1024;
const LIFE: Duration = Duration::from_secs(180);
const LONGEST: usize = 65_536;
/// Where ports for hosts that share theirs begin.
const EPHEMERAL: u16 = 49_152;

/// All forwarded ports, by the identity of their turns.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    forward: Forward,
    socket: Socket,
    queued: bool,
    /// It could not accept: there are no descriptors.
    starved: bool,
    /// Who a guest knows by which address.
    peers: Map<SocketAddr, Peer>,
}

#[derive(Debug)]
struct Peer {
    real: SocketAddr,
    heard: Instant,
}

impl Forwards {
    /// Listens on all ports. Errors: those of bind(2), for a port.
    pub(super) fn open(
        &mut self,
        config: &Config,
        epoll: &Epoll,
        place: &str,
    ) -> Result<(), OpenError> {
        for (id, forward) in config.forwards.iter().enumerate() {
            let action = format!("listening on {}", forward.listen);
            let remedy = |errno| match errno {
                libc::EACCES => Some("ports below 1024 are root's; choose another"),
                libc::EADDRINUSE => Some("choose another port"),
                _ => None,
            };
            let socket = listen(forward).map_err(OpenError::system_with(place, &action, remedy))?;
            let token = Work::Forward(u64::try_from(id).unwrap_or(0)).token();
            let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
            epoll
                .add(&socket, EpollEvent::new(interest, token))
                .map_err(OpenError::system(place, &action))?;
            let peers = Map::default();
            self.open.push(Open {
                forward: *forward,
                socket,
                queued: false,
                starved: false,
                peers,
            });
        }
        Ok(())
    }

    /// Whether time must pass for something to happen.
    pub(super) fn need_care(&self) -> bool {
        self.open.iter().any(|open| open.starved || !open.peers.is_empty())
    }

    fn get(&mut self, id: u64) -> Option<&mut Open> {
        self.open.get_mut(usize::try_from(id).ok()?)
    }
}

fn listen(forward: &Forward) -> io::Result<Socket> {
    let domain = Domain::for_address(forward.listen);
    let kind = if forward.protocol == Protocol::Tcp { Type::STREAM } else { Type::DGRAM };
    let socket = stream::new(domain, kind, None)?;
    if forward.listen.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if forward.protocol == Protocol::Tcp {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&forward.listen.into())?;
    if forward.protocol == Protocol::Tcp {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

impl Nat {
    /// Hears from the kernel about a forwarded port.
    pub(super) fn forward_event(&mut self, id: u64) {
        if let Some(open) = self.forwards.get(id)
            && !std::mem::replace(&mut open.queued, true)
        {
            self.enqueue(Work::Forward(id));
        }
    }

    /// Takes what has come to a forwarded port.
    pub(super) fn forward_turn(&mut self, id: u64) {
        let Some(open) = self.forwards.get(id) else { return };
        open.queued = false;
        let more = match open.forward.protocol {
            Protocol::Tcp => self.forward_accept(id),
            Protocol::Udp => self.forward_receive(id),
        };
        if more {
            self.forward_event(id);
        }
    }

    fn forward_accept(&mut self, id: u64) -> bool {
        for _ in 0..TURN {
            let Some(open) = self.forwards.get(id) else { return false };
            let guest = open.forward.guest;
            match open.socket.accept4(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) {
                Ok((socket, peer)) => {
                    let stream = Stream::accepted(socket);
                    let taken = |nat: &Self, far| nat.tcp.has(&Key { guest, far });
                    match self.forward_name(guest, peer.as_socket(), taken) {
                        Some(far) if !self.tcp.is_full() => {
                            self.tcp_forward(Key { guest, far }, stream);
                        }
                        _ => stream.reset(),
                    }
                }
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    let aborted = errno == libc::ECONNABORTED || errno == libc::EINTR;
                    // Without descriptors, the kernel will not tell again.
                    open.starved = !aborted && errno != libc::EAGAIN;
                    if !aborted {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// The address by which a guest knows a caller.
    fn forward_name(
        &self,
        guest: SocketAddr,
        caller: Option<SocketAddr>,
        taken: impl Fn(&Self, SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let caller = caller?;
        let foreign =
            caller.is_ipv4() == guest.is_ipv4() && self.config.place(caller.ip()) == Place::Outside;
        let ip = if foreign { caller.ip() } else { self.config.router(guest.ip())? };
        let ports = std::iter::once(caller.port()).chain(EPHEMERAL..=u16::MAX);
        ports.map(|port| SocketAddr::new(ip, port)).find(|far| !taken(self, *far))
    }

    fn forward_receive(&mut self, id: u64) -> bool {
        let mut buffer = vec![0; LONGEST];
        for _ in 0..TURN {
            let Some(open) = self.forwards.get(id) else { return false };
            let guest = open.forward.guest;
            let received = nix::sys::socket::recvfrom::<nix::sys::socket::SockaddrStorage>(
                open.socket.as_raw_fd(),
                &mut buffer,
            );
            match received {
                Ok((length, peer)) => {
                    let peer = peer.and_then(socket_address);
                    if let Some(far) = self.forward_peer(id, peer) {
                        let (from, to) = ((far.ip(), far.port()), (guest.ip(), guest.port()));
                        self.send_udp(from, to, &buffer[..length]);
                    }
                }
                Err(Errno::EAGAIN) => return false,
                // An answer that was refused, earlier.
                Err(_) => {}
            }
        }
        true
    }

    /// The address by which a guest knows a host that sends datagrams.
    fn forward_peer(&mut self, id: u64, real: Option<SocketAddr>) -> Option<SocketAddr> {
        let now = self.now;
        let open = self.forwards.get(id)?;
        let known = open.peers.iter_mut().find(|(_, peer)| Some(peer.real) == real);
        if let Some((far, peer)) = known {
            peer.heard = now;
            return Some(*far);
        }
        let guest = open.forward.guest;
        if open.peers.len() >= PEERS {
            let oldest = open.peers.iter().min_by_key(|(_, p)| p.heard).map(|(far, _)| *far)?;
            open.peers.remove(&oldest);
        }
        let taken = |nat: &Self, far| {
            nat.forwards.open.iter().any(|o| o.forward.guest == guest && o.peers.contains_key(&far))
        };
        let far = self.forward_name(guest, real, taken)?;
        let peer = Peer { real: real?, heard: now };
        self.forwards.get(id)?.peers.insert(far, peer);
        Some(far)
    }

    /// Sends a datagram of a guest to whom it answers; false if it is not an answer.
    pub(super) fn forward_answer(&mut self, key: &Key, data: &[u8]) -> bool {
        let now = self.now;
        for open in &mut self.forwards.open {
            if open.forward.protocol != Protocol::Udp || open.forward.guest != key.guest {
                continue;
            }
            if let Some(peer) = open.peers.get_mut(&key.far) {
                peer.heard = now;
                // One that is lost is lost, as in any network.
                let _ = open.socket.send_to(data, &SockAddr::from(peer.real));
                return true;
            }
        }
        false
    }

    /// Forgets who has been silent, and tries again to accept.
    pub(super) fn forward_expire(&mut self) {
        let now = self.now;
        let mut starved = Vec::new();
        for (id, open) in self.forwards.open.iter_mut().enumerate() {
            open.peers.retain(|_, peer| now - peer.heard <= LIFE);
            if std::mem::take(&mut open.starved) {
                starved.extend(u64::try_from(id));
            }
        }
        starved.into_iter().for_each(|id| self.forward_event(id));
    }
}

fn socket_address(address: nix::sys::socket::SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|a| SocketAddr::from((a.ip(), a.port())));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| SocketAddr::from((a.ip(), a.port()))))
}
