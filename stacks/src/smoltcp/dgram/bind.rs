//! Names of datagram sockets: bind, connect, getsockname, getpeername, close.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use umvu_abi::{
    Errno, SockAddr,
    sockaddr::{AF_INET, AF_INET6, AF_PACKET, LinkAddr},
};

use super::{
    super::{
        address::{bind_target, connect_target, scope_of, scoped},
        inner::Inner,
        net::marked,
        ports::{Holder, Host},
        sockopt::Class,
    },
    Dgram, DgramId,
    packet::PacketBinding,
};

impl Inner {
    /// Adds a socket to the tables of its class.
    pub(crate) fn dgram_insert(&mut self, sock: Dgram) -> DgramId {
        let class = sock.class;
        let id = self.dgrams.socks.insert(sock);
        match class {
            Class::Raw => self.dgrams.raws.push(id),
            Class::Packet => self.dgrams.taps.push(id),
            _ => {}
        }
        id
    }

    /// bind(2).
    pub(crate) fn dgram_bind(&mut self, id: DgramId, addr: &SockAddr) -> Result<(), Errno> {
        let sock = self.dgrams.socks.get(id).ok_or(Errno::EBADF)?;
        if sock.class == Class::Packet {
            return self.packet_bind(id, addr);
        }
        if sock.port() != 0 && sock.class != Class::Raw {
            return Err(Errno::EINVAL);
        }
        let (host, port) = bind_target(addr, sock.family, sock.options.v6_only())?;
        let scope = scope_of(addr, 0)?;
        if !sock.options.binds_freely() && host.ip().is_some_and(|ip| !self.may_bind(ip)) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        if let (Some(scope), Some(sock)) = (scope, self.dgrams.socks.get_mut(id)) {
            sock.options.set_device(scope);
        }
        let sock = self.dgrams.socks.get(id).ok_or(Errno::EBADF)?;
        let automatic = port == 0;
        let bound = if automatic && sock.class.has_ports() && sock.options.binds_no_port() {
            0
        } else {
            self.dgram_take_port(id, host, port)?
        };
        if let Some(sock) = self.dgrams.socks.get_mut(id) {
            sock.bound = Some((host, bound));
            sock.automatic = automatic;
        }
        Ok(())
    }

    fn packet_bind(&mut self, id: DgramId, addr: &SockAddr) -> Result<(), Errno> {
        let link = match addr {
            SockAddr::Packet(link) => *link,
            SockAddr::Device(device) => {
                LinkAddr { ifindex: self.device_named(device)?, ..LinkAddr::default() }
            }
            _ => return Err(Errno::EINVAL),
        };
        if link.ifindex != 0 && !self.links.iter().any(|entry| entry.index == link.ifindex) {
            return Err(Errno::ENODEV);
        }
        let sock = self.dgrams.socks.get_mut(id).ok_or(Errno::EBADF)?;
        let protocol = if link.protocol == 0 { sock.packet.protocol } else { link.protocol };
        sock.packet = PacketBinding { protocol, ifindex: link.ifindex };
        Ok(())
    }

    fn dgram_take_port(&mut self, id: DgramId, host: Host, port: u16) -> Result<u16, Errno> {
        let sock = self.dgrams.socks.get(id).ok_or(Errno::EBADF)?;
        let sharing = sock.options.sharing(false);
        let holder = Holder { owner: id.number(), host, device: sock.options.device(), sharing };
        let v6 = sock.family == AF_INET6;
        match sock.class {
            class @ (Class::Udp | Class::UdpLite) => {
                let range = self.net.port_range();
                let table = self.dgrams.udp_mut(class);
                let port = if port == 0 {
                    table.ports.take_any(range, holder, &mut self.rng, |_| true)?
                } else {
                    table.ports.take(port, holder)?;
                    port
                };
                table.socks.entry(port).or_default().push(id);
                Ok(port)
            }
            Class::Ping => {
                let ident = if port == 0 { self.free_ident(v6)? } else { port };
                if self.dgrams.pings.contains_key(&(v6, ident)) {
                    return Err(Errno::EADDRINUSE);
                }
                self.dgrams.pings.insert((v6, ident), id);
                Ok(ident)
            }
            _ => Ok(0),
        }
    }

    fn free_ident(&mut self, v6: bool) -> Result<u16, Errno> {
        let start = self.rng.next16();
        (0..=u16::MAX)
            .map(|step| start.wrapping_add(step))
            .find(|ident| *ident != 0 && !self.dgrams.pings.contains_key(&(v6, *ident)))
            .ok_or(Errno::EADDRINUSE)
    }

    /// Gives an unbound socket a port, as the first send does.
    pub(crate) fn dgram_autobind(&mut self, id: DgramId) -> Result<(), Errno> {
        let sock = self.dgrams.socks.get(id).ok_or(Errno::EBADF)?;
        if sock.port() != 0 || matches!(sock.class, Class::Raw | Class::Packet) {
            return Ok(());
        }
        let host = sock.bound.map_or(any_host(sock), |(host, _)| host);
        let port = self.dgram_take_port(id, host, 0)?;
        if let Some(sock) = self.dgrams.socks.get_mut(id) {
            sock.bound = Some((host, port));
            sock.automatic = true;
        }
        Ok(())
    }

    /// connect(2).
    pub(crate) fn dgram_connect(
        &mut self,
        id: DgramId,
        addr: Option<&SockAddr>,
    ) -> Result<(), Errno> {
        let sock = self.dgrams.socks.get_mut(id).ok_or(Errno::EBADF)?;
        let Some(addr) = addr.filter(|addr| !matches!(addr, SockAddr::Unspec)) else {
            sock.peer = None;
            sock.source = None;
            if sock.automatic && sock.class != Class::Raw {
                // Nobody has asked for the port; an address that bind(2) named stays.
                let (class, family, port) = (sock.class, sock.family, sock.port());
                sock.automatic = false;
                sock.bound = sock.bound.filter(|(host, _)| host.ip().is_some());
                sock.bound = sock.bound.map(|(host, _)| (host, 0));
                self.dgram_leave_port(id, class, family, port);
            }
            return Ok(());
        };
        if sock.class == Class::Packet {
            return Err(Errno::EOPNOTSUPP);
        }
        self.dgram_autobind(id)?;
        let sock = self.dgrams.socks.get_mut(id).ok_or(Errno::EBADF)?;
        let remote = connect_target(addr, sock.family, sock.options.v6_only())?;
        let wanted = sock.bound.and_then(|(host, _)| host.ip());
        let mut device = sock.options.device();
        if device == 0 && remote.ip().is_multicast() && remote.is_ipv6() {
            device = sock.group_device(true);
        }
        if let Some(scope) = scope_of(addr, device)? {
            sock.options.set_device(scope);
        }
        let broadcasts = sock.options.flag(libc::SOL_SOCKET, libc::SO_BROADCAST);
        let (wanted, device) = sock.by_group(remote.ip(), wanted, sock.options.device());
        let flow = marked(remote.ip(), wanted, device, sock.options.mark());
        let hop = self.route_flow(&flow)?;
        if hop.kind == super::super::net::HopKind::Broadcast && !broadcasts {
            return Err(Errno::EACCES);
        }
        if let Some(sock) = self.dgrams.socks.get_mut(id) {
            sock.peer = Some(remote);
            sock.source = Some(wanted.unwrap_or(hop.source));
            sock.error = None;
            // `__ip6_datagram_connect`: a socket that is bound to the mapped wildcard is bound to
            // the address from then on.
            if sock.family == AF_INET6
                && let Some((host @ Host::AnyV4, _)) = &mut sock.bound
            {
                *host = Host::One(hop.source);
            }
        }
        Ok(())
    }

    /// getsockname(2).
    pub(crate) fn dgram_local(&self, id: DgramId) -> Result<SockAddr, Errno> {
        let sock = self.dgrams.socks.get(id).ok_or(Errno::EBADF)?;
        if sock.class == Class::Packet {
            let name = self.packet_name(sock.packet);
            if sock.names_devices() {
                let device = self.device_addr(name.ifindex, AF_PACKET);
                return Ok(SockAddr::Device(device));
            }
            return Ok(SockAddr::Packet(name));
        }
        let mapped = sock.bound.is_some_and(|(host, _)| host == Host::AnyV4);
        let any: IpAddr = if sock.family == AF_INET6 && !mapped {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let ip = sock.bound.and_then(|(host, _)| host.ip()).or(sock.source).unwrap_or(any);
        let port = match sock.class {
            Class::Raw => u16::try_from(sock.options.protocol()).unwrap_or(0),
            _ => sock.port(),
        };
        Ok(scoped(SocketAddr::new(ip, port), sock.options.device()).mapped_to(sock.family))
    }

    fn packet_name(&self, binding: PacketBinding) -> LinkAddr {
        let link = self.links.iter().find(|link| link.index == binding.ifindex);
        link.map_or(LinkAddr { protocol: binding.protocol, ..LinkAddr::default() }, |link| {
            super::packet::link_addr(link, binding.protocol, link.mac, 0)
        })
    }

    /// getpeername(2).
    pub(crate) fn dgram_peer(&self, id: DgramId) -> Result<SockAddr, Errno> {
        let sock = self.dgrams.socks.get(id).ok_or(Errno::EBADF)?;
        if sock.class == Class::Packet {
            return Err(Errno::EOPNOTSUPP);
        }
        if sock.class == Class::Packet {
            return Err(Errno::EOPNOTSUPP);
        }
        // Linux takes the port for the sign of a connection.
        let peer = sock.peer.filter(|peer| peer.port() != 0);
        let peer = peer.ok_or(Errno::ENOTCONN)?;
        Ok(scoped(peer, sock.options.device()).mapped_to(sock.family))
    }

    /// Gives back what leads packets to a socket.
    fn dgram_leave_port(&mut self, id: DgramId, class: Class, family: u16, port: u16) {
        match class {
            Class::Udp | Class::UdpLite => {
                let table = self.dgrams.udp_mut(class);
                table.ports.release(port, id.number());
                if let Some(list) = table.socks.get_mut(&port) {
                    list.retain(|other| *other != id);
                    if list.is_empty() {
                        table.socks.remove(&port);
                    }
                }
            }
            Class::Ping => {
                let key = (family == AF_INET6, port);
                if self.dgrams.pings.get(&key) == Some(&id) {
                    self.dgrams.pings.remove(&key);
                }
            }
            Class::Raw => self.dgrams.raws.retain(|other| *other != id),
            Class::Packet => self.dgrams.taps.retain(|other| *other != id),
            Class::Stream => {}
        }
    }

    /// The guest's last reference is gone.
    pub(crate) fn dgram_close(&mut self, id: DgramId) {
        let Some(sock) = self.dgrams.socks.remove(id) else { return };
        self.dgrams.queued = self.dgrams.queued.saturating_sub(sock.queued);
        self.dgram_leave_port(id, sock.class, sock.family, sock.port());
        for member in sock.groups {
            self.leave_group(member.link(), member.group());
        }
    }
}

fn any_host(sock: &Dgram) -> Host {
    if sock.family == AF_INET {
        Host::AnyV4
    } else if sock.options.v6_only() {
        Host::AnyV6
    } else {
        Host::Any
    }
}
