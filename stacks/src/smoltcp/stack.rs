//! The stack as the core sees it, and how a mount makes one.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    os::fd::OwnedFd,
    sync::Arc,
};

use netlink_emu::{HostNet, netlink, proc, sysfs, values::Interface};
use umvu_abi::{
    Errno,
    module::MountError,
    net::{NetStack, NewSocket, SocketEvents, SocketSpec},
    sockaddr::SOCK_PACKET,
    tree::Tree,
    tunnel::{Tunnel, TunnelSpec},
};
use umvu_reactor::{Reactor, Source};

use super::{
    clock::Clock,
    dgram::{Dgram, DgramId, packet::PacketBinding, socket::DgramSocket},
    link::Kind,
    qdisc::Seeds,
    shared::Shared,
    sockopt::{Class, Options},
    tcp::{sock::Sock, socket::TcpSocket},
    tunnel,
    wire::Transport,
};
use crate::{names::Names, options::InterfacePlan};

/// What a new network namespace has from the host: the congestion control, the sizes of buffers.
const INHERITED: [&str; 2] = ["tcp_congestion_control", "tcp_rmem"];

/// A network stack in this process.
pub(crate) struct SmolStack {
    shared: Arc<Shared>,
}

impl fmt::Debug for SmolStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SmolStack")
    }
}

impl SmolStack {
    /// Makes a stack on opened transports; its links are down. Errors: those of epoll_ctl(2).
    pub(crate) fn start(
        reactor: &Reactor,
        names: &Names,
        transports: Vec<(InterfacePlan, Arc<dyn Transport>)>,
    ) -> Result<Self, MountError> {
        let seed = RandomState::new().hash_one(0u8);
        let shared = Shared::new(Clock::real(), seed, names.clone());
        let source: Arc<dyn Source> = Arc::clone(&shared) as Arc<dyn Source>;
        shared.attach(reactor.handle(&source));
        for name in INHERITED {
            // What the host has and we do not leaves ours.
            if let Ok(value) = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")) {
                let name = format!("ipv4.{name}");
                let _ = shared.look(|inner| inner.net.config.set_sysctl(&name, value.trim()));
            }
        }
        let stack = Self { shared };
        transports
            .into_iter()
            .try_for_each(|(link, transport)| stack.add_link(&link, transport))?;
        Ok(stack)
    }

    /// Fixes what happens by chance in queueing disciplines.
    pub(crate) fn set_seed(&self, seed: Option<u64>) {
        self.shared.look(|inner| inner.seeds = Seeds::new(seed, inner.rng.next()));
    }

    fn host(&self) -> Result<Arc<dyn HostNet>, Errno> {
        self.shared.host().ok_or(Errno::ENETDOWN)
    }

    fn add_link(
        &self,
        plan: &InterfacePlan,
        transport: Arc<dyn Transport>,
    ) -> Result<(), MountError> {
        let mtu = plan.mtu.unwrap_or(1500);
        let watched = Arc::clone(&transport);
        let index = self.shared.with(|inner| {
            let index = inner.net.config.next_index();
            let mut link = Interface::ethernet(index, &plan.name, "vde", plan.mac);
            link.mtu = mtu;
            link.vnl = Some(plan.vnl.clone());
            link.carrier = transport.carrier();
            let size = usize::try_from(mtu).unwrap_or(1500);
            inner.add_link(index.0, Kind::Ethernet, plan.mac, size, Some(transport));
            let made = inner.net.config.insert_link(link);
            made.map_err(|failure| {
                MountError::new(failure.errno, format!("{}: {failure}", plan.name))
            })?;
            Ok::<u32, MountError>(index.0)
        })?;
        self.shared.watch(index, &watched).map_err(MountError::from)
    }
}

impl NetStack for SmolStack {
    fn supports(&self, domain: i32) -> bool {
        crate::FAMILIES.contains(&domain)
    }

    fn socket(&self, spec: &SocketSpec, events: Arc<dyn SocketEvents>) -> Result<NewSocket, Errno> {
        if spec.domain == libc::AF_NETLINK {
            if !matches!(spec.kind, libc::SOCK_RAW | libc::SOCK_DGRAM) {
                return Err(Errno::ESOCKTNOSUPPORT);
            }
            let socket = netlink::open(spec.protocol, self.host()?, self.shared.hub(), events)?;
            return Ok(NewSocket::Datagram(socket));
        }
        let class = classify(spec)?;
        let shared = Arc::clone(&self.shared);
        if class == Class::Stream {
            let family = u16::try_from(spec.domain).map_err(|_| Errno::EAFNOSUPPORT)?;
            let protocol = default_protocol(class, spec);
            let mut options = Options::new(class, spec.domain, spec.kind, protocol);
            let id = shared.look(|inner| {
                if let Some(control) = inner.net.config.sysctl("ipv4.tcp_congestion_control") {
                    let _ = options.set(libc::SOL_TCP, libc::TCP_CONGESTION, control.as_bytes());
                }
                inner.tcp.socks.insert(Sock::new(family, events, options))
            });
            return Ok(NewSocket::Stream(Arc::new(TcpSocket::new(shared, id))));
        }
        let id = open_datagram(&shared, spec, class, events);
        Ok(NewSocket::Datagram(Arc::new(DgramSocket::new(shared, id, class))))
    }

    fn interface_ioctl(&self, request: u32, argument: &mut Vec<u8>) -> Result<i32, Errno> {
        netlink_emu::interface_ioctl(&*self.host()?, request, argument)
    }

    fn proc_net(&self) -> Option<Arc<dyn Tree>> {
        Some(proc::proc_net(&self.host().ok()?, Some(self.shared.hub())))
    }

    fn proc_sys_net(&self) -> Option<Arc<dyn Tree>> {
        Some(proc::proc_sys_net(&self.host().ok()?))
    }

    fn sys_class_net(&self) -> Option<Arc<dyn Tree>> {
        Some(sysfs::sys_class_net(&self.host().ok()?))
    }

    fn attach_tunnel(&self, spec: &TunnelSpec, end: OwnedFd) -> Result<Arc<dyn Tunnel>, Errno> {
        tunnel::attach(&self.shared, spec, end)
    }

    fn stop(&self) {
        self.shared.unwatch();
        self.shared.with(super::inner::Inner::stop);
    }
}

/// Makes a datagram socket of a class.
pub(crate) fn open_datagram(
    shared: &Shared,
    spec: &SocketSpec,
    class: Class,
    events: Arc<dyn SocketEvents>,
) -> DgramId {
    let family = u16::try_from(spec.domain).unwrap_or_default();
    let options = Options::new(class, spec.domain, spec.kind, default_protocol(class, spec));
    let mut sock = Dgram::new(class, family, events, options);
    if class == Class::Packet {
        // The protocol of a packet socket is in network order.
        let [high, low, ..] = spec.protocol.to_ne_bytes();
        sock.packet = PacketBinding { protocol: u16::from_be_bytes([high, low]), ifindex: 0 };
    }
    shared.look(|inner| inner.dgram_insert(sock))
}

/// The class of a socket. Errors: `EAFNOSUPPORT`, `ESOCKTNOSUPPORT`, `EPROTONOSUPPORT`.
pub(crate) fn classify(spec: &SocketSpec) -> Result<Class, Errno> {
    let v6 = spec.domain == libc::AF_INET6;
    match (spec.domain, spec.kind, spec.protocol) {
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) => {
            Ok(Class::Stream)
        }
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => Ok(Class::Udp),
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE) => {
            Ok(Class::UdpLite)
        }
        (libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP) => Ok(Class::Ping),
        (libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_ICMPV6) if v6 => Ok(Class::Ping),
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_RAW, 1..=255) => Ok(Class::Raw),
        (
            libc::AF_INET | libc::AF_INET6,
            libc::SOCK_STREAM | libc::SOCK_DGRAM | libc::SOCK_RAW,
            _,
        ) => Err(Errno::EPROTONOSUPPORT),
        (libc::AF_INET | libc::AF_INET6, ..) => Err(Errno::ESOCKTNOSUPPORT),
        (libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_DGRAM | SOCK_PACKET, _) => Ok(Class::Packet),
        (libc::AF_PACKET, ..) => Err(Errno::ESOCKTNOSUPPORT),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

fn default_protocol(class: Class, spec: &SocketSpec) -> i32 {
    match class {
        Class::Stream => libc::IPPROTO_TCP,
        Class::Udp => libc::IPPROTO_UDP,
        Class::UdpLite | Class::Ping | Class::Raw => spec.protocol,
        // Linux does not tell it (SO_PROTOCOL).
        Class::Packet => 0,
    }
}
