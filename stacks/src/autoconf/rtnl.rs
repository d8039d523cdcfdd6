//! Configuration of a stack by its own netlink socket: one way for every stack that has one.

use std::{
    io,
    time::{Duration, Instant},
};

use netlink_emu::{
    Failure,
    client::{self, Answer, Command},
    values::{Address, LinkChange, Route},
};
use umvu_abi::{
    Errno, IfIndex, SockAddr,
    net::{NetStack, SocketSpec},
};

use crate::net::{Halt, Socket};

/// How long a stack may think about a request.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than any message of an answer.
const ANSWER: usize = 64 * 1024;

/// A netlink socket and its count of requests.
#[derive(Debug)]
pub(crate) struct Rtnl {
    socket: Socket,
    sequence: u32,
}

impl Rtnl {
    /// Opens one. Errors: those of socket(2); `EAFNOSUPPORT` when the stack has none.
    pub(crate) fn open(stack: &dyn NetStack, halt: &Halt) -> Result<Self, Failure> {
        let (domain, kind) = (libc::AF_NETLINK, libc::SOCK_RAW);
        let spec = SocketSpec { domain, kind, protocol: libc::NETLINK_ROUTE };
        let socket = Socket::on(stack, spec, halt).map_err(failed)?;
        socket.bind(&SockAddr::Netlink { pid: 0, groups: 0 }).map_err(failed)?;
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            // Without them there is no text: no reason to give up.
            let _ = socket.set_int_option(libc::SOL_NETLINK, option, 1);
        }
        Ok(Self { socket, sequence: 0 })
    }

    /// Makes a request; gives the messages of the answer.
    fn ask(&mut self, command: &Command) -> Result<Vec<(u16, Vec<u8>)>, Failure> {
        self.sequence += 1;
        self.socket.send(&command.bytes(self.sequence)).map_err(failed)?;
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = vec![0; ANSWER];
        let mut messages = Vec::new();
        loop {
            let received = self.socket.receive_until(&mut buffer, deadline).map_err(failed)?;
            let data = buffer.get(..received.length).unwrap_or_default();
            for (sequence, answer) in client::answers(data) {
                match answer {
                    _ if sequence != self.sequence => {}
                    Answer::Done => return Ok(messages),
                    Answer::Failed(failure) => return Err(failure),
                    Answer::Message(kind, payload) => messages.push((kind, payload)),
                }
            }
            if command.is_single() && !messages.is_empty() {
                return Ok(messages);
            }
        }
    }

    /// The index of an interface. Errors: `ENODEV`.
    pub(crate) fn index(&mut self, name: &str) -> Result<IfIndex, Failure> {
        let found = self.ask(&Command::find_link(name))?;
        let index = found.first().and_then(|(_, payload)| client::link_index(payload));
        index.ok_or_else(|| Errno::ENODEV.into())
    }

    /// Makes a pair of veth interfaces.
    pub(crate) fn add_pair(&mut self, near: &str, far: &str) -> Result<(), Failure> {
        self.ask(&Command::add_pair(near, far)).map(|_| ())
    }

    /// Changes an interface.
    pub(crate) fn set_link(&mut self, index: IfIndex, wanted: &LinkChange) -> Result<(), Failure> {
        self.ask(&Command::set_link(index, wanted)).map(|_| ())
    }

    /// Has the addresses that routers advertise end with the identifier in `token`.
    pub(super) fn set_token(
        &mut self,
        index: IfIndex,
        token: std::net::Ipv6Addr,
    ) -> Result<(), Failure> {
        self.ask(&Command::set_token(index, token)).map(|_| ())
    }

    /// Adds an address or renews it.
    pub(super) fn put_address(&mut self, address: &Address) -> Result<(), Failure> {
        self.ask(&Command::put_address(address)).map(|_| ())
    }

    /// Removes an address; one that is not there is no error.
    pub(super) fn del_address(&mut self, address: &Address) {
        let _ = self.ask(&Command::del_address(address));
    }

    /// Adds a route or replaces it.
    pub(super) fn put_route(&mut self, route: &Route) -> Result<(), Failure> {
        self.ask(&Command::put_route(route)).map(|_| ())
    }

    /// Removes a route; one that is not there is no error.
    pub(super) fn del_route(&mut self, route: &Route) {
        let _ = self.ask(&Command::del_route(route));
    }

    /// The IPv6 addresses of an interface.
    pub(super) fn addresses(&mut self, index: IfIndex) -> Result<Vec<Address>, Failure> {
        let all = self.ask(&Command::dump_addresses(true))?;
        let all = all.iter().filter_map(|(_, payload)| client::address(payload));
        Ok(all.filter(|address| address.interface == index).collect())
    }

    /// Whether there is an IPv6 default route by an interface.
    pub(super) fn has_router(&mut self, index: IfIndex) -> Result<bool, Failure> {
        let all = self.ask(&Command::dump_routes(true))?;
        Ok(all.iter().any(|(_, payload)| client::default_route_by(payload) == Some(index)))
    }
}

fn failed(error: io::Error) -> Failure {
    match Errno::from_io(&error) {
        Errno::EAGAIN => Failure::new(Errno::ETIMEDOUT, "the stack does not answer"),
        errno => errno.into(),
    }
}
