//! `vxlan://`: a network over UDP that routers and the kernel's vxlan devices speak, RFC 7348.
//!
//! Frames for addresses it does not know go to a multicast group, or to the one host that the
//! locator names; frames for known ones to the host they were heard from. All hosts use the same
//! port, so that a host can have one end of a network: `vxvde://` is for several.
//!
//! `options.rs` reads the locator, `wire.rs` has the bytes, `tunnel.rs` sends and remembers; all
//! three serve `vxvde/` too.

pub(crate) mod options;
pub(crate) mod tunnel;
pub(crate) mod wire;

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsFd,
    sync::Arc,
    time::Instant,
};

use nix::sys::socket::SockaddrStorage;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use self::{
    options::{Dialect, Options, Reach},
    tunnel::{Peers, Tunnel, socket_address},
    wire::HEADER,
};
use crate::{
    batch,
    error::OpenError,
    frame::{Frame, is_tunnelled_length},
    hostnet::{Road, Way},
    reconnect::{Desk, Dial, Link, Lost, Plug, Progress, Watched},
    transport::{Drops, Transport},
    vnl::Vnl,
};

const DIALECT: Dialect = Dialect {
    scheme: "vxlan",
    names: &["port", "vni", "ttl", "v4", "v6", "if", "hashsize", "expiretime", "rcvbuf"],
    port: 4789,
    reach: Reach::GroupsAndHosts,
};

/// Opens `vxlan://[group or host][/option...]`.
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
        let (socket, way) = endpoint(place, &options)?;
        let watched = Watched::new(socket, &desk.epoll)
            .and_then(|socket| Ok((socket, Road::new(way, desk)?)));
        let (socket, road) =
            watched.map_err(OpenError::system(place, "watching the network of this host"))?;
        let tunnel = Tunnel::new(&options);
        Ok(Progress::Connected(Box::new(Endpoint { tunnel, socket, road, options })))
    }
}

/// Makes the socket that sends and receives everything.
fn endpoint(place: &str, options: &Options) -> Result<(UdpSocket, Way), OpenError> {
    let port = options.group.port();
    let socket = prepare(options).map_err(OpenError::system(place, "making a socket"))?;
    socket.bind(&SocketAddr::new(any(options.group), port).into()).map_err(
        OpenError::system_with(place, &format!("binding to UDP port {port}"), bind_remedy),
    )?;
    match join(&socket, options).and_then(|()| way(options)) {
        Ok(way) => Ok((socket.into(), way)),
        Err(error) => Err(match error.raw_os_error() {
            Some(libc::ENETUNREACH | libc::ENODEV | libc::EHOSTUNREACH) => {
                unreachable(place, options)
            }
            _ => OpenError::system(place, "reaching the network")(error),
        }),
    }
}

/// Finds the way to the group or host.
fn way(options: &Options) -> io::Result<Way> {
    if options.is_nameless() {
        return Err(io::Error::from_raw_os_error(libc::ENETUNREACH));
    }
    let probe = prepare(options)?;
    probe.connect(&options.group.into())?;
    Way::of(UdpSocket::from(probe).local_addr()?)
}

fn any(peer: SocketAddr) -> IpAddr {
    match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn bind_remedy(errno: i32) -> Option<&'static str> {
    match errno {
        libc::EADDRINUSE => Some(
            "a host has one end of a vxlan: end the other one, choose another /port=, or use \
             vxvde://",
        ),
        libc::EACCES => Some("choose a /port= from 1024 on"),
        _ => None,
    }
}

fn unreachable(place: &str, options: &Options) -> OpenError {
    let group = options.group;
    let remedy = match (group.ip().is_multicast(), group.is_ipv4()) {
        (true, true) if options.is_nameless() => "give the interface an IPv4 address",
        (true, true) => "name the interface as /if=NAME, or ip route add 239.0.0.0/8 dev NAME",
        (true, false) => "name the interface as /if=NAME",
        (false, _) => "ip route add ADDRESS via ROUTER, or name another host",
    };
    OpenError::Absent {
        place: place.to_owned(),
        problem: format!("no route to {}", group.ip()),
        remedy: remedy.to_owned(),
    }
}

/// Makes a socket with everything that its sending needs.
fn prepare(options: &Options) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(options.group), Type::DGRAM, Some(Protocol::UDP))?;
    if let Some(size) = options.receive_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    socket.set_nonblocking(true)?;
    match options.group {
        SocketAddr::V4(_) => {
            socket.set_multicast_ttl_v4(options.ttl)?;
            socket.set_multicast_loop_v4(false)?;
            if let Some(interface) = &options.interface {
                socket.set_multicast_if_v4(&interface.v4)?;
            }
        }
        SocketAddr::V6(_) => {
            // The same port of IPv4 is another network's.
            socket.set_only_v6(true)?;
            socket.set_multicast_hops_v6(options.ttl)?;
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_if_v6(options.interface_index())?;
        }
    }
    Ok(socket)
}

fn join(socket: &Socket, options: &Options) -> io::Result<()> {
    let index = options.interface_index();
    match options.group {
        SocketAddr::V4(group) if group.ip().is_multicast() => {
            socket.join_multicast_v4_n(group.ip(), &InterfaceIndexOrAddress::Index(index))
        }
        SocketAddr::V6(group) if group.ip().is_multicast() => {
            socket.join_multicast_v6(group.ip(), index)
        }
        _ => Ok(()),
    }
}

/// The end of a VXLAN network on this host.
#[derive(Debug)]
struct Endpoint {
    tunnel: Tunnel,
    socket: Watched<UdpSocket>,
    road: Road,
    options: Options,
}

/// Whether a datagram is an own multicast: only the loopback interface echoes them.
fn is_own(sender: SocketAddr, port: u16) -> bool {
    sender.port() == port && sender.ip().is_loopback()
}

/// Follows a datagram from another host; returns its frame, or None if it is not for us.
///
/// Where the datagram came from says nothing about the port its sender listens at: that is
/// `port`, the one of the network.
pub(crate) fn hear<'a>(
    peers: &mut Peers,
    header: &[u8; HEADER],
    datagram: &'a [u8],
    mut sender: SocketAddr,
    port: u16,
    now: u32,
) -> Option<&'a [u8]> {
    let frame = wire::decode(datagram, header).filter(|frame| is_tunnelled_length(frame.len()))?;
    sender.set_port(port);
    peers.learn(frame, sender, now);
    Some(frame)
}

impl Link for Endpoint {
    fn send(&self, frames: &mut Vec<Frame>, drops: &Drops) {
        self.tunnel.send(&self.socket, frames, drops);
    }

    fn receive(
        &self,
        into: &mut VecDeque<Frame>,
        budget: usize,
        drops: &Drops,
    ) -> Result<usize, Lost> {
        let Tunnel { group, header, .. } = &self.tunnel;
        let now = self.tunnel.now();
        let before = into.len();
        loop {
            let left = budget - (into.len() - before);
            let mut peers = self.tunnel.peers();
            let mut handle = |bytes: &[u8], sender: Option<SockaddrStorage>| {
                let Some(sender) = sender.as_ref().and_then(socket_address) else {
                    return drops.add(1);
                };
                if is_own(sender, group.port()) {
                    return;
                }
                match hear(&mut peers, header, bytes, sender, group.port(), now) {
                    Some(frame) => match Frame::from_tunnel(frame.to_vec()) {
                        Some(frame) => into.push_back(frame),
                        None => drops.add(1),
                    },
                    None => drops.add(1),
                }
            };
            let received = batch::receive_long(self.socket.as_fd(), left, &mut handle);
            let count = into.len() - before;
            match received {
                Ok(received) if received.more && count < budget => {}
                // What was read must not be lost; the error shows again at the next call.
                Err(error) if count == 0 => return Err(error.desc().into()),
                _ => return Ok(count),
            }
        }
    }

    fn check(&self, _now: Instant) -> Result<(), Lost> {
        self.road.check(|| way(&self.options))
    }

    fn carrier(&self) -> bool {
        self.road.is_open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group_of(text: &str) -> String {
        let options = Options::of(&text.parse().expect("a locator"), &DIALECT);
        options.map(|o| o.group.to_string()).unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_reference() {
        let options = Options::of(&"vxlan://".parse().expect("a locator"), &DIALECT);
        let options = options.expect("no parameter is needed");
        assert_eq!(
            (options.group, options.vni, options.ttl),
            ("239.0.0.1:4789".parse().expect("an address"), 1, 1,)
        );
        assert_eq!((options.table_size, options.expiry), (1024, 128));
        assert_eq!(group_of("vxlan:///v6"), "[ff05:56de::1]:4789");
        assert_eq!(group_of("vxlan://ff15::3/port=12345/vni=42"), "[ff15::3]:12345");
    }

    #[test]
    fn a_host_may_stand_in_for_a_group() {
        assert_eq!(group_of("vxlan://192.0.2.7/po=8472"), "192.0.2.7:8472");
        assert_eq!(group_of("vxlan://[2001:db8::1]"), "[2001:db8::1]:4789");
    }

    #[test]
    fn parameters_of_distributed_switches_are_refused() {
        assert_eq!(
            group_of("vxlan:///grp=7"),
            "vxlan://: no parameter `grp` (there are: port, vni, ttl, v4, v6, if, hashsize, \
             expiretime, rcvbuf)"
        );
    }

    #[test]
    fn owners_are_answered_at_the_port_of_the_network() {
        let mut peers = Peers::small();
        let header = wire::header(1);
        let frame = [[2; 6], [4; 6]].concat();
        let datagram = [&header[..], &frame, &[8, 0, 1]].concat();
        let sender = SocketAddr::from(([192, 0, 2, 1], 50_000));
        assert!(hear(&mut peers, &header, &datagram, sender, 4789, 0).is_some());
        let answer = [[4; 6], [2; 6]].concat();
        assert_eq!(peers.of(&answer, 1), Some(SocketAddr::from(([192, 0, 2, 1], 4789))));
        assert_eq!(peers.of(&answer, 121), None, "forgotten after a while");
        assert!(hear(&mut peers, &wire::header(2), &datagram, sender, 4789, 0).is_none());
        assert!(hear(&mut peers, &header, &header, sender, 4789, 0).is_none(), "no frame");
    }
}
