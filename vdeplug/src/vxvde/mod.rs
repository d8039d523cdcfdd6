//! `vxvde://`: a switch without a switch, distributed over the members of a multicast group.
//!
//! A member sends frames for addresses it does not know to the group and frames for known ones to
//! the member that owns them; it knows from whom it has heard. Its own multicasts come back and
//! are ignored: they have its own port and an address of this host.
//!
//! `sockets.rs` joins the group, `wire.rs` has the bytes, `hosts.rs` knows who is a kernel; the options, the sending half and the
//! framing are those of `vxlan/`.
//!
//! Locks: the peers, then the hosts.

pub(crate) mod hosts;
mod sockets;
mod wire;

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd},
    sync::Arc,
    time::Instant,
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, SockaddrStorage, recvmsg},
};
use parking_lot::Mutex;

use self::{
    hosts::{Entrance, Hosts},
    sockets::Sockets,
    wire::Message,
};
use crate::{
    batch,
    error::OpenError,
    frame::{Frame, is_tunnelled_length},
    hostnet::Road,
    reconnect::{Desk, Dial, Link, Lost, Plug, Progress, Watched},
    transport::{Drops, Transport},
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
    Ok(Arc::new(Plug::open(&place, Network { place: place.clone(), options })?))
}

/// What the locator says.
#[derive(Debug)]
struct Network {
    place: String,
    options: Options,
}

impl Dial for Network {
    fn dial(&self, desk: &Desk) -> Result<Progress, OpenError> {
        let place = &self.place;
        let options = self.options.refreshed(place)?;
        let (Sockets { group, own, host, own_port }, way) = Sockets::open(place, &options)?;
        let watch = || {
            let (group, own) = (Watched::new(group, &desk.epoll)?, Watched::new(own, &desk.epoll)?);
            let host = host.map(|host| Watched::new(host, &desk.epoll)).transpose()?;
            Ok::<_, Errno>((group, own, host, Road::new(way, desk)?))
        };
        let (group, own, host, road) =
            watch().map_err(OpenError::system(place, "watching the network of this host"))?;
        Ok(Progress::Connected(Box::new(Member {
            tunnel: Tunnel::new(&options),
            group,
            own,
            host,
            own_port,
            road,
            options,
            hosts: Mutex::default(),
            own_address: Mutex::new(None),
        })))
    }
}

/// A member of a distributed switch.
#[derive(Debug)]
struct Member {
    tunnel: Tunnel,
    group: Watched<UdpSocket>,
    own: Watched<UdpSocket>,
    host: Option<Watched<UdpSocket>>,
    own_port: u16,
    road: Road,
    options: Options,
    hosts: Mutex<Hosts>,
    /// An address of this host from which own multicasts were seen to come.
    own_address: Mutex<Option<IpAddr>>,
}

impl Member {
    /// Reads up to `budget` datagrams; returns whether there may be more.
    fn receive_from(
        &self,
        (entrance, socket): (Entrance, &UdpSocket),
        into: &mut VecDeque<Frame>,
        budget: usize,
        drops: &Drops,
    ) -> nix::Result<bool> {
        let now = self.tunnel.now();
        let mut peers = self.tunnel.peers();
        let mut hosts = self.hosts.lock();
        let port = self.tunnel.group.port();
        let mut handle = |bytes: &[u8], sender: Option<SockaddrStorage>| {
            let Some(sender) = sender.as_ref().and_then(socket_address) else {
                return drops.add(1);
            };
            if self.is_own(sender) {
                return;
            }
            let answer = |hosts: &mut Hosts| hosts.answer_to(sender, entrance, port, now);
            let mut learn = |frame: &[u8], peers: &mut Peers| {
                if let Some(peer) = answer(&mut hosts) {
                    peers.learn(frame, peer, now);
                }
            };
            match hear(&mut peers, &self.tunnel.header, bytes, sender, &mut learn) {
                Heard::Frame(frame) => match Frame::from_tunnel(frame.to_vec()) {
                    Some(frame) => into.push_back(frame),
                    None => drops.add(1),
                },
                Heard::Farewell => {}
                Heard::Garbage => drops.add(1),
            }
        };
        match batch::receive_long(socket.as_fd(), budget, &mut handle) {
            Ok(received) => Ok(received.more),
            // Said of what was sent; what came is still there.
            Err(error) if batch::is_from_afar(error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Reads who was not where a datagram was sent to.
    fn hear_refusals(&self) {
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let own = self.own.as_raw_fd();
        // What the queue holds does not concern the datagrams that come.
        while let Ok(refusal) = recvmsg::<SockaddrStorage>(own, &mut [], None, flags) {
            if let Some(peer) = refusal.address.as_ref().and_then(socket_address) {
                self.tunnel.peers().forget(peer);
                self.hosts.lock().refused(peer.ip(), self.tunnel.now());
            }
        }
    }

    /// Whether a datagram is one that we multicast ourselves.
    fn is_own(&self, sender: SocketAddr) -> bool {
        if sender.port() != self.own_port {
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
    learn: &mut dyn FnMut(&[u8], &mut Peers),
) -> Heard<'a> {
    match wire::decode(datagram, header) {
        Some(Message::Close) => {
            peers.forget(sender);
            Heard::Farewell
        }
        Some(Message::Frame(frame)) if is_tunnelled_length(frame.len()) => {
            learn(frame, peers);
            Heard::Frame(frame)
        }
        _ => Heard::Garbage,
    }
}

impl Link for Member {
    fn send(&self, frames: &mut Vec<Frame>, drops: &Drops) {
        self.tunnel.send(&self.own, frames, drops);
    }

    fn receive(
        &self,
        into: &mut VecDeque<Frame>,
        budget: usize,
        drops: &Drops,
    ) -> Result<usize, Lost> {
        let before = into.len();
        // A share for each, so that no socket starves another.
        let host = self.host.as_ref().map(|host| (Entrance::Host, &**host));
        let mut sockets =
            [Some((Entrance::Own, &*self.own)), Some((Entrance::Group, &*self.group)), host];
        while sockets.iter().any(Option::is_some) && into.len() - before < budget {
            for slot in &mut sockets {
                let left = budget - (into.len() - before);
                let Some(socket) = *slot else { continue };
                match self.receive_from(socket, into, left.div_ceil(2), drops) {
                    Ok(true) => {}
                    // What was read must not be lost; the error shows again at the next call.
                    Err(error) if into.len() == before => return Err(error.desc().into()),
                    Ok(false) | Err(_) => *slot = None,
                }
            }
        }
        Ok(into.len() - before)
    }

    fn check(&self, _now: Instant) -> Result<(), Lost> {
        self.hear_refusals();
        self.road.check(|| sockets::way(&self.options))
    }

    fn carrier(&self) -> bool {
        self.road.is_open()
    }
}

impl Drop for Member {
    /// Tells the others to forget us.
    fn drop(&mut self) {
        let _ = self.own.send_to(&self.tunnel.header, self.tunnel.group);
    }
}
