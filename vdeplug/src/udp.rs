//! `udp://`: a cable between two hosts, one frame per UDP datagram.
//!
//! The address is `[host:]port->host:port`, as `udp://2000->b.example.org:3000` on one side and
//! `udp://3000->a.example.org:2000` on the other. Nothing is encrypted, and datagrams from other
//! senders are ignored.

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, ToSocketAddrs, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use nix::errno::Errno;

use crate::{
    batch,
    error::OpenError,
    frame::Frame,
    transport::{Drops, Transport, Waker},
    vnl::Vnl,
};

/// Opens `udp://[host:]port->host:port`.
pub(crate) fn open(vnl: &Vnl, _description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    vnl.parameters.resolve("udp", &[])?;
    let place = vnl.to_string();
    let Some((source, destination)) = vnl.path.split_once("->") else {
        return Err(malformed(&place));
    };
    let destination = resolve(&place, destination, None)?;
    let source = resolve(&place, source, Some(destination))?;
    let socket = UdpSocket::bind(source)
        .map_err(OpenError::system(&place, &format!("binding to {source}")))?;
    let prepared = socket.connect(destination).and_then(|()| socket.set_nonblocking(true));
    prepared.map_err(OpenError::system(&place, &format!("connecting to {destination}")))?;
    Ok(Arc::new(UdpCable { socket, drops: Drops::default() }))
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

#[derive(Debug)]
struct UdpCable {
    socket: UdpSocket,
    drops: Drops,
}

impl Transport for UdpCable {
    fn send(&self, frames: &mut Vec<Frame>) {
        let packets = batch::wire_ready(frames, &self.drops);
        let done = batch::send_all(self.socket.as_fd(), packets.iter(), &self.drops);
        self.drops.add(packets.len() - done);
    }

    fn receive(&self, into: &mut VecDeque<Frame>, budget: usize) -> io::Result<usize> {
        let mut push = |frame| into.push_back(frame);
        let received = batch::receive_frames(self.socket.as_fd(), budget, &self.drops, &mut push);
        match received {
            Ok(count) => Ok(count),
            // An ICMP error for a frame sent earlier: the peer may yet start.
            Err(Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn set_waker(&self, _waker: Waker) {}

    fn drops(&self) -> u64 {
        self.drops.get()
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
    fn malformed_addresses_show_a_right_one() {
        for place in ["udp://", "udp://2000", "udp://x->y", "udp://1->", "udp://1->2"] {
            let error = crate::open(place, "test").expect_err(place);
            assert!(error.to_string().contains("for example udp://2000->"), "{error}");
        }
    }
}
