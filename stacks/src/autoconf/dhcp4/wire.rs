//! How a host without an address speaks IPv4 and ARP: by packet sockets (packet(7)).

use std::{
    io,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use umvu_abi::{SockAddr, sockaddr::LinkAddr};

use super::super::port::Port;
use crate::net::Socket;

/// The ports of DHCP.
pub(super) const CLIENT: u16 = 68;
pub(super) const SERVER: u16 = 67;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
/// The longest packet that is read.
const LONGEST: usize = 2048;
/// How long a holder of an address has to answer, and how often it is asked (RFC 5227, in short).
const PROBE: Duration = Duration::from_millis(150);
const PROBES: usize = 2;

/// A packet socket of one protocol on one interface.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Socket,
    everybody: SockAddr,
}

impl Wire {
    fn open(port: &Port, protocol: u16) -> io::Result<Self> {
        let number = i32::from(protocol.to_be());
        let socket = port.socket(libc::AF_PACKET, libc::SOCK_DGRAM, number)?;
        let ifindex = port.index.0;
        let own = LinkAddr { protocol, ifindex, ..LinkAddr::default() };
        socket.bind(&SockAddr::Packet(own))?;
        let mut addr = [0; 8];
        addr[..6].fill(0xff);
        let everybody = SockAddr::Packet(LinkAddr { halen: 6, addr, ..own });
        Ok(Self { socket, everybody })
    }

    /// Opens one for DHCP. Errors: those of packet(7).
    pub(super) fn for_dhcp(port: &Port) -> io::Result<Self> {
        Self::open(port, IPV4)
    }

    /// Sends a message to all servers.
    pub(super) fn send(&self, message: &[u8]) -> io::Result<()> {
        let builder = PacketBuilder::ipv4([0; 4], [255; 4], 64).udp(CLIENT, SERVER);
        let mut packet = Vec::with_capacity(builder.size(message.len()));
        builder.write(&mut packet, message).map_err(io::Error::other)?;
        self.socket.send_to(&packet, &self.everybody).map(|_| ())
    }

    /// Waits for a message to a client. Errors: `EAGAIN` at the deadline.
    pub(super) fn receive(&self, deadline: Instant) -> io::Result<Vec<u8>> {
        let mut buffer = [0; LONGEST];
        loop {
            let received = self.socket.receive_until(&mut buffer, deadline)?;
            if let Some(message) = buffer.get(..received.length).and_then(payload) {
                return Ok(message);
            }
        }
    }
}

/// The payload of a packet for the client's port.
fn payload(packet: &[u8]) -> Option<Vec<u8>> {
    let packet = SlicedPacket::from_ip(packet).ok()?;
    match (packet.net, packet.transport) {
        (Some(NetSlice::Ipv4(_)), Some(TransportSlice::Udp(udp))) => {
            (udp.destination_port() == CLIENT).then(|| udp.payload().to_vec())
        }
        _ => None,
    }
}

/// Whether another host on the link has an address. Errors: those of packet(7).
pub(super) fn is_taken(port: &Port, ip: Ipv4Addr) -> io::Result<bool> {
    let wire = Wire::open(port, ARP)?;
    let mut buffer = [0; LONGEST];
    for _ in 0..PROBES {
        wire.socket.send_to(&probe(port.mac, ip), &wire.everybody)?;
        let deadline = Instant::now() + PROBE;
        loop {
            match wire.socket.receive_until(&mut buffer, deadline) {
                Ok(received) => {
                    let packet = buffer.get(..received.length).unwrap_or_default();
                    if speaks_for(packet, ip, port.mac) {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(false)
}

/// The start of an ARP packet of IPv4 over Ethernet.
const ARP_HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// Asks for an address without giving one (RFC 5227).
fn probe(mac: [u8; 6], ip: Ipv4Addr) -> Vec<u8> {
    [&ARP_HEAD[..], &[0, 1], &mac, &[0; 4], &[0; 6], &ip.octets()].concat()
}

/// Whether an ARP packet tells that another host has an address, or is about to take it.
fn speaks_for(packet: &[u8], ip: Ipv4Addr, own: [u8; 6]) -> bool {
    let field = |at: usize, length: usize| packet.get(at..at + length).unwrap_or_default();
    if field(0, 6) != ARP_HEAD || field(8, 6) == own {
        return false;
    }
    let is_probe = field(14, 4) == [0; 4] && field(24, 4) == ip.octets();
    field(14, 4) == ip.octets() || is_probe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_others_take_an_address() {
        let (own, other, ip) = ([2; 6], [4; 6], Ipv4Addr::new(10, 0, 0, 5));
        assert!(!speaks_for(&probe(own, ip), ip, own));
        assert!(speaks_for(&probe(other, ip), ip, own));
        assert!(!speaks_for(&probe(other, Ipv4Addr::new(10, 0, 0, 6)), ip, own));
        let mut reply = probe(other, Ipv4Addr::UNSPECIFIED);
        reply[14..18].copy_from_slice(&ip.octets());
        assert!(speaks_for(&reply, ip, own));
        for cut in 0..28 {
            assert!(!speaks_for(&probe(other, ip)[..cut], ip, own));
        }
    }
}
