//! `udp://`: a cable between two hosts, one frame per UDP datagram.
//!
//! The address is `[host:]port->host:port`, as `udp://2000->b.example.org:3000` on one side and
//! `udp://3000->a.example.org:2000` on the other. Nothing is encrypted, and datagrams from other
//! senders are ignored.
//!
//! When the other host, or a router, says that nobody is there, the carrier is lost, and the plug
//! asks from time to time; it is lost too while no way leads there. A host that is silent because
//! nothing is sent to it cannot be told from one that is gone.
//!
//! Lock: the peer, held while nothing else happens.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket},
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    batch,
    error::OpenError,
    frame::Frame,
    hostnet::{Road, Way},
    reconnect::{Backoff, Desk, Dial, HEARTBEAT, LOCAL, Link, Lost, Plug, Progress, Watched},
    transport::{Drops, Transport},
    vnl::Vnl,
};

/// How soon somebody would say that nobody is there.
const VERDICT: Duration = Duration::from_millis(500);

/// Opens `udp://[host:]port->host:port`.
pub(crate) fn open(vnl: &Vnl, _description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    vnl.parameters.resolve("udp", &[])?;
    let place = vnl.to_string();
    let Some((source, destination)) = vnl.path.split_once("->") else {
        return Err(malformed(&place));
    };
    let destination = resolve(&place, destination, None)?;
    let source = resolve(&place, source, Some(destination))?;
    let ends = Ends { place: place.clone(), source, destination };
    Ok(Arc::new(Plug::open(&place, ends)?))
}

/// The addresses of the cable.
#[derive(Debug)]
struct Ends {
    place: String,
    source: SocketAddr,
    destination: SocketAddr,
}

impl Dial for Ends {
    fn dial(&self, desk: &Desk) -> Result<Progress, OpenError> {
        let Self { place, source, destination } = self;
        let socket = UdpSocket::bind(source)
            .map_err(OpenError::system(place, &format!("binding to {source}")))?;
        let prepared = socket.connect(destination).and_then(|()| socket.set_nonblocking(true));
        let way = prepared
            .and_then(|()| Way::of(socket.local_addr()?))
            .map_err(OpenError::system(place, &format!("connecting to {destination}")))?;
        let watched = Watched::new(socket, &desk.epoll)
            .and_then(|socket| Ok((socket, Road::new(way, desk)?)));
        let (socket, road) =
            watched.map_err(OpenError::system(place, "watching the network of this host"))?;
        let (source, destination) = (source.ip(), *destination);
        let peer = Mutex::new(Peer::There);
        Ok(Progress::Connected(Box::new(UdpCable { socket, road, source, destination, peer })))
    }
}

/// Resolves `host:port`; for the near end the host may be missing, the family is the peer's.
fn resolve(place: &str, text: &str, peer: Option<SocketAddr>) -> Result<SocketAddr, OpenError> {
    let any = || peer.map(|peer| if peer.is_ipv4() { "0.0.0.0" } else { "::" });
    let (host, port) = match text.rsplit_once(':') {
        Some(("", port)) => (any(), port),
        Some((host, port)) => (Some(host), port),
        None => (any(), text),
    };
    let (Some(host), Ok(port)) = (host, port.parse::<u16>()) else {
        return Err(malformed(place));
    };
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let mut found = (host, port).to_socket_addrs().map_err(|_| unknown_host(place, host))?;
    let of_family = |a: &SocketAddr| peer.is_none_or(|peer| peer.is_ipv4() == a.is_ipv4());
    found.find(of_family).ok_or_else(|| unknown_host(place, host))
}

fn malformed(place: &str) -> OpenError {
    OpenError::Refused {
        place: place.to_owned(),
        problem: "should be udp://[host:]port->host:port, \
                  for example udp://2000->192.0.2.1:3000"
            .to_owned(),
        errno: libc::EINVAL,
    }
}

fn unknown_host(place: &str, host: &str) -> OpenError {
    let problem = format!("no address of {host} fits");
    OpenError::Refused { place: place.to_owned(), problem, errno: libc::EADDRNOTAVAIL }
}

/// What is known of the other end. UDP has no connection that would end.
#[derive(Debug)]
enum Peer {
    /// Nothing speaks against it.
    There,
    /// Its host, or a router, says no. At `next` it is asked again, or, if it `was_asked` and
    /// nobody says no any more, believed to be there.
    Gone { backoff: Backoff, next: Instant, was_asked: bool },
}

impl Peer {
    fn refused(&mut self, now: Instant) {
        match self {
            Self::There => {
                let mut backoff = Backoff::new(LOCAL);
                *self = Self::Gone { next: now + backoff.failed(), backoff, was_asked: false };
            }
            Self::Gone { backoff, next, was_asked } if *was_asked => {
                *was_asked = false;
                *next = now + backoff.failed();
            }
            Self::Gone { .. } => {}
        }
    }

    /// Returns whether to ask now.
    fn turn(&mut self, now: Instant) -> bool {
        match self {
            Self::Gone { next, .. } if now < *next => false,
            Self::Gone { was_asked: true, .. } => {
                *self = Self::There;
                false
            }
            Self::Gone { next, was_asked, .. } => {
                *was_asked = true;
                *next = now + VERDICT;
                true
            }
            Self::There => false,
        }
    }
}

#[derive(Debug)]
struct UdpCable {
    socket: Watched<UdpSocket>,
    road: Road,
    source: IpAddr,
    destination: SocketAddr,
    peer: Mutex<Peer>,
}

impl UdpCable {
    fn transmit(&self, packets: &[Vec<u8>], drops: &Drops) {
        let sent = batch::send_all(self.socket.as_fd(), packets.iter(), drops);
        drops.add(packets.len() - sent.done);
        if sent.refusal.is_some_and(batch::is_from_afar) {
            self.peer.lock().refused(Instant::now());
        }
    }

    fn way(&self) -> io::Result<Way> {
        let probe = UdpSocket::bind((self.source, 0))?;
        probe.connect(self.destination)?;
        Way::of(probe.local_addr()?)
    }
}

/// A frame that nobody minds: for the next bridge only, of a protocol that tests links (ECTP).
fn question() -> Vec<u8> {
    let mut frame = vec![0x01, 0x80, 0xc2, 0, 0, 0x03, 0x02, 0, 0, 0, 0, 0x01, 0x90, 0x00];
    frame.resize(60, 0);
    frame
}

impl Link for UdpCable {
    fn send(&self, frames: &mut Vec<Frame>, drops: &Drops) {
        // Also to one who is gone: it may be back, and this is how to learn it.
        self.transmit(&batch::wire_ready(frames, drops), drops);
    }

    fn receive(
        &self,
        into: &mut VecDeque<Frame>,
        budget: usize,
        drops: &Drops,
    ) -> Result<usize, Lost> {
        let mut push = |frame| into.push_back(frame);
        match batch::receive_frames(self.socket.as_fd(), budget, drops, &mut push) {
            Ok(0) => Ok(0),
            Ok(count) => {
                *self.peer.lock() = Peer::There;
                Ok(count)
            }
            Err(error) if batch::is_from_afar(error) => {
                self.peer.lock().refused(Instant::now());
                Ok(0)
            }
            Err(error) => Err(error.desc().into()),
        }
    }

    fn check(&self, now: Instant) -> Result<(), Lost> {
        self.road.check(|| self.way())?;
        let asks = self.peer.lock().turn(now);
        if asks {
            self.transmit(&[question()], &Drops::default());
        }
        Ok(())
    }

    fn carrier(&self) -> bool {
        matches!(*self.peer.lock(), Peer::There) && self.road.is_open()
    }

    fn due(&self, now: Instant) -> Instant {
        match &*self.peer.lock() {
            Peer::There => now + HEARTBEAT,
            Peer::Gone { next, .. } => *next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_are_understood() {
        let peer = resolve("udp", "127.0.0.1:3000", None).expect("an address");
        assert_eq!(resolve("udp", "2000", Some(peer)).ok(), "0.0.0.0:2000".parse().ok());
        assert_eq!(resolve("udp", ":2000", Some(peer)).ok(), "0.0.0.0:2000".parse().ok());
        let peer = resolve("udp", "[::1]:3000", None).expect("an address");
        assert_eq!(resolve("udp", "2000", Some(peer)).ok(), "[::]:2000".parse().ok());
        assert!(resolve("udp", "127.0.0.1:2000", Some(peer)).is_err());
    }

    #[test]
    fn a_peer_that_is_gone_is_asked_less_and_less_until_nobody_says_no() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut peer = Peer::There;
        assert!(!peer.turn(at(0)));
        peer.refused(at(0));
        // Several frames were refused, one after the other.
        peer.refused(at(1));
        assert!(!peer.turn(at(99)) && peer.turn(at(100)) && !peer.turn(at(100)));
        peer.refused(at(110));
        assert!(!peer.turn(at(309)) && peer.turn(at(310)));
        assert!(!peer.turn(at(809)) && matches!(peer, Peer::Gone { .. }));
        assert!(!peer.turn(at(810)) && matches!(peer, Peer::There));
        assert_eq!(question().len(), 60);
    }

    #[test]
    fn malformed_addresses_show_a_right_one() {
        for place in ["udp://", "udp://2000", "udp://x->y", "udp://1->", "udp://1->2"] {
            let error = crate::open(place, "test").expect_err(place);
            assert!(error.to_string().contains("for example udp://2000->"), "{error}");
        }
    }
}
