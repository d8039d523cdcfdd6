//! The guest's calls on a TCP socket: bind, connect, listen, accept.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::{socket::tcp::State, time::Duration};
use umvu_abi::{
    Errno, SockAddr,
    sockaddr::{AF_INET, AF_INET6},
};

use super::{
    super::{
        address::{bind_target, connect_target, scope_of, scoped},
        inner::Inner,
        net::marked,
        ports::{Holder, Host, candidates},
    },
    flow::{Flow, FlowId, Owner},
    key::FlowKey,
    sock::{Listener, Phase, Sock, SockId},
};

/// How long a connect goes on (`tcp_syn_retries` = 6).
const CONNECT: Duration = Duration::from_secs(127);

/// The number that the port table knows a socket by.
pub(crate) fn owner_number(id: SockId) -> u64 {
    id.number()
}

impl Inner {
    /// bind(2). Errors: `EINVAL` when bound already, `EADDRNOTAVAIL`, `EADDRINUSE`.
    pub(crate) fn tcp_bind(&mut self, id: SockId, addr: &SockAddr) -> Result<(), Errno> {
        let sock = self.tcp.socks.get(id).ok_or(Errno::EBADF)?;
        if sock.port().is_some() || !matches!(sock.phase, Phase::Fresh | Phase::Refused(_)) {
            return Err(Errno::EINVAL);
        }
        let (host, port) = bind_target(addr, sock.family, sock.options.v6_only())?;
        if matches!(host.ip(), Some(IpAddr::V6(ip)) if ip.is_multicast()) {
            return Err(Errno::EINVAL);
        }
        let scope = scope_of(addr, 0)?;
        if !sock.options.binds_freely() && host.ip().is_some_and(|ip| !self.may_bind(ip)) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        if let (Some(scope), Some(sock)) = (scope, self.tcp.socks.get_mut(id)) {
            sock.options.set_device(scope);
        }
        let sock = self.tcp.socks.get_mut(id).ok_or(Errno::EBADF)?;
        let keeps_port = port != 0;
        let bound = if !keeps_port && sock.options.binds_no_port() {
            0
        } else {
            self.tcp_take_port(id, host, port)?
        };
        if let Some(sock) = self.tcp.socks.get_mut(id) {
            sock.bound = Some((host, bound));
            sock.keeps_port = keeps_port;
            sock.last_port = 0;
        }
        Ok(())
    }

    fn tcp_take_port(&mut self, id: SockId, host: Host, port: u16) -> Result<u16, Errno> {
        let sock = self.tcp.socks.get(id).ok_or(Errno::EBADF)?;
        let sharing = sock.options.sharing(false);
        let holder =
            Holder { owner: owner_number(id), host, device: sock.options.device(), sharing };
        if port == 0 {
            let usage = &self.tcp.usage;
            let unused = |port: u16| !usage.contains_key(&port);
            return self.tcp.ports.take_any(self.net.port_range(), holder, &mut self.rng, unused);
        }
        if self.tcp.port_is_used(port, sharing.address || sharing.port) {
            return Err(Errno::EADDRINUSE);
        }
        self.tcp.ports.take(port, holder)?;
        Ok(port)
    }

    /// connect(2): sends the SYN. Errors: see [`umvu_abi::net::StreamSocket::connect`].
    pub(crate) fn tcp_connect(&mut self, id: SockId, addr: &SockAddr) -> Result<(), Errno> {
        let sock = self.tcp.socks.get(id).ok_or(Errno::EBADF)?;
        if matches!(addr, SockAddr::Unspec) {
            self.tcp_reset(id);
            return Ok(());
        }
        match sock.phase {
            Phase::Fresh | Phase::Refused(_) => {}
            Phase::Connecting(_) => return Err(Errno::EALREADY),
            _ => return Err(Errno::EISCONN),
        }
        let remote = connect_target(addr, sock.family, sock.options.v6_only())?;
        if remote.ip().is_multicast() {
            return Err(Errno::ENETUNREACH);
        }
        let wanted = sock.bound.and_then(|(host, _)| host.ip());
        let scope = scope_of(addr, sock.options.device())?;
        let device = scope.unwrap_or(sock.options.device());
        let mark = sock.options.mark();
        let hop = self.route_flow(&marked(remote.ip(), wanted, device, mark))?;
        if !hop.kind.is_unicast() {
            return Err(Errno::ENETUNREACH);
        }
        if wanted.is_none() && hop.source.is_unspecified() {
            return Err(Errno::EADDRNOTAVAIL);
        }
        if sock.bound.is_some_and(|(host, _)| !host.covers(remote.ip()) && host.ip().is_none()) {
            return Err(Errno::EINVAL);
        }
        if remote.port() == 0 {
            // Where nobody listens, and smoltcp cannot ask.
            if let Some(sock) = self.tcp.socks.get_mut(id) {
                sock.phase = Phase::Refused(Errno::ECONNREFUSED);
                sock.error = Some(Errno::ECONNREFUSED);
                sock.events.changed();
            }
            return Ok(());
        }
        let tuning = sock.options.tuning();
        let local_ip = wanted.unwrap_or(hop.source);
        if local_ip.is_ipv4() != remote.is_ipv4() {
            return Err(Errno::EINVAL);
        }
        let local = SocketAddr::new(local_ip, self.tcp_local_port(id, local_ip, remote)?);
        let key = FlowKey::new(local, remote);
        let path = self.path_to(remote.ip(), local_ip, device, mark)?;
        let terms = self.tcp_terms(&key);
        let mut flow = Flow::new(key, Owner::Socket(id), path, (tuning, terms), self.now);
        let link = self.links.get_mut(path.link).ok_or(Errno::ENETUNREACH)?;
        flow.socket()
            .connect(link.engine.context(), remote, local)
            .map_err(|_| Errno::EADDRNOTAVAIL)?;
        flow.seen = State::SynSent;
        flow.deadline = Some(self.now + CONNECT);
        let flow = self.tcp.flows.insert(flow);
        self.tcp.demux.insert(key, flow);
        self.tcp.use_port(local.port(), tuning.reuse);
        if let Some(sock) = self.tcp.socks.get_mut(id) {
            sock.phase = Phase::Connecting(flow);
            sock.error = None;
            sock.options.set_device(device);
            sock.ends = Some((local, remote));
        }
        self.counts.tcp.active += 1;
        self.tcp.touch(flow);
        Ok(())
    }

    /// The local port of a new connection: the bound one, or one that makes both ends unique.
    fn tcp_local_port(
        &mut self,
        id: SockId,
        local_ip: IpAddr,
        remote: SocketAddr,
    ) -> Result<u16, Errno> {
        let sock = self.tcp.socks.get(id).ok_or(Errno::EBADF)?;
        if let Some(port) = sock.port() {
            let key = FlowKey::new(SocketAddr::new(local_ip, port), remote);
            if self.tcp.demux.contains_key(&key) {
                return Err(Errno::EADDRNOTAVAIL);
            }
            self.forget_wait(&key);
            return Ok(port);
        }
        let tcp = &self.tcp;
        candidates(self.net.port_range(), &mut self.rng)
            .find(|port| {
                let key = FlowKey::new(SocketAddr::new(local_ip, *port), remote);
                !tcp.ports.is_held(*port)
                    && !tcp.demux.contains_key(&key)
                    && tcp.waits.get(&key).is_none()
            })
            .ok_or(Errno::EADDRNOTAVAIL)
    }

    /// listen(2). Errors: `EINVAL` on a connected socket, `EADDRINUSE`.
    pub(crate) fn tcp_listen(&mut self, id: SockId, backlog: u32) -> Result<(), Errno> {
        let most = self.net.somaxconn();
        let backlog = usize::try_from(backlog).unwrap_or(most).min(most);
        let sock = self.tcp.socks.get_mut(id).ok_or(Errno::EBADF)?;
        match &mut sock.phase {
            Phase::Listening(listener) => {
                listener.backlog = backlog;
                return Ok(());
            }
            Phase::Fresh | Phase::Refused(_) => {}
            _ => return Err(Errno::EINVAL),
        }
        let sharing = sock.options.sharing(true);
        let (host, port) = match sock.bound {
            Some(bound) if bound.1 != 0 => bound,
            _ => {
                let host = sock.bound.map_or(any_host(sock), |(host, _)| host);
                let port = self.tcp_take_port(id, host, 0)?;
                (host, port)
            }
        };
        self.tcp.ports.share(port, owner_number(id), sharing)?;
        if let Some(sock) = self.tcp.socks.get_mut(id) {
            sock.bound = Some((host, port));
            sock.phase = Phase::Listening(Listener { backlog, ..Listener::default() });
        }
        self.tcp.listeners.entry(port).or_default().push(id);
        Ok(())
    }

    /// Whether a connection waits to be accepted.
    pub(crate) fn tcp_acceptable(&self, id: SockId) -> bool {
        self.tcp.socks.get(id).is_some_and(|sock| match &sock.phase {
            Phase::Listening(listener) => !listener.ready.is_empty(),
            _ => false,
        })
    }

    /// Takes a connection off the accept queue and gives it a socket.
    pub(crate) fn tcp_accept(
        &mut self,
        id: SockId,
        events: std::sync::Arc<dyn umvu_abi::net::SocketEvents>,
    ) -> Option<(SockId, SockAddr)> {
        let listening = self.tcp.socks.get_mut(id)?;
        let Phase::Listening(listener) = &mut listening.phase else { return None };
        let flow_id = listener.ready.pop_front()?;
        let (family, options) = (listening.family, listening.options.inherit());
        let filter = listening.filter.clone();
        let flow = self.tcp.flows.get_mut(flow_id)?;
        let mut sock = Sock::new(family, events, options);
        let (local, remote) = (flow.key.local(), flow.key.remote());
        let link = self.links.get(flow.path.link).map_or(0, |link| link.index);
        let device = match remote.ip() {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => link,
            _ => sock.options.device(),
        };
        sock.options.set_device(device);
        sock.ends = Some((local, remote));
        sock.filter = filter;
        sock.phase = if !flow.parked {
            Phase::Connected(flow_id)
        } else if let Some(errno) = flow.error {
            sock.error = Some(errno);
            Phase::Broken(errno, flow_id)
        } else {
            Phase::Closed(flow_id)
        };
        let new = self.tcp.socks.insert(sock);
        if let Some(flow) = self.tcp.flows.get_mut(flow_id) {
            flow.owner = Owner::Socket(new);
            flow.news = true;
        }
        self.tcp.touch(flow_id);
        Some((new, scoped(remote, device).mapped_to(family)))
    }

    /// getsockname(2).
    pub(crate) fn tcp_local(&self, id: SockId) -> Result<SockAddr, Errno> {
        let sock = self.tcp.socks.get(id).ok_or(Errno::EBADF)?;
        let local = match (sock.ends, sock.bound) {
            (Some((local, _)), _) => local,
            (None, bound) => {
                let (ip, port) = bound.map_or((None, 0), |(host, port)| (host.ip(), port));
                let port = if port == 0 { sock.last_port } else { port };
                SocketAddr::new(ip.unwrap_or(any_ip(sock.family)), port)
            }
        };
        Ok(scoped(local, sock.options.device()).mapped_to(sock.family))
    }

    /// getpeername(2). Errors: `ENOTCONN`.
    pub(crate) fn tcp_peer(&self, id: SockId) -> Result<SockAddr, Errno> {
        let sock = self.tcp.socks.get(id).ok_or(Errno::EBADF)?;
        let (_, remote) = match sock.phase {
            Phase::Connected(_) => sock.ends.ok_or(Errno::ENOTCONN)?,
            _ => return Err(Errno::ENOTCONN),
        };
        Ok(scoped(remote, sock.options.device()).mapped_to(sock.family))
    }

    /// The connection of a socket.
    pub(crate) fn tcp_flow(&mut self, id: SockId) -> Option<(FlowId, &mut Flow)> {
        let flow = self.tcp.socks.get(id)?.flow()?;
        Some((flow, self.tcp.flows.get_mut(flow)?))
    }
}

fn any_ip(family: u16) -> IpAddr {
    if family == AF_INET6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

fn any_host(sock: &Sock) -> Host {
    if sock.family == AF_INET {
        Host::AnyV4
    } else if sock.options.v6_only() {
        Host::AnyV6
    } else {
        Host::Any
    }
}
