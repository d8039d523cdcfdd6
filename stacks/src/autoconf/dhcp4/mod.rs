//! A DHCPv4 client (RFC 2131): how a lease is got, kept and given back.

pub(super) mod message;
mod wire;

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use netlink_emu::{
    Failure,
    values::{Address, LinkChange, Route},
};
use umvu_abi::{Errno, SockAddr};

use self::message::{Ask, Identity, Lease, Reply};
use super::{
    chance,
    clients::{Extension, Held},
    port::Port,
    rtnl::Rtnl,
};

/// The first and the longest time to wait for an answer before asking again.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(8);
/// How long offers are waited for after the first refusal or conflict.
const PAUSE: Duration = Duration::from_secs(1);
/// More than any message.
const BUFFER: usize = 2048;

/// The client of one interface.
#[derive(Debug)]
pub(super) struct Client {
    port: Port,
    identity: Identity,
}

impl Client {
    /// Makes it.
    pub(super) fn new(port: Port) -> Self {
        let identity = Identity { mac: port.mac, fqdn: port.fqdn.clone() };
        Self { port, identity }
    }

    /// Gets a lease and configures the interface with it. Errors: `ETIMEDOUT` when no server
    /// answered in time.
    pub(super) fn acquire(&self, deadline: Instant) -> Result<Held, Failure> {
        let wire = wire::Wire::for_dhcp(&self.port).map_err(|error| unable(&error))?;
        let began = Instant::now();
        loop {
            let lease = self.negotiate(&wire, began, deadline)?;
            if !wire::is_taken(&self.port, lease.ip).unwrap_or(false) {
                self.apply(&lease, None)?;
                return Ok(self.hold(lease));
            }
            self.port.say(&format!("dhcp: {} is in use by another host, declined", lease.ip));
            let ask = Ask::Decline(lease.ip, lease.server);
            let _ = self.make(chance(), began, ask).and_then(|message| wire.send(&message));
            pause(deadline);
        }
    }

    /// DISCOVER, OFFER, REQUEST, ACK.
    fn negotiate(
        &self,
        wire: &wire::Wire,
        began: Instant,
        deadline: Instant,
    ) -> Result<Lease, Failure> {
        loop {
            let xid = chance();
            let offer = self.exchange(wire, xid, began, deadline, Ask::Discover)?;
            let Reply::Offer(offer) = offer else { continue };
            self.port.say(&format!("dhcp: {} offers {}/{}", offer.server, offer.ip, offer.prefix));
            // The request belongs to the offer: the same number.
            match self.exchange(wire, xid, began, deadline, Ask::Request(offer.ip, offer.server))? {
                Reply::Acknowledged(lease) => return Ok(lease),
                _ => pause(deadline),
            }
        }
    }

    /// Asks until there is an answer, with growing patience.
    fn exchange(
        &self,
        wire: &wire::Wire,
        xid: u32,
        began: Instant,
        deadline: Instant,
        ask: Ask,
    ) -> Result<Reply, Failure> {
        let mut wait = FIRST;
        loop {
            let message = self.make(xid, began, ask).map_err(|error| unable(&error))?;
            wire.send(&message).map_err(|error| unable(&error))?;
            let until = (Instant::now() + wait).min(deadline);
            loop {
                match wire.receive(until) {
                    Ok(bytes) => match message::read(&bytes, &self.identity, xid) {
                        Some(reply) if suits(&reply, ask) => return Ok(reply),
                        _ => {}
                    },
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(unable(&error)),
                }
            }
            if until >= deadline {
                return Err(Failure::new(Errno::ETIMEDOUT, "dhcp: no server answered"));
            }
            wait = (wait * 2).min(LONGEST);
        }
    }

    fn make(&self, xid: u32, began: Instant, ask: Ask) -> io::Result<Vec<u8>> {
        let seconds = u16::try_from(began.elapsed().as_secs()).unwrap_or(u16::MAX);
        message::make(&self.identity, xid, seconds, ask)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    fn hold(&self, lease: Lease) -> Held {
        self.port.say(&format!(
            "dhcp: {}/{} from {} for {} s",
            lease.ip, lease.prefix, lease.server, lease.seconds
        ));
        Held::new(lease.renew, lease.rebind, lease.seconds, Extension::V4(lease))
    }

    /// Asks for more time: the server that gave the lease or, when `rebinds`, any.
    /// Errors: `ETIMEDOUT`; `EADDRNOTAVAIL` when the lease is refused.
    pub(super) fn extend(&self, lease: &Lease, rebinds: bool) -> Result<Held, Failure> {
        let to = if rebinds { Ipv4Addr::BROADCAST } else { lease.server };
        let socket = self.own_socket(lease.ip).map_err(|error| unable(&error))?;
        let to = SockAddr::Inet(SocketAddrV4::new(to, wire::SERVER));
        let (xid, began) = (chance(), Instant::now());
        let mut buffer = [0; BUFFER];
        for wait in [FIRST, FIRST * 2, FIRST * 4] {
            let message = self.make(xid, began, Ask::Renew(lease.ip));
            let message = message.map_err(|error| unable(&error))?;
            socket.send_to(&message, &to).map_err(|error| unable(&error))?;
            let until = Instant::now() + wait;
            loop {
                match socket.receive_until(&mut buffer, until) {
                    Ok(received) => {
                        let bytes = buffer.get(..received.length).unwrap_or_default();
                        match message::read(bytes, &self.identity, xid) {
                            Some(Reply::Acknowledged(more)) => {
                                self.apply(&more, Some(lease))?;
                                return Ok(self.hold(more));
                            }
                            Some(Reply::Refused) => return Err(Errno::EADDRNOTAVAIL.into()),
                            _ => {}
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(unable(&error)),
                }
            }
        }
        Err(Failure::new(Errno::ETIMEDOUT, "dhcp: no server answered"))
    }

    /// A UDP socket of a host that has an address.
    fn own_socket(&self, ip: Ipv4Addr) -> io::Result<crate::net::Socket> {
        let socket = self.port.socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
        socket.set_int_option(libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        socket.set_int_option(libc::SOL_SOCKET, libc::SO_BROADCAST, 1)?;
        socket.bind_device(&self.port.name)?;
        socket.bind(&SockAddr::Inet(SocketAddrV4::new(ip, wire::CLIENT)))?;
        Ok(socket)
    }

    /// Tells the server that the lease is not needed any longer; there is no answer.
    pub(super) fn release(&self, lease: &Lease) {
        let to = SockAddr::Inet(SocketAddrV4::new(lease.server, wire::SERVER));
        let ask = Ask::Release(lease.ip, lease.server);
        let message = self.make(chance(), Instant::now(), ask);
        let sent = message.and_then(|message| self.own_socket(lease.ip)?.send_to(&message, &to));
        match sent {
            Ok(_) => self.port.say(&format!("dhcp: {} released", lease.ip)),
            Err(error) => tracing::debug!(%error, "cannot release a lease"),
        }
    }

    /// Takes the lease's addresses and routes away.
    pub(super) fn withdraw(&self, lease: &Lease) {
        if let Ok(mut rtnl) = self.port.rtnl() {
            rtnl.del_address(&self.address(lease));
        }
        self.port.resolver.forget(&self.source());
    }

    /// Configures the interface: as the lease says, instead of what an earlier one said.
    fn apply(&self, lease: &Lease, before: Option<&Lease>) -> Result<(), Failure> {
        let mut rtnl = self.port.rtnl()?;
        if let Some(before) =
            before.filter(|before| (before.ip, before.prefix) != (lease.ip, lease.prefix))
        {
            rtnl.del_address(&self.address(before));
        }
        if lease.mtu.is_some() && lease.mtu != before.and_then(|before| before.mtu) {
            let mtu = LinkChange { mtu: lease.mtu, ..LinkChange::default() };
            rtnl.set_link(self.port.index, &mtu)?;
        }
        rtnl.put_address(&self.address(lease))?;
        self.put_routes(&mut rtnl, lease, before)?;
        self.port.learn(&self.source(), &lease.dns, &lease.domains);
        Ok(())
    }

    fn put_routes(
        &self,
        rtnl: &mut Rtnl,
        lease: &Lease,
        before: Option<&Lease>,
    ) -> Result<(), Failure> {
        let gone = before.map(|before| before.routes.as_slice()).unwrap_or_default();
        for route in gone.iter().filter(|route| !lease.routes.contains(route)) {
            rtnl.del_route(&self.route(route, lease));
        }
        lease.routes.iter().try_for_each(|route| rtnl.put_route(&self.route(route, lease)))
    }

    fn address(&self, lease: &Lease) -> Address {
        let mut address = Address::new(self.port.index, lease.ip.into(), lease.prefix);
        if let (std::net::IpAddr::V4(last), true) = (address.prefix.last(), lease.prefix < 31) {
            address.broadcast = Some(last);
        }
        (address.valid, address.preferred) = (lease.seconds, lease.seconds);
        address
    }

    fn route(
        &self,
        (destination, router): &(netlink_emu::values::Prefix, Ipv4Addr),
        lease: &Lease,
    ) -> Route {
        let mut route = Route::new(*destination);
        route.protocol = DHCP;
        route.oif = Some(self.port.index);
        route.prefsrc = Some(lease.ip.into());
        if router.is_unspecified() {
            route.scope = netlink_emu::values::Scope::LINK;
        } else {
            route.gateway = Some((*router).into());
            // Some servers give a router outside of the network that they give.
            route.onlink = !address_network(lease).contains((*router).into());
        }
        route
    }

    fn source(&self) -> String {
        format!("{} dhcp", self.port.name)
    }
}

/// `RTPROT_DHCP`.
const DHCP: u8 = 16;

fn address_network(lease: &Lease) -> netlink_emu::values::Prefix {
    netlink_emu::values::Prefix::new(lease.ip.into(), lease.prefix).network()
}

fn suits(reply: &Reply, ask: Ask) -> bool {
    match reply {
        Reply::Offer(_) => ask == Ask::Discover,
        Reply::Acknowledged(_) | Reply::Refused => ask != Ask::Discover,
    }
}

fn pause(deadline: Instant) {
    std::thread::sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now())));
}

fn unable(error: &io::Error) -> Failure {
    let errno = Errno::from_io(error);
    Failure::new(errno, format!("dhcp: {errno}"))
}
