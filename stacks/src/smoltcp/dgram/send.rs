//! What all internet datagram sockets share when they send: destination, source, route, limits.

use std::net::SocketAddr;

use umvu_abi::{Errno, SockAddr, net::SendControl};

use super::{
    super::{
        address::connect_target,
        inner::Inner,
        link::Outgoing,
        net::{Hop, HopKind, marked},
        packet::Build,
        sockopt::Class,
    },
    DgramId,
};

/// Everything decided about a datagram before its packet is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Where it goes.
    pub(crate) remote: SocketAddr,
    /// Which way.
    pub(crate) hop: Hop,
    /// The header to make; its protocol is still to be set.
    pub(crate) build: Build,
    /// Whether this host hears what it sends to the group.
    pub(crate) loops: bool,
    /// Whether the packet may not be cut up.
    pub(crate) whole: bool,
}

impl Inner {
    /// send(2) on a socket of any class.
    pub(crate) fn dgram_send(
        &mut self,
        id: DgramId,
        data: &[u8],
        to: Option<&SockAddr>,
        control: &SendControl,
    ) -> Result<usize, Errno> {
        let sock = self.dgrams.socks.get_mut(id).ok_or(Errno::EBADF)?;
        // Raw and ping sockets send whatever is shut.
        if sock.shut_write && sock.class.has_ports() {
            return Err(Errno::EPIPE);
        }
        if let Some(errno) = sock.error.take() {
            return Err(errno);
        }
        match sock.class {
            Class::Udp | Class::UdpLite => self.udp_gather(id, data, to, control)?,
            Class::Ping => self.ping_send(id, data, to, control)?,
            Class::Raw => self.raw_send(id, data, to, control)?,
            Class::Packet => self.packet_send(id, data, to)?,
            Class::Stream => return Err(Errno::EINVAL),
        }
        Ok(data.len())
    }

    /// Decides where a datagram goes. Errors: `EDESTADDRREQ`, `EINVAL`, `ENETUNREACH`, `EACCES`.
    pub(crate) fn plan(
        &mut self,
        id: DgramId,
        to: Option<&SockAddr>,
        control: &SendControl,
    ) -> Result<Plan, Errno> {
        let sock = self.dgrams.socks.get(id).ok_or(Errno::EBADF)?;
        // A destination of no family is none (`udpv6_sendmsg`).
        let to = to.filter(|to| !matches!(to, SockAddr::Unspec));
        let remote = match to {
            Some(addr) => connect_target(addr, sock.family, sock.options.v6_only())?,
            None => sock.peer.ok_or(Errno::EDESTADDRREQ)?,
        };
        let options = &sock.options;
        let v6 = remote.is_ipv6();
        let own = sock.bound.and_then(|(host, _)| host.ip());
        let connected = sock.source.filter(|_| to.is_none());
        let wanted = control
            .source
            .map(|ip| ip.to_canonical())
            .or(own)
            .or(connected)
            .filter(|ip| ip.is_ipv6() == v6 && !ip.is_multicast());
        let scope = match to {
            Some(SockAddr::Inet6(addr)) => addr.scope_id(),
            _ => 0,
        };
        let group = remote.ip().is_multicast();
        if v6 && control.ifindex != 0 && self.link_at(control.ifindex).is_none() {
            return Err(Errno::ENODEV);
        }
        let device = [control.ifindex, scope, options.device()];
        let device = device.into_iter().find(|device| *device != 0).unwrap_or(0);
        let (wanted, device) = sock.by_group(remote.ip(), wanted, device);
        let mark = control.mark.unwrap_or(options.mark());
        let hop = self.route_flow(&marked(remote.ip(), wanted, device, mark))?;
        if hop.kind == HopKind::Broadcast && !options.flag(libc::SOL_SOCKET, libc::SO_BROADCAST) {
            return Err(Errno::EACCES);
        }
        let source = wanted.unwrap_or(hop.source);
        if control.source.is_some() && source.is_ipv4() && !v6 && !self.may_bind(source) {
            return Err(Errno::ENETUNREACH);
        }
        if source.is_ipv6() != v6 || (control.source.is_some() && !self.may_bind(source)) {
            return Err(Errno::EINVAL);
        }
        let ttl = if group { options.multicast_ttl(v6) } else { options.ttl(v6, 64) };
        let loops = if v6 {
            options.flag(libc::SOL_IPV6, libc::IPV6_MULTICAST_LOOP)
        } else {
            options.flag(libc::SOL_IP, libc::IP_MULTICAST_LOOP)
        };
        let build = Build {
            source,
            destination: remote.ip(),
            protocol: 0,
            ttl: control.ttl.unwrap_or(ttl),
            tos: control.tos.unwrap_or(options.tos(v6)),
            id: 0,
        };
        // IP_PMTUDISC_DO, IP_PMTUDISC_PROBE, IP_PMTUDISC_INTERFACE.
        let whole = if v6 {
            matches!(options.int(libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER), 2..=4)
                || options.flag(libc::SOL_IPV6, libc::IPV6_DONTFRAG)
        } else {
            matches!(options.int(libc::SOL_IP, libc::IP_MTU_DISCOVER), 2..=4)
        };
        Ok(Plan { remote, hop, build, loops, whole })
    }

    /// Sends the packet of a plan, and hears it where the destination says so.
    pub(crate) fn send_planned(&mut self, plan: &Plan, packet: Outgoing) {
        let copies = match plan.hop.kind {
            HopKind::Broadcast => true,
            HopKind::Multicast => plan.loops && self.listens_to(plan.hop.link, plan.remote.ip()),
            HopKind::Unicast | HopKind::Local => false,
        };
        if copies && !self.is_loopback(plan.hop.link) {
            let copy = Outgoing { bytes: packet.bytes.clone(), ..packet };
            self.looped.push_back((plan.hop.link, copy));
        }
        self.counts.sends(&packet);
        self.send_hop(&plan.hop, packet);
    }

    /// The bytes of payload that fit a plan's packet without being cut up, when it must not be.
    /// Errors: `EMSGSIZE`, which the error queue tells of too.
    pub(crate) fn check_size(
        &mut self,
        id: DgramId,
        plan: &Plan,
        payload: usize,
    ) -> Result<(), Errno> {
        let v6 = plan.remote.is_ipv6();
        let header = if v6 { 40 } else { 20 };
        let most = if v6 { 65_535 } else { 65_535 - 20 };
        let mtu = self.links.get(plan.hop.link).map_or(1500, |link| link.mtu);
        if plan.whole && payload + header > mtu && (v6 || payload <= most) {
            self.dgram_too_big(id, plan.remote, mtu);
            return Err(Errno::EMSGSIZE);
        }
        if payload > most { Err(Errno::EMSGSIZE) } else { Ok(()) }
    }
}
