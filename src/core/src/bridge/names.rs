//! Abstract names that carry identity: which flow, or where a datagram came from.
//!
//! The hypervisor's sockets are bound to abstract names that begin with a random secret of this
//! hypervisor. None of them listens or keeps received data, so a stranger gains nothing by
//! connecting to one.

use std::io::Read;

use nix::sys::socket::{SockaddrLike, UnixAddr};
use umvu_abi::{Errno, SockAddr, net::DatagramMeta};

const SECRET: usize = 12;
/// The length of an address that holds a family only.
const UNNAMED: libc::socklen_t = 2;
const FLOW: u8 = b'F';
const ORIGIN: u8 = b'O';

/// Makes and reads the names of one hypervisor.
#[derive(Debug)]
pub(crate) struct Names {
    secret: [u8; SECRET],
}

impl Names {
    /// Draws the secret. Errors: those of reading /dev/urandom.
    pub(crate) fn draw() -> std::io::Result<Self> {
        let mut secret = [0; SECRET];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
        Ok(Self { secret })
    }

    /// The name of a flow's end.
    pub(crate) fn flow(&self, id: u64) -> Result<UnixAddr, Errno> {
        self.name(FLOW, &id.to_ne_bytes())
    }

    /// The flow that a peer name stands for; None when the name is not ours.
    pub(crate) fn flow_of(&self, addr: &UnixAddr) -> Option<u64> {
        self.body(addr, FLOW)?.try_into().ok().map(u64::from_ne_bytes)
    }

    /// The name of a datagram sender.
    pub(crate) fn origin(&self, meta: &DatagramMeta) -> Result<UnixAddr, Errno> {
        let mut body = Vec::with_capacity(72);
        for addr in [&meta.source, &meta.destination] {
            let bytes = addr.encode();
            body.push(u8::try_from(bytes.len()).unwrap_or(0));
            body.extend_from_slice(&bytes);
        }
        body.extend_from_slice(&meta.ifindex.to_ne_bytes());
        body.extend_from_slice(&[meta.ttl, meta.tos]);
        self.name(ORIGIN, &body)
    }

    /// Where a datagram came from, by its sender's name; None when the name is not ours.
    pub(crate) fn origin_of(&self, addr: &UnixAddr) -> Option<DatagramMeta> {
        let mut body = self.body(addr, ORIGIN)?;
        let mut addr = || {
            let (length, rest) = body.split_first()?;
            let (bytes, rest) = rest.split_at_checked(usize::from(*length))?;
            body = rest;
            SockAddr::decode(bytes).ok()
        };
        let (source, destination) = (addr()?, addr()?);
        let (ifindex, rest) = body.split_at_checked(4)?;
        let ifindex = u32::from_ne_bytes(ifindex.try_into().ok()?);
        let [ttl, tos] = rest.try_into().ok()?;
        Some(DatagramMeta { source, destination, ifindex, ttl, tos })
    }

    fn name(&self, kind: u8, body: &[u8]) -> Result<UnixAddr, Errno> {
        let mut name = Vec::with_capacity(SECRET + 1 + body.len());
        name.extend_from_slice(&self.secret);
        name.push(kind);
        name.extend_from_slice(body);
        UnixAddr::new_abstract(&name).map_err(|errno| Errno(errno as i32))
    }

    fn body<'a>(&self, addr: &'a UnixAddr, kind: u8) -> Option<&'a [u8]> {
        // An unnamed sender has no address at all.
        if addr.len() <= UNNAMED {
            return None;
        }
        let rest = addr.as_abstract()?.strip_prefix(&self.secret)?;
        rest.strip_prefix(&[kind])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_and_origins_survive_a_round_trip() {
        let names = Names::draw().expect("urandom is readable");
        let flow = names.flow(77).expect("short enough");
        assert_eq!(names.flow_of(&flow), Some(77));
        let v6 = |text: &str| SockAddr::Inet6(text.parse().expect("literal"));
        let meta = DatagramMeta {
            source: v6("[fe80::1]:53"),
            destination: v6("[fe80::2]:1024"),
            ifindex: 3,
            ttl: 64,
            tos: 0x10,
        };
        let origin = names.origin(&meta).expect("short enough");
        assert_eq!(names.origin_of(&origin), Some(meta));
        assert_eq!(names.flow_of(&origin), None);
    }

    #[test]
    fn names_of_another_hypervisor_are_strange() {
        let ours = Names::draw().expect("urandom is readable");
        let theirs = Names::draw().expect("urandom is readable");
        let name = theirs.flow(1).expect("short enough");
        assert_eq!(ours.flow_of(&name), None);
    }
}
