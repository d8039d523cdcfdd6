//! A DHCPv6 client (RFC 8415, stateful): how addresses are got, kept and given back.

mod message;

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6},
    time::{Duration, Instant},
};

use netlink_emu::{
    Failure,
    values::{Address, AddressFlags},
};
use umvu_abi::{Errno, SockAddr};

pub(super) use self::message::Lease;
use self::message::{Ask, Reply};
use super::{
    chance,
    clients::{Extension, Held},
    dhcp4::message::Identity,
    fixed,
    port::Port,
};
use crate::net::Socket;

/// All servers and relay agents of a link.
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const SERVER: u16 = 547;
const CLIENT: u16 = 546;
/// The first and the longest time to wait for an answer before asking again.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(8);
/// How often the link-local address is looked for.
const LOOK: Duration = Duration::from_millis(20);
/// More than any message.
const BUFFER: usize = 4096;

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

    /// Gets addresses and configures the interface with them. Errors: `ETIMEDOUT` when no server
    /// answered in time, `EADDRNOTAVAIL` when all refused.
    pub(super) fn acquire(&self, deadline: Instant) -> Result<Held, Failure> {
        let socket = self.socket(deadline)?;
        let mut refusal = None;
        while Instant::now() < deadline {
            match self.negotiate(&socket, deadline) {
                Ok(lease) => {
                    if self.apply(&lease, None)? {
                        return Ok(self.hold(lease));
                    }
                    self.port.say("dhcp6: the address is in use by another host, declined");
                    let _ = self.send(&socket, [0; 3], Instant::now(), Ask::Decline(&lease));
                }
                Err(failure) if failure.errno == Errno::EADDRNOTAVAIL => refusal = Some(failure),
                Err(failure) => return Err(refusal.unwrap_or(failure)),
            }
            std::thread::sleep(FIRST.min(deadline.saturating_duration_since(Instant::now())));
        }
        Err(refusal.unwrap_or_else(silence))
    }

    /// SOLICIT, ADVERTISE, REQUEST, REPLY.
    fn negotiate(&self, socket: &Socket, deadline: Instant) -> Result<Lease, Failure> {
        let advertised = match self.exchange(socket, deadline, Ask::Solicit)? {
            Reply::Advertised(lease) | Reply::Given(lease) => lease,
            Reply::Refused(why) => return Err(refused(&why)),
        };
        match self.exchange(socket, deadline, Ask::Request(&advertised))? {
            Reply::Given(lease) => Ok(lease),
            Reply::Refused(why) => Err(refused(&why)),
            Reply::Advertised(_) => Err(silence()),
        }
    }

    /// Asks until there is an answer, with growing patience.
    fn exchange(&self, socket: &Socket, deadline: Instant, ask: Ask<'_>) -> Result<Reply, Failure> {
        let [_, xid @ ..] = chance().to_be_bytes();
        let began = Instant::now();
        let mut wait = FIRST;
        let mut buffer = [0; BUFFER];
        loop {
            self.send(socket, xid, began, ask)?;
            let until = (Instant::now() + wait).min(deadline);
            loop {
                match socket.receive_until(&mut buffer, until) {
                    Ok(received) => {
                        let bytes = buffer.get(..received.length).unwrap_or_default();
                        match message::read(bytes, &self.identity, xid) {
                            Some(reply) if suits(&reply, ask) => return Ok(reply),
                            _ => {}
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(unable(&error)),
                }
            }
            if until >= deadline {
                return Err(silence());
            }
            wait = (wait * 2).min(LONGEST);
        }
    }

    fn send(
        &self,
        socket: &Socket,
        xid: [u8; 3],
        began: Instant,
        ask: Ask<'_>,
    ) -> Result<(), Failure> {
        let hundredths = u16::try_from(began.elapsed().as_millis() / 10).unwrap_or(u16::MAX);
        let message = message::make(&self.identity, xid, hundredths, ask).ok_or(Errno::EINVAL)?;
        let to = SockAddr::Inet6(SocketAddrV6::new(SERVERS, SERVER, 0, self.port.index.0));
        socket.send_to(&message, &to).map(|_| ()).map_err(|error| unable(&error))
    }

    /// A socket on the link-local address, once that may be used.
    fn socket(&self, deadline: Instant) -> Result<Socket, Failure> {
        let own = loop {
            if let Some(own) = self.link_local()? {
                break own;
            }
            if Instant::now() >= deadline {
                let text = "dhcp6: the interface has no link-local address";
                return Err(Failure::new(Errno::EADDRNOTAVAIL, text));
            }
            std::thread::sleep(LOOK);
        };
        let open = || -> io::Result<Socket> {
            let socket = self.port.socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)?;
            socket.set_int_option(libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
            socket.bind_device(&self.port.name)?;
            let own = SocketAddrV6::new(own, CLIENT, 0, self.port.index.0);
            socket.bind(&SockAddr::Inet6(own))?;
            Ok(socket)
        };
        open().map_err(|error| unable(&error))
    }

    fn link_local(&self) -> Result<Option<Ipv6Addr>, Failure> {
        let addresses = self.port.rtnl()?.addresses(self.port.index)?;
        let ready = addresses.iter().filter(|one| !one.flags.contains(AddressFlags::TENTATIVE));
        let mut own = ready.filter_map(|one| match one.ip() {
            std::net::IpAddr::V6(ip) if ip.is_unicast_link_local() => Some(ip),
            _ => None,
        });
        Ok(own.next())
    }

    fn hold(&self, lease: Lease) -> Held {
        for given in &lease.addresses {
            self.port.say(&format!("dhcp6: {} for {} s", given.ip, given.valid));
        }
        Held::new(lease.renew, lease.rebind, lease.seconds, Extension::V6(lease))
    }

    /// Asks for more time: the server that gave the lease or, when `rebinds`, any.
    /// Errors: `ETIMEDOUT`; `EADDRNOTAVAIL` when the lease is refused.
    pub(super) fn extend(&self, lease: &Lease, rebinds: bool) -> Result<Held, Failure> {
        let deadline = Instant::now() + FIRST * 7;
        let socket = self.socket(deadline)?;
        let ask = if rebinds { Ask::Rebind(lease) } else { Ask::Renew(lease) };
        match self.exchange(&socket, deadline, ask)? {
            Reply::Given(more) => {
                self.apply(&more, Some(lease))?;
                Ok(self.hold(more))
            }
            Reply::Refused(why) => Err(refused(&why)),
            Reply::Advertised(_) => Err(silence()),
        }
    }

    /// Tells the server that the addresses are not needed any longer, and does not wait.
    pub(super) fn release(&self, lease: &Lease) {
        let [_, xid @ ..] = chance().to_be_bytes();
        let socket = self.socket(Instant::now());
        let ask = Ask::Release(lease);
        match socket.and_then(|socket| self.send(&socket, xid, Instant::now(), ask)) {
            Ok(()) => self.port.say("dhcp6: released"),
            Err(error) => tracing::debug!(%error, "cannot release a lease"),
        }
    }

    /// Takes the addresses away.
    pub(super) fn withdraw(&self, lease: &Lease) {
        if let Ok(mut rtnl) = self.port.rtnl() {
            self.addresses(lease).for_each(|address| rtnl.del_address(&address));
        }
        self.port.resolver.forget(&self.source());
    }

    /// Configures the interface: as the lease says, instead of what an earlier one said. False when
    /// another host has an address.
    fn apply(&self, lease: &Lease, before: Option<&Lease>) -> Result<bool, Failure> {
        let mut rtnl = self.port.rtnl()?;
        let gone = before.map(|before| before.addresses.as_slice()).unwrap_or_default();
        let kept = |ip| lease.addresses.iter().any(|given| given.ip == ip);
        for given in gone.iter().filter(|given| !kept(given.ip)) {
            rtnl.del_address(&Address::new(self.port.index, given.ip.into(), HOST));
        }
        for address in self.addresses(lease) {
            rtnl.put_address(&address)?;
        }
        fixed::settle(&mut rtnl, self.port.index);
        let held = rtnl.addresses(self.port.index)?;
        let is_taken = |address: &Address| {
            let mut same = held.iter().filter(|one| one.ip() == address.ip());
            same.any(|one| one.flags.contains(AddressFlags::DADFAILED))
        };
        if self.addresses(lease).any(|address| is_taken(&address)) {
            self.addresses(lease).for_each(|address| rtnl.del_address(&address));
            return Ok(false);
        }
        self.port.learn(&self.source(), &lease.dns, &lease.domains);
        Ok(true)
    }

    /// The addresses of a lease. What else is on the link, routers tell (RFC 5942).
    fn addresses(&self, lease: &Lease) -> impl Iterator<Item = Address> {
        let index = self.port.index;
        lease.addresses.iter().map(move |given| {
            let mut address = Address::new(index, given.ip.into(), HOST);
            (address.valid, address.preferred) = (given.valid, given.preferred);
            address
        })
    }

    fn source(&self) -> String {
        format!("{} dhcp6", self.port.name)
    }
}

/// The length of the prefix of one host.
const HOST: u8 = 128;

fn suits(reply: &Reply, ask: Ask<'_>) -> bool {
    match reply {
        Reply::Advertised(_) => ask == Ask::Solicit,
        Reply::Given(_) => ask != Ask::Solicit,
        Reply::Refused(_) => true,
    }
}

fn silence() -> Failure {
    Failure::new(Errno::ETIMEDOUT, "dhcp6: no server answered")
}

fn refused(why: &str) -> Failure {
    Failure::new(Errno::EADDRNOTAVAIL, format!("dhcp6: the server refused: {why}"))
}

fn unable(error: &io::Error) -> Failure {
    let errno = Errno::from_io(error);
    Failure::new(errno, format!("dhcp6: {errno}"))
}
