//! Ping sockets: `SOCK_DGRAM` of `IPPROTO_ICMP` and `IPPROTO_ICMPV6` (icmp(7)).
//!
//! The "port" of such a socket is the identifier of its echo requests.

use std::net::SocketAddr;

use umvu_abi::{Errno, SockAddr, net::SendControl, sockaddr::AF_INET6};

use super::{
    super::{
        icmp::fill_icmp_checksum,
        inner::Inner,
        link::Outgoing,
        output::fill_checksum,
        packet::{ICMP, ICMPV6},
        tcp::input::Arrival,
    },
    DgramId,
};

const ECHO: u8 = 8;
const ECHO_V6: u8 = 128;

impl Inner {
    /// Sends an echo request with the identifier of the socket.
    pub(crate) fn ping_send(
        &mut self,
        id: DgramId,
        data: &[u8],
        to: Option<&SockAddr>,
        control: &SendControl,
    ) -> Result<(), Errno> {
        let sock = self.dgrams.socks.get(id).ok_or(Errno::EBADF)?;
        let v6 = sock.family == AF_INET6;
        let expected = if v6 { ECHO_V6 } else { ECHO };
        if data.len() < 8 || data[..2] != [expected, 0] {
            return Err(Errno::EINVAL);
        }
        let mut plan = self.plan(id, to, control)?;
        if plan.remote.is_ipv6() != v6 {
            return Err(Errno::EINVAL);
        }
        self.check_size(id, &plan, data.len())?;
        self.dgram_autobind(id)?;
        let ident = self.dgrams.socks.get(id).map_or(0, super::Dgram::port);
        plan.build.protocol = if v6 { ICMPV6 } else { ICMP };
        plan.build.id = self.idents.next(&plan.build);
        let (mut bytes, at) = plan.build.packet(data.len());
        bytes[at..].copy_from_slice(data);
        bytes[at + 4..at + 6].copy_from_slice(&ident.to_be_bytes());
        if v6 {
            fill_checksum(&mut bytes);
        } else {
            fill_icmp_checksum(&mut bytes[at..]);
        }
        self.send_planned(&plan, Outgoing { bytes, segment: None, unsummed: false });
        Ok(())
    }

    /// Gives an echo reply to the socket whose identifier it has.
    pub(crate) fn ping_input(&mut self, arrival: &Arrival<'_>) {
        let body = arrival.payload();
        let Some(ident) = body.get(4..6) else { return };
        let ident = u16::from_be_bytes([ident[0], ident[1]]);
        let key = (arrival.header.source.is_ipv6(), ident);
        let Some(id) = self.dgrams.pings.get(&key).copied() else { return };
        let Some(sock) = self.dgrams.socks.get(id) else { return };
        let source = arrival.header.source;
        if sock.peer.is_some_and(|peer| peer.ip() != source)
            || sock.bound.is_some_and(|(host, _)| !host.covers(arrival.header.destination))
        {
            return;
        }
        let ends = [source, arrival.header.destination].map(|ip| SocketAddr::new(ip, 0));
        let meta = self.datagram_meta(arrival, sock.family, ends);
        let Some(kept) = sock.filtered(arrival, meta.ifindex) else { return };
        self.enqueue(id, &body[..body.len().min(kept)], meta);
    }
}
