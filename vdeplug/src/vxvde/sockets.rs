//! The sockets of a distributed switch.
//!
//! One listens to the group, at a port that all members share. Another has an ephemeral port,
//! sends everything and receives what is for this member alone; its address is the member's name.
//! The third listens at the shared port of this host, for the devices of kernels, which know no
//! other; of several members on a host the last one hears it.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use crate::{error::OpenError, hostnet::Way, vxlan::options::Options};

/// The sockets, non-blocking.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) group: UdpSocket,
    pub(crate) own: UdpSocket,
    /// None: somebody else has the port.
    pub(crate) host: Option<UdpSocket>,
    pub(crate) own_port: u16,
}

impl Sockets {
    /// Joins the group; returns the way to it too.
    pub(crate) fn open(place: &str, options: &Options) -> Result<(Self, Way), OpenError> {
        let failed = |action| {
            let no_route = absent(place, options);
            move |error: io::Error| match error.raw_os_error() {
                Some(libc::ENETUNREACH | libc::ENODEV | libc::EHOSTUNREACH) => no_route,
                _ => OpenError::system(place, action)(error),
            }
        };
        let group = listen(options).map_err(failed("joining the multicast group"))?;
        let own = speak(options).map_err(failed("making a socket to send with"))?;
        let way = way(options).map_err(failed("finding a route to the group"))?;
        let address = own.local_addr().map_err(failed("reading the own address"))?;
        let host = listen_at_host(options).ok();
        Ok((Self { group, own, host, own_port: address.port() }, way))
    }
}

/// Finds the way to the group.
pub(crate) fn way(options: &Options) -> io::Result<Way> {
    if options.is_nameless() {
        return Err(io::Error::from_raw_os_error(libc::ENETUNREACH));
    }
    let probe = speak(options)?;
    probe.connect(options.group)?;
    Way::of(probe.local_addr()?)
}

fn absent(place: &str, options: &Options) -> OpenError {
    let route = if options.is_nameless() {
        "give the interface an IPv4 address"
    } else if options.group.is_ipv4() {
        "ip route add 239.0.0.0/8 dev lo"
    } else {
        "ip -6 route add local ff05::/16 dev lo"
    };
    OpenError::Absent {
        place: place.to_owned(),
        problem: "no multicast route".to_owned(),
        remedy: format!("{route}, or run in a namespace of its own"),
    }
}

fn socket(options: &Options) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(options.group), Type::DGRAM, Some(Protocol::UDP))?;
    if let Some(size) = options.receive_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn listen(options: &Options) -> io::Result<UdpSocket> {
    let socket = socket(options)?;
    socket.set_reuse_address(true)?;
    socket.bind(&options.group.into())?;
    let index = options.interface_index();
    match options.group {
        SocketAddr::V4(group) => {
            socket.join_multicast_v4_n(group.ip(), &InterfaceIndexOrAddress::Index(index))?;
        }
        SocketAddr::V6(group) => socket.join_multicast_v6(group.ip(), index)?,
    }
    Ok(socket.into())
}

/// Listens at the port of the network for what is sent to an address of this host.
fn listen_at_host(options: &Options) -> io::Result<UdpSocket> {
    let socket = socket(options)?;
    socket.set_reuse_address(true)?;
    let any = match options.group {
        SocketAddr::V4(_) => {
            socket.set_multicast_all_v4(false)?;
            Ipv4Addr::UNSPECIFIED.into()
        }
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_multicast_all_v6(false)?;
            Ipv6Addr::UNSPECIFIED.into()
        }
    };
    let address = options.bind.unwrap_or(any);
    socket.bind(&SocketAddr::new(address, options.group.port()).into())?;
    Ok(socket.into())
}

fn speak(options: &Options) -> io::Result<UdpSocket> {
    let socket = socket(options)?;
    let any = match options.group {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    match options.group {
        SocketAddr::V4(_) => {
            // Zero is not a TTL that unicast datagrams can have.
            socket.set_ttl_v4(options.ttl.max(1))?;
            socket.set_multicast_ttl_v4(options.ttl)?;
            if let Some(interface) = &options.interface {
                socket.set_multicast_if_v4(&interface.v4)?;
            }
        }
        SocketAddr::V6(_) => {
            socket.set_multicast_hops_v6(options.ttl)?;
            socket.set_multicast_if_v6(options.interface_index())?;
        }
    }
    socket.bind(&SocketAddr::new(options.bind.unwrap_or(any), 0).into())?;
    // Who is not there says so, see `hosts.rs`.
    match options.group {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
    }
    Ok(socket.into())
}
