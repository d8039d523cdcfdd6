//! The stack as the core sees it, and how a mount makes one.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::Arc,
};

use parking_lot::Mutex;
use umvu_abi::{
    Errno,
    net::{NetStack, NewSocket, SocketEvents, SocketSpec},
};
use umvu_reactor::{Interest, Reactor, Registration, Source};

use super::{
    clock::Clock,
    dgram::{Dgram, DgramId, PacketBinding, socket::DgramSocket},
    link::Link,
    net::{Address, Route},
    shared::Shared,
    sockopt::{Class, Options},
    tcp::{sock::Sock, socket::TcpSocket},
    wire::Transport,
};
use crate::options::{InterfacePlan, StackPlan};

const DEFAULT_MTU: usize = 1500;

/// A network stack in this process.
pub(crate) struct SmolStack {
    shared: Arc<Shared>,
    watches: Mutex<Vec<Registration>>,
}

impl fmt::Debug for SmolStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SmolStack")
    }
}

impl SmolStack {
    /// Makes the stack that a mount asks for, on opened transports. Errors: those of epoll_ctl(2).
    pub(crate) fn start(
        reactor: &Reactor,
        plan: &StackPlan,
        transports: Vec<(InterfacePlan, Arc<dyn Transport>)>,
    ) -> Result<Self, Errno> {
        let seed = RandomState::new().hash_one(0u8);
        let shared = Arc::new(Shared::new(Clock::real(), seed));
        let source: Arc<dyn Source> = Arc::clone(&shared) as Arc<dyn Source>;
        shared.attach(reactor.handle(&source));
        let stack = Self { shared, watches: Mutex::default() };
        for (link, transport) in transports {
            stack.add_link(&link, transport, plan.mtu)?;
        }
        stack.shared.with(|inner| configure(inner, plan));
        Ok(stack)
    }

    fn add_link(
        &self,
        plan: &InterfacePlan,
        transport: Arc<dyn Transport>,
        mtu: Option<u32>,
    ) -> Result<(), Errno> {
        let mtu = mtu.and_then(|mtu| usize::try_from(mtu).ok()).unwrap_or(DEFAULT_MTU);
        if let (Some(fd), Some(handle)) = (transport.poll_fd(), self.shared.handle()) {
            self.watches.lock().push(handle.watch(fd, Interest::Read)?);
        }
        transport.set_waker(Shared::waker(&Arc::downgrade(&self.shared)));
        self.shared.with(|inner| {
            let index = inner.links.last().map_or(1, |link| link.index + 1);
            let seed = inner.rng.next();
            let now = inner.now;
            inner.links.push(Link::ethernet(index, plan.mac, mtu, transport, seed, now));
        });
        self.shared.wake();
        Ok(())
    }
}

fn configure(inner: &mut super::inner::Inner, plan: &StackPlan) {
    if plan.up {
        for link in &mut inner.links {
            link.up = true;
        }
    }
    for (ip, prefix) in &plan.addresses {
        inner.net.addresses.push(Address { ip: *ip, prefix: *prefix, link: 1 });
        match ip {
            IpAddr::V4(ip) => inner.announce_v4(1, *ip),
            IpAddr::V6(ip) => inner.announce_v6(1, *ip),
        }
    }
    for gateway in &plan.gateways {
        let destination: IpAddr = if gateway.is_ipv4() {
            std::net::Ipv4Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        };
        let route = Route { destination, prefix: 0, gateway: Some(*gateway), link: 1 };
        inner.net.routes.push(route);
    }
    inner.generation += 1;
}

impl NetStack for SmolStack {
    fn supports(&self, domain: i32) -> bool {
        crate::FAMILIES.contains(&domain)
    }

    fn socket(&self, spec: &SocketSpec, events: Arc<dyn SocketEvents>) -> Result<NewSocket, Errno> {
        let class = classify(spec)?;
        let shared = Arc::clone(&self.shared);
        if class == Class::Stream {
            let family = u16::try_from(spec.domain).map_err(|_| Errno::EAFNOSUPPORT)?;
            let protocol = default_protocol(class, spec);
            let options = Options::new(class, spec.domain, spec.kind, protocol);
            let id =
                shared.look(|inner| inner.tcp.socks.insert(Sock::new(family, events, options)));
            return Ok(NewSocket::Stream(Arc::new(TcpSocket::new(shared, id))));
        }
        let id = open_datagram(&shared, spec, class, events);
        Ok(NewSocket::Datagram(Arc::new(DgramSocket::new(shared, id, class))))
    }

    fn stop(&self) {
        self.watches.lock().clear();
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
        (libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP) => Ok(Class::Ping),
        (libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_ICMPV6) if v6 => Ok(Class::Ping),
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_RAW, 1..=255) => Ok(Class::Raw),
        (
            libc::AF_INET | libc::AF_INET6,
            libc::SOCK_STREAM | libc::SOCK_DGRAM | libc::SOCK_RAW,
            _,
        ) => Err(Errno::EPROTONOSUPPORT),
        (libc::AF_INET | libc::AF_INET6, ..) => Err(Errno::ESOCKTNOSUPPORT),
        (libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_DGRAM, _) => Ok(Class::Packet),
        (libc::AF_PACKET, ..) => Err(Errno::ESOCKTNOSUPPORT),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

fn default_protocol(class: Class, spec: &SocketSpec) -> i32 {
    match class {
        Class::Stream => libc::IPPROTO_TCP,
        Class::Udp => libc::IPPROTO_UDP,
        Class::Ping | Class::Raw | Class::Packet => spec.protocol,
    }
}
